r"""GLAD (Whitehill, Ruvolo, Wu, Bergsma and Movellan, 2009): able annotators and hard items.

Annotator w labels item i rightly with probability sigma(alpha_w e^beta_i), and else wrongly, every wrong label alike.
alpha_w below 0 is an adversary; e^-beta_i is the difficulty. Normal priors on alpha and beta keep both finite and fix
their scale. Expectation-maximisation, whose maximisation is a Newton step for all annotators at once (they do not
depend on one another given the items) and one for all items; a step that would lower its part is halved, so the
objective never falls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.checking import check_run
from prefdata.stats.coding import FloatArray, IntArray
from prefdata.stats.crowd import Column, Crowd, Votes, votes
from prefdata.stats.crowd_em import MOST_ITERATIONS, TOLERANCE, logit_interval, most_probable_classes
from prefdata.stats.dawid_skene import checked_shares
from prefdata.stats.estimate import normal_quantile
from prefdata.stats.logistic import log_sigmoid, sigmoid


@dataclass(frozen=True)
class Glad(Crowd):
    """A `Crowd` with items of different difficulty.

    An ability is the probability of being right on an item of mean log-easiness.

    Attributes:
        discriminations: [W] alpha.
        discrimination_low: [W].
        discrimination_high: [W].
        difficulties: [I] e^-beta, positive.
        difficulty_low: [I].
        difficulty_high: [I].
        class_prior: [K] share of each class.
        objective: value after each iteration: log-likelihood and log-priors. It never falls.
    """

    discriminations: FloatArray
    discrimination_low: FloatArray
    discrimination_high: FloatArray
    difficulties: FloatArray
    difficulty_low: FloatArray
    difficulty_high: FloatArray
    class_prior: FloatArray
    objective: list[float]

    def right(self, annotators: ArrayLike, items: ArrayLike) -> FloatArray:
        """P(right) of annotators on items, by their numbers."""
        alpha, difficulty = self.discriminations[np.asarray(annotators)], self.difficulties[np.asarray(items)]
        return sigmoid(alpha / difficulty)


def glad(
    items: Column,
    annotators: Column,
    labels: Column,
    *,
    classes: Sequence[Any] | None = None,
    known: Mapping[Any, Any] | None = None,
    ability_prior: tuple[float, float] = (1.0, 1.0),
    easiness_prior: tuple[float, float] = (1.0, 1.0),
    class_prior: ArrayLike | None = None,
    confidence: float = 0.95,
    tolerance: float = TOLERANCE,
    most: int = MOST_ITERATIONS,
) -> Glad:
    """Fit GLAD.

    Args:
        items: [n] what was labelled; any hashable.
        annotators: [n] by whom.
        labels: [n] as what.
        classes: the labels there are, in the order wanted; those that occur, sorted, unless given.
        known: item -> its true class.
        ability_prior: mean and standard deviation of alpha. The authors' priors are both (1, 1).
        easiness_prior: mean and standard deviation of beta; a deviation near 0 makes all items alike.
        class_prior: [K] shares of the classes, kept as they are; estimated unless given.
        confidence: of the intervals, in (0, 1).
        tolerance: it ends when an iteration raises the objective by less than this for each label.
        most: iterations at most.

    Raises:
        ValueError: as in `votes`, or a prior out of range.
    """
    z = normal_quantile(confidence)
    check_run(tolerance, most)
    for mean, deviation in (ability_prior, easiness_prior):
        if not (np.isfinite([mean, deviation]).all() and deviation > 0):
            raise ValueError(f"a prior is a mean and a positive standard deviation; one is {mean}, {deviation}")
    given = votes(items, annotators, labels, classes=classes, known=known)
    shares = checked_shares(class_prior, given)
    state = _State(given, ability_prior, easiness_prior)
    objective: list[float] = []
    converged = False
    while len(objective) < most and not converged:
        if objective:
            state.maximise()
        value, likelihood = state.expect(shares)
        objective.append(value)
        converged = len(objective) > 1 and objective[-1] - objective[-2] <= tolerance * len(state.of)
    return _result(given, state, likelihood, objective, converged, z)


class _State:
    """Parameters, posterior, and a row for each label, sorted by item."""

    def __init__(self, given: Votes, ability: tuple[float, float], easiness: tuple[float, float]) -> None:
        self.size, self.w, self.k = given.shape
        self.annotator, self.label = given.rows(slice(0, int(given.starts[-1])))
        self.of = np.repeat(np.arange(self.size), np.diff(given.starts))
        self.cell = self.of * self.k + self.label
        self.known = given.known
        self.counts = given.counts()
        self.values: FloatArray = self.counts / self.counts.sum(axis=1, keepdims=True)
        self.ability, self.easiness = ability, easiness
        self.alpha = np.full(self.w, ability[0])
        self.beta = np.full(self.size, easiness[0])
        self.log_rest = np.log(max(self.k - 1, 1))

    def expect(self, shares: FloatArray | None) -> tuple[float, float]:
        """The posterior; the objective and the log-likelihood that belong to the parameters."""
        if shares is None:
            self.rho = (self.values.sum(axis=0) + 1) / (self.size + self.k)
        else:
            self.rho = shares
        scale = np.exp(self.beta)
        # log sigma(x) - log sigma(-x) = x: a vote for k adds alpha e^beta to k, and the same to all classes alike.
        support = np.bincount(self.cell, weights=self.alpha[self.annotator], minlength=self.size * self.k)
        logits = scale[:, None] * support.reshape(self.size, self.k) + self.log_rest * self.counts + np.log(self.rho)
        if self.known is not None:
            logits[(self.known >= 0)[:, None] & (np.arange(self.k) != self.known[:, None])] = -np.inf
        top = logits.max(axis=1, keepdims=True)
        np.exp(logits - top, out=logits)
        norm = logits.sum(axis=1, keepdims=True)
        self.values = logits / norm
        wrong = log_sigmoid(-self.alpha[self.annotator] * scale[self.of]).sum() - self.log_rest * len(self.of)
        likelihood = float((np.log(norm) + top).sum() + wrong)
        prior = _normal(self.alpha, self.ability).sum() + _normal(self.beta, self.easiness).sum()
        return likelihood + float(prior) + (float(np.log(self.rho).sum()) if shares is None else 0.0), likelihood

    def maximise(self) -> None:
        """A Newton step of all abilities, then one of all items."""
        right = self.values.ravel()[self.cell]

        def of_alpha(alpha: FloatArray) -> FloatArray:
            x = alpha[self.annotator] * scale[self.of]
            return _sums(self.annotator, _fit(right, x), self.w) + _normal(alpha, self.ability)

        def of_beta(beta: FloatArray) -> FloatArray:
            x = self.alpha[self.annotator] * np.exp(beta)[self.of]
            return _sums(self.of, _fit(right, x), self.size) + _normal(beta, self.easiness)

        scale = np.exp(self.beta)
        mine = scale[self.of]
        p = sigmoid(self.alpha[self.annotator] * mine)
        slope = _sums(self.annotator, (right - p) * mine, self.w) - _pull(self.alpha, self.ability)
        curve = _sums(self.annotator, p * (1 - p) * mine**2, self.w) + self.ability[1] ** -2
        self.alpha = _climbed(of_alpha, self.alpha, slope / curve)
        x = self.alpha[self.annotator] * mine
        p = sigmoid(x)
        slope = _sums(self.of, (right - p) * x, self.size) - _pull(self.beta, self.easiness)
        curve = _sums(self.of, p * (1 - p) * x**2, self.size) + self.easiness[1] ** -2
        self.beta = _climbed(of_beta, self.beta, np.clip(slope / curve, -2, 2))

    def scores(self) -> FloatArray:
        """[n] d log-likelihood / d (alpha e^beta) of each label, the truth summed out."""
        x = self.alpha[self.annotator] * np.exp(self.beta)[self.of]
        return np.asarray(self.values.ravel()[self.cell] - sigmoid(x))


def _result(given: Votes, state: _State, likelihood: float, objective: list[float], converged: bool, z: float) -> Glad:
    scale = np.exp(state.beta)
    score2 = state.scores() ** 2
    mine = scale[state.of]
    alpha_variance = 1 / (_sums(state.annotator, score2 * mine**2, state.w) + state.ability[1] ** -2)
    x = state.alpha[state.annotator] * mine
    beta_half = z / np.sqrt(_sums(state.of, score2 * x**2, state.size) + state.easiness[1] ** -2)
    open_ = _sums(state.cell, alpha_variance[state.annotator] * mine**2, state.size * state.k)
    low, high = logit_interval(state.values, open_.reshape(state.size, state.k), z)
    if state.known is not None:
        low[state.known >= 0] = high[state.known >= 0] = state.values[state.known >= 0]
    half, mean = z * np.sqrt(alpha_variance), float(np.exp(state.beta.mean()))
    ends = state.alpha - half, state.alpha, state.alpha + half
    ability = [sigmoid(end * mean) if state.k > 1 else np.full(state.w, np.nan) for end in ends]
    return Glad(
        state.values, low, high, most_probable_classes(state.values), given.classes, given.items, given.annotators,
        ability[1], ability[0], ability[2], likelihood, len(objective), converged,
        state.alpha, ends[0], ends[2],
        np.exp(-state.beta), np.exp(-state.beta - beta_half), np.exp(-state.beta + beta_half), state.rho, objective,
    )  # fmt: skip


def _climbed(value: Callable[[FloatArray], FloatArray], start: FloatArray, step: FloatArray) -> FloatArray:
    """Start + step, each entry's step halved until its own value does not fall."""
    before = value(start)
    for _ in range(20):
        falls = value(start + step) < before - 1e-12 * np.abs(before)
        if not falls.any():
            return start + step
        step = np.where(falls, step / 2, step)
    return np.where(value(start + step) < before, start, start + step)


def _fit(right: FloatArray, x: FloatArray) -> FloatArray:
    return right * x - np.logaddexp(0.0, x)


def _sums(of: IntArray, values: FloatArray, size: int) -> FloatArray:
    return np.asarray(np.bincount(of, weights=values, minlength=size), dtype=np.float64)


def _normal(x: FloatArray, prior: tuple[float, float]) -> FloatArray:
    return -0.5 * ((x - prior[0]) / prior[1]) ** 2


def _pull(x: FloatArray, prior: tuple[float, float]) -> FloatArray:
    return (x - prior[0]) / prior[1] ** 2
