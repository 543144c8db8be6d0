"""ONNX's normalization operators on Norma, as an onnx.backend:  norma.onnx.Backend.run_model(model, inputs).

BatchNormalization, InstanceNormalization, LayerNormalization, GroupNormalization, RMSNormalization and
MeanVarianceNormalization; of 16-bit data the normalized value is not rounded before scale and bias, only the result is.
Needs the package onnx.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, defs, helper, numpy_helper
from onnx.backend import base

import norma

Array = NDArray[Any]
Attributes = dict[str, Any]
# From this opset on GroupNormalization has a scale per channel, before per group.
SCALE_PER_CHANNEL = 21


def _names(ndim: int) -> list[str]:
    return [f"d{axis}" for axis in range(ndim)]


def _pattern(ndim: int, shared: Sequence[int]) -> str:
    return " ".join(f"[{name}]" if axis in shared else name for axis, name in enumerate(_names(ndim)))


def _widen(x: Array, *params: Array | None) -> Array:
    """x as float64 where a parameter is float64: no parameter is rounded."""
    if any(param is not None and param.dtype == np.float64 for param in params):
        return x.astype(np.float64)
    return x


def _spread(x: Array, *params: Array | None) -> tuple[list[int], list[Array | None]]:
    """Parameters that broadcast to x: the axes along which they change, and the parameters on these axes alone."""
    full = [None if param is None else param.reshape((1,) * (x.ndim - param.ndim) + param.shape) for param in params]
    axes = [axis for axis in range(x.ndim) if any(param is not None and param.shape[axis] != 1 for param in full)]
    axes = axes or [x.ndim - 1]
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    lengths = [x.shape[axis] for axis in axes]
    return axes, [None if param is None else np.broadcast_to(param, shape).reshape(lengths) for param in full]


def _normalize(
    x: Array, shared: Sequence[int], scale: Array, bias: Array | None, epsilon: float, rms: bool
) -> tuple[Array, ...]:
    """y, mean and rstd, or y and rstd, with scale and bias that broadcast to x."""
    axes, (weight, offset) = _spread(x, scale, bias)
    names = _names(x.ndim)
    y, *stats = norma.norm(
        x,
        _pattern(x.ndim, shared),
        affine=" ".join(names[axis] for axis in axes),
        weight=weight,
        bias=offset,
        eps=epsilon,
        rms=rms,
        return_stats=True,
    )
    keep = [1 if axis in shared else length for axis, length in enumerate(x.shape)]
    return (y, *(value.reshape(keep) for value in stats))


def _last_axes(x: Array, attributes: Attributes) -> range:
    axis = attributes.get("axis", -1)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis is {axis}, but X has {x.ndim} dimensions")
    if attributes.get("stash_type", 1) != 1:
        raise NotImplementedError(f"stash_type is {attributes['stash_type']}, only 1 (float32) is known")
    return range(axis % x.ndim, x.ndim)


def _layer(
    attributes: Attributes, version: int, x: Array, scale: Array, bias: Array | None = None
) -> tuple[Array, ...]:
    shared, epsilon = _last_axes(x, attributes), attributes.get("epsilon", 1e-5)
    y, mean, rstd = _normalize(_widen(x, scale, bias), shared, scale, bias, epsilon, rms=False)
    return y.astype(x.dtype), mean.astype(np.float32), rstd.astype(np.float32)


def _rms(attributes: Attributes, version: int, x: Array, scale: Array) -> tuple[Array, ...]:
    """The result has the type of scale."""
    wide = x
    if scale.dtype != x.dtype:
        wide = x.astype(np.float64 if np.float64 in (x.dtype, scale.dtype) else np.float32)
    shared, epsilon = _last_axes(x, attributes), attributes.get("epsilon", 1e-5)
    y, _ = _normalize(wide, shared, scale, None, epsilon, rms=True)
    return (y.astype(scale.dtype),)


def _instance(attributes: Attributes, version: int, x: Array, scale: Array, bias: Array) -> tuple[Array, ...]:
    epsilon = attributes.get("epsilon", 1e-5)
    return (norma.norm(x, "n c [...]", affine="c", weight=scale, bias=bias, eps=epsilon),)


def _group(attributes: Attributes, version: int, x: Array, scale: Array, bias: Array) -> tuple[Array, ...]:
    groups, epsilon = attributes["num_groups"], attributes.get("epsilon", 1e-5)
    affine = "(g k)" if version >= SCALE_PER_CHANNEL else "g"
    pattern = "n (g [k]) [...]"
    return (norma.norm(x, pattern, affine=affine, weight=scale, bias=bias, eps=epsilon, g=groups),)


def _batch(
    attributes: Attributes, version: int, x: Array, scale: Array, bias: Array, mean: Array, var: Array
) -> tuple[Array, ...]:
    """An x of one dimension has one channel."""
    epsilon, momentum = attributes.get("epsilon", 1e-5), attributes.get("momentum", 0.9)
    full = _widen(x.reshape(-1, 1) if x.ndim == 1 else x, scale, bias, mean, var)
    pattern = "[n] c [...]"
    if not attributes.get("training_mode", 0):
        y = norma.norm(full, pattern, affine="c", weight=scale, bias=bias, eps=epsilon, mean=mean, var=var)
        return (y.astype(x.dtype).reshape(x.shape),)
    y = norma.norm(full, pattern, affine="c", weight=scale, bias=bias, eps=epsilon)
    moments = norma.Moments(pattern)
    moments.add(full)
    running_mean, running_var = mean.copy(), var.copy()
    if momentum == 0:
        running_mean[...], running_var[...] = moments.finish()
    else:
        moments.update(running_mean, running_var, momentum=momentum, convention="onnx")
    return y.astype(x.dtype).reshape(x.shape), running_mean, running_var


def _mean_variance(attributes: Attributes, version: int, x: Array) -> tuple[Array, ...]:
    """(x - mean) / (std + 1e-9): with eps 0 and a weight of std / (std + 1e-9)."""
    shared = [axis % x.ndim for axis in attributes.get("axes", [0, 2, 3])]
    moments = norma.Moments(_pattern(x.ndim, shared))
    moments.add(x)
    std = np.sqrt(moments.finish()[1])
    kept = [axis for axis in range(x.ndim) if axis not in shared]
    weight = (std / (std + 1e-9)).astype(np.float64 if x.dtype == np.float64 else np.float32)
    if not kept:
        kept, weight = [0], np.broadcast_to(weight, x.shape[:1])
    affine = " ".join(_names(x.ndim)[axis] for axis in kept)
    return (norma.norm(x, _pattern(x.ndim, shared), affine=affine, weight=weight, eps=0),)


OPERATORS: dict[str, Callable[..., tuple[Array, ...]]] = {
    "BatchNormalization": _batch,
    "InstanceNormalization": _instance,
    "LayerNormalization": _layer,
    "GroupNormalization": _group,
    "RMSNormalization": _rms,
    "MeanVarianceNormalization": _mean_variance,
}


def _run_node(node: NodeProto, inputs: Sequence[Array | None], version: int) -> tuple[Array, ...]:
    if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
        raise NotImplementedError(f"{node.domain or 'ai.onnx'}.{node.op_type} is no normalization operator")
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    results = OPERATORS[node.op_type](attributes, version, *inputs)
    return results[: len(node.output)]


def _is_deprecated(node: NodeProto, version: int) -> bool:
    """Models have it, but ONNX's checker refuses it."""
    return node.op_type == "GroupNormalization" and version < SCALE_PER_CHANNEL


class BackendRep(base.BackendRep):
    """A model that is ready to run: its nodes, in order."""

    def __init__(self, graph: GraphProto, version: int) -> None:
        self.graph, self.version = graph, version
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def run(self, inputs: Sequence[Array] | Mapping[str, Array], **_: Any) -> tuple[Any, ...]:
        names = [value.name for value in self.graph.input if value.name not in self.constants]
        given = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(names, inputs, strict=True))
        values: dict[str, Array] = {**self.constants, **given}
        for node in self.graph.node:
            results = _run_node(node, [values[name] if name else None for name in node.input], self.version)
            values.update(zip(node.output, results, strict=True))
        return tuple(values[value.name] for value in self.graph.output)


class Backend(base.Backend):
    """onnx.backend of models whose nodes are normalization operators."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **_: Any) -> bool:
        return cls.supports_device(device) and all(node.op_type in OPERATORS for node in model.graph.node)

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **options: Any) -> BackendRep:
        version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        if not any(_is_deprecated(node, version) for node in model.graph.node):
            super().prepare(model, device, **options)
        return BackendRep(model.graph, version)

    @classmethod
    def run_node(
        cls, node: NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **options: Any
    ) -> tuple[Any, ...]:
        version = int(options.get("opset_version", defs.onnx_opset_version()))
        if not _is_deprecated(node, version):
            super().run_node(node, inputs, device, outputs_info, **options)
        present = iter(inputs)
        return _run_node(node, [np.asarray(next(present)) if name else None for name in node.input], version)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.split(":")[0] == "CPU"
