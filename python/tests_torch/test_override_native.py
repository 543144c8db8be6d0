"""The kernels below torch.nn.functional, called by their names: aten::native_* and their backward passes."""

from collections.abc import Callable
from typing import Any

import norma.torch
import pytest
import torch
from layers import image
from torch import Tensor

ops: Any = torch.ops.aten
MEAN = 1e4
WEIGHT, BIAS = torch.linspace(-1.5, 2, 8), torch.linspace(0.5, -1, 8)
WEIGHT6, BIAS6 = torch.linspace(-1.5, 2, 6), torch.linspace(0.5, -1, 6)
ALL = [True, True, True]
Forward = Callable[..., tuple[Tensor, ...]]


def like(x: Tensor, *tensors: Tensor) -> list[Tensor]:
    return [t.to(x.dtype) for t in tensors]


def running(x: Tensor) -> list[Tensor]:
    return [torch.full((8,), 2.0, dtype=x.dtype), torch.full((8,), 0.5, dtype=x.dtype)]


FORWARD: dict[str, Forward] = {
    "native_layer_norm": lambda x: ops.native_layer_norm(x, [6], *like(x, WEIGHT6, BIAS6), 1e-3),
    "native_group_norm": lambda x: ops.native_group_norm(x, *like(x, WEIGHT, BIAS), 3, 8, 30, 4, 1e-3),
    "native_batch_norm": lambda x: ops.native_batch_norm(x, *like(x, WEIGHT, BIAS), *running(x), True, 0.1, 1e-3),
    "native_batch_norm, no buffers": lambda x: ops.native_batch_norm(x, None, None, None, None, True, 0.1, 1e-3),
    "native_batch_norm, evaluation": lambda x: ops.native_batch_norm(
        x, *like(x, WEIGHT, BIAS), *running(x), False, 0.1, 1e-3
    ),
    "_native_batch_norm_legit": lambda x: ops._native_batch_norm_legit(
        x, *like(x, WEIGHT, BIAS), *running(x), True, 0.1, 1e-3
    ),
    "_native_batch_norm_legit.no_stats": lambda x: ops._native_batch_norm_legit.no_stats(
        x, *like(x, WEIGHT, BIAS), True, 0.1, 1e-3
    ),
    "_native_batch_norm_legit_no_training": lambda x: ops._native_batch_norm_legit_no_training(
        x, *like(x, WEIGHT, BIAS), *running(x), 0.1, 1e-3
    ),
    "_native_batch_norm_legit_functional": lambda x: ops._native_batch_norm_legit_functional(
        x, *like(x, WEIGHT, BIAS), *running(x), True, 0.1, 1e-3
    ),
    "_batch_norm_with_update": lambda x: ops._batch_norm_with_update(x, *like(x, WEIGHT, BIAS), *running(x), 0.1, 1e-3),
    "_batch_norm_with_update_functional": lambda x: ops._batch_norm_with_update_functional(
        x, *like(x, WEIGHT, BIAS), *running(x), 0.1, 1e-3
    ),
    "_batch_norm_no_update": lambda x: ops._batch_norm_no_update(x, *like(x, WEIGHT, BIAS), *running(x), 0.1, 1e-3),
    "batch_norm_update_stats": lambda x: ops.batch_norm_update_stats(x, *running(x), 0.1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", list(FORWARD))
def test_forward(case: str, dtype: torch.dtype) -> None:
    """All outputs in shape, type, strides and value; y at the bound of the core, at a mean of 10,000."""
    x = image(dtype, MEAN).to(memory_format=torch.channels_last)
    plain, exact = FORWARD[case](x), FORWARD[case](x.double())
    with norma.torch.enabled():
        ours = FORWARD[case](x)
    assert len(ours) == len(plain)
    for a, b in zip(ours, plain, strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())
    for a, b in zip(ours, exact, strict=True):
        scale = b.abs().max().item() if b.numel() else 0
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-6, atol=1e-6 * min(scale, 10))
    assert {key: n for key, n in norma.torch.calls().items() if n} == {
        next(k for k in ("layer_norm", "group_norm", "batch_norm") if k in case): 1
    }


def layer_backward(x: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    weight, bias = like(x, WEIGHT6, BIAS6)
    _, mean, rstd = ops.native_layer_norm(x, [6], weight, bias, 1e-3)
    gradients: tuple[Tensor, ...] = ops.native_layer_norm_backward(dy, x, [6], mean, rstd, weight, bias, ALL)
    return gradients


def group_backward(x: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    (weight,) = like(x, WEIGHT)
    _, mean, rstd = ops.native_group_norm(x, weight, None, 3, 8, 30, 4, 1e-3)
    gradients: tuple[Tensor, ...] = ops.native_group_norm_backward(dy, x, mean, rstd, weight, 3, 8, 30, 4, ALL)
    return gradients


def batch_backward(x: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    (weight,) = like(x, WEIGHT)
    _, mean, rstd = ops.native_batch_norm(x, weight, None, None, None, True, 0.1, 1e-3)
    gradients: tuple[Tensor, ...] = ops.native_batch_norm_backward(
        dy, x, weight, None, None, mean, rstd, True, 1e-3, ALL
    )
    return gradients


def evaluation_backward(x: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    (weight,) = like(x, WEIGHT)
    given = [torch.full((8,), MEAN, dtype=x.dtype), torch.full((8,), 0.5, dtype=x.dtype)]
    gradients: tuple[Tensor, ...] = ops.native_batch_norm_backward(dy, x, weight, *given, None, None, False, 1e-3, ALL)
    return gradients


def new_batch_backward(x: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    (weight,) = like(x, WEIGHT)
    buffers = running(x)
    _, mean, rstd, reserve = ops._batch_norm_with_update(x, weight, None, *buffers, 0.1, 1e-3)
    gradients: tuple[Tensor, ...] = ops.batch_norm_backward(
        dy, x, weight, *buffers, mean, rstd, True, 1e-3, ALL, reserve
    )
    return gradients


BACKWARD = {
    "layer_norm": layer_backward,
    "group_norm": group_backward,
    "batch_norm": batch_backward,
    "batch_norm, evaluation": evaluation_backward,
    "batch_norm, new": new_batch_backward,
}


@pytest.mark.parametrize("case", list(BACKWARD))
def test_backward(case: str) -> None:
    """What PyTorch saved is a float32 mean; the gradients do not depend on its rounding."""
    x, dy = image(torch.float32, MEAN), image(torch.float32, seed=2)
    plain, exact = BACKWARD[case](x, dy), BACKWARD[case](x.double(), dy.double())
    with norma.torch.enabled():
        ours = BACKWARD[case](x, dy)
    for a, b, c in zip(ours, plain, exact, strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())
        assert (a.double() - c).abs().max() <= 1e-5 * c.abs().max() + 1e-6
    assert norma.torch.calls()[case.split(",")[0] + "_backward"] == 1


@pytest.mark.parametrize("case", list(BACKWARD))
def test_backward_in_bfloat16(case: str) -> None:
    """Nothing is passed through, and the error is a rounding or two of bfloat16."""
    x, dy = image(torch.bfloat16), image(torch.bfloat16, seed=2)
    exact = BACKWARD[case](x.double(), dy.double())
    with norma.torch.enabled():
        ours = BACKWARD[case](x, dy)
    for a, c in zip(ours, exact, strict=True):
        assert a.dtype == torch.bfloat16
        assert (a.double() - c).abs().max() <= 2.0**-6 * c.abs().max()
    assert not any(n for key, n in norma.torch.calls().items() if "passed" in key)


def test_an_output_mask() -> None:
    x, dy = image(torch.float32), image(torch.float32, seed=2)
    with norma.torch.enabled():
        _, mean, rstd = ops.native_layer_norm(x, [6], WEIGHT6, BIAS6, 1e-5)
        dx, dweight, dbias = ops.native_layer_norm_backward(
            dy, x, [6], mean, rstd, WEIGHT6, BIAS6, [False, True, False]
        )
    assert dx is None and dbias is None and dweight.shape == (6,)
