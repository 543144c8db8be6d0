"""What comes from outside NumPy: DLPack, array interfaces, lists, subclasses; and lifetimes and references."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Any

import norma
import numpy as np
import pytest
from oracle import BFLOAT16, TYPES, data

n: Any = norma


class Foreign:
    """An array of another library, which speaks DLPack only; `old` knows no max_version."""

    def __init__(self, array: Any, old: bool = False) -> None:
        self.array, self.old = array, old

    def __dlpack__(self, **keywords: Any) -> Any:
        if self.old and keywords:
            raise TypeError("unexpected keyword")
        return self.array.__dlpack__(**keywords)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("dtype", TYPES[:3], ids=str)
def test_dlpack(old: bool, dtype: Any) -> None:
    x, weight = data((2, 6, 5), dtype, 1), data((6,), np.dtype(np.float64 if dtype == np.float64 else np.float32), 2)
    view = x.transpose(0, 2, 1)[::-1, ::2]
    y = n.layer_norm(Foreign(view, old), 6, Foreign(weight, old))
    assert type(y) is np.ndarray and (y == norma.layer_norm(view, 6, weight)).all()
    out = Foreign(np.zeros_like(view), old)
    assert n.layer_norm(view, 6, weight, out=out) is out and (out.array == y).all()


def test_dlpack_running_statistics_are_updated() -> None:
    x, mean, var = data((4, 3), TYPES[0], 1), np.zeros(3, np.float32), np.ones(3, np.float32)
    n.batch_norm(x, Foreign(mean), Foreign(var), training=True)
    assert (mean != 0).all() and (var != 1).all()


def test_dlpack_read_only() -> None:
    x = data((4, 3), TYPES[0], 1)
    x.flags.writeable = False
    assert (n.layer_norm(Foreign(x), 3) == norma.layer_norm(x, 3)).all()
    with pytest.raises(ValueError, match="layer_norm: out is read-only"):
        n.layer_norm(x, 3, out=Foreign(x))


def test_dlpack_errors_name_the_argument() -> None:
    with pytest.raises(TypeError, match="layer_norm: x has DLPack type code 0 of 64 bits"):
        n.layer_norm(Foreign(np.arange(6)), 6)
    with pytest.raises(ValueError, match="layer_norm: x has 9 dimensions"):
        n.layer_norm(Foreign(np.zeros((1,) * 9)), 1)
    for wrong in (3, None):
        capsule = type("Wrong", (), {"__dlpack__": lambda self, value=wrong, **keywords: value})()
        with pytest.raises(TypeError, match="layer_norm: x: __dlpack__ gave no DLPack capsule"):
            n.layer_norm(capsule, 1)
    fails = type("Fails", (), {"__dlpack__": lambda self, **keywords: [].pop()})()
    with pytest.raises(TypeError, match="layer_norm: x cannot be read by DLPack: pop from empty list"):
        n.layer_norm(fails, 1)


class Head(ctypes.Structure):
    """The first fields of a DLPack tensor, as its specification has them."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    ]


class Changed(Foreign):
    """An array whose DLPack capsule is changed on its way."""

    def __init__(self, array: Any, **fields: int) -> None:
        super().__init__(array)
        self.fields = fields

    def __dlpack__(self, **keywords: Any) -> Any:
        capsule = self.array.__dlpack__()
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        head = Head.from_address(pointer(capsule, b"dltensor") or 0)
        for name, value in self.fields.items():
            setattr(head, name, value)
        return capsule


def test_dlpack_bfloat16() -> None:
    x = data((4, 6), BFLOAT16, 1)
    y = n.layer_norm(Changed(x.view(np.uint16), code=4), 6)
    assert y.dtype == BFLOAT16 and (y == norma.layer_norm(x, 6)).all()


def test_dlpack_devices_and_lanes() -> None:
    with pytest.raises(TypeError, match="layer_norm: x is on a device of DLPack type 2, must be on the CPU"):
        n.layer_norm(Changed(data((4, 6), TYPES[0], 1), device_type=2), 6)
    with pytest.raises(TypeError, match="layer_norm: x has DLPack type code 2 of 32 bits"):
        n.layer_norm(Changed(data((4, 6), TYPES[0], 1), lanes=4), 6)


def test_dlpack_keeps_nothing() -> None:
    x = data((4, 3), TYPES[0], 1)
    before = sys.getrefcount(x)
    for _ in range(100):
        n.layer_norm(Foreign(x), 3)
        n.layer_norm(Foreign(x, old=True), 3, out=Foreign(x))
        with pytest.raises(ValueError, match="normalized_shape"):
            n.layer_norm(Foreign(x), 4)
    gc.collect()
    assert sys.getrefcount(x) == before


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):
        call()


def test_no_call_keeps_a_reference() -> None:
    x, p = data((4, 6), TYPES[0], 1), data((6,), TYPES[0], 2)
    mean, var, out = np.zeros(6, np.float32), np.ones(6, np.float32), np.zeros_like(x)
    dtype = x.dtype
    objects = [x, p, mean, var, out, dtype]
    calls: list[Callable[[], Any]] = [
        lambda: norma.layer_norm(x, 6, p, p, out=out),
        lambda: norma.layer_norm(x, 6, p, p, return_stats=True),
        lambda: norma.batch_norm(x, mean, var, p, p, training=True, out=out),
        lambda: norma.batch_norm(x, mean, var, p, p),
        lambda: norma.group_norm_backward(x, x, 2, p),
        lambda: norma.norm_backward(x, x, "n [d]", affine="d", weight=p, bias=p, activation="relu"),
        lambda: norma.adain_backward(x[:, :, None], x[:, :, None], x[:, :, None]),
        lambda: norma.Moments("[n] c").add(x),
        lambda: refused(lambda: norma.layer_norm(x, 6, p, p, out=x[:1])),
        lambda: refused(lambda: norma.batch_norm(x, mean, mean, p, training=True)),
        lambda: refused(lambda: norma.layer_norm(x, 6, p, p[:3])),
    ]
    for call in calls:
        call()
        gc.collect()
        before = [sys.getrefcount(thing) for thing in objects]
        for _ in range(50):
            call()
        gc.collect()
        assert [sys.getrefcount(thing) for thing in objects] == before


def test_lists_scalars_and_array_interfaces() -> None:
    assert (norma.layer_norm([[1.0, 2.0, 3.0]], 3) == norma.layer_norm(np.array([[1.0, 2, 3]]), 3)).all()
    x = data((2, 3), TYPES[0], 1)
    holder = type("Holder", (), {"__array__": lambda self, dtype=None, copy=None: x})()
    assert (norma.layer_norm(holder, 3) == norma.layer_norm(x, 3)).all()
    assert (n.layer_norm(memoryview(x.data), 3) == norma.layer_norm(x, 3)).all()


def test_numpy_scalars_as_arguments() -> None:
    x = data((2, 4), TYPES[0], 1)
    y = n.group_norm(x, np.int64(2), eps=np.float32(0.5))
    assert (y == norma.group_norm(x, 2, eps=0.5)).all()
    assert (n.layer_norm(x, np.array([4])) == norma.layer_norm(x, [4])).all()
    assert (n.batch_norm(x, training=np.True_) == norma.batch_norm(x, training=True)).all()


def test_subclasses_give_plain_arrays() -> None:
    class Mine(np.ndarray[Any, Any]):
        pass

    x = data((2, 4), TYPES[0], 1)
    y = norma.layer_norm(x.view(Mine), 4)
    assert (np.asarray(y) == norma.layer_norm(x, 4)).all()
    assert isinstance(norma.layer_norm(x, 4, out=x.view(Mine)), Mine)


def test_results_outlive_their_inputs() -> None:
    x = data((20, 400), TYPES[0], 1)
    plain = norma.layer_norm(x, 400)
    y = n.layer_norm(Foreign(x.copy()), 400)
    gc.collect()
    assert (y == plain).all()
