"""PyTorch's gradient checks (backward, twice, forward mode, forward over backward) of every norm under enable()."""

from __future__ import annotations

from typing import Any

import torch
from support import NORMS, UnderNorma
from torch.testing._internal.common_device_type import OpDTypes, instantiate_device_type_tests, ops
from torch.testing._internal.common_utils import TestGradients

norms = ops(NORMS, dtypes=OpDTypes.supported_backward, allowed_dtypes=(torch.float64,))


# The classes and tests have the names that PyTorch's lists of known failures use, so those apply.
class TestBwdGradients(UnderNorma, TestGradients):
    @norms
    def test_fn_grad(self, device: str, dtype: torch.dtype, op: Any) -> None:
        self._skip_helper(op, device, dtype)
        self._grad_test_helper(device, dtype, op, op.get_op())

    @norms
    def test_fn_gradgrad(self, device: str, dtype: torch.dtype, op: Any) -> None:
        self._skip_helper(op, device, dtype)
        if not op.supports_gradgrad:
            self.skipTest("PyTorch has no second derivative of it")
        self._check_helper(device, dtype, op, op.get_op(), "bwgrad_bwgrad")


class TestFwdGradients(UnderNorma, TestGradients):
    @norms
    def test_forward_mode_AD(self, device: str, dtype: torch.dtype, op: Any) -> None:
        self._skip_helper(op, device, dtype)
        if not op.supports_forward_ad:
            self.skipTest("PyTorch has no forward mode of it")
        # Forward mode may be made of PyTorch's own operations.
        self.proof = False
        self._grad_test_helper(
            device,
            dtype,
            op,
            op.get_op(),
            check_forward_ad=True,
            check_backward_ad=False,
            check_batched_grad=False,
            check_batched_forward_grad=op.check_batched_forward_grad,
        )

    @norms
    def test_fn_fwgrad_bwgrad(self, device: str, dtype: torch.dtype, op: Any) -> None:
        self._skip_helper(op, device, dtype)
        if not op.supports_fwgrad_bwgrad:
            self.skipTest("PyTorch has no forward over backward mode of it")
        self.proof = False
        self._check_helper(device, dtype, op, op.get_op(), "fwgrad_bwgrad")


instantiate_device_type_tests(TestBwdGradients, globals(), only_for="cpu")
instantiate_device_type_tests(TestFwdGradients, globals(), only_for="cpu")
