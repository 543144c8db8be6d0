"""Several processes of a gloo group on this machine, for the tests of SyncBatchNorm."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

# Far above what any test needs, so that a slow machine passes and a hang is still an error.
LIMIT = 600

DIED = "died"


def _save(result: Any, path: Path) -> None:
    """The file is whole when it gets its name, since the parent waits for that."""
    part = path.with_name(f"part-{path.name}")
    torch.save(result, part)
    part.rename(path)


def _child(rank: int, world: int, folder: Path, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/store",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=LIMIT),
        )
        # Some work begins with a death, which must not meet others that are still connecting.
        (folder / f"ready{rank}").touch()
        while len(list(folder.glob("ready*"))) < world:
            time.sleep(0.01)
        result = work(rank, world, *arguments)
    except BaseException:
        result = traceback.format_exc()
        print(result, file=sys.stderr, flush=True)
        _save(result, folder / f"failed{rank}")
        os._exit(1)
    _save(result, folder / f"result{rank}")
    # Nobody leaves while another still talks to it: that is what the tests of faults are about. The parent ends us.
    time.sleep(2 * LIMIT)


def run(world: int, folder: Path, work: Callable[..., Any], *arguments: Any, dying: tuple[int, ...] = ()) -> list[Any]:
    """work(rank, world, *arguments) in `world` processes; what each returns, and DIED for those that end on purpose.

    AssertionError where another one fails, with its traceback, or after LIMIT seconds.
    """
    context: Any = torch.multiprocessing.get_context("fork")
    folder.mkdir()
    children = [context.Process(target=_child, args=(r, world, folder, work, arguments)) for r in range(world)]
    for child in children:
        child.start()
    try:
        return [_result(rank, children[rank], folder, rank in dying) for rank in range(world)]
    finally:
        for child in children:
            child.kill()
            child.join()


def _result(rank: int, child: BaseProcess, folder: Path, dying: bool) -> Any:
    path, failed = folder / f"result{rank}", folder / f"failed{rank}"
    end = time.monotonic() + LIMIT
    while child.is_alive() and not path.exists():
        assert time.monotonic() < end, f"rank {rank} has not come to an end in {LIMIT} s"
        for other in folder.glob("failed*"):
            raise AssertionError(f"{other.name.replace('failed', 'rank ')}: {torch.load(other)}")
        time.sleep(0.02)
    if failed.exists():
        raise AssertionError(f"rank {rank}: {torch.load(failed)}")
    if dying and not path.exists():
        return DIED
    return torch.load(path, weights_only=False)
