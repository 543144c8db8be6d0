"""The training engine against PyTorch 2.13: the losses of 20 steps of five small nets, to 1e-4.

    .venv/bin/python tests/lab/compare_torch.py [BUILD]

train_steps writes its data, its first parameters and its losses; the same net is trained here from there. Exit code 1
if a loss differs by more than 1e-4 (relative above 1).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

STEPS = 20
ALLOWED = 1e-4


class Block(nn.Module):
    """Two convolutions with batch norm and a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outer)
        self.short: nn.Module = nn.Identity()
        if inner != outer or stride != 1:
            self.short = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(y + self.short(x))


class Cnn(nn.Module):
    """The engine's resnet(1, 8, 10, bn)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2), Block(16, 32, 2))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def two_convs(inner: int, outer: int) -> nn.Sequential:
    """Convolution, group norm of two groups and ReLU, twice."""
    layers: list[nn.Module] = []
    for channels in (inner, outer):
        layers += [nn.Conv2d(channels, outer, 3, 1, 1, bias=False), nn.GroupNorm(2, outer), nn.ReLU()]
    return nn.Sequential(*layers)


class Unet(nn.Module):
    """The engine's unet(3, 4, 3, 2, gn2): parameters in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = two_convs(3, 4)
        self.down2 = two_convs(4, 8)
        self.bottom = two_convs(8, 16)
        self.up2 = two_convs(24, 8)
        self.up1 = two_convs(12, 4)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(functional.max_pool2d(first, 2))
        third = self.bottom(functional.max_pool2d(second, 2))
        second = self.up2(torch.cat([second, functional.interpolate(third, scale_factor=2.0)], 1))
        first = self.up1(torch.cat([first, functional.interpolate(second, scale_factor=2.0)], 1))
        return self.head(first)


class Attention(nn.Module):
    """Causal self-attention with 4 heads."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.into = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = (part.view(n, t, 4, d // 4).transpose(1, 2) for part in self.into(x).split(d, 2))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(n, t, d))


class TransformerBlock(nn.Module):
    """Norm first or last; parameters are defined in the engine's order."""

    def __init__(self, size: int, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first
        parts: list[nn.Module] = []
        for part in (
            Attention(size),
            nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(approximate="tanh"), nn.Linear(4 * size, size)),
        ):
            pair = [nn.LayerNorm(size), part]
            parts += pair if norm_first else pair[::-1]
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, fourth = self.parts
        if self.norm_first:
            x = x + second(first(x))
            return x + fourth(third(x))
        x = second(x + first(x))
        return fourth(x + third(x))


class Transformer(nn.Module):
    """Tokens to the logits of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(17, 16)
        self.position = nn.Embedding(12, 16)
        self.blocks = nn.Sequential(TransformerBlock(16, True), TransformerBlock(16, False))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 17)

    def forward(self, x: Tensor) -> Tensor:
        x = x.long()
        return self.head(self.norm(self.blocks(self.token(x) + self.position.weight[: x.shape[1]])))


class Lstm(nn.Module):
    """PyTorch's own LSTM; its second bias stays 0."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 8, batch_first=True)
        self.head = nn.Linear(8, 4)
        with torch.no_grad():
            self.lstm.bias_hh_l0.zero_()
        self.lstm.bias_hh_l0.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class NormLstm(nn.Module):
    """An LSTM cell with layer norm in three places, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(5, 32, bias=False)
        self.back = nn.Linear(8, 32, bias=False)
        self.bias = nn.Parameter(torch.zeros(32))
        self.norms = nn.ModuleList([nn.LayerNorm(32), nn.LayerNorm(32), nn.LayerNorm(8)])
        self.head = nn.Linear(8, 4)

    def ordered(self) -> list[nn.Parameter]:
        norms = list(self.norms.parameters())
        return [self.into.weight, self.back.weight, self.bias, *norms, self.head.weight, self.head.bias]

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.shape[0], 8)
        for step in range(x.shape[1]):
            gates = self.norms[0](self.into(x[:, step])) + self.norms[1](self.back(h)) + self.bias
            i, f, g, o = gates.chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(self.norms[2](c))
        return self.head(h)


NETS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "cnn": (Cnn, (16, 1, 14, 14)),
    "unet": (Unet, (16, 3, 16, 16)),
    "transformer": (Transformer, (16, 12)),
    "lstm": (Lstm, (16, 9, 5)),
    "lstm_ln": (NormLstm, (16, 9, 5)),
}


def set_parameters(net: nn.Module, values: np.ndarray) -> None:
    """Copies the engine's first parameters, which come in the same order."""
    own = net.ordered() if isinstance(net, NormLstm) else [p for p in net.parameters() if p.requires_grad]
    at = 0
    with torch.no_grad():
        for p in own:
            p.copy_(torch.from_numpy(values[at : at + p.numel()].copy()).view_as(p))
            at += p.numel()
    if at != len(values):
        raise SystemExit(f"the engine has {len(values)} parameters, PyTorch's net {at}")


def torch_losses(net: nn.Module, x: Tensor, labels: Tensor, name: str) -> list[float]:
    """The loss before each of 20 steps."""
    if name in ("unet", "transformer"):
        optimizer: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        schedule = None
    else:
        rate = 0.1 if name == "cnn" else 0.5
        decay = 5e-4 if name == "cnn" else 0.0
        optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.9, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, STEPS, cycle_momentum=False)
    losses = []
    for _ in range(STEPS):
        y = net(x)
        y = y.flatten(0, 1) if name == "transformer" else y
        loss = functional.cross_entropy(y, labels.view(y.shape[0], *y.shape[2:]))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return losses


def compare(name: str, build: Path, folder: Path) -> float:
    """The largest difference of a loss."""
    result = subprocess.run([build / "tests/train_steps", name, folder], check=True, capture_output=True, text=True)
    ours = [float(line) for line in result.stdout.split()]
    kind, shape = NETS[name]
    net = kind()
    set_parameters(net, np.fromfile(folder / f"{name}.params.f32", np.float32))
    x = torch.from_numpy(np.fromfile(folder / f"{name}.x.f32", np.float32).reshape(shape))
    labels = torch.from_numpy(np.fromfile(folder / f"{name}.labels.i32", np.int32).astype(np.int64))
    theirs = torch_losses(net, x, labels, name)
    if len(ours) != STEPS:
        raise SystemExit(f"{name}: {len(ours)} losses, expected {STEPS}")
    worst = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(ours, theirs, strict=True))
    print(f"{name:12} loss {theirs[0]:.4f} to {theirs[-1]:.4f} in {STEPS} steps, largest difference {worst:.1e}")
    return worst


def main() -> int:
    """All nets."""
    build = Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        worst = [compare(name, build, Path(folder)) for name in NETS]
    return 0 if all(w <= ALLOWED for w in worst) else 1


if __name__ == "__main__":
    sys.exit(main())
