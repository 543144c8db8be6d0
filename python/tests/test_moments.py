"""Moments: statistics as values that merge, finish and move running statistics."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import norma
import numpy as np
import pytest
from oracle import TYPES, data

m: Any = norma.Moments
X = data((7, 3, 4, 5), TYPES[0], 1, 100)
WIDE = X.astype(np.float64)


@pytest.mark.parametrize(
    ("pattern", "sizes", "axes", "split"),
    [
        ("[...]", {}, (0, 1, 2, 3), X.shape),
        ("[n] c [h w]", {}, (0, 2, 3), X.shape),
        ("n c [h w]", {}, (2, 3), X.shape),
        ("[n] c (g [k]) [w]", {"g": 2}, (0, 3, 4), (7, 3, 2, 2, 5)),
    ],
)
@pytest.mark.parametrize("ddof", [0, 1])
def test_finish(pattern: str, sizes: Any, axes: Any, split: Any, ddof: int) -> None:
    moments = norma.Moments(pattern, **sizes)
    assert moments.shape is None
    moments.add(X)
    mean, var = moments.finish(unbiased=bool(ddof))
    split_x = WIDE.reshape(split)
    np.testing.assert_allclose(mean, split_x.mean(axes), rtol=1e-14)
    np.testing.assert_allclose(var, split_x.var(axes, ddof=ddof), rtol=1e-12)
    assert moments.shape == mean.shape == var.shape == moments.count.shape
    assert (moments.count == split_x.size // max(1, mean.size)).all()


def test_rms() -> None:
    moments = norma.Moments("n [c] h w", rms=True)
    moments.add(X)
    mean, var = moments.finish()
    assert (mean == 0).all()
    np.testing.assert_allclose(var, np.square(WIDE).mean(1), rtol=1e-13)


def test_batches_add_up() -> None:
    whole, parts, other = (norma.Moments("[n] c [h w]") for _ in range(3))
    whole.add(X)
    parts.add(X[:2])
    parts.add(X[2:2])
    other.add(X[2:].transpose(0, 1, 3, 2))
    parts.merge(other)
    parts.merge(norma.Moments("[n] c [h w]"))
    for a, b in zip(whole.finish(), parts.finish(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    assert (whole.count == parts.count).all() and (other.count == 5 * 20).all()


def test_into_an_empty_one() -> None:
    full, empty = norma.Moments(), norma.Moments()
    full.add(X)
    empty.merge(full)
    assert empty.finish()[0] == full.finish()[0] and empty.shape == ()
    full.add(X)
    assert empty.count == X.size


@pytest.mark.parametrize("how", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_pickle(how: Any) -> None:
    moments = norma.Moments("[n] c (g [k]) [w]", g=2, rms=True)
    fresh = how(moments)
    assert fresh.shape is None
    moments.add(X)
    fresh.add(X)
    other = how(moments)
    for one in (fresh, other):
        assert all((a == b).all() for a, b in zip(one.finish(), moments.finish(), strict=True))
        assert repr(one) == repr(moments) == "Moments('[n] c (g [k]) [w]', rms=True, ...), shape (3, 2)"
    other.add(X)
    assert (other.count == 2 * moments.count).all()


def test_states_that_do_not_fit() -> None:
    moments = norma.Moments("[n] c [h w]")
    moments.add(X)
    reduced: Any = moments.__reduce__()
    sizes, rms, values, shape = reduced[2]
    states: list[Any] = [
        (sizes, rms, values[1:], shape),
        (sizes, rms, values, (4,)),
        (sizes, rms, values, (-3,)),
        (sizes, rms, values, (2**60, 2**60)),
        ("g=1" * 99, rms, values, shape),
    ]
    for state in states:
        with pytest.raises(ValueError, match="Moments.__setstate__"):
            m("[n] c [h w]").__setstate__(state)
    for state in ((sizes, rms), None):
        with pytest.raises(TypeError):
            m().__setstate__(state)
    assert m.__new__(m).shape is None


def test_update_pytorch() -> None:
    mean, var = np.ones(3, np.float32), np.ones(3, np.float32)
    other_mean, other_var = mean.copy(), var.copy()
    moments = norma.Moments("[n] c [h w]")
    moments.add(X)
    moments.update(mean, var)
    norma.batch_norm(X, other_mean, other_var, training=True)
    assert (mean == other_mean).all() and (var == other_var).all()


def test_update_onnx_cumulative_and_samples() -> None:
    mean, var = np.ones(3), np.ones(3)
    moments = norma.Moments("[n] c [h w]")
    moments.add(X)
    moments.update(mean, var, convention="onnx", momentum=0.75)
    np.testing.assert_allclose(mean, 0.75 + 0.25 * WIDE.mean((0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(var, 0.75 + 0.25 * WIDE.var((0, 2, 3)), rtol=1e-12)
    mean, var = np.ones(3), np.ones(3)
    samples = norma.Moments("n c [h w]")
    samples.add(X)
    samples.update(mean, var, convention="cumulative", batches=4)
    np.testing.assert_allclose(mean, 0.75 + 0.25 * WIDE.mean((2, 3)).mean(0), rtol=1e-14)
    np.testing.assert_allclose(var, 0.75 + 0.25 * WIDE.var((2, 3), ddof=1).mean(0), rtol=1e-12)
    one = np.zeros(1)
    scalar = norma.Moments()
    scalar.add(X)
    scalar.update(one, momentum=1)
    np.testing.assert_allclose(one, WIDE.mean(), rtol=1e-14)


def test_values_that_are_not_finite() -> None:
    x = X.copy()
    x[0, 1] = np.inf
    moments = norma.Moments("[n] c [h w]")
    moments.add(x)
    mean, var = np.zeros(3), np.ones(3)
    with pytest.raises(ValueError, match="Moments.update: channel 1 has mean"):
        moments.update(mean, var, not_finite="refuse")
    assert (mean == 0).all() and (var == 1).all()
    moments.update(mean, var, not_finite="skip")
    assert list(mean == 0) == [False, True, False]
    moments.update(mean, var)
    assert list(np.isfinite(mean)) == [True, False, True]


FULL: Any = norma.Moments("[n] c [h w]")
FULL.add(X)
THREE = np.ones(3)
CASES: list[tuple[Any, type[Exception], str]] = [
    (lambda: m(3), TypeError, "Moments: pattern must be a string"),
    (lambda: m("n", g=1.5), TypeError, "Moments: g is no argument; as the length"),
    (lambda: m("n", "c"), TypeError, "Moments"),
    (lambda: m("n").add(X), ValueError, "Moments.add: pattern 'n' has 1 dimensions"),
    (lambda: m().add(X.astype(int)), TypeError, "Moments.add: x has dtype int64"),
    (lambda: m().add(None), TypeError, "Moments.add: x is None"),
    (lambda: m().finish(), ValueError, "Moments.finish: nothing was added"),
    (lambda: m().count, ValueError, "Moments.count: nothing was added"),
    (lambda: FULL.add(X[:, :2]), ValueError, "Moments.add: x has other units"),
    (lambda: m().merge(FULL) or FULL.merge(m("n [c h w]")) or m().merge(3), TypeError, "Moments.merge: other must be"),
    (lambda: FULL.merge(FULL), ValueError, "Moments.merge: other is the same object"),
    (lambda: FULL.merge(m(rms=True)), ValueError, "Moments.merge: other has rms=True"),
    (lambda: FULL.update(np.ones(4)), ValueError, "Moments.update: running_mean must have one entry"),
    (lambda: FULL.update(THREE, -THREE), ValueError, r"Moments.update: running_var\[0\] is -1"),
    (lambda: FULL.update(THREE, THREE), ValueError, "Moments.update: running_mean overlaps running_var"),
    (lambda: FULL.update(THREE, momentum=0), ValueError, "Moments.update: momentum is 0"),
    (lambda: FULL.update(THREE, convention="keras"), ValueError, "Moments.update: convention is 'keras', must be"),
    (lambda: FULL.update(THREE, convention="cumulative"), ValueError, "Moments.update: batches is 0"),
    (lambda: FULL.update(THREE, not_finite="drop"), ValueError, "Moments.update: not_finite is 'drop'"),
    (lambda: FULL.update(THREE, None, 0.1), TypeError, "Moments.update: 3 arguments by position"),
]


@pytest.mark.parametrize(("call", "kind", "text"), CASES)
def test_errors(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=f"^{text}"):
        call()


def test_too_few_elements() -> None:
    single = norma.Moments("[n] c")
    single.add(np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match="Moments.finish"):
        single.finish(unbiased=True)
    with pytest.raises(ValueError, match="Moments.update: channel 0 has 1 value"):
        single.update(None, np.ones(3))
    assert (single.finish()[1] == 0).all()
