from typing import Any, Literal, Protocol, TypeAlias, final, overload

from numpy.typing import ArrayLike, NDArray

_Array: TypeAlias = NDArray[Any]

class _SupportsDLPack(Protocol):
    def __dlpack__(self) -> Any: ...

_Input: TypeAlias = ArrayLike | _SupportsDLPack
_Output: TypeAlias = _Array | _SupportsDLPack
_Shape: TypeAlias = int | tuple[int, ...] | list[int]
_Pad: TypeAlias = Literal["zero", "beta"]
_Activation: TypeAlias = Literal["none", "relu", "silu", "gelu", "gelu_tanh"]

@overload
def layer_norm(
    x: _Input,
    normalized_shape: _Shape | None = None,
    weight: _Input | None = None,
    bias: _Input | None = None,
    eps: float = 1e-05,
    *,
    axes: _Shape | None = None,
    out: _Output | None = None,
    return_stats: Literal[False] = False,
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> _Array: ...
@overload
def layer_norm(
    x: _Input,
    normalized_shape: _Shape | None = None,
    weight: _Input | None = None,
    bias: _Input | None = None,
    eps: float = 1e-05,
    *,
    axes: _Shape | None = None,
    out: _Output | None = None,
    return_stats: Literal[True],
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> tuple[_Array, _Array, _Array]: ...
@overload
def rms_norm(
    x: _Input,
    normalized_shape: _Shape | None = None,
    weight: _Input | None = None,
    eps: float | None = None,
    *,
    axes: _Shape | None = None,
    out: _Output | None = None,
    return_stats: Literal[False] = False,
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> _Array: ...
@overload
def rms_norm(
    x: _Input,
    normalized_shape: _Shape | None = None,
    weight: _Input | None = None,
    eps: float | None = None,
    *,
    axes: _Shape | None = None,
    out: _Output | None = None,
    return_stats: Literal[True],
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> tuple[_Array, _Array]: ...
@overload
def group_norm(
    x: _Input,
    num_groups: int,
    weight: _Input | None = None,
    bias: _Input | None = None,
    eps: float = 1e-05,
    *,
    out: _Output | None = None,
    return_stats: Literal[False] = False,
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> _Array: ...
@overload
def group_norm(
    x: _Input,
    num_groups: int,
    weight: _Input | None = None,
    bias: _Input | None = None,
    eps: float = 1e-05,
    *,
    out: _Output | None = None,
    return_stats: Literal[True],
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> tuple[_Array, _Array, _Array]: ...
@overload
def batch_norm(
    x: _Input,
    running_mean: _Input | None = None,
    running_var: _Input | None = None,
    weight: _Input | None = None,
    bias: _Input | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-05,
    *,
    out: _Output | None = None,
    return_stats: Literal[False] = False,
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> _Array: ...
@overload
def batch_norm(
    x: _Input,
    running_mean: _Input | None = None,
    running_var: _Input | None = None,
    weight: _Input | None = None,
    bias: _Input | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-05,
    *,
    out: _Output | None = None,
    return_stats: Literal[True],
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> tuple[_Array, _Array, _Array]: ...
@overload
def instance_norm(
    x: _Input,
    running_mean: _Input | None = None,
    running_var: _Input | None = None,
    weight: _Input | None = None,
    bias: _Input | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-05,
    *,
    out: _Output | None = None,
    return_stats: Literal[False] = False,
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> _Array: ...
@overload
def instance_norm(
    x: _Input,
    running_mean: _Input | None = None,
    running_var: _Input | None = None,
    weight: _Input | None = None,
    bias: _Input | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-05,
    *,
    out: _Output | None = None,
    return_stats: Literal[True],
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> tuple[_Array, _Array, _Array]: ...
@overload
def norm(
    x: _Input,
    pattern: str,
    *,
    affine: str = "",
    weight: _Input | None = None,
    bias: _Input | None = None,
    eps: float | None = None,
    rms: bool = False,
    mean: _Input | None = None,
    var: _Input | None = None,
    activation: _Activation = "none",
    out: _Output | None = None,
    return_stats: Literal[False] = False,
    **sizes: int,
) -> _Array: ...
@overload
def norm(
    x: _Input,
    pattern: str,
    *,
    affine: str = "",
    weight: _Input | None = None,
    bias: _Input | None = None,
    eps: float | None = None,
    rms: bool = False,
    mean: _Input | None = None,
    var: _Input | None = None,
    activation: _Activation = "none",
    out: _Output | None = None,
    return_stats: Literal[True],
    **sizes: int,
) -> tuple[_Array, ...]: ...
def adain(
    content: _Input,
    style: _Input,
    alpha: float = 1.0,
    eps: float = 1e-05,
    unbiased: bool = False,
    *,
    out: _Output | None = None,
) -> _Array: ...
def layer_norm_backward(
    dy: _Input,
    x: _Input,
    normalized_shape: _Shape | None = None,
    weight: _Input | None = None,
    eps: float = 1e-05,
    *,
    axes: _Shape | None = None,
    bias: _Input | None = None,
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> tuple[_Array, _Array, _Array]: ...
def rms_norm_backward(
    dy: _Input,
    x: _Input,
    normalized_shape: _Shape | None = None,
    weight: _Input | None = None,
    eps: float | None = None,
    *,
    axes: _Shape | None = None,
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> tuple[_Array, _Array]: ...
def group_norm_backward(
    dy: _Input,
    x: _Input,
    num_groups: int,
    weight: _Input | None = None,
    eps: float = 1e-05,
    *,
    bias: _Input | None = None,
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> tuple[_Array, _Array, _Array]: ...
def batch_norm_backward(
    dy: _Input,
    x: _Input,
    running_mean: _Input | None = None,
    running_var: _Input | None = None,
    weight: _Input | None = None,
    training: bool = False,
    eps: float = 1e-05,
    *,
    bias: _Input | None = None,
    momentum: float = 0.1,
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> tuple[_Array, _Array, _Array]: ...
def instance_norm_backward(
    dy: _Input,
    x: _Input,
    running_mean: _Input | None = None,
    running_var: _Input | None = None,
    weight: _Input | None = None,
    use_input_stats: bool = True,
    eps: float = 1e-05,
    *,
    bias: _Input | None = None,
    momentum: float = 0.1,
    lengths: _Input | None = None,
    mask: _Input | None = None,
    pad: _Pad = "zero",
    dim: int | None = None,
) -> tuple[_Array, _Array, _Array]: ...
def norm_backward(
    dy: _Input,
    x: _Input,
    pattern: str,
    *,
    affine: str = "",
    weight: _Input | None = None,
    bias: _Input | None = None,
    eps: float | None = None,
    rms: bool = False,
    mean: _Input | None = None,
    var: _Input | None = None,
    activation: _Activation = "none",
    **sizes: int,
) -> Any: ...
def adain_backward(
    dy: _Input,
    content: _Input,
    style: _Input,
    alpha: float = 1.0,
    eps: float = 1e-05,
    unbiased: bool = False,
) -> tuple[_Array, _Array]: ...
def set_num_threads(count: int, /) -> None: ...
def get_num_threads() -> int: ...
def isa() -> Literal["scalar", "sse2", "avx2", "avx512", "neon"]: ...

@final
class Moments:
    def __init__(self, pattern: str = "[...]", *, rms: bool = False, **sizes: int) -> None: ...
    @property
    def shape(self) -> tuple[int, ...] | None: ...
    @property
    def count(self) -> _Array: ...
    def add(self, x: _Input, /) -> None: ...
    def merge(self, other: Moments, /) -> None: ...
    def finish(self, unbiased: bool = False) -> tuple[_Array, _Array]: ...
    def update(
        self,
        running_mean: _Output | None = None,
        running_var: _Output | None = None,
        *,
        momentum: float | None = None,
        convention: Literal["pytorch", "onnx", "cumulative"] = "pytorch",
        batches: int = 0,
        not_finite: Literal["store", "refuse", "skip"] = "store",
    ) -> None: ...
    def __setstate__(self, state: object, /) -> None: ...
