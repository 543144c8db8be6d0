"""What the command norma says and draws, from Python. It is the command that runs: the package has its own, if it was
built on a machine with the libraries that the command needs, and else takes the one that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path


def find_command() -> str:
    """The path of the command: the one installed beside this Python, else the first in PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "norma"
    found = shutil.which(str(beside)) or shutil.which("norma")
    if found is None:
        raise FileNotFoundError(
            f"the command norma is neither in {beside.parent} nor in PATH: 'make install' of Norma's sources installs "
            "it, and so does pip where pkg-config finds cairo, libpng and cJSON"
        )
    return found


def _run(*arguments: str) -> str:
    done = subprocess.run([find_command(), *arguments], text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip() or f"norma {arguments[0]} ended with exit status {done.returncode}")
    return done.stdout


def explain(layer: str, *shape: int, **settings: object) -> str:
    """Which elements share a mean, the same layer elsewhere, and the traps of this shape, as text.

    layer: the name of a PyTorch module, an ONNX operator, a Keras layer ("keras.layers.BatchNormalization"), a pattern
        ("n (g [k]) [h w]") or a problem string, which needs no shape.
    shape: the lengths of the input's dimensions.
    settings: what the layer has besides: g=32, eps=1e-6, momentum=0.1, axis=-1, normalized_shape=(64, 56).

    ValueError: a layer, shape or setting that the command does not take. FileNotFoundError: there is no command norma.
    """
    words = [str(length) for length in shape]
    for key, value in settings.items():
        text = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
        words.append(f"{key}={text}")
    return _run("explain", layer, *words)


def picture(path: str | os.PathLike[str], *, lang: str = "en", all_layers: bool = False) -> None:
    """Draws which elements share a mean in batch, layer, instance and group norm, to a .svg, .png or .pdf file.

    lang: "en" or "zh". all_layers: also layer norm over the channels alone, and RMS norm.

    ValueError: another ending or language, or a path that cannot be written. FileNotFoundError: there is no command
    norma.
    """
    _run("picture", "-o", os.fspath(path), "--lang", lang, *(["--all"] if all_layers else []))
