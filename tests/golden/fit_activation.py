#!/usr/bin/env python3
"""Prints the coefficients of src/kernels/activation.h. Needs numpy, scipy and mpmath."""
import mpmath
import numpy as np
from scipy.special import erfcx

FLOAT_SLOPE = float(np.float32(0.3))
DOUBLE_SLOPE, DOUBLE_TERMS = 0.375, 30


def minimax(basis, values, weight):
    """Lawson's iteration: least squares, with weights that grow where the error is large."""
    share, best = np.full(len(values), 1 / len(values)), (np.inf, None)
    for _ in range(500):
        scale = np.sqrt(share) * weight
        fit = np.linalg.lstsq(basis * scale[:, None], values * scale, rcond=None)[0]
        error = np.abs((basis @ fit - values) * weight)
        best = min(best, (error.max(), fit), key=lambda pair: pair[0])
        share = share * (error / error.max() + 1e-3)
        share /= share.sum()
    return best


def show(name, numbers, error):
    print(f"{name}: error {error:.3g}")
    print("  " + ", ".join(float(number).hex() for number in numbers))


def float_exp():
    """e^r = 1 + r + r^2 (c0 + c1 r + ...), |r| <= ln(2)/2, relative error."""
    r = np.cos(np.linspace(0, np.pi, 4001)) * 0.5 * np.log(2) * 1.0005
    error, fit = minimax(np.stack([r**k for k in range(2, 7)], 1), np.expm1(r) - r, np.exp(-r))
    show("exp, float", fit.astype(np.float32), error * 2**24)


def float_tail():
    """erfcx(t/sqrt(2))/2 = s (c0 + c1 s + ...), s = 1/(1 + 0.3 t); the error of t e^(-t^2/2) times it is measured in
    units of that product plus min(t, 1)/16."""
    t = np.concatenate([np.linspace(1e-6, 4, 4000), np.linspace(4, 13.25, 1000)])
    tail, s = erfcx(t / np.sqrt(2)) / 2, 1 / (1 + FLOAT_SLOPE * t)
    product = t * np.exp(-t * t / 2) * tail
    weight = 1 / (tail * (1 + np.minimum(t, 1) / product / 16))
    error, fit = minimax(np.stack([s**k for k in range(1, 9)], 1), tail, weight)
    show("tail, float", fit.astype(np.float32), error * 2**24)


def double_tail():
    """The same quotient by s in Chebyshev polynomials of 2s - 1, s = 1/(1 + 0.375 t)."""
    mpmath.mp.dps = 40

    def quotient(s):
        t = (1 / s - 1) / mpmath.mpf(DOUBLE_SLOPE)
        x = t / mpmath.sqrt(2)
        scaled = mpmath.exp(x * x) * mpmath.erfc(x) if x < 50 else \
            (1 - 1 / (2 * x**2) + 3 / (4 * x**4) - 15 / (8 * x**6) + 105 / (16 * x**8)) / (x * mpmath.sqrt(mpmath.pi))
        return scaled / 2 / s

    n = 64
    angles = [mpmath.pi * (2 * i + 1) / (2 * n) for i in range(n)]
    values = [quotient((mpmath.cos(angle) + 1) / 2) for angle in angles]
    fit = [2 * sum(v * mpmath.cos(k * a) for v, a in zip(values, angles)) / n for k in range(n)]
    fit[0] /= 2
    show("tail, double", fit[:DOUBLE_TERMS], float(sum(abs(c) for c in fit[DOUBLE_TERMS:])) * 2**53)


float_exp()
float_tail()
double_tail()
