"""Batch norm over the batches of all ranks of a process group, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.autograd.function import once_differentiable
from torch.nn.modules import batchnorm

from norma import Moments

from .._layers import Activation, activation_number
from .._nonfinite import NonFinite, move_by_policy
from .._ragged import Lengths
from .._ranks import Header, Ranks, dtype_number
from .._recompute import recomputing
from ._running import PER_CHANNEL
from .batch import _BatchNorm

Merge = Literal["sample", "rank"]


@dataclass(frozen=True)
class _Exchange:
    """What forward finds out and backward needs again."""

    ranks: Ranks
    headers: list[Header]  # everyone's, of the forward pass
    mine: Header

    @property
    def elements(self) -> int:
        """Values per channel on all ranks together."""
        return sum(header.samples * header.space for header in self.headers)

    @property
    def vectors(self) -> bool:
        """Whether x itself travels: with one value per channel and sample it is smaller than its statistics."""
        return not self.mine.by_rank and all(h.space == 1 or h.samples == 0 for h in self.headers)

    def sets(self, own: Tensor, what: str, *, backward: bool) -> Tensor:
        """The sets of statistics of all ranks, made of this one's."""
        one = [bool(header.by_rank or header.space == 1) for header in self.headers]
        counts = [h.channels * (1 if o else h.samples) for h, o in zip(self.headers, one, strict=True)]
        return self.ranks.rows(replace(self.mine, backward=int(backward)), own, counts, what)

    def batch(self, part: Tensor, what: str, *, backward: bool) -> Tensor:
        """The whole batch, made of this rank's vectors."""
        counts = [header.samples for header in self.headers]
        rows = part.reshape(part.size(0), part.size(1))
        whole = self.ranks.rows(replace(self.mine, backward=int(backward)), rows, counts, what)
        return whole.view(-1, *part.shape[1:2], *(1,) * (part.dim() - 2))

    def own_part(self, whole: Tensor) -> Tensor:
        """The samples of this rank."""
        start = sum(header.samples for header in self.headers[: self.ranks.rank])
        return whole[start : start + self.mine.samples]


class _SyncBatchNorm(torch.autograd.Function):
    """y and the moments of the whole batch, which is there as `whole` where x has travelled."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        whole: Tensor | None,
        moments: Tensor,
        exchange: _Exchange,
    ) -> tuple[Tensor, Tensor]:
        mine = exchange.mine
        y, saved, total = torch.ops.norma.sync_forward.default(x, weight, bias, moments, mine.eps, mine.activation)
        ctx.save_for_backward(x if whole is None else whole, weight, bias, saved)
        ctx.exchange, ctx.whole = exchange, whole is not None
        ctx.mark_non_differentiable(total)
        return y, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        known, weight, bias, saved = ctx.saved_tensors
        exchange: _Exchange = ctx.exchange
        mine = exchange.mine
        x = exchange.own_part(known).view(dy.shape) if ctx.whole else known
        wants_dx, *mask = ctx.needs_input_grad[:3]
        ops, options = torch.ops.norma, (mine.eps, mine.activation)
        sums, dweight, dbias = ops.sync_sums.default(dy, x, weight, bias, saved, *options, bool(mine.by_rank), mask)
        dx = None
        if wants_dx:
            if ctx.whole:
                dys = exchange.batch(dy, "gradients", backward=True)
                sums, _, _ = ops.sync_sums.default(dys, known, weight, bias, saved, *options, False, [False, False])
            elif exchange.elements:
                sums = exchange.sets(sums, "sums of gradients", backward=True)
            dx = ops.sync_backward.default(dy, x, weight, bias, saved, sums, *options)
        return dx, dweight if mask[0] else None, dbias if mask[1] else None, None, None, None


def _header(x: Tensor, layer: SyncBatchNorm) -> Header:
    parameter = layer.weight if layer.weight is not None else layer.bias
    return Header(
        samples=x.size(0),
        space=x.shape[2:].numel(),
        backward=0,
        channels=x.size(1),
        dtype=dtype_number(x.dtype),
        param_dtype=dtype_number(None if parameter is None else parameter.dtype),
        wants_dx=int(torch.is_grad_enabled() and x.requires_grad),
        by_rank=int(layer.merge == "rank"),
        equal_shards=int(layer.equal_shards),
        activation=activation_number(layer.activation),
        eps=layer.eps,
        layer=layer.layer_name,
    )


class SyncBatchNorm(_BatchNorm, batchnorm._BatchNorm):
    """torch.nn.SyncBatchNorm for CPU tensors, which that class refuses: in training the statistics are those of the
    batches of all ranks together.

    With merge="sample" outputs, dx and running statistics have the bits of BatchNorm on the concatenated batch, in the
    order of ranks, however it is split; a rank may have an empty batch. dweight and dbias are those of the rank's own
    batch, which DistributedDataParallel averages. In evaluation, and in a group of one rank, nothing is exchanged.
    It is no subclass of torch.nn.SyncBatchNorm, because DistributedDataParallel refuses those on the CPU.

    Args:
        process_group: the ranks to share with; None: all.
        activation, biased_running_var, nonfinite: as in BatchNorm1d.
        merge: "sample": ranks exchange the statistics of each sample. "rank": one set per rank, which is less traffic
            and as accurate, but the last bits depend on the split.
        equal_shards: promises that all ranks always have inputs of the same shape. It saves one exchange of two in
            forward; where the promise is broken gloo ends the process.
        timeout: seconds to wait for the other ranks in each exchange; None: as long as the process group does. Then
            RuntimeError names the layer. A difference between the ranks is a ValueError on all of them.
        layer_name: for messages, and compared between the ranks. convert_sync_batchnorm sets it.
    """

    process_group: Any = None
    merge: Merge = "sample"
    equal_shards: bool = False
    timeout: float | None = None
    layer_name: str = ""
    _shown: Mapping[str, object] = {**_BatchNorm._shown, "merge": "sample", "equal_shards": False, "timeout": None}

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        activation: Activation | None = None,
        biased_running_var: bool = False,
        nonfinite: NonFinite = "store",
        merge: Merge = "sample",
        equal_shards: bool = False,
        timeout: float | None = None,
        layer_name: str = "",
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            device,
            dtype,
            bias=bias,
            activation=activation,
            biased_running_var=biased_running_var,
            nonfinite=nonfinite,
        )
        if merge not in ("sample", "rank"):
            raise ValueError(f"merge is {merge!r}, must be 'sample' or 'rank'")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is {timeout!r}, must be a positive number of seconds or None")
        self.process_group = process_group
        self.merge = merge
        self.equal_shards = equal_shards
        self.timeout = timeout
        self.layer_name = layer_name

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")
        if input.size(1) == 0:
            raise ValueError("SyncBatchNorm number of input channels should be non-zero")

    def forward(self, input: Tensor, lengths: Lengths | None = None, mask: Tensor | None = None) -> Tensor:
        self._check_input_dim(input)
        if not self._trains or not self._has_company():
            return super().forward(input, lengths, mask)
        if lengths is not None or mask is not None:
            raise ValueError(f"{self._who()}: lengths and mask are for evaluation and for one rank, not for several")
        if not input.is_cpu:
            advice = "the layer is for CPU tensors: torch.nn.SyncBatchNorm is for others"
            raise ValueError(f"{self._who()}: x is on {input.device}, {advice}")
        return self._synchronized(input)

    def _has_company(self) -> bool:
        ready = dist.is_available() and dist.is_initialized()
        return bool(ready and dist.get_world_size(self.process_group) != 1)

    def _who(self) -> str:
        return f"SyncBatchNorm {self.layer_name!r}" if self.layer_name else f"SyncBatchNorm({self.num_features})"

    @_disable_dynamo
    def _synchronized(self, x: Tensor) -> Tensor:
        if dist.get_rank(self.process_group) < 0:
            raise ValueError(f"{self._who()}: this process is not in the layer's process group")
        exchange = self._agree(x)
        if x.size(1) != self.num_features:
            raise ValueError(f"{self._who()}: x has {x.size(1)} channels, the layer has {self.num_features}")
        if exchange.mine.dtype < 0:
            raise ValueError(f"{self._who()}: x is {x.dtype}, must be float16, bfloat16, float32 or float64")
        if exchange.elements == 1:
            raise ValueError(
                f"{self._who()}: Expected more than 1 value per channel when training, got input size {x.size()} and "
                "nothing on the other ranks"
            )
        whole, moments = None, torch.empty(0, 5, dtype=torch.float64)
        if exchange.elements and exchange.vectors:
            whole = exchange.batch(x.detach(), "inputs", backward=False)
            moments = torch.ops.norma.sync_moments.default(whole, self.eps, False)
        elif exchange.elements:
            own = torch.ops.norma.sync_moments.default(x.detach(), self.eps, self.merge == "rank")
            moments = exchange.sets(own, "statistics", backward=False)
        apply: Any = _SyncBatchNorm.apply
        y, total = apply(x, self.weight, self.bias, whole, moments, exchange)
        if exchange.elements:
            self._move(total)
        result: Tensor = y
        return result

    def _agree(self, x: Tensor) -> _Exchange:
        """Headers first, so that what differs is an error on every rank and not only where it is wrong."""
        ranks = Ranks(self.process_group, self.timeout, self._who())
        mine = _header(x, self)
        headers = [mine] * ranks.size if self.equal_shards else ranks.headers(mine)
        return _Exchange(ranks, headers, mine)

    @torch.no_grad()
    def _move(self, total: Tensor) -> None:
        """One step of the running statistics towards those of the whole batch."""
        mean, var = self.running_mean, self.running_var
        if not self.track_running_stats or mean is None or var is None:
            return
        if recomputing():
            return
        if self._held is not None:
            self._held.merge(_as_moments(total))
            return
        self._update(mean, var, total)
        self._count()

    def _update(self, mean: Tensor, var: Tensor, total: Tensor) -> None:
        def move(policy: int) -> None:
            torch.ops.norma.running_update_.default(mean, var, total, self._factor(), self.biased_running_var, policy)

        move_by_policy(move, self.nonfinite, who=f"{self._who()}: ")


def _as_moments(total: Tensor) -> Moments:
    """The rows of norma_moments as Moments, which hold the same structs."""
    moments = Moments(PER_CHANNEL)
    moments.__setstate__(("", False, total.numpy().tobytes(), (total.size(0),)))
    return moments


__all__ = ["SyncBatchNorm"]
