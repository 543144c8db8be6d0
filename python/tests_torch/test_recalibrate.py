"""recalibrate(): the statistics are those of the data, layer by layer, and the model is otherwise as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import norma.torch
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

SIZES = (16, 5, 16, 1)


class Residual(nn.Module):
    """A branch beside the trunk, dropout, and norms that are defined in another order than they are called."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.last = nn.BatchNorm2d(c)
        self.first = norma.torch.BatchNorm2d(c, biased_running_var=True)
        self.side = nn.SyncBatchNorm(c, affine=False)
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(c, c, 3, padding=1) for _ in range(3))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(torch.relu(self.first(self.conv1(x))))
        return torch.relu(self.last(self.conv2(y)) + self.side(self.conv3(x)))


ORDER = ["0.first", "0.last", "0.side", "2"]


def make(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(3)
    net = nn.Sequential(Residual(4), nn.Flatten(), nn.BatchNorm1d(4 * 36), nn.Linear(4 * 36, 3)).to(dtype)
    for _ in range(3):
        net(torch.randn(8, 4, 6, 6, dtype=dtype))
    return net


def batches(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(4)
    return [(3 * torch.randn(n, 4, 6, 6, dtype=torch.float64) + 20).to(dtype) for n in SIZES]


def inputs_of(net: nn.Module, name: str, x: Tensor) -> Tensor:
    """What reaches a layer in evaluation."""
    caught: list[Tensor] = []
    handle = net.get_submodule(name).register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    with torch.no_grad():
        net.eval()(x)
    handle.remove()
    return torch.cat(caught)


def statistics(x: Tensor, biased: bool) -> tuple[Tensor, Tensor]:
    flat = x.transpose(0, 1).flatten(1).double()
    return flat.mean(1), flat.var(1, correction=0 if biased else 1)


def plainly(net: nn.Module, x: Tensor, exact: bool) -> nn.Module:
    """The reference: all data as one batch, one layer after the other, in float64."""
    net = copy.deepcopy(net)
    old = copy.deepcopy(net)
    for name in ORDER:
        layer: Any = net.get_submodule(name)
        mean, var = statistics(inputs_of(net if exact else old, name, x), name == "0.first")
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(var)
    return net


@pytest.mark.parametrize("passes", ["exact", "one"])
def test_the_statistics(passes: Any) -> None:
    net, data = make(), batches()
    wanted = plainly(net, torch.cat(data), passes == "exact")
    done = norma.torch.recalibrate(net, data, passes=passes, progress=False)
    assert [change.name for change in done.changes] == ORDER
    for name in ORDER:
        ours, theirs = net.get_submodule(name), wanted.get_submodule(name)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-11, atol=0)
        assert ours.num_batches_tracked == len(SIZES)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_layer_gets_what_it_was_calibrated_for(dtype: torch.dtype) -> None:
    """In evaluation the normalized data has mean 0 and variance 1 in every channel; one pass does not reach that."""
    net, data = make(dtype), batches(dtype)
    limit = 1e-9 if dtype == torch.float64 else 1e-3

    def errors() -> list[float]:
        result = []
        for name in ORDER:
            layer: Any = net.get_submodule(name)
            mean, var = statistics(inputs_of(net, name, torch.cat(data)), name == "0.first")
            deviation = layer.running_var.double().sqrt()
            result.append(float(((mean - layer.running_mean) / deviation).abs().max()))
            result.append(float((var / layer.running_var - 1).abs().max()))
        return result

    with norma.torch.recalibrate(net, data, passes="one", progress=False):
        # The first layers are right, what comes after them is far off.
        assert max(errors()[:2]) < limit and min(errors()[2:4]) > 1e-2
    norma.torch.recalibrate(net, data, progress=False)
    assert max(errors()) < limit


def test_everything_else_stays() -> None:
    net, data = make(), batches()
    net[0].conv1.requires_grad_(False)
    net[0].eval()
    net[2].momentum = None
    before = copy.deepcopy(net)
    tensors = {name: value.data_ptr() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    done = norma.torch.recalibrate(net, data, progress=False)
    assert torch.equal(torch.get_rng_state(), random)
    for old, new in zip(before.modules(), net.modules(), strict=True):
        assert old.training == new.training and not new._forward_pre_hooks
        assert getattr(old, "momentum", None) == getattr(new, "momentum", None)
    for (name, old), new in zip(before.named_parameters(), net.parameters(), strict=True):
        assert torch.equal(old, new) and old.requires_grad == new.requires_grad and new.grad is None, name
    assert tensors == {name: value.data_ptr() for name, value in net.state_dict().items()}
    # momentum=None goes on: the next batch is the fifth.
    mean, x = net[2].running_mean.clone(), torch.randn(8, 144, dtype=torch.float64)
    net[2].train()(x)
    torch.testing.assert_close(net[2].running_mean, 0.8 * mean + 0.2 * x.mean(0))
    done.restore()
    same_state(net, before)


def same_state(a: nn.Module, b: nn.Module) -> None:
    for (name, one), other in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_old_and_new(tmp_path: Any) -> None:
    net, data = make(), batches()
    before, other = copy.deepcopy(net), copy.deepcopy(net)
    with norma.torch.recalibrate(net, data, progress=False) as done:
        after = copy.deepcopy(net)
        done.save(tmp_path / "statistics.npz")
    same_state(net, before)
    for change in done.changes:
        old, new = before.get_submodule(change.name), after.get_submodule(change.name)
        assert torch.equal(change.old_mean, old.running_mean) and torch.equal(change.old_var, old.running_var)
        assert torch.equal(change.new_mean, new.running_mean) and torch.equal(change.new_var, new.running_var)
        values = sum(SIZES) * (1 if change.name == "2" else 36)
        assert change.batches == len(SIZES) and (change.moments.count == values).all()
    lines = str(done).splitlines()
    assert lines[0] == "4 layers have other statistics" and lines[1].startswith("  0.first: 4 channels of 1368 values;")
    # The file gives another copy of the model the same bits, but does not count batches.
    loaded = norma.torch.load_statistics(other, tmp_path / "statistics.npz")
    for name in ORDER:
        assert torch.equal(other.get_submodule(name).running_mean, after.get_submodule(name).running_mean)
        assert torch.equal(other.get_submodule(name).running_var, after.get_submodule(name).running_var)
        assert other.get_submodule(name).num_batches_tracked == before.get_submodule(name).num_batches_tracked
    loaded.restore()
    same_state(other, before)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dimensions_and_types(size: int, dtype: torch.dtype) -> None:
    class Own(nn.BatchNorm2d):
        pass

    for kind in (getattr(nn, f"BatchNorm{size}d"), getattr(norma.torch, f"BatchNorm{size}d"), *([Own] * (size == 2))):
        layer = kind(3, track_running_stats=True).to(dtype)
        data = [(torch.randn(n, 3, *[4] * size) + 7).to(dtype) for n in (3, 1)]
        norma.torch.recalibrate(layer, data, progress=False)
        mean, var = statistics(torch.cat(data), False)
        torch.testing.assert_close(layer.running_mean, mean.to(dtype))
        torch.testing.assert_close(layer.running_var, var.to(dtype))


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        y: Tensor = self.norm(input=scale * x)
        return y


def test_batches_of_all_kinds() -> None:
    x = torch.randn(12, 3)
    labels = torch.zeros(12)
    kinds: list[tuple[Any, Any, float]] = [
        ([x], None, 1),
        (DataLoader(TensorDataset(x, labels), batch_size=5), None, 1),
        ([{"x": x, "scale": 2.0}], None, 2),
        ([((x, 2.0), labels)], None, 2),
        ([({"x": x}, labels)], None, 1),
        ([(labels, x)], lambda model, batch: model(batch[1], 3.0), 3),
    ]
    for loader, forward, scale in kinds:
        net = Keywords()
        norma.torch.recalibrate(net, loader, forward=forward, progress=False)
        torch.testing.assert_close(net.norm.running_mean, scale * x.mean(0))
    norma.torch.recalibrate(net, iter([x[:7], x[7:], x[:0]]), passes="one", progress=False)
    torch.testing.assert_close(net.norm.running_mean, x.mean(0))


def test_which_layers() -> None:
    for layers, names in (
        (["0"], ["0.first", "0.last", "0.side"]),
        ("0.side", ["0.side"]),
        (["2", "0.first"], ["0.first", "2"]),
    ):
        net = make()
        before = copy.deepcopy(net)
        done = norma.torch.recalibrate(net, batches(), layers=layers, progress=False)
        assert [change.name for change in done.changes] == names
        for name in set(ORDER) - set(names):
            same_state(net.get_submodule(name), before.get_submodule(name))
    net = make()
    norma.torch.freeze(net[2])
    before = copy.deepcopy(net)
    done = norma.torch.recalibrate(net, batches(), progress=False)
    assert [change.name for change in done.changes] == ORDER[:3]
    same_state(net[2], before[2])


def test_a_layer_that_is_called_twice() -> None:
    """Its statistics are those of both calls, and the pass does not end at the first."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.norm = nn.BatchNorm1d(3), nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.before(x)
            return torch.cat([self.norm(y), self.norm(5 + 2 * y)])

    net, x = Twice().double(), 3 * torch.randn(50, 3, dtype=torch.float64)
    norma.torch.recalibrate(net, [x[:20], x[20:]], progress=False)
    y = net.eval().before(x)
    torch.testing.assert_close(net.norm.running_mean, torch.cat([y, 5 + 2 * y]).mean(0))
    torch.testing.assert_close(net.norm.running_var, torch.cat([y, 5 + 2 * y]).var(0))


def test_passes_end_early() -> None:
    """The last layer runs in the first pass alone; the data is read once per layer."""
    net, data = make(), batches()
    runs, reads = [0], [0]
    net[3].register_forward_hook(lambda *_: runs.__setitem__(0, runs[0] + 1))

    class Counted(list[Tensor]):
        def __iter__(self) -> Iterator[Tensor]:
            reads[0] += 1
            return super().__iter__()

    norma.torch.recalibrate(net, Counted(data), progress=False)
    assert runs[0] == len(SIZES) and reads[0] == len(ORDER)


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    norma.torch.recalibrate(make(), batches())
    shown = capsys.readouterr()
    norma.torch.recalibrate(make(), batches(), progress=lines.append)
    norma.torch.recalibrate(make(), batches(), progress=False)
    assert capsys.readouterr() == ("", "") and shown.out == "" and shown.err.splitlines() == lines
    assert len(lines) == 4 and lines[1].startswith("recalibrate: 2 of 4: 0.last: 4 channels of 1368 values; means")


def bad_batches(value: float) -> list[Tensor]:
    data = batches()
    data[2][3, 1, 2, 2] = value
    return data


class Shrinking(list[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        whole = list(super().__iter__())
        self[:] = whole[:-1]
        return iter(whole)


def frozen() -> nn.Module:
    return norma.torch.freeze(nn.Sequential(nn.BatchNorm1d(3)))


def interrupted(line: str) -> None:
    raise KeyboardInterrupt


def unused() -> nn.Module:
    net = make()
    net[0].unused = nn.BatchNorm1d(2, dtype=torch.float64)
    return net


ERRORS: list[tuple[Callable[[], nn.Module], Any, dict[str, Any], type[BaseException], str]] = [
    (make, bad_batches(float("nan")), {}, ValueError, "0.first: channel 0 of batch 3 has mean nan and variance nan"),
    (make, bad_batches(float("inf")), {"layers": "2"}, ValueError, r"2: channel \d+ of batch 3 has mean nan"),
    (make, bad_batches(1e200), {"passes": "one"}, ValueError, "0.first: channel 0 of batch 3 has mean -.*inf"),
    (unused, batches(), {}, ValueError, "the data does not reach 0.unused; layers= chooses"),
    (make, [], {}, ValueError, "loader has no batches"),
    (make, iter(batches()), {}, ValueError, "loader is an iterator, which can be read once, and"),
    (make, Shrinking(batches()), {}, ValueError, "loader gave 4 batches when it was read first, and 3 now"),
    (make, [batches()[3]], {}, ValueError, "2: .* a variance with ddof 1 needs at least 2"),
    (make, batches(), {"layers": ["0.firts"]}, ValueError, "layers has '0.firts', which is no module of the model"),
    (make, batches(), {"layers": ["3"]}, ValueError, "layers has '3', in which is no batch norm of the model"),
    (make, batches(), {"layers": [nn.BatchNorm1d(3)]}, ValueError, "layers has a BatchNorm1d, in which is"),
    (make, batches(), {"passes": "two"}, ValueError, "passes is 'two', must be 'exact' or 'one'"),
    (make, batches(), {"progress": interrupted}, KeyboardInterrupt, ""),
    (make, [torch.zeros(2, 3)], {}, RuntimeError, "Input type"),
    (frozen, batches(), {}, ValueError, "Sequential has no batch norm with running statistics that is not frozen"),
    (frozen, batches(), {"layers": ["0"]}, ValueError, r"0: frozen; unfreeze\(\) comes first"),
    (lambda: nn.Linear(3, 3), batches(), {}, ValueError, "Linear has no batch norm with running statistics"),
]


@pytest.mark.parametrize(("model", "loader", "options", "kind", "text"), ERRORS, ids=[text[:30] for *_, text in ERRORS])
def test_errors_leave_the_model_as_it_was(
    model: Callable[[], nn.Module], loader: Any, options: dict[str, Any], kind: Any, text: str
) -> None:
    net = model()
    before = copy.deepcopy(net)
    with pytest.raises(kind, match=f"^{text}"):
        norma.torch.recalibrate(net, loader, **{"progress": False, **options})
    same_state(net, before)
    for old, new in zip(before.modules(), net.modules(), strict=True):
        assert old.training == new.training and len(old._forward_pre_hooks) == len(new._forward_pre_hooks)


def test_lazy() -> None:
    net = nn.Sequential(nn.LazyBatchNorm1d())
    with pytest.raises(ValueError, match="^0 is not initialized yet: run the model on a batch first"):
        norma.torch.recalibrate(net, [torch.randn(4, 3)], progress=False)
    net(torch.randn(4, 3))
    norma.torch.recalibrate(net, [torch.full((4, 3), 5.0)], progress=False)
    assert net[0].running_mean.tolist() == [5, 5, 5] and not net[0].running_var.any()


def test_statistics_that_do_not_fit(tmp_path: Any) -> None:
    net = make()
    before = copy.deepcopy(net)
    with norma.torch.recalibrate(net, batches(), progress=False) as done:
        good = done.moments
    wide, few, overflowing = (norma.Moments("[n] c [...]") for _ in range(3))
    wide.add(torch.randn(9, 5))
    few.add(torch.randn(1, 144))
    overflowing.add(torch.randn(4, 144, dtype=torch.float64) * 1e100)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ({"2": good["2"]}, {}, "there are no moments for 0.last, 0.first, 0.side; layers= chooses"),
        ({**good, "4": good["2"]}, {}, "there are moments for 4, but no such batch norm that"),
        ({**good, "2": wide}, {}, r"2 has 144 channels, its moments have the shape \(5,\)"),
        ({**good, "2": norma.Moments()}, {}, "2 has 144 channels, its moments have nothing"),
        ({**good, "2": few}, {}, "2: .* a variance with ddof 1 needs at least 2"),
    ]
    for moments, options, text in cases:
        with pytest.raises(ValueError, match=f"^{text}"):
            norma.torch.load_statistics(net, moments, **options)
        same_state(net, before)
    narrow = nn.BatchNorm1d(144)
    with pytest.raises(ValueError, match=r"\(the model\): channel 0 has mean .* which torch.float32 cannot hold"):
        norma.torch.load_statistics(narrow, {"": overflowing})
    assert not narrow.running_mean.any()
    norma.torch.load_statistics(net, good, layers=["2"])
    same_state(net[0], before[0])
    assert not torch.equal(net[2].running_mean, before[2].running_mean)


def test_shares_of_the_data_that_merge(tmp_path: Any) -> None:
    """Two machines measure their shares, the files merge, and a third machine has what one would have measured."""
    data = [x.flatten(1)[:, :9] for x in batches()]
    one, other, whole = (nn.Sequential(nn.BatchNorm1d(9, dtype=torch.float64)) for _ in range(3))
    for number, share in enumerate((data[:1], data[1:])):
        norma.torch.recalibrate(one, share, progress=False).save(tmp_path / f"{number}.npz")
    norma.torch.load_statistics(other, norma.merge_moments(tmp_path / "0.npz", tmp_path / "1.npz"))
    norma.torch.recalibrate(whole, data, progress=False)
    torch.testing.assert_close(other[0].running_mean, whole[0].running_mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(other[0].running_var, whole[0].running_var, rtol=1e-13, atol=0)


def test_compiled() -> None:
    """A compiled model runs uncompiled meanwhile, and compiled again afterwards, with the new statistics."""
    net, data = make(torch.float32), batches(torch.float32)
    wanted = copy.deepcopy(net)
    norma.torch.recalibrate(wanted, data, progress=False)
    net[0].compile(backend="aot_eager")
    compiled = torch.compile(net, backend="aot_eager")
    with torch.no_grad():
        for x in data:
            net.eval()(x), compiled.eval()(x)
    done = norma.torch.recalibrate(compiled, data, progress=False)
    same_state(net, wanted)
    assert [change.name for change in done.changes] == ORDER
    torch.testing.assert_close(compiled.eval()(data[0]), wanted.eval()(data[0]))
