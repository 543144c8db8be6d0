"""Ghost batch norm: ghost= of Norma's batch norm, each sub-batch with its own statistics."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import norma.torch
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

IMAGES = (6, 4, 5, 5)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("ghost", [1, 2, 4, 6, 100])
def test_ghosts_beside_a_loop(ghost: int, form: torch.memory_format, biased: bool) -> None:
    """PyTorch's batch norm on each sub-batch in turn; the last of 4 + 2 samples is smaller and weighs less."""
    options: dict[str, Any] = {"momentum": 0.3, "dtype": torch.float64}
    layer = norma.torch.BatchNorm2d(4, ghost=ghost, biased_running_var=biased, activation="relu", **options)
    loop = nn.BatchNorm2d(4, **options)
    with torch.no_grad():
        loop.weight.copy_(layer.weight.uniform_(-1, 2))
    x = torch.randn(IMAGES, dtype=torch.float64).contiguous(memory_format=form).requires_grad_()
    y = layer(x)
    assert y.is_contiguous(memory_format=form)
    mean, var, parts = torch.zeros(4), torch.zeros(4), []
    for part in x.split(ghost):
        one = copy.deepcopy(loop)
        one.momentum, one.weight, one.bias = 1.0, loop.weight, loop.bias
        parts.append(torch.relu(one(part)))
        m = part.numel() / 4
        mean = mean + len(part) / 6 * one.running_mean
        var = var + len(part) / 6 * one.running_var * ((m - 1) / m if biased else 1)
    dy = torch.randn_like(y)
    torch.testing.assert_close(y, torch.cat(parts))
    torch.testing.assert_close(layer.running_mean, 0.3 * mean)
    torch.testing.assert_close(layer.running_var, 0.7 + 0.3 * var)
    assert layer.num_batches_tracked == 1
    for ours, theirs in zip(
        torch.autograd.grad(y, [x, *layer.parameters()], dy),
        torch.autograd.grad(torch.cat(parts), [x, *loop.parameters()], dy),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    layer.eval()
    wanted = nn.functional.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), torch.relu(wanted))


def test_ghosts_with_the_other_options() -> None:
    layer = norma.torch.BatchNorm1d(3, ghost=4, nonfinite="refuse", momentum=None)
    assert "ghost=4" in repr(layer) and pickle.loads(pickle.dumps(layer)).ghost == 4
    for count in (1, 2, 3):
        checkpoint(layer, torch.randn(8, 3, requires_grad=True), use_reentrant=False).sum().backward()
        layer(torch.randn(0, 3))
        assert layer.num_batches_tracked == count
    before = copy.deepcopy(layer)
    x = torch.randn(8, 3)
    x[5, 1] = float("nan")
    with pytest.raises(ValueError, match="channel 1 has mean nan"):
        layer(x)
    for (name, one), other in zip(layer.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    layer.nonfinite = "skip"
    with pytest.warns(RuntimeWarning, match="channel 1"):
        layer(x)
    assert layer.running_mean.isfinite().all()
    untracked = norma.torch.BatchNorm1d(3, ghost=4, track_running_stats=False)
    x = torch.randn(8, 3)
    torch.testing.assert_close(untracked(x)[4:], nn.BatchNorm1d(3)(x[4:]))
    lazy = norma.torch.LazyBatchNorm1d(ghost=4)
    torch.testing.assert_close(lazy(x)[4:], nn.BatchNorm1d(3)(x[4:]))
    compiled = torch.compile(norma.torch.BatchNorm1d(3, ghost=4), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x)[4:], nn.BatchNorm1d(3)(x[4:]))
    with pytest.raises(ValueError, match="^ghost is 4, which leaves a last sub-batch of 1 value per channel, with"):
        lazy(torch.randn(9, 3))
    for wrong in (0, -1, 2.0):
        with pytest.raises(ValueError, match=rf"^ghost is {wrong}, must be None or the number of samples"):
            norma.torch.BatchNorm1d(3, ghost=wrong)  # type: ignore[arg-type]
