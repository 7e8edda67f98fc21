"""Documents as vectors: which are alike by cosine, and which few say most between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdata.similarity.hashing import IntArray
from prefdata.similarity.near import MOST_PAIRS, Near

Vectors = NDArray[np.floating[Any]]
FloatArray = NDArray[np.float64]

_BLOCK = 1024


def unit(vectors: Vectors) -> NDArray[np.float32]:
    """The vectors, each of length 1.

    Raises:
        ValueError: one is not finite, or has no length.
    """
    given = np.asarray(vectors, dtype=np.float64)
    if given.ndim != 2:
        raise ValueError(f"vectors are rows of one table, not an array of {given.ndim} dimensions")
    length = np.sqrt((given**2).sum(axis=1, keepdims=True))
    if not (np.isfinite(given).all() and (length > 0).all()):
        raise ValueError("a vector is not finite, or has no length: its direction is not known")
    return np.asarray(given / length, dtype=np.float32)


def near_vectors(vectors: Vectors, threshold: float = 0.92) -> Near:
    """Which documents have vectors of at least this cosine; every pair is compared, block by block.

    Args:
        vectors: one for each document. [n, dimensions]
        threshold: in (-1, 1].

    Raises:
        ValueError: see `unit`; the threshold is out of range, or more pairs reach it than can be listed.
    """
    if not -1 < threshold <= 1:
        raise ValueError(f"a cosine is above -1 and at most 1, not {threshold}")
    rows = unit(vectors)
    count = len(rows)
    _, first, of = np.unique(rows, axis=0, return_index=True, return_inverse=True) if count else (rows, [], [])
    same = np.asarray(first, dtype=np.int64)[np.asarray(of, dtype=np.int64).ravel()] if count else np.arange(0)
    own = np.flatnonzero(same == np.arange(count))
    distinct = rows[own]
    found: list[tuple[IntArray, IntArray, FloatArray]] = []
    total = 0
    for start in range(0, len(own), _BLOCK):
        cosines = distinct[start : start + _BLOCK] @ distinct[start:].T
        a, b = np.nonzero(cosines >= threshold - 1e-6)  # of single precision
        later = b > a
        a, b = a[later], b[later]
        total += len(a)
        if total > MOST_PAIRS:
            raise ValueError(
                f"more than {MOST_PAIRS:,} pairs have a cosine of {threshold} or more: raise the threshold"
            )
        found.append((own[start + a], own[start + b], np.minimum(cosines[a, b].astype(np.float64), 1.0)))
    left, right, similarity = (
        np.concatenate([each[place] for each in found]) if found else np.zeros(0, dtype=kind)
        for place, kind in enumerate((np.int64, np.int64, np.float64))
    )
    return Near(same, left, right, similarity, "cosine")


def diverse(quality: FloatArray, vectors: Vectors, count: int, balance: float = 0.5) -> IntArray:
    """A budget spent on what is good and unlike what was taken: greedy maximal marginal relevance.

    Next comes the one with the largest `balance * quality - (1 - balance) * (largest cosine with those taken)`, the
    first one of several; at first the best (Carbonell and Goldstein 1998).

    Args:
        quality: of each document; on the scale of a cosine, or `balance` means little. [n]
        vectors: of each document. [n, dimensions]
        count: how many to take.
        balance: 1 looks at quality alone, 0 at difference alone.

    Returns:
        Their places in the order in which they are taken; [min(count, n)].

    Raises:
        ValueError: see `unit`; a quality is not finite, or balance is not in [0, 1].
    """
    good = np.asarray(quality, dtype=np.float64)
    if not 0 <= balance <= 1:
        raise ValueError(f"balance lies in [0, 1], not {balance}")
    if not np.isfinite(good).all():
        raise ValueError("a quality is not a finite number")
    rows = unit(vectors) if len(good) else np.zeros((0, 1), dtype=np.float32)
    nearest = np.full(len(good), -np.inf)
    free = np.ones(len(good), dtype=bool)
    taken: list[int] = []
    for _ in range(min(count, len(good))):
        worth = balance * good - ((1 - balance) * nearest if taken else 0.0)
        place = int(np.argmax(np.where(free, worth if taken else good, -np.inf)))
        taken.append(place)
        free[place] = False
        nearest = np.maximum(nearest, rows @ rows[place])
    return np.asarray(taken, dtype=np.int64)
