"""The numbers by which the operators of the extension know layers and activations (python/torch/layer.h, norma.h)."""

from typing import Literal

BATCH, INSTANCE, GROUP, LAYER, RMS = range(5)

Activation = Literal["relu", "silu", "gelu", "gelu_tanh"]
ACTIVATIONS: dict[str | None, int] = {None: 0, "relu": 1, "silu": 2, "gelu": 3, "gelu_tanh": 4}


def activation_number(activation: str | None) -> int:
    """Raises ValueError for a name that is none of Activation."""
    number = ACTIVATIONS.get(activation)
    if number is None:
        names = ", ".join(repr(name) for name in ACTIVATIONS if name)
        raise ValueError(f"activation is {activation!r}, must be None or one of {names}")
    return number


def dims_number(dims: "list[int] | range") -> int:
    """Bit i stands for dimension i."""
    return sum(1 << dim for dim in dims)
