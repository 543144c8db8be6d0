"""When running statistics move: once per batch under checkpoints, never when frozen, in one step when held."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import norma.torch
import norma.torch.functional as NF
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

IMAGES = (6, 4, 5, 5)


class Net(nn.Module):
    """Two blocks, each with batch norm and an instance norm that tracks, which may be checkpointed."""

    def __init__(self, family: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(4, 4, 3, padding=1),
                family.BatchNorm2d(4),
                nn.Tanh(),
                family.InstanceNorm2d(4, track_running_stats=True),
                nn.Conv2d(4, 4, 1),
                family.BatchNorm2d(4, momentum=None),
            )
            for _ in range(2)
        )
        self.reentrant: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        return x


def train(net: nn.Module, steps: int = 4) -> None:
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    random = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        x = (torch.randn(IMAGES, generator=random) + 1).requires_grad_()
        (net(x) - 1).square().mean().backward()
        optimizer.step()


def same_state(a: nn.Module, b: nn.Module) -> None:
    for (name, one), other in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("where", ["norma.torch", "enabled", "pytorch"])
def test_training_with_checkpoints_counts_every_batch_once(where: str, reentrant: bool) -> None:
    """The same bits as without checkpoints, in Norma's classes and in torch.nn's under enable(); not in PyTorch."""
    plain = Net(norma.torch if where == "norma.torch" else nn)
    other = copy.deepcopy(plain)
    other.reentrant = reentrant
    if where == "enabled":
        norma.torch.enable()
    train(plain)
    train(other)
    norma.torch.disable()
    if where == "pytorch":
        assert int(other.blocks[0][1].num_batches_tracked) == 8
        return
    assert int(other.blocks[0][1].num_batches_tracked) == 4
    same_state(plain, other)


def test_sync_batch_norm_of_torch_counts_once_too() -> None:
    norma.torch.enable()
    layer = nn.SyncBatchNorm(4, momentum=1.0)
    x = torch.randn(IMAGES, requires_grad=True)
    checkpoint(layer, x, use_reentrant=False).sum().backward()
    assert int(layer.num_batches_tracked) == 1
    torch.testing.assert_close(layer.running_mean, x.detach().mean((0, 2, 3)))


def test_disable_gives_pytorch_its_methods_back() -> None:
    before = nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward, nn.InstanceNorm2d._apply_instance_norm
    for _ in range(2):
        norma.torch.enable()
        norma.torch.enable()
        assert nn.BatchNorm2d.forward is not before[0]
        norma.torch.disable()
        norma.torch.disable()
        assert (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward, nn.InstanceNorm2d._apply_instance_norm) == before


def test_an_error_in_a_repeated_pass_leaves_the_statistics_in_place() -> None:
    norma.torch.enable()
    layer = nn.BatchNorm2d(4)
    buffers = dict(layer.named_buffers())
    fails = [False]

    def segment(v: Tensor) -> Tensor:
        y: Tensor = layer(v[:, :3] if fails[0] else v)
        return y

    y = checkpoint(segment, torch.randn(IMAGES, requires_grad=True), use_reentrant=False)
    fails[0] = True
    with pytest.raises(RuntimeError):
        y.sum().backward()
    assert dict(layer.named_buffers()) == buffers and int(layer.num_batches_tracked) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripts_are_made_under_enable() -> None:
    """torch.jit.script compiles the text of torch.nn's methods, which enable() wraps."""
    norma.torch.enable()
    net = Net(nn).blocks[0]
    torch.testing.assert_close(torch.jit.script(net)(torch.ones(IMAGES)), copy.deepcopy(net)(torch.ones(IMAGES)))


# ------------------------------------------------------------------------------------------------------------ freeze


@pytest.mark.parametrize("family", [nn, norma.torch], ids=["nn", "norma"])
def test_freeze_survives_everything(family: Any) -> None:
    net = Net(family)
    train(net)
    kinds = [type(module) for module in net.modules()]
    parameters = dict(net.named_parameters())
    assert norma.torch.freeze(net) is net
    state = {name: value.clone() for name, value in net.named_buffers()}
    x = torch.randn(IMAGES)
    wanted = copy.deepcopy(net).eval()(x)
    for one in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        one.train()
        for module in one.modules():
            module.training = True
        torch.testing.assert_close(one(x), wanted, rtol=0, atol=0)
        train(one)
        for name, value in one.named_buffers():
            assert torch.equal(value, state[name]), name
        assert all(parameter.grad is not None for parameter in one.parameters())
    assert all(parameter is parameters[name] for name, parameter in net.named_parameters())
    assert "frozen=True" in repr(net.blocks[0][1])
    norma.torch.unfreeze(net)
    assert [type(module) for module in net.modules()] == kinds
    assert not any("freeze" in name for module in net.modules() for name in vars(module))
    net.train()
    train(net)
    for name, value in net.named_buffers():
        assert not torch.equal(value, state[name]) or "3.num_batches" in name, name


def test_what_cannot_be_frozen() -> None:
    class Own(nn.BatchNorm2d):
        pass

    net = nn.Sequential(nn.BatchNorm2d(4), nn.ModuleDict({"own": Own(4)}))
    with pytest.raises(ValueError, match="^1.own is a Own, which Norma has no class for: cannot freeze it"):
        norma.torch.freeze(net)
    assert type(net[0]) is nn.BatchNorm2d
    for empty in (nn.Linear(3, 3), nn.InstanceNorm2d(4), norma.torch.BatchNorm2d(4, track_running_stats=False)):
        with pytest.raises(ValueError, match="no batch or instance norm with running statistics to freeze"):
            norma.torch.freeze(empty)


# -------------------------------------------------------------------------------------------------------------- hold


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"momentum": 1.0, "biased_running_var": True}])
def test_held_statistics_move_once(options: dict[str, Any]) -> None:
    """Pieces move them as the whole batch does; a repeated pass in between counts once too."""
    layer = norma.torch.BatchNorm2d(4, **options).double()
    layer(torch.randn(IMAGES, dtype=torch.float64))
    whole, before = copy.deepcopy(layer), copy.deepcopy(layer)
    x = torch.randn(IMAGES, dtype=torch.float64, requires_grad=True)
    with norma.torch.hold_statistics(layer) as held:
        y = layer(x[:3])
        for piece, reentrant in ((x[3:4], True), (x[4:], False)):
            checkpoint(layer, piece, use_reentrant=reentrant).sum().backward()
        layer(x[:0])
    torch.testing.assert_close(y, copy.deepcopy(before)(x[:3]), rtol=0, atol=0)
    same_state(layer, before)
    held.commit()
    whole(x)
    for name, value in layer.named_buffers():
        torch.testing.assert_close(value, whole.get_buffer(name), rtol=1e-13, atol=1e-13)
    held.commit()
    assert layer.num_batches_tracked == 2
    layer(x)
    assert layer.num_batches_tracked == 3


def test_commit_inside() -> None:
    layer = norma.torch.BatchNorm2d(4)
    plain = copy.deepcopy(layer)
    with norma.torch.hold_statistics(layer) as held:
        for _ in range(2):
            x = torch.randn(IMAGES)
            layer(x)
            held.commit()
            plain(x)
        with pytest.raises(ValueError, match=r"^the statistics of the model are held already"):
            norma.torch.hold_statistics(layer).__enter__()
        layer(x)
    for name, value in layer.named_buffers():
        torch.testing.assert_close(value, plain.get_buffer(name))


def test_what_cannot_be_held() -> None:
    x = torch.randn(IMAGES)
    for name, layer in (
        ("InstanceNorm2d", norma.torch.InstanceNorm2d(4, track_running_stats=True)),
        ("BatchNorm2d", norma.torch.BatchNorm2d(4, ghost=2)),
    ):
        with norma.torch.hold_statistics(layer) as held:
            layer(x)
        assert not layer.running_mean.any()
        with pytest.raises(ValueError, match=rf"^the model is {name}\(.*, whose statistics of pieces do not pool"):
            held.commit()
    with pytest.raises(ValueError, match="^the model is torch.nn's BatchNorm2d, .* norma.torch.adopt"):
        norma.torch.hold_statistics(nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match="^Linear has no batch or instance norm"):
        norma.torch.hold_statistics(nn.Linear(4, 4))


@pytest.mark.parametrize("policy", ["store", "refuse", "skip"])
def test_what_is_not_finite_is_held_too(policy: Any) -> None:
    layer = norma.torch.BatchNorm2d(4, nonfinite=policy)
    net = nn.Sequential(norma.torch.BatchNorm2d(4), nn.Identity(), layer)
    x = torch.randn(IMAGES)
    x[1, 2, 0, 0] = float("inf")
    with norma.torch.hold_statistics(net) as held, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if policy == "refuse":
            with pytest.raises(ValueError, match="channel 2"):
                layer(x)
            layer._held.add(x)
        else:
            layer(x)
        net[0](torch.randn(IMAGES))
    if policy == "refuse":
        with pytest.raises(ValueError, match="^2: channel 2 has mean nan; nothing was moved"):
            held.commit()
        assert not net[0].running_mean.any() and not layer.running_mean.any()
        return
    held.commit()
    assert net[0].running_mean.all() and layer.running_mean.isfinite().tolist() == [True, True, policy == "skip", True]
    assert (layer.running_mean[2] == 0) == (policy == "skip")


# ----------------------------------------------------------------------------------------------- what is not a number


@pytest.mark.parametrize("kind", ["BatchNorm2d", "InstanceNorm2d"])
def test_skip_says_which_channel(kind: str) -> None:
    layer = getattr(norma.torch, kind)(4, track_running_stats=True, nonfinite="skip")
    clean = copy.deepcopy(layer)
    x = torch.randn(IMAGES)
    clean(x)
    x[1, 2, 0, 0] = float("nan")
    with pytest.warns(RuntimeWarning, match="^channel 2 has mean nan .*; such channels keep their running statistics"):
        layer(x)
    assert layer.running_mean[2] == 0 and layer.running_var[2] == 1
    for channel in (0, 1, 3):
        assert layer.running_mean[channel] == clean.running_mean[channel]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(torch.randn(IMAGES))
    with pytest.raises(ValueError, match="^nonfinite is 'drop', must be 'store', 'refuse' or 'skip'"):
        getattr(norma.torch, kind)(4, nonfinite="drop")


@pytest.mark.parametrize("bad", [-1.0, -1e-9, float("nan"), -float("inf")])
@pytest.mark.parametrize("kind", ["BatchNorm2d", "InstanceNorm2d"])
def test_a_running_variance_that_cannot_be_one(kind: str, bad: float) -> None:
    """An error that names the channel, in Norma's classes and functions; torch.nn's give NaN under enable() too."""
    layer = getattr(norma.torch, kind)(4, track_running_stats=True).eval()
    theirs = getattr(nn, kind)(4, track_running_stats=True).eval()
    x = torch.randn(IMAGES)
    for one in (layer, theirs):
        one.running_var[2] = bad
    wanted = theirs(x)
    with pytest.raises(ValueError, match=r"^running_var\[2\] is .*, a variance must not be negative or NaN"):
        layer(x)
    with pytest.raises(ValueError, match=r"^running_var\[2\]"):
        NF.batch_norm(x, torch.zeros(4), layer.running_var)
    norma.torch.enable()
    torch.testing.assert_close(theirs(x), wanted, equal_nan=True)
    layer.running_var[2] = float("inf")
    assert not layer(x)[:, 2].any()


def test_the_look_at_the_variance_disturbs_no_tracing() -> None:
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    layer, x = norma.torch.BatchNorm2d(4).eval(), torch.randn(IMAGES)
    wanted = layer(x)
    for run in (
        torch.compile(layer, fullgraph=True, backend="aot_eager"),
        torch.export.export(layer, (x,)).module(),
        torch.jit.trace(layer, (x,)),
        make_fx(layer)(x),
    ):
        torch.testing.assert_close(run(x), wanted)
    torch.testing.assert_close(torch.func.vmap(layer)(x[None])[0], wanted)
    stacked = torch.stack([torch.ones(4), 2 * torch.ones(4)])
    both = torch.func.vmap(lambda v: NF.batch_norm(x, torch.zeros(4), v))(stacked)
    torch.testing.assert_close(both[0], wanted)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert layer(mode.from_tensor(x)).shape == IMAGES
    assert layer.to("meta")(x.to("meta")).shape == IMAGES


def test_convert_running_var() -> None:
    x = torch.randn(IMAGES, dtype=torch.float64)
    layer, biased = (norma.torch.BatchNorm2d(4, momentum=1.0, biased_running_var=b).double() for b in (False, True))
    layer(x), biased(x)
    layer.convert_running_var(biased=True, count=150)
    torch.testing.assert_close(layer.running_var, biased.running_var, rtol=1e-15, atol=0)
    layer(2 * x), biased(2 * x)
    assert torch.equal(layer.running_var, biased.running_var)
    layer.convert_running_var(biased=False, count=150)
    torch.testing.assert_close(layer.running_var, (2 * x).transpose(0, 1).flatten(1).var(1), rtol=1e-13, atol=0)
    with pytest.raises(ValueError, match="count is 1, must be above 1"):
        layer.convert_running_var(biased=True, count=1)
    with pytest.raises(ValueError, match="has no running_var to convert"):
        norma.torch.InstanceNorm2d(4).convert_running_var(biased=True, count=3)
