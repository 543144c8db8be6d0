"""torch.nn.functional's norms on Norma, whether or not the override is enabled, with an activation in the same pass.

Arguments, their order and defaults are those of torch.nn.functional; ``activation`` is None, "relu", "silu", "gelu" or
"gelu_tanh". Results can be differentiated any number of times. What the core refuses (a negative eps, a momentum
outside [0, 1]) is a ValueError here. Tensors on other devices than the CPU take PyTorch's kernels.

Padding takes no part in any statistic or gradient: ``lengths`` are the valid positions of each sample along ``dim``
(None: the last dimension; for layer and RMS norm over the last dimensions 1), ``mask`` is bool or uint8, true where
valid, of input's shape without the channels (layer and RMS norm: without what is normalized). The result at padding is
0, or with ``pad="beta"`` the activation of the bias; its gradient is 0. Such results can be differentiated once, on the
CPU.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from norma.torch._layers import BATCH, GROUP, INSTANCE, LAYER, RMS, Activation, activation_number, dims_number
from norma.torch._load import load
from norma.torch._nonfinite import checked_policy, move_by_policy
from norma.torch._ragged import Layer, Lengths, Running, Valid, norm, read_valid, running_norm

load()

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"]

Pad = Literal["zero", "beta"]


def _activate(z: Tensor, activation: Activation | None) -> Tensor:
    match activation:
        case None:
            return z
        case "relu":
            return F.relu(z)
        case "silu":
            return F.silu(z)
        case "gelu":
            return F.gelu(z)
        case "gelu_tanh":
            return F.gelu(z, approximate="tanh")


def _given(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, kind: int, eps: float, act: int
) -> Tensor:
    keep_format = int(kind == INSTANCE)
    y: Tensor = torch.ops.norma.forward.default(x, weight, bias, mean, var, kind, keep_format, eps, act)
    return y


def _from_input(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, kind: int, number: int, eps: float, act: int
) -> Tensor:
    y: Tensor = torch.ops.norma.forward.default(x, weight, bias, None, None, kind, number, eps, act)
    return y


def _with_running(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    kind: int,
    act: int,
    biased: bool,
    nonfinite: str,
    valid: Valid | None,
) -> Tensor:
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError("running_mean and running_var are both needed where statistics are not taken from input")
        _refuse_bad_variance(running_var)
    checked_policy(nonfinite)
    if not use_input_stats and valid is None:
        assert running_mean is not None and running_var is not None
        return _given(x, weight, bias, running_mean, running_var, kind, eps, act)

    def norm(policy: int) -> Tensor:
        if valid is not None:
            running = Running(running_mean, running_var, momentum, biased, policy)
            layer = Layer(kind, int(kind == INSTANCE), eps, act)
            return running_norm(x, weight, bias, running, use_input_stats, layer, valid)
        y: Tensor = torch.ops.norma.training_norm.default(
            x, weight, bias, running_mean, running_var, kind, momentum, biased, policy, eps, act
        )
        return y

    return move_by_policy(norm, nonfinite, stacklevel=3)


def _refuse_bad_variance(var: Tensor) -> None:
    """A negative or NaN running variance is an error, where it can be looked at without disturbing a trace."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() or torch._C._len_torch_dispatch_stack():
        return
    if var.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(var) or not var.numel():
        return
    # min() passes NaN on.
    if not float(var.detach().min()) >= 0:
        channel = int((~(var >= 0)).nonzero()[0])
        raise ValueError(f"running_var[{channel}] is {float(var[channel]):g}, a variance must not be negative or NaN")


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    activation: Activation | None = None,
    biased: bool = False,
    nonfinite: str = "store",
    lengths: Lengths | None = None,
    mask: Tensor | None = None,
    pad: Pad = "zero",
    dim: int | None = None,
) -> Tensor:
    """torch.nn.functional.batch_norm; input (n, c, ...), everything else (c).

    Args:
        biased: running_var takes the variance with 1/m (ONNX, Keras, Flax) instead of 1/(m - 1).
        nonfinite: what becomes of running statistics when a batch holds NaN or Inf: "store" them as PyTorch does,
            "refuse" (a ValueError names the channel, and no channel moves), or "skip" that channel, with a warning.

    Raises:
        ValueError: one value per channel when training, a running_var that is negative or NaN where it is used, or what
            the core refuses.
    """
    act = activation_number(activation)
    valid = read_valid(input, lengths, mask, pad, dim, [1])
    if not input.is_cpu:
        y = F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        return _activate(y, activation)
    if valid is None and training and input.dim() >= 2 and input.numel() == input.size(1):
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.size()}")
    return _with_running(
        input, running_mean, running_var, weight, bias, training, momentum, eps, BATCH, act, biased, nonfinite, valid
    )


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    activation: Activation | None = None,
    biased: bool = False,
    nonfinite: str = "store",
    lengths: Lengths | None = None,
    mask: Tensor | None = None,
    pad: Pad = "zero",
    dim: int | None = None,
) -> Tensor:
    """torch.nn.functional.instance_norm; input (n, c, ...), everything else (c). Further arguments as batch_norm.

    A channels_last input gives a channels_last result, where torch.nn.functional returns a contiguous one.

    Raises:
        ValueError: one spatial element when statistics come from input, a running_var that is negative or NaN where it
            is used, or what the core refuses.
    """
    act = activation_number(activation)
    valid = read_valid(input, lengths, mask, pad, dim, [1])
    if not input.is_cpu:
        y = F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
        return _activate(y, activation)
    if valid is None and use_input_stats and input.numel() and input.size()[2:].numel() == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.size()}")
    return _with_running(
        input,
        running_mean,
        running_var,
        weight,
        bias,
        use_input_stats,
        momentum,
        eps,
        INSTANCE,
        act,
        biased,
        nonfinite,
        valid,
    )


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    activation: Activation | None = None,
    lengths: Lengths | None = None,
    mask: Tensor | None = None,
    pad: Pad = "zero",
    dim: int | None = None,
) -> Tensor:
    """torch.nn.functional.group_norm; input (n, c, ...), weight and bias (c).

    Raises:
        ValueError: num_groups does not divide c, or what the core refuses.
    """
    act = activation_number(activation)
    valid = read_valid(input, lengths, mask, pad, dim, [1])
    if valid is not None:
        return norm(input, weight, bias, Layer(GROUP, num_groups, eps, act), valid)
    if not input.is_cpu:
        return _activate(F.group_norm(input, num_groups, weight, bias, eps), activation)
    return _from_input(input, weight, bias, GROUP, num_groups, eps, act)


def _dims(input: Tensor, normalized_shape: Sequence[int], channels_first: bool) -> int:
    shape = tuple(normalized_shape)
    if channels_first:
        if input.dim() < 2 or shape != (input.size(1),):
            raise ValueError(f"normalized_shape is {list(shape)}, must be dimension 1 of {list(input.shape)}")
        return dims_number([1])
    if not shape or tuple(input.shape[-len(shape) :]) != shape:
        raise ValueError(
            f"normalized_shape is {list(shape)}, must be what the shape of input, {list(input.shape)}, ends with"
        )
    return dims_number(range(input.dim() - len(shape), input.dim()))


def _bits(dims: int) -> list[int]:
    return [d for d in range(dims.bit_length()) if dims >> d & 1]


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    activation: Activation | None = None,
    channels_first: bool = False,
    lengths: Lengths | None = None,
    mask: Tensor | None = None,
    pad: Pad = "zero",
    dim: int | None = None,
) -> Tensor:
    """torch.nn.functional.layer_norm; weight and bias have the shape normalized_shape.

    Args:
        channels_first: normalize dimension 1 of (n, c, ...) instead, normalized_shape being (c,).

    Raises:
        ValueError: shapes that do not fit, or what the core refuses.
    """
    act = activation_number(activation)
    dims = _dims(input, normalized_shape, channels_first)
    valid = read_valid(input, lengths, mask, pad, dim, _bits(dims))
    if valid is not None:
        return norm(input, weight, bias, Layer(LAYER, dims, eps, act), valid)
    if input.is_cpu:
        return _from_input(input, weight, bias, LAYER, dims, eps, act)
    x = input.movedim(1, -1) if channels_first else input
    y = F.layer_norm(x, list(normalized_shape), weight, bias, eps)
    return _activate(y.movedim(-1, 1) if channels_first else y, activation)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    activation: Activation | None = None,
    channels_first: bool = False,
    lengths: Lengths | None = None,
    mask: Tensor | None = None,
    pad: Pad = "zero",
    dim: int | None = None,
) -> Tensor:
    """torch.nn.functional.rms_norm; weight has the shape normalized_shape. eps None: 2**-23, with float64 2**-52.

    Args:
        channels_first: as in layer_norm.

    Raises:
        ValueError: shapes that do not fit, or what the core refuses.
    """
    act = activation_number(activation)
    dims = _dims(input, normalized_shape, channels_first)
    valid = read_valid(input, lengths, mask, pad, dim, _bits(dims))
    if input.is_cpu:
        if eps is None:
            eps = 2.0**-52 if input.dtype == torch.float64 else 2.0**-23
        if valid is not None:
            return norm(input, weight, None, Layer(RMS, dims, eps, act), valid)
        return _from_input(input, weight, None, RMS, dims, eps, act)
    x = input.movedim(1, -1) if channels_first else input
    y = F.rms_norm(x, list(normalized_shape), weight, eps)
    return _activate(y.movedim(-1, 1) if channels_first else y, activation)
