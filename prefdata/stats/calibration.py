"""Whether stated probabilities come true, and what makes them: a temperature, or any rising curve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import check_magnitude, checked_count
from prefdata.stats.estimate import Estimate
from prefdata.stats.intervals import check_confidence
from prefdata.stats.logistic import log_sigmoid, logistic
from prefdata.stats.resampling import Draws

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Bin:
    """Statements of about one probability.

    Attributes:
        low: where the bin begins; what lies on an edge belongs to the lower bin.
        high: where it ends.
        count: statements in it.
        stated: their mean.
        observed: how often they came true.
    """

    low: float
    high: float
    count: float
    stated: float
    observed: float


@dataclass(frozen=True)
class Calibration(Estimate):
    """How well probabilities are calibrated. `n` counts statements (of `both_orders` each once).

    Attributes:
        value: expected calibration error: mean distance of `stated` and `observed`, weighted by count (Naeini et al.,
            2015). Even of perfect statements it is above zero, about sqrt(bins / n): hold `debiased` beside it.
        low: lower end of its bootstrap interval.
        high: upper end.
        debiased: root of the mean squared distance without what the coin's variance adds in each bin (Kumar, Liang and
            Ma, 2019); 0 where nothing else is left.
        average: mean distance, each bin once (ACE).
        largest: largest distance (MCE).
        brier: mean squared difference of statement and outcome, 0 to 1 (Brier, 1950).
        log_loss: mean negative log-probability of the outcome, in nats; statements are clamped to [1e-12, 1 - 1e-12].
        bins: those that hold something.
    """

    debiased: float
    average: float
    largest: float
    brier: float
    log_loss: float
    bins: tuple[Bin, ...]


def calibration(
    stated: ArrayLike,
    outcome: ArrayLike,
    *,
    bins: int = 10,
    equal: Literal["width", "mass"] = "width",
    both_orders: bool = False,
    units: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Calibration:
    """Hold probabilities against what happened.

    Args:
        stated: [n] probabilities, 0 to 1.
        outcome: [n] 1 where it happened, 0 where not, between where it is itself known as a share (votes).
        bins: how many.
        equal: bins of equal width, or of about equal numbers of statements (equal statements stay together).
        both_orders: of pairs: count each statement turned round as well (1 - p, 1 - y), so that nothing depends on
            which response is called the first. One order alone makes the error a gap of accuracy.
        units: [n] what is drawn as a whole for the interval, the prompt as a rule; each statement by itself unless
            given.
        confidence: of the interval of `value`, in (0, 1).
        resamples: bootstrap draws over units, the bins kept; 0 for no interval.
        seed: of the draws.

    Raises:
        ValueError: there is nothing to compare, or something lies outside its range.
    """
    check_confidence(confidence)
    said, came = _checked(stated, outcome)
    n = len(said)
    bins, resamples = checked_count(bins, "bins", 1), checked_count(resamples, "resamples")
    if equal not in ("width", "mass"):
        raise ValueError(f"bins are of equal width or mass, not of equal {equal!r}")
    of = np.arange(n) if units is None else np.asarray(units)
    if of.shape != said.shape:
        raise ValueError(f"each of the {n} statements needs its unit; there are {of.shape}")
    if both_orders:
        said, came, of = np.r_[said, 1 - said], np.r_[came, 1 - came], np.r_[of, of]
    edges = _edges(said, bins, equal)
    place = np.searchsorted(edges[1:-1], said, side="left")
    low, high = _ends(said - came, place, of, (len(edges) - 1, confidence, resamples, seed))
    return replace(_binned(said, came, edges, place), low=low, high=high, n=n)


def _edges(said: FloatArray, bins: int, equal: Literal["width", "mass"]) -> FloatArray:
    even: FloatArray = np.linspace(0, 1, bins + 1)
    return even if equal == "width" else np.unique(np.r_[0.0, np.quantile(said, even[1:-1]), 1.0])


def _binned(said: FloatArray, came: FloatArray, edges: FloatArray, place: IntArray) -> Calibration:
    """The errors of these statements in these bins, without an interval."""
    sums = [np.bincount(place, weights=column, minlength=len(edges) - 1) for column in (said, came)]
    count = np.bincount(place, minlength=len(edges) - 1).astype(np.float64)
    there = np.flatnonzero(count)
    mean_said, mean_came = sums[0][there] / count[there], sums[1][there] / count[there]
    gap = np.abs(mean_said - mean_came)
    noise = np.where(count[there] > 1, mean_came * (1 - mean_came) / np.maximum(count[there] - 1, 1), 0.0)
    share = count[there] / count.sum()
    sure = np.clip(said, 1e-12, 1 - 1e-12)
    return Calibration(
        value=float((share * gap).sum()),
        low=None,
        high=None,
        n=len(said),
        debiased=float(np.sqrt(max((share * (gap**2 - noise)).sum(), 0.0))),
        average=float(gap.mean()),
        largest=float(gap.max()),
        brier=float(np.mean((said - came) ** 2)),
        log_loss=float(-np.mean(came * np.log(sure) + (1 - came) * np.log1p(-sure))),
        bins=tuple(
            Bin(float(edges[one]), float(edges[one + 1]), float(count[one]), float(first), float(second))
            for one, first, second in zip(there, mean_said, mean_came, strict=True)
        ),
    )


def temperature(margins: ArrayLike, outcome: ArrayLike, weights: ArrayLike | None = None) -> Estimate:
    """The temperature T by which margins are divided so that sigma(margin / T) fits the outcomes best.

    Above 1 the margins are too sure of themselves. No order changes. One coefficient of a logistic regression, 1/T, by
    Newton's method, with its sandwich interval turned into one of T (Guo et al., 2017, for two classes).

    Args:
        margins: [n] finite: logits that the first of two is better.
        outcome: [n] 1 where it is, 0 where the other is, 0.5 a tie.
        weights: [n] not negative; 1 each unless given.

    Returns:
        value: None where margins and outcomes go against one another (no temperature above 0 helps). high is None where
        the interval has no upper end: the margins may say nothing.

    Raises:
        ValueError: shapes that do not fit, numbers out of range, or margins that are right without exception (the best
            temperature is 0).
    """
    x = np.asarray(margins, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"one list of margins is needed, not an array of shape {x.shape}")
    fit = logistic(x[:, None], outcome, weights)
    slope, low, high = float(fit.values[0]), float(fit.low[0]), float(fit.high[0])
    if slope <= 0:
        return Estimate(None, None, None, len(x))
    return Estimate(1 / slope, 1 / high, 1 / low if low > 0 else None, len(x))


def tempered_loss(margins: ArrayLike, outcome: ArrayLike, scale: float) -> float:
    """Mean negative log-likelihood of the outcomes under sigma(margin / scale), in nats.

    Args:
        margins: [n].
        outcome: [n] in [0, 1].
        scale: the temperature, above 0.
    """
    z, y = np.asarray(margins, dtype=np.float64) / scale, np.asarray(outcome, dtype=np.float64)
    return float(-(y * log_sigmoid(z) + (1 - y) * log_sigmoid(-z)).mean())


@dataclass(frozen=True)
class Isotonic:
    """A rising step function from what is stated to what comes true.

    Attributes:
        values: [k] probabilities, rising.
        stated: [k] the statements at which they were fitted, rising.
    """

    values: FloatArray
    stated: FloatArray

    def __call__(self, stated: ArrayLike) -> FloatArray:
        """[n] recalibrated: straight lines between the fitted points, level beyond them."""
        return np.interp(np.asarray(stated, dtype=np.float64), self.stated, self.values)


def isotonic(stated: ArrayLike, outcome: ArrayLike, *, both_orders: bool = False) -> Isotonic:
    """The rising curve that fits the outcomes best in squares (pool adjacent violators, by SciPy).

    Args:
        stated: [n] probabilities or any scores (with `both_orders` probabilities).
        outcome: [n] in [0, 1].
        both_orders: of pairs, as in `calibration`: the curve then keeps p and 1 - p complementary.

    Raises:
        ValueError: nothing to fit, or something is not finite or outside its range.
    """
    from scipy.optimize import isotonic_regression

    said, came = _checked(stated, outcome, probabilities=both_orders)
    if both_orders:
        said, came = np.r_[said, 1 - said], np.r_[came, 1 - came]
    known, of, times = np.unique(np.round(said, 12), return_inverse=True, return_counts=True)
    mean = np.bincount(of, weights=came) / times
    return Isotonic(np.asarray(isotonic_regression(mean, weights=times).x, dtype=np.float64), known)


def _ends(
    off: FloatArray, place: IntArray, units: NDArray[Any], settings: tuple[int, float, int, int]
) -> tuple[float | None, float | None]:
    """The percentile interval of the weighted mean distance, with the bins as they are."""
    many, confidence, resamples, seed = settings
    if not resamples:
        return None, None
    draws = Draws(units, resamples=resamples, seed=seed)
    columns = np.zeros((len(off), many + 1))
    columns[np.arange(len(off)), place] = off
    columns[:, many] = 1.0
    _, drawn = draws.sums(columns)
    ends = draws.interval(np.abs(drawn[:, :many]).sum(axis=1) / drawn[:, many], confidence)
    return ends or (None, None)


def _checked(stated: ArrayLike, outcome: ArrayLike, *, probabilities: bool = True) -> tuple[FloatArray, FloatArray]:
    said, came = np.asarray(stated, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    if said.ndim != 1 or said.shape != came.shape or not len(said):
        raise ValueError(f"as many statements as outcomes are compared, not {said.shape} and {came.shape}")
    if not ((came >= 0) & (came <= 1)).all() or (probabilities and not ((said >= 0) & (said <= 1)).all()):
        raise ValueError("probabilities and outcomes lie from 0 to 1")
    if not np.isfinite(said).all():
        raise ValueError("a statement is missing or infinite: leave such rows out first")
    check_magnitude(said, "a statement")
    return said, came
