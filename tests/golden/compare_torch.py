#!/usr/bin/env python3
"""The largest error of PyTorch and of Norma on the same input, each against the definition in long double (NumPy).

    make
    python3 -m venv .venv && .venv/bin/pip install torch==2.13.0 numpy
    .venv/bin/python tests/golden/compare_torch.py

Prints the table of README.md. PyTorch computes on the CPU with one thread, Norma through `norma apply`. The column of
Norma is the same on every machine and tests/house/test_docs.py compares it; PyTorch's last digits depend on the
processor.
"""
import os
import pathlib
import subprocess
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
NORMA = pathlib.Path(os.environ.get("NORMA_BUILD", ROOT / "build")) / "norma"
EPS = 1e-5
ROWS = 65536


def apply(layer, x, options=(), **inputs):
    """`norma apply` on arrays; --dbias FILE is read back instead of y where it is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        np.save(path / "x.npy", x)
        words = [NORMA, "apply", layer, path / "x.npy", "-o", path / "y.npy", *options]
        for name, array in inputs.items():
            np.save(path / f"{name}.npy", array)
            words += [f"--{name}", path / f"{name}.npy"]
        if "dy" in inputs:
            words += ["--dbias", path / "dbias.npy"]
        subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
        return np.load(path / ("dbias.npy" if "dy" in inputs else "y.npy"))


def normalized(x, axes):
    """The definition in long double, about the first element so that nothing cancels."""
    x = x.astype(np.longdouble)
    x = x - x.flat[0]
    x = x - x.mean(axis=axes, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=axes, keepdims=True) + np.longdouble(EPS))


class Images:
    """Group norm of 32 groups, or batch norm in training, on float32 images of a given mean, in both layouts."""

    def __init__(self, layer, mean):
        self.layer, self.title = layer, f"y of {layer} norm, mean {mean}, std 1"
        self.x = (np.random.default_rng(1).standard_normal((8, 64, 28, 28)) + mean).astype(np.float32)

    def exact(self):
        if self.layer == "batch":
            return normalized(self.x, (0, 2, 3))
        return normalized(self.x.reshape(8, 32, -1), 2).reshape(self.x.shape)

    def norma(self):
        groups = ["--groups", "32"] if self.layer == "group" else []
        y = apply(self.layer, self.x, groups)
        last = apply(self.layer, np.ascontiguousarray(np.moveaxis(self.x, 1, 3)), ["--channels-last", *groups])
        assert np.array_equal(y, np.moveaxis(last, 3, 1)), "the layouts differ"
        return y

    def torch(self, torch):
        """Row-major, and channels_last."""
        functional = torch.nn.functional
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x = torch.tensor(self.x).contiguous(memory_format=memory_format)
            yield (functional.group_norm(x, 32) if self.layer == "group" else
                   functional.batch_norm(x, None, None, training=True)).numpy()


class Row:
    """Layer norm of four neighbouring float32 numbers."""
    title = "y of layer norm of 16000000 to 16000003"
    x = np.array([[16000000, 16000001, 16000002, 16000003]], np.float32)

    def exact(self):
        return normalized(self.x, 1)

    def norma(self):
        return apply("layer", self.x)

    def torch(self, torch):
        yield torch.nn.functional.layer_norm(torch.tensor(self.x), self.x.shape[1:]).numpy()


class Bias:
    """dbeta of layer norm on bfloat16, the gradient of y being 1 everywhere: the number of rows is right."""
    title = f"dbeta of layer norm, bfloat16, {ROWS} rows of dy = 1"

    def __init__(self):
        self.x = np.random.default_rng(1).integers(-8, 9, (ROWS, 64)).astype(np.float32)  # bfloat16 holds them

    def exact(self):
        return np.full(64, ROWS, np.longdouble)

    def norma(self):
        bits = (self.x.view(np.uint32) >> 16).astype(np.uint16)
        return apply("layer", bits.view("V2"), dy=np.full(bits.shape, 0x3F80, np.uint16).view("V2"))

    def torch(self, torch):
        x = torch.tensor(self.x).bfloat16()
        weight, bias = torch.ones(64).bfloat16(), torch.zeros(64).bfloat16().requires_grad_()
        torch.nn.functional.layer_norm(x, (64,), weight, bias).backward(torch.ones_like(x))
        yield bias.grad.float().numpy()


def cases():
    for layer in ("group", "batch"):
        for mean in (0, 100, 1000, 10000):
            yield Images(layer, mean)
    yield Row()
    yield Bias()


def error(result, case):
    largest = float(np.abs(result.astype(np.longdouble) - case.exact()).max())
    return f"{float(f'{largest:.2g}'):g}"


def main():
    import torch  # here, so that the test of Norma's column needs no PyTorch
    torch.set_num_threads(1)
    version = torch.__version__.split("+")[0]
    print(f"| largest error of | PyTorch {version} | PyTorch, channels_last | Norma |\n|---|---|---|---|")
    for case in cases():
        others = [error(result, case) for result in case.torch(torch)]
        print(f"| {case.title} | {others[0]} | {others[1] if len(others) > 1 else ''} | {error(case.norma(), case)} |")


if __name__ == "__main__":
    main()
