"""Preferences that may run in circles, from vectors: the general preference model (Zhang et al., 2024)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.checking import check_magnitude
from prefdata.stats.coding import FloatArray
from prefdata.stats.logistic import sigmoid


def preference_scores(vectors: ArrayLike, gates: ArrayLike | None = None) -> FloatArray:
    """[n, n] s(i > j) = sum_b g_b (v_i[2b] v_j[2b+1] - v_i[2b+1] v_j[2b]): antisymmetric, and not always an order.

    Args:
        vectors: [n, 2k] of the responses; a length above 1 is confidence.
        gates: [k] weight of each block of two; 1 each unless given.

    Raises:
        ValueError: an odd width, a number that is missing or infinite, or gates that do not fit.
    """
    v = np.asarray(vectors, dtype=np.float64)
    if v.ndim != 2 or not v.size or v.shape[1] % 2 or not np.isfinite(v).all():
        raise ValueError(f"vectors must be finite and of even width; their shape is {v.shape}")
    g = np.ones(v.shape[1] // 2) if gates is None else np.asarray(gates, dtype=np.float64)
    if g.shape != (v.shape[1] // 2,) or not np.isfinite(g).all():
        raise ValueError(f"there must be one finite gate for each of the {v.shape[1] // 2} blocks")
    check_magnitude(v, "a vector's number")
    check_magnitude(g, "a gate")
    half = (v[:, 0::2] * g) @ v[:, 1::2].T
    made: FloatArray = half - half.T
    return made


def preference_probabilities(vectors: ArrayLike, gates: ArrayLike | None = None, *, scale: float = 1.0) -> FloatArray:
    """[n, n] P(i > j) = sigma(s(i > j) / scale).

    Args:
        vectors: see `preference_scores`.
        gates: likewise.
        scale: above 0; published: 1 for one block, 0.1 for more.
    """
    if not (scale > 0 and np.isfinite(scale)):
        raise ValueError(f"the scale must be finite and above 0; it is {scale}")
    return sigmoid(preference_scores(vectors, gates) / scale)
