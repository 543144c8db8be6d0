"""ONNX Runtime on the rows of workloads.txt: forward, where it has one operator for the layer."""
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

EPS = 1e-5
TYPES = {"f32": (TensorProto.FLOAT, np.float32), "f64": (TensorProto.DOUBLE, np.float64),
         "f16": (TensorProto.FLOAT16, np.float16)}


def node(problem):
    """The operator, its attributes, and the names of its parameters."""
    if problem.kind == "batch" and problem.given:
        return "BatchNormalization", {"epsilon": EPS}, ["scale", "bias", "mean", "var"]
    if problem.kind == "instance":
        return "InstanceNormalization", {"epsilon": EPS}, ["scale", "bias"]
    if problem.kind == "group":
        return "GroupNormalization", {"epsilon": EPS, "num_groups": int(problem.keys["g"])}, ["scale", "bias"]
    if problem.kind == "rms":
        return "RMSNormalization", {"axis": -1, "epsilon": EPS}, ["scale"]
    if problem.kind == "layer" and "axes" not in problem.keys:
        return "LayerNormalization", {"axis": -1, "epsilon": EPS}, ["scale", "bias"]
    raise ValueError("no operator for this row")


class Onnxruntime:
    def __init__(self):
        self.version = f"ONNX Runtime {onnxruntime.__version__}"

    def prepare(self, problem, threads):
        if problem.backward or problem.layout != "contiguous" or {"act", "add"} & set(problem.keys):
            raise ValueError("ONNX Runtime has forward of dense row-major tensors only")
        if problem.type not in TYPES:
            raise ValueError(f"no {problem.type} here")
        onnx_type, numpy_type = TYPES[problem.type]
        operator, attributes, names = node(problem)
        length = problem.shape[-1] if problem.kind in ("layer", "rms") else problem.shape[1]
        constants = [onnx.numpy_helper.from_array(np.ones(length, numpy_type), name) for name in names]
        x = helper.make_tensor_value_info("x", onnx_type, problem.shape)
        y = helper.make_tensor_value_info("y", onnx_type, problem.shape)
        graph = helper.make_graph([helper.make_node(operator, ["x", *names], ["y"], **attributes)], "layer", [x], [y],
                                  constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        values = np.random.default_rng(0).standard_normal(problem.shape, np.float32).astype(numpy_type)
        binding = session.io_binding()  # input and output stay where they are: no copy, no allocation
        self.held = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in (values, np.zeros_like(values))]
        binding.bind_ortvalue_input("x", self.held[0])
        binding.bind_ortvalue_output("y", self.held[1])
        return lambda: session.run_with_iobinding(binding)
