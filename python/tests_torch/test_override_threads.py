"""The same bits for any number of threads, which torch.set_num_threads decides on, and in any memory format."""

import norma.torch
import pytest
import torch
from layers import CALLS, FORMATS, Result, both_directions, params_of
from torch import Tensor


def large(seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(16, 8, 512, 6, generator=random)


def run(name: str, x: Tensor, dy: Tensor) -> Result:
    with norma.torch.enabled():
        return both_directions(CALLS[name], x, *params_of(name, torch.float32), dy)


def assert_same_bits(a: Result, b: Result) -> None:
    for (name, one), (_, other) in zip(a.each(), b.each(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("layout", list(FORMATS))
@pytest.mark.parametrize("name", list(CALLS))
def test_threads(name: str, layout: str) -> None:
    x, dy = FORMATS[layout](large(1) + 100), FORMATS[layout](large(2))
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(run(name, x, dy))
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


@pytest.mark.parametrize("name", list(CALLS))
def test_memory_formats(name: str) -> None:
    x, dy = large(1) + 100, large(2)
    results = [run(name, place(x), place(dy)) for place in FORMATS.values()]
    for other in results[1:]:
        assert_same_bits(results[0], other)


def test_position_in_the_batch() -> None:
    x = large(1)
    norm = torch.nn.GroupNorm(4, 8)
    with norma.torch.enabled(), torch.no_grad():
        together = norm(x)
        for i in range(len(x)):
            assert torch.equal(norm(x[i : i + 1])[0], together[i])


def test_running_statistics() -> None:
    buffers = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        norm = torch.nn.BatchNorm2d(8)
        with norma.torch.enabled():
            norm(large(1))
        buffers.append((norm.running_mean, norm.running_var))
    assert torch.equal(buffers[0][0], buffers[1][0])  # type: ignore[arg-type]
    assert torch.equal(buffers[0][1], buffers[1][1])  # type: ignore[arg-type]
