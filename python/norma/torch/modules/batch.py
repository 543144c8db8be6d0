"""Batch norm with torch.nn's names and arguments, and what PyTorch lacks as keywords."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .. import functional as F
from .._layers import Activation
from .._ragged import Lengths
from ._running import Padding, RunningStatistics, padding


class _BatchNorm(RunningStatistics):
    """The forward pass of the classes below; it stands before torch.nn's class in their method resolution order."""

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
        reject_nonfinite: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self._set_options(activation, biased_running_var, reject_nonfinite)

    def forward(self, input: Tensor, lengths: Lengths | None = None, mask: Tensor | None = None) -> Tensor:
        valid = padding(lengths, mask)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        if self.training:
            factor = 0.0 if self.momentum is None else self.momentum
            if self.momentum is None and self.num_batches_tracked is not None:
                factor = 1.0 / (float(self.num_batches_tracked) + 1.0)
            return self._train_step(lambda m, v, f: self._norm(input, m, v, True, f, valid), input, factor, valid)
        given = self.running_mean is not None or self.running_var is not None
        return self._norm(input, self.running_mean, self.running_var, not given, 0.0, valid)

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


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """torch.nn.BatchNorm1d on (n, c) or (n, c, l), run by Norma.

    Keywords beyond torch.nn's, in all six classes of this file and in InstanceNorm:

    activation: "relu", "silu", "gelu" or "gelu_tanh", applied to the result in the same pass.
    biased_running_var: running_var takes the variance divided by m, as ONNX, Keras and Flax do, not by m - 1.
    reject_nonfinite: in training a batch with NaN or Inf raises a ValueError that names the channels, and the running
        statistics and num_batches_tracked stay as they were. Costs one look at the statistics.

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
        reject_nonfinite: bool = False,
    ) -> None:
        lazy: Any = super(RunningStatistics, self)
        lazy.__init__(eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self._set_options(activation, biased_running_var, reject_nonfinite)


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
