"""Running statistics: torch's rule, in place, in any layout and type, and nothing half written."""

from __future__ import annotations

from typing import Any

import norma
import numpy as np
import pytest
from oracle import BFLOAT16, TYPES, data

X = data((5, 3, 4), TYPES[0], 1, 2)


def fresh(dtype: Any = np.float32) -> tuple[Any, Any]:
    return np.array([1, 2, 3], dtype), np.array([4, 5, 6], dtype)


def expected(which: str, momentum: float) -> tuple[Any, Any]:
    """In float64; instance norm averages over the samples."""
    x = X.astype(np.float64)
    if which == "batch":
        mean, var = x.mean((0, 2)), x.var((0, 2), ddof=1)
    else:
        mean, var = x.mean(2).mean(0), x.var(2, ddof=1).mean(0)
    old_mean, old_var = fresh(np.float64)
    return (1 - momentum) * old_mean + momentum * mean, (1 - momentum) * old_var + momentum * var


def train(which: str, x: Any, mean: Any, var: Any, **more: Any) -> Any:
    if which == "batch":
        return norma.batch_norm(x, mean, var, training=True, **more)
    return norma.instance_norm(x, mean, var, **more)


both = pytest.mark.parametrize("which", ["batch", "instance"])


@both
@pytest.mark.parametrize("momentum", [0, 0.1, 0.75, 1])
def test_the_update(which: str, momentum: float) -> None:
    mean, var = fresh()
    y = train(which, X, mean, var, momentum=momentum)
    assert (y == train(which, X, None, None)).all()
    for result, exact in zip((mean, var), expected(which, momentum), strict=True):
        np.testing.assert_allclose(result, exact, rtol=2e-7)


@both
@pytest.mark.parametrize("dtype", [TYPES[2], BFLOAT16], ids=str)
def test_16_bit_statistics(which: str, dtype: Any) -> None:
    mean, var = fresh(dtype)
    train(which, X.astype(dtype), mean, var)
    for result, exact in zip((mean, var), expected(which, 0.1), strict=True):
        assert result.dtype == dtype
        np.testing.assert_allclose(result.astype(np.float64), exact, rtol=1e-2)


@both
def test_float64_data_moves_float64_and_float32_statistics(which: str) -> None:
    mean, var = fresh()
    wide_mean, wide_var = fresh(np.float64)
    train(which, X.astype(np.float64), wide_mean, var)
    train(which, X.astype(np.float64), mean, wide_var)
    for result, exact in zip((wide_mean, wide_var), expected(which, 0.1), strict=True):
        np.testing.assert_allclose(result, exact, rtol=1e-14)
    assert (mean == wide_mean.astype(np.float32)).all() and (var == wide_var.astype(np.float32)).all()


@both
def test_one_of_the_two(which: str) -> None:
    mean, var = fresh()
    train(which, X, mean, None)
    train(which, X, None, var)
    both_mean, both_var = fresh()
    train(which, X, both_mean, both_var)
    assert (mean == both_mean).all() and (var == both_var).all()


@both
def test_strided_statistics(which: str) -> None:
    mean, var = fresh()
    train(which, X, mean, var)
    room = np.full((2, 12), 9, np.float32)
    room[0, ::4], room[1, 1::4] = fresh()
    train(which, X, room[0, ::4], room[1, 1::4])
    assert (room[0, ::4] == mean).all() and (room[1, 1::4] == var).all()
    room[0, ::4], room[1, 1::4] = 9, 9
    assert (room == 9).all()


@both
def test_evaluation_uses_and_keeps_them(which: str) -> None:
    mean, var = fresh()
    if which == "batch":
        y = norma.batch_norm(X, mean, var)
    else:
        y = norma.instance_norm(X, mean, var, use_input_stats=False)
    exact = (X.astype(np.float64) - mean[:, None]) / np.sqrt(var[:, None] + 1e-5)
    np.testing.assert_allclose(y, exact, rtol=1e-6, atol=1e-6)
    assert (mean == fresh()[0]).all() and (var == fresh()[1]).all()


@both
@pytest.mark.parametrize("error", ["out", "negative", "momentum", "single", "read-only", "shape", "eps", "weight"])
def test_an_error_writes_nothing(which: str, error: str) -> None:
    x: Any = X.copy()
    out: Any = np.full_like(X, 9)
    more: dict[str, Any] = {}
    mean, var = fresh()
    if error == "out":
        more["out"] = np.full((2, 3, 4), 9, np.float32)
    elif error == "negative":
        var[1] = -1
    elif error == "momentum":
        more["momentum"] = 1.5
    elif error == "single":
        x, out = x[:1, :, :1], out[:1, :, :1]
    elif error == "read-only":
        var.flags.writeable = False
    elif error == "shape":
        var = np.ones(4, np.float32)
    elif error == "eps":
        more["eps"] = float("nan")
    else:
        more["weight"] = np.ones(4, np.float32)
    keep = mean.copy(), var.copy()
    more.setdefault("out", out)
    with pytest.raises(ValueError, match=f"^{which}_norm: "):
        train(which, x, mean, var, **more)
    assert (mean == keep[0]).all() and (var == keep[1]).all() and (more["out"] == 9).all()


@both
def test_no_samples_move_nothing(which: str) -> None:
    mean, var = fresh()
    assert train(which, np.zeros((0, 3, 4), np.float32), mean, var).shape == (0, 3, 4)
    assert (mean == fresh()[0]).all() and (var == fresh()[1]).all()


def test_a_nan_stays_in_its_channel() -> None:
    x, (mean, var) = X.copy(), fresh()
    x[2, 1, 3] = np.nan
    norma.batch_norm(x, mean, var, training=True)
    assert list(np.isnan(mean)) == list(np.isnan(var)) == [False, True, False]
