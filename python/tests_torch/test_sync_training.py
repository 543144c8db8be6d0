"""Two ranks train a torch.nn model on Fashion-MNIST, and have the losses of one process, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import norma.torch
import pytest
import torch
from fashion import pictures
from ranks import run
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

STEPS, BATCH = 6, 32
BATCH_NORM = 0  # python/torch/layer.h


def model() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.BatchNorm2d(1),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 14 * 14, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def halves(step: int) -> list[tuple[Tensor, Tensor]]:
    images, classes = pictures(STEPS * BATCH)
    part = slice(step * BATCH, (step + 1) * BATCH)
    return list(zip(images[part].float().split(BATCH // 2), classes[part].split(BATCH // 2), strict=True))


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)


def on_two_ranks(rank: int, world: int, theirs: bool) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of this rank, and the state at the end."""
    net: nn.Module = model()
    if theirs:
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    net = norma.torch.convert_sync_batchnorm(net)
    parallel = DistributedDataParallel(net)
    optimizer, losses = sgd(parallel), []
    for step in range(STEPS):
        x, classes = halves(step)[rank]
        loss = nn.functional.cross_entropy(parallel(x), classes)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses, net.state_dict()


class Joined(torch.autograd.Function):
    """Batch norm of both halves as one batch, by the operators of a single process. The gradients of weight and bias
    are taken of each half and then averaged, as DistributedDataParallel does; the loss halves them."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, norm: nn.Module, *parts: Tensor) -> tuple[Tensor, ...]:
        x, sizes = torch.cat(parts), [part.size(0) for part in parts]
        ops: Any = torch.ops.norma
        y, saved, moments = ops.forward_saved(x, weight, bias, BATCH_NORM, 0, norm.eps, 0, True)
        ops.running_update_(norm.running_mean, norm.running_var, moments, norm.momentum, False, 0)
        norm.num_batches_tracked += 1
        ctx.save_for_backward(x, weight, bias, saved)
        ctx.sizes, ctx.eps = sizes, norm.eps
        return y.split(sizes)

    @staticmethod
    def backward(ctx: Any, *dys: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, saved = ctx.saved_tensors

        def backward(dy: Tensor, x: Tensor, mask: list[bool]) -> tuple[Tensor, ...]:
            result: tuple[Tensor, ...] = torch.ops.norma.backward(
                dy, x, weight, bias, None, None, saved, BATCH_NORM, 0, ctx.eps, 0, mask
            )
            return result

        dx, _, _ = backward(torch.cat(dys), x, [True, False, False])
        own = [backward(dy, part, [False, True, True]) for dy, part in zip(dys, x.split(ctx.sizes), strict=True)]
        return own[0][1] + own[1][1], own[0][2] + own[1][2], None, *dx.split(ctx.sizes)


def in_one_process() -> tuple[list[list[float]], dict[str, Tensor]]:
    """The losses of both halves: all layers but the norms run on each half, as they do on the ranks."""
    net = model()
    optimizer, losses = sgd(net), []
    for step in range(STEPS):
        xs, classes = zip(*halves(step), strict=True)
        for layer in net:
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                xs = Joined.apply(layer.weight, layer.bias, layer, *xs)
            else:
                xs = tuple(layer(x) for x in xs)
        both = [nn.functional.cross_entropy(x, c) for x, c in zip(xs, classes, strict=True)]
        losses.append([loss.item() for loss in both])
        optimizer.zero_grad()
        (sum(both) / 2).backward()
        optimizer.step()
    return losses, net.state_dict()


@pytest.mark.parametrize("theirs", [False, True], ids=["BatchNorm", "SyncBatchNorm"])
def test_losses_of_two_ranks_are_those_of_one_process(theirs: bool, tmp_path: Path) -> None:
    ranks = run(2, tmp_path / "ranks", on_two_ranks, theirs)
    [(expected, state)] = run(1, tmp_path / "one", lambda rank, world: in_one_process())
    assert [list(both) for both in zip(*(losses for losses, _ in ranks), strict=True)] == expected
    assert sum(expected[-1]) < 0.9 * sum(expected[0])
    for _, other in ranks:
        assert other.keys() == state.keys()
        for name, value in state.items():
            assert torch.equal(other[name], value), name


def on_the_whole_batch(rank: int, world: int, steps: int) -> list[float]:
    """torch.nn's model as it is, on Norma's kernels, without halves."""
    net, losses = model(), []
    optimizer = sgd(net)
    with norma.torch.enabled():
        for step in range(steps):
            x, classes = (torch.cat(both) for both in zip(*halves(step), strict=True))
            loss = nn.functional.cross_entropy(net(x), classes)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return losses


def bits_by_halves(layer: nn.Module, x: Tensor) -> dict[str, bool]:
    """Which results of one of PyTorch's layers are the same for a batch and for its halves."""
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    dy = y.detach().cos()
    whole = torch.autograd.grad(y, [leaf, *layer.parameters()], dy)
    parts = []
    for half, d in zip(x.split(BATCH // 2), dy.split(BATCH // 2), strict=True):
        part = half.clone().requires_grad_()
        z = layer(part)
        parts.append((z.detach(), *torch.autograd.grad(z, [part, *layer.parameters()], d)))
    return {
        "y": torch.equal(torch.cat([p[0] for p in parts]), y),
        "dx": torch.equal(torch.cat([p[1] for p in parts]), whole[0]),
        "dweight": torch.equal(parts[0][2] + parts[1][2], whole[1]),
        "dbias": torch.equal(parts[0][3] + parts[1][3], whole[2]),
    }


def of_other_layers(rank: int, world: int) -> dict[str, dict[str, bool]]:
    x = torch.cat([half for half, _ in halves(0)]) / 255
    return {
        "convolution": bits_by_halves(nn.Conv2d(1, 8, 3, padding=1), x),
        "linear layer": bits_by_halves(nn.Linear(784, 32), x.flatten(1)),
    }


def test_the_whole_batch_at_once_is_close(tmp_path: Path) -> None:
    """Without halves other layers than the norms differ in last bits; which ones is printed, and PyTorch's matter."""
    ranks = run(2, tmp_path / "ranks", on_two_ranks, False)
    [losses] = run(1, tmp_path / "one", on_the_whole_batch, STEPS)
    [bits] = run(1, tmp_path / "bits", of_other_layers)
    for name, same in bits.items():
        print(f"\n{name}, same bits by halves as at once: " + ", ".join(f"{k} {v}" for k, v in same.items()))
    mean = torch.tensor([of_rank for of_rank, _ in ranks], dtype=torch.float64).mean(0)
    torch.testing.assert_close(mean, torch.tensor(losses, dtype=torch.float64), rtol=1e-4, atol=0)


def with_an_empty_rank(rank: int, world: int) -> list[float]:
    """DistributedDataParallel with unequal shards, the last one empty: the loss is a sum over the batch."""
    parallel = DistributedDataParallel(norma.torch.convert_sync_batchnorm(model()))
    optimizer, losses = sgd(parallel), []
    for step in range(3):
        x, classes = (torch.cat(both).split([20, 12, 0])[rank] for both in zip(*halves(step), strict=True))
        loss = nn.functional.cross_entropy(parallel(x), classes, reduction="sum") / BATCH
        losses.append(loss.item())
        optimizer.zero_grad()
        (loss * world).backward()
        optimizer.step()
    return losses


def test_a_rank_without_data(tmp_path: Path) -> None:
    ranks = run(3, tmp_path / "ranks", with_an_empty_rank)
    [losses] = run(1, tmp_path / "one", on_the_whole_batch, 3)
    together = torch.tensor(ranks, dtype=torch.float64).sum(0)
    torch.testing.assert_close(together, torch.tensor(losses, dtype=torch.float64), rtol=1e-4, atol=0)
