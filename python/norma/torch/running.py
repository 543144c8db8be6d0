"""When the running statistics of a model move: never (freeze), or in a step of its own (hold_statistics)."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from norma import Moments

from . import modules as norma
from .modules._running import PER_CHANNEL, RunningStatistics, move

Module = TypeVar("Module", bound=nn.Module)


def tracking(model: nn.Module) -> dict[str, Any]:
    """The batch and instance norms of a model that have running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and module.running_mean is not None and module.running_var is not None
    }


def freeze(model: Module) -> Module:
    """Freezes the running statistics of every batch and instance norm in a model; returns the model.

    They are used in training too, and nothing moves them, whatever train() or `training = True` say, until unfreeze().
    weight and bias stay trainable: requires_grad_(False) freezes those. Layers of torch.nn become Norma's class of the
    same name in place, the same objects with the same parameters, and unfreeze() gives them their class back.

    ValueError: there is nothing to freeze, or a layer of a class of someone's own; then nothing is frozen.
    """
    layers = tracking(model)
    if not layers:
        raise ValueError(f"{type(model).__name__} has no batch or instance norm with running statistics to freeze")
    classes = {name: _class_of(name, layer) for name, layer in layers.items()}
    for name, layer in layers.items():
        if not isinstance(layer, RunningStatistics):
            layer._class_before_freeze = type(layer)
            layer.__class__ = classes[name]
        layer.freeze()
    return model


def _class_of(name: str, layer: nn.Module) -> Any:
    """Norma's class for this layer."""
    kind = type(layer)
    if isinstance(layer, RunningStatistics):
        return kind
    ours = getattr(norma, kind.__name__, None)
    if ours is None or kind is not getattr(nn, kind.__name__, None):
        raise ValueError(f"{name or 'the model'} is a {kind.__name__}, which Norma has no class for: cannot freeze it")
    return ours


def unfreeze(model: Module) -> Module:
    """Ends freeze() in a model and returns it. The layers stay in evaluation mode until train() is called."""
    for layer in tracking(model).values():
        if isinstance(layer, RunningStatistics):
            layer.unfreeze()
        if (before := vars(layer).pop("_class_before_freeze", None)) is not None:
            layer.__class__ = before
    return model


class hold_statistics:
    """``with hold_statistics(model) as held:`` normalizes with the batch inside, as training does, and moves nothing.

    For forward passes that are no step of training: a second pass of the same batch, a search for a learning rate, a
    penalty on gradients. What the batch norms see inside is collected, and ``held.commit()``, inside or after, moves
    their running statistics once, by the pooled mean and variance of all of it, and counts one batch: a batch that is
    seen in pieces moves the statistics as it would whole. Without commit() they stay as they were. The layers
    themselves still normalize each piece with its own statistics.

    ValueError: no layer of norma.torch with running statistics, or some of torch.nn, which adopt(model) replaces;
    holding twice; commit() where an instance norm or a ghost batch norm has seen data, whose statistics do not pool.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = tracking(model)
        if not self._layers:
            raise ValueError(f"{type(model).__name__} has no batch or instance norm with running statistics to hold")
        for name, layer in self._layers.items():
            if not isinstance(layer, RunningStatistics):
                raise ValueError(
                    f"{name or 'the model'} is torch.nn's {type(layer).__name__}, whose statistics cannot be held: "
                    "norma.torch.adopt(model) puts Norma's class in its place"
                )
        self._seen: dict[str, Moments] = {}

    def __enter__(self) -> hold_statistics:
        if held := [name for name, layer in self._layers.items() if layer._held is not None]:
            raise ValueError(f"the statistics of {held[0] or 'the model'} are held already")
        for name, layer in self._layers.items():
            self._seen[name] = layer._held = Moments(PER_CHANNEL)
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self._layers.values():
            del layer._held

    @torch.no_grad()
    def commit(self) -> None:
        """Moves the running statistics of the layers that have seen data once, and forgets what they have seen.

        Each layer's momentum, biased_running_var and nonfinite hold; on an error no layer is changed.
        """
        steps = [step for name in self._layers if (step := self._step(name)) is not None]
        for layer, mean, var in steps:
            factor = layer._factor()
            move(layer.running_mean, mean, factor)
            move(layer.running_var, var, factor)
            layer._count()
        for name, layer in self._layers.items():
            self._seen[name] = Moments(PER_CHANNEL)
            if layer._held is not None:
                layer._held = self._seen[name]

    def _step(self, name: str) -> tuple[Any, torch.Tensor, torch.Tensor] | None:
        """The layer, and what its statistics move towards; None where it has seen nothing."""
        layer: Any = self._layers[name]
        moments = self._seen.get(name)
        if moments is None or moments.shape is None:
            return None
        if not isinstance(layer, _BatchNorm) or layer.ghost is not None:
            raise ValueError(f"{name or 'the model'} is {layer}, whose statistics of pieces do not pool")
        try:
            mean, var = moments.finish(unbiased=not layer.biased_running_var)
        except ValueError as error:
            raise ValueError(f"{name or 'the model'}: {error}") from None
        new = torch.from_numpy(mean), torch.from_numpy(var)
        bad = ~(new[0].isfinite() & new[1].isfinite())
        if bad.any() and layer.nonfinite == "refuse":
            channel = int(bad.nonzero()[0])
            raise ValueError(f"{name or 'the model'}: channel {channel} has mean {mean[channel]:g}; nothing was moved")
        if layer.nonfinite == "skip":
            for value, running in zip(new, (layer.running_mean, layer.running_var), strict=True):
                value[bad] = running.double().cpu()[bad]
        return layer, *new
