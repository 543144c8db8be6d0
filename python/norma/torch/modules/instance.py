"""Instance norm with torch.nn's names and arguments, and what PyTorch lacks as keywords."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .. import functional as F
from .._layers import Activation
from .._nonfinite import NonFinite
from .._ragged import Lengths
from ._running import Padding, RunningStatistics, padding


class _InstanceNorm(RunningStatistics):
    """What torch.nn's forward calls; it stands before torch.nn's class in the method resolution order."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        activation: Activation | None = None,
        biased_running_var: bool = False,
        nonfinite: NonFinite = "store",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self._set_options(activation, biased_running_var, nonfinite)

    def forward(self, input: Tensor, lengths: Lengths | None = None, mask: Tensor | None = None) -> Tensor:
        if lengths is None and mask is None:
            y: Tensor = super().forward(input)
            return y
        module: Any = self  # one of torch.nn's classes, which stand behind this one
        module._check_input_dim(input)
        if input.dim() == module._get_no_batch_dim():
            raise ValueError(f"lengths and mask need a batch, input has shape {list(input.shape)}")
        return self._apply_instance_norm(input, padding(lengths, mask))

    def _apply_instance_norm(self, input: Tensor, valid: Padding | None = None) -> Tensor:
        valid = valid or {}
        if self._trains or not self.track_running_stats:
            factor = 0.0 if self.momentum is None else self.momentum
            return self._train_step(lambda m, v, f: self._norm(input, m, v, True, f, valid), input, factor, valid)
        return self._norm(input, self.running_mean, self.running_var, False, 0.0, valid)

    def _norm(
        self, x: Tensor, mean: Tensor | None, var: Tensor | None, from_input: bool, factor: float, valid: Padding
    ) -> Tensor:
        options = {**self._update_options(), **valid}
        return F.instance_norm(
            x, mean, var, self.weight, self.bias, from_input, factor, self.eps, activation=self.activation, **options
        )


class InstanceNorm1d(_InstanceNorm, nn.InstanceNorm1d):
    """torch.nn.InstanceNorm1d on (n, c, l) or (c, l), run by Norma.

    The keywords are those of BatchNorm1d; biased_running_var, nonfinite and freeze() need
    track_running_stats=True to have an effect.
    """


class InstanceNorm2d(_InstanceNorm, nn.InstanceNorm2d):
    """torch.nn.InstanceNorm2d on (n, c, h, w) or (c, h, w), run by Norma; see InstanceNorm1d."""


class InstanceNorm3d(_InstanceNorm, nn.InstanceNorm3d):
    """torch.nn.InstanceNorm3d on (n, c, d, h, w) or (c, d, h, w), run by Norma; see InstanceNorm1d."""


class _LazyInstanceNorm(_InstanceNorm):
    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        activation: Activation | None = None,
        biased_running_var: bool = False,
        nonfinite: NonFinite = "store",
    ) -> None:
        lazy: Any = super(RunningStatistics, self)
        lazy.__init__(eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self._set_options(activation, biased_running_var, nonfinite)


class LazyInstanceNorm1d(_LazyInstanceNorm, nn.LazyInstanceNorm1d):
    """InstanceNorm1d that takes its number of channels from the first input."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm, nn.LazyInstanceNorm2d):
    """InstanceNorm2d that takes its number of channels from the first input."""

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm, nn.LazyInstanceNorm3d):
    """InstanceNorm3d that takes its number of channels from the first input."""

    cls_to_become = InstanceNorm3d


__all__ = [
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
]
