#!/usr/bin/env python3
"""What it costs if several processes share the processors and each has threads for all of them: 8 processes with the
default number of threads, in turns with 8 that have one thread each, which is the ideal. Needs .venv with the Python
package (make python).

    .venv/bin/python bench/processes.py [--processes N] [--rounds N]
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

# Rows of 768 elements, and calls: from a call that starts no thread to one that outgrows the second-level cache.
SIZES = ((8, 20000), (64, 4000), (512, 800), (4096, 80))


def work(rows, calls):
    """Waits for a line, then calls layer norm so many times."""
    import norma
    import numpy as np
    x = np.random.default_rng(0).standard_normal((rows, 768), np.float32)
    y, weight, bias = np.empty_like(x), np.ones(768, np.float32), np.zeros(768, np.float32)
    norma.layer_norm(x, (768,), weight, bias, out=y)
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(calls):
        norma.layer_norm(x, (768,), weight, bias, out=y)


def seconds(processes, rows, calls, threads):
    """From the moment when all may start until the last has ended."""
    environment = {key: value for key, value in os.environ.items() if key != "NORMA_NUM_THREADS"}
    if threads:
        environment["NORMA_NUM_THREADS"] = str(threads)
    command = [sys.executable, __file__, "--work", str(rows), str(calls)]
    workers = [subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
               for _ in range(processes)]
    for worker in workers:
        if worker.stdout.readline() != "ready\n":
            sys.exit("processes: a worker did not start; is the Python package there (make python)?")
    start = time.perf_counter()
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        if worker.wait() != 0:
            sys.exit("processes: a worker failed")
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description="Times processes that share the processors.")
    parser.add_argument("--processes", type=int, default=8, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(*arguments.work)
        return
    print(f"{arguments.processes} processes on {os.cpu_count()} processors, layer norm over 768, medians")
    for rows, calls in SIZES:
        pairs = [(seconds(arguments.processes, rows, calls, None), seconds(arguments.processes, rows, calls, 1))
                 for _ in range(arguments.rounds)]
        default, single = (statistics.median(column) for column in zip(*pairs))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{rows:5d} rows, {calls:5d} calls each: {default:.3f} s with the default threads, "
              f"{single:.3f} s with one, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
