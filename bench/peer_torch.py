"""PyTorch on the rows of workloads.txt: eager, on Norma's kernels (norma.torch), or through torch.compile."""
import torch
import torch._dynamo
import torch._functorch.config
from torch.nn import functional

EPS = 1e-5
TYPES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16}


def formula(problem, weight, bias, running):
    """The layer as a function of x, in the words that PyTorch has for it."""
    last = problem.shape[-1:]
    if problem.kind == "batch":
        return lambda x: functional.batch_norm(x, *running, weight, bias, not problem.given, 0.1, EPS)
    if problem.kind == "instance":
        return lambda x: functional.instance_norm(x, None, None, weight, bias, True, 0.1, EPS)
    if problem.kind == "group":
        return lambda x: functional.group_norm(x, int(problem.keys["g"]), weight, bias, EPS)
    if problem.kind == "rms":
        return lambda x: functional.rms_norm(x, last, weight)
    if problem.keys.get("axes") == "c":  # as torchvision's LayerNorm2d
        over = (problem.shape[1],)
        return lambda x: functional.layer_norm(x.permute(0, 2, 3, 1), over, weight, bias, EPS).permute(0, 3, 1, 2)
    if problem.kind == "layer" and "axes" not in problem.keys:
        return lambda x: functional.layer_norm(x, last, weight, bias, EPS)
    raise ValueError("no formula for this row")


class Torch:
    def __init__(self, compiled, on_norma):
        self.compiled, self.on_norma = compiled, on_norma
        self.version = f"PyTorch {torch.__version__}" + (", torch.compile" if compiled else "")
        if on_norma:
            import norma.torch
            norma.torch.enable()
            self.version += " on norma.torch"
        torch.set_num_interop_threads(1)
        torch._functorch.config.donated_buffer = False  # backward runs many times on one graph

    def prepare(self, problem, threads):
        torch.set_num_threads(threads)
        torch._dynamo.reset()
        torch.manual_seed(0)
        x, dy = self.tensor(problem), self.tensor(problem)
        length = problem.shape[1] if problem.kind in ("batch", "group", "instance") or "axes" in problem.keys else \
            problem.shape[-1]
        kind = TYPES[problem.type]
        # Of the 16-bit types batch norm takes float32 parameters as Norma does; the others want one type.
        kind = torch.float32 if problem.kind == "batch" else kind
        weight, bias = torch.ones(length, dtype=kind), torch.zeros(length, dtype=kind)
        running = torch.zeros(length, dtype=torch.float32), torch.ones(length, dtype=torch.float32)
        layer = self.extended(problem, formula(problem, weight, bias, running))
        if self.compiled:
            layer = torch.compile(layer, dynamic=False)
        inputs = [x] if "add" not in problem.keys else [x, self.tensor(problem)]
        if not problem.backward:
            return self.forward(problem, layer, inputs)
        parameters = [weight] if problem.kind == "rms" else [weight, bias]
        return self.backward(problem, layer, inputs, parameters, dy)

    @staticmethod
    def tensor(problem):
        t = torch.randn(problem.shape).to(TYPES[problem.type])
        if problem.layout == "channels_last":
            formats = {4: torch.channels_last, 5: torch.channels_last_3d}
            t = t.contiguous(memory_format=formats[len(problem.shape)])
        return t

    @staticmethod
    def extended(problem, layer):
        """The layer with the activation or the residual of its row."""
        if problem.keys.get("act") == "silu" and "add" not in problem.keys:
            return lambda x: functional.silu(layer(x))
        if problem.keys.get("add") == "before":
            def add_before(x, residual):
                total = x + residual
                return layer(total), total
            return add_before
        if problem.keys.get("add") == "after" and problem.keys.get("act") == "relu":
            return lambda x, residual: functional.relu(layer(x) + residual)
        if {"act", "add"} & set(problem.keys):
            raise ValueError("no formula for this row")
        return layer

    @staticmethod
    def forward(problem, layer, inputs):
        mode = torch.inference_mode if problem.given else torch.no_grad
        if problem.given:
            with torch.inference_mode():
                inputs = [t.clone() for t in inputs]

        def call():
            with mode():
                layer(*inputs)
        return call

    def backward(self, problem, layer, inputs, parameters, dy):
        x = inputs[0]
        if not self.compiled and problem.kind == "layer" and "axes" not in problem.keys:
            # The operator that autograd calls, so that a short call is not charged for the engine.
            weight, bias = parameters
            if self.on_norma:
                spec = 3, 1 << x.dim() - 1, EPS, 0  # layer norm over the last dimension, no activation
                saved = torch.ops.norma.forward_saved(x, weight, bias, *spec, False)[1]
                return lambda: torch.ops.norma.backward(dy, x, weight, bias, None, None, saved, *spec,
                                                        [True, True, True])
            _, mean, rstd = torch.ops.aten.native_layer_norm(x, x.shape[-1:], weight, bias, EPS)
            return lambda: torch.ops.aten.native_layer_norm_backward(dy, x, x.shape[-1:], mean, rstd, weight, bias,
                                                                     [True, True, True])
        wanted = [*inputs, *parameters]
        for t in wanted:
            t.requires_grad_()
        outputs = layer(*inputs)
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
        dy = torch.empty_like(outputs[0]).copy_(dy)  # in the format of y, as the next layer's gradient is
        gradients = [dy] if len(outputs) == 1 else [dy, self.tensor(problem)]
        return lambda: torch.autograd.grad(outputs, wanted, gradients, retain_graph=True)
