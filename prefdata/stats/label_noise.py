"""How often labels are right, where a model of the preferences says how likely each label is.

The mixture: a label is right with probability eta (the reliability), and otherwise says the opposite. A label to which
the model gives the probability q is then right with the posterior probability `eta q / (eta q + (1 - eta)(1 - q))`, and
the mean of the posteriors is the next estimate of eta (expectation-maximisation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import check_run, checked_probabilities
from prefdata.stats.coding import ordered
from prefdata.stats.estimate import Estimate, Estimates, normal_quantile
from prefdata.stats.intervals import wilson_interval
from prefdata.stats.logistic import log_sigmoid, sigmoid

FloatArray = NDArray[np.float64]

SLACK = 1e-3
"""An estimated reliability keeps this distance from 0.5, where labels say nothing, and from 1, where it would stay."""


def label_posterior(agreement: Any, reliability: Any) -> Any:
    """The probability that each label is right: `eta q / (eta q + (1 - eta)(1 - q))`.

    It uses arithmetic alone, so that arrays and tensors go through the same formula; what it returns is of the kind of
    what it was given.

    Args:
        agreement: q, any shape, 0 to 1: the model's probability of what the label says, the label's own reliability
            left aside.
        reliability: eta, 0 < eta <= 1, a number or of a shape that fits. With 1 every label is right.

    Raises:
        ValueError: numbers outside their range (of tensors nothing is checked).

    Source: Latent Collective Preference Optimization (LCPO), the E-step.
    """
    if isinstance(reliability, int | float) and not 0 < reliability <= 1:
        raise ValueError(f"a reliability is above 0 and at most 1; it is {reliability}")
    if isinstance(agreement, list | tuple):
        agreement = np.asarray(agreement, dtype=np.float64)
    if isinstance(agreement, np.ndarray):
        checked_probabilities(agreement, "a model's probability")
    return _posterior(agreement, reliability)


def _posterior(agreement: Any, reliability: Any) -> Any:
    doubt = (1 - reliability) / reliability
    # Where q and the doubt are both 0 the quotient has no value; a label that is surely right stays so.
    return (agreement + (doubt == 0)) / (agreement + doubt * (1 - agreement) + (doubt == 0))


def next_reliability(reliability: float, mean_posterior: float, rate: float = 1.0) -> float:
    """A step of the estimate: `(1 - rate) eta + rate * mean posterior`, at least 0.501 and at most 0.999.

    Args:
        reliability: eta before it.
        mean_posterior: mean of `label_posterior` over the labels, 0 to 1.
        rate: 0 to 1; 1 is plain expectation-maximisation, less a moving average over batches.

    Raises:
        ValueError: a number outside its range.
    """
    if not (0 <= reliability <= 1 and 0 <= mean_posterior <= 1):
        raise ValueError(f"a reliability and a posterior lie from 0 to 1; they are {reliability} and {mean_posterior}")
    if not 0 <= rate <= 1:
        raise ValueError(f"the rate of the moving average is a number from 0 to 1; it is {rate}")
    return min(1 - SLACK, max(0.5 + SLACK, (1 - rate) * reliability + rate * mean_posterior))


def estimate_reliability(
    agreement: ArrayLike, *, start: float = 0.9, tolerance: float = 1e-6, most: int = 10_000
) -> float | None:
    """The share of labels that are right, by expectation-maximisation.

    It is only as good as the model is calibrated: with calibrated q it converges to the true share as labels grow in
    number. Labels to which the model gives 0.5 say nothing.

    Args:
        agreement: `[n]`, as in `label_posterior`; NaN is left out.
        start: where the estimate begins, above 0.5 and below 1.
        tolerance: it ends when a step changes the estimate by less.
        most: steps at most.

    Returns:
        An estimate from 0.501 to 0.999; None without labels.

    Raises:
        ValueError: an argument outside its range.
    """
    q = np.asarray(agreement, dtype=np.float64).ravel()
    q = q[~np.isnan(q)]
    check_run(tolerance, most)
    if not 0.5 < start < 1:
        raise ValueError(f"the reliability begins above 0.5 and below 1; it is {start}")
    if q.size and not (q.min() >= 0 and q.max() <= 1):
        raise ValueError(f"the model's probabilities lie from 0 to 1; they go from {q.min():g} to {q.max():g}")
    if not q.size:
        return None
    reliability = start
    for _ in range(most):
        before, reliability = reliability, next_reliability(reliability, float(_posterior(q, reliability).mean()))
        if abs(reliability - before) < tolerance:
            break
    return reliability


def robust_loss(margin: ArrayLike, flip_rate: float) -> FloatArray:
    """`((1 - eps) l(m) - eps l(-m)) / (1 - 2 eps)` with `l(m) = -log s(m)`.

    On labels flipped with probability eps its mean is the loss of the true ones. It may be negative, has no lower
    bound, and its variance grows as 1 / (1 - 2 eps)^2.

    Args:
        margin: any shape, winner less loser.
        flip_rate: eps, 0 <= eps < 0.5; with 0 it is l(m).

    Raises:
        ValueError: a flip rate out of range.

    Source: Chowdhury et al. 2024, Provably Robust DPO, equation 6.
    """
    eps = _checked_rate(flip_rate)
    m = np.asarray(margin, dtype=np.float64)
    result: FloatArray = (eps * log_sigmoid(-m) - (1 - eps) * log_sigmoid(m)) / (1 - 2 * eps)
    return result


def flip_probability(margin: ArrayLike, flip_rate: float) -> FloatArray:
    """The probability that a label was flipped: `eps (1 - s(m)) / ((1 - eps) s(m) + eps (1 - s(m)))`.

    It is 1 less `label_posterior` of s(m) and the reliability 1 - eps.

    Args:
        margin: any shape, winner less loser, in nats.
        flip_rate: eps, 0 <= eps < 0.5.

    Raises:
        ValueError: a flip rate out of range.

    Source: as `robust_loss`.
    """
    eps = _checked_rate(flip_rate)
    m = np.asarray(margin, dtype=np.float64)
    result: FloatArray = np.asarray(label_posterior(sigmoid(-m), eps)) if eps else np.zeros(m.shape)
    return result


def _checked_rate(flip_rate: float) -> float:
    if not 0 <= flip_rate < 0.5:
        raise ValueError(f"a flip rate is at least 0 and below 0.5, where labels say nothing; it is {flip_rate}")
    return flip_rate


def flip_rate_of_audit(wrong: float, n: int, confidence: float = 0.95) -> Estimate:
    """The share of labels that an audit found wrong, with Wilson's interval. The auditor is taken to be right.

    Args:
        wrong: how many; an undecided one may count half.
        n: how many were audited.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: more wrong ones than audited ones.
    """
    if not n:
        return Estimate(None, None, None, 0)
    low, high = wilson_interval(wrong, n, confidence)
    return Estimate(wrong / n, low, high, n)


def flip_rate_of_repeats(differ: float, n: int, confidence: float = 0.95) -> Estimate:
    """The flip rate of somebody who was asked the same twice, from how often the two answers differ.

    Two independent passes differ at the rate `2 eps (1 - eps)`, so `eps = (1 - sqrt(1 - 2 d)) / 2`. Where they differ
    in half of the cases or more eps is 0.5 at least, which is not told apart from no knowledge: None. The ends of the
    interval are those of d, carried over.

    Args:
        differ: how many repeats differ; a tie against a verdict may count half.
        n: how many there are.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: more differ than there are.
    """
    if not n:
        return Estimate(None, None, None, 0)
    low, high = wilson_interval(differ, n, confidence)

    def rate(share: float) -> float:
        return (1 - sqrt(max(0.0, 1 - 2 * share))) / 2

    if 2 * differ >= n:
        return Estimate(None, rate(low), 0.5, n)
    return Estimate(rate(differ / n), rate(low), rate(high), n)


@dataclass(frozen=True)
class CollectiveLabels(Estimates):
    """How probable it is that each label is right, and how reliable each annotator.

    `values` are the posteriors `eta p / (eta p + (1 - eta)(1 - p))`; `low` and `high` are those at the ends of the
    annotator's interval. NaN where there is no probability, or the annotator's reliability is not known.

    Attributes:
        annotators: whose reliabilities these are.
        abilities: [W] eta, from 0.501 to 0.999; NaN where all probabilities of their labels are 0.5.
        ability_low: [W] lower ends, from the curvature of the likelihood, within 0.5 and 1.
        ability_high: [W] upper ends.
        counts: [W] labels of each.
        log_likelihood: of the labels' probabilities under the mixture.
        iterations: steps to the maximum.
        converged: whether the last one moved no eta by 1e-12.
    """

    annotators: tuple[Any, ...]
    abilities: FloatArray
    ability_low: FloatArray
    ability_high: FloatArray
    counts: NDArray[np.int64]
    log_likelihood: float
    iterations: int
    converged: bool


def collective_posterior(
    agreement: ArrayLike,
    annotators: Sequence[Any] | NDArray[Any] | None = None,
    *,
    confidence: float = 0.95,
) -> CollectiveLabels:
    """The posterior that each label is right, with the reliability of each annotator estimated from all of theirs.

    Where expectation-maximisation (E: the posterior; M: its mean by annotator) comes to rest is the maximum of
    `sum log(eta p + (1 - eta)(1 - p))`, which is concave in eta: it is found by Newton's steps, to the last digits, and
    from every start. The probabilities are held fixed, and must be calibrated: eta follows a model's own confidence.

    Args:
        agreement: [n] p, a model's probability of what each label says; NaN is left out.
        annotators: [n] who gave each; one for all unless given. None stands for one whose name is not known.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: shapes that do not fit, or a probability outside [0, 1].

    Source: Latent Collective Preference Optimization (LCPO, RE-PO), the EM steps with fixed scores.
    """
    p = np.asarray(agreement, dtype=np.float64).ravel()
    if annotators is None:
        number, names = np.zeros(len(p), dtype=np.int64), ([0] if len(p) else [])
    else:
        named = list(annotators)
        if len(named) != len(p):
            raise ValueError(f"one annotator for each label is needed; they are {len(named)} and {len(p)}")
        names = ordered({name for name in named if name is not None}) + ([None] if None in named else [])
        place = {name: at for at, name in enumerate(names)}
        number = np.array([place[name] for name in named], dtype=np.int64)
    known = ~np.isnan(p)
    if not ((p[known] >= 0) & (p[known] <= 1)).all():
        raise ValueError("the model's probabilities of the labels lie from 0 to 1")
    q, of, size = p[known], number[known], len(names)
    eta, steps, converged = _reliabilities(q, of, size)
    counts = np.bincount(of, minlength=size).astype(np.int64)
    with np.errstate(divide="ignore"):
        half = normal_quantile(confidence) / np.sqrt(_slopes(q, of, np.nan_to_num(eta, nan=0.75))[1])
    least, most = np.clip(eta - half, 0.5, 1.0), np.clip(eta + half, 0.5, 1.0)
    given = np.nan_to_num(p, nan=0.5)
    right, right_low, right_high = (
        np.where(known, label_posterior(given, one[number]), np.nan) for one in (eta, least, most)
    )
    likelihood = 0.0
    if q.size:
        likelihood = float(np.log(_mixture(q, np.nan_to_num(eta, nan=0.75)[of])).sum())  # of q = 0.5 any eta says 0.5
    return CollectiveLabels(
        right, right_low, right_high, tuple(names), eta, least, most, counts, likelihood, steps, converged
    )


def _reliabilities(q: FloatArray, of: NDArray[np.int64], size: int) -> tuple[FloatArray, int, bool]:
    """[W] the maximum for each annotator, how many steps it took, and whether they came to rest.

    Newton's step on a concave function; where it leaves what is known to hold the maximum, that is halved.
    """
    low, high = np.full(size, 0.5 + SLACK), np.full(size, 1 - SLACK)
    eta = (low + high) / 2
    tells = np.bincount(of, weights=np.abs(2 * q - 1), minlength=size) > 0
    for step in range(1, 101):
        rising, bent = _slopes(q, of, eta)
        low, high = np.where(rising > 0, eta, low), np.where(rising > 0, high, eta)
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = eta + rising / bent
        # Beside an end the maximum may lie on it, which halving would only come near to.
        wanted = np.clip(np.where(np.isfinite(wanted), wanted, eta), 0.5 + SLACK, 1 - SLACK)
        inside = (wanted >= low) & (wanted <= high)
        moved = np.where(inside, wanted, (low + high) / 2)
        change = np.abs(moved - eta)[tells]
        eta = moved
        if not change.size or change.max() < 1e-12:
            return np.where(tells, eta, np.nan), step, True
    return np.where(tells, eta, np.nan), step, False


def _slopes(q: FloatArray, of: NDArray[np.int64], eta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """[W] the log-likelihood's derivative at each annotator's reliability, and minus its second one."""
    ratio = (2 * q - 1) / _mixture(q, eta[of])
    size = len(eta)
    first = np.asarray(np.bincount(of, weights=ratio, minlength=size), dtype=np.float64)
    return first, np.asarray(np.bincount(of, weights=ratio**2, minlength=size), dtype=np.float64)


def _mixture(agreement: FloatArray, reliability: FloatArray) -> FloatArray:
    result: FloatArray = np.maximum(reliability * agreement + (1 - reliability) * (1 - agreement), 1e-300)
    return result
