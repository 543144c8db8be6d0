"""Where Norma differs from PyTorch on purpose: the table of docs/python-torch.md, line by line."""

import norma.torch
import pytest
import torch
import torch.nn.functional as F
from layers import CALLS, params_of
from torch import Tensor


@pytest.fixture(autouse=True)
def override(as_it_was: None) -> None:
    norma.torch.enable()


def test_variance_0_with_eps_0() -> None:
    x = torch.full((2, 4, 3), 3.0, requires_grad=True)
    bias = torch.arange(4.0)
    for y, exact in (
        (F.layer_norm(x, (3,), eps=0), 0),
        (F.rms_norm(0 * x, (3,), eps=0), 0),
        (F.group_norm(x, 2, None, bias, eps=0), bias[:, None]),
    ):
        assert torch.equal(y, torch.zeros_like(y) + exact)
        (dx,) = torch.autograd.grad(y.square().sum(), x)
        assert (dx == 0).all()


@pytest.mark.parametrize("name", ["batch_norm", "instance_norm", "group_norm", "layer_norm"])
def test_a_constant_unit(name: str) -> None:
    weight, bias = (t.requires_grad_() for t in params_of(name, torch.float32))
    x = torch.full((3, 8, 5, 6), -3.3e9)
    y = CALLS[name](x, weight, bias)
    along = bias if name == "layer_norm" else bias[:, None, None]
    assert torch.equal(y, along.expand_as(y))
    assert (torch.autograd.grad(y.square().sum(), weight)[0] == 0).all()


def test_a_unit_of_one_element() -> None:
    weight, bias = torch.tensor([2.0], requires_grad=True), torch.tensor([0.5])
    y = F.layer_norm(torch.randn(5, 1), (1,), weight, bias)
    assert (y == 0.5).all()
    assert torch.autograd.grad(y.sum(), weight)[0] == 0


def test_momentum_0() -> None:
    mean, var = torch.zeros(2), torch.ones(2)
    F.batch_norm(torch.tensor([[float("inf"), 1], [2, 3]]), mean, var, training=True, momentum=0.0)
    assert (mean == 0).all() and (var == 1).all()


@pytest.mark.parametrize("name", list(CALLS.keys() - {"evaluation"}))
def test_large_numbers(name: str) -> None:
    x = torch.randn(3, 8, 5, 6)
    weight, bias = params_of(name, torch.float32)
    exact = CALLS[name]((x * 1e30).double(), weight.double(), bias.double())
    torch.testing.assert_close(CALLS[name](x * 1e30, weight, bias).double(), exact, rtol=1e-6, atol=2e-6)


def test_group_norm_with_a_bias_alone() -> None:
    bias = torch.zeros(4, requires_grad=True)
    F.group_norm(torch.randn(2, 4, 3), 2, None, bias).sum().backward()
    assert torch.equal(bias.grad, torch.full((4,), 6.0))


def test_statistics_of_bfloat16_modules() -> None:
    x = (torch.randn(64, 8) + 300).bfloat16()
    y: Tensor = torch.nn.BatchNorm1d(8).bfloat16()(x)
    exact = F.batch_norm(x.double(), None, None, training=True)
    assert ((y - exact).abs() <= 2.0**-8 * exact.abs() + 1e-6).all()
