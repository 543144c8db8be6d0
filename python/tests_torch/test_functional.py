"""norma.torch.functional: the layers without the override, and with an activation."""

from collections.abc import Callable

import norma.torch
import pytest
import torch
import torch.nn.functional as F
from layers import GROUPS, image, params_of
from norma.torch import functional as NF
from norma.torch._layers import ACTIVATIONS
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck

Call = Callable[..., Tensor]
STATISTICS = {
    t: (torch.linspace(-1, 1, 8).to(t), torch.linspace(0.5, 2, 8).to(t)) for t in (torch.float32, torch.float64)
}
LAYERS: dict[str, Call] = {
    "batch_norm": lambda m, x, w, b, **kw: m.batch_norm(x, None, None, w, b, True, **kw),
    "evaluation": lambda m, x, w, b, **kw: m.batch_norm(x, *STATISTICS[w.dtype], w, b, **kw),
    "instance_norm": lambda m, x, w, b, **kw: m.instance_norm(x, None, None, w, b, **kw),
    "group_norm": lambda m, x, w, b, **kw: m.group_norm(x, GROUPS, w, b, **kw),
    "layer_norm": lambda m, x, w, b, **kw: m.layer_norm(x, x.shape[-1:], w, b, **kw),
    "rms_norm": lambda m, x, w, b, **kw: m.rms_norm(x, x.shape[-1:], w, **kw),
}
ACTS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda z: z,
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
}
PAIRS = [(name, activation) for name in LAYERS for activation in ACTS]


def test_activations_are_all_there() -> None:
    assert list(ACTS) == list(ACTIVATIONS)


def results(call: Callable[..., Tensor], inputs: tuple[Tensor, ...], dy: Tensor) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = call(*leaves)
    y.backward(dy)
    return [y, *(t.grad for t in leaves if t.grad is not None)]


@pytest.mark.parametrize("mean", [0, 1e4])
@pytest.mark.parametrize(("name", "activation"), PAIRS)
def test_values_and_gradients(name: str, activation: str | None, mean: float) -> None:
    if name == "evaluation" and mean:
        mean = 2
    x, dy = image(torch.float32, mean).to(memory_format=torch.channels_last), image(torch.float32, seed=2)
    params = params_of(name, torch.float32)
    ours = results(lambda *a: LAYERS[name](NF, *a, activation=activation), (x, *params), dy)
    exact = results(
        lambda *a: ACTS[activation](LAYERS[name](F, *a)), tuple(t.double() for t in (x, *params)), dy.double()
    )
    assert len(ours) == len(exact)
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=1e-6, atol=2e-6)
    for a, b in zip(ours[1:], exact[1:], strict=True):
        assert (a.double() - b).abs().max() <= 1e-5 * b.abs().max() + 1e-5
    kernel = "batch_norm" if name == "evaluation" else name
    assert norma.torch.calls()[kernel] == norma.torch.calls()[kernel + "_backward"] == 1


@pytest.mark.parametrize("activation", [a for a in ACTS if a != "relu"])
@pytest.mark.parametrize("name", list(LAYERS))
def test_derivatives(name: str, activation: str | None) -> None:
    x = image(torch.float64)[:2, :, :2].clone().requires_grad_()
    weight, bias = params_of(name, torch.float64)
    inputs = (x, weight.requires_grad_(), bias.requires_grad_(name != "rms_norm"))

    def call(*leaves: Tensor) -> Tensor:
        return LAYERS[name](NF, *leaves, activation=activation)

    assert gradcheck(call, inputs, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(call, inputs, fast_mode=True)


def test_forward_mode_moves_running_statistics() -> None:
    mean, var = torch.zeros(8), torch.ones(8)
    x = image(torch.float32, 5)
    with forward_ad.dual_level():
        NF.batch_norm(forward_ad.make_dual(x, torch.ones_like(x)), mean, var, training=True)
    torch.testing.assert_close(mean, 0.1 * x.mean((0, 2, 3)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_channels_first_layer_norm(layout: torch.memory_format) -> None:
    x = image(torch.float32, 1e3).to(memory_format=layout)
    weight, bias = params_of("batch_norm", torch.float32)
    y = NF.layer_norm(x, (8,), weight, bias, channels_first=True)
    wide = F.layer_norm(x.double().movedim(1, -1), (8,), weight.double(), bias.double()).movedim(-1, 1)
    assert y.is_contiguous(memory_format=layout)
    torch.testing.assert_close(y.double(), wide, rtol=1e-6, atol=2e-6)
    double = x.double().requires_grad_()
    assert gradcheck(lambda x: NF.layer_norm(x, (8,), channels_first=True), (double[:1],), fast_mode=True)
    assert gradgradcheck(lambda x: NF.layer_norm(x, (8,), channels_first=True), (double[:1],), fast_mode=True)


def test_instance_norm_keeps_channels_last() -> None:
    x = image(torch.float32).to(memory_format=torch.channels_last).requires_grad_()
    for stats in (True, False):
        y = NF.instance_norm(x, torch.zeros(8), torch.ones(8), None, None, stats)
        y.sum().backward()
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert x.grad is not None and x.grad.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(y, F.instance_norm(x, torch.zeros(8), torch.ones(8), None, None, stats))


@pytest.mark.parametrize("norm", [NF.batch_norm, NF.instance_norm])
def test_biased_variance(norm: Call) -> None:
    x = image(torch.float32)
    for momentum in (0.25, 1.0):
        mean, var = torch.zeros(8), torch.ones(8)
        norm(x, mean, var, None, None, True, momentum, biased=True)
        exact = x.double().var((0, 2, 3) if norm is NF.batch_norm else (2, 3), correction=0)
        exact = exact if norm is NF.batch_norm else exact.mean(0)
        torch.testing.assert_close(var.double(), (1 - momentum) + momentum * exact, rtol=1e-6, atol=0)


def test_nonfinite() -> None:
    x = image(torch.float32)
    x[0, 3, 0, 0] = float("inf")
    mean, var = torch.zeros(8), torch.ones(8)
    with pytest.raises(ValueError, match="channel 3"):
        NF.batch_norm(x, mean, var, training=True, nonfinite="refuse")
    assert (mean == 0).all() and (var == 1).all()
    with pytest.warns(RuntimeWarning, match="^channel 3 has mean nan .*; such channels keep their running statistics"):
        NF.batch_norm(x, mean, var, training=True, nonfinite="skip")
    assert mean[3] == 0 and var[3] == 1 and (mean != 0).sum() == 7
    NF.batch_norm(x, mean, var, training=True)
    assert not mean[3].isfinite() and mean[2].isfinite()


X = torch.ones(2, 6)
REFUSED: dict[str, tuple[str, Callable[[], Tensor]]] = {
    "activation": ("activation is 'tanh'", lambda: NF.layer_norm(X, (6,), activation="tanh")),  # type: ignore[arg-type]
    "eps": ("eps -1", lambda: NF.layer_norm(X, (6,), eps=-1)),
    "momentum": ("momentum is 2", lambda: NF.batch_norm(torch.ones(2, 6), None, None, training=True, momentum=2)),
    "shape": ("normalized_shape", lambda: NF.layer_norm(X, (5,))),
    "channels": ("normalized_shape", lambda: NF.layer_norm(X, (5,), channels_first=True)),
    "groups": ("number 4", lambda: NF.group_norm(torch.ones(2, 6), 4)),
    "one value": ("more than 1 value", lambda: NF.batch_norm(torch.ones(1, 6), None, None, training=True)),
    "one element": ("more than 1 spatial", lambda: NF.instance_norm(torch.ones(2, 6, 1))),
    "statistics": ("running_mean and running_var", lambda: NF.batch_norm(torch.ones(2, 6), None, None)),
    "nonfinite": (
        "nonfinite is 'drop'",
        lambda: NF.batch_norm(torch.ones(2, 6), None, None, None, None, True, nonfinite="drop"),
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_refused(case: str) -> None:
    message, call = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_compiled() -> None:
    norm = torch.compile(
        lambda x, mean, var: NF.batch_norm(x, mean, var, training=True, activation="silu"),
        backend="aot_eager",
        fullgraph=True,
    )
    x = image(torch.float32).requires_grad_()
    buffers = [(torch.zeros(8), torch.ones(8)) for _ in range(2)]
    y, expected = norm(x, *buffers[0]), NF.batch_norm(x, *buffers[1], training=True, activation="silu")
    assert torch.equal(y, expected)
    assert torch.equal(buffers[0][0], buffers[1][0]) and torch.equal(buffers[0][1], buffers[1][1])
    y.sum().backward()
    assert norma.torch.calls()["batch_norm_backward"] == 1
