"""ONNX's own node cases of the normalization operators, as the package onnx makes them: against the stored values at
ONNX's tolerance, and against the operator in long double at the bound that norma.h states."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

onnx: Any = pytest.importorskip("onnx", reason="pip install onnx; .ci/run python does")

from norma.onnx import OPERATORS, Backend  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402
from onnx.backend.test.case.node import collect_testcases  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from oracle import BFLOAT16, check, data  # noqa: E402


def collect() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases: list[Any] = list(collect_testcases(None))
    return [case for case in cases if all(node.op_type in OPERATORS for node in case.model.graph.node)]


CASES = collect()


def exact(op: str, attributes: dict[str, Any], inputs: list[Any]) -> list[tuple[Any, Any]]:
    """The outputs in long double, and the error that is allowed for float32."""
    x, *params = [value.astype(np.longdouble) for value in inputs]
    epsilon, rms = attributes.get("epsilon", 1e-5), op == "RMSNormalization"
    shape, column = x.shape, (-1,) + (1,) * (x.ndim - 2)
    if op in ("LayerNormalization", "RMSNormalization"):
        axes = tuple(range(attributes.get("axis", -1) % x.ndim, x.ndim))
    elif op == "MeanVarianceNormalization":
        axes = tuple(axis % x.ndim for axis in attributes.get("axes", (0, 2, 3)))
    elif op == "GroupNormalization":
        groups = attributes["num_groups"]
        x, axes = x.reshape(shape[0], groups, -1), (2,)
        params = [np.repeat(p, shape[1] // p.size).reshape(groups, -1, 1) for p in params]
        params = [
            np.broadcast_to(p, (groups, shape[1] // groups, x.shape[2] * groups // shape[1])).reshape(groups, -1)
            for p in params
        ]
    else:
        axes = (0, *range(2, x.ndim)) if op == "BatchNormalization" else tuple(range(2, x.ndim))
        params = [p.reshape(column) for p in params]
    mean = x.mean(axes, keepdims=True) * (0 if rms else 1)
    var = np.square(x - mean).mean(axes, keepdims=True)
    running: list[tuple[Any, Any]] = []
    if op == "BatchNormalization" and attributes.get("training_mode", 0):
        old = attributes.get("momentum", 0.9)
        for new, value in zip((mean, var), params[2:], strict=True):
            result = (old * value + (1 - old) * new.reshape(value.shape)).ravel()
            running.append((result, 2.0**-23 * np.abs(result) + 1e-14))
    elif op == "BatchNormalization":
        mean, var = params[2:]
    rstd = 1 / (np.sqrt(var) + 1e-9) if op == "MeanVarianceNormalization" else 1 / np.sqrt(var + epsilon)
    gamma = params[0] if params else np.longdouble(1)
    beta = params[1] if len(params) > 1 else np.longdouble(0)
    product = (x - mean) * rstd * gamma
    bound = 5e-7 * (np.abs(product) + np.abs(beta)) + 1e-14 * np.abs(gamma) * (1 + np.abs(mean) * rstd) + 1e-37
    stats = [(value, 2.0**-23 * np.abs(value) + 1e-14) for value in (mean, rstd)] if op == "LayerNormalization" else []
    return [((product + beta).reshape(shape), np.broadcast_to(bound, x.shape).reshape(shape)), *running, *stats]


def attributes_of(node: Any) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def test_the_cases_are_there() -> None:
    ops = [case.model.graph.node[0].op_type for case in CASES]
    assert {op: ops.count(op) for op in OPERATORS} == {
        "BatchNormalization": 4,
        "InstanceNormalization": 2,
        "LayerNormalization": 19,
        "GroupNormalization": 2,
        "RMSNormalization": 19,
        "MeanVarianceNormalization": 1,
    }


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_stored_values_and_the_bound(case: Any) -> None:
    node = case.model.graph.node[0]
    assert Backend.is_compatible(case.model)
    data_sets: Any = case.data_sets
    for inputs, stored in data_sets:
        results = Backend.run_model(case.model, inputs)
        version = case.model.opset_import[0].version
        again = Backend.run_node(node, inputs, opset_version=version)
        limits = exact(node.op_type, attributes_of(node), inputs)
        assert len(results) == len(again) == len(stored) <= len(limits)
        for result, other, value, (right, bound) in zip(results, again, stored, limits, strict=False):
            assert result.dtype == value.dtype and result.shape == value.shape and (result == other).all()
            np.testing.assert_allclose(result, value, rtol=case.rtol, atol=case.atol)
            check(result, right, bound)


def group_norm_18(groups: int, x: Any) -> Any:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [groups]) for name in ("scale", "bias")]
    node = helper.make_node("GroupNormalization", ["x", "scale", "bias"], ["y"], num_groups=groups, epsilon=1e-2)
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_normalization_18_has_a_scale_per_group(groups: int) -> None:
    """The package makes no case of this version: its reference gives the value."""
    x = data((3, 4, 2, 2), np.dtype(np.float32), 1)
    scale, bias = data((groups,), x.dtype, 2), data((groups,), x.dtype, 3)
    model = group_norm_18(groups, x)
    (y,) = Backend.run_model(model, [x, scale, bias])
    reference: Any = ReferenceEvaluator(model)
    (value,) = reference.run(None, {"x": x, "scale": scale, "bias": bias})
    np.testing.assert_allclose(y, value, rtol=1e-3, atol=1e-6)
    check(y, *exact("GroupNormalization", {"num_groups": groups, "epsilon": 1e-2}, [x, scale, bias])[0])


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (3, 4, 5), (2, 1, 1, 1), (3, 1, 5)])
def test_scale_and_bias_broadcast(op: str, shape: tuple[int, ...]) -> None:
    x = data((2, 3, 4, 5), np.dtype(np.float32), 1, 30)
    params = [np.asarray(data(shape, x.dtype, 2))]
    if op == "LayerNormalization":
        params.append(data((3, 1, 1), x.dtype, 3))
    node = helper.make_node(op, ["x", "scale", "bias"][: 1 + len(params)], ["y"], axis=2)
    (y,) = Backend.run_node(node, [x, *params], opset_version=23)
    check(y, *exact(op, {"axis": 2}, [x, *params])[0])


def test_types_that_differ() -> None:
    x = data((4, 6), np.dtype(np.float16), 1)
    node = helper.make_node("RMSNormalization", ["x", "scale"], ["y"])
    for dtype in (np.float32, np.float64, BFLOAT16):
        scale = data((6,), np.dtype(dtype), 2)
        (y,) = Backend.run_node(node, [x, scale], opset_version=23)
        assert y.dtype == dtype
        (right, bound) = exact("RMSNormalization", {}, [x.astype(np.float64), scale.astype(np.float64)])[0]
        check(y, right, bound + (2.0**-8 * np.abs(right) if dtype is BFLOAT16 else 0))
    node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])
    params = [np.ones(6), np.zeros(6), data((6,), np.dtype(np.float64), 3), np.ones(6)]
    (y,) = Backend.run_node(node, [x, *params], opset_version=15)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.astype(np.float64), x.astype(np.float64) - params[2], rtol=2e-3, atol=1e-3)


def test_one_dimension_is_one_channel_and_momentum_0_keeps_nothing() -> None:
    x = data((9,), np.dtype(np.float32), 1, 5)
    node = helper.make_node(
        "BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "rm", "rv"], training_mode=1, momentum=0.0
    )
    one = np.ones(1, np.float32)
    y, mean, var = Backend.run_node(node, [x, one, one, one, one], opset_version=15)
    np.testing.assert_allclose(mean, [x.mean()], rtol=1e-6)
    np.testing.assert_allclose(var, [x.var()], rtol=1e-6)
    np.testing.assert_allclose(y, (x - x.mean()) / np.sqrt(x.var() + 1e-5) + 1, rtol=1e-5)


def test_mean_variance_of_everything_and_of_constants() -> None:
    x = data((2, 3), np.dtype(np.float64), 1)
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"], axes=[0, -1])
    (y,) = Backend.run_node(node, [x])
    np.testing.assert_allclose(y, (x - x.mean()) / (x.std() + 1e-9), rtol=1e-12)
    (y,) = Backend.run_node(node, [np.full((2, 3), 7.0)])
    assert (y == 0).all()
    (y,) = Backend.run_node(node, [x * 1e-9])
    np.testing.assert_allclose(y, (x - x.mean()) * 1e-9 / (x.std() * 1e-9 + 1e-9), rtol=1e-12)


def test_other_operators_and_devices_are_refused() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(NotImplementedError, match="Relu"):
        Backend.run_node(node, [np.ones(3, np.float32)])
    with pytest.raises(ValueError, match="axis is 2, but X has 1 dimensions"):
        Backend.run_node(helper.make_node("RMSNormalization", ["x", "s"], ["y"], axis=2), [np.ones(3, np.float32)] * 2)
    assert Backend.supports_device("CPU") and not Backend.supports_device("CUDA")
