"""What becomes of running statistics when a batch holds NaN or Inf."""

import warnings
from collections.abc import Callable
from typing import Literal, TypeVar

import torch

NonFinite = Literal["store", "refuse", "skip"]
# In the order of norma_not_finite.
POLICIES = ("store", "refuse", "skip")

T = TypeVar("T")


def checked_policy(nonfinite: str) -> str:
    """Raises ValueError for a name that is none of NonFinite."""
    if nonfinite not in POLICIES:
        raise ValueError(f"nonfinite is {nonfinite!r}, must be 'store', 'refuse' or 'skip'")
    return nonfinite


def move_by_policy(move: Callable[[int], T], nonfinite: str, *, who: str = "", stacklevel: int = 2) -> T:
    """move(norma_not_finite); "skip" tries "refuse" first, whose error names the channel for a warning.

    The warning is for the caller `stacklevel` frames up, as warnings.warn has it. Inside torch.compile there is none.
    """
    if nonfinite == "skip" and not torch.compiler.is_compiling():
        try:
            return move(POLICIES.index("refuse"))
        except ValueError as error:
            channel, separator, _ = str(error).partition("; no channel was updated")
            if not separator:
                raise
            message = f"{who}{channel}; such channels keep their running statistics"
            warnings.warn(message, RuntimeWarning, stacklevel=stacklevel + 1)
    return move(POLICIES.index(nonfinite))
