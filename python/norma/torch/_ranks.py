"""What the ranks of a process group tell each other: headers that have to agree, and tensors with unequal numbers of
rows."""

from __future__ import annotations

import struct
import time
import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DTYPE_NAMES = {-2: "another type", -1: "none"} | {i: str(dtype) for i, dtype in enumerate(_DTYPES)}
_TRUTH = {0: "False", 1: "True"}
_PASSES = {0: "forward", 1: "backward"}
_LAYOUT = struct.Struct("<10qdQ80s")  # the integers of Header, eps, a checksum of the name, the end of the name


def dtype_number(dtype: torch.dtype | None) -> int:
    """-1 for none, -2 for a type that no layer of ours takes."""
    if dtype is None:
        return -1
    return _DTYPES.index(dtype) if dtype in _DTYPES else -2


@dataclass(frozen=True)
class Header:
    """What a rank is about to do. All but the first two have to be the same on every rank."""

    samples: int
    space: int
    backward: int
    channels: int
    dtype: int
    param_dtype: int
    wants_dx: int
    by_rank: int
    equal_shards: int
    activation: int
    eps: float
    layer: str

    def pack(self) -> bytes:
        """As many bytes for every header; of a long name the end."""
        name = self.layer.encode()
        numbers = (self.samples, self.space, self.backward, self.channels, self.dtype, self.param_dtype)
        flags = (self.wants_dx, self.by_rank, self.equal_shards, self.activation)
        return _LAYOUT.pack(*numbers, *flags, self.eps, zlib.crc32(name), name[-80:])

    def values(self, name_of_layer: str) -> dict[str, str]:
        """What has to agree, in words."""
        return {
            "layer": name_of_layer,
            "pass": _PASSES.get(self.backward, "?"),
            "channels": str(self.channels),
            "dtype of x": _DTYPE_NAMES.get(self.dtype, "?"),
            "dtype of weight and bias": _DTYPE_NAMES.get(self.param_dtype, "?"),
            "eps": repr(self.eps),
            "activation": str(self.activation),
            "merge": "'rank'" if self.by_rank else "'sample'",
            "equal_shards": _TRUTH.get(self.equal_shards, "?"),
            "requires_grad of x": _TRUTH.get(self.wants_dx, "?"),
        }


BYTES = _LAYOUT.size


def _unpack(data: bytes) -> tuple[Header, int]:
    *numbers, eps, checksum, name = _LAYOUT.unpack(data)
    return Header(*[*numbers, eps, name.rstrip(b"\0").decode(errors="replace")]), checksum


def _wait_until_let_go(tensors: list[Any], seconds: float = 0.2) -> None:
    """The group's thread lets go of the tensors of a transfer a little after it has said that it is done. Should it be
    the last to do so, it needs the interpreter to free them; and if that is about to end, it aborts the process
    instead. So they are not dropped here before it has."""
    end = time.monotonic() + seconds
    while any(tensor._use_count() > 1 for tensor in tensors) and time.monotonic() < end:
        time.sleep(0)


class Ranks:
    """The ranks of a group, as one layer talks to them. `who` begins every message."""

    def __init__(self, group: Any, timeout: float | None, who: str) -> None:
        self._group, self._timeout, self._who = group, timeout, who
        self.size: int = dist.get_world_size(group)
        self.rank: int = dist.get_rank(group)

    def headers(self, mine: Header) -> list[Header]:
        """Everyone's header; ValueError on every rank if they do not agree."""
        data = torch.frombuffer(bytearray(mine.pack()), dtype=torch.uint8)
        return self._agreeing(self._all_gather(data, "headers", mine), mine)

    def rows(self, mine: Header, rows: Tensor, counts: list[int], what: str) -> Tensor:
        """Everyone's rows below each other in the order of ranks, counts[i] of rank i. A header travels with them."""
        per_row = rows.size(1) * rows.element_size()
        data = torch.zeros(BYTES + max(counts) * per_row, dtype=torch.uint8)
        data[:BYTES] = torch.frombuffer(bytearray(mine.pack()), dtype=torch.uint8)
        data[BYTES : BYTES + counts[self.rank] * per_row] = rows.contiguous().view(-1).view(torch.uint8)
        received = self._all_gather(data, what, mine)
        self._agreeing(received, mine)
        parts = [r[BYTES : BYTES + n * per_row].view(rows.dtype) for r, n in zip(received, counts, strict=True)]
        return torch.cat(parts).view(-1, rows.size(1))

    def _all_gather(self, mine: Tensor, what: str, header: Header) -> list[Tensor]:
        received = [torch.empty_like(mine) for _ in range(self.size)]
        try:
            work = dist.all_gather(received, mine, group=self._group, async_op=True)
            if self._timeout is None:
                work.wait()
            else:
                work.wait(timedelta(seconds=self._timeout))
        except RuntimeError as error:
            limit = "" if self._timeout is None else f" within {self._timeout:g} s"
            raise RuntimeError(
                f"{self._who}: rank {self._name(self.rank)} did not get the {what} of the other ranks"
                f"{limit} in the {_PASSES[header.backward]} pass: a rank is late, absent or has ended. The process "
                f"group cannot be used any further ({str(error).splitlines()[0].split('. ')[0]})"
            ) from error
        del work
        _wait_until_let_go([mine, *received])
        return received

    def _name(self, rank: int) -> int:
        group: Any = self._group or dist.group.WORLD
        return dist.get_global_rank(group, rank)

    def _agreeing(self, received: list[Tensor], mine: Header) -> list[Header]:
        unpacked = [_unpack(r[:BYTES].numpy().tobytes()) for r in received]
        headers = [header for header, _ in unpacked]
        first, checksum = unpacked[0]
        for i, (header, its_checksum) in enumerate(unpacked):
            ours, its = first.values(repr(first.layer)), header.values(repr(header.layer))
            if checksum != its_checksum and ours["layer"] == its["layer"]:
                its["layer"] += " after another beginning"
            for what, value in ours.items():
                if value != its[what]:
                    raise ValueError(
                        f"{self._who}: the ranks differ in {what}: rank {self._name(0)} has {value}, "
                        f"rank {self._name(i)} has {its[what]}"
                    )
        return headers
