"""Memory: any strides give the same bits, results keep the order of x, out= may be x, overlaps are refused."""

from __future__ import annotations

from typing import Any

import norma
import numpy as np
import pytest
from oracle import LAYERS, TYPES, Layer, data, layouts, param_type

layers = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
types = pytest.mark.parametrize("dtype", TYPES, ids=str)


@layers
@types
def test_the_layout_changes_no_bit_and_is_kept(layer: Layer, dtype: np.dtype[Any]) -> None:
    x = data(layer.shape, dtype, 1, 3)
    weight, bias = data(layer.param, param_type(dtype), 2), data(layer.param, param_type(dtype), 3)
    plain = layer(x, weight, bias)
    for name, other in layouts(x).items():
        assert (other == x).all()
        y = layer(other, weight, bias)
        assert (y == plain).all(), name
        assert y.strides == np.empty_like(other).strides and y.dtype == dtype, name


@layers
def test_parameters_of_any_strides(layer: Layer) -> None:
    x, weight, bias = data(layer.shape, TYPES[0], 1), data(layer.param, TYPES[0], 2), data(layer.param, TYPES[0], 3)
    assert (layer(x, layouts(weight)["slice"], layouts(bias)["reversed"]) == layer(x, weight, bias)).all()


@layers
@types
def test_out(layer: Layer, dtype: np.dtype[Any]) -> None:
    x = data(layer.shape, dtype, 1)
    plain = layer(x)
    for name, out in layouts(np.full_like(x, 9)).items():
        if name != "read-only":
            assert layer(x, out=out) is out and (out == plain).all(), name
    for name, other in layouts(x).items():
        if name != "read-only":
            assert layer(other, out=other) is other and (other == plain).all(), name


def test_out_leaves_what_lies_between_alone() -> None:
    buffer = np.full((3, 20), 7, np.float32)
    norma.layer_norm(data((3, 10), TYPES[0], 1), 10, out=buffer[:, ::2])
    assert (buffer[:, 1::2] == 7).all() and (buffer[:, ::2] != 7).any()


def test_out_may_interleave_with_x() -> None:
    buffer = np.zeros((3, 20), np.float32)
    buffer[:, ::2] = data((3, 10), TYPES[0], 1)
    plain = norma.layer_norm(buffer[:, ::2].copy(), 10)
    norma.layer_norm(buffer[:, ::2], 10, out=buffer[:, 1::2])
    assert (buffer[:, 1::2] == plain).all()


def test_overlaps_are_refused_and_nothing_is_written() -> None:
    x = data((4, 6), TYPES[0], 1)
    buffer = np.zeros((5, 6), np.float32)
    buffer[:4] = x
    before = buffer.copy()
    with pytest.raises(ValueError, match="out overlaps x"):
        norma.layer_norm(buffer[:4], 6, out=buffer[1:])
    with pytest.raises(ValueError, match="out overlaps x"):
        norma.layer_norm(buffer[:4], 6, out=buffer[:4, ::-1])
    with pytest.raises(ValueError, match="out overlaps weight"):
        norma.layer_norm(x, 6, buffer[1], out=buffer[:4])
    for running in ("running_mean", "running_var"):
        with pytest.raises(ValueError, match=f"out overlaps {running}"):
            norma.batch_norm(x, **{running: buffer[1]}, training=True, out=buffer[:4])
    with pytest.raises(ValueError, match="out has stride 0"):
        norma.layer_norm(x, 6, out=np.lib.stride_tricks.as_strided(buffer, (4, 6), (0, 4)))
    with pytest.raises(ValueError, match="out: its strides"):
        norma.layer_norm(x, 6, out=np.lib.stride_tricks.as_strided(buffer, (4, 6), (4, 4)))
    assert (buffer == before).all()


def test_running_statistics_may_interleave_but_not_overlap() -> None:
    x, both = data((4, 3), TYPES[0], 1), np.zeros((3, 2), np.float32)
    mean, var = np.zeros(3, np.float32), np.zeros(3, np.float32)
    norma.batch_norm(x, both[:, 0], both[:, 1], training=True)
    norma.batch_norm(x, mean, var, training=True)
    assert (both[:, 0] == mean).all() and (both[:, 1] == var).all() and (var > 0).all()
    with pytest.raises(ValueError, match="running_mean overlaps running_var"):
        norma.batch_norm(x, mean, mean, training=True)


@layers
def test_broadcast_input(layer: Layer) -> None:
    x = np.broadcast_to(data(layer.shape[1:], TYPES[0], 1), layer.shape)
    assert (layer(x) == layer(x.copy())).all()


@layers
def test_swapped_bytes(layer: Layer) -> None:
    x, weight = data(layer.shape, TYPES[0], 1), data(layer.param, TYPES[0], 2)
    swapped = np.asfortranarray(x).astype(">f4")
    y = layer(swapped, weight.astype(">f4"))
    assert (y == layer(x, weight)).all() and y.dtype == np.float32 and y.strides == swapped.strides


def test_running_statistics_with_swapped_bytes() -> None:
    x = data((4, 3), TYPES[0], 1)
    mean, var = np.zeros(3, ">f4"), np.ones(3, ">f4")
    norma.batch_norm(x, mean, var, training=True)
    np.testing.assert_allclose(mean, 0.1 * x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-6)


def test_out_with_swapped_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match="out has dtype >f4"):
        norma.layer_norm(np.ones((2, 3), np.float32), 3, out=np.ones((2, 3), ">f4"))


def test_strides_that_split_an_element() -> None:
    records = np.zeros(6, np.dtype([("a", np.uint8), ("value", "<f4"), ("b", np.uint8)]))
    with pytest.raises(TypeError, match="x has a stride of 6 bytes"):
        norma.layer_norm(records["value"], 6)
    with pytest.raises(TypeError, match="out has a stride of 6 bytes"):
        norma.layer_norm(np.ones(6, np.float32), 6, out=records["value"])
    even = np.zeros((6, 4), np.float32)[:, 1]
    assert (norma.layer_norm(even, 6) == 0).all()


def test_unaligned_elements() -> None:
    buffer = np.zeros(25, np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match="x is at address"):
        norma.layer_norm(buffer, 6)
    weight = np.frombuffer(b"\0" + np.arange(6, dtype=np.float32).tobytes(), np.float32, offset=1)
    x = data((2, 6), TYPES[0], 1)
    assert (norma.layer_norm(x, 6, weight) == norma.layer_norm(x, 6, np.arange(6, dtype=np.float32))).all()


def test_strides_of_length_1_mean_nothing() -> None:
    x = np.lib.stride_tricks.as_strided(data((3, 4), TYPES[0], 1), (3, 1, 4), (16, 7, 4))
    assert (norma.layer_norm(x, 4)[:, 0] == norma.layer_norm(x[:, 0].copy(), 4)).all()
