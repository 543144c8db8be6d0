"""What Norma does otherwise than PyTorch on purpose, each with its reason: the whole list.

The tests ask these functions where a difference is expected, and check what Norma gives instead. Everything else has
to agree at the tolerance that torch.testing has for the type. docs/python-modules.md shows the list to users.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

DIFFERENCES = {
    "strides of an empty result": (
        "RMS norm of a tensor without elements has dense strides; PyTorch's, made of several operations, has what "
        "broadcasting leaves. Nothing can be read through either."
    ),
    "instance norm keeps channels_last": (
        "Norma's classes return channels-last input in its format; PyTorch's copy it to contiguous first. torch.nn's "
        "classes under enable() return what PyTorch returns."
    ),
    "empty batches are not counted": (
        "num_batches_tracked of Norma's classes stays as it was for a batch without elements, as the running "
        "statistics do; PyTorch counts it, which spoils the cumulative average of momentum=None. torch.nn's classes "
        "under enable() count it, because the counter is theirs."
    ),
}


def strides_expected(name: str, theirs: Tensor) -> tuple[int, ...] | None:
    """The strides that a result has to have; None: whatever is dense."""
    if name == "nn.functional.rms_norm" and theirs.numel() == 0:
        return None
    return theirs.stride()


def counted_differently(kind: Any, key: str, x: Tensor) -> bool:
    """Whether this entry of a state_dict does not move although PyTorch's does."""
    return key == "num_batches_tracked" and kind.__module__.startswith("norma.") and x.numel() == 0


def keeps_channels_last(kind: Any) -> bool:
    """Whether the result keeps the format although PyTorch's does not."""
    return kind.__module__.startswith("norma.") and kind.__name__.startswith("InstanceNorm")
