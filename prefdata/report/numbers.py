"""Shares with their intervals, distributions, and plain JSON values. What rests on nothing is None, never zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats import wilson_interval

Entry = dict[str, Any]
"""A part of the analysis: what JSON holds."""

_DISCRETE = 12
"""At most so many different whole and half numbers (ratings, verdicts) are counted one by one; else there are bins."""

_BINS = 20

_DIGITS = 10
"""Significant digits: sums of floats may differ in the last ones from run to run, a report may not."""


def share(part: float, whole: float) -> Entry:
    """How large a part is of a whole, with Wilson's 95% interval.

    Returns:
        share, low, high (None where the whole is 0), part, n.
    """
    low, high = wilson_interval(part, whole) if whole else (None, None)
    return {"share": part / whole if whole else None, "low": low, "high": high, "part": part, "n": whole}


def quantiles(values: ArrayLike) -> Entry | None:
    """min, q05, q25, median, q75, q95, max and mean; None for no values."""
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        return None
    names = ("min", "q05", "q25", "median", "q75", "q95", "max")
    found = np.quantile(numbers, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
    return {**dict(zip(names, found.tolist(), strict=True)), "mean": float(numbers.mean())}


def histogram(values: ArrayLike, within: tuple[float, float] | None = None) -> list[Entry]:
    """Counts by value where these are a few whole or half numbers (or two at most), else by bins of equal width.

    Args:
        values: [n] finite numbers.
        within: the ends of the bins; smallest and largest value unless given.

    Returns:
        {value, n} for each value, or {low, high, n} for each bin, lowest first.
    """
    numbers = np.asarray(values, dtype=np.float64)
    known, counts = np.unique(numbers, return_counts=True)
    if len(known) <= 2 or (len(known) <= _DISCRETE and not np.any(2 * known % 1)):
        return [{"value": value, "n": n} for value, n in zip(known.tolist(), counts.tolist(), strict=True)]
    counts, edges = np.histogram(numbers, bins=_BINS, range=within)
    ends = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    return [{"low": low, "high": high, "n": n} for low, high, n in ends]


def most_frequent(values: ArrayLike) -> Entry | None:
    """The value that occurs most often (the lowest of several) and how often: {value, n}; None for no values."""
    known, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    if not len(known):
        return None
    place = int(counts.argmax())
    return {"value": float(known[place]), "n": int(counts[place])}


def plain(value: Any) -> Any:
    """A value as JSON holds it: floats to ten significant digits, times as text, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value
