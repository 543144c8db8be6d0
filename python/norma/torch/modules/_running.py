"""Running statistics with more care than PyTorch's: the part that batch norm and instance norm share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from .._layers import Activation, activation_number
from .._ragged import Lengths

Norm = Callable[[Tensor | None, Tensor | None, float], Tensor]
Padding = dict[str, Any]  # lengths= and mask= of the functions; empty: there is no padding


def nothing_valid(valid: Padding) -> bool:
    return bool(valid) and not any(torch.as_tensor(v).any() for v in valid.values())


def padding(lengths: Lengths | None, mask: Tensor | None) -> Padding:
    """What is given of them, as keywords."""
    given = {"lengths": lengths, "mask": mask}
    return {name: value for name, value in given.items() if value is not None}


def recomputing() -> bool:
    """Whether this forward pass runs inside a backward pass: torch.utils.checkpoint computes a segment again there."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


class RunningStatistics(_NormBase):
    """Stands before a class of torch.nn in the order of methods: options, freeze(), and the step of the statistics.

    The options are class attributes, so that pickles and modules made without them have the defaults.
    """

    activation: Activation | None = None
    biased_running_var: bool = False
    reject_nonfinite: bool = False
    frozen: bool = False

    def _set_options(self, activation: Activation | None, biased_running_var: bool, reject_nonfinite: bool) -> None:
        activation_number(activation)
        self.activation = activation
        self.biased_running_var = biased_running_var
        self.reject_nonfinite = reject_nonfinite

    def extra_repr(self) -> str:
        own: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return own + options_repr(self, _OPTIONS)

    def freeze(self) -> Any:
        """Uses the running statistics from here on and never changes them, whatever train() says; returns self.

        weight and bias stay trainable: requires_grad_(False) freezes those. unfreeze() is the way back. A layer without
        running statistics raises ValueError.
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

    def _train_step(self, norm: Norm, x: Tensor, factor: float, valid: Padding | None = None) -> Tensor:
        """norm(running_mean, running_var, factor) in training; where it succeeds the statistics have moved once.

        They do not move in what a checkpoint repeats, nor for an empty batch or one of padding alone. There norm works
        on copies: a checkpoint expects the same operations with the same arguments.
        """
        mean, var = self.running_mean, self.running_var
        if not self.track_running_stats or mean is None or var is None:
            return norm(None, None, 0.0)
        if x.numel() == 0 or recomputing() or (valid is not None and nothing_valid(valid)):
            return norm(mean.clone(), var.clone(), factor)
        y = norm(mean, var, factor)
        self._count()
        return y

    def _count(self) -> None:
        """One more batch is in the statistics; instance norm does not count."""

    def _update_options(self) -> dict[str, Any]:
        """What the functions of norma.torch.functional have to know about the statistics."""
        return {"biased": self.biased_running_var, "nonfinite": "refuse" if self.reject_nonfinite else "store"}


_OPTIONS: Mapping[str, object] = {
    "activation": None,
    "biased_running_var": False,
    "reject_nonfinite": False,
    "frozen": False,
}


def options_repr(module: nn.Module, defaults: Mapping[str, object]) -> str:
    """The options that are not at their defaults, to follow torch.nn's own extra_repr."""
    changed = [name for name in defaults if getattr(module, name) != defaults[name]]
    return "".join(f", {name}={getattr(module, name)!r}" for name in changed)
