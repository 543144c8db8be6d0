"""lengths= and mask= of the norms: what is valid, and autograd around norma::ragged_forward and its backward."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Lengths = Tensor | Sequence[int]


class Valid(NamedTuple):
    """positions: int64 lengths along dim, or a mask with a size or 1 for each dimension of x."""

    positions: Tensor
    dim: int
    beta: bool

    def of(self, x: Tensor) -> Tensor:
        """Which elements of x are valid."""
        if self.positions.dtype != torch.int64:
            return self.positions.bool().expand(x.shape)
        places = torch.arange(x.size(self.dim)).view([-1 if d == self.dim else 1 for d in range(x.dim())])
        return (places < self.positions.view([-1] + [1] * (x.dim() - 1))).expand(x.shape)

    def is_empty(self) -> bool:
        return not bool(self.positions.any())


class Layer(NamedTuple):
    """The numbers of python/torch/layer.h; refuse_single: one valid value per mean is an error."""

    kind: int
    number: int
    eps: float
    activation: int
    refuse_single: bool = False


class Running(NamedTuple):
    """Running statistics that move by `momentum`; nonfinite is a norma_not_finite."""

    mean: Tensor | None
    var: Tensor | None
    momentum: float
    biased: bool
    nonfinite: int


def read_valid(
    x: Tensor, lengths: Lengths | None, mask: Tensor | None, pad: str, dim: int | None, without: Collection[int]
) -> Valid | None:
    """None where there is no padding. `without`: the dimensions of x that a mask lacks.

    Raises:
        ValueError: both, a shape, pad or dim that does not fit.
        TypeError: lengths that are no integers, a mask that is neither bool nor uint8.
        NotImplementedError: x is not on the CPU.
    """
    if lengths is None and mask is None:
        if dim is not None or pad != "zero":
            raise ValueError(f"{'pad' if dim is None else 'dim'} is given, but neither lengths nor mask")
        return None
    if not x.is_cpu:
        raise NotImplementedError(f"lengths and mask need a tensor on the CPU, input is on {x.device}")
    if pad not in ("zero", "beta"):
        raise ValueError(f"pad is {pad!r}, must be 'zero' or 'beta'")
    if lengths is not None:
        if mask is not None:
            raise ValueError("lengths and mask are both given: one of them is right")
        return Valid(_lengths(x, lengths), _dim(x, dim, without), pad == "beta")
    if dim is not None:
        raise ValueError("dim belongs to lengths, and mask is given")
    assert mask is not None
    return Valid(_mask(x, mask, without), 0, pad == "beta")


def _dim(x: Tensor, dim: int | None, without: Collection[int]) -> int:
    if dim is None:
        return x.dim() - 1 if list(without) == [1] else 1
    if not -x.dim() <= dim < x.dim():
        raise ValueError(f"dim is {dim}, but input has {x.dim()} dimensions")
    return dim % x.dim()


def _lengths(x: Tensor, lengths: Lengths) -> Tensor:
    given = torch.as_tensor(lengths)
    if given.dtype.is_floating_point or given.dtype.is_complex or given.dtype == torch.bool:
        raise TypeError(f"lengths is {given.dtype}, must be of integers")
    if given.shape != x.shape[:1]:
        raise ValueError(f"lengths has shape {list(given.shape)}, must have one entry for each of {len(x)} samples")
    return given.long()


def _mask(x: Tensor, mask: Tensor, without: Collection[int]) -> Tensor:
    if mask.dtype not in (torch.bool, torch.uint8):
        raise TypeError(f"mask is {mask.dtype}, must be bool or uint8")
    whole = mask
    if mask.dim() == x.dim() - len(without):
        for d in sorted(without):
            whole = whole.unsqueeze(d)
    if whole.dim() != x.dim() or any(m not in (1, n) for m, n in zip(whole.shape, x.shape, strict=True)):
        raise ValueError(
            f"mask has shape {list(mask.shape)}, must be that of input, {list(x.shape)}, without dimension "
            f"{', '.join(map(str, sorted(without)))}, or have a size or 1 for each of its dimensions"
        )
    return whole


class _Gradients(torch.autograd.Function):
    """The backward operator, for whose own derivative there is no code."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        return torch.ops.norma.ragged_backward.default(*arguments)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        raise NotImplementedError("norms with lengths or a mask have first derivatives only")


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        given: tuple[Tensor | None, Tensor | None],
        layer: Layer,
        valid: Valid,
        running: Running | None,
    ) -> Tensor:
        spec = (layer.kind, layer.number, layer.eps, layer.activation)
        y, saved, moments = torch.ops.norma.ragged_forward.default(
            x, weight, bias, *given, *spec, *valid, layer.refuse_single, running is not None
        )
        if running is not None:
            torch.ops.norma.running_update_.default(
                running.mean, running.var, moments, running.momentum, running.biased, running.nonfinite
            )
        ctx.save_for_backward(x, weight, bias, *given, saved, valid.positions)
        ctx.layer, ctx.dim = layer, valid.dim
        result: Tensor = y
        return result

    @staticmethod
    def backward(ctx: Any, *dy: Any) -> Any:
        *arguments, positions = ctx.saved_tensors
        layer = ctx.layer
        spec = (layer.kind, layer.number, layer.eps, layer.activation)
        wanted = list(ctx.needs_input_grad[:3])
        apply: Any = _Gradients.apply
        gradients = apply(*dy, *arguments, *spec, positions, ctx.dim, layer.refuse_single, wanted)
        return (*gradients, None, None, None, None)


def norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    layer: Layer,
    valid: Valid,
    given: tuple[Tensor | None, Tensor | None] = (None, None),
    running: Running | None = None,
) -> Tensor:
    """The layer on what is valid. `given`: statistics to normalize with."""
    apply: Any = _Norm.apply
    y: Tensor = apply(x, weight, bias, given, layer, valid, running)
    return y


def running_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: Running,
    use_input_stats: bool,
    layer: Layer,
    valid: Valid,
) -> Tensor:
    """Batch and instance norm, whose statistics are those of x or running ones."""
    if not use_input_stats:
        return norm(x, weight, bias, layer, valid, given=(running.mean, running.var))
    if not 0 <= running.momentum <= 1:
        raise ValueError(f"momentum is {running.momentum}, must be in [0, 1]")
    moving = running.mean is not None or running.var is not None
    return norm(x, weight, bias, layer._replace(refuse_single=True), valid, running=running if moving else None)
