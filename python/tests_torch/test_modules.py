"""What Norma's classes have beyond torch.nn's: activations, statistics that count once, freeze, nonfinite=."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import norma.torch
import pytest
import torch
from support import count
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

ACTIVATIONS = {
    "relu": torch.relu,
    "silu": nn.functional.silu,
    "gelu": nn.functional.gelu,
    "gelu_tanh": lambda y: nn.functional.gelu(y, approximate="tanh"),
}
IMAGES = (4, 6, 5, 5)
CLASSES: dict[str, Any] = {
    "BatchNorm2d": (6,),
    "InstanceNorm2d": (6,),
    "GroupNorm": (3, 6),
    "LayerNorm": ((5, 5),),
    "RMSNorm": (5,),
}


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("name", list(CLASSES))
def test_activation(name: str, activation: str) -> None:
    """Output and gradients of the norm and the activation after it, without enable()."""
    ours = getattr(norma.torch, name)(*CLASSES[name], activation=activation).double()
    theirs = getattr(nn, name)(*CLASSES[name]).double()
    x = torch.randn(IMAGES, dtype=torch.float64, requires_grad=True)
    before = count("ran")
    y, wanted = ours(x), ACTIVATIONS[activation](theirs(x))
    assert count("ran") == before + 1
    dy = torch.randn_like(y)
    torch.testing.assert_close(y, wanted)
    for a, b in zip(
        torch.autograd.grad(y, [x, *ours.parameters()], dy),
        torch.autograd.grad(wanted, [x, *theirs.parameters()], dy),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", list(CLASSES))
def test_unknown_activation(name: str) -> None:
    with pytest.raises(ValueError, match="activation is 'tanh', must be None or one of 'relu'"):
        getattr(norma.torch, name)(*CLASSES[name], activation="tanh")


@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_channels_first(kind: str, form: torch.memory_format) -> None:
    """The last dimension of the moved tensor, in the memory format of the input."""
    ours, theirs = getattr(norma.torch, kind)(6, channels_first=True), getattr(nn, kind)(6)
    with torch.no_grad():
        for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(parameter.copy_(torch.randn(6)))
    x = torch.randn(IMAGES).contiguous(memory_format=form)
    y = ours(x)
    torch.testing.assert_close(y, theirs(x.movedim(1, -1)).movedim(-1, 1))
    assert y.is_contiguous(memory_format=form)
    with pytest.raises(ValueError, match="normalized_shape is the number of channels"):
        getattr(norma.torch, kind)((6, 5), channels_first=True)


def test_weight_plus_one() -> None:
    layer = norma.torch.RMSNorm(5, weight_plus_one=True)
    assert not layer.weight.any()
    x = torch.randn(3, 5)
    torch.testing.assert_close(layer(x), nn.functional.rms_norm(x, (5,)))
    layer(x)[0, 0].backward()
    assert layer.weight.grad is not None and layer.weight.grad[0] != 0


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("options", [{}, {"biased_running_var": True, "nonfinite": "refuse"}])
def test_checkpoint_counts_once(options: dict[str, Any], momentum: float | None, reentrant: bool) -> None:
    plain = norma.torch.BatchNorm2d(6, momentum=momentum, **options)
    repeated = copy.deepcopy(plain)
    theirs = nn.BatchNorm2d(6, momentum=momentum)
    for _ in range(3):
        x = torch.randn(IMAGES, requires_grad=True)
        gradient = torch.autograd.grad(plain(x).square().sum(), plain.weight)[0]
        repeated.zero_grad()
        checkpoint(lambda v: repeated(v).square(), x, use_reentrant=reentrant).sum().backward()
        torch.testing.assert_close(repeated.weight.grad, gradient, rtol=0, atol=0)
        checkpoint(theirs, x, use_reentrant=reentrant).sum().backward()
    assert plain.num_batches_tracked == repeated.num_batches_tracked == 3
    assert torch.equal(plain.running_mean, repeated.running_mean)
    assert torch.equal(plain.running_var, repeated.running_var)
    # What this is a cure for.
    assert theirs.num_batches_tracked == 6


@pytest.mark.parametrize("reentrant", [True, False])
def test_nested_checkpoint_counts_once(reentrant: bool) -> None:
    net = nn.Sequential(nn.Conv2d(6, 6, 1), norma.torch.BatchNorm2d(6), norma.torch.InstanceNorm2d(6), nn.Tanh())
    net[2] = norma.torch.InstanceNorm2d(6, track_running_stats=True)
    expected = copy.deepcopy(net)
    x = torch.randn(IMAGES, requires_grad=True)
    expected(x)

    def inner(v: torch.Tensor) -> Any:
        return checkpoint_sequential(net, 2, v, use_reentrant=reentrant)

    checkpoint(inner, x, use_reentrant=reentrant).sum().backward()
    for (name, a), b in zip(net.named_buffers(), expected.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_freeze() -> None:
    net = nn.Sequential(nn.Conv2d(6, 6, 1), norma.torch.BatchNorm2d(6))
    net(torch.randn(IMAGES))
    mean = net[1].freeze().running_mean.clone()
    again = pickle.loads(pickle.dumps(net)).train()
    for model in (net, again):
        model.train()
        assert not model[1].training and model[0].training
        model(torch.randn(IMAGES))
        assert torch.equal(model[1].running_mean, mean)
    net[1].unfreeze()
    net.train()(torch.randn(IMAGES))
    assert not torch.equal(net[1].running_mean, mean)
    with pytest.raises(ValueError, match="no running statistics to freeze"):
        norma.torch.BatchNorm2d(6, track_running_stats=False).freeze()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["BatchNorm2d", "InstanceNorm2d"])
def test_refuse_nonfinite(kind: str, bad: float) -> None:
    layer = getattr(norma.torch, kind)(6, track_running_stats=True, nonfinite="refuse")
    layer(torch.randn(IMAGES))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = torch.randn(IMAGES)
    x[2, 4, 1, 1] = bad
    with pytest.raises(ValueError, match="channel 4"):
        layer(x)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name
    layer.eval()(x)


@pytest.mark.parametrize("kind", ["BatchNorm1d", "InstanceNorm1d"])
def test_biased_running_var(kind: str) -> None:
    layer = getattr(norma.torch, kind)(3, momentum=1.0, track_running_stats=True, biased_running_var=True)
    x = torch.randn(4, 3, 5)
    layer(x)
    dims = (0, 2) if kind == "BatchNorm1d" else 2
    wanted = x.double().var(dims, correction=0)
    torch.testing.assert_close(layer.running_var, (wanted if kind == "BatchNorm1d" else wanted.mean(0)).float())


def test_cumulative_average_ignores_empty_batches() -> None:
    layer = norma.torch.BatchNorm1d(3, momentum=None)
    batches = [torch.randn(6, 3), torch.randn(0, 3), torch.randn(6, 3)]
    for x in batches:
        layer(x)
    assert layer.num_batches_tracked == 2
    torch.testing.assert_close(layer.running_mean, torch.stack([x.mean(0) for x in batches[::2]]).mean(0))


@pytest.mark.parametrize("family", ["BatchNorm", "InstanceNorm"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_lazy(family: str, size: int) -> None:
    layer = getattr(norma.torch, f"Lazy{family}{size}d")(activation="relu", nonfinite="refuse")
    y = layer(torch.randn(2, 7, *[4] * size))
    assert type(layer) is getattr(norma.torch, f"{family}{size}d")
    assert layer.num_features == 7 and layer.activation == "relu" and layer.nonfinite == "refuse" and y.min() == 0


def test_state_and_repr_are_those_of_torch() -> None:
    for name, arguments in CLASSES.items():
        ours, theirs = getattr(norma.torch, name)(*arguments), getattr(nn, name)(*arguments)
        assert repr(ours) == repr(theirs) and isinstance(ours, type(theirs))
        assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("name", list(CLASSES))
def test_compiled(name: str) -> None:
    """Compiled without a graph break, and Norma's kernels run."""
    layer = getattr(norma.torch, name)(*CLASSES[name], activation="silu")
    x = torch.randn(IMAGES)
    wanted = copy.deepcopy(layer)(x)
    before = count("ran")
    y = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
    assert count("ran") > before
    torch.testing.assert_close(y, wanted)
