"""Every test starts with PyTorch as it is, and the counters at 0."""

from collections.abc import Iterator

import norma.torch
import pytest
import torch


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    threads = torch.get_num_threads()
    norma.torch.disable()
    norma.torch.calls(reset=True)
    torch.manual_seed(0)
    yield
    norma.torch.disable()
    torch.set_num_threads(threads)
