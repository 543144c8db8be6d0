#!/usr/bin/env python3
"""One peer as a server: a JSON object per line in, one per line out. Arguments: its name (torch,
norma.torch, compile, onnxruntime or onednn) and the number of threads that rows will ask for.

    {"do": "prepare", "problem": "layer:n4096,d768", "threads": 1}   ->  {"ready": true} or {"skip": "why"}
    {"do": "time", "seconds": 0.5}                                   ->  {"times": [seconds of each call, ...]}

It waits in readline while others are timed. bench/run.py starts it and sets the environment.
"""
import json
import os
import sys
import time

import workloads

SMALL = 50e-6  # calls are repeated until the clock sees this much


def time_calls(call, seconds):
    """Times of single calls; of very short ones, the mean over a loop."""
    clock = time.perf_counter
    call()
    loop = 1
    while True:
        start = clock()
        for _ in range(loop):
            call()
        if clock() - start >= SMALL or loop >= 4096:
            break
        loop *= 2
    times, end = [], clock() + seconds
    while len(times) < 3 or clock() < end:
        start = clock()
        for _ in range(loop):
            call()
        times.append((clock() - start) / loop)
    return times


def peer_named(name, threads):
    if name == "onnxruntime":
        import peer_onnxruntime
        return peer_onnxruntime.Onnxruntime()
    if name == "onednn":
        import peer_onednn
        return peer_onednn.Onednn(threads)
    import peer_torch
    return peer_torch.Torch(compiled=name == "compile", on_norma=name == "norma.torch")


def answer(peer, calls, request):
    if request["do"] == "prepare":
        calls.clear()
        calls.append(peer.prepare(workloads.take_apart(request["problem"]), request["threads"]))
        calls[0]()
        return {"ready": True}
    return {"times": time_calls(calls[0], request["seconds"])}


def main():
    # What libraries print must not be taken for an answer.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer, calls = peer_named(sys.argv[1], int(sys.argv[2])), []
    print(json.dumps({"version": peer.version}), file=out)
    for line in sys.stdin:
        try:
            reply = answer(peer, calls, json.loads(line))
        except Exception as problem:  # a peer that cannot do a row must not end the run
            reply = {"skip": f"{type(problem).__name__}: {problem}".splitlines()[0][:200]}
        print(json.dumps(reply), file=out)


if __name__ == "__main__":
    main()
