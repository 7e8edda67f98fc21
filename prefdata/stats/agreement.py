"""How far two annotators agree: Cohen's kappa, and agreement on the order of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import check_magnitude, checked_count
from prefdata.stats.coding import FloatArray, IntArray, codes, listed, missing, ordered
from prefdata.stats.estimate import Agreement
from prefdata.stats.intervals import agreement_interval, check_confidence, percentile_interval

_BLOCK = 1 << 21
"""So many cells of resampled tables are held at once."""

_ROWS = 1 << 16
"""So many targets are counted at once."""

_SPAN = 256
"""Whole numbers in a range of at most so many are counted as they stand."""


def cohen_kappa(
    a: Iterable[Any],
    b: Iterable[Any],
    weights: Literal["linear", "quadratic"] | None = None,
    *,
    categories: Sequence[Any] | None = None,
    units: Iterable[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Cohen's kappa of two annotators: (p_o - p_e) / (1 - p_e) (Cohen, 1960; 1968 with weights).

    With weights, p is the mean of w_kl = 1 - |k - l|/(K - 1), or of 1 - (k - l)^2/(K - 1)^2, over positions k, l in the
    list of categories. Kappa is low where one category is much more frequent than the others: show `percent` beside it.
    The interval is the percentile bootstrap over units.

    Args:
        a: the first annotator's verdicts, one for each target.
        b: the second's, in the same order. Where one of the two is None or NaN, the target is left out.
        weights: None for categories without order.
        categories: all categories in their order; unless given, those that occur, sorted. Give them where weights
            are used and a middle category may be missing.
        units: [n] what is drawn as a whole, the prompt as a rule; each target by itself unless given.
        confidence: of the interval, in (0, 1).
        resamples: bootstrap draws; 0 for no interval.
        seed: of the draws; the result is the same for the same seed.

    Returns:
        value: in [-1, 1]; None where nothing is left or chance alone makes them agree always (both gave one category).
        low and high are None there, and with fewer than two units. n: the targets that both judged. percent: the share
        of those with equal verdicts.

    Raises:
        ValueError: lists of different lengths, a verdict that is not in `categories`, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    resamples = checked_count(resamples, "resamples")
    given = _Couple.of(a, b, categories, units)
    if given is None:
        return Agreement(None, None, None, 0, None)
    count = int(given.table.sum())
    value, same = given.kappa(weights), float(np.trace(given.table)) / count
    if np.isnan(value):
        return Agreement(None, None, None, count, same)
    ends = percentile_interval(given.resampled(weights, resamples, seed), resamples, confidence) if resamples else None
    drawn = count if given.unit is None else codes(given.unit)[1]
    low, high = agreement_interval(ends, value, given.table.sum(axis=0), drawn, confidence) or (None, None)
    return Agreement(value, low, high, count, same)


def kappas(tables: FloatArray, weights: Literal["linear", "quadratic"] | None = None) -> FloatArray:
    """Kappa of each of [r, k, k] tables; NaN where it is undefined.

    Raises:
        ValueError: no square tables, a number that is negative, missing or infinite, or unknown weights.
    """
    tables = np.asarray(tables, dtype=np.float64)
    if tables.ndim != 3 or tables.shape[1] != tables.shape[2]:
        raise ValueError(f"tables have a row and a column for each category; they are {tables.shape}")
    if not ((tables >= 0) & np.isfinite(tables)).all():
        raise ValueError("a table holds finite counts that are not negative")
    check_magnitude(tables, "a count")
    size = tables.shape[1]
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    if weights is None:
        distance = (distance > 0).astype(np.float64)
    elif weights == "quadratic":
        distance = distance**2
    elif weights != "linear":
        raise ValueError(f"weights must be None, 'linear' or 'quadratic', not {weights!r}")
    total = tables.sum(axis=(1, 2))
    by_chance = tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (by_chance * distance).sum(axis=(1, 2)) / total
        observed = (tables * distance).sum(axis=(1, 2))
        result: FloatArray = np.where(expected > 0, 1 - observed / expected, np.nan)
    return result


@dataclass(frozen=True)
class _Couple:
    """Two annotators' verdicts as cells of one table.

    Attributes:
        table: [size, size] how often the first gave one category and the second another.
        cell: [n] first category times size, plus the second; None where no unit was given.
        unit: [n] of each, or None.
    """

    table: IntArray
    cell: IntArray | None
    unit: Sequence[Any] | NDArray[Any] | None

    @property
    def size(self) -> int:
        """How many categories there are."""
        return len(self.table)

    @classmethod
    def of_cells(cls, cell: IntArray, size: int, unit: Sequence[Any] | NDArray[Any] | None) -> _Couple:
        """From the cell of each target."""
        table = np.bincount(cell, minlength=size**2).reshape(size, size)
        return cls(table, None if unit is None else cell, unit)

    @classmethod
    def of(
        cls,
        a: Iterable[Any],
        b: Iterable[Any],
        categories: Sequence[Any] | None,
        units: Iterable[Any] | None,
    ) -> _Couple | None:
        left, right = listed(a), listed(b)
        if len(left) != len(right):
            raise ValueError(
                f"two annotators of the same targets are needed; they gave {len(left)} and {len(right)} verdicts"
            )
        unit = None if units is None else listed(units)
        if unit is not None and len(unit) != len(left):
            raise ValueError(f"each of the {len(left)} verdicts needs its unit; there are {len(unit)}")
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray) and categories is None:
            return cls._of_arrays(left, right, unit)
        kept = [n for n, (u, v) in enumerate(zip(left, right, strict=True)) if not (missing(u) or missing(v))]
        if not kept:
            return None
        pairs = [(left[n], right[n]) for n in kept]
        known = list(categories) if categories is not None else ordered({value for pair in pairs for value in pair})
        code = {value: place for place, value in enumerate(known)}
        unknown = next((value for pair in pairs for value in pair if value not in code), None)
        if unknown is not None:
            raise ValueError(f"the verdict {unknown!r} is not among the categories {known}")
        cell = np.array([code[u] * len(known) + code[v] for u, v in pairs], dtype=np.int64)
        return cls.of_cells(cell, len(known), None if unit is None else [unit[n] for n in kept])

    @classmethod
    def _of_arrays(cls, left: NDArray[Any], right: NDArray[Any], unit: Any) -> _Couple | None:
        """The same of numbers, without a step for each."""
        if unit is None and left.dtype.kind in "iu" and right.dtype.kind in "iu" and len(left):
            table = _counted(left, right)
            if table is not None:
                return cls(table, None, None)
        there = ~(np.isnan(left) | np.isnan(right))
        if not there.all():
            left, right = left[there], right[there]
            unit = None if unit is None else [one for one, kept in zip(unit, there.tolist(), strict=True) if kept]
        if not len(left):
            return None
        known = np.union1d(np.unique(left), np.unique(right))
        cell = np.searchsorted(known, left) * len(known) + np.searchsorted(known, right)
        return cls.of_cells(cell.astype(np.int64), len(known), unit)

    def kappa(self, weights: Literal["linear", "quadratic"] | None) -> float:
        """Kappa of the whole table; NaN where it is undefined."""
        return float(kappas(self.table[None].astype(np.float64), weights)[0])

    def resampled(self, weights: Literal["linear", "quadratic"] | None, resamples: int, seed: int) -> FloatArray:
        """Kappa of each draw of units where it is defined; none with fewer than two units."""
        # Units with equal tables are drawn together: a few patterns in place of many units.
        flat = self.table.ravel()
        cells = np.flatnonzero(flat)
        if self.unit is None or self.cell is None:
            # In the order that np.unique gives: a unit by itself and the same unit named draw the same.
            count, patterns = int(flat.sum()), np.eye(len(cells), dtype=np.int64)[::-1]
            times = flat[cells][::-1]
        else:
            of, count = codes(self.unit)
            dense = np.searchsorted(cells, self.cell)
            counts = np.bincount(of * len(cells) + dense, minlength=count * len(cells)).reshape(count, len(cells))
            patterns, times = np.unique(counts, axis=0, return_counts=True)
        if count < 2:
            return np.zeros(0)
        draw, values, size = np.random.default_rng(seed), [], self.size
        for start in range(0, resamples, step := max(1, _BLOCK // (size * size))):
            drawn = draw.multinomial(count, times / count, size=min(step, resamples - start))
            tables = np.zeros((len(drawn), size * size))
            tables[:, cells] = drawn @ patterns
            values.append(kappas(tables.reshape(-1, size, size), weights))
        found = np.concatenate(values)
        return found[~np.isnan(found)]


def _counted(left: NDArray[Any], right: NDArray[Any]) -> IntArray | None:
    """The table of two columns of whole numbers, a block at a time; None where they lie too far apart for that."""
    low, high = int(min(left.min(), right.min())), int(max(left.max(), right.max()))
    span = high - low + 1
    if span > _SPAN or max(-low, high) > 1 << 60:
        return None
    made = np.zeros(span * span, dtype=np.int64)
    for start in range(0, len(left), _ROWS):
        part = slice(start, start + _ROWS)
        cell = left[part].astype(np.int64) - low
        cell *= span
        cell += right[part]
        made += np.bincount(cell - low, minlength=span * span)
    table = made.reshape(span, span)
    there = np.flatnonzero(table.sum(axis=0) + table.sum(axis=1))
    return table[np.ix_(there, there)]


def _patterns(verdict: IntArray, unit: IntArray | None) -> tuple[IntArray, IntArray]:
    """[p, 9] the different tables of units, each verdict counted both ways round, and [p] how many units have each.

    Units with equal tables are drawn together: a few patterns in place of many units.
    """
    if unit is None:  # nine kinds of units at most, which need not be sought among all
        of = np.bincount(verdict, minlength=9)
        kinds = np.eye(9, dtype=np.int64)
        kinds, place = np.unique((kinds + kinds[::-1])[of > 0], axis=0, return_inverse=True)
        return kinds, np.bincount(place.ravel(), weights=of[of > 0]).astype(np.int64)
    size = int(unit.max()) + 1
    both = np.bincount(unit * 9 + verdict, minlength=size * 9) + np.bincount(unit * 9 + 8 - verdict, minlength=size * 9)
    found, times = np.unique(both.reshape(size, 9), axis=0, return_counts=True)
    return found.astype(np.int64), times.astype(np.int64)


def order_agreement(
    a: ArrayLike,
    b: ArrayLike,
    units: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Agreement of two annotators on the order of pairs, with a bootstrap interval over units.

    Which response of a pair is called the first is arbitrary, so each pair is counted both ways round in kappa's table:
    the result does not change when pairs are turned.

    Args:
        a: [n] the first annotator's margin for each pair: > 0 the first response is better, < 0 the second, 0 a tie.
            Only the sign counts.
        b: [n] the second annotator's.
        units: [n] what is resampled as a whole, the prompt as a rule; each pair by itself unless given.
        confidence: of the interval of kappa.
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        value: Cohen's kappa of the verdicts first, tie, second; None where undefined. n: the pairs. percent: the share
        of equal verdicts.

    Raises:
        ValueError: lists of different lengths, a margin that is missing, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    resamples = checked_count(resamples, "resamples")
    left, right = np.sign(np.asarray(a, dtype=np.float64)), np.sign(np.asarray(b, dtype=np.float64))
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"two lists of one length are needed; they are {left.shape} and {right.shape}")
    if np.isnan(left).any() or np.isnan(right).any():
        raise ValueError("a margin is missing: leave such pairs out first")
    n = len(left)
    if units is not None and np.shape(units) != (n,):
        raise ValueError(f"each of the {n} pairs needs its unit; they are {np.shape(units)}")
    if n == 0:
        return Agreement(None, None, None, 0, None)
    verdict = (left + 1).astype(np.int64) * 3 + (right + 1).astype(np.int64)
    patterns, times = _patterns(verdict, None if units is None else codes(np.asarray(units).tolist())[0])
    size = int(times.sum())
    table = patterns.T.dot(times).reshape(3, 3).astype(np.float64)
    kappa = float(kappas(table[None])[0])
    interval = None
    if size > 1:
        drawn = np.random.default_rng(seed).multinomial(size, times / size, size=resamples)
        values = kappas((drawn @ patterns).reshape(resamples, 3, 3).astype(np.float64))
        interval = percentile_interval(values[~np.isnan(values)], resamples, confidence)
        interval = agreement_interval(interval, kappa, table.sum(axis=0), size, confidence)
    return Agreement(
        n=n,
        percent=float((left == right).mean()),
        value=None if np.isnan(kappa) else kappa,
        low=interval[0] if interval and not np.isnan(kappa) else None,
        high=interval[1] if interval and not np.isnan(kappa) else None,
    )
