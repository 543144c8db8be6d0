"""Threads: the same bits with any number, other Python threads run during a call, and many may call at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import norma
import numpy as np
import pytest
from oracle import LAYERS, TYPES, data


@pytest.fixture(autouse=True)
def default_threads() -> Iterator[None]:
    yield
    norma.set_num_threads(0)


def test_the_count() -> None:
    default = norma.get_num_threads()
    assert default >= 1
    norma.set_num_threads(3)
    assert norma.get_num_threads() == 3
    norma.set_num_threads(2**40)
    assert norma.get_num_threads() == 64
    norma.set_num_threads(0)
    assert norma.get_num_threads() == default


BIG = [
    (norma.layer_norm, (500, 768), {"normalized_shape": 768}, "layer"),
    (norma.rms_norm, (500, 768), {"normalized_shape": 768}, "rms"),
    (norma.batch_norm, (16, 32, 28, 28), {"training": True}, "batch"),
    (norma.instance_norm, (16, 32, 28, 28), {}, "instance"),
    (norma.group_norm, (16, 32, 28, 28), {"num_groups": 8}, "group"),
]


@pytest.mark.parametrize(("function", "shape", "keywords", "name"), BIG, ids=[row[3] for row in BIG])
def test_the_number_of_threads_changes_no_bit(function: Any, shape: Any, keywords: Any, name: str) -> None:
    x, dy = data(shape, TYPES[0], 1, 10), data(shape, TYPES[0], 2)
    weight = data((768 if len(shape) == 2 else 32,), TYPES[0], 3)
    if len(shape) == 4:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    backward = getattr(norma, function.__name__ + "_backward")
    results = []
    for count in (1, 2, 3, 7):
        norma.set_num_threads(count)
        results.append([function(x, weight=weight, **keywords), *backward(dy, x, weight=weight, **keywords)])
    for other in results[1:]:
        assert all((a == b).all() for a, b in zip(results[0], other, strict=True)), name


LONG = data((60, 1, 100_000), TYPES[1], 1)
CALLS: dict[str, Any] = {
    "forward": lambda: norma.layer_norm(LONG, 100_000),
    "backward": lambda: norma.layer_norm_backward(LONG, LONG, 100_000),
    "adain": lambda: norma.adain(LONG, LONG),
    "moments": lambda: norma.Moments().add(LONG),
}


@pytest.mark.parametrize("name", CALLS)
def test_other_python_threads_run_during_a_call(name: str) -> None:
    """A call that takes a while in another thread; this one counts meanwhile. With the lock held from the beginning of
    the call to its end, it could not count at all: nobody is made to give it up here."""
    state = {"inside": False, "done": False}

    def work() -> None:
        state["inside"] = True
        for _ in range(3):
            CALLS[name]()
        state["done"] = True

    norma.set_num_threads(1)
    keep = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=work)
        count, pause = 0, threading.Event()
        thread.start()
        while not state["done"]:
            count += state["inside"]
            pause.wait(1e-4)
        thread.join()
    finally:
        sys.setswitchinterval(keep)
    assert count >= 5


def test_many_threads_at_once() -> None:
    """Also more layers than the extension keeps."""
    arrays = [data((rows, 8, 5), TYPES[0], rows, rows) for rows in range(1, 101)]
    plain = [norma.group_norm(x, 4) for x in arrays]
    gradients = [norma.layer_norm_backward(x, x, (8, 5)) for x in arrays]

    def work(i: int) -> bool:
        x = arrays[i % 100]
        same = (norma.group_norm(x, 4) == plain[i % 100]).all()
        results = norma.layer_norm_backward(x, x, (8, 5))
        return bool(same) and all((a == b).all() for a, b in zip(results, gradients[i % 100], strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(2000)))


def test_arrays_may_change_their_shape_and_be_dropped_during_a_call() -> None:
    """What the core reads was noted before the lock was given up, and the references are held."""
    plain = norma.layer_norm(data((200, 5000), TYPES[1], 1), 5000)
    box = [data((200, 5000), TYPES[1], 1)]
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(norma.layer_norm(box[0], 5000)))
    thread.start()
    while thread.is_alive():
        box[0].shape = (5000, 200)
        box[0].shape = (200, 5000)
        box[0] = box[0].view()
    thread.join()
    assert results[0].shape in {(200, 5000)} and (results[0] == plain).all()


def test_after_fork() -> None:
    """A child of a process whose threads have run computes the same; in a process of its own, without pytest's."""
    program = """
import os, norma, numpy as np
norma.set_num_threads(4)
x = np.random.default_rng(0).normal(size=(400, 800)).astype(np.float32)
plain = norma.layer_norm(x, 800)
child = os.fork()
if child == 0:
    os._exit(0 if (norma.layer_norm(x, 800) == plain).all() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)


def test_all_layers_are_there() -> None:
    assert {row[0] for row in BIG} < {layer.forward for layer in LAYERS}
