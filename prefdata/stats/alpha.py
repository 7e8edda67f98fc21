"""Krippendorff's alpha: the agreement of any number of raters, its interval, and the plain share of equal verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from prefdata.stats.checking import checked_count
from prefdata.stats.coding import FloatArray, IntArray
from prefdata.stats.estimate import Agreement
from prefdata.stats.intervals import agreement_interval, check_confidence, percentile_interval
from prefdata.stats.ratings import Counts, Level, Ratings, ratings_of

_BLOCK = 1 << 22
"""So many numbers are held at once."""

_AT_ONCE = 1 << 16
"""So many units."""


def krippendorff_alpha(
    units: Iterable[Any],
    raters: Iterable[Any],
    values: Iterable[Any],
    level: Level = "nominal",
    *,
    clusters: Iterable[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Krippendorff's alpha: 1 - D_o/D_e, for any number of raters, any unit rated by any of them.

    Every ordered pair of values in a unit with m values adds 1/(m - 1) to the coincidences O. With n_k = sum_l O_kl and
    n = sum_k n_k, alpha = 1 - (n - 1) sum O_kl d_kl / sum n_k n_l d_kl. The distance d is 1 for k != l (nominal),
    (sum_{g=k..l} n_g - (n_k + n_l)/2)^2 (ordinal), (k - l)^2 (interval), ((k - l)/(k + l))^2 (ratio).
    Krippendorff, Content Analysis, chapter on reliability.

    The interval is the percentile bootstrap over units, never over single values. Each draw has as many units as there
    are with two values or more; the marginals n_k, and with them the distances of level ordinal, are those of the draw.

    Args:
        units: [n] what was rated.
        raters: [n] by whom.
        values: [n] with what: numbers, or for level nominal anything that can be told apart. None and NaN are missing.
        level: the scale of the values.
        clusters: [n] what is drawn as a whole, the prompt as a rule: pairs of one ranking depend on one another. The
            same for all values of a unit; each unit by itself unless given.
        confidence: of the interval, in (0, 1).
        resamples: bootstrap draws; 0 for no interval.
        seed: of the draws; the result is the same for the same seed.

    Returns:
        value: at most 1, 0 for chance, negative for systematic disagreement; None where no unit has two values or all
        values are equal: then nothing can be said. low and high are None there, and with fewer than two units or
        clusters. n: the units with two values or more. percent: see `mean_agreement`.

    Raises:
        ValueError: lists of different lengths, an unknown level, values that are not finite numbers where numbers are
            needed, one rater's two values for one unit, a unit in two clusters, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    resamples = checked_count(resamples, "resamples")
    given = ratings_of(units, raters, values, clusters, level)
    if given is None:
        return Agreement(None, None, None, 0, None)
    counts = Counts.of(given)
    if counts is not None and not resamples:
        return _of_counts(counts, level)
    of_counts = counts is not None and given.cluster is None and _packable(counts)
    patterns = _counted(counts, level) if counts is not None and of_counts else _patterns(given, level)
    if patterns is None:
        return Agreement(None, None, None, 0, None)
    point = _point(patterns)
    drawn = None if point is None or not resamples else _resampled(patterns, resamples, seed)
    ends = None if drawn is None else percentile_interval(drawn[~np.isnan(drawn)], resamples, confidence)
    if point is not None:
        times, drawn_from = np.bincount(patterns.pattern, minlength=len(patterns.m)), len(patterns.pattern)
        if patterns.cluster is not None:
            drawn_from = int(patterns.cluster.max()) + 1
        shares = np.bincount(patterns.code, weights=times[patterns.rows])
        ends = agreement_interval(ends, point, shares, drawn_from, confidence)
    low, high = ends or (None, None)
    return Agreement(point, low, high, len(patterns.pattern), _percent(patterns))


def _of_counts(table: Counts, level: Level) -> Agreement:
    """Alpha and the mean agreement, without an interval."""
    size = len(table.scale)
    together, totals, ones = np.zeros((size, size)), np.zeros(size), np.ones(size)
    units, equal = 0, 0.0
    for start in range(0, len(table.counts), _AT_ONCE):
        block = table.counts[start : start + _AT_ONCE].astype(np.float64)
        m = block @ ones  # products cost a third of sums along short rows
        if m.min() < 2:
            block = block[m > 1]
            m = block @ ones
        totals += np.ones(len(m)) @ block
        share = 1 / (m - 1)
        together += block.T @ (block * share[:, None])
        equal += float((((block * block) @ ones - m) / m) @ share)
        units += len(block)
    if not units:
        return Agreement(None, None, None, 0, None)
    distance = _distances(table.scale, totals, level)
    expected = float(totals @ distance @ totals)
    value = None
    if np.count_nonzero(totals) > 1 and expected > 0:
        value = 1 - (float(totals.sum()) - 1) * float((together * distance).sum()) / expected
    return Agreement(value, None, None, units, equal / units)


def _distances(scale: FloatArray, totals: FloatArray, level: Level) -> FloatArray:
    """[k, k] d_kl for these marginals."""
    if level == "nominal":
        return 1 - np.eye(len(scale))
    if level == "ratio":
        return _ratio(scale[:, None], scale[None, :])
    place = np.cumsum(totals) - totals / 2 if level == "ordinal" else scale
    squared: FloatArray = (place[:, None] - place[None, :]) ** 2
    return squared


def mean_agreement(units: Iterable[Any], raters: Iterable[Any], values: Iterable[Any]) -> float | None:
    """The mean over units of the share of two raters' values that are equal: what is left to chance stays in.

    A unit with counts n_k of m values adds sum n_k (n_k - 1) / (m (m - 1)) (Fleiss, 1971, P_i).

    Args:
        units: as in `krippendorff_alpha`, for level nominal.
        raters: likewise.
        values: likewise.

    Returns:
        In [0, 1]; None where no unit has two values.
    """
    return krippendorff_alpha(units, raters, values, resamples=0).percent


@dataclass(frozen=True)
class _Given:
    """Units with two values or more. Units with the same values are one pattern: a few in place of many.

    Attributes:
        level: of the values.
        scale: [k] the different values (their codes, for level nominal).
        rows: pattern of each of its values, ascending.
        code: the value's place in `scale`.
        m: [patterns] how many values each has.
        pattern: [units] of each unit.
        cluster: [units] of each unit, or None: each by itself.
    """

    level: Level
    scale: FloatArray
    rows: IntArray
    code: IntArray
    m: IntArray
    pattern: IntArray
    cluster: IntArray | None

    @cached_property
    def starts(self) -> IntArray:
        """[patterns] where the values of each begin."""
        return np.concatenate([[0], np.cumsum(self.m)[:-1]]).astype(np.int64)

    def share_equal(self) -> FloatArray:
        """[patterns] the share of two values that are equal."""
        cell, number = np.unique(self.rows * len(self.scale) + self.code, return_counts=True)
        equal = np.bincount(cell // len(self.scale), weights=number * (number - 1.0), minlength=len(self.m))
        share: FloatArray = equal / (self.m * (self.m - 1.0))
        return share

    def within(self, totals: FloatArray | None = None) -> FloatArray:
        """[patterns] sum over the ordered pairs of values of d_kl / (m - 1), for these marginals (level ordinal)."""
        if self.level == "nominal":
            unequal: FloatArray = self.m * (1 - self.share_equal())
            return unequal
        if self.level == "ratio":
            return _by_pairs(self)
        place = _places(self, totals)[self.code]
        total, square = np.add.reduceat(place, self.starts), np.add.reduceat(place**2, self.starts)
        found: FloatArray = np.maximum(2 * (self.m * square - total**2), 0.0) / (self.m - 1.0)
        return found

    def expected(self, totals: FloatArray) -> float:
        """Sum n_k n_l d_kl for these marginals."""
        n = float(totals.sum())
        if self.level == "nominal":
            return n * n - float((totals**2).sum())
        if self.level == "ratio":
            present = np.flatnonzero(totals)
            size = max(1, _BLOCK // max(len(present), 1))
            parts = (present[at : at + size] for at in range(0, len(present), size))
            return sum(
                float(totals[k] @ _ratio(self.scale[k][:, None], self.scale[present][None, :]) @ totals[present])
                for k in parts
            )
        place = _places(self, totals)
        along = totals * place  # sums, not `@`: its threads cost more than they bring here
        found = 2 * (n * float((along * place).sum()) - float(along.sum()) ** 2)
        # Where all values are equal nothing but rounding is left.
        return 0.0 if np.count_nonzero(totals) < 2 else found

    def alpha(self, weights: FloatArray, within: FloatArray | None) -> float:
        """Alpha where pattern p occurs weights[p] times; NaN where it is undefined."""
        totals = np.bincount(self.code, weights[self.rows], len(self.scale)).astype(np.float64)
        expected = self.expected(totals)
        if expected <= 0:
            return float("nan")
        if within is None:
            within = self.within(totals)
        return 1 - (float(totals.sum()) - 1) * float((weights * within).sum()) / expected


def _packable(table: Counts) -> bool:
    """Whether the counts of a unit fit into one number."""
    return _bits(table) * len(table.scale) <= 62


def _bits(table: Counts) -> int:
    return max(int(table.counts.max()).bit_length(), 1)


def _counted(table: Counts, level: Level) -> _Given | None:
    """As `_patterns`, in their order too, from counts that are packable: the units are sorted as one number each."""
    bits, size = _bits(table), len(table.scale)
    key = np.zeros(len(table.counts), dtype=np.int64)
    for column in table.counts.T:
        key <<= bits
        key |= column
    key.sort()
    starts = np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])
    different, times = key[starts], np.diff(np.concatenate([starts, [len(key)]]))
    del key
    counts = (different[:, None] >> (bits * np.arange(size)[::-1])) & ((1 << bits) - 1)
    m = counts.sum(axis=1)
    order = np.lexsort((-different, m))
    order = order[m[order] > 1]
    if not len(order):
        return None
    counts, m, times, made = counts[order], m[order], times[order], np.arange(len(order))
    return _Given(
        level=level,
        scale=_centred(table.scale, level),
        rows=np.repeat(made, m),
        code=np.repeat(np.tile(np.arange(size), len(order)), counts.ravel()),
        m=m,
        pattern=np.repeat(made, times),
        cluster=None,
    )


def _centred(scale: FloatArray, level: Level) -> FloatArray:
    return scale - scale.mean() if level == "interval" else scale  # squares of large numbers cost digits


def _patterns(given: Ratings, level: Level) -> _Given | None:
    """The units with two values or more, by patterns."""
    unit, code, cluster, scale = given.unit, given.code, given.cluster, given.scale
    paired = np.bincount(unit)[unit] > 1
    unit, code = unit[paired], code[paired]
    if not len(unit):
        return None
    order = np.lexsort((code, unit))
    code = code[order]
    known, first, sizes = np.unique(unit[order], return_index=True, return_counts=True)
    of = None
    if cluster is not None:
        cluster = cluster[paired][order]
        if (cluster != np.repeat(cluster[first], sizes)).any():
            raise ValueError("a unit lies in two clusters: the values of one unit are drawn together")
        _, of = np.unique(cluster[first], return_inverse=True)
    pattern = np.zeros(len(known), dtype=np.int64)
    rows, values, m = [], [], []
    made = 0
    for size in np.unique(sizes).tolist():
        those = sizes == size
        block = code[first[those][:, None] + np.arange(size)]
        different, which = np.unique(block, axis=0, return_inverse=True)
        pattern[those] = made + which.reshape(-1)
        rows.append(np.repeat(made + np.arange(len(different)), size))
        values.append(different.ravel())
        m.append(np.full(len(different), size))
        made += len(different)
    return _Given(
        level=level,
        scale=_centred(scale, level),
        rows=np.concatenate(rows).astype(np.int64),
        code=np.concatenate(values).astype(np.int64),
        m=np.concatenate(m).astype(np.int64),
        pattern=pattern,
        cluster=None if of is None else of.astype(np.int64),
    )


def _places(given: _Given, totals: FloatArray | None) -> FloatArray:
    """Where the values stand on a line: themselves, or for level ordinal half of the values below and at each.

    Differences of the latter are sum_{g=k..l} n_g - (n_k + n_l)/2.
    """
    if given.level != "ordinal":
        return given.scale
    assert totals is not None
    middle: FloatArray = np.cumsum(totals) - totals / 2 - totals.sum() / 2
    return middle


def _ratio(k: FloatArray, j: FloatArray) -> FloatArray:
    whole = k + j
    share: FloatArray = np.divide(k - j, whole, out=np.zeros(np.broadcast_shapes(k.shape, j.shape)), where=whole != 0)
    return share**2


def _by_pairs(given: _Given) -> FloatArray:
    """`_Given.within` for a distance that is no difference of places."""
    found = np.zeros(len(given.m))
    for size in np.unique(given.m).tolist():
        those = np.flatnonzero(given.m == size)
        step = max(1, _BLOCK // (size * size))
        for at in range(0, len(those), step):
            some = those[at : at + step]
            value = given.scale[given.code[given.starts[some][:, None] + np.arange(size)]]
            found[some] = _ratio(value[:, :, None], value[:, None, :]).sum(axis=(1, 2)) / (size - 1.0)
    return found


def _percent(given: _Given) -> float:
    return float(given.share_equal()[given.pattern].mean())


def _point(given: _Given) -> float | None:
    times = np.bincount(given.pattern, minlength=len(given.m)).astype(np.float64)
    value = given.alpha(times, None)
    return None if np.isnan(value) else value


def _resampled(given: _Given, resamples: int, seed: int) -> FloatArray | None:
    """Alpha of each draw, NaN where it is undefined; None with fewer than two units or clusters to draw from."""
    draw = np.random.default_rng(seed)
    size = len(given.pattern) if given.cluster is None else int(given.cluster.max()) + 1
    if size < 2:
        return None
    fixed = None if given.level == "ordinal" else given.within()
    count = len(given.m)
    share = np.bincount(given.pattern, minlength=count) / size
    found = np.empty(resamples)
    for place in range(resamples):
        if given.cluster is None and count * 4 < size:
            weights = draw.multinomial(size, share).astype(np.float64)
        else:  # as many binomials as patterns would cost more than the draws themselves
            times = np.bincount(draw.integers(size, size=size), minlength=size)
            each = times if given.cluster is None else times[given.cluster]
            weights = np.bincount(given.pattern, each, count).astype(np.float64)
        found[place] = given.alpha(weights, fixed)
    return found
