"""recalibrate() on data that matters: another domain, weights that were averaged, shares in several processes."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Any

import fashion
import norma.torch
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def network() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 12, 5, stride=2),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 5, stride=2),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 16, 10),
    )


@pytest.fixture(scope="module")
def pictures() -> tuple[Tensor, Tensor]:
    grey, classes = fashion.pictures(3000)
    return (grey / 255).float(), classes


@pytest.fixture(scope="module")
def trained(pictures: tuple[Tensor, Tensor]) -> nn.Sequential:
    """Two passes over 2000 pictures, in batches of 50."""
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(2):
        for x, classes in zip(pictures[0][:2000].split(50), pictures[1][:2000].split(50), strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), classes).backward()
            optimizer.step()
    return net


def accuracy(net: nn.Module, x: Tensor, classes: Tensor) -> float:
    with torch.no_grad():
        return float((net.eval()(x).argmax(1) == classes).double().mean())


def test_another_domain(trained: nn.Sequential, pictures: tuple[Tensor, Tensor]) -> None:
    """Pale pictures, without a label: the figures of docs/statistics.md, and restore() gives the source back."""
    net, x, classes = copy.deepcopy(trained), pictures[0][2000:], pictures[1][2000:]
    pale = 0.25 * x + 0.5
    found = {"source": accuracy(net, x, classes), "pale": accuracy(net, pale, classes)}
    for passes in ("exact", "one"):
        with norma.torch.recalibrate(net, pale.split(64), passes=passes, progress=False):  # type: ignore[arg-type]
            found[passes] = accuracy(net, pale, classes)
    for name, shown in {"source": 0.77, "pale": 0.12, "exact": 0.78, "one": 0.65}.items():
        assert abs(found[name] - shown) < 0.05, found
    assert accuracy(net, x, classes) == found["source"] and accuracy(net, pale, classes) == found["pale"]


def test_averaged_weights(trained: nn.Sequential, pictures: tuple[Tensor, Tensor]) -> None:
    """Averaged weights come with statistics of other weights."""
    x, classes = pictures[0][2000:], pictures[1][2000:]
    average, net = AveragedModel(trained), copy.deepcopy(trained)
    optimizer = torch.optim.SGD(net.parameters(), 0.3)
    for images, labels in zip(pictures[0][:2000].split(100), pictures[1][:2000].split(100), strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net.train()(images), labels).backward()
        optimizer.step()
        average.update_parameters(net)
    loss = nn.functional.cross_entropy(average.eval()(x), classes).item()
    done = norma.torch.recalibrate(average, pictures[0][:2000].split(100), progress=False)
    assert [change.name for change in done.changes] == ["module.1", "module.4"]
    assert nn.functional.cross_entropy(average.eval()(x), classes).item() < loss


class Padded(norma.torch.BatchNorm1d):
    """Takes its statistics of what is not padding."""

    def _moments_of(self, input: Tensor, length: int) -> norma.Moments:  # type: ignore[override]
        return super()._moments_of(input[:, :, :length])

    def forward(self, input: Tensor, length: int) -> Tensor:  # type: ignore[override]
        return super().forward(input)


def test_a_layer_that_leaves_elements_out() -> None:
    layer, data = Padded(3), [(torch.randn(4, 3, 6), 2), (torch.randn(4, 3, 6), 5)]
    norma.torch.recalibrate(layer, [(batch,) for batch in data], progress=False)
    kept = torch.cat([x[:, :, :length] for x, length in data], 2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(layer.running_mean, kept.mean(1))
    torch.testing.assert_close(layer.running_var, kept.var(1))


def _share(rank: int, folder: str) -> None:
    """One of two processes: 30 or 70 of 100 pictures."""
    store = dist.FileStore(f"{folder}/store", 2)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60))
    net, x = network().double(), torch.load(f"{folder}/data.pt").split([30, 70])[rank]

    def gather(mine: dict[str, norma.Moments]) -> list[Any]:
        everyone: list[Any] = [None, None]
        dist.all_gather_object(everyone, mine)
        return everyone

    norma.torch.recalibrate(net, x.split(20), gather=gather, progress=False)
    torch.save(net.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes(tmp_path: Path) -> None:
    """gather= makes shares of the data one set in every layer: both have the same bits, those of one process."""
    torch.manual_seed(1)
    data = torch.rand(100, 1, 28, 28, dtype=torch.float64)
    torch.save(data, tmp_path / "data.pt")
    torch.multiprocessing.spawn(_share, (str(tmp_path),), nprocs=2)
    net = network().double()
    norma.torch.recalibrate(net, [data], progress=False)
    states = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for name, value in net.state_dict().items():
        assert torch.equal(states[0][name], states[1][name]) or name.endswith("tracked")
        if not name.endswith("tracked"):
            torch.testing.assert_close(states[0][name], value, rtol=1e-11, atol=1e-12)
