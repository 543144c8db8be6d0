"""Layer, RMS and group norm with torch.nn's names and arguments, and what PyTorch lacks as keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import functional as F
from .._layers import Activation, activation_number
from .._ragged import Lengths
from ._running import options_repr

_OPTIONS: Mapping[str, object] = {"activation": None, "channels_first": False, "promote_types": False}


def check_channels_first(channels_first: bool, normalized_shape: Sequence[int]) -> None:
    if channels_first and len(normalized_shape) != 1:
        raise ValueError(
            f"channels_first=True normalizes over dimension 1 alone, so normalized_shape is the number of channels; "
            f"it is {tuple(normalized_shape)}"
        )


def promoted(module: LayerNorm | RMSNorm, x: Tensor) -> Tensor:
    if module.promote_types and module.weight is not None:
        return x.to(torch.promote_types(x.dtype, module.weight.dtype))
    return x


class LayerNorm(nn.LayerNorm):
    """torch.nn.LayerNorm on (..., *normalized_shape), run by Norma.

    Keywords beyond torch.nn's:

    activation: "relu", "silu", "gelu" or "gelu_tanh", applied to the result in the same pass.
    channels_first: the mean is that of the channels of one position of (n, c, ...), ConvNeXt's layer norm, computed
        where the data lies; normalized_shape is c. The result keeps the input's memory format.
    promote_types: 16-bit input beside float32 parameters gives float32, as in hand-written norms; without it the
        result has the type of the input, as in torch.nn.

    forward(input, lengths=None, mask=None) leaves padding out, as norma.torch.functional has it.
    """

    activation: Activation | None = None
    channels_first: bool = False
    promote_types: bool = False

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: Activation | None = None,
        channels_first: bool = False,
        promote_types: bool = False,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, bias, device, dtype)
        check_channels_first(channels_first, self.normalized_shape)
        activation_number(activation)
        self.activation = activation
        self.channels_first = channels_first
        self.promote_types = promote_types

    def forward(self, input: Tensor, lengths: Lengths | None = None, mask: Tensor | None = None) -> Tensor:
        return F.layer_norm(
            promoted(self, input),
            self.normalized_shape,
            self.weight,
            self.bias,
            self.eps,
            activation=self.activation,
            channels_first=self.channels_first,
            lengths=lengths,
            mask=mask,
        )

    def extra_repr(self) -> str:
        return super().extra_repr() + options_repr(self, _OPTIONS)


class RMSNorm(nn.RMSNorm):
    """torch.nn.RMSNorm on (..., *normalized_shape), run by Norma.

    activation, channels_first, promote_types, lengths and mask are those of LayerNorm. weight_plus_one: gamma is
    1 + weight and the weight starts at 0, as in the models of the Gemma family.
    """

    activation: Activation | None = None
    channels_first: bool = False
    promote_types: bool = False
    weight_plus_one: bool = False

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: Activation | None = None,
        channels_first: bool = False,
        promote_types: bool = False,
        weight_plus_one: bool = False,
    ) -> None:
        self.weight_plus_one = weight_plus_one
        super().__init__(normalized_shape, eps, elementwise_affine, device, dtype)
        check_channels_first(channels_first, self.normalized_shape)
        activation_number(activation)
        self.activation = activation
        self.channels_first = channels_first
        self.promote_types = promote_types

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.weight_plus_one and self.weight is not None:
            nn.init.zeros_(self.weight)

    def forward(self, x: Tensor, lengths: Lengths | None = None, mask: Tensor | None = None) -> Tensor:
        weight: Tensor | None = self.weight
        if self.weight_plus_one and weight is not None:
            weight = 1 + weight
        return F.rms_norm(
            promoted(self, x),
            self.normalized_shape,
            weight,
            self.eps,
            activation=self.activation,
            channels_first=self.channels_first,
            lengths=lengths,
            mask=mask,
        )

    def extra_repr(self) -> str:
        return super().extra_repr() + options_repr(self, {**_OPTIONS, "weight_plus_one": False})


class GroupNorm(nn.GroupNorm):
    """torch.nn.GroupNorm on (n, c, ...), run by Norma; activation, lengths and mask are those of LayerNorm."""

    activation: Activation | None = None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        activation: Activation | None = None,
    ) -> None:
        super().__init__(num_groups, num_channels, eps, affine, device, dtype, bias=bias)
        activation_number(activation)
        self.activation = activation

    def forward(self, input: Tensor, lengths: Lengths | None = None, mask: Tensor | None = None) -> Tensor:
        return F.group_norm(
            input,
            self.num_groups,
            self.weight,
            self.bias,
            self.eps,
            activation=self.activation,
            lengths=lengths,
            mask=mask,
        )

    def extra_repr(self) -> str:
        return super().extra_repr() + options_repr(self, {"activation": None})


__all__ = ["GroupNorm", "LayerNorm", "RMSNorm"]
