"""The layers as formulas in long double, and the error that norma.h allows: what all tests here compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import norma
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TYPES = [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), BFLOAT16]
# Half a unit in the last place, relative, and below the normal numbers, absolute.
ROUNDING = {TYPES[2]: (2.0**-11, 2.0**-25), BFLOAT16: (2.0**-8, 2.0**-134)}


@dataclass
class Layer:
    """A layer on x of `shape`. In the shape `split`, where each dimension is one axis, `shared` are normalized
    together, and weight has the shape `param`, or `spread` to be multiplied with x."""

    name: str
    shape: tuple[int, ...]
    shared: tuple[int, ...]
    param: tuple[int, ...]
    spread: tuple[int, ...]
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    split: tuple[int, ...] = ()
    rms: bool = False

    def __call__(self, x: Array, weight: Array | None = None, bias: Array | None = None, **more: Any) -> Any:
        given = {"weight": weight} if self.rms else {"weight": weight, "bias": bias}
        return self.forward(x, **given, **self.arguments, **more)

    def gradients(self, dy: Array, x: Array, weight: Array | None = None, **more: Any) -> Any:
        return self.backward(dy, x, weight=weight, **self.arguments, **more)


LAYERS = [
    Layer(
        "layer", (4, 5, 33), (2,), (33,), (33,), norma.layer_norm, norma.layer_norm_backward, {"normalized_shape": 33}
    ),
    Layer(
        "layer-2",
        (6, 5, 14),
        (1, 2),
        (5, 14),
        (5, 14),
        norma.layer_norm,
        norma.layer_norm_backward,
        {"normalized_shape": (5, 14)},
    ),
    Layer(
        "channels-first",
        (2, 24, 5, 3),
        (1,),
        (24,),
        (24, 1, 1),
        norma.layer_norm,
        norma.layer_norm_backward,
        {"axes": 1},
    ),
    Layer(
        "rms",
        (4, 5, 33),
        (2,),
        (33,),
        (33,),
        norma.rms_norm,
        norma.rms_norm_backward,
        {"normalized_shape": (33,)},
        rms=True,
    ),
    Layer(
        "rms-channels",
        (2, 24, 5, 3),
        (1,),
        (24,),
        (24, 1, 1),
        norma.rms_norm,
        norma.rms_norm_backward,
        {"axes": -3},
        rms=True,
    ),
    Layer(
        "batch",
        (6, 5, 4, 3),
        (0, 2, 3),
        (5,),
        (5, 1, 1),
        norma.batch_norm,
        norma.batch_norm_backward,
        {"training": True},
    ),
    Layer("instance", (2, 3, 5, 7), (2, 3), (3,), (3, 1, 1), norma.instance_norm, norma.instance_norm_backward),
    Layer(
        "group",
        (2, 12, 5, 3),
        (2, 3, 4),
        (12,),
        (4, 3, 1, 1),
        norma.group_norm,
        norma.group_norm_backward,
        {"num_groups": 4},
        (2, 4, 3, 5, 3),
    ),
    Layer(
        "general",
        (6, 4, 9),
        (1, 3),
        (2, 9),
        (2, 1, 1, 9),
        norma.norm,
        norma.norm_backward,
        {"pattern": "(a [b]) c [d]", "a": 2, "affine": "a d"},
        (2, 3, 4, 9),
    ),
]


def wide(array: Array) -> Array:
    return array.astype(np.float64).astype(np.longdouble)


def default_eps(layer: Layer, dtype: np.dtype[Any]) -> float:
    if not layer.rms:
        return 1e-5
    return float(2.0**-52) if dtype == np.float64 else float(2.0**-23)


def statistics(layer: Layer, x: Array) -> tuple[Array, Array, Array]:
    """x in the shape of axes, its mean and rstd."""
    split = wide(x).reshape(layer.split or layer.shape)
    mean = split.mean(layer.shared, keepdims=True) * (0 if layer.rms else 1)
    var = np.square(split - mean).mean(layer.shared, keepdims=True)
    return split, mean, 1 / np.sqrt(var + default_eps(layer, x.dtype))


def forward(layer: Layer, x: Array, weight: Array | None, bias: Array | None) -> tuple[Array, Array]:
    """y, and the error that is allowed."""
    split, mean, rstd = statistics(layer, x)
    gamma = np.longdouble(1) if weight is None else wide(weight).reshape(layer.spread)
    beta = np.longdouble(0) if bias is None or layer.rms else wide(bias).reshape(layer.spread)
    product = (split - mean) * rstd * gamma
    exact = product + beta
    terms, size = np.abs(product) + np.abs(beta), np.abs(gamma)
    if x.dtype == np.float64:
        bound = 1e-14 * (terms + size) + np.longdouble("1e-305")
    else:
        bound = 5e-7 * terms + 1e-14 * size * (1 + np.abs(mean) * rstd) + 1e-37
    if x.dtype in ROUNDING:
        relative, absolute = ROUNDING[x.dtype]
        bound = bound * (1 + relative) + relative * np.abs(exact) + absolute
    return exact.reshape(layer.shape), np.broadcast_to(bound, exact.shape).reshape(layer.shape)


def backward(layer: Layer, dy: Array, x: Array, weight: Array | None) -> list[tuple[Array, Array]]:
    """(dx, dweight, dbias), each with the error that is allowed; RMS norm has no dbias."""
    split, mean, rstd = statistics(layer, x)
    grad = wide(dy).reshape(split.shape)
    gamma = np.longdouble(1) if weight is None else wide(weight).reshape(layer.spread)
    xhat, q = (split - mean) * rstd, grad * gamma
    mean_q = q.mean(layer.shared, keepdims=True) * (0 if layer.rms else 1)
    dx = rstd * (q - mean_q - xhat * (q * xhat).mean(layer.shared, keepdims=True))
    spread = (1,) * (split.ndim - len(layer.spread)) + layer.spread
    axes = tuple(d for d in range(split.ndim) if spread[d] == 1)
    count = np.longdouble(split.size / np.prod(layer.param))
    term_dx = np.abs(rstd * q).max()
    results = [(dx.reshape(layer.shape), term_dx)]
    for product in [grad * xhat] if layer.rms else [grad * xhat, grad]:
        results.append((product.sum(axes).reshape(layer.param), np.abs(product).max()))
    assert count > 0
    share, parts = (1e-12, (1e-12,) * 3) if x.dtype == np.float64 else (1e-5, (2e-6, 1e-7, 1e-7))
    return [
        (exact, np.full(exact.shape, share * np.abs(exact).max() + part * term))
        for (exact, term), part in zip(results, parts, strict=False)
    ]


def rounded(bound: Array, exact: Array, dtype: np.dtype[Any]) -> Array:
    """The bound of a result that is rounded to `dtype` at the end."""
    if dtype == np.float64:
        return bound
    relative, absolute = ROUNDING.get(dtype, (2.0**-24, 2.0**-150))
    return np.asarray(bound * (1 + relative) + relative * np.abs(exact) + absolute)


def check(result: Array, exact: Array, bound: Array) -> None:
    error = np.abs(wide(result) - exact)
    worst = np.unravel_index(np.argmax(error - bound), error.shape) if error.size else ()
    assert (error <= bound).all(), f"at {worst}: {result[worst]}, exactly {exact[worst]}, bound {bound[worst]}"


def data(shape: tuple[int, ...], dtype: np.dtype[Any], seed: int, offset: float = 0) -> Array:
    return (np.random.default_rng(seed).normal(size=shape) + offset).astype(dtype)


def param_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64) if dtype == np.float64 else np.dtype(np.float32)


def layouts(x: Array) -> dict[str, Array]:
    """The same values in other memory."""
    order = np.random.default_rng(1).permutation(x.ndim)
    channels_last = [0, *range(2, x.ndim), *range(1, min(x.ndim, 2))]
    padded = np.zeros(tuple(2 * n + 3 for n in x.shape), x.dtype)
    inside = padded[tuple(slice(2, 2 * n + 2, 2) for n in x.shape)]
    inside[...] = x
    return {
        "channels last": np.ascontiguousarray(x.transpose(channels_last)).transpose(np.argsort(channels_last)),
        "permuted": np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order)),
        "fortran": np.asfortranarray(x),
        "slice": inside,
        "reversed": np.ascontiguousarray(np.flip(x)).copy()[tuple(slice(None, None, -1) for _ in x.shape)],
        "read-only": np.broadcast_to(x[None], (1, *x.shape))[0],
    }
