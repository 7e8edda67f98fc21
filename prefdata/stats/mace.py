r"""MACE (Hovy, Berg-Kirkpatrick, Vaswani and Hovy, 2013): annotators who now and then do not look.

Annotator w knows the class of an item with probability theta_w, and else gives label l with probability xi_w(l),
whatever the class: P(l | k) = theta_w 1(l = k) + (1 - theta_w) xi_w(l). Fitted by variational Bayes: theta_w and xi_w
have Beta and Dirichlet posteriors, their logarithms are replaced by expectations, and the evidence lower bound never
falls. The bound has several maxima, so it is climbed from several places that differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.checking import checked_count
from prefdata.stats.coding import FloatArray
from prefdata.stats.crowd import Column, Votes, votes
from prefdata.stats.crowd_em import (
    MOST_ITERATIONS,
    TOLERANCE,
    Fitted,
    expect,
    fit,
    posterior_interval,
    products,
    share_interval,
)
from prefdata.stats.dawid_skene import Confusions, assembled, checked_shares
from prefdata.stats.estimate import normal_quantile

_SHORT = 10
"""Iterations of each start before the best goes on (Biernacki, Celeux and Govaert, 2003)."""


@dataclass(frozen=True)
class Mace(Confusions):
    """A `Crowd` of annotators who know or do not look.

    `log_likelihood` and `objective` are the evidence lower bound.

    Attributes:
        competences: [W] theta, the probability of knowing. (An ability is the probability of being right, which
            includes luck.)
        competence_low: [W].
        competence_high: [W].
        habits: [W, K] xi, which labels an annotator gives without looking; rows add up to 1.
        starts: [restarts] the bound that each start had come to when the best of them was chosen.
    """

    competences: FloatArray
    competence_low: FloatArray
    competence_high: FloatArray
    habits: FloatArray
    starts: list[float]


def mace(
    items: Column,
    annotators: Column,
    labels: Column,
    *,
    classes: Sequence[Any] | None = None,
    known: Mapping[Any, Any] | None = None,
    prior: tuple[float, float] = (0.5, 0.5),
    habit: float = 10.0,
    class_prior: ArrayLike | None = None,
    restarts: int = 10,
    seed: int = 0,
    intervals: bool = True,
    confidence: float = 0.95,
    tolerance: float = TOLERANCE,
    most: int = MOST_ITERATIONS,
) -> Mace:
    """Fit MACE.

    Args:
        items: [n] what was labelled; any hashable.
        annotators: [n] by whom.
        labels: [n] as what.
        classes: the labels there are, in the order wanted; those that occur, sorted, unless given.
        known: item -> its true class.
        prior: Beta prior of theta, known and not known; both positive.
        habit: Dirichlet prior of xi, for each label; positive. 10 as in the authors' program.
        class_prior: [K] shares of the classes, kept as they are (the authors': even); estimated unless given.
        restarts: starts, the first from the shares of the votes, the others from random parameters.
        seed: of the starts.
        intervals: whether to compute low and high of the items.
        confidence: of the intervals, in (0, 1).
        tolerance: it ends when an iteration raises the bound by less than this for each label.
        most: iterations at most, after the choice of a start.

    Raises:
        ValueError: as in `votes`, a prior that is not positive, or fewer than one start.
    """
    z = normal_quantile(confidence)
    if not (min(prior) > 0 and habit > 0 and np.isfinite([*prior, habit]).all()):
        raise ValueError(f"the priors must be positive numbers; they are {prior} and {habit}")
    restarts = checked_count(restarts, "restarts", 1)
    given = votes(items, annotators, labels, classes=classes, known=known)
    shares = checked_shares(class_prior, given)
    model, found, starts = _best(given, prior, habit, shares, restarts, seed, tolerance, most)
    return _result(given, model, found, starts, z, intervals)


def _result(given: Votes, model: _Knowing, found: Fitted, starts: list[float], z: float, intervals: bool) -> Mace:
    theta, xi = model.means()
    covariance = _covariance(given, found, model, theta, xi)
    ability = theta + (1 - theta) * (xi @ found.class_prior)
    lucky = xi * (found.class_prior - (xi @ found.class_prior)[:, None]) * (1 - theta)[:, None]
    slope = np.concatenate([(1 - xi @ found.class_prior)[:, None], lucky], axis=1)
    ability_ends = share_interval(ability, np.einsum("wi,wij,wj->w", slope, covariance, slope), z)
    if intervals:
        low, high = posterior_interval(given, found.values, _log_ratio_variance(theta, xi, covariance), z)
    else:
        low = high = np.broadcast_to(np.nan, found.values.shape)
    k = given.shape[2]
    confusions = theta[:, None, None] * np.eye(k) + ((1 - theta)[:, None] * xi)[:, None, :]
    base = assembled(given, found, confusions, ability, ability_ends, (low, high))
    competence_low, competence_high = share_interval(theta, covariance[:, 0, 0], z)
    return Mace(
        **vars(base), competences=theta, competence_low=competence_low, competence_high=competence_high, habits=xi,
        starts=starts,
    )  # fmt: skip


def _best(
    given: Votes,
    prior: tuple[float, float],
    habit: float,
    shares: FloatArray | None,
    restarts: int,
    seed: int,
    tolerance: float,
    most: int,
) -> tuple[_Knowing, Fitted, list[float]]:
    _, w, k = given.shape
    draw = np.random.default_rng(seed)
    best: tuple[_Knowing, FloatArray] | None = None
    starts: list[float] = []
    for number in range(restarts):
        model, start = _Knowing(w, k, prior, habit), None
        if number:
            model.begin(draw.uniform(0.05, 0.95, w), draw.dirichlet(np.ones(k), w))
            start, _, _ = expect(given, model.table(), np.full(k, 1 / k), np.empty((given.shape[0], k)))
        tried = fit(given, model, class_prior=shares, start=start, tolerance=tolerance, most=_SHORT)
        starts.append(tried.objective[-1])
        if best is None or starts[-1] > max(starts[:-1]):
            best = model, tried.counts
    if best is None:
        raise AssertionError("there is a first start")
    model, counts = best
    return model, fit(given, model, class_prior=shares, start=counts, tolerance=tolerance, most=most), starts


class _Knowing:
    """Beta posteriors of theta [W, 2] and Dirichlet posteriors of xi [W, K]."""

    def __init__(self, w: int, k: int, prior: tuple[float, float], habit: float) -> None:
        self.prior, self.habit = np.array(prior, dtype=np.float64), np.full(k, habit)
        self.begin(np.full(w, 0.5), np.full((w, k), 1 / k))

    def begin(self, theta: FloatArray, xi: FloatArray) -> None:
        """Parameters as if known."""
        with np.errstate(divide="ignore"):
            self.knows, self.guesses = np.log(theta), np.log1p(-theta)[:, None] + np.log(xi)

    def maximise(self, counts: FloatArray) -> None:
        from scipy.special import digamma

        right = np.einsum("wkk->wk", counts)
        known = right * np.exp(self.knows[:, None] - np.logaddexp(self.knows[:, None], self.guesses))
        guessed = np.clip(counts.sum(axis=2) - known, 0, None)
        self.theta = self.prior + np.stack([known.sum(axis=1), guessed.sum(axis=1)], axis=1)
        self.xi = self.habit + guessed
        self.log_theta = digamma(self.theta) - digamma(self.theta.sum(axis=1, keepdims=True))
        self.log_xi = digamma(self.xi) - digamma(self.xi.sum(axis=1, keepdims=True))
        self.knows, self.guesses = self.log_theta[:, 0], self.log_theta[:, 1:] + self.log_xi

    def table(self) -> FloatArray:
        k = self.guesses.shape[1]
        table = np.repeat(self.guesses[:, :, None], k, axis=2)
        table[:, np.arange(k), np.arange(k)] = np.logaddexp(self.knows[:, None], self.guesses)
        return table

    def log_prior(self) -> float:
        """Minus the divergences of the posteriors from their priors."""
        return -_divergence(self.theta, self.prior, self.log_theta) - _divergence(self.xi, self.habit, self.log_xi)

    def means(self) -> tuple[FloatArray, FloatArray]:
        return self.theta[:, 0] / self.theta.sum(axis=1), self.xi / self.xi.sum(axis=1, keepdims=True)


def _divergence(counts: FloatArray, prior: FloatArray, logs: FloatArray) -> float:
    """Sum over rows of KL(Dirichlet(counts) || Dirichlet(prior)); `logs` are the expected logarithms."""
    from scipy.special import gammaln

    rows = gammaln(counts.sum(axis=1)) - gammaln(prior.sum()) - (gammaln(counts) - gammaln(prior)).sum(axis=1)
    return float((rows + ((counts - prior) * logs).sum(axis=1)).sum())


def _covariance(given: Votes, found: Fitted, model: _Knowing, theta: FloatArray, xi: FloatArray) -> FloatArray:
    """[W, 1 + K, 1 + K] of theta and of xi's logits, from the outer products of the scores and the priors."""
    w, k = xi.shape
    either = theta[:, None] + (1 - theta)[:, None] * xi
    # The score of a label l is at + slope T_il: of theta, then of the logits of xi.
    at, slope = np.zeros((w, k, 1 + k)), np.zeros((w, k, 1 + k))
    at[:, :, 0] = -1 / (1 - theta)[:, None]
    slope[:, :, 0] = (1 - xi) / either - at[:, :, 0]
    turn = np.eye(k) - xi[:, None, :]
    at[:, :, 1:] = turn
    slope[:, :, 1:] = ((1 - theta)[:, None] * xi / either - 1)[:, :, None] * turn
    number = found.counts.sum(axis=2)
    first = np.einsum("wkk->wk", found.counts)
    second = np.einsum("wkkk->wk", products(given, found.values))
    cross = np.einsum("wl,wli,wlj->wij", first, at, slope)
    information = np.einsum("wl,wli,wlj->wij", number, at, at) + np.einsum("wl,wli,wlj->wij", second, slope, slope)
    information += cross + cross.transpose(0, 2, 1)
    information[:, 0, 0] += model.prior[0] / theta**2 + model.prior[1] / (1 - theta) ** 2
    spread = xi[:, :, None] * np.eye(k) - xi[:, :, None] * xi[:, None, :]
    # Logits are free to move together: ones in that direction make the matrix invertible and change nothing else.
    information[:, 1:, 1:] += model.habit.sum() * spread + 1.0
    return np.asarray(np.linalg.inv(information), dtype=np.float64)


def _log_ratio_variance(theta: FloatArray, xi: FloatArray, covariance: FloatArray) -> FloatArray:
    """[W, K, K] on the diagonal the variance of log P(l | l) - log P(l | not l), all that a label tells."""
    k = xi.shape[1]
    known = theta[:, None] / (theta[:, None] + (1 - theta)[:, None] * xi)
    slope = np.concatenate(
        [(known / (theta * (1 - theta))[:, None])[:, :, None], -known[:, :, None] * (np.eye(k) - xi[:, None, :])],
        axis=2,
    )
    variance = np.einsum("wli,wij,wlj->wl", slope, covariance, slope)
    return np.asarray(variance[:, :, None] * np.eye(k))
