"""Every wrong argument is a ValueError or a TypeError whose text names the function and the argument."""

from __future__ import annotations

from typing import Any

import norma
import numpy as np
import pytest

X = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
W3, W4 = np.ones(3, np.float32), np.ones(4, np.float32)
n: Any = norma  # the wrong types here are on purpose

CASES: list[tuple[str, Any, type[Exception], str]] = [
    ("nothing", lambda: n.layer_norm(), TypeError, "layer_norm: the argument x is missing"),
    ("no shape", lambda: n.layer_norm(X), TypeError, "layer_norm: the argument normalized_shape is missing"),
    ("keyword", lambda: n.layer_norm(X, 3, gamma=W3), TypeError, "layer_norm: there is no argument 'gamma'"),
    ("twice", lambda: n.layer_norm(X, 3, x=X), TypeError, "layer_norm: x is given twice"),
    (
        "positions",
        lambda: n.rms_norm(X, 3, W3, 1e-5, None),
        TypeError,
        "rms_norm: 5 arguments by position, there are 4",
    ),
    ("none", lambda: n.rms_norm(None, 3), TypeError, "rms_norm: x is None"),
    ("integers", lambda: n.layer_norm(X.astype(int), 3), TypeError, "layer_norm: x has dtype int64"),
    ("bools", lambda: n.layer_norm(X > 1, 3), TypeError, "layer_norm: x has dtype bool"),
    ("complex", lambda: n.layer_norm(X + 1j, 3), TypeError, "layer_norm: x has dtype complex"),
    ("objects", lambda: n.layer_norm(X.astype(object), 3), TypeError, "layer_norm: x has dtype object"),
    ("long double", lambda: n.layer_norm(X.astype(np.longdouble), 3), TypeError, "layer_norm: x has dtype"),
    ("records", lambda: n.layer_norm(np.zeros(3, "f4,f4"), 3), TypeError, "layer_norm: x has dtype"),
    ("void", lambda: n.layer_norm(np.zeros(3, "V2"), 3), TypeError, "layer_norm: x has dtype"),
    ("text", lambda: n.layer_norm("abc", 3), TypeError, "layer_norm: x has dtype <U3"),
    ("ragged", lambda: n.layer_norm([[1.0], [2.0, 3.0]], 3), TypeError, "layer_norm: x is no array"),
    ("masked", lambda: n.layer_norm(np.ma.masked_array(X), 3), TypeError, "layer_norm: x is a masked array"),
    ("0-d", lambda: n.layer_norm(np.float32(1), 1), ValueError, "layer_norm: x has no dimension"),
    ("0-d batch", lambda: n.batch_norm(np.float32(1)), ValueError, "batch_norm: x.ndim is 0"),
    ("1-d", lambda: n.instance_norm(W3), ValueError, "instance_norm: x.ndim is 1"),
    ("9-d", lambda: n.layer_norm(np.ones((1,) * 9), 1), ValueError, "layer_norm: x has 9 dimensions"),
    ("shape", lambda: n.layer_norm(X, 4), ValueError, "layer_norm: normalized_shape is 4"),
    (
        "long shape",
        lambda: n.layer_norm(X, (1, 2, 4, 3)),
        ValueError,
        r"layer_norm: normalized_shape is \(1, 2, 4, 3\)",
    ),
    ("empty shape", lambda: n.layer_norm(X, ()), ValueError, r"layer_norm: normalized_shape is \(\)"),
    ("float shape", lambda: n.layer_norm(X, 3.0), TypeError, "layer_norm: normalized_shape must be an integer"),
    ("float in shape", lambda: n.layer_norm(X, (3.0,)), TypeError, "layer_norm: normalized_shape must be an integer"),
    ("huge shape", lambda: n.layer_norm(X, 2**80), ValueError, "layer_norm: normalized_shape is"),
    ("axes", lambda: n.layer_norm(X, axes=3), ValueError, "layer_norm: axes is 3, but x has 3 dimensions"),
    ("no axes", lambda: n.layer_norm(X, axes=()), ValueError, "layer_norm: axes is empty"),
    ("axes twice", lambda: n.rms_norm(X, axes=(1, -2)), ValueError, r"rms_norm: axes is \(1, -2\), must ascend"),
    ("axes and shape", lambda: n.layer_norm(X, 3, axes=1), ValueError, "layer_norm: normalized_shape is 3"),
    (
        "weight shape",
        lambda: n.layer_norm(X, 3, W4),
        ValueError,
        r"layer_norm: weight has shape \(4,\), must be \(3,\)",
    ),
    (
        "bias shape",
        lambda: n.group_norm(X, 2, W4, W3),
        ValueError,
        r"group_norm: bias has shape \(3,\), must be \(4,\)",
    ),
    ("weight type", lambda: n.layer_norm(X, 3, np.ones(3)), TypeError, "layer_norm: weight has dtype float64"),
    ("weight integers", lambda: n.layer_norm(X, 3, [1, 1, 1]), TypeError, "layer_norm: weight has dtype int64"),
    ("eps", lambda: n.layer_norm(X, 3, eps=-1e-5), ValueError, "layer_norm: eps is -1e-05"),
    ("eps nan", lambda: n.adain(X, X, eps=float("nan")), ValueError, "adain: eps is nan"),
    ("eps text", lambda: n.layer_norm(X, 3, eps="1"), TypeError, "layer_norm: eps must be a number, not str"),
    ("groups", lambda: n.group_norm(X, 3), ValueError, "group_norm: num_groups is 3, which does not divide"),
    ("0 groups", lambda: n.group_norm(X, 0), ValueError, "group_norm: num_groups is 0"),
    ("float groups", lambda: n.group_norm(X, 2.0), TypeError, "group_norm: num_groups must be an integer"),
    ("no channels", lambda: n.group_norm(X[:, :0], 1), ValueError, "group_norm: the input has 0 channels"),
    ("training", lambda: n.batch_norm(X, training="no"), TypeError, "batch_norm: training must be a bool"),
    ("no statistics", lambda: n.batch_norm(X), ValueError, "batch_norm: running_mean is None"),
    (
        "no variance",
        lambda: n.instance_norm(X, W4, use_input_stats=False),
        ValueError,
        "instance_norm: running_var is None, with use_input_stats=False",
    ),
    ("statistics", lambda: n.batch_norm(X, W3, W4), ValueError, r"batch_norm: running_mean has shape \(3,\)"),
    (
        "statistics type",
        lambda: n.batch_norm(X, W4, np.ones(4)),
        TypeError,
        "batch_norm: running_var has dtype float64",
    ),
    (
        "updated type",
        lambda: n.batch_norm(X, np.ones(4), W4, training=True),
        TypeError,
        "batch_norm: running_mean has dtype float64",
    ),
    (
        "updated list",
        lambda: n.batch_norm(X.astype(float), [0.0] * 4, training=True),
        TypeError,
        "batch_norm: running_mean is updated, so it must be an array",
    ),
    ("variance", lambda: n.batch_norm(X, W4, -W4), ValueError, r"batch_norm: running_var\[0\] is -1"),
    ("momentum", lambda: n.batch_norm(X, training=True, momentum=-0.1), ValueError, "batch_norm: momentum is -0.1"),
    (
        "single",
        lambda: n.batch_norm(W3[None], training=True),
        ValueError,
        "batch_norm: each mean is taken over 1 value",
    ),
    ("one pixel", lambda: n.instance_norm(X[:, :, :1]), ValueError, "instance_norm: each mean is taken over 1 value"),
    ("out", lambda: n.layer_norm(X, 3, out=[0.0]), TypeError, "layer_norm: out must be an array, not list"),
    ("out shape", lambda: n.layer_norm(X, 3, out=X[:1]), ValueError, r"layer_norm: out has shape \(1, 4, 3\)"),
    ("out type", lambda: n.layer_norm(X, 3, out=X.astype(float)), TypeError, "layer_norm: out has dtype float64"),
    (
        "out read-only",
        lambda: n.layer_norm(X, 3, out=np.broadcast_to(W3, X.shape)),
        ValueError,
        "layer_norm: out is read-only",
    ),
    ("adain out", lambda: n.adain(X, X, out=X[:1]), ValueError, r"adain: out has shape .* as content"),
    ("style", lambda: n.adain(X, X[:, :2]), ValueError, "adain: style has 2 along"),
    ("style type", lambda: n.adain(X, X.astype(float)), TypeError, "adain: style has dtype float64"),
    ("style single", lambda: n.adain(X, X[:, :, :1], unbiased=True), ValueError, "adain: each variance of the style"),
    (
        "dy shape",
        lambda: n.layer_norm_backward(X[:1], X, 3),
        ValueError,
        r"layer_norm_backward: dy has shape \(1, 4, 3\)",
    ),
    (
        "dy type",
        lambda: n.batch_norm_backward(X.astype(float), X),
        TypeError,
        "batch_norm_backward: dy has dtype float64",
    ),
    ("dy missing", lambda: n.group_norm_backward(X, X), TypeError, "group_norm_backward: the argument num_groups"),
    ("pattern", lambda: n.norm(X, "a b"), ValueError, "norm: pattern 'a b' has 2 dimensions"),
    ("pattern type", lambda: n.norm(X, 3), TypeError, "norm: pattern must be a string, not int"),
    ("pattern NUL", lambda: n.norm(X, "a\0b"), ValueError, "norm: pattern holds a NUL"),
    ("affine", lambda: n.norm(X, "a b [c]", affine="d"), ValueError, "norm: affine 'd' names 'd'"),
    (
        "no affine",
        lambda: n.norm(X, "a b [c]", weight=W3),
        ValueError,
        "norm: weight is given, but affine names no axis",
    ),
    ("axis", lambda: n.norm(X, "a b [c]", g=2), ValueError, "norm: sizes gives g=2"),
    ("axis type", lambda: n.norm(X, "a b [c]", g=2.0), TypeError, "norm: g is no argument; as the length of an axis"),
    ("activation", lambda: n.norm(X, "a b [c]", activation="tanh"), ValueError, "norm: activation is 'tanh', must be"),
    ("mean alone", lambda: n.norm(X, "a b [c]", mean=X[:, :, 0]), ValueError, "norm: var is None"),
    (
        "rms mean",
        lambda: n.norm(X, "a b [c]", rms=True, mean=X[:, :, 0], var=X[:, :, 0]),
        ValueError,
        "norm: mean is set",
    ),
    ("threads", lambda: n.set_num_threads(-1), ValueError, "set_num_threads: count is -1"),
    ("thread type", lambda: n.set_num_threads(1.5), TypeError, "set_num_threads: count must be an integer"),
]


@pytest.mark.parametrize(("call", "kind", "text"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_error(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=f"^{text}"):
        call()


def test_an_error_of_the_argument_itself_is_passed_on() -> None:
    class Odd:
        def __index__(self) -> int:
            raise ZeroDivisionError("odd")

    with pytest.raises(ZeroDivisionError, match="odd"):
        n.group_norm(X, Odd())
