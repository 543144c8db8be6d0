"""convert_sync_batchnorm: what becomes a SyncBatchNorm, what is kept, and what is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import norma.torch
import pytest
import torch
from torch import nn


class OwnForward(nn.BatchNorm2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).relu()


class OwnName(nn.BatchNorm2d):
    pass


def block() -> nn.Module:
    shared = nn.BatchNorm1d(4)
    return nn.ModuleDict(
        {
            "a": nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=None)),
            "b": norma.torch.BatchNorm3d(4, activation="relu", biased_running_var=True, affine=False),
            "c": nn.SyncBatchNorm(4, bias=False),
            "d": OwnName(4, track_running_stats=False),
            "one": shared,
            "two": nn.Sequential(shared),
            "other": nn.InstanceNorm2d(4),
        }
    )


def test_layers_and_what_they_keep() -> None:
    model = block()
    model.get_submodule("a.1").eval()
    before: dict[str, Any] = dict(model.named_modules())
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    result = norma.torch.convert_sync_batchnorm(model, merge="rank", equal_shards=True, timeout=9.0)
    assert result is model
    converted = {n: m for n, m in model.named_modules() if isinstance(m, norma.torch.SyncBatchNorm)}
    assert list(converted) == ["a.1", "b", "c", "d", "one"]
    for name, layer in converted.items():
        old = before[name]
        assert (layer.layer_name, layer.merge, layer.equal_shards, layer.timeout) == (name, "rank", True, 9.0)
        for key in ("num_features", "eps", "momentum", "affine", "track_running_stats", "training"):
            assert getattr(layer, key) == getattr(old, key), (name, key)
    assert not converted["a.1"].training and converted["c"].bias is None and converted["d"].running_mean is None
    assert converted["b"].activation == "relu" and converted["b"].biased_running_var
    assert model.get_submodule("two.0") is converted["one"]
    for now, then in ((dict(model.named_parameters()), parameters), (dict(model.named_buffers()), buffers)):
        assert now.keys() == then.keys() and all(now[name] is then[name] for name in now)
    assert isinstance(model.get_submodule("other"), nn.InstanceNorm2d)


def test_a_model_that_is_a_norm() -> None:
    old = nn.BatchNorm2d(3)
    new = norma.torch.convert_sync_batchnorm(old)
    assert isinstance(new, norma.torch.SyncBatchNorm) and new.weight is old.weight
    again: Any = norma.torch.convert_sync_batchnorm(new)
    assert again is not new and again.running_var is old.running_var


def test_the_group_is_kept() -> None:
    """A stand-in: a group is only looked at when there is something to exchange."""
    group: Any = object()
    model: Any = nn.Sequential(nn.SyncBatchNorm(3, process_group=group), nn.BatchNorm1d(3))
    norma.torch.convert_sync_batchnorm(model)
    assert model[0].process_group is group and model[1].process_group is None


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (OwnForward(3), "0.1 is a OwnForward, which has a forward of its own"),
        (norma.torch.BatchNorm2d(3, ghost=2), "0.1 is a BatchNorm2d with ghost=2, whose statistics are those of sub"),
        (nn.LazyBatchNorm2d(), "0.1 is a LazyBatchNorm2d that does not know its number of channels yet"),
    ],
)
def test_what_is_refused(layer: nn.Module, text: str) -> None:
    model = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3), layer))
    with pytest.raises(ValueError, match=text):
        norma.torch.convert_sync_batchnorm(model)
    assert type(model.get_submodule("0.0")) is nn.BatchNorm2d


def test_alone_it_is_batch_norm() -> None:
    """Without a process group: the bits of BatchNorm2d, in training and evaluation, and its state_dict."""
    torch.manual_seed(1)
    x = torch.randn(4, 3, 5, 5)
    one: Any = norma.torch.BatchNorm2d(3, activation="relu")
    many: Any = norma.torch.convert_sync_batchnorm(copy.deepcopy(one))
    for layer in (one, many):
        layer(x)
        layer.eval()
    assert torch.equal(one(x), many(x))
    assert one.state_dict().keys() == many.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), many.buffers(), strict=True))


def test_copies_and_pickles() -> None:
    layer = norma.torch.SyncBatchNorm(3, merge="rank", timeout=2.0, layer_name="n")
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(copied) == repr(layer) and copied.layer_name == "n"
    assert repr(layer) == (
        "SyncBatchNorm(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True, merge='rank', "
        "timeout=2.0)"
    )


def test_the_others_leave_torch_sync_batch_norm_alone() -> None:
    """adopt and fuse keep classes to their devices; convert_sync_batchnorm is the way."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SyncBatchNorm(4), nn.ReLU())
    assert norma.torch.adopt(model).changed == [] and norma.torch.fuse(model).changed == []
    assert type(model[1]) is nn.SyncBatchNorm


def test_fuse_takes_ours() -> None:
    model = norma.torch.convert_sync_batchnorm(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    assert len(norma.torch.fuse(model).changed) == 1
    fused: Any = model.get_submodule("1")
    assert isinstance(fused, norma.torch.SyncBatchNorm) and fused.activation == "relu" and fused.layer_name == "1"
