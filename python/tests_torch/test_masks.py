"""lengths= and mask= under autograd: samples as they are without padding, gradients, running statistics, modules."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from norma.torch import functional as NF
from norma.torch import modules as NM
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

LENGTHS = torch.tensor([7, 3, 0, 5, 2])
SHAPE = (5, 6, 7)  # (n, c, l); (n, t, d) for layer and RMS norm over the last dimension
VALID = torch.arange(7) < LENGTHS[:, None]
TOKENS = torch.arange(6) < torch.tensor([6, 2, 0, 5, 1])[:, None]
Call = Callable[..., Tensor]

LAYERS: dict[str, tuple[Call, Tensor, int]] = {  # the function, a mask, the size of weight
    "batch": (lambda x, w, b, **kw: NF.batch_norm(x, None, None, w, b, True, **kw), VALID, 6),
    "instance": (lambda x, w, b, **kw: NF.instance_norm(x, None, None, w, b, **kw), VALID, 6),
    "group": (lambda x, w, b, **kw: NF.group_norm(x, 2, w, b, **kw), VALID, 6),
    "channels": (lambda x, w, b, **kw: NF.layer_norm(x, (6,), w, b, channels_first=True, **kw), VALID, 6),
    "layer": (lambda x, w, b, **kw: NF.layer_norm(x, (7,), w, b, **kw), TOKENS, 7),
    "rms": (lambda x, w, b, **kw: NF.rms_norm(x, (7,), w, **kw), TOKENS, 7),
    "evaluation": (
        lambda x, w, b, **kw: NF.batch_norm(x, *(torch.linspace(i, 2, 6).to(w) for i in (-1, 1)), w, b, **kw),
        VALID,
        6,
    ),
}


def tensors(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    param = torch.float64 if dtype == torch.float64 else torch.float32
    size = LAYERS[name][2]
    x = torch.randn(SHAPE, dtype=torch.float64).to(dtype)
    weight, bias = (torch.randn(size, dtype=torch.float64).to(param) for _ in range(2))
    return x, weight, bias


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("pad", ["zero", "beta"])
@pytest.mark.parametrize("name", LAYERS)
def test_derivatives(name: str, pad: str, activation: Any) -> None:
    call, mask, _ = LAYERS[name]
    x, weight, bias = (t.requires_grad_() for t in tensors(name, torch.float64))
    if pad == "beta":  # padding is outside the function: its y is no function of bias to be differentiated
        inside = spread(mask, x)
        assert gradcheck(lambda *t: call(*t, mask=mask, pad=pad, activation=activation) * inside, (x, weight, bias))
    assert gradcheck(lambda *t: call(*t, mask=mask, activation=activation), (x, weight, bias))


def spread(mask: Tensor, x: Tensor) -> Tensor:
    """A mask of x's shape."""
    along = mask[:, None] if mask.shape[1] == x.shape[2] else mask[..., None]
    return along.expand(x.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LAYERS)
def test_padding_counts_nowhere(name: str, dtype: torch.dtype) -> None:
    call, mask, _ = LAYERS[name]
    results = []
    for poison in (0.0, float("nan"), float("inf")):
        torch.manual_seed(3)
        x, weight, bias = tensors(name, dtype)
        dy = torch.randn(SHAPE).to(dtype).masked_fill(~spread(mask, x), poison)
        leaves = [t.requires_grad_() for t in (x.masked_fill(~spread(mask, x), poison), weight, bias)]
        y = call(*leaves, mask=mask)
        y.backward(dy)
        results.append([y.detach(), *(t.grad for t in leaves if t.grad is not None)])
        assert (y[~spread(mask, x)] == 0).all() and (leaves[0].grad[~spread(mask, x)] == 0).all()
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("name", ["instance", "group", "channels"])
def test_every_sample_has_the_bits_of_itself_alone(name: str) -> None:
    call, _, _ = LAYERS[name]
    x, weight, bias = tensors(name, torch.float32)
    dy = torch.randn(SHAPE)
    x.requires_grad_()
    y = call(x, weight, bias, lengths=LENGTHS)
    y.backward(dy)
    assert x.grad is not None
    for i, length in enumerate(LENGTHS.tolist()):
        cut = x.detach()[i : i + 1, :, :length].clone().requires_grad_()
        if length == 0:
            continue
        alone = call(cut, weight, bias)
        alone.backward(dy[i : i + 1, :, :length])
        assert torch.equal(y[i : i + 1, :, :length], alone) and torch.equal(x.grad[i : i + 1, :, :length], cut.grad)
    assert torch.equal(call(x, weight, bias, mask=VALID), y)
    assert torch.equal(call(x, weight, bias, lengths=LENGTHS.tolist()), y)


def test_batch_norm_takes_the_statistics_of_what_is_valid() -> None:
    module, plain = NM.BatchNorm1d(6).double(), torch.nn.BatchNorm1d(6).double()
    x = torch.randn(SHAPE, dtype=torch.float64)
    values = torch.cat([x[i, :, :n] for i, n in enumerate(LENGTHS.tolist())], dim=1)
    y = module(x, lengths=LENGTHS)
    exact = plain(values[None])[0]
    got = torch.cat([y[i, :, :n] for i, n in enumerate(LENGTHS.tolist())], dim=1)
    torch.testing.assert_close(got, exact, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(module.running_mean, plain.running_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(module.running_var, plain.running_var, rtol=1e-12, atol=1e-12)
    assert int(module.num_batches_tracked) == 1
    before = {k: v.clone() for k, v in module.state_dict().items()}
    assert (module(x, lengths=torch.zeros(5, dtype=torch.long)) == 0).all()
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    module.eval()
    assert torch.equal(module(x, mask=VALID), module(x) * VALID[:, None])


MODULES: list[tuple[torch.nn.Module, str, Tensor]] = [
    (NM.InstanceNorm1d(6, affine=True, track_running_stats=True), "instance", VALID),
    (NM.GroupNorm(2, 6), "group", VALID),
    (NM.LayerNorm(6, channels_first=True), "channels", VALID),
    (NM.LayerNorm(7), "layer", TOKENS),
    (NM.RMSNorm(7), "rms", TOKENS),
]


@pytest.mark.parametrize(("module", "name", "mask"), MODULES, ids=[name for _, name, _ in MODULES])
def test_modules_pass_them_on(module: torch.nn.Module, name: str, mask: Tensor) -> None:
    x = torch.randn(SHAPE)
    call, _, size = LAYERS[name]
    expected = call(x, torch.ones(size), torch.zeros(size), mask=mask)
    assert torch.equal(module(x, mask=mask), expected)
    assert torch.equal(module(x, lengths=mask.sum(1)), expected)
    assert not torch.equal(module(x), expected)


def test_compiled_code_has_the_same_bits() -> None:
    x, weight, bias = tensors("group", torch.float32)

    def twice(t: Tensor) -> Tensor:
        return NF.group_norm(t * 2, 2, weight, bias, lengths=LENGTHS) + 1

    compiled = torch.compile(twice, backend="eager")
    assert torch.equal(compiled(x), twice(x))


def test_second_derivatives_are_refused() -> None:
    x, weight, bias = (t.requires_grad_() for t in tensors("group", torch.float64))
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        gradgradcheck(lambda *t: NF.group_norm(t[0], 2, t[1], t[2], lengths=LENGTHS), (x, weight, bias))


@pytest.mark.parametrize(
    ("error", "part", "more"),
    [
        (ValueError, r"lengths\[1\] is 8, must be 0 to 7, the size of dimension 2", {"lengths": [1, 8, 0, 0, 0]}),
        (ValueError, "one entry for each of 5 samples", {"lengths": [1, 2]}),
        (TypeError, "lengths is torch.float32, must be of integers", {"lengths": torch.ones(5)}),
        (ValueError, "both given", {"lengths": LENGTHS, "mask": VALID}),
        (ValueError, r"mask has shape \[7, 5\], must be that of input", {"mask": VALID.T}),
        (TypeError, "mask is torch.float32, must be bool or uint8", {"mask": VALID.float()}),
        (ValueError, "pad is 'nan', must be 'zero' or 'beta'", {"lengths": LENGTHS, "pad": "nan"}),
        (ValueError, "pad is given, but neither", {"pad": "beta"}),
        (ValueError, "dim is 3, but input has 3 dimensions", {"lengths": LENGTHS, "dim": 3}),
        (ValueError, "dim is 0, must be 1 to 2", {"lengths": LENGTHS, "dim": 0}),
        (NotImplementedError, "tensor on the CPU", {"lengths": LENGTHS, "input": torch.empty(SHAPE, device="meta")}),
        (ValueError, "sample 0 is taken over 1 valid value", {"lengths": [1, 3, 3, 3, 3]}),
    ],
)
def test_mistakes_are_named(error: type[Exception], part: str, more: dict[str, Any]) -> None:
    with pytest.raises(error, match=part):
        NF.instance_norm(**{"input": torch.randn(SHAPE), **more})
