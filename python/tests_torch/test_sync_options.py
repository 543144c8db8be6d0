"""SyncBatchNorm's other ways: one set per rank, promised shards, samples of several sizes, and what is exchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import norma.torch
import pytest
import torch
import torch.distributed as dist
from ranks import run
from test_sync import CASES, compare, train, whole
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

FORMS = ["images that end in ReLU", "channels last", "many channels", "vectors", "vectors in float64", "volumes"]


def with_options(rank: int, world: int, split: list[int], options: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    def make(*arguments: Any, **keywords: Any) -> nn.Module:
        return norma.torch.SyncBatchNorm(*arguments, **keywords, **options)

    return {name: train(CASES[name], make, split, rank) for name in FORMS}


@pytest.mark.parametrize("split", [[5, 0, 1], [2, 2, 2]], ids=str)
def test_one_set_per_rank(split: list[int], tmp_path: Path) -> None:
    """As accurate, and the same on every rank; the last bits may be others."""
    results = run(3, tmp_path / "ranks", with_options, split, {"merge": "rank"})
    for name in FORMS:
        expected, parts = whole(CASES[name], sum(split)), [r[name] for r in results]
        compare(f"{name} {split}", parts, expected, exact=False)
        for key in expected:
            if key.startswith("running"):
                assert all(torch.equal(part[key], parts[0][key]) for part in parts)


@pytest.mark.parametrize("merge", ["sample", "rank"])
def test_equal_shards(merge: str, tmp_path: Path) -> None:
    results = run(3, tmp_path / "ranks", with_options, [2, 2, 2], {"equal_shards": True, "merge": merge})
    for name in FORMS:
        compare(name, [r[name] for r in results], whole(CASES[name], 6), exact=merge == "sample")


LENGTHS = [(3, 7), (2, 1), (4, 12)]


def several_lengths(rank: int, world: int, merge: Any) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rank)
    batch, length = LENGTHS[rank]
    x = torch.randn(batch, 4, length, generator=generator).add(30 * rank).requires_grad_()
    y = norma.torch.SyncBatchNorm(4, merge=merge)(x)
    y.backward(x.detach().cos())
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("merge", ["sample", "rank"])
def test_samples_of_several_sizes(merge: str, tmp_path: Path) -> None:
    """There is no tensor that holds them all; their values in a row are the same batch."""
    results = run(3, tmp_path / "ranks", several_lengths, merge)
    inputs = []
    for rank, (batch, length) in enumerate(LENGTHS):
        generator = torch.Generator().manual_seed(rank)
        inputs.append(torch.randn(batch, 4, length, generator=generator).add(30 * rank))
    row = torch.cat([x.transpose(0, 1).reshape(4, -1) for x in inputs], dim=1)[None].requires_grad_()
    y = norma.torch.BatchNorm1d(4)(row)
    y.backward(row.detach().cos())
    assert row.grad is not None
    for i, expected in enumerate((y.detach(), row.grad)):
        got = torch.cat([r[i].transpose(0, 1).reshape(4, -1) for r in results], dim=1)[None]
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def traffic(rank: int, world: int, shape: tuple[int, ...], options: dict[str, Any], wants_dx: bool) -> list[list[int]]:
    """The bytes of each exchange: in forward, in backward, and in evaluation."""
    sent: list[list[int]] = []
    all_gather = dist.all_gather

    def counted(received: list[Tensor], mine: Tensor, **keywords: Any) -> Any:
        sent[-1].append(mine.numel() * mine.element_size())
        return all_gather(received, mine, **keywords)

    dist.all_gather = counted
    layer = norma.torch.SyncBatchNorm(shape[1], **options)
    x = torch.randn(shape, requires_grad=wants_dx)
    sent.append([])
    y = layer(x)
    sent.append([])
    y.sum().backward()
    sent.append([])
    layer.eval()(x)
    return sent


HEADER = 176


@pytest.mark.parametrize(
    ("shape", "options", "forward", "backward"),
    [
        ((4, 3, 5, 5), {}, [HEADER, HEADER + 4 * 3 * 40], HEADER + 4 * 3 * 48),
        ((4, 3, 5, 5), {"equal_shards": True}, [HEADER + 4 * 3 * 40], HEADER + 4 * 3 * 48),
        ((4, 3, 5, 5), {"merge": "rank"}, [HEADER, HEADER + 3 * 40], HEADER + 3 * 48),
        ((4, 3), {}, [HEADER, HEADER + 4 * 3 * 4], HEADER + 4 * 3 * 4),
    ],
    ids=["sample", "equal shards", "rank", "vectors"],
)
def test_what_a_rank_sends(
    shape: tuple[int, ...], options: dict[str, Any], forward: list[int], backward: int, tmp_path: Path
) -> None:
    """The figures of docs/python-distributed.md."""
    for sent in run(2, tmp_path / "ranks", traffic, shape, options, True):
        assert sent == [forward, [backward], []]
    for sent in run(2, tmp_path / "first layer", traffic, shape, options, False):
        assert sent == [forward, [], []]


def other_modes(rank: int, world: int) -> dict[str, Any]:
    """The layer without gradients, in a checkpoint of both kinds, and compiled; gradients of a plain pass beside it."""
    results: dict[str, Any] = {}
    x = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(3)).split([5, 3])[rank]
    for mode in ("plain", "no_grad", "checkpoint", "checkpoint reentrant", "compiled"):
        layer = norma.torch.SyncBatchNorm(3, activation="silu")
        own: Any = torch.compile(layer, backend="aot_eager") if mode == "compiled" else layer
        leaf = x.clone().requires_grad_()
        if mode == "no_grad":
            with torch.no_grad():
                y = own(leaf)
        else:
            inside = {"checkpoint": False, "checkpoint reentrant": True}
            y = checkpoint(own, leaf, use_reentrant=inside[mode]) if mode in inside else own(leaf)
            y.backward(x.cos())
        results[mode] = (y.detach(), leaf.grad, *(b.clone() for b in layer.buffers()))
    return results


def test_other_modes(tmp_path: Path) -> None:
    for result in run(2, tmp_path / "ranks", other_modes):
        assert int(result["plain"][-1]) == 1 and result["plain"][1] is not None
        for mode, values in result.items():
            for i, (value, expected) in enumerate(zip(values, result["plain"], strict=True)):
                if not (mode == "no_grad" and i == 1):
                    assert torch.equal(value, expected), f"{mode} {i}"


def twice(rank: int, world: int) -> str:
    layer = norma.torch.SyncBatchNorm(3)
    x = torch.randn(4, 3, 5, requires_grad=True)
    (dx,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError) as raised:
        dx.sum().backward()
    return str(raised.value)


def test_no_second_derivatives(tmp_path: Path) -> None:
    for message in run(2, tmp_path / "ranks", twice):
        assert "once_differentiable" in message


def in_pairs(rank: int, world: int) -> tuple[Tensor, str]:
    """Each pair of ranks is a batch of its own."""
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    x = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(rank // 2)).split([5, 3])[rank % 2]
    y = norma.torch.SyncBatchNorm(3, process_group=groups[rank // 2])(x).detach()
    message = ""
    try:
        norma.torch.SyncBatchNorm(3 + rank % 2, process_group=groups[rank // 2])(torch.randn(2, 3 + rank % 2))
    except ValueError as error:
        message = str(error)
    with pytest.raises(ValueError, match="this process is not in the layer's process group"):
        norma.torch.SyncBatchNorm(3, process_group=groups[1 - rank // 2])(x)
    return y, message


def test_groups(tmp_path: Path) -> None:
    results = run(4, tmp_path / "ranks", in_pairs)
    for pair in range(2):
        y = norma.torch.BatchNorm1d(3)(torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(pair)))
        assert torch.equal(torch.cat([results[2 * pair + i][0] for i in range(2)]), y)
        a, b = 2 * pair, 2 * pair + 1
        for rank in (a, b):
            assert results[rank][1].endswith(f"the ranks differ in channels: rank {a} has 3, rank {b} has 4")


def refused(rank: int, world: int) -> str:
    layer = norma.torch.SyncBatchNorm(3, nonfinite="refuse")
    x = torch.randn(4, 3, 5)
    if rank == 1:
        x[0, 2, 1] = float("inf")
    with pytest.raises(ValueError) as raised:
        layer(x)
    assert layer.num_batches_tracked == 0 and torch.equal(layer.running_mean, torch.zeros(3))
    layer.nonfinite = "skip"
    with pytest.warns(RuntimeWarning, match=r"SyncBatchNorm\(3\): channel 2 has mean nan .*; such channels keep"):
        layer(x)
    assert layer.num_batches_tracked == 1 and [float(m) == 0 for m in layer.running_mean] == [False, False, True]
    return str(raised.value)


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    """Of one rank: the error and the warning come on every rank."""
    for text in run(2, tmp_path / "ranks", refused):
        assert text.startswith("channel 2 has mean nan")


def held(rank: int, world: int) -> list[Tensor]:
    """Two batches seen by hold_statistics, then one step of the statistics."""
    layer = norma.torch.SyncBatchNorm(3)
    with norma.torch.hold_statistics(layer) as seen:
        for step in range(2):
            layer(torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(step)).split([6, 1])[rank])
        seen.commit()
    layer.freeze()
    layer.training = True
    layer(torch.randn(rank + 1, 3, 5))
    return [buffer.clone() for buffer in layer.buffers()]


def test_held_and_frozen_statistics(tmp_path: Path) -> None:
    results = run(2, tmp_path / "ranks", held)
    one = norma.torch.BatchNorm1d(3)
    with norma.torch.hold_statistics(one) as seen:
        for step in range(2):
            one(torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(step)))
        seen.commit()
    for result in results:
        for got, expected in zip(result, one.buffers(), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))
