"""Confident learning on pairs: which labels a model that never saw them contradicts with confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import checked_count, checked_numbers, checked_weights
from prefdata.stats.coding import codes
from prefdata.stats.estimate import Estimate
from prefdata.stats.intervals import wilson_interval
from prefdata.stats.logistic import logistic

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ConfidentLabels(Estimate):
    """Which labels of pairs are wrong, as far as a model is to be believed.

    `value` is the estimated share of wrong labels, None where the model is confident of none; `low` and `high` are
    Wilson's, of the n labels that are confidently right or confidently wrong. They take the model as it is.

    Attributes:
        threshold: t, the mean probability of what labels say; None without labels.
        wrong: [n] whether the model contradicts the label with confidence.
        rank: [n] the place of each label in the order of doubt, from 0 (p is least); -1 without a probability.
    """

    threshold: float | None
    wrong: NDArray[np.bool_]
    rank: NDArray[np.int64]


def confident_pairs(probability: ArrayLike, *, confidence: float = 0.95) -> ConfidentLabels:
    """Confident learning where the two classes are the two sides of a pair.

    Labels and probabilities are antisymmetric, so mirrored rows give both classes one threshold: `t = mean p`, with p
    the probability of what the label says. A label is confidently right where p >= t, confidently wrong where
    1 - p >= t (where both hold, the larger counts). The noise rate is the share of the wrong among both.

    Args:
        probability: [n] p, from a model that was not trained on the row (see `out_of_fold`); NaN is left out.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: a probability outside [0, 1].

    Source: Northcutt et al. 2021, Confident Learning: Estimating Uncertainty in Dataset Labels; for pairs derived.
    """
    p = np.asarray(probability, dtype=np.float64).ravel()
    known = ~np.isnan(p)
    if not ((p[known] >= 0) & (p[known] <= 1)).all():
        raise ValueError("the model's probabilities of the labels lie from 0 to 1")
    rank = np.full(len(p), -1, dtype=np.int64)
    rank[np.flatnonzero(known)[np.argsort(p[known], kind="stable")]] = np.arange(int(known.sum()))
    if not known.any():
        return ConfidentLabels(None, None, None, 0, None, np.zeros(len(p), dtype=bool), rank)
    t = float(p[known].mean())
    with np.errstate(invalid="ignore"):
        # The mean of equal numbers may miss them by a last bit.
        slack = 1e-12
        right = known & (p >= t - slack) & (p >= 0.5)
        wrong = known & (1 - p >= t - slack) & (p < 0.5)
        if t <= 0.5:  # both bounds may hold; the larger side counts, and an even chance counts for neither
            right &= p > 0.5
    n, found = int(right.sum() + wrong.sum()), int(wrong.sum())
    if not n:
        return ConfidentLabels(None, None, None, 0, t, wrong, rank)
    low, high = wilson_interval(found, n, confidence)
    return ConfidentLabels(found / n, low, high, n, t, wrong, rank)


@dataclass(frozen=True)
class OutOfFold:
    """Probabilities of labels by models that never saw them, nor anything of their cluster.

    Attributes:
        values: [n] P(what the label says); NaN where there was nothing to learn from.
        fold: [n] the part that each row lies in.
        converged: whether every fit did.
    """

    values: FloatArray
    fold: NDArray[np.int64]
    converged: bool


def folds_of(clusters: Sequence[Any] | NDArray[Any], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """[n] the fold of each row: whole clusters, as many in each as can be, drawn by the seed.

    Raises:
        ValueError: fewer than two folds.
    """
    if not folds >= 2:
        raise ValueError(f"at least two folds are needed; they are {folds}")
    folds = checked_count(folds, "folds")
    number, count = codes(clusters)
    order = np.random.default_rng(seed).permutation(count)
    part = np.empty(count, dtype=np.int64)
    part[order] = np.arange(count) % folds
    result: NDArray[np.int64] = part[number]
    return result


def out_of_fold(
    differences: ArrayLike,
    clusters: Sequence[Any] | NDArray[Any],
    *,
    folds: int = 5,
    ridge: float = 1.0,
    weights: ArrayLike | None = None,
    seed: int = 0,
) -> OutOfFold:
    """P(the winner is the better one) of each pair, from a logistic head on the difference of the sides' features.

    The head has no intercept: that is what mirrored rows come to, and without them a head on data whose winner always
    comes first learns nothing but that. Features are divided by their root mean square over the training part.

    Args:
        differences: [n, k] the winner's features less the loser's.
        clusters: [n] the prompt (group) of each pair; a cluster lies in one fold.
        folds: how many parts; at least 2. With fewer clusters than folds there are fewer.
        ridge: penalty of the standardised coefficients, above 0 (labels that all say "first" are separable).
        weights: [n] not negative; 1 each unless given.
        seed: of the folds.

    Raises:
        ValueError: shapes that do not fit, a feature that is not finite, or a ridge of 0.
    """
    x = checked_numbers(differences, "a feature")
    if x.ndim != 2 or len(x) != len(clusters):
        raise ValueError(f"one row of features and one cluster for each pair are needed; they are {x.shape}")
    if not (ridge > 0 and np.isfinite(ridge)):
        raise ValueError(f"the ridge must be above 0, because labels of pairs can always be separated; it is {ridge}")
    w = checked_weights(weights, len(x), "pairs")
    fold = folds_of(clusters, folds, seed)
    values, converged = np.full(len(x), np.nan), True
    for part in np.unique(fold).tolist():
        held = fold == part
        train = ~held & (w > 0)
        if not train.any():
            continue
        scale = np.sqrt((x[train] ** 2).mean(axis=0))
        use = scale > 0
        if not use.any():
            values[held] = 0.5
            continue
        fit = logistic(x[train][:, use] / scale[use], np.ones(int(train.sum())), w[train], ridge=ridge)
        values[held] = fit.probability(x[held][:, use] / scale[use])
        converged = converged and fit.converged
    return OutOfFold(values, fold, converged)
