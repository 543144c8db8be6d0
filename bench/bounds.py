#!/usr/bin/env python3
"""What bounds each row of workloads.txt: beside its time and that of its floor, which moves the same bytes and computes
nothing, that of its work, the same layer on one thread with so few units that all tensors lie in the second-level
cache. The row can take no less than the longer of the two, and takes no more than both where nothing has to be read
from afar a second time. All in nanoseconds for an element and a thread.

    python3 bench/bounds.py [--rows REGEX] [--threads N] [--rounds N] [--seconds S] [-o FILE.md]
"""
import argparse
import dataclasses
import math
import os
import pathlib
import re
import sys

import machine
import programs
import workloads

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("NORMA_BUILD", ROOT / "build"))
HEADING = ("row", "floor", "work", "norma", "of the longer", "of both")
# In which order dimensions shrink, each down to what kernels take at once where there is such a number: first those
# that only add units.
ORDER = {"layer": "nhw", "rms": "n", "group": "nhw", "instance": "ncdhw", "batch": "cnhw"}
LEAST = {"contiguous": {"c": 16}, "channels_last": {"c": 256}}


def half_of_second_level():
    size = machine.caches().get("L2 unified", "512K")
    return int(size.removesuffix("K")) * 1024 // 2


def tensor_bytes(problem, shape):
    tensors = 2 + problem.backward + ("add" in problem.keys)
    return math.prod(shape) * tensors * (4 if problem.type == "f32" else 2)


def in_cache(text, limit):
    """The problem string with dimensions halved until its tensors have no more than `limit` bytes."""
    problem = workloads.take_apart(text)
    shape = dict(zip(problem.names, problem.shape))
    for name in ORDER[problem.kind]:
        least = LEAST[problem.layout].get(name, 1)
        while tensor_bytes(problem, shape.values()) > limit and shape.get(name, 1) > least:
            shape[name] = max(shape[name] // 2, least)
    items = [f"{name}{length}" for name, length in shape.items()] + [f"{k}={v}" for k, v in problem.keys.items()]
    return f"{problem.kind}:{','.join(items)}"


def nanoseconds(rounds, text, what, threads):
    least = min(turn["seconds"][what]["min"] for turn in rounds)
    return least * 1e9 * threads / math.prod(workloads.take_apart(text).shape)


def measure(workload, threads, arguments, limit):
    """Floor, work and time of a row, in turns."""
    small = dataclasses.replace(workload, problem=in_cache(workload.problem, limit))
    both = [programs.Norma(BUILD / "norma", workload, threads), programs.Norma(BUILD / "norma", small, 1)]
    try:
        turns = [[program.measure(arguments.seconds) for program in both] for _ in range(arguments.rounds)]
    finally:
        for program in both:
            program.close()
    whole, work = zip(*turns)
    return (nanoseconds(whole, workload.problem, "floor", threads), nanoseconds(work, small.problem, "norma", 1),
            nanoseconds(whole, workload.problem, "norma", threads))


def summary(rows):
    by_work = sum(work > floor for _, floor, work, _ in rows)
    within = sum(time <= floor + work for _, floor, work, time in rows)
    return (f"{len(rows)} rows; on {by_work} the work takes longer than the floor; {within} take no more than both "
            f"together")


def main():
    parser = argparse.ArgumentParser(description="Times each row beside its floor and its work in the cache.")
    parser.add_argument("--rows", default="", metavar="REGEX", help="only rows whose name matches")
    parser.add_argument("--threads", type=int, default=2, help="of the rows (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--seconds", type=float, default=0.06, help="length of a turn (default 0.06)")
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE", help="the table as Markdown, too")
    arguments = parser.parse_args()
    limit = half_of_second_level()
    print("\n".join(machine.sentences(machine.describe(BUILD / "norma"))) + "\n")
    print(f"{HEADING[0]:<48}" + "".join(f"{name:>15}" for name in HEADING[1:]), flush=True)
    rows = []
    for workload in workloads.read():
        if workload.small or not re.search(arguments.rows, workload.name):
            continue
        floor, work, time = measure(workload, arguments.threads, arguments, limit)
        rows.append((workload.name, floor, work, time))
        numbers = (floor, work, time, time / max(floor, work), time / (floor + work))
        print(f"{workload.name:<48}" + "".join(f"{number:>15.3f}" for number in numbers), flush=True)
    if not rows:
        parser.error(f"no row matches '{arguments.rows}'")
    print("\n" + summary(rows))
    if arguments.output:
        lines = ["| " + " | ".join(HEADING) + " |", "|---|" + "---:|" * (len(HEADING) - 1)]
        lines += [f"| {name} | {floor:.2f} | {work:.2f} | {time:.2f} | {time / max(floor, work):.2f} | "
                  f"{time / (floor + work):.2f} |" for name, floor, work, time in rows]
        arguments.output.write_text("\n".join([*lines, "", summary(rows), ""]))


if __name__ == "__main__":
    sys.exit(main())
