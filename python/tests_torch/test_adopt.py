"""adopt(): hand-written norms are found by what they compute, and only those."""

from __future__ import annotations

import norma.torch
import pytest
import torch
from support import count
from torch import Tensor, nn
from torch.nn import functional as F


class HandRMSNorm(nn.Module):
    """In float32 whatever the input, with the result in the wider of two types."""

    def __init__(self, size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.variance_epsilon = eps

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        return self.weight * (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)).to(x.dtype)


class PlusOneNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(size)), 1e-5

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps) * (1 + self.weight.float())).type_as(x)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class ByHandNorm(nn.Module):
    """Channels first, the mean and variance written out."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))
        self.epsilon = 1e-3

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        var = (x - mean).pow(2).mean(1, keepdim=True)
        return self.weight[:, None, None] * ((x - mean) / (var + self.epsilon).sqrt()) + self.bias[:, None, None]


@pytest.mark.parametrize(
    ("made", "kind", "options", "shape"),
    [
        (HandRMSNorm, norma.torch.RMSNorm, {"promote_types": True, "eps": 1e-6}, (2, 5, 12)),
        (PlusOneNorm, norma.torch.RMSNorm, {"weight_plus_one": True, "promote_types": False}, (2, 5, 12)),
        (LayerNorm2d, norma.torch.LayerNorm, {"channels_first": True, "eps": 1e-5}, (2, 12, 4, 5)),
        (ByHandNorm, norma.torch.LayerNorm, {"channels_first": True, "eps": 1e-3}, (2, 12, 4, 5)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_adopted(
    made: type, kind: type, options: dict[str, object], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    model = nn.Sequential(made(12), nn.Identity())
    weight = model[0].weight
    with torch.no_grad():
        weight.copy_(torch.randn(12))
    x = (torch.randn(shape) * 2 + 1).to(dtype)
    wanted = model(x)
    report = norma.torch.adopt(model)
    assert type(model[0]) is kind and model[0].weight is weight
    assert all(getattr(model[0], name) == value for name, value in options.items())
    before = count("ran")
    y = model(x)
    assert count("ran") == before + 1
    assert y.dtype == wanted.dtype
    if made is not ByHandNorm or dtype == torch.float32:
        # The one written out sums in bfloat16, so its own error is larger than any tolerance that says something. The
        # tolerance is torch.testing's for the type of x, in which HandRMSNorm rounds before it multiplies.
        close = {"rtol": 1.6e-2, "atol": 1e-5} if dtype == torch.bfloat16 else {}
        torch.testing.assert_close(y, wanted, **close)
    report.undo()
    assert type(model[0]) is made


def test_attributes_that_a_model_may_read_are_kept() -> None:
    model = nn.Sequential(HandRMSNorm(12, 1e-4))
    norma.torch.adopt(model)
    assert model[0].variance_epsilon == model[0].eps == 1e-4


class Doubled(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class InTraining(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else super().forward(x)


class L2Norm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1, eps=self.eps) * self.weight


class Unbiased(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size)), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + self.eps) + self.bias


class UnbiasedNorm(Unbiased):
    pass


class Clamped(HandRMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp(-2, 2)


class ClampedNorm(Clamped):
    pass


@pytest.mark.parametrize("made", [Doubled, InTraining, L2Norm, UnbiasedNorm, ClampedNorm])
def test_what_computes_something_else_is_left(made: type) -> None:
    class Norm(made):  # type: ignore[misc,valid-type]
        pass

    model = nn.Sequential(Norm(12))
    report = norma.torch.adopt(model)
    assert not report.changed and report.skipped[0].note == "it computes something else"


def test_hooks_and_parametrizations_are_left() -> None:
    model = nn.Sequential(HandRMSNorm(12), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.LayerNorm(4))
    model[0].register_forward_hook(lambda *_: None)
    report = norma.torch.adopt(model)
    assert [c.path for c in report.changed] == ["2"] and report.skipped[0].note == "it has hooks"
    assert type(model[2]) is norma.torch.LayerNorm


def test_random_numbers_of_the_caller_are_not_used_up() -> None:
    torch.manual_seed(3)
    wanted = torch.randn(3)
    torch.manual_seed(3)
    model = nn.Sequential(HandRMSNorm(12))
    norma.torch.adopt(model)
    assert torch.equal(torch.randn(3), wanted)
