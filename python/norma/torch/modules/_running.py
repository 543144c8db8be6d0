"""Running statistics with more care than PyTorch's: the part that batch norm and instance norm share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Norm = Callable[[Tensor | None, Tensor | None, float], Tensor]


def recomputing() -> bool:
    """Whether this forward pass runs inside a backward pass: torch.utils.checkpoint computes a segment again there."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def bad_channels(x: Tensor) -> list[int]:
    """The channels of x, in dimension 1, that hold a NaN or an infinity."""
    finite = torch.isfinite(x.detach()).transpose(0, 1).flatten(1).all(dim=1)
    return (~finite).nonzero().flatten().tolist()


class RunningStatistics(nn.Module):
    """Mixin for classes that torch.nn derives from its _NormBase: options, freeze(), and the step of the statistics.

    The options are class attributes, so that pickles and modules made without them have the defaults.
    """

    activation: str | None = None
    biased_running_var: bool = False
    reject_nonfinite: bool = False
    frozen: bool = False

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    track_running_stats: bool

    def _set_options(self, activation: str | None, biased_running_var: bool, reject_nonfinite: bool) -> None:
        self.activation = checked_activation(activation)
        self.biased_running_var = biased_running_var
        self.reject_nonfinite = reject_nonfinite

    def extra_repr(self) -> str:
        return super().extra_repr() + options_repr(self, _OPTIONS)

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

    def _train_step(self, norm: Norm, x: Tensor, per_mean: int, factor: float) -> Tensor:
        """norm(running_mean, running_var, factor) in training; where it succeeds the statistics have moved once.

        They do not move in what a checkpoint repeats, nor for an empty batch. There norm still gets tensors, because a
        checkpoint expects the same operations with the same arguments. per_mean: the elements that share a mean.
        """
        mean, var = self.running_mean, self.running_var
        if not self.track_running_stats or mean is None or var is None:
            return norm(None, None, 0.0)
        moves = x.numel() > 0 and not recomputing()
        if moves and not self.biased_running_var and not self.reject_nonfinite:
            y = norm(mean, var, factor)
            self._count()
            return y
        batch_mean, batch_var = torch.zeros_like(mean), torch.zeros_like(var)
        y = norm(batch_mean, batch_var, 1.0)
        if moves:
            if self.reject_nonfinite:
                self._refuse_nonfinite(x, batch_mean, batch_var)
            with torch.no_grad():
                if self.biased_running_var:
                    batch_var *= (per_mean - 1) / per_mean
                mean.mul_(1 - factor).add_(batch_mean, alpha=factor)
                var.mul_(1 - factor).add_(batch_var, alpha=factor)
            self._count()
        return y

    def _count(self) -> None:
        """One more batch is in the statistics; instance norm does not count."""

    def _refuse_nonfinite(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        if bool((torch.isfinite(mean) & torch.isfinite(var)).all()):
            return
        bad = bad_channels(x)
        if bad:
            raise ValueError(
                f"{type(self).__name__}: the batch holds NaN or Inf in channel{'s' * (len(bad) > 1)} "
                f"{', '.join(map(str, bad[:10]))}{', ...' * (len(bad) > 10)}; the running statistics are unchanged"
            )
        worst = (~(torch.isfinite(mean) & torch.isfinite(var))).nonzero().flatten().tolist()
        raise ValueError(
            f"{type(self).__name__}: the mean or variance of channel {worst[0]} is beyond {var.dtype}; "
            "the running statistics are unchanged"
        )


_OPTIONS: Mapping[str, object] = {
    "activation": None,
    "biased_running_var": False,
    "reject_nonfinite": False,
    "frozen": False,
}

ACTIVATIONS = ("relu", "silu", "gelu", "gelu_tanh")


def checked_activation(name: str | None) -> str | None:
    if name is not None and name not in ACTIVATIONS:
        raise ValueError(f"activation is {name!r}, must be None or one of {', '.join(ACTIVATIONS)}")
    return name


def options_repr(module: nn.Module, defaults: Mapping[str, object]) -> str:
    """The options that are not at their defaults, to follow torch.nn's own extra_repr."""
    return "".join(f", {name}={getattr(module, name)!r}" for name in defaults if getattr(module, name) != defaults[name])
