"""Norma for PyTorch: PyTorch's own norms on the CPU, run by Norma.

``norma.torch.enable()`` replaces the kernels under torch.nn and torch.nn.functional; ``norma.torch.functional`` calls
Norma directly, with an activation if wanted. The classes have torch.nn's names and arguments and a few keywords more;
``adopt``, ``swap`` and ``fuse`` put them into a model that exists.
"""

from norma.torch._edit import Change, Report
from norma.torch._override import calls, disable, enable, enabled, is_enabled
from norma.torch.adopt import adopt
from norma.torch.fuse import fuse
from norma.torch.modules import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    LazyBatchNorm1d,
    LazyBatchNorm2d,
    LazyBatchNorm3d,
    LazyInstanceNorm1d,
    LazyInstanceNorm2d,
    LazyInstanceNorm3d,
    RMSNorm,
    SyncBatchNorm,
)
from norma.torch.recalibrate import load_statistics, recalibrate
from norma.torch.restated import Restated, Restatement
from norma.torch.running import freeze, hold_statistics, unfreeze
from norma.torch.swap import swap
from norma.torch.sync import convert_sync_batchnorm

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Change",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "RMSNorm",
    "Report",
    "Restated",
    "Restatement",
    "SyncBatchNorm",
    "adopt",
    "calls",
    "convert_sync_batchnorm",
    "disable",
    "enable",
    "enabled",
    "freeze",
    "fuse",
    "hold_statistics",
    "is_enabled",
    "load_statistics",
    "recalibrate",
    "swap",
    "unfreeze",
]
