"""Statistics that were given to a model, beside those that it had, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from norma import Moments, save_moments
from norma.statistics import PathLike

from ._recompute import STATISTICS


@dataclass(frozen=True)
class Restatement:
    """One layer: its statistics before and after, and the Moments that the new ones are of."""

    name: str
    old_mean: Tensor
    old_var: Tensor
    new_mean: Tensor
    new_var: Tensor
    moments: Moments
    batches: int | None

    def __str__(self) -> str:
        """The farthest moves: of a mean in old standard deviations, of a variance as a ratio."""
        old, new = self.old_var.double(), self.new_var.double()
        shift = (self.new_mean.double() - self.old_mean.double()).abs() / old.sqrt()
        ratio = new / old
        least, most = int(self.moments.count.min()), int(self.moments.count.max())
        values = f"{most}" if least == most else f"{least} to {most}"
        return (
            f"{layer_name(self.name)}: {len(new)} channels of {values} values; means moved by up to "
            f"{float(shift.max()):.3g} standard deviations, variances became {float(ratio.min()):.3g} to "
            f"{float(ratio.max()):.3g} times the old ones"
        )


class Restated:
    """What recalibrate() and load_statistics() return.

    changes: a Restatement per layer, in the order in which they were made. print() shows them. The attribute `moments`
    has the Moments by layer, save(path) writes them, restore() gives the model its old statistics back, and so does the
    end of a with statement.
    """

    def __init__(self, layers: dict[str, Any]) -> None:
        self._layers = layers
        self._before = {
            name: {key: layer._buffers[key].clone() for key in STATISTICS if layer._buffers.get(key) is not None}
            for name, layer in layers.items()
        }
        self.changes: list[Restatement] = []

    @property
    def moments(self) -> dict[str, Moments]:
        return {change.name: change.moments for change in self.changes}

    def save(self, path: PathLike) -> None:
        """Writes the Moments of the layers to a file, as norma.save_moments does; load_statistics() reads it."""
        save_moments(path, self.moments)

    @torch.no_grad()
    def restore(self) -> None:
        """Gives the layers the running statistics and num_batches_tracked that they had, in the same tensors."""
        for name, buffers in self._before.items():
            for key, value in buffers.items():
                self._layers[name]._buffers[key].copy_(value)

    def __enter__(self) -> Restated:
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()

    def __str__(self) -> str:
        lines = [f"{len(self.changes)} layers have other statistics", *(f"  {change}" for change in self.changes)]
        return "\n".join(lines)


@torch.no_grad()
def restate(done: Restated, name: str, layer: Any, moments: Moments, batches: int | None) -> None:
    """Gives one layer the statistics of moments, and notes it. batches None: num_batches_tracked stays."""
    channels = layer.running_mean.numel()
    if moments.shape != (channels,):
        shown = "nothing" if moments.shape is None else f"the shape {moments.shape}"
        raise ValueError(f"{layer_name(name)} has {channels} channels, its moments have {shown}")
    try:
        mean, var = moments.finish(unbiased=not getattr(layer, "biased_running_var", False))
    except ValueError as error:
        raise ValueError(f"{layer_name(name)}: {error}") from None
    old_mean, old_var = layer.running_mean.clone(), layer.running_var.clone()
    for running, value in ((layer.running_mean, mean), (layer.running_var, var)):
        running.copy_(torch.from_numpy(value))
        if not running.isfinite().all():
            channel = int((~running.isfinite()).nonzero()[0])
            raise ValueError(
                f"{layer_name(name)}: channel {channel} has mean {mean[channel]:g} and variance {var[channel]:g}, "
                f"which {running.dtype} cannot hold"
            )
    if batches is not None and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.fill_(batches)
    new_mean, new_var = layer.running_mean.clone(), layer.running_var.clone()
    done.changes.append(Restatement(name, old_mean, old_var, new_mean, new_var, moments, batches))


def layer_name(name: str) -> str:
    return name or "(the model)"
