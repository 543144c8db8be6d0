"""torch.nn.functional under the override against float64, in every type and layout, and proof that Norma ran."""

import norma.torch
import pytest
import torch
from layers import CALLS, CASES, FORMATS, Result, both_directions, call_near, image, in_float64, kernel_of, params_of
from torch import Tensor

# Units in the last place of the types whose results are the float32 result rounded once.
ROUNDING = {torch.float32: 0.0, torch.float64: 0.0, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


def check_forward(got: Tensor, exact: Tensor, mean: float) -> None:
    """The bound of norma.h, with |xhat| and |gamma| at most 8 here."""
    bound = 5e-7 * (exact.abs() + 8) + 1e-12 * (1 + mean) + ROUNDING[got.dtype] * exact.abs()
    if got.dtype == torch.float64:
        bound = 1e-14 * (exact.abs() + 8) + 1e-12 * (1 + mean)  # the second part is PyTorch's own
    assert ((got.double() - exact).abs() <= bound).all()


def check_gradient(name: str, got: Tensor, exact: Tensor, param: torch.dtype) -> None:
    rounding = ROUNDING[param if name in ("dweight", "dbias") else got.dtype]
    bound = 1e-5 * exact.abs().max() + 2e-5 + rounding * exact.abs()
    if got.dtype == torch.float64:
        bound = 1e-9 * (exact.abs() + 1)
    assert ((got.double() - exact).abs() <= bound).all(), name


def check(got: Result, exact: Result, mean: float, param: torch.dtype) -> None:
    check_forward(got.y, exact.y, mean)
    for name, value in got.each()[1:]:
        check_gradient(name, value, getattr(exact, name), param)


@pytest.mark.parametrize("mean", [0, 1e3, 1e4])
@pytest.mark.parametrize(("name", "layout"), CASES)
def test_float32(name: str, layout: str, mean: float) -> None:
    x = FORMATS[layout](image(torch.float32, mean))
    weight, bias = params_of(name, torch.float32)
    dy = image(torch.float32, seed=2)
    call = call_near(name, mean)
    exact = in_float64(call, x, weight, bias, dy)
    with norma.torch.enabled():
        got = both_directions(call, x, weight, bias, dy)
    check(got, exact, mean, torch.float32)
    ran = norma.torch.calls()
    assert ran[kernel_of(name)] == 1
    assert ran[kernel_of(name) + "_backward"] == 1
    assert sum(ran.values()) == 2


# Of data, and of parameters. float32 statistics beside 16-bit parameters are no layer of PyTorch's.
WIDE = [(torch.float64, torch.float64), (torch.float16, torch.float32), (torch.bfloat16, torch.float32)]
NARROW = [(torch.float16, torch.float16), (torch.bfloat16, torch.bfloat16)]


@pytest.mark.parametrize(
    ("name", "layout", "dtype", "param"),
    [(*case, *types) for case in CASES for types in WIDE + (NARROW if case[0] != "evaluation" else [])],
)
def test_other_types(name: str, layout: str, dtype: torch.dtype, param: torch.dtype) -> None:
    x = FORMATS[layout](image(dtype))
    weight, bias = params_of(name, param)
    dy = image(dtype, seed=2)
    exact = in_float64(CALLS[name], x, weight, bias, dy)
    with norma.torch.enabled():
        got = both_directions(CALLS[name], x, weight, bias, dy)
    assert got.y.dtype == got.dx.dtype == dtype
    assert got.dweight is not None and got.dweight.dtype == param
    check(got, exact, 0, param)
    assert sum(norma.torch.calls().values()) == 2


@pytest.mark.parametrize("has_weight", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("name", list(CALLS))
def test_parameters_may_be_absent(name: str, has_weight: bool, has_bias: bool) -> None:
    weight, bias = params_of(name, torch.float32)
    x, dy = image(torch.float32), image(torch.float32, seed=2)
    given = (weight if has_weight else None, bias if has_bias else None)
    # PyTorch's group norm has no gradient with a bias and no weight: "tensor does not have a device".
    exact = in_float64(CALLS[name], x, weight if has_weight else torch.ones_like(weight), given[1], dy)
    with norma.torch.enabled():
        got = both_directions(CALLS[name], x, *given, dy)
    check(got, exact, 0, torch.float32)
    assert (got.dweight is None) == (not has_weight)
    assert sum(norma.torch.calls().values()) == 2


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_strides_are_those_of_pytorch(name: str, layout: str) -> None:
    x = FORMATS[layout](image(torch.float32))
    weight, bias = params_of(name, torch.float32)
    plain = CALLS[name](x, weight, bias)
    with norma.torch.enabled():
        assert CALLS[name](x, weight, bias).stride() == plain.stride()


@pytest.mark.parametrize("name", ["batch_norm", "group_norm"])
def test_channels_last_3d_is_kept(name: str) -> None:
    x = image(torch.float32).unsqueeze(2).expand(-1, -1, 4, -1, -1).clone(memory_format=torch.channels_last_3d)
    weight, bias = params_of(name, torch.float32)
    dy = image(torch.float32, seed=2).unsqueeze(2).expand_as(x)
    exact = in_float64(CALLS[name], x, weight, bias, dy)
    with norma.torch.enabled():
        got = both_directions(CALLS[name], x, weight, bias, dy)
    assert got.y.is_contiguous(memory_format=torch.channels_last_3d)
    assert got.dx.is_contiguous(memory_format=torch.channels_last_3d)
    check(got, exact, 0, torch.float32)


def test_sums_of_bfloat16_gradients_are_not_bfloat16() -> None:
    """PyTorch says 256 here with one thread, 512 with two."""
    x = torch.randn(65536, 8).bfloat16()
    weight, bias = torch.ones(8).bfloat16(), torch.zeros(8).bfloat16()
    with norma.torch.enabled():
        got = both_directions(CALLS["layer_norm"], x, weight, bias, torch.ones_like(x))
    assert got.dbias is not None
    assert (got.dbias == 65536).all()


@pytest.mark.parametrize("name", list(CALLS))
def test_empty_batch(name: str) -> None:
    x = image(torch.float32)[:0]
    weight, bias = params_of(name, torch.float32)
    with norma.torch.enabled():
        got = both_directions(CALLS[name], x, weight, bias, x)
    assert got.y.shape == got.dx.shape == x.shape
    assert got.dweight is not None and (got.dweight == 0).all()


@pytest.mark.parametrize("kind", ["batch", "instance"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_running_statistics(kind: str, dtype: torch.dtype) -> None:
    """Two steps in training, then evaluation: the buffers and the result of PyTorch in float64."""
    make = torch.nn.BatchNorm2d if kind == "batch" else torch.nn.InstanceNorm2d
    ours, theirs = (
        make(8, affine=True, track_running_stats=True, momentum=0.3, dtype=t) for t in (dtype, torch.float64)
    )
    for seed in (1, 2):
        theirs(image(dtype, 10, seed).double())
        with norma.torch.enabled():
            ours(image(dtype, 10, seed))
    assert ours.running_mean is not None and ours.running_var is not None
    torch.testing.assert_close(ours.running_mean.double(), theirs.running_mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.running_var.double(), theirs.running_var, rtol=1e-6, atol=0)
    x = image(dtype, 10, 3)
    exact = theirs.eval()(x.double())
    with norma.torch.enabled():
        torch.testing.assert_close(ours.eval()(x).double(), exact, rtol=0, atol=1e-5)
    assert norma.torch.calls()[kind + "_norm"] == 3
    assert sum(norma.torch.calls().values()) == 3
