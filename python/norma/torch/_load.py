"""Loads the extension norma.torch._C, or says why it cannot be loaded."""

import types

SUPPORTED = "2.13"
REBUILD = "pip install --no-build-isolation --force-reinstall --no-deps libnorma"


def load() -> types.ModuleType:
    """The extension, which registers the operators of the namespace `norma` when it is loaded.

    Raises:
        ImportError: PyTorch is missing, is another one than the extension was built for, or the package was built
            without PyTorch.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"norma.torch needs PyTorch {SUPPORTED}, which is not installed here: pip install torch=={SUPPORTED}.0, "
            f"then {REBUILD}"
        ) from error
    version = torch.__version__.split("+")[0]
    if not version.startswith(SUPPORTED + "."):
        raise ImportError(f"norma.torch supports PyTorch {SUPPORTED}, the one installed here is {torch.__version__}")
    try:
        from norma.torch import _C
    except ImportError as error:
        raise ImportError(
            f"the extension norma.torch._C is missing or does not fit PyTorch {torch.__version__} ({error}). It is "
            f"built where `import torch` works: {REBUILD}"
        ) from error
    if version != _C.BUILT_FOR:
        raise ImportError(
            f"norma.torch was built for PyTorch {_C.BUILT_FOR}, the one installed here is {version}: {REBUILD}"
        )
    return _C
