"""oneDNN on the rows of workloads.txt, through its C interface. The package from PyPI is built for SYCL; run.py points
it at the OpenCL device of the processor."""
import ctypes
import os
import pathlib
import sys

import numpy as np

EPS = 1e-5
TYPES = {"f16": (1, np.uint16), "bf16": (2, np.uint16), "f32": (3, np.float32)}
CPU, IN_ORDER, ALLOCATE = 1, 1, ctypes.c_void_p(-1)
TRAINING, INFERENCE, BACKWARD = 64, 96, 128
GLOBAL_STATS, SCALE, SHIFT, RMS = 1, 2, 4, 32
SRC, DST, MEAN, VARIANCE, GAMMA, BETA, DIFF_SRC, DIFF_DST, DIFF_GAMMA, DIFF_BETA = (
    1, 17, 49, 50, 51, 52, 129, 145, 255, 256)


class Argument(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_int), ("memory", ctypes.c_void_p)]


class Onednn:
    def __init__(self, threads):
        # Its pool has a thread for each processor that the process may use, and no setting of its own that holds.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        self.library = ctypes.CDLL(pathlib.Path(sys.prefix) / "lib" / "libdnnl.so.3")
        self.engine, self.stream = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("engine_create", ctypes.byref(self.engine), CPU, ctypes.c_size_t(0))
        self.call("stream_create", ctypes.byref(self.stream), self.engine, IN_ORDER)
        version = self.library.dnnl_version  # a struct that begins with three numbers
        version.restype = ctypes.POINTER(ctypes.c_int * 3)
        self.version = "oneDNN " + ".".join(map(str, version().contents))
        self.memories = []

    def call(self, name, *arguments):
        status = getattr(self.library, f"dnnl_{name}")(*arguments)
        if status == 3:
            raise ValueError(f"oneDNN has no {name} for this row on this processor")
        if status != 0:
            raise ValueError(f"dnnl_{name} returned {status}")

    def describe(self, shape, kind, channels_last=False):
        """A memory descriptor of a dense tensor."""
        order = [0, *range(2, len(shape)), 1] if channels_last else list(range(len(shape)))
        strides, step = [0] * len(shape), 1
        for axis in reversed(order):
            strides[axis], step = step, step * shape[axis]
        descriptor, numbers = ctypes.c_void_p(), ctypes.c_int64 * len(shape)
        self.call("memory_desc_create_with_strides", ctypes.byref(descriptor), len(shape), numbers(*shape), kind,
                  numbers(*strides))
        return descriptor

    def memory(self, descriptor, values):
        """Memory of oneDNN's own, with these values."""
        memory, address = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("memory_create", ctypes.byref(memory), descriptor, self.engine, ALLOCATE)
        self.call("memory_map_data", memory, ctypes.byref(address))
        ctypes.memmove(address, values.ctypes.data, values.nbytes)
        self.call("memory_unmap_data", memory, address)
        self.memories.append(memory)
        return memory

    def prepare(self, problem, threads):
        if threads != len(os.sched_getaffinity(0)):
            raise ValueError(f"{len(os.sched_getaffinity(0))} processors for {threads} threads")
        for memory in self.memories:
            self.library.dnnl_memory_destroy(memory)
        self.memories = []
        if {"act", "add", "axes"} & set(problem.keys) or problem.kind == "instance" and problem.backward:
            raise ValueError("oneDNN has no primitive for this row")
        kind, numpy_type = TYPES[problem.type]
        data = self.describe(problem.shape, kind, problem.layout == "channels_last")
        family, arguments, units, flags = self.primitive(problem)
        length = problem.shape[-1] if family == "layer" else problem.shape[1]
        head = [self.engine, INFERENCE if problem.given and not problem.backward else TRAINING, data, data]
        tail = [*arguments, ctypes.c_float(EPS), flags]
        forward = self.descriptor(f"{family}_normalization_forward", head, tail + [None])
        chosen = forward
        if problem.backward:
            head = [self.engine, BACKWARD, data, data, data]
            chosen = self.descriptor(f"{family}_normalization_backward", head, tail + [forward, None])
        self.fill(problem, data, numpy_type, units, length)
        return self.executor(chosen, problem)

    def primitive(self, problem):
        """The family, its own arguments before eps, the shape of its statistics, and its flags."""
        if problem.kind in ("layer", "rms"):
            units = problem.shape[:-1]
            return "layer", [self.describe(units, 3)], units, SCALE | (RMS if problem.kind == "rms" else SHIFT)
        if problem.kind == "batch":
            return "batch", [], problem.shape[1:2], SCALE | SHIFT | (GLOBAL_STATS if problem.given else 0)
        groups = int(problem.keys.get("g", problem.shape[1]))
        return "group", [ctypes.c_int64(groups)], (problem.shape[0], groups), SCALE | SHIFT

    def descriptor(self, name, head, tail):
        descriptor = ctypes.c_void_p()
        self.call(f"{name}_primitive_desc_create", ctypes.byref(descriptor), *head, *tail)
        return descriptor

    def fill(self, problem, data, numpy_type, units, length):
        values = np.random.default_rng(0).standard_normal(problem.shape, np.float32)
        if numpy_type is np.uint16:
            values = values.astype(np.float16).view(np.uint16) if problem.type == "f16" else \
                (values.view(np.uint32) >> 16).astype(np.uint16)
        vector, statistics = self.describe((length,), 3), self.describe(units, 3)
        ones, zeros = np.ones(length, np.float32), np.zeros(length, np.float32)
        self.held = {SRC: self.memory(data, values), GAMMA: self.memory(vector, ones), BETA: self.memory(vector, zeros),
                     MEAN: self.memory(statistics, np.zeros(units, np.float32)),
                     VARIANCE: self.memory(statistics, np.ones(units, np.float32))}
        if problem.backward:
            self.held |= {DIFF_DST: self.memory(data, values), DIFF_SRC: self.memory(data, values),
                          DIFF_GAMMA: self.memory(vector, zeros), DIFF_BETA: self.memory(vector, zeros)}
        else:
            self.held[DST] = self.memory(data, values)
        if problem.kind == "rms":
            for name in (MEAN, BETA, DIFF_BETA):
                self.held.pop(name, None)

    def executor(self, descriptor, problem):
        primitive = ctypes.c_void_p()
        self.call("primitive_create", ctypes.byref(primitive), descriptor)
        arguments = (Argument * len(self.held))(*(Argument(arg, memory) for arg, memory in self.held.items()))

        def call():
            self.call("primitive_execute", primitive, self.stream, len(arguments), arguments)
            self.call("stream_wait", self.stream)
        return call
