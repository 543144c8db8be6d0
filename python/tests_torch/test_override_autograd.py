"""Derivatives under the override: first, second and third, forward mode, and function transforms."""

import norma.torch
import pytest
import torch
from layers import CALLS, image, kernel_of, params_of
from torch import Tensor
from torch.autograd import forward_ad, grad, gradcheck, gradgradcheck
from torch.func import functional_call, grad_and_value, jacrev, jvp, vjp, vmap


def small(name: str) -> tuple[Tensor, Tensor, Tensor]:
    x = image(torch.float64)[:2, :, :2, :].clone()
    return tuple(t.requires_grad_() for t in (x, *params_of(name, torch.float64)))  # type: ignore[return-value]


def without_unused_bias(name: str, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0], inputs[1], inputs[2].detach()) if name == "rms_norm" else inputs


@pytest.mark.parametrize("name", list(CALLS))
def test_first_and_second_derivatives(name: str) -> None:
    inputs = without_unused_bias(name, small(name))
    with norma.torch.enabled():
        assert gradcheck(CALLS[name], inputs, check_forward_ad=True, check_batched_grad=True, fast_mode=True)
        assert gradgradcheck(CALLS[name], inputs, check_batched_grad=True, fast_mode=True)
    ran = norma.torch.calls()
    assert ran[kernel_of(name)] > 0
    assert ran[kernel_of(name) + "_backward"] > 0


@pytest.mark.parametrize("which", [(True, False, False), (False, True, False), (False, False, True)])
@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "layer_norm"])
def test_second_derivatives_by_one_of_the_inputs(name: str, which: tuple[bool, ...]) -> None:
    inputs = tuple(t.detach().requires_grad_(wanted) for t, wanted in zip(small(name), which, strict=True))
    with norma.torch.enabled():
        assert gradcheck(CALLS[name], inputs, fast_mode=True)
        assert gradgradcheck(CALLS[name], inputs, fast_mode=True)


@pytest.mark.parametrize("name", list(CALLS))
def test_third_derivative_is_that_of_pytorch(name: str) -> None:
    def third() -> Tensor:
        x, weight, bias = small(name)
        value = (CALLS[name](x, weight, bias) ** 3).sum()
        for _ in range(2):
            value = (grad(value, x, create_graph=True)[0] ** 2).sum()
        return grad(value, weight)[0]

    plain = third()
    with norma.torch.enabled():
        torch.testing.assert_close(third(), plain, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", list(CALLS))
def test_forward_mode(name: str) -> None:
    x, weight, bias = (t.detach() for t in small(name))
    tangent = torch.randn_like(x)

    def directional() -> Tensor:
        with forward_ad.dual_level():
            y = CALLS[name](forward_ad.make_dual(x, tangent), weight, bias)
            along: Tensor = forward_ad.unpack_dual(y).tangent
            return along

    plain = directional()
    with norma.torch.enabled():
        torch.testing.assert_close(directional(), plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", list(CALLS))
def test_function_transforms(name: str) -> None:
    """vmap, grad, vjp, jvp and jacrev give what they give without the override."""
    x, weight, bias = (t.detach() for t in small(name))
    many = torch.stack([x, 2 * x, x + 1])

    def call(x: Tensor) -> Tensor:
        return CALLS[name](x, weight, bias)

    def loss(x: Tensor) -> Tensor:
        return (call(x) ** 3).sum()

    def results() -> list[Tensor]:
        out = [vmap(call)(many), vmap(torch.func.grad(loss))(many), *grad_and_value(loss)(x)]
        out += [*vjp(call, x)[1](x), *jvp(call, (x,), (x,)), jacrev(loss)(x)]
        return out

    plain = results()
    with norma.torch.enabled():
        for ours, theirs in zip(results(), plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_functional_call_of_a_module() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.GroupNorm(2, 8), torch.nn.LayerNorm(4)).double()
    x = torch.randn(5, 3, 6, 6, dtype=torch.float64)
    params: dict[str, Tensor] = dict(model.named_parameters())

    def loss(params: dict[str, Tensor], x: Tensor) -> Tensor:
        value: Tensor = functional_call(model, params, (x.unsqueeze(0),)).square().sum()
        return value

    per_sample = vmap(torch.func.grad(loss), in_dims=(None, 0))
    plain = per_sample(params, x)
    with norma.torch.enabled():
        ours = per_sample(params, x)
    for name in plain:
        torch.testing.assert_close(ours[name], plain[name], rtol=1e-9, atol=1e-9)
    ran = norma.torch.calls()
    assert ran["group_norm"] > 0 and ran["layer_norm"] > 0


def test_checkpoint_recomputes_the_same_bits() -> None:
    from torch.utils.checkpoint import checkpoint

    norm = torch.nn.GroupNorm(2, 8)
    x = image(torch.float32, 1e3).requires_grad_()
    with norma.torch.enabled():
        plain = grad(norm(x).square().sum(), x)[0]
        recomputed = grad(checkpoint(norm, x, use_reentrant=False).square().sum(), x)[0]
    assert torch.equal(plain, recomputed)


def test_backward_twice_says_what_pytorch_says() -> None:
    x = image(torch.float32).requires_grad_()
    with norma.torch.enabled():
        loss = CALLS["layer_norm"](x, None, None).square().sum()
        loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()


def test_changed_input_is_noticed() -> None:
    x = image(torch.float32)
    leaf = x.clone().requires_grad_()
    with norma.torch.enabled():
        between = leaf * 1
        y = CALLS["batch_norm"](between, None, None)
        with torch.no_grad():
            between.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()
