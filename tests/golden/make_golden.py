#!/usr/bin/env python3
"""Writes tests/golden/golden.h: what PyTorch 2.13.0 computes for small tensors, forward and (by autograd) backward.

    python3 -m venv .venv && .venv/bin/pip install torch==2.13.0 numpy
    .venv/bin/python tests/golden/make_golden.py            # writes golden.h beside this file
    .venv/bin/python tests/golden/make_golden.py --check    # regenerates and compares; exit code 1 if they differ

The data are moderate (values of a few units, offsets of at most 10), where PyTorch itself is accurate. PyTorch's last
bits depend on the processor, so --check compares numbers: within 1e-12 of the largest in the array, 1e-5 for float32.
"""
import os
import re
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

TORCH_VERSION = "2.13.0"
GOLDEN_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden.h")

HEAD = """\
/* Golden values: PyTorch %s. Generated, do not edit; the command is
 *     .venv/bin/python tests/golden/make_golden.py
 * in a virtual environment with torch==%s and numpy. tests/c/test_golden.c compares the library with them.
 * A null pointer is a tensor that the case does not have. */
#include <stdint.h>

enum golden_kind {
  GOLDEN_BATCH,
  GOLDEN_INSTANCE,
  GOLDEN_GROUP,         /* number: groups */
  GOLDEN_LAYER,         /* number: trailing dimensions */
  GOLDEN_CHANNELS_FIRST,
  GOLDEN_RMS            /* number: trailing dimensions */
};

struct golden_case {
  const char *name;
  enum golden_kind kind;
  int64_t number;
  const char *affine;   /* another affine list, or null */
  int weight_plus_one;
  int float32;          /* else float64 */
  double eps;           /* 0: the default of PyTorch and of Norma */
  int ndim;
  int64_t shape[4];
  const double *x, *weight, *bias, *dy;
  const double *given_mean, *given_var;     /* one per channel */
  const double *old_mean, *old_var;         /* running statistics before the call, momentum 0.1 */
  const double *running_mean, *running_var; /* and after it */
  const double *y, *dx, *dweight, *dbias;
};

struct golden_adain {
  const char *name;
  int64_t n, c, content_size, style_size;
  double alpha, content_eps, style_eps;
  int content_ddof, style_ddof;
  const double *content, *style, *dy, *y, *dcontent, *dstyle;
};

"""


class Writer:
    """Collects arrays and the rows of the two tables."""

    def __init__(self):
        self.arrays = []
        self.cases = []
        self.adain = []
        self.random = np.random.default_rng(20260101)

    def draw(self, shape, dtype, scale=2.0, offset=0.0):
        """Random numbers of few digits, so that the file stays small and both types hold them exactly."""
        values = np.round(self.random.normal(size=shape) * scale * 64) / 64 + offset
        return torch.tensor(values, dtype=dtype)

    def array(self, case, name, tensor):
        if tensor is None:
            return "0"
        numbers = ", ".join(repr(float(v)) for v in tensor.detach().to(torch.float64).flatten())
        lines = re.sub(r"(.{80,110}?,) ", r"\1\n  ", numbers)
        self.arrays.append(f"static const double {case}_{name}[] = {{\n  {lines}\n}};\n")
        return f"{case}_{name}"

    def text(self):
        table = ("static const struct golden_case golden_cases[] = {\n" + "".join(self.cases) + "};\n\n"
                 "static const struct golden_adain golden_adains[] = {\n" + "".join(self.adain) + "};\n")
        return HEAD % (TORCH_VERSION, TORCH_VERSION) + "\n".join(self.arrays) + "\n" + table


def normalize(kind, number, x, weight, bias, eps, running, given):
    """The PyTorch call of a case. running and given are (mean, var) or None."""
    keyword = {} if eps == 0 else {"eps": eps}
    if kind == "BATCH":
        mean, var = running or given or (None, None)
        return F.batch_norm(x, mean, var, weight, bias, training=given is None, momentum=0.1, **keyword)
    if kind == "INSTANCE":
        mean, var = running or given or (None, None)
        return F.instance_norm(x, mean, var, weight, bias, use_input_stats=given is None, momentum=0.1, **keyword)
    if kind == "GROUP":
        return F.group_norm(x, number, weight, bias, **keyword)
    if kind == "LAYER":
        return F.layer_norm(x, x.shape[-number:], weight, bias, **keyword)
    if kind == "CHANNELS_FIRST":
        last = x.movedim(1, -1)
        return F.layer_norm(last, last.shape[-1:], weight, bias, **keyword).movedim(-1, 1)
    if kind == "RMS":
        return F.rms_norm(x, x.shape[-number:], weight, **keyword)
    raise ValueError(kind)


def param_shape(kind, number, shape):
    return shape[-number:] if kind in ("LAYER", "RMS") else shape[1:2]


def case(out, name, kind, shape, number=0, dtype=torch.float64, eps=0.0, affine=True, bias=True, running=False,
         given=False, offset=0.0):
    """One named layer, affine as the layer has it."""
    x = out.draw(shape, dtype, offset=offset).requires_grad_()
    dy = out.draw(shape, dtype)
    weight = out.draw(param_shape(kind, number, shape), dtype, 0.5, 1.0).requires_grad_() if affine else None
    shift = out.draw(param_shape(kind, number, shape), dtype).requires_grad_() if affine and bias else None
    channels = shape[1:2]
    old = stats = None
    if running:
        old = (out.draw(channels, dtype), out.draw(channels, dtype, 0.25, 2.0))
        stats = (old[0].clone(), old[1].clone())
    frozen = (out.draw(channels, dtype), out.draw(channels, dtype, 0.25, 2.0)) if given else None
    y = normalize(kind, number, x, weight, shift, eps, stats, frozen)
    y.backward(dy)
    write(out, name, kind, number, None, 0, dtype, eps, x, weight, shift, dy, frozen, old, stats, y)


def conditional(out, name, kind, shape, affine, param, number=0, plus_one=False, dtype=torch.float64):
    """gamma and beta per sample: y = norm(x) * gamma + beta, with gamma = 1 + weight in the adaLN form."""
    x = out.draw(shape, dtype).requires_grad_()
    dy = out.draw(shape, dtype)
    weight = out.draw(param, dtype, 0.5, 0.0 if plus_one else 1.0).requires_grad_()
    shift = out.draw(param, dtype).requires_grad_()
    along = [length if kept else 1 for length, kept in zip(shape, affine[1])]
    gamma = weight.reshape(along) + (1 if plus_one else 0)
    y = normalize(kind, number, x, None, None, 0.0, None, None) * gamma + shift.reshape(along)
    y.backward(dy)
    write(out, name, kind, number, affine[0], int(plus_one), dtype, 0.0, x, weight, shift, dy, None, None, None, y)


def write(out, name, kind, number, affine, plus_one, dtype, eps, x, weight, shift, dy, frozen, old, stats, y):
    pair = lambda pair_, i: None if pair_ is None else pair_[i]
    grad = lambda tensor: None if tensor is None else tensor.grad
    tensors = [("x", x), ("weight", weight), ("bias", shift), ("dy", dy), ("given_mean", pair(frozen, 0)),
               ("given_var", pair(frozen, 1)), ("old_mean", pair(old, 0)), ("old_var", pair(old, 1)),
               ("running_mean", pair(stats, 0)), ("running_var", pair(stats, 1)), ("y", y), ("dx", x.grad),
               ("dweight", grad(weight)), ("dbias", grad(shift))]
    names = [out.array(name, key, tensor) for key, tensor in tensors]
    lengths = ", ".join(str(n) for n in x.shape)
    quoted = f'"{affine}"' if affine else "0"
    out.cases.append(f'  {{"{name}", GOLDEN_{kind}, {number}, {quoted}, {plus_one}, {int(dtype == torch.float32)}, '
                     f"{eps!r}, {x.dim()}, {{{lengths}}},\n   "
                     + ",\n   ".join(", ".join(names[i:j]) for i, j in ((0, 4), (4, 6), (6, 8), (8, 10), (10, 14)))
                     + "},\n")


def adain(out, name, n, c, content_shape, style_shape, alpha, eps, ddof):
    """The formula of AdaIN with ddof and eps for (content, style), differentiated by autograd."""
    content = out.draw((n, c) + content_shape, torch.float64).requires_grad_()
    style = out.draw((n, c) + style_shape, torch.float64, 3.0, 1.0).requires_grad_()
    dy = out.draw(content.shape, torch.float64)
    along = (2, 3)
    variance = lambda t, d: t.var(dim=along, correction=d, keepdim=True)
    xhat = (content - content.mean(along, keepdim=True)) / torch.sqrt(variance(content, ddof[0]) + eps[0])
    stylized = xhat * torch.sqrt(variance(style, ddof[1]) + eps[1]) + style.mean(along, keepdim=True)
    y = alpha * stylized + (1 - alpha) * content
    y.backward(dy)
    tensors = [("content", content), ("style", style), ("dy", dy), ("y", y), ("dcontent", content.grad),
               ("dstyle", style.grad)]
    names = [out.array(name, key, tensor) for key, tensor in tensors]
    sizes = f"{n}, {c}, {content[0, 0].numel()}, {style[0, 0].numel()}"
    out.adain.append(f'  {{"{name}", {sizes}, {alpha!r}, {eps[0]!r}, {eps[1]!r}, {ddof[0]}, {ddof[1]},\n   '
                     + ", ".join(names[:3]) + ",\n   " + ", ".join(names[3:]) + "},\n")


def generate():
    out = Writer()
    case(out, "batch_train", "BATCH", (3, 4, 2, 2), running=True)
    case(out, "batch_train_offset", "BATCH", (4, 3, 5), running=True, offset=10.0, eps=1e-3)
    case(out, "batch_train_2d", "BATCH", (6, 3), running=True)
    case(out, "batch_plain", "BATCH", (3, 2, 4), affine=False)
    case(out, "batch_eval", "BATCH", (3, 4, 2, 2), given=True)
    case(out, "instance", "INSTANCE", (2, 3, 2, 3), affine=False)
    case(out, "instance_train", "INSTANCE", (3, 2, 3, 2), running=True)
    case(out, "instance_eval", "INSTANCE", (2, 3, 2, 2), given=True)
    case(out, "group_2", "GROUP", (2, 6, 2, 2), number=2)
    case(out, "group_of_one", "GROUP", (2, 4, 5), number=4, eps=1e-3)
    case(out, "group_all", "GROUP", (2, 4, 3), number=1, bias=False)
    case(out, "layer_last", "LAYER", (2, 3, 6), number=1)
    case(out, "layer_last_two", "LAYER", (3, 2, 5), number=2)
    case(out, "layer_plain_offset", "LAYER", (4, 7), number=1, affine=False, offset=10.0)
    case(out, "layer_no_bias", "LAYER", (3, 5), number=1, bias=False, eps=1e-6)
    case(out, "convnext", "CHANNELS_FIRST", (2, 5, 2, 2))
    case(out, "rms_default_eps", "RMS", (3, 6), number=1, bias=False)
    case(out, "rms_last_two", "RMS", (2, 3, 4), number=2, bias=False, eps=1e-5)
    conditional(out, "film_instance", "INSTANCE", (2, 3, 2, 2), ("n c", (True, True, False, False)), (2, 3))
    conditional(out, "film_group", "GROUP", (2, 4, 3), ("n (g k)", (True, True, False)), (2, 4), number=2)
    conditional(out, "adaln", "LAYER", (2, 3, 4), ("n d", (True, False, True)), (2, 4), number=1, plus_one=True)
    case(out, "batch_train_f32", "BATCH", (3, 4, 2, 2), dtype=torch.float32, running=True)
    case(out, "batch_eval_f32", "BATCH", (3, 3, 4), dtype=torch.float32, given=True)
    case(out, "instance_train_f32", "INSTANCE", (2, 3, 6), dtype=torch.float32, running=True)
    case(out, "group_f32", "GROUP", (2, 6, 3), number=3, dtype=torch.float32)
    case(out, "layer_f32", "LAYER", (4, 9), number=1, dtype=torch.float32)
    case(out, "rms_f32", "RMS", (4, 9), number=1, bias=False, dtype=torch.float32)
    adain(out, "adain_authors", 2, 3, (2, 3), (3, 3), 1.0, (1e-5, 0.0), (0, 0))
    adain(out, "adain_port", 2, 2, (3, 2), (2, 2), 1.0, (1e-5, 1e-5), (1, 1))
    adain(out, "adain_blend", 1, 3, (2, 2), (3, 2), 0.625, (1e-5, 1e-5), (1, 1))
    return out.text()


def differences(old, new):
    """Lines that name each array that differs, or where the files differ in anything but numbers."""
    number = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
    if re.sub(number, "#", old) != re.sub(number, "#", new):
        return ["the files differ in more than numbers: write golden.h again and look at the difference"]
    array = re.compile(r"static const double (\w+)\[\] = \{(.*?)\};", re.S)
    found = []
    if array.sub(r"\1", old) != array.sub(r"\1", new):
        found.append("the tables of cases differ")
    for (name, a), (_, b) in zip(array.findall(old), array.findall(new)):
        values = [np.array([float(v) for v in text.split(",")]) for text in (a, b)]
        worst = np.max(np.abs(values[0] - values[1]))
        if not worst <= (1e-5 if "_f32_" in name else 1e-12) * max(1.0, np.max(np.abs(values[1]))):
            found.append(f"{name}: differs by {worst:.3g}")
    return found


def main(arguments):
    if arguments not in ([], ["--check"]):
        sys.exit("make_golden.py: expected no argument or --check, got " + " ".join(arguments))
    if torch.__version__.split("+")[0] != TORCH_VERSION:
        sys.exit(f"make_golden.py: this is PyTorch {torch.__version__}, the golden values are of {TORCH_VERSION}")
    text = generate()
    if arguments == ["--check"]:
        with open(GOLDEN_FILE, encoding="utf-8") as file:
            found = differences(file.read(), text)
        for line in found:
            print("make_golden.py: " + line)
        print("golden.h " + ("differs from" if found else "agrees with") + f" PyTorch {TORCH_VERSION}")
        sys.exit(1 if found else 0)
    with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(GOLDEN_FILE), delete=False, encoding="utf-8") as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, GOLDEN_FILE)


if __name__ == "__main__":
    main(sys.argv[1:])
