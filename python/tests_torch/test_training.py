"""A torch.nn model trained on Fashion-MNIST: how far float32 training is from float64, with and without enable()."""

from __future__ import annotations

import copy

import norma.torch
import torch
from fashion import pictures
from support import count, pytorch_alone
from torch import Tensor, nn

STEPS, BATCH, SEEDS = 50, 32, 5


def model() -> nn.Module:
    """Each kind of norm once, on grey values as the camera gives them."""
    return nn.Sequential(
        nn.BatchNorm2d(1),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.GroupNorm(4, 8),
        nn.SiLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.SiLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.InstanceNorm2d(16, affine=True),
        nn.SiLU(),
        nn.Flatten(),
        nn.LayerNorm(16 * 7 * 7),
        nn.Linear(16 * 7 * 7, 64),
        nn.RMSNorm(64),
        nn.SiLU(),
        nn.Linear(64, 10),
    )


def train(start: nn.Module, images: Tensor, classes: Tensor, dtype: torch.dtype) -> Tensor:
    """The loss before each step."""
    net = copy.deepcopy(start).to(dtype, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(STEPS):
        part = slice(step * BATCH, (step + 1) * BATCH)
        x = images[part].to(dtype, memory_format=torch.channels_last)
        loss = nn.functional.cross_entropy(net(x), classes[part])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.tensor(losses, dtype=torch.float64)


def test_training_stays_close_to_float64() -> None:
    images, classes = pictures(STEPS * BATCH * SEEDS)
    ours, theirs = [], []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        start = model()
        part = slice(seed * STEPS * BATCH, (seed + 1) * STEPS * BATCH)
        with pytorch_alone():
            exact = train(start, images[part], classes[part], torch.float64)
            plain = train(start, images[part], classes[part], torch.float32)
        before, passed = count("ran"), count("passed_through")
        with norma.torch.enabled():
            losses = train(start, images[part], classes[part], torch.float32)
        # Six norms, forward and backward.
        assert count("ran") - before >= STEPS * 12 and count("passed_through") == passed
        assert exact[-1] < 0.6 * exact[0]
        distance = (losses - exact).abs() / exact
        assert float(distance[:5].max()) <= 1e-4
        ours.append(distance)
        theirs.append((plain - exact).abs() / exact)
    mean, mean_theirs = float(torch.stack(ours).mean()), float(torch.stack(theirs).mean())
    print(f"\nmean distance of the loss from float64 in {STEPS} steps: {mean:.2e} (PyTorch {mean_theirs:.2e})")
    for seed, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        print(f"  seed {seed}: {float(a.mean()):.1e} ({float(b.mean()):.1e})")
    assert mean <= mean_theirs
