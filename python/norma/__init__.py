"""Normalization layers for NumPy arrays: right, the same bits everywhere, fast.

Functions have the names, arguments and defaults of torch.nn.functional; NAME_backward gives their gradients.
"""

from norma._norma import (
    Moments,
    adain,
    adain_backward,
    batch_norm,
    batch_norm_backward,
    get_num_threads,
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
    isa,
    layer_norm,
    layer_norm_backward,
    norm,
    norm_backward,
    rms_norm,
    rms_norm_backward,
    set_num_threads,
)
from norma.command import explain, picture
from norma.conventions import convert_momentum, convert_variance
from norma.statistics import load_moments, merge_moments, save_moments

__all__ = [
    "Moments",
    "adain",
    "adain_backward",
    "batch_norm",
    "batch_norm_backward",
    "convert_momentum",
    "convert_variance",
    "explain",
    "get_num_threads",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "isa",
    "layer_norm",
    "layer_norm_backward",
    "load_moments",
    "merge_moments",
    "norm",
    "norm_backward",
    "picture",
    "rms_norm",
    "rms_norm_backward",
    "save_moments",
    "set_num_threads",
]
