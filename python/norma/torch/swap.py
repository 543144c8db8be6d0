"""swap(): another normalization in a model that exists, with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from . import modules as norma
from ._edit import Change, Evaluated, Report, call, describe, has_hooks, parametrized, paths

KINDS = ("batch", "group", "instance", "layer")
# What groups="auto" aims at: the count of the group norm paper, and enough values for a variance to mean something.
MOST_GROUPS, ENOUGH_VALUES = 32, 16


@dataclass
class _Layer:
    """What is common to the layers that can replace each other: they all have a gamma and a beta per channel."""

    module: nn.Module
    channels: int
    eps: float
    affine: bool
    bias: bool
    activation: str | None


def swap(
    model: nn.Module,
    old: str,
    new: str,
    *,
    groups: int | Literal["auto"] = "auto",
    example: Any = None,
) -> Report:
    """Replaces every norm of kind `old` in the model by one of kind `new`, in place, and returns a Report.

    Kinds: "batch", "group", "instance", and "layer", which is layer norm over the channels of (n, c, ...), as
    LayerNorm(channels_first=True). Classes of torch.nn and of norma.torch are replaced, and subclasses of batch norm
    that torch.nn has (SyncBatchNorm); the subclasses of others are listed under `skipped`.

    weight and bias stay the same Parameter objects, so an optimizer goes on with them, and so do eps and activation.
    Running statistics of a batch norm are not part of the new layer: report.undo() brings back the old layer with
    them. A new batch norm starts with running_mean 0 and running_var 1 and needs training before evaluation.

    groups: for "group", a number, or "auto": the largest divisor of the channels up to 32 that leaves two channels and,
        where the example shows the size, 16 values in each group; else one group. A prime number of channels has one.
    example: an input (a tensor, a tuple of arguments or a dict of keywords). The model runs on it once, in evaluation
        mode and without gradients, to learn how many values each mean would have.

    Raises ValueError, with the model unchanged, where a layer would go dead: with one value per mean its output is
    beta whatever the input. Without an example only what the number of channels tells is checked.
    """
    _check_arguments(old, new, groups)
    shapes = _input_shapes(model, example) if example is not None else {}
    report = Report(model)
    plan: list[tuple[list[str], nn.Module, nn.Module, str]] = []
    for module, where in paths(model).items():
        if _kind(module) != old:
            if _kind(module) is None and _kind_of_base(module) == old:
                report.skipped.append(Change(where[0], describe(module), "", "a class of its own; see adopt()"))
            continue
        if reason := _obstacle(module):
            report.skipped.append(Change(where[0], describe(module), "", reason))
            continue
        made, note = _make(_read(module), new, groups, shapes.get(module), where[0])
        plan.append((where, module, made, note))
    for where, module, made, note in plan:
        for path in where:
            report.replace(path, made)
            report.changed.append(Change(path, describe(module), describe(made), note))
    return report


def _check_arguments(old: str, new: str, groups: int | str) -> None:
    for name, kind in (("old", old), ("new", new)):
        if kind not in KINDS:
            raise ValueError(f"{name} is {kind!r}, must be one of {', '.join(KINDS)}")
    if old == new:
        raise ValueError(f"old and new are both {old!r}")
    if groups != "auto" and (not isinstance(groups, int) or groups < 1):
        raise ValueError(f"groups is {groups!r}, must be 'auto' or a positive number")
    if groups != "auto" and new != "group":
        raise ValueError(f"groups is {groups!r}, but {new} norm has no groups")


def _kind_of_base(module: nn.Module) -> str | None:
    if isinstance(module, _BatchNorm):
        return "batch"
    if isinstance(module, _InstanceNorm):
        return "instance"
    if isinstance(module, nn.GroupNorm):
        return "group"
    return None


def _kind(module: nn.Module) -> str | None:
    """The kind of a class that torch.nn or norma.torch defines."""
    if isinstance(module, norma.LayerNorm):
        return "layer" if module.channels_first else None
    ours = type(module).__module__.startswith(("torch.nn.modules.", "norma.torch."))
    return _kind_of_base(module) if ours else None


def _obstacle(module: nn.Module) -> str:
    if parametrized(module):
        return "its weight is parametrized or not initialized"
    return "it has hooks" if has_hooks(module) else ""


def _read(module: nn.Module) -> _Layer:
    m: Any = module
    if isinstance(module, norma.LayerNorm):
        channels = m.normalized_shape[0]
    else:
        channels = m.num_channels if isinstance(module, nn.GroupNorm) else m.num_features
    return _Layer(module, channels, m.eps, m.weight is not None, m.bias is not None, getattr(m, "activation", None))


def _input_shapes(model: nn.Module, example: Any) -> dict[nn.Module, tuple[int, ...]]:
    """The shape that each norm sees when the model runs on the example; where it runs twice, the smaller."""
    seen: dict[nn.Module, tuple[int, ...]] = {}

    def look(module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        x = args[0] if args else next(iter(keywords.values()), None)
        if isinstance(x, Tensor) and (module not in seen or x.numel() < prod(seen[module])):
            seen[module] = tuple(x.shape)

    norms = [module for module in model.modules() if _kind(module)]
    handles = [module.register_forward_pre_hook(look, with_kwargs=True) for module in norms]
    try:
        with Evaluated(model):
            call(model, example)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def choose_groups(channels: int, space: int | None) -> int:
    """The group count of groups="auto" for this many channels and elements per channel (None: not known)."""
    divisors = (g for g in range(1, min(MOST_GROUPS, channels // 2) + 1) if channels % g == 0)
    return max((g for g in divisors if space is None or channels // g * space >= ENOUGH_VALUES), default=1)


def _make(
    layer: _Layer, new: str, groups: int | Literal["auto"], shape: tuple[int, ...] | None, path: str
) -> tuple[nn.Module, str]:
    """The new layer with the old one's parameters, and a note for the report."""
    batched = shape if shape is None or not _unbatched(layer.module, shape) else (1, *shape)
    space = None if batched is None else prod(batched[2:])
    count = 0
    if new == "group":
        count = choose_groups(layer.channels, space) if groups == "auto" else groups
        if layer.channels % count:
            raise ValueError(f"{path}: {count} groups do not divide {layer.channels} channels; groups='auto' does")
    _refuse_dead(layer, new, count, batched, space, path)
    made = _new_module(layer, new, count, batched, path)
    for name in ("weight", "bias"):
        if (old := getattr(layer.module, name)) is not None:
            setattr(made, name, old)
    note = "running statistics start at 0 and 1" if new == "batch" else ""
    return made, note if shape or new == "batch" else "not checked at an input"


def _unbatched(module: nn.Module, shape: tuple[int, ...]) -> bool:
    if not isinstance(module, _InstanceNorm):
        return False
    return len(shape) == int(module._get_no_batch_dim())


def _refuse_dead(
    layer: _Layer, new: str, groups: int, shape: tuple[int, ...] | None, space: int | None, path: str
) -> None:
    values: int | None
    if new == "batch":
        values = None if shape is None or space is None else shape[0] * space
    elif new == "layer":
        values = layer.channels
    else:
        per_group = layer.channels // groups if new == "group" else 1
        values = per_group * space if space is not None else (per_group if per_group > 1 else None)
    if values is not None and values < 2:
        seen = f"at an input of shape {shape}" if shape else f"with {layer.channels} channels"
        raise ValueError(f"{path}: {new} norm would have {values} value per mean {seen}, a constant output")


def _new_module(layer: _Layer, new: str, groups: int, shape: tuple[int, ...] | None, path: str) -> nn.Module:
    source: Any = next(layer.module.parameters(), None)
    if source is None:
        source = next(layer.module.buffers(), None)
    at = {} if source is None else {"device": source.device, "dtype": source.dtype}
    c, eps = layer.channels, layer.eps
    options: dict[str, Any] = {"bias": layer.bias, "activation": layer.activation, **at}
    if new == "group":
        return norma.GroupNorm(groups, c, eps, layer.affine, **options)
    if new == "layer":
        return norma.LayerNorm(c, eps, layer.affine, channels_first=True, **options)
    classes = _BATCH if new == "batch" else _INSTANCE
    dimensions = _dimensions(layer.module) if shape is None else len(shape) - 2
    if dimensions not in classes:
        raise ValueError(f"{path}: {new} norm for which number of dimensions? An example tells: swap(..., example=x)")
    made: nn.Module = classes[dimensions](c, eps, affine=layer.affine, **options)
    return made


_BATCH: dict[int, Any] = {0: norma.BatchNorm1d, 1: norma.BatchNorm1d, 2: norma.BatchNorm2d, 3: norma.BatchNorm3d}
_INSTANCE: dict[int, Any] = {1: norma.InstanceNorm1d, 2: norma.InstanceNorm2d, 3: norma.InstanceNorm3d}


def _dimensions(module: nn.Module) -> int:
    """How many dimensions after (n, c) the class says it takes, -1 for those that take any number."""
    name = type(module).__name__
    return int(name[-2]) if name[-2:] in ("1d", "2d", "3d") else -1
