"""PyTorch's module inputs of every norm: its own classes under enable(), and Norma's classes in their place."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import norma.torch
import torch
from deliberate import counted_differently, keeps_channels_last
from support import MODULES, UnderNorma, pytorch_alone
from torch import Tensor, nn
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_modules import modules
from torch.testing._internal.common_utils import TestCase, gradcheck, gradgradcheck, noncontiguous_like
from torch.utils._pytree import tree_map

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def inputs(info: Any, device: str, dtype: torch.dtype, training: bool, grad: bool = False) -> Iterator[Any]:
    found = info.module_inputs_func(info, device=device, dtype=dtype, requires_grad=grad, training=training)
    yield from (one for one in found if one.forward_input is not None)


def made(kind: Any, one: Any, dtype: torch.dtype, training: bool, random: bool = True) -> nn.Module:
    arguments = one.constructor_input
    module: nn.Module = kind(*arguments.args, **arguments.kwargs).to(dtype).train(training)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters() if random else ():
            parameter.copy_(torch.randn(parameter.shape))
    return module


def both(info: Any) -> list[Any]:
    return [info.module_cls, getattr(norma.torch, info.module_cls.__name__)]


def exactly(info: Any, one: Any, args: Any, dtype: torch.dtype, training: bool) -> tuple[Tensor, nn.Module]:
    """PyTorch's own kernels in float64."""
    module = made(info.module_cls, one, dtype, training).to(torch.float64)
    with pytorch_alone():
        return module(*tree_map(lambda t: t.detach().double(), args)), module


class TestModule(UnderNorma, TestCase):
    @modules(MODULES, allowed_dtypes=TYPES)
    def test_forward(self, device: str, dtype: torch.dtype, module_info: Any, training: bool) -> None:
        """Values, type and state_dict after one call, and the reference that PyTorch has for some."""
        for one in inputs(module_info, device, dtype, training):
            args = one.forward_input.args
            exact, exact_module = exactly(module_info, one, args, dtype, training)
            for kind in both(module_info):
                module = made(kind, one, dtype, training)
                y = module(*args)
                self.assertEqual(y, exact.to(dtype))
                self.assertEqual(list(module.state_dict()), list(exact_module.state_dict()))
                for name, value in exact_module.state_dict().items():
                    if not counted_differently(kind, name, args[0]):
                        self.assertEqual(module.state_dict()[name], value.to(module.state_dict()[name].dtype))
                if one.reference_fn is not None:
                    # The reference of RMSNorm computes in float32, so it is exact enough for new layers only.
                    new = made(kind, one, dtype, training, random=False)
                    self.assertEqual(new(*args), one.reference_fn(new, *args))

    @modules(MODULES, allowed_dtypes=(torch.float32,))
    def test_pickle_and_state_dict(self, device: str, dtype: torch.dtype, module_info: Any, training: bool) -> None:
        """Pickled, deep-copied and loaded modules compute the same bits; state_dicts go both ways."""
        for one in inputs(module_info, device, dtype, training):
            args = one.forward_input.args
            for kind in both(module_info):
                module = made(kind, one, dtype, False)
                y = module(*args)
                stored = io.BytesIO()
                torch.save(module, stored)
                stored.seek(0)
                for again in (
                    pickle.loads(pickle.dumps(module)),
                    copy.deepcopy(module),
                    torch.load(stored, weights_only=False),
                ):
                    self.assertIs(type(again), kind)
                    self.assertEqual(again(*args), y, rtol=0, atol=0)
                for other in both(module_info):
                    fresh = other(*one.constructor_input.args, **one.constructor_input.kwargs).train(False)
                    fresh.load_state_dict(module.state_dict())
                    self.assertEqual(fresh(*args), y, rtol=0, atol=0)

    @modules(MODULES, allowed_dtypes=(torch.float32, torch.float64))
    def test_non_contiguous_tensors(self, device: str, dtype: torch.dtype, module_info: Any, training: bool) -> None:
        """The same bits, and the same bits of gradients, for strided input."""
        for one in inputs(module_info, device, dtype, training, grad=True):
            args = one.forward_input.args
            for kind in both(module_info):
                results = []
                for form in (lambda t: t, noncontiguous_like):
                    module = made(kind, one, dtype, training)
                    x = [form(t.detach()).requires_grad_() for t in args]
                    y = module(*x)
                    dy = form(torch.arange(y.numel(), dtype=dtype).reshape(y.shape).cos())
                    grads = torch.autograd.grad(y, [*x, *module.parameters()], dy)
                    results.append([y, *grads])
                self.assertEqual(results[0], results[1], rtol=0, atol=0)

    @modules(MODULES, allowed_dtypes=(torch.float32,))
    def test_channels_last(self, device: str, dtype: torch.dtype, module_info: Any, training: bool) -> None:
        """The same bits in channels_last, and its format where PyTorch or the list of differences keeps it."""
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        tried = 0
        for one in inputs(module_info, device, dtype, training):
            x = one.forward_input.args[0]
            unbatched = x.dim() == getattr(module_info.module_cls, "_get_no_batch_dim", lambda _: 0)(None)
            if x.dim() not in formats or x.numel() == 0 or unbatched:
                continue
            tried += 1
            last = x.contiguous(memory_format=formats[x.dim()])
            with pytorch_alone():
                theirs = made(module_info.module_cls, one, dtype, training)(last)
            for kind in both(module_info):
                y = made(kind, one, dtype, training)(last)
                self.assertEqual(y, made(kind, one, dtype, training)(x), rtol=0, atol=0)
                self.assertEqual(y.stride(), last.stride() if keeps_channels_last(kind) else theirs.stride())
        self.proof = tried > 0  # 1d modules have no such format

    def _arguments(self, info: Any, one: Any, kind: Any, training: bool) -> tuple[Any, list[Tensor]]:
        """A function of the input and the parameters for gradcheck, and where to check it."""
        module = made(kind, one, torch.float64, training)
        names = [name for name, _ in module.named_parameters()]
        x = [t.detach().requires_grad_() for t in one.forward_input.args]

        def function(*given: Tensor) -> Any:
            # Running statistics and the count would move at each evaluation.
            again = copy.deepcopy(module)
            return torch.func.functional_call(again, dict(zip(names, given[len(x) :], strict=True)), given[: len(x)])

        return function, [*x, *(p.detach().requires_grad_() for p in module.parameters())]

    @modules(MODULES, allowed_dtypes=(torch.float64,))
    def test_grad(self, device: str, dtype: torch.dtype, module_info: Any, training: bool) -> None:
        for one in inputs(module_info, device, dtype, training, grad=True):
            for kind in both(module_info):
                self.assertTrue(gradcheck(*self._arguments(module_info, one, kind, training)))

    @modules([m for m in MODULES if m.supports_gradgrad], allowed_dtypes=(torch.float64,))
    def test_gradgrad(self, device: str, dtype: torch.dtype, module_info: Any, training: bool) -> None:
        for one in inputs(module_info, device, dtype, training, grad=True):
            for kind in both(module_info):
                self.assertTrue(gradgradcheck(*self._arguments(module_info, one, kind, training)))


instantiate_device_type_tests(TestModule, globals(), only_for="cpu")
