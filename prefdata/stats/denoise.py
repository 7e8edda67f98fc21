"""Doubtful labels of pairs: votes of several rewards, smoothing, weights and margins, and how well a score finds them.

A margin is the winner's number less the loser's, so that a negative one speaks against the label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import check_magnitude
from prefdata.stats.coding import codes
from prefdata.stats.estimate import Estimate, Estimates, normal_quantile
from prefdata.stats.logistic import log_sigmoid, sigmoid

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RewardVotes(Estimates):
    """What several rewards say of each pair.

    `values` is the mean margin of a pair (its preference strength), NaN where no member scored it; `low` and `high` are
    of the mean of members like these (normal), NaN for fewer than two.

    Attributes:
        std: [n] population standard deviation over the members that scored it.
        agree: [n] share of those whose margin is above 0, a margin of 0 half.
        members: [n] how many scored it.
        scales: [M] what each member's margins were divided by; NaN for a member without two different margins.
    """

    std: FloatArray
    agree: FloatArray
    members: NDArray[np.int64]
    scales: FloatArray


def reward_votes(margins: ArrayLike, *, normalise: bool = True, confidence: float = 0.95) -> RewardVotes:
    """Mean, spread and agreement of the members of an ensemble of rewards.

    `mean = (1/M) sum d_i`, `std = sqrt((1/M) sum (d_i - mean)^2)`. Scales differ between members, so that each one's
    margins are divided by their own standard deviation first. A member that was trained on the rows that it scores
    looks too sure of them: give margins that were scored out of fold.

    Args:
        margins: [M, n], NaN where a member did not score a pair.
        normalise: divide by each member's standard deviation (of margins, population). A member whose margins are all
            equal says nothing and is left out.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: no [M, n], or an infinite margin.

    Source: Wang et al. 2024, Secrets of RLHF in Large Language Models Part II: Reward Modeling, section 2.2; the
    division is ours.
    """
    d = np.asarray(margins, dtype=np.float64)
    if d.ndim != 2:
        raise ValueError(f"margins are a row for each member and a column for each pair; they have shape {d.shape}")
    if np.isinf(d).any():
        raise ValueError("a margin is infinite: leave such scores out first")
    check_magnitude(d, "a margin")
    z = normal_quantile(confidence)
    scales = np.ones(len(d))
    if normalise:
        scales = np.array([_spread(row) for row in d]) if len(d) else scales
        scales[scales == 0] = np.nan
        d = d / scales[:, None]
    there = ~np.isnan(d)
    m = there.sum(axis=0)
    filled = np.where(there, d, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(m > 0, filled.sum(axis=0) / m, np.nan)
        std = np.sqrt(np.where(there, (d - mean) ** 2, 0.0).sum(axis=0) / m)
        agree = np.where(there, 0.5 + 0.5 * np.sign(filled), 0.0).sum(axis=0) / m
        half = np.where(m > 1, z * std / np.sqrt(np.maximum(m - 1, 1)), np.nan)
    return RewardVotes(mean, mean - half, mean + half, std, agree, m.astype(np.int64), scales)


def _spread(row: FloatArray) -> float:
    known = row[~np.isnan(row)]
    return float(known.std()) if known.size > 1 and known.min() < known.max() else 0.0


def soft_loss(margin: ArrayLike, right: ArrayLike) -> FloatArray:
    """`q l(m) + (1 - q) l(-m)` with `l(m) = -log s(m)`: a label that is right with probability q.

    With q = 1 - eps it is conservative DPO's loss; with q = 1 - alpha (1 - confident) Selfie's.
    """
    m, q = np.asarray(margin, dtype=np.float64), np.asarray(right, dtype=np.float64)
    result: FloatArray = -q * log_sigmoid(m) - (1 - q) * log_sigmoid(-m)
    return result


def margin_loss(gap: ArrayLike, margin: ArrayLike) -> FloatArray:
    """`l(r_w - r_l - margin)`: the winner is to be better by a margin."""
    result: FloatArray = -log_sigmoid(np.asarray(gap, dtype=np.float64) - np.asarray(margin, dtype=np.float64))
    return result


def noise_threshold(margins: ArrayLike, share: float = 0.1) -> float | None:
    """Below which margin a label counts as unsure: midway between the two order statistics around the share's point.

    Of 50 margins and a share of 0.1 the fifth and the sixth smallest, so that exactly a tenth lies below. None where
    the share comes to no margin at all, or to all of them.

    Args:
        margins: [n] of the last steps or of a whole dataset; NaN is left out.
        share: in (0, 1).

    Raises:
        ValueError: a share out of range.

    Source: Kim et al. 2024, Aligning Large Language Models with Self-generated Preference Data (Selfie).
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of unsure labels lies above 0 and below 1; it is {share}")
    known = np.asarray(margins, dtype=np.float64).ravel()
    known = np.sort(known[~np.isnan(known)])
    below = int(share * len(known) + 1e-9)
    if not 0 < below < len(known):
        return None
    return float((known[below - 1] + known[below]) / 2)


def mean_one(scores: ArrayLike) -> FloatArray:
    """`s / mean(s)`: weights whose mean is 1; NaN everywhere where the mean is 0.

    Raises:
        ValueError: a score that is negative or not finite.
    """
    s = np.asarray(scores, dtype=np.float64)
    if not (np.isfinite(s) & (s >= 0)).all():
        raise ValueError("weights are made from finite numbers that are not negative")
    mean = s.mean() if s.size else 0.0
    result: FloatArray = s / mean if mean > 0 else np.full(s.shape, np.nan)
    return result


def gap_factor(gap: ArrayLike, *, rate: float = 0.5) -> FloatArray:
    """`1 - e^(-rate max(gap, 0))`: from 0 for equal scores towards 1.

    Source: MM-RLHF, dynamic reward scaling (the released code; the exponential form from the paper as known).
    """
    result: FloatArray = -np.expm1(-rate * np.maximum(np.asarray(gap, dtype=np.float64), 0.0))
    return result


def gap_beta(gap: ArrayLike, *, beta: float = 0.1, strength: float = 0.5, rate: float = 0.5) -> FloatArray:
    """`max(1e-3, beta (1 + strength f))` with f of `gap_factor`: each pair's own beta. Source: as there."""
    result: FloatArray = np.maximum(1e-3, beta * (1 + strength * gap_factor(gap, rate=rate)))
    return result


def separation(
    scores: ArrayLike, truth: ArrayLike, *, clusters: ArrayLike | None = None, confidence: float = 0.95
) -> Estimate:
    """The area under the ROC curve: how often a true case scores above another, ties half; DeLong's interval.

    Its standard error is that of DeLong et al. 1988, of clusters that of Obuchowski 1997, on the logit scale, so that
    the interval stays in (0, 1); where the two kinds are told apart without a mistake there is none.

    Args:
        scores: [n], higher says truer; NaN is left out.
        truth: [n] true or false.
        clusters: [n] rows of one cluster depend on one another (a prompt); each row by itself unless given.
        confidence: of the interval, in (0, 1).

    Returns:
        An estimate on n scores; its value is None where a kind is missing.

    Raises:
        ValueError: shapes that do not fit, or a truth that is neither true nor false.
    """
    s, given = np.asarray(scores, dtype=np.float64), np.asarray(truth)
    if given.size and not (given.dtype.kind in "biuf" and np.isin(given, (0, 1)).all()):
        raise ValueError("the truth of a score is true or false, or 1 or 0")
    t = given.astype(bool)
    if s.ndim != 1 or s.shape != t.shape:
        raise ValueError(f"one truth for each score is needed; they are {t.shape} and {s.shape}")
    if clusters is not None and np.shape(clusters) != s.shape:
        raise ValueError(f"each of the {len(s)} scores needs its cluster; there are {np.shape(clusters)}")
    z = normal_quantile(confidence)
    known = ~np.isnan(s)
    yes, no = s[known & t], s[known & ~t]
    if not (yes.size and no.size):
        return Estimate(None, None, None, int(known.sum()))
    above, below = _placements(yes, no), 1 - _placements(no, yes)
    value = float(above.mean())
    if yes.size < 2 or no.size < 2 or not 0 < value < 1:
        return Estimate(value, None, None, int(known.sum()))
    variance = float(above.var(ddof=1) / yes.size + below.var(ddof=1) / no.size)
    if clusters is not None:
        each = np.empty(len(s))
        each[known & t], each[known & ~t] = (above - value) / yes.size, (below - value) / no.size
        number, count = codes(np.asarray(clusters)[known])
        if count < 3:
            return Estimate(value, None, None, int(known.sum()))
        variance = float((np.bincount(number, weights=each[known]) ** 2).sum() * count / (count - 1))
    half = z * np.sqrt(variance) / (value * (1 - value))
    low, high = sigmoid(np.log(value / (1 - value)) + np.array([-half, half])).tolist()
    return Estimate(value, low, high, int(known.sum()))


def _placements(one: FloatArray, other: FloatArray) -> FloatArray:
    """Of each of `one` the share of `other` below it, equals half."""
    ordered = np.sort(other)
    places = np.searchsorted(ordered, one, "left") + np.searchsorted(ordered, one, "right")
    result: FloatArray = places / (2 * len(ordered))
    return result
