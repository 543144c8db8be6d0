"""The backward twins against their formulas, at the bound of gradients."""

from __future__ import annotations

from typing import Any

import norma
import numpy as np
import pytest
from oracle import BFLOAT16, LAYERS, TYPES, Layer, backward, check, data, layouts, param_type, rounded

layers = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)


@layers
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("offset", [0, 1000])
def test_gradients_are_within_the_bound(layer: Layer, dtype: np.dtype[Any], offset: float) -> None:
    x, dy = data(layer.shape, dtype, 1, offset), data(layer.shape, dtype, 2)
    for weight in (None, data(layer.param, param_type(dtype), 3)):
        results = layer.gradients(dy, x, weight)
        assert len(results) == (2 if layer.rms else 3)
        assert results[0].dtype == dtype and all(result.dtype == param_type(dtype) for result in results[1:])
        for result, (exact, bound) in zip(results, backward(layer, dy, x, weight), strict=True):
            check(result, exact, rounded(bound, exact, result.dtype))


@layers
def test_gradients_have_the_type_of_the_weight(layer: Layer) -> None:
    x, dy, weight = data(layer.shape, BFLOAT16, 1), data(layer.shape, BFLOAT16, 2), data(layer.param, BFLOAT16, 3)
    results = layer.gradients(dy, x, weight)
    full = layer.gradients(dy, x, weight.astype(np.float32))
    assert all(result.dtype == BFLOAT16 for result in results) and (results[0] == full[0]).all()
    assert all((result == wide.astype(BFLOAT16)).all() for result, wide in zip(results[1:], full[1:], strict=True))


@layers
def test_the_layout_changes_no_bit(layer: Layer) -> None:
    x, dy, weight = data(layer.shape, TYPES[0], 1), data(layer.shape, TYPES[0], 2), data(layer.param, TYPES[0], 3)
    plain = layer.gradients(dy, x, weight)
    for name, other in layouts(x).items():
        results = layer.gradients(layouts(dy)["permuted"], other, weight)
        assert results[0].strides == np.empty_like(other).strides, name
        assert all((a == b).all() for a, b in zip(results, plain, strict=True)), name


@pytest.mark.parametrize("which", ["batch", "instance"])
def test_given_statistics(which: str) -> None:
    """dx = rstd * q, dweight and dbias with the given xhat."""
    x, dy = data((4, 3, 5), TYPES[1], 1), data((4, 3, 5), TYPES[1], 2)
    mean, var, weight = data((3,), TYPES[1], 3), np.square(data((3,), TYPES[1], 4)), data((3,), TYPES[1], 5)
    if which == "batch":
        results = norma.batch_norm_backward(dy, x, mean, var, weight, False, 0.5)
    else:
        results = norma.instance_norm_backward(dy, x, mean, var, weight, use_input_stats=False, eps=0.5)
    rstd = 1 / np.sqrt(var + 0.5)[:, None]
    np.testing.assert_allclose(results[0], dy * weight[:, None] * rstd, rtol=1e-13)
    np.testing.assert_allclose(results[1], (dy * (x - mean[:, None]) * rstd).sum((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(results[2], dy.sum((0, 2)), rtol=1e-12)


def test_the_keywords_of_the_forward_functions_are_taken() -> None:
    x, p = data((4, 6, 5), TYPES[0], 1), data((6,), TYPES[0], 2)
    p5 = p[:5].copy()
    keywords: dict[str, Any] = {"weight": p5, "bias": p5, "eps": 1e-3}
    a = norma.layer_norm_backward(norma.layer_norm(x, 5, **keywords), x, 5, **keywords)
    b = norma.layer_norm_backward(norma.layer_norm(x, 5, **keywords), x, 5, p5, 1e-3)
    assert all((one == other).all() for one, other in zip(a, b, strict=True))
    keywords = {"weight": p, "bias": p, "eps": 1e-3}
    assert len(norma.group_norm_backward(x, x, 3, **keywords)) == 3
    assert len(norma.batch_norm_backward(x, x, training=True, momentum=0.5, **keywords)) == 3
    assert len(norma.instance_norm_backward(x, x, use_input_stats=True, momentum=0.5, **keywords)) == 3


def numeric(function: Any, array: Any, dy: Any) -> Any:
    """The gradient of sum(function() * dy) by central differences."""
    gradient, step = np.zeros_like(array), 1e-6
    for index in np.ndindex(array.shape):
        keep = array[index]
        array[index] = keep + step
        above = (function() * dy).sum()
        array[index] = keep - step
        gradient[index] = (above - (function() * dy).sum()) / (2 * step)
        array[index] = keep
    return gradient


@pytest.mark.parametrize("unbiased", [False, True])
def test_adain(unbiased: bool) -> None:
    content, style, dy = (data((2, 2, 5), TYPES[1], seed) for seed in (1, 2, 3))
    dcontent, dstyle = norma.adain_backward(dy, content, style, 0.75, 1e-3, unbiased)
    call = lambda: norma.adain(content, style, 0.75, 1e-3, unbiased)  # noqa: E731
    np.testing.assert_allclose(dcontent, numeric(call, content, dy), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dstyle, numeric(call, style, dy), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu", "gelu_tanh"])
def test_activations(activation: Any) -> None:
    x, dy = data((3, 8), TYPES[1], 1), data((3, 8), TYPES[1], 2)
    p, q = data((8,), TYPES[1], 3), data((8,), TYPES[1], 4)
    more: dict[str, Any] = {"affine": "d", "weight": p, "bias": q, "activation": activation}
    results = norma.norm_backward(dy, x, "n [d]", **more)
    for result, array in zip(results, (x, p, q), strict=True):
        np.testing.assert_allclose(
            result, numeric(lambda: norma.norm(x, "n [d]", **more), array, dy), rtol=1e-6, atol=1e-7
        )


def test_without_an_affine_list_there_is_dx_alone() -> None:
    x = data((3, 8), TYPES[1], 1)
    dx = norma.norm_backward(x, x, "n [d]")
    assert isinstance(dx, np.ndarray) and (dx == norma.layer_norm_backward(x, x, 8)[0]).all()
