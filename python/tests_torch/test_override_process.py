"""Copies, pickles, other processes, other threads, and the modes of PyTorch."""

import copy
import io
import multiprocessing
import pickle
import threading
import warnings

import norma.torch
import pytest
import torch
from layers import CALLS, image, kernel_of, params_of
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


def model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8), nn.LayerNorm(16)
    )


def test_deepcopy_pickle_and_state_dict() -> None:
    x = torch.randn(2, 3, 16, 16)
    with norma.torch.enabled():
        one = model()
        one(x)
        copies = [copy.deepcopy(one), pickle.loads(pickle.dumps(one)), model()]
        copies[2].load_state_dict(one.state_dict())
        file = io.BytesIO()
        torch.save(one, file)
        file.seek(0)
        copies.append(torch.load(file, weights_only=False))
        expected = one(x)
        for other in copies:
            assert torch.equal(other(x), expected)


class Normalized(Dataset[Tensor]):
    """Runs a norm in the worker."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        y = nn.functional.group_norm(torch.full((1, 4, 64, 64), float(index)) + torch.arange(64.0), 2)
        return torch.stack([y.sum(), torch.tensor(float(norma.torch.calls()["group_norm"] > 0))])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_workers_of_a_data_loader() -> None:
    with norma.torch.enabled():
        nn.functional.group_norm(torch.randn(8, 4, 64, 64), 2)  # the threads are there before the fork
        plain = [Normalized()[i] for i in range(4)]
        loaded = list(DataLoader(Normalized(), batch_size=None, num_workers=2, multiprocessing_context="fork"))
    for ours, theirs in zip(loaded, plain, strict=True):
        assert torch.equal(ours, theirs)
        assert ours[1] == 1


def in_child(queue: "multiprocessing.Queue[object]") -> None:
    torch.set_num_threads(1)
    queue.put((norma.torch.is_enabled(), nn.functional.layer_norm(torch.arange(6.0), (6,)).tolist()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork() -> None:
    with norma.torch.enabled():
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=in_child, args=(queue,))
        child.start()
        is_enabled, y = queue.get(timeout=60)
        child.join(60)
        assert is_enabled
        assert y == nn.functional.layer_norm(torch.arange(6.0), (6,)).tolist()
    assert child.exitcode == 0


def test_threads_of_python() -> None:
    """Calls from many threads at once, with the bits of a call alone."""
    x = torch.randn(8, 8, 64, 64)
    wrong = []
    with norma.torch.enabled():
        expected = nn.functional.group_norm(x, 2)

        def work() -> None:
            for _ in range(5):
                if not torch.equal(nn.functional.group_norm(x, 2), expected):
                    wrong.append(threading.current_thread())

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", list(CALLS))
def test_without_gradients(name: str, mode: type[torch.no_grad]) -> None:
    x = image(torch.float32)
    with norma.torch.enabled():
        expected = CALLS[name](x, *params_of(name, torch.float32))
        with mode():
            inside = image(torch.float32)
            y = CALLS[name](inside, *params_of(name, torch.float32))
            assert torch.equal(y, expected)
            assert not y.requires_grad
    assert norma.torch.calls()[kernel_of(name)] == 2


def test_autocast() -> None:
    """Convolutions give bfloat16 to the norms, which have float32 parameters."""
    net, x = model()[:3], torch.randn(2, 3, 16, 16)
    with norma.torch.enabled(), torch.autocast("cpu", dtype=torch.bfloat16):
        y = net(x)
        y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())
    ran = norma.torch.calls()
    assert ran["batch_norm"] == ran["batch_norm_backward"] == ran["group_norm"] == ran["group_norm_backward"] == 1
    assert not any(n for key, n in ran.items() if "passed" in key)


def test_nothing_is_printed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        norma.torch.enable()
        nn.functional.layer_norm(image(torch.float32), (6,))
        norma.torch.disable()


def test_other_devices_are_left_alone() -> None:
    x = torch.empty(2, 8, 4, 4, device="meta")
    with norma.torch.enabled():
        assert nn.functional.group_norm(x, 2).device.type == "meta"
        with pytest.raises(RuntimeError):
            nn.functional.layer_norm(x, (4,), torch.ones(4))
    assert norma.torch.calls()["group_norm"] == 0
