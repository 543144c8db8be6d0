"""Running statistics move between the conventions of PyTorch, ONNX, Keras and Flax: momentum, and what divides var."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Convention = Literal["pytorch", "onnx", "cumulative"]
_DDOF = {"pytorch": 1, "onnx": 0, "cumulative": 1}


def _check(function: str, source: str, target: str) -> None:
    for name, value in (("source", source), ("target", target)):
        if value not in _DDOF:
            raise ValueError(f"{function}: {name} is {value!r}, must be 'pytorch', 'onnx' or 'cumulative'")


def convert_momentum(momentum: float | None, source: Convention, target: Convention) -> float | None:
    """The momentum that moves running statistics in `target` as `momentum` does in `source`.

    "pytorch": the weight of the new value; "onnx", which Keras and Flax share: the weight of the old value;
    "cumulative": no momentum, all batches weigh the same. PyTorch writes the last as momentum=None; ONNX, Keras and
    Flax cannot say it. The decimal digits are what is subtracted, so 0.9 becomes 0.1 and back, without rounding.

    ValueError: a momentum outside 0 to 1, or one that the target does not have.
    """
    _check("convert_momentum", source, target)
    if momentum is None:
        if source == "onnx" or target == "onnx":
            raise ValueError(
                "convert_momentum: momentum is None, the cumulative average, whose batch k has the weight 1 / k; "
                "'onnx' has a fixed momentum and cannot say that"
            )
        return None
    if not 0 <= momentum <= 1:
        raise ValueError(f"convert_momentum: momentum is {momentum!r}, must be in 0 to 1")
    if "cumulative" in (source, target):
        raise ValueError(
            f"convert_momentum: momentum is {momentum!r}, but the cumulative average has none: it must be None"
        )
    return float(momentum) if source == target else float(1 - Decimal(repr(float(momentum))))


def convert_variance(
    var: ArrayLike, source: Convention, target: Convention, count: ArrayLike | None = None
) -> NDArray[Any]:
    """Running variances of `source` as `target` has them, in float64.

    "pytorch" and "cumulative" divide by m - 1, "onnx", Keras and Flax by m, the elements per channel of a batch.

    count: m, a number or one per channel; needed where the two differ. The result is exact if all batches had this m
        and the value that the variances started with has decayed: that one is multiplied too. Batches of different
        sizes cannot be converted exactly; their statistics have to be taken again (norma.torch.recalibrate).

    ValueError: count is missing, below 1, or 1, which has no unbiased variance; a negative variance.
    """
    _check("convert_variance", source, target)
    result = np.array(var, np.float64)
    if (result < 0).any():
        at = int(np.flatnonzero(result < 0)[0])
        raise ValueError(f"convert_variance: var[{at}] is {result.flat[at]:g}, a variance must not be negative")
    if _DDOF[source] == _DDOF[target]:
        return result
    if count is None:
        raise ValueError(
            f"convert_variance: {source!r} divides by {_divisor(source)} and {target!r} by {_divisor(target)}, so "
            "count, the number m of elements per channel in a batch, is needed"
        )
    m = np.asarray(count, np.float64)
    if not (m > 1).all():
        raise ValueError(f"convert_variance: count is {count!r}, must be above 1: one element has no unbiased variance")
    factor = (m - _DDOF[source]) / (m - _DDOF[target])
    return np.asarray(result * factor)


def _divisor(convention: str) -> str:
    return "m - 1" if _DDOF[convention] else "m"
