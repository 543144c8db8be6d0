"""Batch norm with torch.nn's names and arguments, and what PyTorch lacks as keywords."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import functional as F
from .._layers import Activation
from .._nonfinite import NonFinite
from .._ragged import Lengths
from ._running import Padding, RunningStatistics, move, padding


def checked_ghost(ghost: int | None) -> int | None:
    if ghost is not None and (not isinstance(ghost, int) or ghost < 1):
        raise ValueError(f"ghost is {ghost!r}, must be None or the number of samples in a sub-batch, at least 1")
    return ghost


class _BatchNorm(RunningStatistics):
    """The forward pass of the classes below; it stands before torch.nn's class in their method resolution order."""

    ghost: int | None = None
    _shown: Mapping[str, object] = {**RunningStatistics._shown, "ghost": None}

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        activation: Activation | None = None,
        biased_running_var: bool = False,
        nonfinite: NonFinite = "store",
        ghost: int | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self._set_options(activation, biased_running_var, nonfinite)
        self.ghost = checked_ghost(ghost)

    def forward(self, input: Tensor, lengths: Lengths | None = None, mask: Tensor | None = None) -> Tensor:
        valid = padding(lengths, mask)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        if self._trains:
            if self.ghost is not None and valid:
                raise ValueError(f"ghost is {self.ghost}: sub-batches take neither lengths nor a mask")
            norm = self._norm if self.ghost is None or not input.numel() else self._ghosts
            return self._train_step(lambda m, v, f: norm(input, m, v, True, f, valid), input, self._factor(), valid)
        given = self.running_mean is not None or self.running_var is not None
        return self._norm(input, self.running_mean, self.running_var, not given, 0.0, valid)

    def _factor(self) -> float:
        """The weight of the next batch in the running statistics."""
        if self.momentum is None and self.num_batches_tracked is not None:
            return 1.0 / (float(self.num_batches_tracked) + 1.0)
        return 0.0 if self.momentum is None else self.momentum

    def _count(self) -> None:
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)

    def _norm(
        self, x: Tensor, mean: Tensor | None, var: Tensor | None, training: bool, factor: float, valid: Padding
    ) -> Tensor:
        options = {**self._update_options(), **valid}
        return F.batch_norm(
            x, mean, var, self.weight, self.bias, training, factor, self.eps, activation=self.activation, **options
        )

    def _ghosts(
        self, x: Tensor, mean: Tensor | None, var: Tensor | None, training: bool, factor: float, valid: Padding
    ) -> Tensor:
        """Each sub-batch with its own statistics; the running ones move once, by the average of theirs."""
        assert self.ghost is not None
        parts = x.split(self.ghost)
        if x.dim() >= 2 and parts[-1].numel() == x.size(1):
            raise ValueError(
                f"ghost is {self.ghost}, which leaves a last sub-batch of 1 value per channel, without a variance, of "
                f"input size {x.size()}"
            )
        if mean is None or var is None:
            return torch.cat([self._norm(part, None, None, training, factor, valid) for part in parts])
        # With the whole weight on the new value; a channel that nonfinite="skip" leaves out keeps the running one.
        taken = [(mean.clone(), var.clone()) for _ in parts]
        y = torch.cat([self._norm(part, *own, training, 1.0, valid) for part, own in zip(parts, taken, strict=True)])
        for running, values in zip((mean, var), zip(*taken, strict=True), strict=True):
            shares = (part.size(0) / x.size(0) * value.double() for part, value in zip(parts, values, strict=True))
            move(running, torch.stack(list(shares)).sum(0), factor)
        return y


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """torch.nn.BatchNorm1d on (n, c) or (n, c, l), run by Norma.

    Keywords beyond torch.nn's, in all six classes of this file and, but for ghost, in InstanceNorm:

    activation: "relu", "silu", "gelu" or "gelu_tanh", applied to the result in the same pass.
    biased_running_var: running_var takes the variance divided by m, as ONNX, Keras and Flax do, not by m - 1.
    nonfinite: what a batch with NaN or Inf does to the running statistics in training. "store": they become NaN, as in
        PyTorch. "refuse": a ValueError names the channel, and they and num_batches_tracked stay as they were. "skip":
        such channels stay as they were, the others move, and a warning names the first. Inside torch.compile "skip"
        does not warn.
    ghost: in training each sub-batch of so many samples is normalized with its own statistics (ghost batch norm); the
        last one may be smaller. The running statistics move once per batch, by the average over the sub-batches,
        weighted with their samples. In evaluation nothing is different. BatchNorm only.

    forward(input, lengths=None, mask=None) leaves padding out, as norma.torch.functional has it.

    A forward pass that torch.utils.checkpoint repeats in the backward pass moves no statistics a second time, and
    neither does an empty batch, which PyTorch counts. See freeze().
    """


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """torch.nn.BatchNorm2d on (n, c, h, w), run by Norma; the keywords are those of BatchNorm1d."""


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """torch.nn.BatchNorm3d on (n, c, d, h, w), run by Norma; the keywords are those of BatchNorm1d."""


class _LazyBatchNorm(_BatchNorm):
    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        activation: Activation | None = None,
        biased_running_var: bool = False,
        nonfinite: NonFinite = "store",
        ghost: int | None = None,
    ) -> None:
        lazy: Any = super(RunningStatistics, self)
        lazy.__init__(eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self._set_options(activation, biased_running_var, nonfinite)
        self.ghost = checked_ghost(ghost)


class LazyBatchNorm1d(_LazyBatchNorm, nn.LazyBatchNorm1d):
    """BatchNorm1d that takes its number of channels from the first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyBatchNorm, nn.LazyBatchNorm2d):
    """BatchNorm2d that takes its number of channels from the first input."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyBatchNorm, nn.LazyBatchNorm3d):
    """BatchNorm3d that takes its number of channels from the first input."""

    cls_to_become = BatchNorm3d


__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
]
