"""Differences of style as covariates of comparisons."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def style_features(first: ArrayLike, second: ArrayLike, *, scale: bool = True) -> FloatArray:
    """(a - b)/(a + b + 1) of counts such as tokens, headers, list entries and bold passages.

    FastChat's style control (Li, Angelopoulos and Chiang, 2024) standardises such columns with their mean; then equal
    style is not zero, and a constant advantage of the first side comes in unseen. Here columns are scaled and not
    centred, so that exchanging the sides negates them.

    Args:
        first: [m] or [m, k] counts of the first response (of the winner, for `bradley_terry`), not negative.
        second: the same of the second.
        scale: divide each column by its root mean square; a column of zeros stays.

    Returns:
        [m, k].

    Raises:
        ValueError: shapes that differ, or a count that is negative or not finite.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim not in (1, 2):
        raise ValueError(f"the counts of both sides must have one shape, [m] or [m, k]; they are {a.shape}, {b.shape}")
    if not ((a >= 0) & (b >= 0) & np.isfinite(a) & np.isfinite(b)).all():
        raise ValueError("counts must be finite and not negative")
    a, b = a.reshape(len(a), -1 if a.size else 1), b.reshape(len(b), -1 if b.size else 1)
    found: FloatArray = (a - b) / (a + b + 1)
    if scale and len(found):
        size = np.sqrt((found**2).mean(axis=0))
        found = found / np.where(size > 0, size, 1.0)
    return found
