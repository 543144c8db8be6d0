"""Momentum and variance from one convention to another: what they do is the same, and what cannot be says so."""

from __future__ import annotations

from typing import Any

import norma
import numpy as np
import pytest
from norma import convert_momentum, convert_variance
from oracle import TYPES, data

BATCHES = [data((4, 3, 5), TYPES[0], seed, 10) for seed in range(60)]
M = 20


def run(convention: Any, momentum: float) -> Any:
    """float64 running variances after all batches."""
    mean, var = np.zeros(3), np.ones(3)
    for x in BATCHES:
        moments = norma.Moments("[n] c [l]")
        moments.add(x)
        moments.update(mean, var, momentum=momentum, convention=convention)
    return var


def test_the_statistics_are_those_of_the_other_convention() -> None:
    """After 60 batches of momentum 0.5 the 1 that the variance started with has no part in it."""
    torch, onnx = run("pytorch", 0.5), run("onnx", 0.5)
    assert (abs(torch / onnx - 1) > 0.05).all()
    np.testing.assert_allclose(convert_variance(torch, "pytorch", "onnx", M), onnx, rtol=1e-14)
    np.testing.assert_allclose(convert_variance(onnx, "onnx", "pytorch", [M] * 3), torch, rtol=1e-14)
    mean, var = np.zeros(3), np.ones(3)
    other_mean, other_var = np.zeros(3), np.ones(3)
    moments = norma.Moments("[n] c [l]")
    moments.add(BATCHES[0])
    moments.update(mean, var, momentum=0.3)
    momentum = convert_momentum(0.3, "pytorch", "onnx")
    moments.update(other_mean, other_var, momentum=momentum, convention="onnx")
    np.testing.assert_allclose(mean, other_mean, rtol=1e-15)


def test_there_and_back() -> None:
    """Digits of momentum survive, and float32 variances in float64."""
    for thousandth in range(1001):
        momentum = thousandth / 1000
        other = convert_momentum(momentum, "pytorch", "onnx")
        assert other is not None and other == (1000 - thousandth) / 1000
        assert convert_momentum(other, "onnx", "pytorch") == momentum
    assert convert_momentum(None, "pytorch", "cumulative") is convert_momentum(None, "cumulative", "pytorch") is None
    assert convert_momentum(0.1, "pytorch", "pytorch") == 0.1
    var = data((1000,), TYPES[0], 3, 0) ** 2
    for m in (2, 7, 100352):
        back = convert_variance(convert_variance(var, "cumulative", "onnx", m), "onnx", "cumulative", m)
        assert (back.astype(np.float32) == var).all()
    assert (convert_variance(var, "pytorch", "cumulative") == var).all()


CASES: list[tuple[Any, str]] = [
    (lambda: convert_momentum(None, "pytorch", "onnx"), "convert_momentum: momentum is None, the cumulative average"),
    (lambda: convert_momentum(0.1, "pytorch", "cumulative"), "convert_momentum: momentum is 0.1, but the cumulative"),
    (lambda: convert_momentum(0.1, "cumulative", "onnx"), "convert_momentum: momentum is 0.1, but the cumulative"),
    (lambda: convert_momentum(1.1, "pytorch", "onnx"), "convert_momentum: momentum is 1.1, must be in 0 to 1"),
    (lambda: convert_momentum(float("nan"), "pytorch", "onnx"), "convert_momentum: momentum is nan"),
    (lambda: convert_momentum(0.1, "keras", "onnx"), "convert_momentum: source is 'keras', must be"),  # type: ignore
    (lambda: convert_variance([1], "onnx", "tf"), "convert_variance: target is 'tf', must be"),  # type: ignore
    (lambda: convert_variance([1], "onnx", "pytorch"), "convert_variance: 'onnx' divides by m and 'pytorch' by m - 1"),
    (lambda: convert_variance([1], "pytorch", "onnx"), "convert_variance: 'pytorch' divides by m - 1 and 'onnx' by m,"),
    (lambda: convert_variance([1], "pytorch", "onnx", 1), "convert_variance: count is 1, must be above 1"),
    (lambda: convert_variance([1, 2], "onnx", "pytorch", [4, 0]), r"convert_variance: count is \[4, 0\]"),
    (lambda: convert_variance([3, -2], "onnx", "onnx"), r"convert_variance: var\[1\] is -2"),
]


@pytest.mark.parametrize(("call", "text"), CASES)
def test_errors(call: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        call()
