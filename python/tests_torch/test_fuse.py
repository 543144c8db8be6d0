"""fuse(): a norm and the activation after it in one pass."""

from __future__ import annotations

import copy
from typing import Any

import norma.torch
import pytest
import torch
from support import count
from torch import Tensor, fx, nn
from torch.nn import functional as F


class Block(nn.Module):
    """One ReLU called in two places, one of them not after a norm, as in ResNets."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.unused = nn.Linear(2, 2)
        self.register_buffer("step", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class Calls(nn.Module):
    """A norm and something after it, in the words of each test."""

    def __init__(self, forward: Any, **modules: nn.Module) -> None:
        super().__init__()
        self.how = forward
        self.norm = nn.BatchNorm2d(4)
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Any:
        return self.how(self, x)


X = (2, 4, 6, 6)


def unchanged(model: nn.Module, x: Tensor, training: bool = True) -> norma.torch.Report:
    """Fuses, and checks output, gradients, running statistics and keys against the model before."""
    before = copy.deepcopy(model).train(training)
    model.train(training)
    keys = list(model.state_dict())
    report = norma.torch.fuse(model, x)
    after = report.model
    assert list(after.state_dict()) == keys and after.training == training
    y, wanted = after(x.clone()), before(x.clone())
    torch.testing.assert_close(y, wanted)
    y.square().sum().backward()
    wanted.square().sum().backward()
    for (name, a), b in zip(after.named_parameters(), before.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
    for a, b in zip(after.buffers(), before.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    return report


@pytest.mark.parametrize("training", [True, False])
def test_sequential(training: bool) -> None:
    norms = [nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm(6), nn.RMSNorm(6)]
    acts = [nn.ReLU(), nn.SiLU(), nn.GELU(), nn.GELU("tanh"), nn.ReLU(inplace=True)]
    model = nn.Sequential(*(m for pair in zip(norms, acts, strict=True) for m in pair))
    report = unchanged(model, torch.randn(X), training)
    assert len(report.changed) == 5 and not report.skipped and report.model is model
    assert [m.activation for m in model[::2]] == ["relu", "silu", "gelu", "gelu_tanh", "relu"]
    assert all(type(m) is nn.Identity for m in model[1::2])
    before = count("ran")
    model(torch.randn(X))
    assert count("ran") == before + 5
    report.undo()
    assert list(model) == [m for pair in zip(norms, acts, strict=True) for m in pair]


@pytest.mark.parametrize("training", [True, False])
def test_shared_activation(training: bool) -> None:
    model = nn.Sequential(Block(), Block())
    report = unchanged(model, torch.randn(X), training)
    assert [change.path for change in report.changed] == ["0.bn1", "1.bn1"]
    assert isinstance(model[0], fx.GraphModule) and type(model[0].bn2) is nn.BatchNorm2d
    report.undo()
    assert type(model[0]) is Block and type(model[0].bn1) is nn.BatchNorm2d


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda m, x: F.relu(m.norm(x)), "relu"),
        (lambda m, x: torch.relu(m.norm(x)) + 1, "relu"),
        (lambda m, x: m.norm(x).relu(), "relu"),
        (lambda m, x: F.silu(m.norm(x), inplace=True), "silu"),
        (lambda m, x: F.gelu(m.norm(x), approximate="tanh"), "gelu_tanh"),
    ],
)
def test_functions(function: Any, name: str) -> None:
    report = unchanged(Calls(function), torch.randn(X))
    assert report.model.norm.activation == name  # type: ignore[union-attr]
    assert isinstance(report.undo(), Calls)


def _dropout(m: Any, x: Tensor) -> Tensor:
    return F.dropout(F.relu(m.norm(x)), 0.0, m.training)


def _branch(m: Any, x: Tensor) -> Tensor:
    return F.relu(m.norm(x)) if x.sum() > -1e9 else x


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda m, x: F.relu(m.norm(m.norm(x))), "several places call it"),
        (lambda m, x: [y := m.norm(x), F.relu(y) + y][1], "something else uses its result too"),
        (_dropout, "differs between training and evaluation"),
        (_branch, "torch.fx cannot trace it"),
    ],
)
def test_ambiguous_is_left(function: Any, reason: str) -> None:
    report = unchanged(Calls(function), torch.randn(X))
    assert not report.changed and reason in str(report) and type(report.model.norm) is nn.BatchNorm2d


def test_not_an_activation_that_fuses() -> None:
    report = unchanged(nn.Sequential(nn.BatchNorm2d(4), nn.Tanh(), nn.ReLU()), torch.randn(X))
    assert not report.changed and not report.skipped


def test_hooks_keep_what_they_see() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU())
    model[0].register_forward_hook(lambda *_: None)
    report = unchanged(model, torch.randn(X))
    assert [c.path for c in report.changed] == ["2"] and "it has hooks" in str(report)


class Taps(nn.Module):
    """Takes a Sequential apart, behind torch.fx's back."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: Tensor) -> list[Tensor]:
        taps = []
        if float(x.sum()) == float(x.sum()):
            for layer in self.body:
                x = layer(x)
                taps.append(x.clone())
        return taps


def test_an_example_finds_what_tracing_cannot() -> None:
    model = Taps()
    with pytest.raises(RuntimeError, match="computes something else, so nothing was fused"):
        norma.torch.fuse(model, torch.randn(X))
    assert type(model.body[0]) is nn.BatchNorm2d and type(model.body[1]) is nn.ReLU
