"""How far two annotators agree: Cohen's kappa, and agreement on the order of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.coding import FloatArray, IntArray, codes, listed, missing, ordered
from prefdata.stats.estimate import Agreement
from prefdata.stats.intervals import check_confidence, percentile_interval

_BLOCK = 1 << 21
"""So many cells of resampled tables are held at once."""


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
    given = _Couple.of(a, b, categories, units)
    if given is None:
        return Agreement(None, None, None, 0, None)
    value, same = given.kappa(weights), float((given.cell // given.size == given.cell % given.size).mean())
    if np.isnan(value):
        return Agreement(None, None, None, len(given.cell), same)
    ends = percentile_interval(given.resampled(weights, resamples, seed), resamples, confidence) if resamples else None
    low, high = ends or (None, None)
    return Agreement(value, low, high, len(given.cell), same)


def kappas(tables: FloatArray, weights: Literal["linear", "quadratic"] | None = None) -> FloatArray:
    """Kappa of each of [r, k, k] tables; NaN where it is undefined."""
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
        cell: [n] first category times size, plus the second.
        size: how many categories there are.
        unit: [n] of each, or None.
    """

    cell: IntArray
    size: int
    unit: Sequence[Any] | NDArray[Any] | None

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
        return cls(cell, len(known), None if unit is None else [unit[n] for n in kept])

    @classmethod
    def _of_arrays(cls, left: NDArray[Any], right: NDArray[Any], unit: Any) -> _Couple | None:
        """The same of numbers, without a step for each."""
        there = ~(np.isnan(left) | np.isnan(right))
        if not there.all():
            left, right = left[there], right[there]
            unit = None if unit is None else [one for one, kept in zip(unit, there.tolist(), strict=True) if kept]
        if not len(left):
            return None
        known = np.union1d(np.unique(left), np.unique(right))
        cell = np.searchsorted(known, left) * len(known) + np.searchsorted(known, right)
        return cls(cell.astype(np.int64), len(known), unit)

    def kappa(self, weights: Literal["linear", "quadratic"] | None) -> float:
        """Kappa of the whole table; NaN where it is undefined."""
        table = np.bincount(self.cell, minlength=self.size**2).reshape(1, self.size, self.size)
        return float(kappas(table.astype(np.float64), weights)[0])

    def resampled(self, weights: Literal["linear", "quadratic"] | None, resamples: int, seed: int) -> FloatArray:
        """Kappa of each draw of units where it is defined; none with fewer than two units."""
        # Units with equal tables are drawn together: a few patterns in place of many units.
        cells, dense = np.unique(self.cell, return_inverse=True)
        if self.unit is None:
            # In the order that np.unique gives: a unit by itself and the same unit named draw the same.
            count, patterns = len(self.cell), np.eye(len(cells), dtype=np.int64)[::-1]
            times = np.bincount(dense)[::-1]
        else:
            of, count = codes(self.unit)
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
    """
    left, right = np.sign(np.asarray(a, dtype=np.float64)), np.sign(np.asarray(b, dtype=np.float64))
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"two lists of one length are needed; they are {left.shape} and {right.shape}")
    if np.isnan(left).any() or np.isnan(right).any():
        raise ValueError("a margin is missing: leave such pairs out first")
    n = len(left)
    if n == 0:
        return Agreement(None, None, None, 0, None)
    unit = np.arange(n) if units is None else codes(np.asarray(units).tolist())[0]
    verdict = (left + 1).astype(np.int64) * 3 + (right + 1).astype(np.int64)
    turned = 8 - verdict
    size = int(unit.max()) + 1
    counts = np.bincount(unit * 9 + verdict, minlength=size * 9) + np.bincount(unit * 9 + turned, minlength=size * 9)
    # Units with equal tables are drawn together: a few patterns in place of many units.
    patterns, times = np.unique(counts.reshape(size, 9), axis=0, return_counts=True)
    kappa = float(kappas(patterns.T.dot(times).reshape(1, 3, 3).astype(np.float64))[0])
    interval = None
    if size > 1:
        drawn = np.random.default_rng(seed).multinomial(size, times / size, size=resamples)
        values = kappas((drawn @ patterns).reshape(resamples, 3, 3).astype(np.float64))
        interval = percentile_interval(values[~np.isnan(values)], resamples, confidence)
    return Agreement(
        n=n,
        percent=float((left == right).mean()),
        value=None if np.isnan(kappa) else kappa,
        low=interval[0] if interval and not np.isnan(kappa) else None,
        high=interval[1] if interval and not np.isnan(kappa) else None,
    )
