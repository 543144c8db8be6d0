"""PyTorch's own samples and error inputs of every norm, under enable(), judged by PyTorch in float64."""

from __future__ import annotations

from typing import Any

import torch
from deliberate import strides_expected
from support import ALONE, FOUR_TYPES, NORMS, UnderNorma, count, pytorch_alone
from torch._subclasses.fake_utils import CrossRefFakeMode
from torch.testing._internal.common_device_type import instantiate_device_type_tests, ops
from torch.testing._internal.common_utils import TestCase
from torch.utils._pytree import tree_leaves, tree_map


def copied(value: Any, dtype: torch.dtype | None = None) -> Any:
    """The tensors of a sample without their history, floating-point ones in another type."""

    def one(t: Any) -> Any:
        if not isinstance(t, torch.Tensor):
            return t
        t = t.detach().clone()
        return t.to(dtype) if dtype is not None and t.is_floating_point() else t

    return tree_map(one, value)


def call(op: Any, sample: Any, dtype: torch.dtype | None = None, copies: bool = True) -> tuple[list[Any], list[Any]]:
    """The results, and the arguments afterwards: running statistics are among them."""
    given = (sample.input, sample.args, sample.kwargs)
    if copies:
        given = copied(given, dtype)
    results = op(given[0], *given[1], **given[2])
    return tree_leaves(results), [t for t in tree_leaves(given) if isinstance(t, torch.Tensor)]


def call_pytorch(
    op: Any, sample: Any, dtype: torch.dtype | None = None, copies: bool = True
) -> tuple[list[Any], list[Any]]:
    """The same with PyTorch's own kernels."""
    with pytorch_alone():
        return call(op, sample, dtype, copies)


# The class and its tests have the names that PyTorch's lists of known failures use, so those apply.
class TestCommon(UnderNorma, TestCase):
    @ops(NORMS, allowed_dtypes=FOUR_TYPES)
    def test_forward(self, device: str, dtype: torch.dtype, op: Any) -> None:
        """Type, shape and strides as PyTorch's; values as PyTorch's in float64, at the tolerance of the type."""
        for sample in op.sample_inputs(device, dtype):
            passed = count("passed_through")
            ours, arguments = call(op, sample)
            passed = count("passed_through") - passed
            theirs, their_arguments = call_pytorch(op, sample)
            self.assertEqual(len(ours), len(theirs))
            for y, t in zip(ours, theirs, strict=True):
                self.assertEqual((y.dtype, y.shape), (t.dtype, t.shape))
                strides = strides_expected(op.name, t)
                self.assertEqual(y.stride(), strides) if strides else self.assertTrue(y.is_contiguous())
            if passed:
                self.assertEqual([*ours, *arguments], [*theirs, *their_arguments], rtol=0, atol=0)
                continue
            exact, exact_arguments = call_pytorch(op, sample, torch.float64)
            for y, e in zip([*ours, *arguments], [*exact, *exact_arguments], strict=True):
                self.assertEqual(y, e.to(y.dtype), msg=lambda m, s=sample: f"{m}\n{s}")

    @ops(NORMS, allowed_dtypes=FOUR_TYPES)
    def test_noncontiguous_samples(self, device: str, dtype: torch.dtype, op: Any) -> None:
        """Strided copies of all arguments give the same bits."""
        for sample in op.sample_inputs(device, dtype):
            passed = count("passed_through")
            dense, dense_arguments = call(op, sample)
            passed = count("passed_through") - passed
            strided = sample.noncontiguous()
            results, arguments = call(op, strided, copies=False)
            if passed or ALONE:
                dense, dense_arguments = call_pytorch(op, sample.noncontiguous(), copies=False)
            expected = [*dense, *dense_arguments]
            self.assertEqual([*results, *arguments], expected, rtol=0, atol=0)

    @ops([op for op in NORMS if op.ref is not None], allowed_dtypes=(torch.float64, torch.float32))
    def test_numpy_ref(self, device: str, dtype: torch.dtype, op: Any) -> None:
        """PyTorch's NumPy references of these operators."""
        for sample in op.reference_inputs(device, dtype):
            self.compare_with_reference(op, op.ref, sample, exact_dtype=True)

    @ops([op for op in NORMS if op.error_inputs_func is not None], allowed_dtypes=(torch.float32,))
    def test_errors(self, device: str, dtype: torch.dtype, op: Any) -> None:
        """The type and the text of PyTorch's errors."""
        self.proof = False
        inputs = list(op.error_inputs(device))
        self.assertGreater(len(inputs), 0)
        for error in inputs:
            sample = error.sample_input
            with self.assertRaisesRegex(error.error_type, error.error_regex):
                op(sample.input, *sample.args, **sample.kwargs)

    @ops([op for op in NORMS if op.supports_out], allowed_dtypes=(torch.float32,))
    def test_out(self, device: str, dtype: torch.dtype, op: Any) -> None:
        """The out= form writes what the plain form returns."""
        for sample in op.sample_inputs(device, dtype):
            plain, _ = call(op, sample)
            given = copied((sample.input, sample.args, sample.kwargs))
            out = tuple(torch.full_like(t, 7) for t in plain)
            results = op(given[0], *given[1], **given[2], out=out)
            for a, b, c in zip(plain, results, out, strict=True):
                self.assertIs(b, c)
                self.assertEqual(a, b)


class TestFakeTensor(UnderNorma, TestCase):
    @ops(NORMS, allowed_dtypes=(torch.float32,))
    def test_strides(self, device: str, dtype: torch.dtype, op: Any) -> None:
        """Shapes and strides of every operator are those that torch.compile expects of it."""
        for sample in op.sample_inputs(device, dtype):
            given = copied((sample.input, sample.args, sample.kwargs))
            with CrossRefFakeMode(ignore_op_fn=lambda fn: fn is torch.ops.aten.empty_like.default):
                op(given[0], *given[1], **given[2])


instantiate_device_type_tests(TestCommon, globals(), only_for="cpu")
instantiate_device_type_tests(TestFakeTensor, globals(), only_for="cpu")
