"""Under enable() and in Norma's classes outputs, gradients and statistics have the same bits for 1 and 2 threads."""

from __future__ import annotations

from collections.abc import Callable

import norma.torch
import pytest
import torch
from support import count
from torch import Tensor, nn

IMAGES = (8, 16, 40, 40)
LAYERS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "BatchNorm1d": (lambda ns: ns.BatchNorm1d(96), (700, 96)),
    "BatchNorm2d": (lambda ns: ns.BatchNorm2d(16), IMAGES),
    "BatchNorm3d": (lambda ns: ns.BatchNorm3d(4), (2, 4, 20, 20, 20)),
    "InstanceNorm1d": (lambda ns: ns.InstanceNorm1d(8, affine=True), (4, 8, 3000)),
    "InstanceNorm2d": (lambda ns: ns.InstanceNorm2d(16, affine=True, track_running_stats=True), IMAGES),
    "InstanceNorm3d": (lambda ns: ns.InstanceNorm3d(4, affine=True), (2, 4, 20, 20, 20)),
    "GroupNorm": (lambda ns: ns.GroupNorm(4, 16), IMAGES),
    "LayerNorm": (lambda ns: ns.LayerNorm(512), (300, 512)),
    "LayerNorm images": (lambda ns: ns.LayerNorm((16, 40, 40)), IMAGES),
    "RMSNorm": (lambda ns: ns.RMSNorm(512), (300, 512)),
}


def results(layer: nn.Module, x: Tensor, training: bool, threads: int) -> list[Tensor]:
    torch.set_num_threads(threads)
    layer.train(training)
    x = x.detach().requires_grad_()
    y = layer(x)
    dy = torch.arange(y.numel(), dtype=torch.float64).mul(0.37).cos().reshape(y.shape).to(y)
    gradients = torch.autograd.grad(y, [x, *layer.parameters()], dy)
    return [y.detach(), *gradients, *(b.clone() for b in layer.buffers())]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("own", [False, True], ids=["torch.nn", "norma.torch"])
@pytest.mark.parametrize("name", list(LAYERS))
def test_same_bits_for_one_and_two_threads(name: str, own: bool, dtype: torch.dtype, training: bool) -> None:
    norma.torch.enable()
    make, shape = LAYERS[name]
    torch.manual_seed(4)
    x = (torch.randn(shape) * 3 + 50).to(dtype)
    formats = {4: [torch.channels_last], 5: [torch.channels_last_3d]}.get(x.dim(), [])
    for memory_format in [torch.contiguous_format, *formats]:
        before = count("ran")
        layers = [make(norma.torch if own else nn) for _ in range(2)]
        one, two = (
            results(layer, x.contiguous(memory_format=memory_format), training, threads)
            for layer, threads in zip(layers, (1, 2), strict=True)
        )
        assert count("ran") >= before + 4
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a, b)
