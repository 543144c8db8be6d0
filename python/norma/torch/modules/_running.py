"""Running statistics with more care than PyTorch's: the part that batch norm and instance norm share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from norma import Moments, convert_variance
from norma.conventions import Convention

from .._layers import Activation, activation_number
from .._nonfinite import NonFinite, checked_policy
from .._ragged import Lengths, read_valid
from .._recompute import recomputing

Norm = Callable[[Tensor | None, Tensor | None, float], Tensor]
# One mean per channel, of an input of any number of dimensions.
PER_CHANNEL = "[n] c [...]"
# By biased_running_var.
CONVENTION: Mapping[bool, Convention] = {False: "pytorch", True: "onnx"}
Padding = dict[str, Any]  # lengths= and mask= of the functions; empty: there is no padding


def nothing_valid(valid: Padding) -> bool:
    return bool(valid) and not any(torch.as_tensor(v).any() for v in valid.values())


def padding(lengths: Lengths | None, mask: Tensor | None) -> Padding:
    """What is given of them, as keywords."""
    given = {"lengths": lengths, "mask": mask}
    return {name: value for name, value in given.items() if value is not None}


class RunningStatistics(_NormBase):
    """Stands before a class of torch.nn in the order of methods: options, freeze(), and the step of the statistics.

    The options are class attributes, so that pickles and modules made without them have the defaults.
    """

    activation: Activation | None = None
    biased_running_var: bool = False
    nonfinite: NonFinite = "store"
    frozen: bool = False
    # Set while hold_statistics() is on: what the layer sees goes here, and the statistics stay.
    _held: Moments | None = None
    _shown: Mapping[str, object] = {"activation": None, "biased_running_var": False, "nonfinite": "store"}

    def _set_options(self, activation: Activation | None, biased_running_var: bool, nonfinite: NonFinite) -> None:
        activation_number(activation)
        checked_policy(nonfinite)
        self.activation = activation
        self.biased_running_var = biased_running_var
        self.nonfinite = nonfinite

    def extra_repr(self) -> str:
        own: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return own + options_repr(self, {**self._shown, "frozen": False})

    def freeze(self) -> Any:
        """Uses the running statistics from here on and never moves them, whatever train() says; returns self.

        Neither train() of a model around it nor `training = True` undoes that; load_state_dict and reset_running_stats
        still set what they are told to. weight and bias stay trainable: requires_grad_(False) freezes those. unfreeze()
        is the way back. A layer without running statistics raises ValueError.
        """
        if self.running_mean is None or self.running_var is None:
            raise ValueError(f"{type(self).__name__} has no running statistics to freeze: track_running_stats=True")
        self.frozen = True
        return self.train(False)

    def unfreeze(self) -> Any:
        """Ends freeze(). The mode stays evaluation until train() is called; returns self."""
        self.frozen = False
        return self

    def train(self, mode: bool = True) -> Any:
        """As torch.nn.Module.train, but a frozen layer stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    @property
    def _trains(self) -> bool:
        return bool(self.training) and not self.frozen

    def _train_step(self, norm: Norm, x: Tensor, factor: float, valid: Padding | None = None) -> Tensor:
        """norm(running_mean, running_var, factor) in training; where it succeeds the statistics have moved once.

        They do not move in what a checkpoint repeats, nor for a batch that is empty or padding alone, nor while they
        are held. There norm works on copies: a checkpoint expects the same operations with the same arguments.
        """
        mean, var = self.running_mean, self.running_var
        if not self.track_running_stats or mean is None or var is None:
            return norm(None, None, 0.0)
        repeated = x.numel() == 0 or recomputing() or (valid is not None and nothing_valid(valid))
        if not repeated and self._held is None:
            y = norm(mean, var, factor)
            self._count()
            return y
        y = norm(mean.clone(), var.clone(), factor)
        if self._held is not None and not repeated:
            self._held.merge(self._moments_of(x, **(valid or {})))
        return y

    def _moments_of(self, input: Tensor, lengths: Lengths | None = None, mask: Tensor | None = None) -> Moments:
        """What hold_statistics() and recalibrate() take of an input; gets the arguments of forward.

        A layer whose statistics leave elements out, or are of more than its first argument, says so here.
        """
        moments = Moments(PER_CHANNEL)
        x = input.detach().cpu()
        valid = read_valid(x, lengths, mask, "zero", None, [1])
        moments.add(x if valid is None else x.movedim(1, -1)[valid.of(x).select(1, 0)])
        return moments

    def _count(self) -> None:
        """One more batch is in the statistics; instance norm does not count."""

    def convert_running_var(self, biased: bool, count: float) -> None:
        """running_var, and its updates from here on, divided by m (biased: ONNX, Keras, Flax) or by m - 1 (PyTorch).

        count: m, the elements per channel of the batches so far. Exact up to the rounding of the buffer if all batches
        had that m; else recalibrate() takes the statistics again. norma.convert_variance has the conditions.

        ValueError: count is not above 1, a running variance is negative, or there is none.
        """
        if self.running_var is None:
            raise ValueError(f"{type(self).__name__} has no running_var to convert: track_running_stats=True")
        source, target = (CONVENTION[b] for b in (self.biased_running_var, biased))
        converted = convert_variance(self.running_var.double().cpu().numpy(), source, target, count)
        self.running_var.copy_(torch.from_numpy(converted))
        self.biased_running_var = biased

    def _update_options(self) -> dict[str, Any]:
        """What the functions of norma.torch.functional have to know about the statistics."""
        return {"biased": self.biased_running_var, "nonfinite": self.nonfinite}


def move(running: Tensor, value: Tensor, factor: float) -> None:
    """(1 - factor) * running + factor * value, in float64, rounded where it is stored. Factor 0 moves nothing."""
    if factor:
        running.copy_((1 - factor) * running.double() + factor * value.to(running.device))


def options_repr(module: nn.Module, defaults: Mapping[str, object]) -> str:
    """The options that are not at their defaults, to follow torch.nn's own extra_repr."""
    changed = [name for name in defaults if getattr(module, name) != defaults[name]]
    return "".join(f", {name}={getattr(module, name)!r}" for name in changed)
