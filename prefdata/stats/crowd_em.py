r"""Expectation-maximisation for models in which an annotator's label depends on the true class alone.

Dawid-Skene, one-coin and MACE differ only in how the table P_w(label l | class k) comes from their parameters. The
posterior of an item is T_ik ~ rho_k prod_n P_w(n)(l(n) | k), its normaliser is the item's share of the marginal
likelihood, and all that a maximisation needs are the counts C_w(l, k) = sum of T_ik over the labels l of annotator w.
Both are products with the sparse one-hot matrix of the labels, taken in blocks of items: nothing of the size of the
labels is ever made but their own three columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prefdata.stats.checking import check_run
from prefdata.stats.coding import FloatArray, IntArray
from prefdata.stats.crowd import Votes, most_probable
from prefdata.stats.logistic import sigmoid

MOST_ITERATIONS = 500
TOLERANCE = 1e-7
"""It ends when an iteration raises the objective by less than this for each label."""


class Annotators(Protocol):
    """The part of a model that knows its parameters."""

    def maximise(self, counts: FloatArray) -> None:
        """Take the parameters from expected counts [W, K (label), K (class)]."""

    def table(self) -> FloatArray:
        """[W, K (label), K (class)] log P_w(label | class)."""

    def log_prior(self) -> float:
        """Of the parameters, up to a constant."""


@dataclass
class Fitted:
    """Where the iterations ended.

    Attributes:
        values: [I, K] posterior.
        counts: [W, K, K] expected counts (label, class) under it.
        class_prior: [K].
        log_likelihood: marginal, without priors.
        objective: its value after each iteration (log-likelihood and log-priors); it never falls.
        converged: whether it had stopped rising.
    """

    values: FloatArray
    counts: FloatArray
    class_prior: FloatArray
    log_likelihood: float
    objective: list[float]
    converged: bool


def fit(
    votes: Votes,
    model: Annotators,
    *,
    class_prior: FloatArray | None,
    start: FloatArray | None = None,
    tolerance: float = TOLERANCE,
    most: int = MOST_ITERATIONS,
    single: bool = False,
) -> Fitted:
    """Iterate from the shares of the votes, or from expected counts.

    Args:
        votes: the labels.
        model: its parameters are those of the last iteration afterwards.
        class_prior: [K], kept as it is; estimated with one more item of each class where None.
        start: [W, K, K] expected counts.
        tolerance: see `TOLERANCE`.
        most: iterations at most.
        single: keep the posteriors in 32 bits. Nothing that is iterated reads them.
    """
    check_run(tolerance, most)
    size, _, k = votes.shape
    values: FloatArray = np.empty((size, k), dtype=np.float32 if single else np.float64)
    if start is None:
        counts, totals = _shares(votes, values)
    else:
        counts, totals = start, np.full(k, size / k)
    objective: list[float] = []
    likelihood, converged = -np.inf, False
    while len(objective) < most and not converged:
        model.maximise(counts)
        rho = (totals + 1) / (size + k) if class_prior is None else class_prior
        counts, totals, likelihood = expect(votes, model.table(), rho, values)
        prior = model.log_prior() + (0.0 if class_prior is not None else float(np.log(rho).sum()))
        objective.append(likelihood + prior)
        n = int(votes.starts[-1])
        converged = len(objective) > 1 and objective[-1] - objective[-2] <= tolerance * n
    return Fitted(values, counts, rho, likelihood, objective, converged)


def expect(
    votes: Votes, table: FloatArray, rho: FloatArray, values: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """The posterior, into `values`; its counts [W, K, K], sums [K] and the marginal log-likelihood."""
    _, w, k = votes.shape
    flat = np.ascontiguousarray(table.reshape(w * k, k))
    with np.errstate(divide="ignore"):
        log_rho = np.log(rho)
    counts, totals, likelihood = np.zeros((w * k, k)), np.zeros(k), 0.0
    for items, labels in votes.blocks():
        one_hot = votes.one_hot(items, labels)
        logits = one_hot @ flat
        logits += log_rho
        if votes.known is not None:
            given = votes.known[items]
            other = (given >= 0)[:, None] & (np.arange(k) != given[:, None])
            logits[other] = -np.inf
        likelihood += _softmax(logits)
        values[items] = logits
        totals += logits.sum(axis=0)
        counts += one_hot.T @ logits
    return counts.reshape(w, k, k), totals, likelihood


def _softmax(logits: FloatArray) -> float:
    """In place; the sum over rows of the logarithm of the normaliser."""
    top = logits[:, 0].copy()
    for column in logits.T[1:]:  # column by column: NumPy's maximum over a short last axis is many times slower
        np.maximum(top, column, out=top)
    logits -= top[:, None]
    np.exp(logits, out=logits)
    norm = logits @ np.ones(logits.shape[1])
    logits /= norm[:, None]
    return float(np.log(norm).sum() + top.sum())


def _shares(votes: Votes, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Expected counts where each item's posterior is the share of its votes (or what is known of it)."""
    _, w, k = votes.shape
    eye = np.ascontiguousarray(np.tile(np.eye(k), (w, 1)))
    counts, totals = np.zeros((w * k, k)), np.zeros(k)
    for items, labels in votes.blocks():
        one_hot = votes.one_hot(items, labels)
        shares = one_hot @ eye
        shares /= (shares @ np.ones(k))[:, None]
        if votes.known is not None:
            given = votes.known[items]
            shares[given >= 0] = np.eye(k)[given[given >= 0]]
        values[items] = shares
        totals += shares.sum(axis=0)
        counts += one_hot.T @ shares
    return counts.reshape(w, k, k), totals


def products(votes: Votes, values: FloatArray) -> FloatArray:
    """[W, K (label), K, K] sums of T_ik T_ik' over the labels of each kind: the outer products of the scores."""
    _, w, k = votes.shape
    result = np.zeros((w * k, k * k))
    for items, labels in votes.blocks():
        here = values[items]
        result += votes.one_hot(items, labels).T @ (here[:, :, None] * here[:, None, :]).reshape(len(here), k * k)
    return result.reshape(w, k, k, k)


def posterior_interval(
    votes: Votes, values: FloatArray, variance: FloatArray, z: float
) -> tuple[FloatArray, FloatArray]:
    """What not knowing the annotators leaves open of each posterior: the delta method on its logit.

    With u_ik = sum of log P_w(l | k) over the labels of an item, d logit T_ik / d u_ik = 1 and d logit T_ik / d u_ij =
    -T_ij / (1 - T_ik), and the u_ik of different classes do not depend on one another.

    Args:
        votes: the labels.
        values: [I, K] posterior.
        variance: [W, K (label), K (class)] of log P_w(l | k).
        z: half the width, in standard deviations.
    """
    _, w, k = votes.shape
    flat = np.ascontiguousarray(variance.reshape(w * k, k))
    low, high = np.empty_like(values), np.empty_like(values)
    for items, labels in votes.blocks():
        low[items], high[items] = logit_interval(values[items], votes.one_hot(items, labels) @ flat, z)
    if votes.known is not None:
        given = votes.known >= 0
        low[given] = high[given] = values[given]
    return low, high


def logit_interval(values: FloatArray, variance: FloatArray, z: float) -> tuple[FloatArray, FloatArray]:
    """Intervals of rows of posteriors [I, K] from the variances [I, K] of their unnormalised logarithms."""
    low, high = np.empty_like(values), np.empty_like(values)
    weighted = values**2 * variance
    total = weighted.sum(axis=1)
    for k in range(values.shape[1]):
        value = values[:, k]
        rest = np.delete(values, k, axis=1).sum(axis=1)  # not 1 - T: that is 0 long before the others are
        with np.errstate(divide="ignore", invalid="ignore"):
            logit = np.log(value) - np.log(rest)
            spread = np.sqrt(variance[:, k] + np.clip(total - weighted[:, k], 0, None) / rest**2)
        sure = (value <= 0) | (rest <= 0)
        half = z * np.where(np.isfinite(spread), spread, 0.0)
        low[:, k] = np.where(sure, value, sigmoid(logit - half))
        high[:, k] = np.where(sure, value, sigmoid(logit + half))
    return low, high


def share_interval(value: FloatArray, variance: FloatArray, z: float) -> tuple[FloatArray, FloatArray]:
    """Intervals of shares in (0, 1): normal on the logit, d logit p = dp / (p (1 - p))."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logit = np.log(value) - np.log1p(-value)
        half = z * np.sqrt(np.clip(variance, 0, None)) / (value * (1 - value))
    return sigmoid(logit - half), sigmoid(logit + half)


def most_probable_classes(values: FloatArray) -> IntArray:
    """In blocks, so that a large posterior is not copied; in 32 bits where the posterior is."""
    size = 1 << 17
    made: IntArray = np.empty(len(values), dtype=np.int32 if values.dtype == np.float32 else np.int64)
    for start in range(0, len(values), size):
        made[start : start + size] = most_probable(values[start : start + size])
    return made
