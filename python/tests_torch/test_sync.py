"""SyncBatchNorm on the CPU: a batch split over ranks has the bits that BatchNorm gives the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import norma.torch
import pytest
import torch
from ranks import run
from torch import Tensor, nn

STEPS = 2

SPLITS = {
    1: [[6], [0]],
    2: [[4, 3], [0, 7], [7, 1], [0, 0]],
    3: [[5, 0, 1], [2, 2, 2]],
    4: [[1, 1, 1, 1], [0, 3, 0, 4]],
    8: [[1, 0, 2, 1, 0, 3, 1, 1], [1] * 8],
}


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...]  # without the batch
    dtype: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format
    options: dict[str, Any] = field(default_factory=dict)
    wants_dx: bool = True
    spoiled: bool = False  # NaN in one channel of the last sample


IMAGE, F16, BF16, F64 = (5, 7, 9), torch.float16, torch.bfloat16, torch.float64
CASES = {
    "images": Case(IMAGE),
    "images that end in ReLU": Case(IMAGE, options={"activation": "relu"}),
    "channels last": Case((35, 3, 11), memory_format=torch.channels_last, options={"activation": "silu"}),
    "many channels": Case((300, 2, 2), F64),
    "volumes": Case((3, 3, 4, 5), F16, options={"momentum": None}),
    "sequences": Case((4, 1500), BF16, options={"affine": False}),
    "sequences in float64": Case((4, 33), F64, options={"bias": False}),
    "vectors": Case((6,)),
    "vectors in float64": Case((6,), F64, options={"activation": "gelu"}),
    "vectors in bfloat16": Case((41,), BF16, options={"biased_running_var": True}),
    "pixels": Case((6, 1, 1), memory_format=torch.channels_last, options={"track_running_stats": False}),
    "nothing in space": Case((6, 0, 3)),
    "parameters alone": Case(IMAGE, wants_dx=False),
    "NaN in one channel": Case(IMAGE, spoiled=True),
    "NaN among vectors": Case((6,), spoiled=True),
}


def data(case: Case, batch: int, step: int) -> tuple[Tensor, Tensor]:
    """x far from 0, and dy."""
    generator = torch.Generator().manual_seed(97 * step + batch)
    x, dy = (torch.randn(batch, *case.shape, generator=generator, dtype=F64) for _ in range(2))
    if case.spoiled and batch:
        x[-1, 2] = float("nan")
    return (x * 3 + 50).to(case.dtype), dy.to(case.dtype)


def train(case: Case, make: Callable[..., nn.Module], split: list[int], part: int | None) -> dict[str, Tensor]:
    """Steps of training on a part of the batch, or on all of it, and what came out."""
    layer: Any = make(case.shape[0], **case.options)
    if case.dtype == F64:
        layer.double()
    for i, parameter in enumerate(layer.parameters()):
        parameter.data.copy_(torch.linspace(0.5 - i, 1.5, case.shape[0]))
    out = {}
    for step in range(STEPS):
        x, dy = data(case, sum(split), step)
        if part is not None:
            x, dy = x.split(split)[part], dy.split(split)[part]
        x = x.contiguous(memory_format=case.memory_format).detach().requires_grad_(case.wants_dx)
        layer.zero_grad()
        y = layer(x)
        if y.requires_grad:
            y.backward(dy)
        out |= {f"y{step}": y.detach(), **({f"dx{step}": x.grad} if x.grad is not None else {})}
        out |= {f"d{name}{step}": p.grad for name, p in layer.named_parameters() if p.grad is not None}
    out |= {name: buffer.clone() for name, buffer in layer.named_buffers()}
    if not case.spoiled:  # whose running statistics evaluation refuses
        with torch.no_grad():
            out["evaluation"] = layer.eval()(data(case, 3, 9)[0])
    return out


def on_rank(rank: int, world: int, cases: dict[str, Case]) -> list[dict[str, dict[str, Tensor]]]:
    make = norma.torch.SyncBatchNorm
    return [{name: train(case, make, split, rank) for name, case in cases.items()} for split in SPLITS[world]]


def whole(case: Case, batch: int) -> dict[str, Tensor]:
    one = {2: norma.torch.BatchNorm1d, 3: norma.torch.BatchNorm2d, 4: norma.torch.BatchNorm3d}
    return train(case, one[max(len(case.shape), 2)], [batch], None)


def compare(name: str, parts: list[dict[str, Tensor]], expected: dict[str, Tensor], exact: bool) -> None:
    for key, value in expected.items():
        there = [part[key] for part in parts]
        what = f"{name}: {key}"
        if key.startswith(("dweight", "dbias")):
            total, size = torch.stack(there).double().sum(0), float(torch.stack(there).abs().nan_to_num(0).max())
            torch.testing.assert_close(total, value.double(), rtol=1e-6, atol=1e-6 * size, equal_nan=True, msg=what)
        elif key[:2] in ("y0", "y1", "dx"):
            same(torch.cat(there), value, what, exact)
            assert all(part.is_contiguous(memory_format=torch.channels_last) for part in there if part.numel()) or (
                not value.is_contiguous(memory_format=torch.channels_last) or value.is_contiguous()
            ), what
        else:
            for part in there:
                same(part, value, what, exact)


def same(got: Tensor, expected: Tensor, what: str, exact: bool) -> None:
    assert got.dtype == expected.dtype and got.shape == expected.shape, what
    if exact:
        assert torch.equal(bits(got), bits(expected)), what
    else:
        assert torch.allclose(got, expected, rtol=1e-6, atol=1e-6), what


def bits(t: Tensor) -> Tensor:
    return t.reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("world", list(SPLITS))
def test_a_split_batch_has_the_bits_of_the_whole(world: int, tmp_path: Path) -> None:
    results = run(world, tmp_path / "ranks", on_rank, CASES)
    for i, split in enumerate(SPLITS[world]):
        for name, case in CASES.items():
            expected = whole(case, sum(split))
            compare(f"{name} {split}", [r[i][name] for r in results], expected, exact=True)
            if sum(split) == 0 and "num_batches_tracked" in expected:
                assert int(expected["num_batches_tracked"]) == 0
