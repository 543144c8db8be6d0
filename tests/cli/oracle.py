"""The formulas at the top of include/norma.h in plain NumPy (long double), and .npy files of all four types."""

import os
import pathlib
import subprocess

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("NORMA_BUILD", ROOT / "build"))
NORMA = BUILD / "norma"
TYPES = ["f32", "f64", "f16", "bf16"]

# Half a unit in the last place, relative: what rounding a result once costs.
HALF_ULP = {"f64": 0, "f32": 0, "f16": 2.0**-11, "bf16": 2.0**-8}
# The smallest difference of two numbers of the type, which is what rounding costs near 0.
TINY = {"f64": 0, "f32": 0, "f16": 2.0**-25, "bf16": 0}


def norma(*arguments, **options):
    """Runs `norma apply` and returns the finished process."""
    return subprocess.run([NORMA, "apply", *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


def apply(*arguments, **options):
    """Runs `norma apply`, which must succeed, and returns what it printed."""
    done = norma(*arguments, **options)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------------------ files


def bfloat16(values):
    """float32 numbers rounded to bfloat16 (to nearest, ties to even), as 16-bit patterns."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def stored(values, kind):
    """The array that a file of this type holds; bfloat16 as NumPy sees it: two bytes without meaning, 'V2'."""
    if kind == "bf16":
        return bfloat16(values).view("V2")
    return np.asarray(values).astype({"f32": "<f4", "f64": "<f8", "f16": "<f2"}[kind])


def numbers(array):
    """The values of a stored array, exactly."""
    if array.dtype == np.dtype("V2"):
        array = (array.copy().view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.longdouble)


def kind_of(array):
    return {"<f4": "f32", "<f8": "f64", "<f2": "f16", "|V2": "bf16"}[array.dtype.str]


def save(path, values, kind="f32", order="C"):
    """Writes an .npy file; returns the values as they were stored."""
    array = stored(values, kind)
    np.save(path, np.asfortranarray(array) if order == "F" else np.ascontiguousarray(array))
    return numbers(array)


# --------------------------------------------------------------------------------------------------------- formulas


class Result:
    """Forward and backward of one layer. `share`: the axes of x that share a mean; gamma and beta broadcast to x."""

    def __init__(self, x, share, gamma=1.0, beta=0.0, eps=1e-5, ddof=0, rms=False, given=None, dy=None):
        keep = {"axis": share, "keepdims": True}
        m = np.prod([x.shape[axis] for axis in share])
        if given is not None:
            self.mean, self.var = given
        else:
            self.mean = np.zeros(()) if rms else x.mean(**keep)
            self.var = ((x - self.mean) ** 2).sum(**keep) / (m - ddof)
        self.rstd = 1 / np.sqrt(self.var + eps)
        self.xhat = (x - self.mean) * self.rstd
        self.y = self.xhat * gamma + beta
        self.size = np.abs(self.xhat * gamma) + np.abs(beta)  # what the error bound of y is relative to
        if dy is None:
            return
        q = dy * gamma
        if given is not None:
            self.dx = self.rstd * q
        else:
            along_mean = 0 if rms else q.sum(**keep) / m
            self.dx = self.rstd * (q - along_mean - self.xhat * (q * self.xhat).sum(**keep) / (m - ddof))
        self.dgamma_terms, self.dbeta_terms = dy * self.xhat, np.broadcast_to(dy, x.shape)

    def gradients(self, affine):
        """dgamma and dbeta, which change along the axes `affine` of x."""
        others = tuple(i for i in range(self.dgamma_terms.ndim) if i not in affine)
        return self.dgamma_terms.sum(axis=others), self.dbeta_terms.sum(axis=others)


def adain(content, style, alpha=1.0, eps=1e-5, style_eps=1e-5, ddof=0, style_ddof=0):
    space = tuple(range(2, content.ndim))
    keep = {"axis": space, "keepdims": True}
    sigma = np.sqrt(style.var(ddof=style_ddof, **keep) + style_eps)
    xhat = (content - content.mean(**keep)) / np.sqrt(content.var(ddof=ddof, **keep) + eps)
    return alpha * (xhat * sigma + style.mean(**keep)) + (1 - alpha) * content


# ----------------------------------------------------------------------------------------------------------- bounds


def check_values(stored_result, exact, size, kind):
    """y against the bound of norma.h; `size` is |gamma xhat| + |beta|."""
    bound = 1e-14 * (size + 1) if kind == "f64" else 5e-7 * size + 1e-12
    bound = bound + HALF_ULP[kind] * np.abs(exact) + TINY[kind]
    assert kind_of(stored_result) == kind
    error = np.abs(numbers(stored_result) - exact)
    assert (error <= bound).all(), f"largest error {error.max()}, {(error / bound).max()} of its bound"


def check_gradient(stored_result, exact, largest_term, kind):
    """A gradient: relative to the largest of the tensor and to the largest term of its sums."""
    if kind == "f64":
        bound = 1e-12 * (np.abs(exact).max() + largest_term)
    else:
        bound = 1e-5 * np.abs(exact).max() + 1e-7 * largest_term
    bound = bound + HALF_ULP[kind] * np.abs(exact) + TINY[kind]
    assert kind_of(stored_result) == kind
    error = np.abs(numbers(stored_result) - exact)
    assert (error <= bound).all(), f"largest error {error.max()}, {(error / bound).max()} of its bound"
