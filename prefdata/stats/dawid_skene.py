r"""Annotators with a matrix of confusions each (Dawid and Skene, 1979), or with one accuracy each.

Annotator w gives label l to an item of class k with probability pi^w_kl. The maximum of the posterior is found by
expectation-maximisation, with the marginal log-likelihood sum_i log sum_k rho_k prod_n pi^w(n)_k,l(n) and the log-prior
as the objective. A Dirichlet prior, heavier on the diagonal, keeps probabilities from zero and classes from changing
places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.coding import FloatArray
from prefdata.stats.crowd import Column, Crowd, Votes, votes
from prefdata.stats.crowd_em import (
    MOST_ITERATIONS,
    TOLERANCE,
    Fitted,
    fit,
    most_probable_classes,
    posterior_interval,
    products,
    share_interval,
)
from prefdata.stats.estimate import normal_quantile

PRIOR_LABELS = 4.0
"""Labels of each class that every annotator is taken to have given before."""

PRIOR_ABILITY = 0.7
"""The share of them that was right."""


@dataclass(frozen=True)
class Confusions(Crowd):
    """A `Crowd` whose annotators confuse classes.

    Attributes:
        confusions: [W, K, K] P(label l | class k), rows (classes) add up to 1.
        class_prior: [K] share of each class.
        objective: value after each iteration: log-likelihood and log-priors. It never falls.
    """

    confusions: FloatArray
    class_prior: FloatArray
    objective: list[float]


def dawid_skene(
    items: Column,
    annotators: Column,
    labels: Column,
    *,
    classes: Sequence[Any] | None = None,
    known: Mapping[Any, Any] | None = None,
    prior: ArrayLike | None = None,
    experience: Mapping[Any, ArrayLike] | None = None,
    class_prior: ArrayLike | None = None,
    intervals: bool = True,
    single: bool = False,
    confidence: float = 0.95,
    tolerance: float = TOLERANCE,
    most: int = MOST_ITERATIONS,
) -> Confusions:
    """Fit Dawid and Skene's model.

    Labels cost about 50 ns each in an iteration for five classes. Three columns of codes sorted by item are read where
    they stand; beside them there are `values`, and `low` and `high` unless `intervals` is False.

    Args:
        items: [n] what was labelled; any hashable, quickest as an array of whole numbers.
        annotators: [n] by whom.
        labels: [n] as what.
        classes: the labels there are, in the order wanted; those that occur, sorted, unless given.
        known: item -> its true class (a gold question). Its labels say what its annotators are worth.
        prior: [K, K] positive counts (class, label) added to each annotator's; `PRIOR_LABELS` of each class, of which
            `PRIOR_ABILITY` are right and the others evenly wrong, unless given.
        experience: annotator -> [K, K] counts (class, label) from elsewhere, added to `prior`.
        class_prior: [K] shares of the classes, kept as they are; estimated unless given.
        intervals: whether to compute low and high of the items.
        single: keep posteriors and labels in 32 bits, for many million items; all is computed in 64 bits all the same.
        confidence: of the intervals, in (0, 1).
        tolerance: it ends when an iteration raises the objective by less than this for each label.
        most: iterations at most.

    Returns:
        An ability is sum_k rho_k pi_kk. Its interval comes from the observed information (the outer product of the
        scores, so that what is not known of the truth counts), that of an item from the Dirichlet posterior of the
        confusions of its annotators.

    Raises:
        ValueError: as in `votes`, or counts or shares out of range.
    """
    z = normal_quantile(confidence)
    given = votes(items, annotators, labels, classes=classes, known=known)
    model = _Confusion(_prior_counts(given, prior, experience))
    shares = checked_shares(class_prior, given)
    found = fit(given, model, class_prior=shares, tolerance=tolerance, most=most, single=single)
    pi = np.exp(model.table()).transpose(0, 2, 1)
    correct = np.einsum("wkk->wk", pi)
    ability = correct @ found.class_prior
    variance = _ability_variance(given, found, pi, model.prior)
    if intervals:
        low, high = posterior_interval(given, found.values, _log_variance(found.counts + model.prior), z)
    else:
        low = high = np.broadcast_to(np.nan, found.values.shape)
    return assembled(given, found, pi, ability, share_interval(ability, variance, z), (low, high))


def one_coin(
    items: Column,
    annotators: Column,
    labels: Column,
    *,
    classes: Sequence[Any] | None = None,
    known: Mapping[Any, Any] | None = None,
    prior: tuple[float, float] = (PRIOR_LABELS * PRIOR_ABILITY, PRIOR_LABELS * (1 - PRIOR_ABILITY)),
    abilities: Mapping[Any, float] | None = None,
    class_prior: ArrayLike | None = None,
    intervals: bool = True,
    confidence: float = 0.95,
    tolerance: float = TOLERANCE,
    most: int = MOST_ITERATIONS,
) -> Confusions:
    """Dawid and Skene's model with one parameter for an annotator: right with probability q, else evenly wrong.

    Args:
        items: [n] what was labelled; any hashable.
        annotators: [n] by whom.
        labels: [n] as what.
        classes: the labels there are, in the order wanted; those that occur, sorted, unless given.
        known: item -> its true class.
        prior: right and wrong labels that every annotator is taken to have given before, positive.
        abilities: annotator -> q in (0, 1), where it is known; it stays as it is.
        class_prior: [K] shares of the classes, kept as they are; estimated unless given.
        intervals: whether to compute low and high of the items.
        confidence: of the intervals, in (0, 1).
        tolerance: it ends when an iteration raises the objective by less than this for each label.
        most: iterations at most.

    Raises:
        ValueError: as in `votes`, or a prior, an ability or a share out of range.
    """
    z = normal_quantile(confidence)
    right, wrong = (float(count) for count in prior)
    if not (right > 0 and wrong > 0 and np.isfinite(right + wrong)):
        raise ValueError(f"the prior must be two positive numbers, right and wrong labels; it is {prior}")
    given = votes(items, annotators, labels, classes=classes, known=known)
    model = _Coin(given.shape[2], right, wrong, known_abilities(abilities, given))
    found = fit(given, model, class_prior=checked_shares(class_prior, given), tolerance=tolerance, most=most)
    q = model.ability
    # The scores of q are T/q - (1 - T)/(1 - q) for each label; the likelihood is linear in q, so this is exact.
    k = given.shape[2]
    seen = np.einsum("wkkk->w", products(given, found.values))
    sums = np.einsum("wkk->w", found.counts)
    number = found.counts.sum(axis=(1, 2))
    information = (seen - 2 * q * sums + q**2 * number) / (q * (1 - q)) ** 2 + right / q**2 + wrong / (1 - q) ** 2
    variance = np.where(model.fixed, 0.0, 1 / information)
    if intervals:
        of_logit = variance / (q * (1 - q)) ** 2
        low, high = posterior_interval(given, found.values, of_logit[:, None, None] * np.eye(k), z)
    else:
        low = high = np.broadcast_to(np.nan, found.values.shape)
    pi = np.exp(model.table()).transpose(0, 2, 1)
    return assembled(given, found, pi, q, share_interval(q, variance, z), (low, high))


def assembled(
    given: Votes,
    found: Fitted,
    confusions: FloatArray,
    ability: FloatArray,
    ability_ends: tuple[FloatArray, FloatArray],
    ends: tuple[FloatArray, FloatArray],
) -> Confusions:
    """The result; with one class there is no ability to speak of."""
    if given.shape[2] == 1:
        ability = np.full(len(ability), np.nan)
        ability_ends = ability, ability
    return Confusions(
        found.values, *ends, most_probable_classes(found.values), given.classes, given.items, given.annotators,
        ability, *ability_ends, found.log_likelihood, len(found.objective), found.converged,
        confusions, found.class_prior, found.objective,
    )  # fmt: skip


def checked_shares(class_prior: ArrayLike | None, given: Votes) -> FloatArray | None:
    """Shares of the classes that add up to 1, as they were given."""
    if class_prior is None:
        return None
    shares = np.asarray(class_prior, dtype=np.float64)
    k = given.shape[2]
    if shares.shape != (k,) or not ((shares > 0) & np.isfinite(shares)).all() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"class_prior must be {k} positive shares that add up to 1, one for each of {given.classes}")
    return np.asarray(shares / shares.sum(), dtype=np.float64)


def known_abilities(abilities: Mapping[Any, float] | None, given: Votes) -> FloatArray:
    """[W] abilities that were given, NaN for the others."""
    result = np.full(given.shape[1], np.nan)
    position = {name: at for at, name in enumerate(given.annotators)} if abilities else {}
    for name, value in (abilities or {}).items():
        if not 0 < value < 1:
            raise ValueError(f"the ability of {name!r} must lie between 0 and 1; it is {value}")
        if name in position:
            result[position[name]] = value
    return result


@dataclass
class _Confusion:
    """prior: [W or 1, K (label), K (class)]."""

    prior: FloatArray

    def maximise(self, counts: FloatArray) -> None:
        counted = counts + self.prior
        self._log: FloatArray = np.log(counted) - np.log(counted.sum(axis=1, keepdims=True))

    def table(self) -> FloatArray:
        return self._log

    def log_prior(self) -> float:
        return float((self.prior * self._log).sum())


class _Coin:
    def __init__(self, k: int, right: float, wrong: float, known: FloatArray) -> None:
        self.k, self.right, self.wrong = k, right, wrong
        self.fixed = ~np.isnan(known)
        self.known = known
        self.ability = known

    def maximise(self, counts: FloatArray) -> None:
        hits = np.einsum("wkk->w", counts) + self.right
        share = hits / (counts.sum(axis=(1, 2)) + self.right + self.wrong)
        self.ability = np.where(self.fixed, self.known, share)

    def table(self) -> FloatArray:
        if self.k == 1:
            return np.zeros((len(self.ability), 1, 1))
        wrong = np.log1p(-self.ability) - np.log(self.k - 1)
        return np.where(np.eye(self.k, dtype=bool), np.log(self.ability)[:, None, None], wrong[:, None, None])

    def log_prior(self) -> float:
        free = self.ability[~self.fixed]
        return float(self.right * np.log(free).sum() + self.wrong * np.log1p(-free).sum())


def _prior_counts(given: Votes, prior: ArrayLike | None, experience: Mapping[Any, ArrayLike] | None) -> FloatArray:
    """[1 or W, K (label), K (class)]."""
    _, w, k = given.shape
    if prior is None:
        wrong = PRIOR_LABELS * (1 - PRIOR_ABILITY) / max(k - 1, 1)
        counts = np.full((k, k), wrong) + np.eye(k) * (PRIOR_LABELS * PRIOR_ABILITY - wrong)
    else:
        counts = np.asarray(prior, dtype=np.float64)
        if counts.shape != (k, k) or not ((counts > 0) & np.isfinite(counts)).all():
            raise ValueError(f"the prior must be {k} x {k} positive counts, classes by labels; it is {counts.tolist()}")
    if not experience:
        return counts.T[None]
    all_counts = np.repeat(counts.T[None], w, axis=0)
    position = {name: at for at, name in enumerate(given.annotators)}
    for name, table in experience.items():
        of = np.asarray(table, dtype=np.float64)
        if of.shape != (k, k) or not ((of >= 0) & np.isfinite(of)).all():
            raise ValueError(f"the experience with {name!r} must be {k} x {k} counts, classes by labels, not negative")
        if name in position:
            all_counts[position[name]] += of.T
    return all_counts


def _log_variance(counts: FloatArray) -> FloatArray:
    """[W, K (label), K (class)] of log pi_kl under its Dirichlet posterior: trigamma(a_kl) - trigamma(sum_l a_kl)."""
    from scipy.special import polygamma

    return np.asarray(polygamma(1, counts) - polygamma(1, counts.sum(axis=1, keepdims=True)), dtype=np.float64)


def _ability_variance(given: Votes, found: Fitted, pi: FloatArray, prior: FloatArray) -> FloatArray:
    """[W] variance of sum_k rho_k pi_kk, each row of pi rescaled off its diagonal as pi_kk moves."""
    _, w, k = given.shape
    if k == 1:
        return np.zeros(w)
    diagonal = np.einsum("wkk->wk", pi)
    outer = products(given, found.values)
    # d log pi_kl / d pi_kk is 1/pi_kk where l = k, and -1/(1 - pi_kk) elsewhere.
    score = np.repeat((-1 / (1 - diagonal))[:, None, :], k, axis=1)
    score[:, np.arange(k), np.arange(k)] = 1 / diagonal
    information = np.einsum("wlk,wlj,wlkj->wkj", score, score, outer)
    before = np.einsum("wkk->wk", np.broadcast_to(prior, (w, k, k)))
    others = prior.sum(axis=1) - before
    information[:, np.arange(k), np.arange(k)] += before / diagonal**2 + others / (1 - diagonal) ** 2
    rho = np.broadcast_to(found.class_prior, (w, k))
    return np.asarray((np.linalg.solve(information, rho[..., None])[..., 0] * rho).sum(axis=1))
