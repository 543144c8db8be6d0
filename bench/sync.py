#!/usr/bin/env python3
"""What synchronized batch norm costs: measured with 1, 2, 4 and 8 ranks on this machine (norma-sync-demo --bench under
mpirun), and projected to 64 nodes by the formula of docs/distributed.md.

    python3 bench/sync.py            prints both tables
    python3 bench/sync.py --write    puts them into docs/distributed.md, between their marks
    python3 bench/sync.py --project  prints the projection alone; needs no MPI
"""
import argparse
import math
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("NORMA_BUILD", ROOT / "build"))
PAGE = ROOT / "docs/distributed.md"
RANKS = (1, 2, 4, 8)
WAYS = ("plain", "sample", "sample, shards", "rank", "rank, shards")
NODES = 64
# Name, seconds per message and bytes per second that a program sees.
NETWORKS = (("InfiniBand HDR, 2 us, 24 GB/s", 2e-6, 24e9), ("Ethernet 25 Gb/s, 20 us, 3 GB/s", 20e-6, 3e9))
# Samples per rank, channels, whether a sample has one element per channel.
LAYERS = (("8 x 64 x 28 x 28", 8, 64, False), ("32 x 256 x 14 x 14", 32, 256, False),
          ("32 x 512 x 7 x 7", 32, 512, False), ("64 x 1024", 64, 1024, True))
HEADER, MOMENTS, SUMS, FLOAT = 384, 40, 48, 4


def gather_seconds(latency, rate, block):
    """An all-gather of `block` bytes from each node: messages in a tree, all other blocks through one link."""
    return math.ceil(math.log2(NODES)) * latency + (NODES - 1) * block / rate


def blocks(samples, channels, vectors, per_rank):
    """Bytes that a rank sends in forward and in backward, after the headers."""
    sets = 1 if per_rank else samples
    if vectors and not per_rank:
        return FLOAT * channels * samples, 2 * FLOAT * channels * samples
    return MOMENTS * channels * sets, SUMS * channels * sets


def microseconds(seconds):
    return f"{1e6 * seconds:,.0f}"


def projection():
    lines = ["| network | layer, per rank | headers | per sample | per rank |", "|---|---|---|---|---|"]
    for network, latency, rate in NETWORKS:
        for name, samples, channels, vectors in LAYERS:
            headers = 2 * gather_seconds(latency, rate, HEADER)
            ways = [sum(gather_seconds(latency, rate, block) for block in blocks(samples, channels, vectors, per_rank))
                    for per_rank in (False, True)]
            cells = [network, name, *map(microseconds, (headers, *ways))]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run(ranks):
    """{(layer, way): microseconds}, of the slowest rank."""
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "OPENBLAS_NUM_THREADS": "1"}
    command = ["mpirun", "--oversubscribe", "-n", str(ranks), BUILD / "norma-sync-demo", "--bench"]
    output = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, check=True).stdout
    rows = [line.split("\t") for line in output.splitlines()]
    return {(layer, way): float(time) for _, layer, way, time in rows}


def processor():
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] \
        if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def measured():
    lines = [f"{processor()}, {os.cpu_count()} processors, one thread per rank:", "",
             "| layer, per rank | ranks | plain | per sample | with shards | per rank | with shards |",
             "|---|---|---|---|---|---|---|"]
    times = {ranks: run(ranks) for ranks in RANKS}
    for name, *_ in LAYERS:
        for ranks in RANKS:
            cells = [f"{times[ranks][name, way]:,.0f}" for way in WAYS]
            lines.append("| " + " | ".join([name, str(ranks), *cells]) + " |")
    return "\n".join(lines)


def put(text, mark, table):
    """What stands between the two comments becomes the table."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, rest = text.split(begin)
    return before + begin + "\n" + table + "\n\n" + end + rest.split(end)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/distributed.md")
    parser.add_argument("--project", action="store_true", help="print the projection alone")
    options = parser.parse_args()
    if options.project:
        print(projection())
        return 0
    if not (BUILD / "norma-sync-demo").exists():
        print(f"{BUILD}/norma-sync-demo is missing: install MPI (libopenmpi-dev, openmpi-bin) and build again",
              file=sys.stderr)
        return 1
    tables = {"measured": measured(), "projected": projection()}
    print("\n\n".join(tables.values()))
    if options.write:
        text = PAGE.read_text()
        for mark, table in tables.items():
            text = put(text, mark, table)
        PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
