"""convert_sync_batchnorm(): a model's batch norms as SyncBatchNorm, which share their statistics between ranks."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

from .modules import sync
from .modules.batch import _BatchNorm as _Ours

# What a layer of ours may have beside torch.nn's attributes.
_OPTIONS = ("activation", "biased_running_var", "nonfinite", "frozen")


def convert_sync_batchnorm(
    module: nn.Module,
    process_group: Any = None,
    *,
    merge: sync.Merge = "sample",
    equal_shards: bool = False,
    timeout: float | None = None,
) -> nn.Module:
    """torch.nn.SyncBatchNorm.convert_sync_batchnorm for the CPU: every batch norm in the model becomes a SyncBatchNorm
    of norma.torch, in place, and the model is returned; where it is a batch norm itself, its new form.

    Converted are torch.nn's BatchNorm1d, 2d and 3d and SyncBatchNorm, and norma.torch's, also subclasses that use
    their forward. Parameters and buffers stay the same objects; mode, activation and the options of the running
    statistics are kept, hooks are not. Each layer gets its path in the model as `layer_name`.

    Args:
        process_group: as in torch.nn; with None a SyncBatchNorm keeps the group that it has.
        merge, equal_shards, timeout: as in SyncBatchNorm, for all layers.

    Raises ValueError, with the model unchanged, at a ghost batch norm, at a batch norm with a forward of its own and at
    a lazy one that has seen no input: what these would compute is not known here.
    """
    made: dict[nn.Module, sync.SyncBatchNorm] = {}
    for path, layer in module.named_modules():
        if isinstance(layer, _BatchNorm):
            _check(path, layer)
            group = process_group if process_group is not None else getattr(layer, "process_group", None)
            made[layer] = _converted(layer, group, path, merge=merge, equal_shards=equal_shards, timeout=timeout)
    if module in made:
        return made[module]
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child in made:
                parent._modules[name] = made[child]
    return module


def _check(path: str, layer: nn.Module) -> None:
    what = f"{path or 'the model'} is a {type(layer).__name__}"
    if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
        raise ValueError(f"{what} that does not know its number of channels yet: run the model on an input first")
    if getattr(layer, "ghost", None) is not None:
        raise ValueError(f"{what} with ghost={layer.ghost}, whose statistics are those of sub-batches")
    known = (_BatchNorm.forward, nn.SyncBatchNorm.forward, _Ours.forward, sync.SyncBatchNorm.forward)
    if type(layer).forward not in known:
        raise ValueError(f"{what}, which has a forward of its own: put a BatchNorm or a SyncBatchNorm in its place")


def _converted(layer: Any, group: Any, path: str, **options: Any) -> sync.SyncBatchNorm:
    new: Any = sync.SyncBatchNorm(
        layer.num_features,
        layer.eps,
        layer.momentum,
        layer.affine,
        layer.track_running_stats,
        group,
        device="meta",
        layer_name=path,
        **options,
    )
    new.weight, new.bias = layer.weight, layer.bias
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(layer, name))
    for name in _OPTIONS:
        if hasattr(layer, name):
            setattr(new, name, getattr(layer, name))
    new.training = layer.training
    if hasattr(layer, "qconfig"):
        new.qconfig = layer.qconfig
    result: sync.SyncBatchNorm = new
    return result
