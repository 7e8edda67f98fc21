"""One set of bootstrap draws for many numbers: of several judges at once, and of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import check_magnitude, checked_count
from prefdata.stats.coding import FloatArray, IntArray, codes
from prefdata.stats.intervals import check_confidence, percentile_interval, wilson_interval

MOST_UNITS = 2048
"""Beyond so many, units are drawn in blocks of several: two thousand blocks give the same interval."""


class Draws:
    """Draws of units (prompts) with repetition; every sum over rows is taken in all draws by one product.

    Rows of one unit are drawn together (Efron, 1979; Field and Welsh, 2007, on clusters). Numbers that come from one
    `Draws` belong together draw by draw, so the difference of two of them has its paired interval: what both judges
    find hard in a prompt cancels out.

    Attributes:
        n_units: how many units (or blocks of units) there are.
        unit: [n] the unit of each row, as a number.
        times: [resamples, n_units] how often each unit is in each draw.
    """

    def __init__(self, units: Sequence[Any] | NDArray[Any], *, resamples: int = 1000, seed: int = 0) -> None:
        """Draw.

        Args:
            units: [n] the unit of each row.
            resamples: how many draws.
            seed: of the draws; the result is the same for the same seed and the same order of rows.
        """
        self.unit, self.n_units = _blocks(units)
        self.resamples = resamples = checked_count(resamples, "resamples")
        share = np.full(max(self.n_units, 1), 1 / max(self.n_units, 1))
        self.times = np.random.default_rng(seed).multinomial(self.n_units, share, size=resamples).astype(np.float64)

    def sums(self, values: ArrayLike, rows: IntArray | None = None) -> tuple[FloatArray, FloatArray]:
        """The sum of each column over all rows, and over the rows of each draw.

        Args:
            values: [n, k], or [n] for one column.
            rows: [n] which rows these are values of; all of them in their order unless given.

        Returns:
            [k] and [resamples, k].
        """
        columns = np.asarray(values, dtype=np.float64)
        columns = columns[:, None] if columns.ndim == 1 else columns
        unit = self.unit if rows is None else self.unit[rows]
        size = max(self.n_units, 1)
        by_unit = np.column_stack([np.bincount(unit, weights=column, minlength=size) for column in columns.T])
        drawn: FloatArray = self.times @ by_unit
        return columns.sum(axis=0), drawn

    def ratio(self, top: ArrayLike, bottom: ArrayLike, rows: IntArray | None = None) -> tuple[float, FloatArray]:
        """sum(top)/sum(bottom), and the same in each draw; NaN where the bottom is 0.

        Args:
            top: [n].
            bottom: [n].
            rows: see `sums`.
        """
        both = np.column_stack([np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)])
        whole, drawn = self.sums(both, rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            values: FloatArray = drawn[:, 0] / drawn[:, 1]
            return float(whole[0] / whole[1]) if whole[1] else float("nan"), values

    def interval(self, drawn: FloatArray, confidence: float = 0.95) -> tuple[float, float] | None:
        """The percentile interval of a number from its draws.

        Args:
            drawn: [resamples]; NaN where the number is undefined.
            confidence: in (0, 1).

        Returns:
            (low, high); None with fewer than two units, or where most draws leave the number undefined.
        """
        check_confidence(confidence)
        if self.n_units < 2:
            return None
        return percentile_interval(drawn[~np.isnan(drawn)], self.resamples, confidence)

    def share_interval(
        self, share: float, drawn: FloatArray, units: int, confidence: float = 0.95
    ) -> tuple[float, float] | None:
        """The interval of a share, which is no point where it is 0 or 1.

        A bootstrap of units that are all right says that nothing can go wrong; then Wilson's interval over the units
        takes its place.

        Args:
            share: in [0, 1].
            drawn: [resamples] the share in each draw.
            units: how many units the share rests on.
            confidence: in (0, 1).
        """
        found = self.interval(drawn, confidence)
        if found is None or share != share:
            return None
        if share in (0.0, 1.0):
            return wilson_interval(share * units, units, confidence)
        return found


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    units: Sequence[Any],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float] | None:
    """The mean of a - b on the same rows, with its bootstrap interval over units.

    Args:
        a: [n] what the first judge earned on each row (1 right, 0.5 a tie, 0 wrong); NaN where it said nothing.
        b: [n] the second.
        units: [n] what is drawn as a whole, the prompt as a rule.
        confidence: in (0, 1).
        resamples: how many draws.
        seed: of the draws.

    Returns:
        (difference, low, high); None without rows on which both said something, or with fewer than two units there.

    Raises:
        ValueError: lists of different lengths, or an infinite number.
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not left.shape == right.shape == (len(units),):
        raise ValueError(
            f"each row needs two values and a unit; there are {left.shape}, {right.shape} and {len(units)}"
        )
    if np.isinf(left).any() or np.isinf(right).any():
        raise ValueError("what a judge earned on a row is infinite: leave such rows out first")
    check_magnitude(left, "what a judge earned")
    check_magnitude(right, "what a judge earned")
    both = ~(np.isnan(left) | np.isnan(right))
    draws = Draws([unit for unit, kept in zip(units, both, strict=True) if kept], resamples=resamples, seed=seed)
    found, drawn = draws.ratio((left - right)[both], np.ones(int(both.sum())))
    ends = draws.interval(drawn, confidence)
    return None if ends is None else (found, *ends)


def _blocks(units: Sequence[Any] | NDArray[Any]) -> tuple[IntArray, int]:
    """Each row's unit as a number, or its block where there are many units."""
    of, count = codes(units)
    return (of % MOST_UNITS, MOST_UNITS) if count > MOST_UNITS else (of, count)
