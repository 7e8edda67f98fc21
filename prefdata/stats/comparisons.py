"""Comparisons of contestants two by two: checked, and counted into cells, since what repeats is computed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import LARGEST, check_magnitude, checked_count
from prefdata.stats.coding import codes, missing

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

TABLE_LIMIT = 1024
"""With up to so many contestants, comparisons are counted into a square table; otherwise pairs are looked up."""

_BLOCK = 1 << 18
_PLAIN = 1 << 16
_KINDS = 64
_SAMPLE = 2048


@dataclass(frozen=True)
class Rows:
    """Comparisons as they were given, checked.

    Attributes:
        first: [m] integers (of any width): the winners.
        second: [m] the losers.
        n: how many contestants.
        p: [m] P(first is better), or None where each is 1.
        weights: [m], or None where each is 1.
        covariates: [m, k] of the first minus the second; k may be 0.
        clusters: [m] the cluster of each row as a number, or None.
    """

    first: NDArray[np.integer]
    second: NDArray[np.integer]
    n: int
    p: FloatArray | None
    weights: FloatArray | None
    covariates: FloatArray
    clusters: IntArray | None

    @property
    def w(self) -> FloatArray:
        """[m] weights."""
        return np.ones(len(self.first)) if self.weights is None else self.weights

    @property
    def y(self) -> FloatArray:
        """[m] outcomes."""
        return np.ones(len(self.first)) if self.p is None else self.p


@dataclass(frozen=True)
class Cells:
    """Comparisons of the same two contestants with the same covariates, added up.

    Attributes:
        n: how many contestants.
        first: [e].
        second: [e].
        win: [e] weight of the rows that the first won. A soft outcome p is p here and 1 - p in `loss`.
        tie: [e] weight of the rows with p = 1/2 exactly.
        loss: [e] weight of the rows that the second won.
        squares: [3, e] sums of squared weights of these three; without the rows that are in `soft`.
        soft: [3, e] sums of w^2, w^2 p and w^2 p^2 of the rows with other soft outcomes; None without one.
        covariates: [e, k].
    """

    n: int
    first: IntArray
    second: IntArray
    win: FloatArray
    tie: FloatArray
    loss: FloatArray
    squares: FloatArray
    soft: FloatArray | None
    covariates: FloatArray

    @property
    def weight(self) -> FloatArray:
        """[e] of all outcomes."""
        return self.win + self.tie + self.loss


def checked_rows(
    winners: ArrayLike,
    losers: ArrayLike,
    weights: ArrayLike | None,
    p: ArrayLike | None,
    n: int | None,
    covariates: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> Rows:
    """What was given, as arrays.

    Raises:
        ValueError: arrays of different lengths, an index out of range, a weight, a probability or a covariate that is
            none, or no contestant.
    """
    a, b = np.asarray(winners), np.asarray(losers)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"winners and losers must be two lists of one length; they are {a.shape}, {b.shape}")
    if len(a) and not (np.issubdtype(a.dtype, np.integer) and np.issubdtype(b.dtype, np.integer)):
        raise ValueError("winners and losers must be integers, the positions of the contestants")
    if not len(a):
        a, b = a.astype(np.int64), b.astype(np.int64)
    top = int(max(a.max(), b.max())) if len(a) else -1
    size = checked_count(n, "n") if n is not None else top + 1
    if size < 1:
        raise ValueError("there is no contestant: no comparison was given, and no n")
    if len(a) and (min(a.min(), b.min()) < 0 or top >= size):
        raise ValueError(f"winners and losers must lie in [0, {size})")
    y = None if p is None else np.asarray(p, dtype=np.float64)
    w = None if weights is None else np.asarray(weights, dtype=np.float64)
    if (y is not None and y.shape != a.shape) or (w is not None and w.shape != a.shape):
        raise ValueError(f"p and weights must have one entry for each of the {len(a)} comparisons")
    if y is not None and not ((y >= 0) & (y <= 1)).all():
        raise ValueError("p must lie in [0, 1]: it is the probability that the winner is better")
    if w is not None and not ((w >= 0) & np.isfinite(w)).all():
        raise ValueError("weights must be finite and not negative")
    if w is not None and (((w > 0) & (w < 1 / LARGEST)) | (w > LARGEST)).any():
        raise ValueError(f"a weight is below {1 / LARGEST:g} or above {LARGEST:g}: its square cannot be represented")
    return Rows(a, b, int(size), y, w, _columns(covariates, len(a)), _clusters(clusters, len(a)))


def cells_of(rows: Rows, *, merge: bool = True) -> Cells:
    """Count rows into cells.

    Args:
        rows: checked.
        merge: False makes each row a cell of its own.

    Raises:
        ValueError: a contestant against itself.
    """
    size = rows.n
    looked_up = size > TABLE_LIMIT or size * size > 8 * len(rows.first)
    plain = rows.p is None and rows.weights is None and not (looked_up or rows.covariates.shape[1] or not merge)
    table = _table(rows) if plain else None
    if table is None or table[0].trace():  # a plain table tells by its diagonal
        same = rows.first == rows.second
        if same.any():
            raise ValueError(f"comparison {int(np.argmax(same))} is of a contestant with itself")
    if rows.covariates.shape[1] or not merge:
        return _with_covariates(rows, merge)
    if looked_up:
        return _looked_up(rows)
    table = _table(rows) if table is None else table
    upper, lower = np.triu_indices(size, 1)
    here, there = table[:, upper, lower], table[:, lower, upper]
    met = here[:3].any(axis=0) | there[:3].any(axis=0)
    here, there = here[:, met], there[:, met]
    return _made(rows, upper[met], lower[met], here, there, np.zeros((int(met.sum()), 0)))


def _table(rows: Rows) -> FloatArray:
    """[6] or [9, n, n] the sums of `_counted`, a block of rows at a time, so that keys take little memory."""
    size, block = rows.n, max(_BLOCK, 4 * rows.n**2)
    out = np.zeros((6, size * size))
    if rows.p is None and rows.weights is None:
        out[0] = out[3] = _plain_table(rows)
        return out.reshape(-1, size, size)
    for start in range(0, len(rows.first), block):
        part = slice(start, start + block)
        # n^2 is far below 2^31, so that keys of 32 bits do.
        key = rows.first[part].astype(np.int32)
        key *= size
        key += rows.second[part].astype(np.int32, copy=False)
        p = None if rows.p is None else rows.p[part]
        weights = None if rows.weights is None else rows.weights[part]
        found = _counted(key, p, weights, size * size)
        if len(found) > len(out):
            out = np.concatenate([out, np.zeros((len(found) - len(out), size * size))])
        out[: len(found)] += found
    return out.reshape(-1, size, size)


def _plain_table(rows: Rows) -> IntArray:
    """[n * n] how often the first beat the second."""
    size, block = rows.n, max(_PLAIN, 4 * rows.n**2)
    out = np.zeros(size * size, dtype=np.int64)
    # One buffer of the width that counting asks for: making a new one for each block costs as much as the counting.
    keys = np.empty(min(block, len(rows.first)), dtype=np.int64)
    for start in range(0, len(rows.first), block):
        first = rows.first[start : start + block]
        key = keys[: len(first)]
        np.multiply(first, size, out=key, dtype=np.int64, casting="unsafe")
        np.add(key, rows.second[start : start + block], out=key, casting="unsafe")
        out += np.bincount(key, minlength=size * size)
    return out


def _counted(
    key: NDArray[np.int32] | IntArray, p: FloatArray | None, weights: FloatArray | None, size: int
) -> FloatArray:
    """[3], [6] or [9, size] sums for each key: weights of wins, ties, losses; their squares; the soft ones."""
    if p is None:
        won = np.bincount(key, weights=weights, minlength=size).astype(np.float64)
        out = np.zeros((6, size))
        out[0] = won
        out[3] = won if weights is None else np.bincount(key, weights=weights**2, minlength=size)
        return out
    double = 2 * p
    code = double.astype(np.int8)
    hard = bool((code == double).all())
    if hard and weights is None:
        # One pass for all three outcomes: 2p is 2 for a win, 1 for a tie, 0 for a loss.
        counts = np.bincount(np.subtract(2, code, dtype=np.int32) * np.int32(size) + key, minlength=3 * size).astype(
            np.float64
        )
        return np.concatenate([counts, counts]).reshape(6, size)
    w, y = (np.ones(len(p)) if weights is None else weights), p
    tie, soft = y == 0.5, code != double
    win = np.where(tie, 0.0, w * y)
    parts = [win, np.where(tie, w, 0.0), np.where(tie, 0.0, w * (1 - y))]
    parts += [np.where((y == 1) & ~soft, w**2, 0.0), np.where(tie, w**2, 0.0), np.where(y == 0, w**2, 0.0)]
    if not hard:
        square = np.where(soft, w**2, 0.0)
        parts += [square, square * y, square * y**2]
    return np.stack([np.bincount(key, weights=part, minlength=size) for part in parts])


def _made(
    rows: Rows, first: IntArray, second: IntArray, here: FloatArray, there: FloatArray, covariates: FloatArray
) -> Cells:
    """Cells of unordered pairs, from the sums in both directions (rows as in `_counted`)."""
    both = here + there[[2, 1, 0, 5, 4, 3, *range(6, len(there))]]
    soft = None
    if len(both) > 6:
        # Seen from the other side an outcome p is 1 - p.
        q0, q1, q2 = there[6:]
        soft = here[6:] + np.stack([q0, q0 - q1, q0 - 2 * q1 + q2])
    return Cells(
        rows.n, first.astype(np.int64), second.astype(np.int64), both[0], both[1], both[2], both[3:6], soft, covariates
    )


def _looked_up(rows: Rows) -> Cells:
    """Cells of few pairs among many contestants."""
    a, b = rows.first.astype(np.int64), rows.second.astype(np.int64)
    turned = a > b
    pairs, key = np.unique(np.where(turned, b * rows.n + a, a * rows.n + b), return_inverse=True)
    table = _counted(key + turned * len(pairs), rows.p, rows.weights, 2 * len(pairs))
    table = table.reshape(len(table), 2, len(pairs))
    return _made(rows, pairs // rows.n, pairs % rows.n, table[:, 0], table[:, 1], np.zeros((len(pairs), 0)))


def _with_covariates(rows: Rows, merge: bool) -> Cells:
    """Cells of pair, order and covariates; where hardly any row repeats, each row is its own cell."""
    kinds = _kinds(rows.covariates) if merge else None
    first, second = rows.first.astype(np.int64), rows.second.astype(np.int64)
    if kinds is None:
        table = _counted(np.arange(len(first)), rows.p, rows.weights, len(first))
        known = rows.covariates
    else:
        of, distinct = kinds
        key = (of * rows.n + first) * rows.n + second
        if rows.n <= TABLE_LIMIT and len(distinct) * rows.n**2 <= 4 * len(key):
            pairs, key = np.arange(len(distinct) * rows.n**2), key
        else:
            pairs, key = np.unique(key, return_inverse=True)
        table = _counted(key, rows.p, rows.weights, len(pairs))
        met = table[:3].any(axis=0)
        pairs, table = pairs[met], table[:, met]
        first, second = pairs // rows.n % rows.n, pairs % rows.n
        known = distinct[pairs // rows.n**2]
    soft = table[6:] if len(table) > 6 else None
    return Cells(rows.n, first, second, table[0], table[1], table[2], table[3:6], soft, known)


def place_of_rows(rows: Rows, cells: Cells) -> tuple[IntArray, NDArray[np.bool_]]:
    """[m] which cell each row is in, and whether it is turned round there; for cells without covariates.

    A row without weight may have no cell; it is given any.
    """
    a, b = rows.first.astype(np.int64), rows.second.astype(np.int64)
    turned = a > b
    known = cells.first * rows.n + cells.second  # sorted, by the way cells are made
    place = np.searchsorted(known, np.where(turned, b * rows.n + a, a * rows.n + b))
    return np.minimum(place, len(known) - 1), turned


def _kinds(covariates: FloatArray) -> tuple[IntArray, FloatArray] | None:
    """Each row's kind and the distinct rows, where there are few (a position, a flag); None where there are many."""
    rows = np.ascontiguousarray(covariates)
    distinct = np.unique(rows[:: max(1, len(rows) // _SAMPLE)][: 2 * _SAMPLE], axis=0)
    if len(distinct) > min(_KINDS, max(len(rows) // 8, 1)):
        return None
    of = np.full(len(rows), -1, dtype=np.int64)
    for number, one in enumerate(distinct):
        of[(rows == one).all(axis=1)] = number
    return None if (of < 0).any() else (of, distinct)


def _columns(covariates: ArrayLike | None, length: int) -> FloatArray:
    if covariates is None:
        return np.zeros((length, 0))
    x = np.asarray(covariates, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or len(x) != length:
        raise ValueError(f"covariates must have one row for each of the {length} comparisons; they are {x.shape}")
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0].tolist()
        raise ValueError(f"covariate {column} of comparison {row} is missing or infinite: leave such rows out first")
    check_magnitude(x, "a covariate")
    return np.asfortranarray(x)  # they are used column by column


def _clusters(clusters: ArrayLike | None, length: int) -> IntArray | None:
    if clusters is None:
        return None
    named = np.asarray(clusters)
    if named.shape != (length,):
        raise ValueError(f"clusters must have one entry for each of the {length} comparisons; they are {named.shape}")
    if named.dtype.kind in "fO":
        lost = next((row for row, one in enumerate(named.tolist()) if missing(one)), None)
        if lost is not None:
            raise ValueError(
                f"comparison {lost} has no cluster: leave such rows out, or give each a cluster of its own"
            )
    of: IntArray
    if named.dtype.kind in "iu" and len(named) and named.min() >= 0 and named.max() < 4 * len(named):
        # Numbers that can be counted need not be sorted.
        known = np.bincount(named) > 0
        of, count = np.asarray((np.cumsum(known) - 1)[named], dtype=np.int64), int(known.sum())
    else:
        of, count = codes(named if named.dtype.kind in "iuf" else named.tolist())
    if count < 2:
        raise ValueError("all comparisons are in one cluster: how far clusters differ cannot be seen from one")
    return of
