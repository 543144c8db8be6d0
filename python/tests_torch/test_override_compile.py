"""torch.compile under the override: whole graphs, and Norma's kernels in them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import norma.torch
import pytest
import torch
from torch import Tensor, nn


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.batch, self.group = nn.BatchNorm2d(8), nn.GroupNorm(2, 8)
        self.instance = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
        self.layer, self.rms = nn.LayerNorm(8), nn.RMSNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.rms(self.layer(self.instance(self.group(self.batch(self.conv(x))))))
        return y


KERNELS = ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")
BACKENDS = ["aot_eager", "inductor"]


def twins() -> tuple[Everything, Everything]:
    torch.manual_seed(0)
    eager, compiled = Everything(), Everything()
    compiled.load_state_dict(eager.state_dict())
    return eager, compiled


def ran(backward: bool) -> dict[str, int]:
    expected = dict.fromkeys(norma.torch.calls(), 0)
    for kernel in KERNELS:
        expected[kernel] = 1
        expected[kernel + "_backward"] = int(backward)
    return expected


def count(run: Callable[[], Tensor]) -> tuple[Tensor, dict[str, int]]:
    """What runs after compiling: the first call may run kernels to compile."""
    norma.torch.calls(reset=True)
    y = run()
    return y, norma.torch.calls(reset=True)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_training(backend: str, last: bool) -> None:
    """One graph; outputs, gradients, buffers and strides of the eager model."""
    eager, inner = twins()
    x = torch.randn(4, 3, 8, 8)
    if last:
        x = x.to(memory_format=torch.channels_last)
    with norma.torch.enabled():
        compiled = torch.compile(inner, backend=backend, fullgraph=True)
        y, calls = count(lambda: compiled(x))
        assert calls == ran(backward=False) | {"batch_norm": calls["batch_norm"]}
        y.square().sum().backward()
        assert all(norma.torch.calls()[kernel + "_backward"] == 1 for kernel in KERNELS)
        expected = eager(x)
        expected.square().sum().backward()
    assert y.stride() == expected.stride()
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    for (name, ours), (_, theirs) in zip(inner.named_parameters(), eager.named_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4, msg=name)
    for (name, buffer), (_, other) in zip(inner.named_buffers(), eager.named_buffers(), strict=True):
        torch.testing.assert_close(buffer, other, msg=name)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluation(backend: str, mode: type[torch.no_grad]) -> None:
    eager, inner = (model.eval() for model in twins())
    x = torch.randn(4, 3, 8, 8)
    with norma.torch.enabled(), mode():
        compiled = torch.compile(inner, backend=backend, fullgraph=True)
        compiled(x)
        y, calls = count(lambda: compiled(x))
        torch.testing.assert_close(y, eager(x), rtol=1e-5, atol=1e-5)
    assert calls == ran(backward=False)


def test_dynamic_shapes() -> None:
    eager, inner = twins()
    with norma.torch.enabled():
        compiled = torch.compile(inner, backend="aot_eager", fullgraph=True, dynamic=True)
        for n in (2, 3, 5):
            x = torch.randn(n, 3, 8 + n, 8)
            y, expected = compiled(x), eager(x)
            torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
            y.sum().backward()
    assert norma.torch.calls()["group_norm_backward"] == 3


def test_16_bit() -> None:
    norm, x = nn.LayerNorm(64), torch.randn(8, 64).bfloat16().requires_grad_()
    with norma.torch.enabled():
        compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
        y = compiled(x)
        assert torch.equal(y, norm(x))
        y.sum().backward()
    assert norma.torch.calls()["layer_norm_backward"] == 1


def test_the_switch_reaches_compiled_functions() -> None:
    norm, x = nn.LayerNorm(64), torch.randn(8, 64)
    compiled = torch.compile(norm, backend="aot_eager")
    compiled(x)
    assert norma.torch.calls()["layer_norm"] == 0
    with norma.torch.enabled():
        compiled(x)
        assert norma.torch.calls(reset=True)["layer_norm"] > 0
    compiled(x)
    assert norma.torch.calls()["layer_norm"] == 0


PROGRAM = """
import sys, torch, norma.torch
if sys.argv[1] == "on": norma.torch.enable()
norm = torch.nn.LayerNorm(64)
torch.compile(norm)(torch.randn(8, 64)).sum().backward()
print(norma.torch.calls()["layer_norm"] > 0, norma.torch.calls()["layer_norm_backward"] > 0)
"""


def test_caches_on_disk_keep_the_two_apart(tmp_path: Path) -> None:
    """What another process compiled without the override is not taken for what is compiled with it."""
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    for switch, expected in (("off", "False False"), ("on", "True True"), ("on", "True True"), ("off", "False False")):
        command = [sys.executable, "-c", PROGRAM, switch]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected, switch
