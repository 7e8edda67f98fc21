"""Agreement of many raters beyond chance, by two other ideas of chance than Krippendorff's: Fleiss and Gwet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from prefdata.stats.checking import checked_count
from prefdata.stats.coding import FloatArray, codes
from prefdata.stats.estimate import Agreement
from prefdata.stats.intervals import agreement_interval, check_confidence
from prefdata.stats.ratings import Counts, Ratings, ratings_of
from prefdata.stats.resampling import Draws


def fleiss_kappa(
    units: Iterable[Any],
    raters: Iterable[Any],
    values: Iterable[Any],
    *,
    clusters: Iterable[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Fleiss' kappa (P - P_e) / (1 - P_e) with P_e = sum_k p_k^2 (Fleiss, 1971); of two raters it is Scott's pi.

    P is the mean over units with two values or more of the share of two values that are equal, p_k the mean over all
    units of the share of their values that are k: so units may have any number of values (Gwet, Handbook of Inter-Rater
    Reliability, chapter on missing ratings). Where each has the same number this is Fleiss' own formula.

    Args:
        units: [n] what was rated.
        raters: [n] by whom.
        values: [n] with what: anything that can be told apart. None and NaN are missing.
        clusters: [n] what is drawn as a whole, the prompt as a rule; each unit by itself unless given.
        confidence: of the bootstrap interval over units or clusters, in (0, 1).
        resamples: draws; 0 for no interval.
        seed: of the draws.

    Returns:
        value: None where no unit has two values, or all values are equal. n: the units with two values or more.
        percent: P.

    Raises:
        ValueError: lists of different lengths, one rater's two values for one unit, a unit in two clusters, more than
            64 different values, or a confidence outside (0, 1).
    """
    return _beyond_chance(units, raters, values, clusters, (confidence, resamples, seed), _fleiss)


def gwet_ac1(
    units: Iterable[Any],
    raters: Iterable[Any],
    values: Iterable[Any],
    *,
    clusters: Iterable[Any] | None = None,
    categories: int | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Gwet's AC1 (P - P_e) / (1 - P_e) with P_e = sum_k p_k (1 - p_k) / (K - 1) (Gwet, 2008).

    Unlike kappa it stays near P where one value is much more frequent than the others: read both where verdicts are
    skewed. P and p_k as in `fleiss_kappa`.

    Args:
        units: as in `fleiss_kappa`.
        raters: likewise.
        values: likewise.
        clusters: likewise.
        categories: K, how many values there could be; those that occur unless given. With more, chance agrees less.
        confidence: as in `fleiss_kappa`.
        resamples: likewise.
        seed: likewise.

    Returns:
        As `fleiss_kappa`; value is None too where there is one category.

    Raises:
        ValueError: as `fleiss_kappa`; fewer categories than values that occur.
    """

    def by_chance(shares: FloatArray) -> FloatArray:
        size = shares.shape[-1] if categories is None else categories
        if size < shares.shape[-1]:
            raise ValueError(f"{shares.shape[-1]} different values occur, more than the {size} categories")
        if size < 2:
            return np.ones(shares.shape[:-1])
        expected: FloatArray = (shares * (1 - shares)).sum(axis=-1) / (size - 1)
        return expected

    return _beyond_chance(units, raters, values, clusters, (confidence, resamples, seed), by_chance)


def _fleiss(shares: FloatArray) -> FloatArray:
    expected: FloatArray = (shares**2).sum(axis=-1)
    return expected


def _beyond_chance(
    units: Iterable[Any],
    raters: Iterable[Any],
    values: Iterable[Any],
    clusters: Iterable[Any] | None,
    drawing: tuple[float, int, int],
    by_chance: Any,
) -> Agreement:
    confidence, resamples, seed = drawing
    check_confidence(confidence)
    resamples = checked_count(resamples, "resamples")
    given = ratings_of(units, raters, values, clusters, "nominal")
    if given is None:
        return Agreement(None, None, None, 0, None)
    table = Counts.of(given)
    if table is None:
        raise ValueError(f"there are {len(given.scale)} different values: too many to be categories")
    counts = table.counts.astype(np.float64)
    m = counts.sum(axis=1)
    there = m > 0
    cluster = _cluster_of(given, len(m))[there]
    counts, m = counts[there], m[there]
    paired = m > 1
    equal = np.zeros(len(m))
    equal[paired] = ((counts[paired] ** 2).sum(axis=1) - m[paired]) / (m[paired] * (m[paired] - 1))
    columns = np.column_stack([equal, paired, np.ones(len(m)), counts / m[:, None]])
    draws = Draws(cluster, resamples=max(resamples, 1), seed=seed)
    whole, drawn = draws.sums(columns)
    value = float(_value(whole[None], by_chance)[0])
    n, percent = int(paired.sum()), float(equal[paired].mean()) if paired.any() else None
    ends = draws.interval(_value(drawn, by_chance), confidence) if resamples and value == value else None
    ends = agreement_interval(ends, value, whole[3:], draws.n_units, confidence)
    low, high = ends or (None, None)
    return Agreement(None if value != value else value, low, high, n, percent)


def _value(sums: FloatArray, by_chance: Any) -> FloatArray:
    """[r] kappa of [r, 3 + k] sums of equal shares, units with two values, units, and shares of each value."""
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = sums[:, 0] / sums[:, 1]
        expected = by_chance(sums[:, 3:] / sums[:, 2:3])
        value: FloatArray = np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)
    return value


def _cluster_of(given: Ratings, units: int) -> Any:
    """[units] the cluster of each unit; itself where none is given."""
    if given.cluster is None:
        return np.arange(units)
    of = np.full(units, -1, dtype=np.int64)
    of[given.unit] = codes(given.cluster)[0]
    if (of[given.unit] != codes(given.cluster)[0]).any():
        raise ValueError("a unit lies in two clusters: the values of one unit are drawn together")
    return of
