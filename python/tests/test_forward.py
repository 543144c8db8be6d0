"""Every function against its formula, at the bound that norma.h states: all types, offsets, parameters."""

from __future__ import annotations

from typing import Any

import norma
import numpy as np
import pytest
from oracle import BFLOAT16, LAYERS, TYPES, Layer, check, data, forward, param_type, statistics

layers = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
types = pytest.mark.parametrize("dtype", TYPES, ids=str)


@layers
@types
@pytest.mark.parametrize("offset", [0, 1000])
def test_y_is_within_the_bound(layer: Layer, dtype: np.dtype[Any], offset: float) -> None:
    x = data(layer.shape, dtype, 1, offset)
    weight, bias = data(layer.param, param_type(dtype), 2), data(layer.param, param_type(dtype), 3)
    y = layer(x, weight, bias)
    assert y.dtype == dtype and y.shape == x.shape
    check(y, *forward(layer, x, weight, bias))
    check(layer(x), *forward(layer, x, None, None))


@layers
@pytest.mark.parametrize("dtype", [TYPES[2], BFLOAT16], ids=str)
def test_parameters_of_16_bits(layer: Layer, dtype: np.dtype[Any]) -> None:
    x, weight, bias = data(layer.shape, dtype, 1), data(layer.param, dtype, 2), data(layer.param, dtype, 3)
    y = layer(x, weight, bias)
    check(y, *forward(layer, x, weight, bias))
    assert (y == layer(x, weight.astype(np.float32), bias.astype(np.float32))).all()


@layers
def test_float64_takes_float32_parameters(layer: Layer) -> None:
    x, weight = data(layer.shape, TYPES[1], 1), data(layer.param, TYPES[0], 2)
    assert (layer(x, weight) == layer(x, weight.astype(np.float64))).all()


@layers
@types
def test_return_stats(layer: Layer, dtype: np.dtype[Any]) -> None:
    x = data(layer.shape, dtype, 1, 10)
    y, *stats = layer(x, return_stats=True)
    assert (y == layer(x)).all()
    _, mean, rstd = statistics(layer, x)
    keep = layer.name.startswith(("layer", "channels", "rms"))
    expected = [rstd] if layer.rms else [mean, rstd]
    assert len(stats) == len(expected)
    for result, exact in zip(stats, expected, strict=True):
        shape = exact.shape if keep else tuple(n for d, n in enumerate(exact.shape) if d not in layer.shared)
        assert result.shape == shape and result.dtype == param_type(dtype)
        np.testing.assert_allclose(
            result, exact.reshape(shape).astype(np.float64), rtol=1e-14 if dtype == np.float64 else 1e-6
        )


def test_the_general_layer_has_the_bits_of_the_named_one() -> None:
    x, weight, bias = data((2, 12, 5, 3), TYPES[0], 1), data((12,), TYPES[0], 2), data((12,), TYPES[0], 3)
    y = norma.group_norm(x, 4, weight, bias, 1e-3)
    for shape in [(12,), (4, 3)]:
        other = norma.norm(
            x, "n (g [k]) [h w]", g=4, affine="(g k)", weight=weight.reshape(shape), bias=bias.reshape(shape), eps=1e-3
        )
        assert (y == other).all()


def test_activations_of_the_general_layer() -> None:
    x = data((4, 50), TYPES[0], 1)
    z = norma.norm(x, "n [d]").astype(np.float64)
    assert (norma.norm(x, "n [d]", activation="relu") == np.maximum(z, 0)).all()
    np.testing.assert_allclose(norma.norm(x, "n [d]", activation="silu"), z / (1 + np.exp(-z)), rtol=1e-6)
    tanh = z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    np.testing.assert_allclose(norma.norm(x, "n [d]", activation="gelu_tanh"), tanh, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(norma.norm(x, "n [d]", activation="gelu"), tanh, rtol=1e-2, atol=1e-3)


def test_given_statistics_of_the_general_layer() -> None:
    x = data((4, 3, 50), TYPES[1], 1)
    mean, var = data((3,), TYPES[1], 2), np.square(data((3,), TYPES[1], 3))
    y = norma.norm(x, "[n] c [s]", mean=mean, var=var, eps=0.5)
    np.testing.assert_allclose(y, (x - mean[:, None]) / np.sqrt(var[:, None] + 0.5), rtol=1e-13)
    rms = norma.norm(x, "[n] c [s]", rms=True, var=var, eps=0.5)
    np.testing.assert_allclose(rms, x / np.sqrt(var[:, None] + 0.5), rtol=1e-13)


@pytest.mark.parametrize("alpha", [0, 0.25, 1])
@pytest.mark.parametrize("unbiased", [False, True])
@types
def test_adain(alpha: float, unbiased: bool, dtype: np.dtype[Any]) -> None:
    content, style = data((2, 3, 6, 5), dtype, 1, 5), data((2, 3, 7, 4), dtype, 2, -3)
    c, s, ddof = content.astype(np.float64), style.astype(np.float64), int(unbiased)
    space, eps = (2, 3), 1e-3
    xhat = (c - c.mean(space, keepdims=True)) / np.sqrt(c.var(space, keepdims=True, ddof=ddof) + eps)
    mixed = xhat * np.sqrt(s.var(space, keepdims=True, ddof=ddof) + eps) + s.mean(space, keepdims=True)
    y = norma.adain(content, style, alpha, eps, unbiased)
    tolerance = {TYPES[0]: 1e-6, TYPES[1]: 1e-13, TYPES[2]: 2e-3, BFLOAT16: 2e-2}[dtype]
    np.testing.assert_allclose(y.astype(np.float64), alpha * mixed + (1 - alpha) * c, rtol=tolerance, atol=tolerance)
    assert y.dtype == dtype


def test_eps_zero_is_zero() -> None:
    x = np.array([[1e-3, -1e-3], [2, 2]], np.float32)
    np.testing.assert_allclose(norma.layer_norm(x, 2, eps=0), [[1, -1], [0, 0]], rtol=1e-6)
    assert abs(norma.layer_norm(x, 2)[0, 0]) < 0.5
    np.testing.assert_allclose(norma.rms_norm(x, 2, eps=0.0), [[1, -1], [1, 1]], rtol=1e-6)
    style = np.array([[[1e-3, -1e-3]]], np.float32)
    np.testing.assert_allclose(norma.adain(style * 5, style, eps=0), style, rtol=1e-6)


def test_the_rules_for_few_elements() -> None:
    empty = np.zeros((0, 3, 4), np.float32)
    assert norma.layer_norm(empty, 4).shape == (0, 3, 4)
    assert norma.batch_norm(empty, training=True).shape == (0, 3, 4)
    assert norma.instance_norm(empty).shape == (0, 3, 4)
    assert norma.group_norm(empty, 3).shape == (0, 3, 4)
    dx, dweight, dbias = norma.batch_norm_backward(empty, empty, training=True)
    assert dx.shape == empty.shape and (dweight == 0).all() and (dbias == 0).all() and dbias.shape == (3,)
    bias = np.array([7, 8, 9], np.float32)
    one = data((5, 3), TYPES[0], 1)
    assert (norma.group_norm(one, 3, bias=bias) == bias).all()
    assert (norma.layer_norm(np.full((2, 3), 5, np.float32), 3, bias=bias) == bias).all()
