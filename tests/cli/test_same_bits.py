"""The same bits on every instruction set, with every number of threads, in every memory layout: the checksums of 1,000
random problems and of some thirty large ones, line by line."""

import json
import os
import platform
import subprocess
from pathlib import Path

import pytest

from oracle import NORMA

PROBLEMS = 1000
MANNERS = {  # options, NORMA_NUM_THREADS for the default pool, and NORMA_STREAM_BYTES
    "as the problems say": ([], None),
    "contiguous, 1 thread": (["--layout", "contiguous", "--threads", "1"], None),
    "channels last, 2 threads": (["--layout", "channels_last", "--threads", "2"], None),
    "transpose, 3 threads, off by 1": (["--layout", "transpose", "--threads", "3", "--align", "1"], None),
    "reverse, 8 threads": (["--layout", "reverse", "--threads", "8"], None),
    "slice, pool of 1, off by 7": (["--layout", "slice", "--threads", "0", "--align", "7"], 1),
    "contiguous, pool of 2, off by 3": (["--layout", "contiguous", "--threads", "0", "--align", "3"], 2),
    "channels last, pool of 3": (["--layout", "channels_last", "--threads", "0", "--align", "0"], 3),
    "contiguous, pool of 8": (["--layout", "contiguous", "--threads", "0", "--align", "0"], 8),
    "past the caches, in whole lines": (["--align", "0"], None, 1),
    "past the caches, off by 5": (["--align", "5"], None, 1),
    "never past the caches": ([], None, 1 << 60),
}


def norma(isa, threads, *arguments, stream_bytes=None):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NORMA_")}
    environment["NORMA_ISA"] = isa
    if threads:
        environment["NORMA_NUM_THREADS"] = str(threads)
    if stream_bytes:
        environment["NORMA_STREAM_BYTES"] = str(stream_bytes)
    done = subprocess.run([NORMA, *arguments], capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def sets_of_this_machine():
    """What the processor has, by what Linux says of it: nothing that the library decides."""
    if platform.machine() in ("aarch64", "arm64"):
        return ["scalar", "neon"]
    if platform.machine() != "x86_64":
        return ["scalar"]
    words = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            words = set(line.split())
            break
    sets = ["scalar", "sse2"]
    if {"avx2", "f16c"} <= words:
        sets.append("avx2")
        if {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= words:
            sets.append("avx512")
    return sets


SETS = sets_of_this_machine()


def checksums(isa, manner):
    """The lines of all problems; the instruction set was the one asked for."""
    options, threads, *stream = MANNERS[manner]
    arguments = ("check", "--checksums", str(PROBLEMS), "--seed", "1", *options)
    lines = norma(isa, threads, *arguments, stream_bytes=stream[0] if stream else None).splitlines()
    assert lines.pop(0) == f"instruction set: {isa}"
    return lines


@pytest.fixture(scope="module")
def expected():
    return checksums("scalar", "contiguous, 1 thread")


def test_the_best_set_is_used_and_each_other_can_be_asked_for():
    assert json.loads(norma("any other word", None, "version", "--json"))["instruction_set"] == SETS[-1]
    for isa in SETS:
        assert json.loads(norma(isa, None, "version", "--json"))["instruction_set"] == isa


def test_the_problems_differ_and_some_are_large(expected):
    assert len(expected) >= PROBLEMS + 30
    pairs = dict(line.split(" ", 1)[::-1] for line in expected)
    assert len(pairs) > PROBLEMS  # hardly a string twice,
    assert len(set(pairs.values())) > 0.9 * len(pairs)  # nor a result, but for empty tensors and constants
    lengths = []
    for text in pairs:
        size = 1
        for item in text.split(":", 1)[1].split(","):
            if "=" in item:
                break
            size *= int(item.lstrip("abcdefghijklmnopqrstuvwxyz"))
        lengths.append(size)
    assert sum(size > 300000 for size in lengths) >= 15


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("isa", SETS)
def test_every_set_and_manner_gives_the_same_bits(isa, manner, expected):
    got = checksums(isa, manner)
    assert [line.split(" ", 1)[1] for line in got] == [line.split(" ", 1)[1] for line in expected]
    differing = [(line.split(" ", 1)[1], line[:16], right[:16]) for line, right in zip(got, expected) if line != right]
    assert not differing, f"{len(differing)} of {len(got)}, the first: {differing[:5]}"


def test_another_seed_gives_other_lines(expected):
    lines = norma("scalar", None, "check", "--checksums", "50", "--seed", "2").splitlines()[1:]
    assert len(set(lines) - set(expected)) >= 50
