"""The package as such: its names, signatures and docstrings, and what it takes from the command."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import norma
import pytest
from norma.command import find_command

# The names, order and defaults of torch.nn.functional, and what is more after the star.
VALID = "lengths=None, mask=None, pad='zero', dim=None)"
SIGNATURES = {
    "batch_norm": "(x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, "
    f"eps=1e-05, *, out=None, return_stats=False, {VALID}",
    "instance_norm": "(x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, "
    f"momentum=0.1, eps=1e-05, *, out=None, return_stats=False, {VALID}",
    "layer_norm": "(x, normalized_shape=None, weight=None, bias=None, eps=1e-05, *, axes=None, out=None, "
    f"return_stats=False, {VALID}",
    "group_norm": "(x, num_groups, weight=None, bias=None, eps=1e-05, *, out=None, return_stats=False, "
    f"{VALID}",
    "rms_norm": "(x, normalized_shape=None, weight=None, eps=None, *, axes=None, out=None, return_stats=False, "
    f"{VALID}",
    "adain": "(content, style, alpha=1.0, eps=1e-05, unbiased=False, *, out=None)",
    "batch_norm_backward": "(dy, x, running_mean=None, running_var=None, weight=None, training=False, eps=1e-05, *, "
    f"bias=None, momentum=0.1, {VALID}",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    assert str(inspect.signature(getattr(norma, name))) == SIGNATURES[name]


@pytest.mark.parametrize("name", norma.__all__)
def test_everything_is_documented(name: str) -> None:
    thing = getattr(norma, name)
    text = thing.__doc__ or ""
    assert len(text) > 40 and inspect.signature(thing) is not None
    if inspect.isfunction(thing) or (inspect.isbuiltin(thing) and name not in {"isa", "get_num_threads"}):
        assert "rror" in text


def test_every_forward_function_has_its_twin() -> None:
    names = {name for name in norma.__all__ if name.endswith(("norm", "adain"))}
    assert len(names) == 7 and {f"{name}_backward" for name in names} <= set(norma.__all__)


def test_the_package_is_typed() -> None:
    folder = Path(norma.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "_norma.pyi").exists()


def test_isa() -> None:
    assert norma.isa() in {"scalar", "sse2", "avx2", "avx512", "neon"}


def test_explain() -> None:
    text = norma.explain("GroupNorm", 8, 64, 14, 14, g=32, eps=1e-6)
    assert text.startswith("Group norm: one mean and variance per") and "eps=1e-06" in text
    text = norma.explain("LayerNorm", 32, 64, 56, 56, normalized_shape=(64, 56, 56))
    assert text.startswith("Layer norm: one mean and variance per sample n, 32 in all")
    with pytest.raises(ValueError, match='norma explain: no layer is called "LayrNorm"'):
        norma.explain("LayrNorm", 8, 64)


def test_picture(tmp_path: Path) -> None:
    norma.picture(tmp_path / "small.svg")
    norma.picture(str(tmp_path / "all.svg"), lang="zh", all_layers=True)
    small, everything = (tmp_path / "small.svg").read_text(), (tmp_path / "all.svg").read_text()
    assert small.startswith("<?xml") and len(everything) > len(small)
    with pytest.raises(ValueError, match="norma picture: "):
        norma.picture(tmp_path / "picture.doc")


def test_without_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def elsewhere(name: str) -> str:
        return str(tmp_path)

    monkeypatch.setattr("sysconfig.get_path", elsewhere)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="the command norma is neither in .* nor in PATH"):
        norma.explain("LayerNorm", 2, 3)
    command = tmp_path / "norma"
    command.write_text('#!/bin/sh\necho "$@"\n')
    command.chmod(0o755)
    assert find_command() == str(command) and norma.explain("x", 2, k=(3, 4)) == "explain x 2 k=3,4\n"


def test_the_cache_of_layers_gives_way() -> None:
    """More shapes than it holds, twice, and pattern texts too long for it."""
    import numpy as np

    for _ in range(2):
        for length in range(1, 200):
            x = np.arange(2 * length, dtype=np.float64).reshape(2, length)
            expected: Any = norma.norm(x, f"{'n' * 15} [{'d' * 15}]" + " " * 300)
            assert (norma.layer_norm(x, length) == expected).all()
            assert (norma.norm(x, "n [d]") == expected).all()
