"""Krippendorff's alpha: the agreement of any number of raters, its interval, and the plain share of equal verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from prefdata.stats.coding import FloatArray, IntArray, codes, missing
from prefdata.stats.intervals import percentile_interval

Level = Literal["nominal", "ordinal", "interval", "ratio"]
LEVELS = ("nominal", "ordinal", "interval", "ratio")

_BLOCK = 1 << 22
"""So many numbers are held at once."""


def krippendorff_alpha(
    units: Iterable[Any], raters: Iterable[Any], values: Iterable[Any], level: Level = "nominal"
) -> float | None:
    """Krippendorff's alpha: 1 - D_o/D_e, for any number of raters, any unit rated by any of them.

    Every ordered pair of values in a unit with m values adds 1/(m - 1) to the coincidences O. With n_k = sum_l O_kl and
    n = sum_k n_k, alpha = 1 - (n - 1) sum O_kl d_kl / sum n_k n_l d_kl. The distance d is 1 for k != l (nominal),
    (sum_{g=k..l} n_g - (n_k + n_l)/2)^2 (ordinal), (k - l)^2 (interval), ((k - l)/(k + l))^2 (ratio).
    Krippendorff, Content Analysis, chapter on reliability.

    Args:
        units: [n] what was rated.
        raters: [n] by whom.
        values: [n] with what: numbers, or for level nominal anything that can be told apart. None and NaN are missing.
        level: the scale of the values.

    Returns:
        At most 1, 0 for chance, negative for systematic disagreement; None where no unit has two values or all values
        are equal: then nothing can be said.

    Raises:
        ValueError: lists of different lengths, an unknown level, values that are not numbers where numbers are needed,
            or one rater's two values for one unit.
    """
    given = _given(units, raters, values, None, level)
    return None if given is None else _point(given)


def alpha_interval(
    units: Iterable[Any],
    raters: Iterable[Any],
    values: Iterable[Any],
    level: Level = "nominal",
    *,
    clusters: Iterable[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of Krippendorff's alpha: units are drawn, never single values.

    Each draw has as many units as there are with two values or more. The marginals n_k, and with them the distances of
    level ordinal, are those of the draw.

    Args:
        units: as in `krippendorff_alpha`.
        raters: likewise.
        values: likewise.
        level: likewise.
        clusters: [n] what is drawn as a whole, the prompt as a rule: pairs of one ranking depend on one another. The
            same for all values of a unit; each unit by itself unless given.
        confidence: in (0, 1).
        resamples: bootstrap draws.
        seed: of the draws; the result is the same for the same seed.

    Returns:
        (low, high), or None where alpha is undefined or there are fewer than two clusters.

    Raises:
        ValueError: as `krippendorff_alpha`; a confidence outside (0, 1), or a unit in two clusters.
    """
    found = reliability(
        units, raters, values, level, clusters=clusters, confidence=confidence, resamples=resamples, seed=seed
    )
    return None if found.low is None or found.high is None else (found.low, found.high)


@dataclass(frozen=True)
class Reliability:
    """How far raters agree.

    Attributes:
        units: how many have two values or more.
        percent: see `mean_agreement`.
        alpha: see `krippendorff_alpha`.
        low: lower end of alpha's interval, see `alpha_interval`; None where there is none.
        high: upper end.
    """

    units: int
    percent: float | None
    alpha: float | None
    low: float | None
    high: float | None


def reliability(
    units: Iterable[Any],
    raters: Iterable[Any],
    values: Iterable[Any],
    level: Level = "nominal",
    *,
    clusters: Iterable[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Reliability:
    """Alpha, its interval and the mean agreement, from one reading of the values; arguments as in `alpha_interval`."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1; it is {confidence}")
    given = _given(units, raters, values, clusters, level)
    if given is None:
        return Reliability(0, None, None, None, None)
    point = _point(given)
    drawn = None if point is None else _resampled(given, resamples, seed)
    ends = None if drawn is None else percentile_interval(drawn[~np.isnan(drawn)], resamples, confidence)
    low, high = ends or (None, None)
    return Reliability(len(given.pattern), _percent(given), point, low, high)


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
    given = _given(units, raters, values, None, "nominal")
    return None if given is None else _percent(given)


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


def _given(
    units: Iterable[Any], raters: Iterable[Any], values: Iterable[Any], clusters: Iterable[Any] | None, level: Level
) -> _Given | None:
    if level not in LEVELS:
        raise ValueError(f"level must be nominal, ordinal, interval or ratio, not {level!r}")
    rows = [column if isinstance(column, np.ndarray) else list(column) for column in (units, raters, values)]
    rows += [rows[0] if clusters is None else clusters if isinstance(clusters, np.ndarray) else list(clusters)]
    if len({len(row) for row in rows}) > 1:
        names, sizes = ("units, raters and values", rows[:3]) if clusters is None else ("units, ..., clusters", rows)
        raise ValueError(f"{names} must have one length; they have {', '.join(str(len(r)) for r in sizes)}")
    kept = np.flatnonzero(_present(rows[2]))
    if not len(kept):
        return None
    unit, _ = codes(_those(rows[0], kept))
    rater, count = codes(_those(rows[1], kept))
    if len(np.unique(unit * count + rater)) < len(unit):
        raise ValueError("one rater gave two values to one unit: keep one of them, or count repetitions as raters")
    scale, code = _scaled(_those(rows[2], kept), level)
    cluster = None if clusters is None else codes(_those(rows[3], kept))[0]
    return _patterns(unit, code, cluster, scale, level)


def _present(values: Any) -> Any:
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        return ~np.isnan(values)
    return [not missing(value) for value in values]


def _those(row: Any, kept: IntArray) -> Any:
    return row[kept] if isinstance(row, np.ndarray) else [row[place] for place in kept.tolist()]


def _scaled(values: Any, level: Level) -> tuple[FloatArray, IntArray]:
    if level == "nominal":
        code, size = codes(values)
        return np.arange(size, dtype=np.float64), code
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"level {level} needs values that are numbers") from None
    scale, code = np.unique(numbers, return_inverse=True)
    return scale, code.astype(np.int64)


def _patterns(
    unit: IntArray, code: IntArray, cluster: IntArray | None, scale: FloatArray, level: Level
) -> _Given | None:
    """The units with two values or more, by patterns."""
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
    place = scale - scale.mean() if level == "interval" else scale  # squares of large numbers cost digits
    return _Given(
        level=level,
        scale=place,
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
