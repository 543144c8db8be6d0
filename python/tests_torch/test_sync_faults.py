"""What SyncBatchNorm says where a rank is missing or does something else: an error on every rank that waits."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import norma.torch
import pytest
import torch
from ranks import DIED, LIMIT, run

# Seconds. Where it runs out too early on a slow machine, the same error comes: these tests wait for that one.
TIMEOUT = 3
NAME = "features.1.norm"


def message(call: Callable[[], Any]) -> str:
    try:
        call()
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def layer(channels: int = 3, **options: Any) -> norma.torch.SyncBatchNorm:
    return norma.torch.SyncBatchNorm(channels, **{"timeout": TIMEOUT, "layer_name": NAME, **options})


def missing(rank: int, world: int, how: str, folder: Path) -> str:
    """The last rank is killed, or comes when all others have given up, or leaves out the backward pass."""
    norm = layer(timeout=TIMEOUT if how in ("late", "killed") else LIMIT)
    x = torch.randn(2, 3, 5, requires_grad=True)
    last = rank == world - 1
    if last and how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if last and how == "late":
        while len(list(folder.glob("gone*"))) < world - 1:
            time.sleep(0.05)
    if how in ("late", "killed"):
        text = message(lambda: norm(x))
    else:
        y: Any = norm(x)
        y.grad_fn.exchange.ranks._timeout = TIMEOUT  # not before, for forward has to succeed
        text = "absent" if last else message(lambda: y.sum().backward())
    (folder / f"gone{rank}").touch()
    return text


@pytest.mark.parametrize("how", ["killed", "late", "no backward"])
def test_a_rank_that_is_missing(how: str, tmp_path: Path) -> None:
    dying = (3,) if how == "killed" else ()
    results = run(4, tmp_path / "ranks", missing, how, tmp_path, dying=dying)
    done = "backward" if how == "no backward" else "forward"
    for rank, text in enumerate(results[:3]):
        assert text.startswith(f"RuntimeError: SyncBatchNorm '{NAME}': rank {rank} did not get the "), text
        assert f"of the other ranks within {TIMEOUT} s in the {done} pass: a rank is late, absent or has ended" in text
    if how == "killed":
        assert results[3] == DIED
    elif how == "late":
        assert results[3].startswith(f"RuntimeError: SyncBatchNorm '{NAME}': rank 3 did not get the "), results[3]


def differing(rank: int, world: int) -> dict[str, str]:
    """One difference after the other; the group goes on after each."""
    x = torch.randn(2, 3, 5)
    other = rank == 1
    wide = torch.randn(2, 5, 5)
    calls: dict[str, Callable[[], Any]] = {
        "channels": lambda: layer(5 if other else 3)(wide if other else x),
        "channels of x alone": lambda: layer()(wide if other else x),
        "dtype": lambda: layer()(x.bfloat16() if other else x),
        "dtype of the layer": lambda: layer().to(torch.bfloat16 if other else torch.float32)(x.bfloat16()),
        "layer": lambda: layer(layer_name="second" if other else "first")(x),
        "a long name": lambda: layer(layer_name=("b" if other else "a") + "x" * 100)(x),
        "eps": lambda: layer(eps=1e-3 if other else 1e-5)(x),
        "merge": lambda: layer(merge="rank" if other else "sample")(x),
        "gradient": lambda: layer()(x.clone().requires_grad_(other)),
        "promised": lambda: layer(equal_shards=True, layer_name="second" if other else "first")(x),
        "one value": lambda: layer()(x[:0, :, :1] if other else x[:1, :, :1]),
        "channels on both": lambda: layer()(wide),
        "type": lambda: layer()(x.int()),
        "device": lambda: layer(device="meta")(x.to("meta")),
    }
    result = {name: message(call) for name, call in calls.items()}
    torch.testing.assert_close(layer(timeout=LIMIT)(torch.full((2, 3, 5), 7.0)), torch.zeros(2, 3, 5))
    return result


EXPECTED = {
    "channels": "the ranks differ in channels: rank 0 has 3, rank 1 has 5",
    "channels of x alone": "the ranks differ in channels: rank 0 has 3, rank 1 has 5",
    "dtype": "the ranks differ in dtype of x: rank 0 has torch.float32, rank 1 has torch.bfloat16",
    "dtype of the layer": "the ranks differ in dtype of weight and bias: rank 0 has torch.float32, rank 1 has torch.bf",
    "layer": "the ranks differ in layer: rank 0 has 'first', rank 1 has 'second'",
    "a long name": "the ranks differ in layer: rank 0 has '"
    + "x" * 80
    + "', rank 1 has '"
    + "x" * 80
    + "' after another",
    "eps": "the ranks differ in eps: rank 0 has 1e-05, rank 1 has 0.001",
    "merge": "the ranks differ in merge: rank 0 has 'sample', rank 1 has 'rank'",
    "gradient": "the ranks differ in requires_grad of x: rank 0 has False, rank 1 has True",
    "promised": "the ranks differ in layer: rank 0 has 'first', rank 1 has 'second'",
    "one value": "Expected more than 1 value per channel when training",
    "channels on both": "x has 5 channels, the layer has 3",
    "type": "x is torch.int32, must be float16, bfloat16, float32 or float64",
    "device": "x is on meta, the layer is for CPU tensors: torch.nn.SyncBatchNorm is for others",
}


def test_ranks_that_differ(tmp_path: Path) -> None:
    for result in run(2, tmp_path / "ranks", differing):
        assert list(result) == list(EXPECTED)
        for name, text in result.items():
            assert re.match(r"ValueError: SyncBatchNorm '.+': " + re.escape(EXPECTED[name]), text), (name, text)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"merge": "all"}, "merge is 'all', must be"), ({"timeout": 0}, "timeout is 0, must be a positive number")],
)
def test_arguments(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        norma.torch.SyncBatchNorm(3, **options)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((3,), r"expected at least 2D input \(got 1D input\)"),
        ((2, 0, 3), "number of input channels should be non-zero"),
    ],
)
def test_inputs(shape: tuple[int, ...], text: str) -> None:
    """The messages of torch.nn.SyncBatchNorm."""
    for ns in (torch.nn, norma.torch):
        with pytest.raises(ValueError, match=text):
            ns.SyncBatchNorm(3)(torch.randn(shape))


def tensors_still_held(rank: int, world: int) -> int:
    """How many tensors of transfers somebody but Python holds after the layer's calls."""
    transfers: list[torch.Tensor] = []
    gather: Callable[..., Any] = torch.distributed.all_gather

    def recording(received: list[torch.Tensor], mine: torch.Tensor, **options: Any) -> Any:
        transfers.extend([mine, *received])
        return gather(received, mine, **options)

    torch.distributed.all_gather = recording
    norm, held = layer(timeout=LIMIT), 0
    for _ in range(200):
        norm(torch.randn(2, 3, 5))
        held += sum(tensor._use_count() > 1 for tensor in transfers)
        transfers.clear()
    return held


def test_a_process_may_end_after_its_last_call(tmp_path: Path) -> None:
    """A thread of the group that frees a tensor while the interpreter ends aborts the process."""
    assert run(2, tmp_path / "ranks", tensors_still_held) == [0, 0]
