"""lengths= and mask=: every sample has the bits of itself without its padding, and padding counts nowhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import norma
import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import TYPES

Array = NDArray[Any]
LENGTHS = np.array([7, 3, 0, 5, 2])
Norm = Callable[..., Any]

# Functions of (x, weight, bias, **more) and (dy, x, weight, **more) on x of shape (5, 6, 7) with lengths along 2.
PER_SAMPLE: dict[str, tuple[Norm, Norm]] = {
    "group": (
        lambda x, w, b, **more: norma.group_norm(x, 3, w, b, **more),
        lambda dy, x, w, **more: norma.group_norm_backward(dy, x, 3, w, **more),
    ),
    "instance": (
        lambda x, w, b, **more: norma.instance_norm(x, None, None, w, b, **more),
        lambda dy, x, w, **more: norma.instance_norm_backward(dy, x, None, None, w, **more),
    ),
    "channels": (
        lambda x, w, b, **more: norma.layer_norm(x, None, w, b, axes=1, **more),
        lambda dy, x, w, **more: norma.layer_norm_backward(dy, x, None, w, axes=1, **more),
    ),
}


def arrays(dtype: np.dtype[Any], seed: int = 0) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    x, dy = (rng.normal(size=(5, 6, 7)).astype(dtype) for _ in range(2))
    param = np.float64 if dtype == np.float64 else np.float32
    weight, bias = (rng.normal(1, 1, size=6).astype(param) for _ in range(2))
    return x, dy, weight, bias


def poisoned(x: Array, value: float, lengths: Array = LENGTHS) -> Array:
    x = x.copy()
    for sample, length in enumerate(lengths):
        x[sample, :, length:] = value
    return x


def same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", PER_SAMPLE)
def test_every_sample_has_the_bits_of_itself_alone(name: str, dtype: np.dtype[Any]) -> None:
    forward, backward = PER_SAMPLE[name]
    x, dy, weight, bias = arrays(dtype)
    y = forward(poisoned(x, np.nan), weight, bias, lengths=LENGTHS)
    dx, dweight, dbias = backward(poisoned(dy, np.inf), poisoned(x, np.nan), weight, lengths=LENGTHS)
    sums = np.zeros((2, 6))
    for i, length in enumerate(LENGTHS):
        cut, cut_dy = x[i : i + 1, :, :length], dy[i : i + 1, :, :length]
        assert same(y[i : i + 1, :, :length], forward(cut, weight, bias))
        cut_dx, *params = backward(cut_dy, cut, weight)
        assert same(dx[i : i + 1, :, :length], cut_dx)
        assert (y[i, :, length:] == 0).all() and (dx[i, :, length:] == 0).all()
        sums += params
    tolerance = 1e-13 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose([dweight, dbias], sums, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_equal_lengths_of_batch_norm_are_the_cut_batch(dtype: np.dtype[Any]) -> None:
    x, dy, weight, bias = arrays(dtype)
    lengths = np.full(5, 4)
    padded, padded_dy = (poisoned(a, np.nan, lengths) for a in (x, dy))
    cut, cut_dy = x[:, :, :4], dy[:, :, :4]
    running = [np.zeros(6, np.float32), np.ones(6, np.float32)]
    expected = [a.copy() for a in running]
    y = norma.batch_norm(padded, running[0], running[1], weight, bias, training=True, lengths=lengths)
    assert same(y[:, :, :4], norma.batch_norm(cut, expected[0], expected[1], weight, bias, training=True))
    assert all(same(a, b) for a, b in zip(running, expected, strict=True))
    gradients = norma.batch_norm_backward(padded_dy, padded, None, None, weight, training=True, lengths=lengths)
    for got, right in zip(
        (gradients[0][:, :, :4], *gradients[1:]),
        norma.batch_norm_backward(cut_dy, cut, None, None, weight, training=True),
        strict=True,
    ):
        assert same(got, right)


def test_batch_norm_takes_the_statistics_of_what_is_valid() -> None:
    x, dy, weight, bias = arrays(np.dtype(np.float64))
    valid = np.arange(7) < LENGTHS[:, None]
    values = np.concatenate([x[i, :, :length] for i, length in enumerate(LENGTHS)], axis=1)
    running = [np.zeros(6), np.ones(6)]
    y, mean, rstd = norma.batch_norm(
        x, running[0], running[1], weight, bias, training=True, momentum=1, lengths=LENGTHS, return_stats=True
    )
    np.testing.assert_allclose(mean, values.mean(1), rtol=1e-13)
    np.testing.assert_allclose(rstd, (values.var(1) + 1e-5) ** -0.5, rtol=1e-13)
    np.testing.assert_allclose(running, [values.mean(1), values.var(1, ddof=1)], rtol=1e-13)
    expected = (x - mean[:, None]) * (rstd * weight)[:, None] + bias[:, None]
    np.testing.assert_allclose(y, np.where(valid[:, None], expected, 0), atol=1e-13)
    masked = norma.batch_norm(x, weight=weight, bias=bias, training=True, mask=valid)
    assert same(masked, y)
    gradients = norma.batch_norm_backward(dy, x, weight=weight, training=True, mask=valid)
    by_lengths = norma.batch_norm_backward(dy, x, weight=weight, training=True, lengths=LENGTHS)
    assert all(same(a, b) for a, b in zip(gradients, by_lengths, strict=True))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_layer_and_rms_norm_of_tokens(dtype: np.dtype[Any]) -> None:
    x, dy, weight, bias = (a.swapaxes(1, 2) if a.ndim == 3 else a for a in arrays(dtype))  # (n, t, d)
    mask = np.random.default_rng(1).random((5, 7)) < 0.6
    bad, bad_dy = x.copy(), dy.copy()
    bad[~mask], bad_dy[~mask] = np.nan, np.inf
    y = norma.layer_norm(bad, 6, weight, bias, mask=mask, pad="beta")
    assert same(y[mask], norma.layer_norm(x[mask], 6, weight, bias))
    assert (y[~mask] == bias.astype(dtype)).all()
    dx, dweight, dbias = norma.layer_norm_backward(bad_dy, bad, 6, weight, mask=mask)
    right = norma.layer_norm_backward(dy[mask], x[mask], 6, weight)
    assert same(dx[mask], right[0]) and (dx[~mask] == 0).all()
    np.testing.assert_allclose([dweight, dbias], right[1:], rtol=1e-6)
    y = norma.rms_norm(bad, 6, weight, mask=mask)
    assert same(y[mask], norma.rms_norm(x[mask], 6, weight)) and (y[~mask] == 0).all()
    dx, dweight = norma.rms_norm_backward(bad_dy, bad, 6, weight, mask=mask)
    right_dx, right_dweight = norma.rms_norm_backward(dy[mask], x[mask], 6, weight)
    assert same(dx[mask], right_dx) and (dx[~mask] == 0).all()
    np.testing.assert_allclose(dweight, right_dweight, rtol=1e-6, atol=1e-6)
    assert same(norma.rms_norm(x, 6, weight, lengths=LENGTHS), norma.rms_norm(x, 6, weight, lengths=LENGTHS, dim=1))


def test_a_mask_of_images() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    mask = rng.random((3, 5, 6)) < 0.5
    y = norma.instance_norm(x, mask=mask)
    for n, c in np.ndindex(3, 4):
        values = x[n, c][mask[n]].astype(np.float64)
        right = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
        np.testing.assert_allclose(y[n, c][mask[n]], right, atol=2e-6)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    again = norma.instance_norm(last, mask=mask[:, None].astype(np.uint8))
    assert again.strides == last.strides and (again == y).all()
    out = x.copy()
    assert norma.instance_norm(out, mask=mask, out=out) is out and same(out, y)
    widths = np.array([6, 2, 4])
    by_width = np.broadcast_to(np.arange(6) < widths[:, None, None], (3, 5, 6))
    assert same(norma.group_norm(x, 2, lengths=widths), norma.group_norm(x, 2, mask=by_width))
    heights = np.array([5, 1, 3])
    assert same(norma.group_norm(x, 2, lengths=heights, dim=2)[1, :, :1], norma.group_norm(x[1:2, :, :1], 2)[0])


def test_samples_that_are_left_out() -> None:
    x = np.random.default_rng(3).normal(size=(9, 4)).astype(np.float32)
    chosen = np.array([1, 1, 0, 1, 0, 1, 1, 1, 0], bool)
    y, mean, _ = norma.batch_norm(x, training=True, mask=chosen, return_stats=True)
    np.testing.assert_allclose(mean, x[chosen].astype(np.float64).mean(0), rtol=1e-6)
    assert (y[~chosen] == 0).all()
    running = [np.full(4, 3, np.float32), np.full(4, 2, np.float32)]
    assert (norma.batch_norm(x, running[0], running[1], training=True, mask=np.zeros(9, bool)) == 0).all()
    assert (running[0] == 3).all() and (running[1] == 2).all()


@pytest.mark.parametrize(
    ("error", "part", "more"),
    [
        (ValueError, "lengths[1] is 8, must be 0 to 7, the size of dimension 2", {"lengths": [1, 8, 0, 0, 0]}),
        (ValueError, "one entry for each of the 5 samples", {"lengths": [1, 2]}),
        (TypeError, "lengths has dtype float64, must be of integers", {"lengths": np.ones(5)}),
        (ValueError, "both given", {"lengths": LENGTHS, "mask": np.ones((5, 7), bool)}),
        (ValueError, "mask has shape (7, 5), must be x's shape (5, 6, 7) without", {"mask": np.ones((7, 5), bool)}),
        (TypeError, "mask has dtype int64, must be bool or uint8", {"mask": np.ones((5, 7), int)}),
        (ValueError, "pad is 'nan', must be one of 'zero', 'beta'", {"lengths": LENGTHS, "pad": "nan"}),
        (ValueError, "pad is given, but neither lengths nor mask", {"pad": "beta"}),
        (ValueError, "dim is 3, but x has 3 dimensions", {"lengths": LENGTHS, "dim": 3}),
        (ValueError, "dim is 0, must be 1 to 2", {"lengths": LENGTHS, "dim": 0}),
        (ValueError, "splits dimension 1", {"lengths": LENGTHS, "dim": 1}),
    ],
)
def test_mistakes_are_named(error: type[Exception], part: str, more: dict[str, Any]) -> None:
    x, dy, weight, _ = arrays(np.dtype(np.float32))
    for call in (lambda: norma.group_norm(x, 2, **more), lambda: norma.group_norm_backward(dy, x, 2, weight, **more)):
        with pytest.raises(error) as caught:
            call()
        assert part in str(caught.value) and str(caught.value).startswith("group_norm")
