"""The five layers as the tests call them, and what float64 makes of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPS = 4
Call = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]


def batch(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    return F.batch_norm(x, None, None, weight, bias, training=True)


def evaluation(x: Tensor, weight: Tensor | None, bias: Tensor | None, near: float = 0) -> Tensor:
    """Batch norm with given statistics; the means are `near` there."""
    channels, wide = x.size(1), x.dtype == torch.float64
    mean = torch.linspace(-1, 1, channels) + near
    var = torch.linspace(0.5, 2, channels)
    return F.batch_norm(x, mean.double() if wide else mean, var.double() if wide else var, weight, bias)


def instance(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    return F.instance_norm(x, None, None, weight, bias)


def group(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    return F.group_norm(x, GROUPS, weight, bias)


def layer(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias)


def rms(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight)


CALLS: dict[str, Call] = {
    "batch_norm": batch,
    "evaluation": evaluation,
    "instance_norm": instance,
    "group_norm": group,
    "layer_norm": layer,
    "rms_norm": rms,
}
CHANNELS, WIDTH = 8, 6


def call_near(name: str, mean: float) -> Call:
    """The layer for data of this mean."""
    return partial(evaluation, near=mean) if name == "evaluation" else CALLS[name]


def kernel_of(name: str) -> str:
    """The key of norma.torch.calls() for a name of CALLS."""
    return "batch_norm" if name == "evaluation" else name


def params_of(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    count = WIDTH if name in ("layer_norm", "rms_norm") else CHANNELS
    return torch.linspace(-1.5, 2, count, dtype=dtype), torch.linspace(0.5, -1, count, dtype=dtype)


def image(dtype: torch.dtype, mean: float = 0, seed: int = 1) -> Tensor:
    """Random numbers of standard deviation 1, of shape (3, CHANNELS, 5, WIDTH)."""
    random = torch.Generator().manual_seed(seed)
    return (torch.randn(3, CHANNELS, 5, WIDTH, generator=random, dtype=torch.float64) + mean).to(dtype)


def formats() -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """The same values in other places."""
    yield "contiguous", lambda x: x.clone(memory_format=torch.contiguous_format)
    yield "channels_last", lambda x: x.clone(memory_format=torch.channels_last)
    yield "permuted", lambda x: x.permute(1, 0, 3, 2).clone(memory_format=torch.contiguous_format).permute(1, 0, 3, 2)
    yield "sliced", lambda x: torch.cat([x, x], dim=-1)[..., : x.size(-1)]


FORMATS = dict(formats())


@dataclass
class Result:
    y: Tensor
    dx: Tensor
    dweight: Tensor | None
    dbias: Tensor | None

    def each(self) -> list[tuple[str, Tensor]]:
        return [(name, value) for name, value in vars(self).items() if value is not None]


def both_directions(call: Call, x: Tensor, weight: Tensor | None, bias: Tensor | None, dy: Tensor) -> Result:
    """y and the gradients; x, weight and bias are left alone."""
    leaves = [None if t is None else t.detach().requires_grad_() for t in (x, weight, bias)]
    y = call(*leaves)  # type: ignore[arg-type]
    y.backward(dy)
    dx, dweight, dbias = (None if t is None else t.grad for t in leaves)
    assert dx is not None
    return Result(y.detach(), dx, dweight, dbias)


def in_float64(call: Call, x: Tensor, weight: Tensor | None, bias: Tensor | None, dy: Tensor) -> Result:
    """What PyTorch itself computes in float64, contiguous."""
    wide = [None if t is None else t.double().contiguous() for t in (x, weight, bias)]
    return both_directions(call, wide[0], wide[1], wide[2], dy.double().contiguous())  # type: ignore[arg-type]


CASES = list(product(CALLS, FORMATS))
