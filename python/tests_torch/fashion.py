"""Fashion-MNIST's training pictures from Debian's package dataset-fashion-mnist, which the demo uses too."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_FOLDERS = (Path("/usr/share/datasets/fashion-mnist"), Path("/usr/local/share/datasets/fashion-mnist"))


def pictures(count: int) -> tuple[Tensor, Tensor]:
    """The first `count` pictures (count, 1, 28, 28), as grey values 0 to 255 in float64, and their classes."""
    folder = next((f for f in _FOLDERS if f.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(f"Fashion-MNIST is not in {_FOLDERS[0]}: apt-get install dataset-fashion-mnist")
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        grey = np.frombuffer(file.read(16 + count * 28 * 28)[16:], dtype=np.uint8).reshape(count, 1, 28, 28)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        classes = np.frombuffer(file.read(8 + count)[8:], dtype=np.uint8)
    return torch.from_numpy(grey.astype(np.float64)), torch.from_numpy(classes.astype(np.int64))
