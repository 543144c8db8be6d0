"""Norma for PyTorch: PyTorch's own norms on the CPU, run by Norma.

``norma.torch.enable()`` replaces the kernels under torch.nn and torch.nn.functional; ``norma.torch.functional`` calls
Norma directly, with an activation if wanted.
"""

from norma.torch._override import calls, disable, enable, enabled, is_enabled

__all__ = ["calls", "disable", "enable", "enabled", "is_enabled"]
