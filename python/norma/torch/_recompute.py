"""A forward pass that torch.utils.checkpoint repeats in the backward pass is no new batch: statistics count it once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

# torch.jit.script compiles the text of the methods that are wrapped here, with the names of this file.
import torch.nn.functional as F  # noqa: F401
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# The methods of torch.nn's classes in which statistics move.
_METHODS: tuple[tuple[Any, str], ...] = (
    (_BatchNorm, "forward"),
    (SyncBatchNorm, "forward"),
    (_InstanceNorm, "_apply_instance_norm"),
)
_originals: dict[tuple[Any, str], Any] = {}


def recomputing() -> bool:
    """Whether this forward pass runs inside a backward pass: torch.utils.checkpoint computes a segment again there."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _counted_once(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, input: Any) -> Any:
        if not recomputing():
            return original(self, input)
        # The same operations with the same arguments, which checkpoints insist on, on copies of the statistics.
        kept = {name: self._buffers[name] for name in STATISTICS if self._buffers.get(name) is not None}
        try:
            self._buffers.update({name: buffer.clone() for name, buffer in kept.items()})
            return original(self, input)
        finally:
            self._buffers.update(kept)

    return method


def count_once() -> None:
    """Makes torch.nn's batch and instance norm count a repeated forward pass once, as Norma's classes do."""
    for owner, name in _METHODS:
        _originals[owner, name] = getattr(owner, name)
        setattr(owner, name, _counted_once(getattr(owner, name)))


def count_as_pytorch() -> None:
    """The way back from count_once()."""
    for (owner, name), original in _originals.items():
        setattr(owner, name, original)
    _originals.clear()
