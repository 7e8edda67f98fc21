"""Rank correlations, with ties."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.estimate import Estimate, normal_quantile

FloatArray = NDArray[np.float64]


def midranks(values: ArrayLike) -> FloatArray:
    """[n] ranks from 1, smallest first; equal values share the mean of their ranks."""
    x = _vector(values)
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: FloatArray = (last - (counts - 1) / 2)[inverse]
    return ranks


def spearman(x: ArrayLike, y: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Spearman's rho: Pearson's correlation of the mid-ranks.

    The interval is Fisher's, with the variance (1 + rho^2/2)/(n - 3) of atanh rho (Bonett and Wright, 2000).

    Args:
        x: [n] finite numbers.
        y: [n] finite numbers.
        confidence: of the interval, in (0, 1).

    Returns:
        value: in [-1, 1]; None for fewer than two points or where one side is constant. low and high are None there,
        with fewer than five points, and at -1 and 1, where this interval has no width and would claim too much.
    """
    a, b = _two(x, y)
    rho = _rho(a, b)
    return _with_ends(rho, len(a), confidence, 0.0 if rho is None else (1 + rho * rho / 2) / max(len(a) - 3, 1))


def _rho(a: FloatArray, b: FloatArray) -> float | None:
    if len(a) < 2:
        return None
    u, v = midranks(a), midranks(b)
    u, v = u - u.mean(), v - v.mean()
    spread = float(np.sqrt((u @ u) * (v @ v)))
    return None if spread == 0 else float(np.clip((u @ v) / spread, -1.0, 1.0))


def kendall_tau(x: ArrayLike, y: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Kendall's tau-b = (C - D) / sqrt((n0 - t_x)(n0 - t_y)), in O(n log n).

    C and D count concordant and discordant pairs, n0 all pairs, t_x and t_y the pairs tied in x and in y. The interval
    is Fisher's, with the variance 0.437/(n - 4) of atanh tau (Fieller, Hartley and Pearson, 1957).

    Args:
        x: [n] finite numbers.
        y: [n] finite numbers.
        confidence: of the interval, in (0, 1).

    Returns:
        value: in [-1, 1]; None for fewer than two points or where one side is constant. low and high as in `spearman`.
    """
    a, b = _two(x, y)
    return _with_ends(_tau(a, b), len(a), confidence, 0.437 / max(len(a) - 4, 1))


def _with_ends(value: float | None, n: int, confidence: float, variance: float) -> Estimate:
    z = normal_quantile(confidence)
    if value is None or n < 5 or abs(value) >= 1:
        return Estimate(value, None, None, n)
    middle, half = np.arctanh(value), z * np.sqrt(variance)
    return Estimate(value, float(np.tanh(middle - half)), float(np.tanh(middle + half)), n)


def _tau(a: FloatArray, b: FloatArray) -> float | None:
    _, u = np.unique(a, return_inverse=True)
    _, v = np.unique(b, return_inverse=True)
    pairs = len(a) * (len(a) - 1) // 2
    tied_x, tied_y = _tied(u), _tied(v)
    if pairs in (tied_x, tied_y):
        return None
    tied_both = _tied(u * (int(v.max()) + 1) + v)
    discordant = _inversions(v[np.lexsort((v, u))])
    difference = pairs - tied_x - tied_y + tied_both - 2 * discordant
    return float(difference / np.sqrt(float(pairs - tied_x) * float(pairs - tied_y)))


def _tied(codes: NDArray[np.int64]) -> int:
    counts = np.unique(codes, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def _inversions(codes: NDArray[np.int64]) -> int:
    """How many pairs i < j have codes[i] > codes[j], for codes >= 0.

    Two codes first differ in one bit, highest first: among the codes that agree above a bit, each 1 that stands before
    a 0 in that bit is one inversion.
    """
    total = 0
    order = codes
    for bit in range(int(codes.max(initial=0)).bit_length() - 1, -1, -1):
        order = order[np.argsort(order >> (bit + 1), kind="stable")]
        above, one = order >> (bit + 1), (order >> bit) & 1
        ones_before = np.cumsum(one) - one
        starts = np.flatnonzero(np.r_[True, above[1:] != above[:-1]])
        block = np.repeat(starts, np.diff(np.r_[starts, len(order)]))
        total += int((ones_before - ones_before[block])[one == 0].sum())
    return total


def _vector(values: ArrayLike) -> FloatArray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"one list of numbers is needed, not an array of shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("a value is missing or infinite: leave such points out first")
    return x


def _two(x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = _vector(x), _vector(y)
    if len(a) != len(b):
        raise ValueError(f"two lists of one length are needed; they have {len(a)} and {len(b)} numbers")
    return a, b
