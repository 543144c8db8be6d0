#!/usr/bin/env python3
"""Times the rows of workloads.txt: norma beside its floor and, in turns with it, the peers. README.md says how to read
what comes out.

    make bench          # all rows on 1 and 2 threads, with peers; needs .venv (requirements.txt)
    make bench-quick    # some rows, norma alone
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import sys

import machine
import programs
import report
import workloads

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("NORMA_BUILD", ROOT / "build"))


def parse_arguments():
    parser = argparse.ArgumentParser(description="Times norma and other libraries on the rows of workloads.txt.")
    parser.add_argument("--quick", action="store_true", help="only the rows that are marked quick")
    parser.add_argument("--rows", default="", metavar="REGEX", help="only rows whose name or string matches")
    parser.add_argument("--threads", default="1,2", metavar="N,N", help="numbers of threads (default 1,2)")
    parser.add_argument("--peers", default=",".join(programs.PEERS), metavar="NAME,NAME",
                        help="the libraries to compare with; '' for none (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each program in each row (default 3)")
    parser.add_argument("--seconds", type=float, default=0.4, help="length of a turn (default 0.4)")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=BUILD / "bench", metavar="FOLDER")
    return parser.parse_args()


def combine(rounds):
    """One result of several of `norma bench`: the least of the minima, the medians of the medians."""
    result = {key: rounds[0][key] for key in ("problem", "direction", "type", "threads", "bytes")}
    result["floor"] = [turn["floor"] for turn in rounds][0]
    result["repeats"] = sum(turn["repeats"] for turn in rounds)
    result["seconds"] = {
        what: {"min": min(turn["seconds"][what]["min"] for turn in rounds),
               "median": statistics.median(turn["seconds"][what]["median"] for turn in rounds)}
        for what in ("norma", "floor", "memcpy")}
    seconds = result["seconds"]
    result["ratio"] = {key: statistics.median(turn["ratio"][key] for turn in rounds) for key in ("median", "paired")}
    result["ratio"]["min"] = seconds["norma"]["min"] / seconds["floor"]["min"]
    result["gb_per_s"] = {what: result["bytes"] * 1e-9 / seconds[what]["median"] for what in ("norma", "floor")}
    return result


def combine_peer(turns, floors):
    """A peer's times, and their ratios to the floor of the turn of norma just before."""
    least = min(turn["min"] for turn in turns)
    return {"min": least, "median": statistics.median(turn["median"] for turn in turns),
            "ratio_min": least / min(floor["min"] for floor in floors),
            "ratio": statistics.median(turn["median"] / floor["median"] for turn, floor in zip(turns, floors))}


def measure_row(workload, threads, peers, arguments):
    """Several rounds; in each of them norma with its floor, then every peer."""
    norma = programs.Norma(BUILD / "norma", workload, threads)
    turns, rounds, skipped = {}, [], {}
    try:
        for peer in peers:
            try:
                peer.prepare(workload, threads)
                turns[peer.name] = []
            except programs.Refused as reason:
                skipped[peer.name] = str(reason)
        for _ in range(arguments.rounds):
            rounds.append(programs.in_turn(norma, peers, arguments.seconds))
            for peer in peers:
                if peer.name in turns:
                    turns[peer.name].append(programs.in_turn(peer, peers, arguments.seconds))
    finally:
        norma.close()
    floors = [turn["seconds"]["floor"] for turn in rounds]
    result = {"name": workload.name, "target": workload.target, **combine(rounds)}
    result["peers"] = {name: combine_peer(times, floors) for name, times in turns.items()}
    result["peers_skipped"] = skipped
    return result


def measure(arguments, facts, chosen):
    """All rows on one number of threads after the other, with peers that are started for it."""
    names = [name for name in arguments.peers.split(",") if name]
    results = {"machine": facts, "rows": [], "skipped": [], "idle": {}}
    for threads in map(int, arguments.threads.split(",")):
        peers = [programs.Peer(name, threads, BUILD) for name in names]
        facts["peers"] = {peer.name: peer.version for peer in peers}
        if not results["rows"]:
            print("\n".join(machine.sentences(facts)) + "\n\n" + report.heading(chosen, names), flush=True)
        for workload in chosen:
            measure_into(results, workload, threads, peers, arguments, names, chosen)
        for peer in peers:
            results["idle"][f"{peer.name}, threads {threads}"] = peer.idle_use / (peer.idle_time or 1)
            peer.close()
    return results


def measure_into(results, workload, threads, peers, arguments, names, chosen):
    try:
        row = measure_row(workload, threads, peers, arguments)
    except programs.Refused as reason:
        if workload.name not in [skipped["name"] for skipped in results["skipped"]]:
            results["skipped"].append({"name": workload.name, "why": str(reason)})
            print(f"{workload.name}: skipped, {reason}", flush=True)
        return
    results["rows"].append(row)
    report.judge(row, results["rows"])
    print(report.line(row, chosen, names), flush=True)


def main():
    arguments = parse_arguments()
    chosen = [w for w in workloads.read() if (w.quick or not arguments.quick) and
              (re.search(arguments.rows, w.name) or re.search(arguments.rows, w.problem))]
    results = measure(arguments, machine.describe(BUILD / "norma"), chosen)
    print("\n" + "\n".join(report.summary(results)))
    for name, share in results["idle"].items():
        if share > 0.02:
            print(f"warning: {name}: used {share:.0%} of a processor while others were timed")
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.output / "bench.md").write_text(report.markdown(results))
    print(f"\nwrote {arguments.output / 'bench.json'} and bench.md")
    if arguments.peers:
        report.chart(results, arguments.output / "bench.svg")
        print(f"wrote {arguments.output / 'bench.svg'} and bench.png")
    return 0 if results["rows"] else 1


if __name__ == "__main__":
    sys.exit(main())
