"""swap(): another norm in a model that exists."""

from __future__ import annotations

import copy

import norma.torch
import pytest
import torch
from norma.torch.swap import choose_groups
from torch import Tensor, nn


def convnet(channels: int = 7) -> nn.Sequential:
    head = nn.Sequential(nn.Conv2d(channels, 64, 3, stride=2), nn.SyncBatchNorm(64), nn.ReLU())
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels, eps=1e-3), nn.ReLU(), head)


X = (2, 3, 12, 12)


def test_batch_to_group_and_back() -> None:
    model, x = convnet(), torch.randn(X)
    model(x)
    state, before = copy.deepcopy(model.state_dict()), copy.deepcopy(model.eval())(x)
    weight, bias = model[1].weight, model[1].bias
    report = norma.torch.swap(model, "batch", "group", example=x)
    assert [change.path for change in report.changed] == ["1", "3.1"] and not report.skipped
    assert "1: BatchNorm2d(7, " in str(report) and "-> GroupNorm(1, 7, eps=0.001" in str(report)
    assert isinstance(model[1], norma.torch.GroupNorm) and model[1].weight is weight and model[1].bias is bias
    assert not model[1].training and model[3][1].num_groups == 32
    expected = nn.functional.group_norm(model[0](x), 1, weight, bias, 1e-3)
    torch.testing.assert_close(model[:2](x), expected)
    assert report.undo() is model and type(model[1]) is nn.BatchNorm2d
    assert torch.equal(model(x), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_example_leaves_the_model_as_it_was() -> None:
    model, x = convnet().train(), torch.randn(X)
    mean = model[1].running_mean.clone()
    report = norma.torch.swap(model, "batch", "group", example={"input": x})
    assert model[1].training
    report.undo()
    assert torch.equal(model[1].running_mean, mean) and not model[1]._forward_pre_hooks


@pytest.mark.parametrize("new", ["group", "instance", "layer"])
def test_there_and_back_for_every_kind(new: str) -> None:
    model, x = convnet(), torch.randn(X)
    norma.torch.swap(model, "batch", new, example=x)
    model(x).sum().backward()
    assert model[1].weight.grad is not None
    report = norma.torch.swap(model, new, "batch", example=x)
    assert len(report.changed) == 2 and isinstance(model[1], norma.torch.BatchNorm2d)
    assert "running statistics start at 0 and 1" in str(report)
    model(x)


def test_training_goes_on_with_the_same_optimizer() -> None:
    model, x = convnet(), torch.randn(X)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    norma.torch.swap(model, "batch", "group", example=x)
    before = model[1].weight.detach().clone()
    model(x).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[1].weight, before)


@pytest.mark.parametrize("channels", [*range(1, 70), 97, 101, 512, 768, 1009])
@pytest.mark.parametrize("space", [None, 1, 4, 49])
def test_auto_groups(channels: int, space: int | None) -> None:
    groups = choose_groups(channels, space)
    assert channels % groups == 0 and groups <= 32
    assert channels // groups >= 2 or channels == 1
    if space is not None and channels * space >= 16:
        assert channels // groups * space >= 16
    if all(channels % d for d in range(2, channels)):
        assert groups == 1


@pytest.mark.parametrize("channels", [2, 3, 7, 31, 37])
def test_any_number_of_channels_stays_alive(channels: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, channels, 1), nn.BatchNorm2d(channels))
    norma.torch.swap(model, "batch", "group", example=torch.randn(2, 3, 1, 1))
    assert model(torch.randn(5, 3, 1, 1)).std(0).min() > 0


@pytest.mark.parametrize(
    ("model", "new", "shape", "message"),
    [
        (
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)),
            "instance",
            X,
            "1: instance norm would have 1 value",
        ),
        (nn.Sequential(nn.Identity(), nn.BatchNorm1d(1)), "group", (4, 1), "1: group norm would have 1 value"),
        (nn.Sequential(nn.Identity(), nn.BatchNorm1d(1)), "layer", (4, 1), "1: layer norm would have 1 value"),
        (nn.Sequential(nn.Identity(), nn.GroupNorm(1, 3)), "batch", (1, 3), "1: batch norm would have 1 value"),
    ],
)
def test_refuses_what_would_go_dead(model: nn.Sequential, new: str, shape: tuple[int, ...], message: str) -> None:
    old = "group" if new == "batch" else "batch"
    before = list(model)
    with pytest.raises(ValueError, match=message):
        norma.torch.swap(model, old, new, example=torch.randn(shape))
    assert list(model) == before


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (("batch", "group"), {"groups": 3}, "3 groups do not divide 7 channels"),
        (("batch", "group"), {"groups": 0}, "groups is 0"),
        (("batch", "rms"), {}, "new is 'rms', must be one of batch, group"),
        (("batch", "batch"), {}, "both 'batch'"),
        (("batch", "layer"), {"groups": 2}, "layer norm has no groups"),
    ],
)
def test_bad_arguments(arguments: tuple[str, str], keywords: dict[str, int], message: str) -> None:
    model = convnet()
    with pytest.raises(ValueError, match=message):
        norma.torch.swap(model, *arguments, **keywords)  # type: ignore[arg-type]
    assert type(model[1]) is nn.BatchNorm2d


def test_group_to_batch_needs_to_know_the_dimensions() -> None:
    with pytest.raises(ValueError, match=r"which number of dimensions\? An example tells"):
        norma.torch.swap(nn.Sequential(nn.GroupNorm(2, 4)), "group", "batch")


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(4)
        self.second = self.first
        self.hooked = nn.BatchNorm2d(4)
        self.hooked.register_forward_hook(lambda *_: None)

    def forward(self, x: Tensor) -> Tensor:
        return self.hooked(self.second(self.first(x)))


class OwnBatchNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


def test_shared_modules_stay_shared_and_hooked_or_own_ones_stay() -> None:
    model = nn.Sequential(Shared(), OwnBatchNorm(4))
    report = norma.torch.swap(model, "batch", "group", example=torch.randn(2, 4, 3, 3))
    assert model[0].first is model[0].second and isinstance(model[0].first, norma.torch.GroupNorm)
    assert [(c.path, c.note) for c in report.skipped] == [
        ("0.hooked", "it has hooks"),
        ("1", "a class of its own; see adopt()"),
    ]
    report.undo()
    assert type(model[0].first) is type(model[0].second) is nn.BatchNorm2d


def test_a_model_that_is_one_norm() -> None:
    report = norma.torch.swap(nn.BatchNorm2d(4), "batch", "group")
    assert isinstance(report.model, norma.torch.GroupNorm)
    assert type(report.undo()) is nn.BatchNorm2d
