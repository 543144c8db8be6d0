"""Switching the override on and off, and what is left to PyTorch's own kernels."""

from collections.abc import Callable

import norma.torch
import pytest
import torch
import torch.nn.functional as F
from layers import CALLS, image, kernel_of, params_of
from torch import Tensor


def test_disable_restores_every_bit() -> None:
    x = image(torch.float32, 100)
    before = {name: call(x, *params_of(name, torch.float32)) for name, call in CALLS.items()}
    norma.torch.enable()
    during = {name: call(x, *params_of(name, torch.float32)) for name, call in CALLS.items()}
    norma.torch.disable()
    ran = norma.torch.calls()
    for name, call in CALLS.items():
        assert torch.equal(call(x, *params_of(name, torch.float32)), before[name])
        assert not torch.equal(during[name], before[name])
        assert ran[kernel_of(name)] > 0
    assert norma.torch.calls() == ran


def test_enable_and_disable_twice() -> None:
    x = image(torch.float32)
    norma.torch.enable()
    norma.torch.enable()
    assert norma.torch.is_enabled()
    F.layer_norm(x, (6,))
    assert norma.torch.calls()["layer_norm"] == 1
    norma.torch.disable()
    norma.torch.disable()
    assert not norma.torch.is_enabled()
    F.layer_norm(x, (6,))
    assert norma.torch.calls()["layer_norm"] == 1


def test_enabled_leaves_things_as_they_were() -> None:
    with norma.torch.enabled():
        with norma.torch.enabled():
            assert norma.torch.is_enabled()
        assert norma.torch.is_enabled()
    assert not norma.torch.is_enabled()
    with pytest.raises(KeyError), norma.torch.enabled():
        raise KeyError
    assert not norma.torch.is_enabled()


def test_reset_of_calls() -> None:
    with norma.torch.enabled():
        F.layer_norm(image(torch.float32), (6,))
    assert norma.torch.calls(reset=True)["layer_norm"] == 1
    assert not any(norma.torch.calls().values())


def test_a_graph_outlives_the_override() -> None:
    x = image(torch.float32).requires_grad_()
    with norma.torch.enabled():
        y = F.layer_norm(x, (6,))
    y.sum().backward()
    assert norma.torch.calls()["layer_norm_backward"] == 1


COMPLEX = torch.randn(3, 8, 5, 6, dtype=torch.complex64)
X = image(torch.float32)
ONES, ZEROS = torch.ones(8), torch.zeros(8)
PASSED: dict[str, tuple[str, Callable[[], Tensor]]] = {
    "negative eps": ("layer_norm", lambda: F.layer_norm(X, (6,), eps=-0.5)),
    "negative eps, group": ("group_norm", lambda: F.group_norm(X, 2, eps=-0.5)),
    "negative eps, instance": ("instance_norm", lambda: F.instance_norm(X, eps=-0.5)),
    "negative eps, rms": ("rms_norm", lambda: F.rms_norm(X, (6,), eps=-0.5)),
    "nan eps": ("layer_norm", lambda: F.layer_norm(X, (6,), eps=float("nan"))),
    "momentum above 1": ("batch_norm", lambda: F.batch_norm(X, ZEROS.clone(), ONES.clone(), None, None, True, 1.5)),
    "momentum below 0": ("batch_norm", lambda: F.batch_norm(X, ZEROS.clone(), ONES.clone(), None, None, True, -1.2)),
    "negative variance": ("batch_norm", lambda: F.batch_norm(X, ZEROS, -ONES)),
    "complex": ("rms_norm", lambda: F.rms_norm(COMPLEX, (6,)).abs()),
    "no channels": ("batch_norm", lambda: F.batch_norm(X[:, :0], None, None, training=True)),
    "nine dimensions": ("layer_norm", lambda: F.layer_norm(X.reshape(3, 2, 2, 2, 1, 1, 1, 5, 6), (6,))),
    "one value, running": (
        "batch_norm",
        lambda: torch.batch_norm(X[:1, :, 0, 0], None, None, ZEROS.clone(), ONES.clone(), True, 0.1, 1e-5, False),
    ),
}


@pytest.mark.parametrize("case", list(PASSED))
def test_passed_through(case: str) -> None:
    """What the core refuses has PyTorch's result, bit for bit, and is counted once."""
    kernel, call = PASSED[case]
    plain = call()
    with norma.torch.enabled():
        ours = call()
    assert torch.equal(ours.nan_to_num(7), plain.nan_to_num(7))
    assert {key: n for key, n in norma.torch.calls().items() if n} == {kernel + "_passed_through": 1}


def test_momentum_outside_moves_the_statistics_of_pytorch() -> None:
    ours, theirs = (torch.nn.BatchNorm2d(8, momentum=1.5) for _ in range(2))
    theirs(X)
    with norma.torch.enabled():
        ours(X)
    assert torch.equal(ours.running_mean, theirs.running_mean)  # type: ignore[arg-type]
    assert torch.equal(ours.running_var, theirs.running_var)  # type: ignore[arg-type]


def test_momentum_0_leaves_the_statistics() -> None:
    norm = torch.nn.BatchNorm2d(8, momentum=0.0)
    with norma.torch.enabled():
        norm(X)
    assert norm.running_mean is not None and (norm.running_mean == 0).all()
    assert norma.torch.calls()["batch_norm"] == 1


def test_a_negative_running_variance_in_training() -> None:
    """PyTorch averages it; so do we, and y comes from the batch."""
    ours, theirs = (torch.nn.BatchNorm2d(8) for _ in range(2))
    for norm in (ours, theirs):
        assert norm.running_var is not None
        norm.running_var.fill_(-1)
    plain = theirs(X)
    with norma.torch.enabled():
        torch.testing.assert_close(ours(X), plain)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_gradients_with_a_negative_variance() -> None:
    var = torch.tensor([1, -1, 1, 1, 1, 1, 1, 1.0])

    def gradients() -> tuple[Tensor, ...]:
        leaves = [t.clone().requires_grad_() for t in (X, ONES, ZEROS)]
        return torch.autograd.grad(F.batch_norm(leaves[0], ZEROS, var, leaves[1], leaves[2]).sum(), leaves)

    plain = gradients()
    with norma.torch.enabled():
        for ours, theirs in zip(gradients(), plain, strict=True):
            torch.testing.assert_close(ours, theirs, equal_nan=True)


ERRORS: dict[str, Callable[[], Tensor]] = {
    "group count": lambda: F.group_norm(X, 3),
    "groups 0": lambda: F.group_norm(X, 0),
    "normalized_shape": lambda: F.layer_norm(X, (5,)),
    "empty normalized_shape": lambda: F.layer_norm(X, ()),
    "weight of another shape": lambda: F.layer_norm(X, (6,), torch.ones(1, 6)),
    "rms weight": lambda: F.rms_norm(X, (6,), torch.ones(5)),
    "weight of another length": lambda: F.batch_norm(X, None, None, torch.ones(7), None, True),
    "running_mean of another length": lambda: F.batch_norm(X, torch.zeros(7), ONES),
    "running_mean alone": lambda: F.batch_norm(X, ZEROS.clone(), None, training=True),
    "no running_var": lambda: F.batch_norm(X, ZEROS, None),
    "one value": lambda: F.batch_norm(X[:1, :, :1, :1], None, None, training=True),
    "integers": lambda: F.layer_norm(X.long(), (6,)),
    "float64 weight": lambda: F.layer_norm(X, (6,), torch.ones(6).double()),
    "1-D": lambda: torch.instance_norm(X[:, 0, 0, 0], None, None, None, None, True, 0.1, 1e-5, False),
}


@pytest.mark.parametrize("case", list(ERRORS))
def test_errors_are_those_of_pytorch(case: str) -> None:
    with pytest.raises(Exception) as plain:
        ERRORS[case]()
    with norma.torch.enabled(), pytest.raises(type(plain.value)) as ours:
        ERRORS[case]()
    assert str(ours.value) == str(plain.value)
