"""Which ranks are compatible with estimates: simultaneous intervals of all differences, and sets of ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import checked_count, checked_numbers
from prefdata.stats.intervals import check_confidence

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_BLOCK = 4_000_000


@dataclass(frozen=True)
class RankSets:
    """Ranks, 1 the best.

    Attributes:
        values: [n] ranks of the estimates themselves; equal estimates share the mean of their ranks.
        low: [n] 1 and how many are certainly better.
        high: [n] n less how many are certainly worse.
        critical: how many standard errors a difference must have to be certain: the `confidence` quantile of the
            largest of all standardised differences.
        certain: [n, n] whether the first is certainly better than the second, all such statements together being true
            with probability `confidence`.
    """

    values: FloatArray
    low: IntArray
    high: IntArray
    critical: float
    certain: NDArray[np.bool_]


def rank_sets(
    values: ArrayLike, covariance: ArrayLike, *, confidence: float = 0.95, draws: int = 4000, seed: int = 0
) -> RankSets:
    """Rank sets that hold for all at once.

    The largest of all |z_i - z_j|/se_ij with z normal of this covariance is simulated (Hothorn, Bretz and Westfall,
    2008, single-step max-t); i is certainly above j where their difference exceeds its quantile times se_ij. The true
    rank of every one lies in [low, high] with at least this probability together (Mogstad, Romano, Shaikh and Wilhelm,
    2024).

    Args:
        values: [n] estimates, higher is better.
        covariance: [n, n] of them; of differences only, so that any shift of all may be fixed.
        confidence: in (0, 1).
        draws: how many are simulated.
        seed: of the draws.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, or no covariance.
    """
    check_confidence(confidence)
    x, c = np.asarray(values, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    n = len(x)
    if x.ndim != 1 or c.shape != (n, n) or not n:
        raise ValueError(f"n values and their n x n covariance are needed; they are {x.shape} and {c.shape}")
    checked_numbers(x, "a value")
    checked_numbers(c, "a covariance")
    if np.abs(c - c.T).max() > 1e-8 * np.abs(c).max() or (np.diag(c) < 0).any():
        raise ValueError("a covariance is symmetric, and no variance is negative")
    draws = checked_count(draws, "draws", 1)
    own = np.diag(c)
    variance = own[:, None] + own[None, :] - 2 * c
    # A variance that is nothing but rounding of its parts is none.
    errors = np.sqrt(np.where(variance > 1e-13 * (own[:, None] + own[None, :]), variance, 0.0))
    critical = _critical(c, errors, confidence, draws, seed)
    apart = x[:, None] - x[None, :]
    certain = apart > critical * errors
    np.fill_diagonal(certain, False)
    above, same = (apart < 0).sum(axis=1), (apart == 0).sum(axis=1)
    return RankSets(above + (same + 1) / 2, 1 + certain.sum(axis=0), n - certain.sum(axis=1), critical, certain)


def _critical(covariance: FloatArray, errors: FloatArray, confidence: float, draws: int, seed: int) -> float:
    """The quantile of the largest standardised difference."""
    n = len(covariance)
    i, j = np.triu_indices(n, 1)
    used = errors[i, j] > 0
    i, j = i[used], j[used]
    if not len(i):
        return 0.0
    scale, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root = vectors * np.sqrt(np.clip(scale, 0.0, None))
    z = np.random.default_rng(seed).standard_normal((draws, n)) @ root.T
    largest = np.empty(draws)
    inverse = 1 / errors[i, j]
    rows = max(1, _BLOCK // len(i))
    for start in range(0, draws, rows):
        part = z[start : start + rows]
        largest[start : start + rows] = (np.abs(part[:, i] - part[:, j]) * inverse).max(axis=1)
    return float(np.quantile(largest, confidence))
