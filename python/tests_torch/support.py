"""What the conformance tests share: the norms among PyTorch's own test data, and proof that Norma's kernels ran."""

from __future__ import annotations

import os
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import norma.torch
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

# NORMA_TESTS_ALONE=1 runs the same tests with PyTorch's own kernels: what fails then is the test's own doing.
ALONE = bool(os.environ.get("NORMA_TESTS_ALONE"))

FOUR_TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

_OPERATORS = (
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_batch_norm_with_update",
    "native_layer_norm",
    "native_group_norm",
    "nn.functional.batch_norm",
    "nn.functional.group_norm",
    "nn.functional.instance_norm",
    "nn.functional.layer_norm",
    "nn.functional.rms_norm",
)
# The variant without_cudnn has the samples of batch_norm and only differs on a GPU.
NORMS = [op for op in op_db if op.name in _OPERATORS and op.variant_test_name == ""]
MODULES = [m for m in module_db if m.name.endswith(("Norm", "Norm1d", "Norm2d", "Norm3d")) and "Response" not in m.name]


def count(kind: str) -> int:
    """How many calls norma.torch.calls() has of this kind, all layers: "ran" or "passed_through"."""
    passed = kind == "passed_through"
    return sum(number for name, number in norma.torch.calls().items() if name.endswith("passed_through") == passed)


@contextmanager
def pytorch_alone() -> Iterator[None]:
    """PyTorch's own kernels inside, and afterwards what was before."""
    before = norma.torch.is_enabled()
    norma.torch.disable()
    try:
        yield
    finally:
        if before:
            norma.torch.enable()


class UnderNorma(unittest.TestCase):
    """Runs each test under norma.torch.enable(). A test that ends without a call of Norma's kernels fails, unless it
    sets self.proof to False."""

    proof: bool
    _before: int

    def setUp(self) -> None:
        super().setUp()
        self.proof = True
        if not ALONE:
            norma.torch.enable()
        self._before = count("ran")

    def tearDown(self) -> None:
        try:
            if not ALONE and self.proof and _no_error(self):
                self.assertGreater(count("ran"), self._before, "no kernel of Norma's ran")
        finally:
            norma.torch.disable()
            super().tearDown()


def _no_error(case: unittest.TestCase) -> bool:
    """Whether the test itself went through: a failure, or a skip, is not hidden by a second message."""
    outcome: Any = getattr(case, "_outcome", None)
    return outcome is None or bool(outcome.success)
