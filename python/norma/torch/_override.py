"""Norma in the place of PyTorch's own CPU kernels."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch.compiler.config

from norma.torch._load import load
from norma.torch._recompute import count_as_pytorch, count_once

_C = load()
_TAG = f" norma {_C.NORMA_VERSION}"


def _compile_again(tag: str, tagged: bool) -> None:
    """What torch.compile made, in this process and in its caches on disk, holds the kernels of the time."""
    config = torch.compiler.config
    config.cache_key_tag = config.cache_key_tag.replace(tag, "") + (tag if tagged else "")
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()


def enable() -> None:
    """Make PyTorch's batch, instance, layer, group and RMS norm run on Norma, on the CPU, everywhere in this process.

    Models need no change. Running statistics of torch.nn's classes move once for a forward pass that
    torch.utils.checkpoint repeats; PyTorch moves them twice. Calling it again has no further effect. Functions that
    torch.compile made before are compiled again at their next call.
    """
    if not _C.is_enabled():
        _C.enable()
        count_once()
        _compile_again(_TAG, True)


def disable() -> None:
    """Give PyTorch its own kernels back."""
    if _C.is_enabled():
        _C.disable()
        count_as_pytorch()
        _compile_again(_TAG, False)


def is_enabled() -> bool:
    """Whether PyTorch's norms run on Norma at the moment."""
    return bool(_C.is_enabled())


@contextmanager
def enabled() -> Iterator[None]:
    """``with norma.torch.enabled():`` runs its body under :func:`enable`, and leaves things as they were before.

    The override belongs to the process, not to the thread.
    """
    before = is_enabled()
    enable()
    try:
        yield
    finally:
        if not before:
            disable()


def calls(*, reset: bool = False) -> dict[str, int]:
    """How often each kernel of Norma ran since the start or the last reset.

    Keys are ``batch_norm``, ``instance_norm``, ``group_norm``, ``layer_norm`` and ``rms_norm`` (forward), each of them
    with ``_backward``, and with ``_passed_through`` for calls that were left to PyTorch's own kernel.

    Args:
        reset: count from 0 again after this.
    """
    counts: dict[str, int] = _C.calls()
    if reset:
        _C.reset_calls()
    return counts
