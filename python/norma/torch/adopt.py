"""adopt(): Norma's layers in place of norms that a library wrote by hand, found by what they compute."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import modules as norma
from ._edit import Change, Report, describe, has_hooks, parametrized, paths

# The module under test may compute in float32 whatever its input is; what it computes has to agree to that.
_TOLERANCE = 4e-6
_EPS_NAMES = ("eps", "variance_epsilon", "epsilon", "layer_norm_eps", "rms_norm_eps", "norm_eps")


@dataclass(frozen=True)
class _Form:
    """A layer that a module may turn out to be."""

    rms: bool
    channels_first: bool
    weight_plus_one: bool = False

    def make(self, shape: tuple[int, ...], eps: float, like: nn.Module) -> nn.Module:
        weight, bias = getattr(like, "weight", None), getattr(like, "bias", None)
        if self.rms:
            return norma.RMSNorm(
                shape,
                eps,
                weight is not None,
                channels_first=self.channels_first,
                weight_plus_one=self.weight_plus_one,
            )
        return norma.LayerNorm(shape, eps, weight is not None, bias is not None, channels_first=self.channels_first)


_FORMS = (
    _Form(rms=False, channels_first=False),
    _Form(rms=False, channels_first=True),
    _Form(rms=True, channels_first=False),
    _Form(rms=True, channels_first=True),
    _Form(rms=True, channels_first=False, weight_plus_one=True),
    _Form(rms=True, channels_first=True, weight_plus_one=True),
)


def adopt(model: nn.Module) -> Report:
    """Puts Norma's layers where the model has torch.nn's norms or hand-written ones, in place; returns a Report.

    A class of torch.nn becomes Norma's class of the same name. Any other module is a candidate if it has no children
    and no buffers, and at most the parameters weight and bias, as transformers' *RMSNorm, ConvNextLayerNorm and timm's
    LayerNorm2d have. What it is, its behaviour tells, not its name: a copy with random parameters is run in float64 on
    random inputs of several sizes and offsets beside layer norm and RMS norm over the last dimension or over the
    channels, with gamma = weight or 1 + weight, and has to agree with exactly one of them to 4e-6 (such classes often
    compute in float32), in training and in evaluation. eps is the attribute of the module that makes it agree.

    weight and bias stay the same Parameter objects under the same state_dict keys, and plain attributes that the model
    may read, such as variance_epsilon, are kept. Modules that looked like norms and were left are listed under
    `skipped` with the reason. report.undo() is the way back.
    """
    report = Report(model)
    for module, where in paths(model).items():
        made, reason = _adopted(module)
        if made is not None:
            for path in where:
                report.replace(path, made)
                report.changed.append(Change(path, describe(module), describe(made)))
        elif reason:
            report.skipped.append(Change(where[0], describe(module), "", reason))
    return report


def _adopted(module: nn.Module) -> tuple[nn.Module | None, str]:
    """Norma's layer for this module, or the reason why there is none; no reason where it does not look like a norm."""
    kind = type(module)
    if kind.__module__.startswith("norma.torch."):
        return None, ""
    same_name = getattr(norma, kind.__name__, None)
    is_torch = same_name is not None and issubclass(same_name, kind) and kind is getattr(nn, kind.__name__, None)
    if not is_torch and not _looks_like_a_norm(module):
        return None, ""
    if parametrized(module):
        return None, "its weight is parametrized or not initialized"
    if has_hooks(module):
        return None, "it has hooks"
    if is_torch:
        return _in_class(module, same_name), ""
    return _by_behaviour(module)


def _looks_like_a_norm(module: nn.Module) -> bool:
    names = set(module._parameters)
    if type(module).__module__.startswith("torch.nn.modules.") or next(module.children(), None) or module._buffers:
        return False
    return "norm" in type(module).__name__.lower() and names <= {"weight", "bias"} and "weight" in names


def _in_class(module: nn.Module, kind: Any) -> nn.Module:
    made = copy.copy(module)
    made.__class__ = kind
    for name in ("_parameters", "_buffers"):
        made.__dict__[name] = module.__dict__[name].copy()
    return made


def _by_behaviour(module: nn.Module) -> tuple[nn.Module | None, str]:
    weight: Any = module.weight
    if not isinstance(weight, Tensor):
        return None, "it has no weight, so its size is not known"
    shape = tuple(weight.shape)
    if len(shape) != 1 or shape[0] < 2:
        return None, f"its weight has the shape {shape}, not that of a vector"
    candidates = list(_matches(module, shape))
    if len(candidates) != 1:
        return None, "it computes something else" if not candidates else "its behaviour fits more than one layer"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        result = _result_type(module, shape[0])
    if result not in (torch.bfloat16, torch.float32, None):
        return None, f"it turns bfloat16 input into {result}"
    form, eps = candidates[0]
    made: Any = form.make(shape, eps, module).to(weight)
    made.promote_types = result == torch.float32
    for name in ("weight", "bias"):
        if isinstance(parameter := getattr(module, name, None), Tensor):
            setattr(made, name, parameter)
    _keep_attributes(module, made)
    return made, ""


def _result_type(module: nn.Module, channels: int) -> torch.dtype | None:
    """The type of the result for bfloat16 input and float32 parameters; None where the module refuses those."""
    probe = copy.deepcopy(module).to("cpu", torch.float32)
    for x in _inputs(channels):
        if (y := _run(probe, x.to(torch.bfloat16))) is not None:
            return y.dtype
    return None


def _keep_attributes(old: nn.Module, new: nn.Module) -> None:
    for name, value in vars(old).items():
        if not name.startswith("_") and name not in vars(new) and isinstance(value, (bool, int, float, str, tuple)):
            setattr(new, name, value)


def _matches(module: nn.Module, shape: tuple[int, ...]) -> Iterator[tuple[_Form, float]]:
    """The forms that compute what the module computes."""
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(5)
        probe = copy.deepcopy(module).to("cpu", torch.float64)
        for parameter in probe.parameters():
            parameter.copy_(torch.randn_like(parameter))
        inputs = list(_inputs(shape[0]))
        for mode in (True, False):
            probe.train(mode)
            results = [_run(probe, x) for x in inputs]
            if mode is True:
                wanted = results
            elif not all(map(_same, results, wanted)):
                return
        for form in _FORMS:
            if form.rms and "bias" in dict(probe.named_parameters()):
                continue
            for eps in _eps_of(module):
                made = form.make(shape, eps, probe).to(torch.float64)
                made.load_state_dict(probe.state_dict())
                ours = [_run(made, x) for x in inputs]
                if any(y is not None for y in wanted) and all(map(_agrees, ours, wanted)):
                    yield form, eps
                    break


def _inputs(channels: int) -> Iterator[Tensor]:
    """Inputs that tell the forms apart: the last dimension and dimension 1 are the channels in turns and together."""
    c = channels
    for shape in ((3, c), (2, 5, c), (2, 3, 4, c), (2, c, 3, 4), (2, c, 3, c)):
        for scale, offset in ((1.0, 0.0), (1.0, 3.0), (2e-3, 0.0)):
            yield (torch.randn(shape, dtype=torch.float64) + offset) * scale


def _run(module: nn.Module, x: Tensor) -> Tensor | None:
    """The result, None where the module refuses the input."""
    try:
        y = module(x.clone())
    except Exception:
        return None
    return y if isinstance(y, Tensor) and y.shape == x.shape else None


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))


def _agrees(ours: Tensor | None, wanted: Tensor | None) -> bool:
    """Where the hand-written module gives a result, ours is the same."""
    if wanted is None:
        return True
    if ours is None:
        return False
    scale = float(wanted.abs().max()) + 1e-30
    return float((ours - wanted.to(ours.dtype)).abs().max()) <= _TOLERANCE * scale


def _eps_of(module: nn.Module) -> list[float]:
    """The numbers among the module's attributes that may be its eps, the likely names first."""
    named = [getattr(module, name, None) for name in _EPS_NAMES]
    others = [value for value in vars(module).values() if isinstance(value, float)]
    found = [float(v) for v in (*named, *others) if isinstance(v, float) and 0 <= v < 1]
    return list(dict.fromkeys([*found, 1e-5, 1e-6, 1e-12, 1e-8, 0.0]))
