"""Models of transformers, diffusers and monai, unchanged, with and without enable(), against float64.

python -m pytest -s shows the errors and the time of each; how fast they are decides nothing.
"""

from __future__ import annotations

import copy
import time

import norma.torch
import pytest
import torch
from models import CASES, Case
from support import count
from torch import Tensor, nn


def moved(model: nn.Module, inputs: tuple[Tensor, ...], dtype: torch.dtype, image_format: torch.memory_format) -> tuple:
    """A copy of the model and its inputs in a type and a memory format."""

    def change(t: Tensor) -> Tensor:
        t = t.to(dtype) if t.is_floating_point() else t
        return t.contiguous(memory_format=image_format) if t.dim() in (4, 5) else t

    model = copy.deepcopy(model).to(dtype)
    for parameter in model.parameters():
        if parameter.dim() == (5 if image_format == torch.channels_last_3d else 4):
            parameter.data = parameter.data.contiguous(memory_format=image_format)
    return model, tuple(change(t) for t in inputs)


def run(model: nn.Module, inputs: tuple[Tensor, ...], case: Case) -> dict[str, Tensor]:
    """The output, the parameters' gradients and the buffers afterwards."""
    model.zero_grad()
    y = case.result(model(*inputs))
    weights = torch.arange(y.numel(), dtype=torch.float64).cos().reshape(y.shape).to(y.dtype)
    (y * weights).sum().backward()
    gradients = {f"gradient of {n}": p.grad.detach() for n, p in model.named_parameters() if p.grad is not None}
    buffers = {f"buffer {n}": b.detach() for n, b in model.named_buffers() if b.is_floating_point()}
    return {"output": y.detach(), **gradients, **buffers}


def errors(result: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """The largest error of each tensor, relative to its largest element; a gradient that is all but 0 in exact
    arithmetic, such as that of a bias before a norm, to a thousandth of the largest gradient."""
    assert result.keys() == exact.keys()
    largest = max(float(e.abs().max()) for name, e in exact.items() if name.startswith("gradient"))
    return {
        name: float((result[name].double() - e).abs().max())
        / max(float(e.abs().max()), largest / 1000 if name.startswith("gradient") else 1e-30)
        for name, e in exact.items()
    }


def timed(model: nn.Module, inputs: tuple[Tensor, ...], case: Case) -> float:
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        run(model, inputs, case)
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def formats(case: Case) -> list[torch.memory_format]:
    return [torch.contiguous_format, *([case.image_format] if case.image_format else [])]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("name", "image_format"),
    [(name, form) for name, case in CASES.items() for form in formats(case)],
    ids=lambda v: str(v).replace("torch.", ""),
)
def test_model(name: str, image_format: torch.memory_format, training: bool) -> None:
    case = CASES[name]
    torch.manual_seed(1)
    model = case.make()
    inputs = case.inputs()
    # Running statistics that are not those of a new layer.
    model.train()
    model(*inputs)
    model.train(training)
    exact = run(*moved(model, inputs, torch.float64, torch.contiguous_format), case)

    theirs, x = moved(model, inputs, torch.float32, image_format)
    error_theirs, time_theirs = errors(run(theirs, x, case), exact), timed(theirs, x, case)

    ours, x = moved(model, inputs, torch.float32, image_format)
    if case.by_hand:
        norma.torch.adopt(ours)
    norma.torch.enable()
    before, passed = count("ran"), count("passed_through")
    error_ours = errors(run(ours, x, case), exact)
    assert count("ran") > before and count("passed_through") == passed
    time_ours = timed(ours, x, case)

    print(
        f"\n{name}: largest error of output {error_ours['output']:.1e} (PyTorch {error_theirs['output']:.1e}), of a "
        f"gradient {max(error_ours.values()):.1e} ({max(error_theirs.values()):.1e}), {time_ours:.1f} ms "
        f"({time_theirs:.1f} ms)"
    )
    # The convolutions and products around the norms are PyTorch's in both, and their rounding differs a little.
    for tensor, error in error_ours.items():
        assert error <= 2 * error_theirs[tensor] + 1e-5, tensor


@pytest.mark.parametrize("name", list(CASES))
def test_adopted_model(name: str) -> None:
    """adopt() changes no output beyond rounding, no state_dict, and runs Norma without enable()."""
    case = CASES[name]
    torch.manual_seed(2)
    model, inputs = case.make().eval(), case.inputs()
    with torch.no_grad():
        expected = case.result(model(*inputs))
        state = model.state_dict()
        report = norma.torch.adopt(model)
        assert report.changed and not report.skipped, str(report)
        before = count("ran")
        torch.testing.assert_close(case.result(model(*inputs)), expected, rtol=1e-4, atol=1e-4)
        assert count("ran") >= before + len(report.changed)
        assert list(model.state_dict()) == list(state)
        assert all(
            model.state_dict()[key] is not None and torch.equal(model.state_dict()[key], state[key]) for key in state
        )
        report.undo()
        assert torch.equal(case.result(model(*inputs)), expected)
