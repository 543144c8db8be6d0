"""Moments by name, in files: what travels between machines, and between the runs of a program."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from norma._norma import Moments

PathLike = str | os.PathLike[str]
VERSION = 1

_FIELDS = ("count", "mean", "mean_lo", "m2", "m2_lo")
# norma_moments of norma.h, which is what pickles of Moments hold.
_STRUCT = np.dtype([(field, np.int64 if field == "count" else np.float64) for field in _FIELDS])


def _parts(moments: Moments) -> tuple[str, str, bool, NDArray[Any] | None]:
    """pattern, sizes, rms, and the values of the units, None where nothing was added."""
    reduced: Any = moments.__reduce__()
    (pattern,), (sizes, rms, values, shape) = reduced[1:]
    array = None if shape is None else np.frombuffer(values, _STRUCT).reshape(shape)
    return pattern, sizes, rms, array


def save_moments(path: PathLike, moments: Mapping[str, Moments]) -> None:
    """Writes Moments under their names to an .npz file, without loss: load_moments gives them back bit by bit.

    The file holds `norma_moments`, the version of the format (1), the vectors names, patterns, sizes and rms, and for
    each name to which something was added five arrays with an entry per unit: NAME/count, NAME/mean, NAME/mean_lo,
    NAME/m2, NAME/m2_lo (mean + mean_lo is the mean, m2 + m2_lo the sum of squared distances from it). numpy.load reads
    it, and no pickle is in it. A file that is there is replaced when the new one is complete.

    TypeError: a name that is no string, or a value that is no Moments. OSError: the file cannot be written.
    """
    for name, value in moments.items():
        if not isinstance(name, str) or not isinstance(value, Moments):
            raise TypeError(f"save_moments: moments must be a dict from names to Moments, not {name!r}: {value!r}")
    parts = {name: _parts(value) for name, value in moments.items()}
    arrays: dict[str, Any] = {
        "norma_moments": np.int64(VERSION),
        "names": np.array(list(parts), np.str_),
        "patterns": np.array([part[0] for part in parts.values()], np.str_),
        "sizes": np.array([part[1] for part in parts.values()], np.str_),
        "rms": np.array([part[2] for part in parts.values()], np.bool_),
    }
    for name, (_, _, _, values) in parts.items():
        if values is not None:
            arrays |= {f"{name}/{field}": values[field] for field in _FIELDS}
    unfinished = Path(f"{os.fspath(path)}.part")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_moments(path: PathLike) -> dict[str, Moments]:
    """Reads what save_moments wrote: names and Moments in the order in which they were saved.

    ValueError: it is another file, one of a newer format, or damaged; the text says which. OSError: it cannot be read.
    """
    try:
        arrays = _read(path)
        if "norma_moments" not in arrays:
            raise ValueError("it has no entry norma_moments")
        if (version := int(arrays["norma_moments"])) != VERSION:
            raise ValueError(f"its format is {version}, this version of norma reads {VERSION}")
        heads = zip(*(arrays[key].tolist() for key in ("names", "patterns", "sizes", "rms")), strict=True)
        return {name: _restore(name, pattern, sizes, rms, arrays) for name, pattern, sizes, rms in heads}
    except KeyError as error:
        raise ValueError(f"load_moments: {os.fspath(path)}: the entry {error} is missing") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"load_moments: {os.fspath(path)} is not a file of moments: {error}") from None


def _read(path: PathLike) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file; never a pickle."""
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no .npz file, or only a part of one")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise ValueError(f"it is damaged: {error}") from None


def _restore(name: str, pattern: str, sizes: str, rms: bool, arrays: Mapping[str, NDArray[Any]]) -> Moments:
    moments = Moments(pattern)
    if f"{name}/count" not in arrays:
        moments.__setstate__((sizes, rms, b"", None))
        return moments
    shape = arrays[f"{name}/count"].shape
    values = np.zeros(shape, _STRUCT)
    for field in _FIELDS:
        array = arrays[f"{name}/{field}"]
        if array.shape != shape or array.dtype.newbyteorder("=") != _STRUCT[field]:
            raise ValueError(f"{name}/{field} is {array.dtype} {array.shape}, must be {_STRUCT[field]} {shape}")
        values[field] = array
    # NaN is in order: it comes of data that is not finite.
    if (values["count"] < 0).any() or (values["m2"] < 0).any():
        raise ValueError(f"{name} has a negative count or m2")
    moments.__setstate__((sizes, rms, values.tobytes(), shape))
    return moments


def merge_moments(*sources: PathLike | Mapping[str, Moments]) -> dict[str, Moments]:
    """The Moments of all sources together, name by name, as if one machine had seen all the data.

    sources: files of save_moments, or dicts; they stay as they are. All must have the same names, patterns and units.

    ValueError: nothing to merge, or sources that do not fit together; the text names which. OSError: as load_moments.
    """
    if not sources:
        raise ValueError("merge_moments: there are no sources")
    merged: dict[str, Moments] = {}
    for number, source in enumerate(sources):
        label = f"source {number + 1}" if isinstance(source, Mapping) else os.fspath(source)
        found = source if isinstance(source, Mapping) else load_moments(source)
        if number == 0:
            merged = {name: _empty_like(moments) for name, moments in found.items()}
        if different := sorted(merged.keys() ^ found.keys()):
            raise ValueError(
                f"merge_moments: {different[0]!r} is {'not in' if different[0] in merged else 'only in'} {label}; all "
                "sources must have the same names"
            )
        for name, moments in found.items():
            if _parts(moments)[:3] != _parts(merged[name])[:3]:
                raise ValueError(f"merge_moments: {name!r} of {label} is {moments!r}, before it {merged[name]!r}")
            try:
                merged[name].merge(moments)
            except ValueError as error:
                raise ValueError(f"merge_moments: {name!r} of {label}: {error}") from None
    return merged


def _empty_like(moments: Moments) -> Moments:
    pattern, sizes, rms, _ = _parts(moments)
    empty = Moments(pattern)
    empty.__setstate__((sizes, rms, b"", None))
    return empty
