"""Bradley-Terry strengths from annotators of different worth, with what each of them is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.annotator_fit import CLOSE, Place, fit
from prefdata.stats.annotator_likelihood import Kind, Priors, probability
from prefdata.stats.annotator_posterior import Posterior
from prefdata.stats.checking import checked_count, checked_weights
from prefdata.stats.coding import FloatArray, IntArray
from prefdata.stats.components import components
from prefdata.stats.crowd import Column, coded
from prefdata.stats.estimate import Estimate, normal_quantile
from prefdata.stats.logistic import sigmoid

DEFAULT_PRIORS: dict[Kind, tuple[float, float]] = {
    "crowd": (10.0, 1.0),
    "noisy": (10.0, 1.0),
    "discrimination": (1.0, 0.5),
}
"""What is believed of abilities: Beta counts (Chen et al., 2013), or mean and standard deviation."""

MOST_DENSE = 4000
"""With more contestants the information is not inverted (its square of numbers, its cube of time): no intervals."""


@dataclass(frozen=True)
class AnnotatorBradleyTerry:
    """What a fit gives.

    Attributes:
        values: [n] strengths in logits, sum zero, higher is better.
        low: [n] lower ends; NaN beyond `MOST_DENSE` contestants.
        high: [n] upper ends.
        covariance: [n, n] of the strengths, the annotators' parameters free; None where there are no intervals.
        components: [n] which connected component of the comparisons each contestant is in. Those of different ones
            are comparable only through the prior.
        annotators: [W] as they were given.
        abilities: [W] crowd: probability of saying what the strengths say; noisy: probability of looking;
            discrimination: slope, 1 as in Bradley-Terry, below 0 an adversary.
        ability_low: [W].
        ability_high: [W].
        positions: [W] pull to what is shown first, in logits; NaN where no position is known or the model has none.
        position_low: [W].
        position_high: [W].
        position: the pull that annotators have in common; NaN likewise.
        ability_prior: what was used: Beta counts, or mean and standard deviation; estimated if that was asked for.
        position_prior: standard deviation of an annotator's pull around the common one.
        model: the name of the model.
        log_likelihood: of the verdicts at these parameters, without priors.
        gradient: the largest slope that is left, in units of each parameter's standard error.
        iterations: evaluations of the posterior.
        converged: whether that slope is below 1e-4.
    """

    values: FloatArray
    low: FloatArray
    high: FloatArray
    covariance: FloatArray | None
    components: IntArray
    annotators: Column
    abilities: FloatArray
    ability_low: FloatArray
    ability_high: FloatArray
    positions: FloatArray
    position_low: FloatArray
    position_high: FloatArray
    position: float
    ability_prior: tuple[float, float]
    position_prior: float
    model: Kind
    log_likelihood: float
    gradient: float
    iterations: int
    converged: bool
    _confidence: float = 0.95

    def difference(self, i: int, j: int) -> Estimate:
        """values[i] - values[j] with its interval; `n` is 0."""
        value = float(self.values[i] - self.values[j])
        if self.covariance is None:
            return Estimate(value, None, None, 0)
        c = self.covariance
        half = normal_quantile(self._confidence) * float(np.sqrt(max(c[i, i] + c[j, j] - 2 * c[i, j], 0.0)))
        return Estimate(value, value - half, value + half, 0)

    def predict(
        self,
        one: ArrayLike,
        other: ArrayLike,
        annotators: Sequence[Any] | None = None,
        position: ArrayLike = 0,
    ) -> FloatArray:
        """[m] probability that an annotator prefers `one` to `other`.

        Args:
            one: [m] contestants.
            other: [m] contestants.
            annotators: [m] by whom; somebody who has the mean parameters where None, or where it is not known.
            position: 1 where `one` is shown first, -1 where second, 0 unknown.
        """
        d = self.values[np.asarray(one)] - self.values[np.asarray(other)]
        e = np.full(d.shape, self.abilities.mean())
        b = np.full(d.shape, 0.0 if np.isnan(self.position) else self.position)
        if annotators is not None:
            number = {name: at for at, name in enumerate(self.annotators)}
            at = np.array([number.get(name, -1) for name in annotators])
            e = np.where(at >= 0, self.abilities[at], e)
            if not np.isnan(self.position):
                b = np.where(at >= 0, self.positions[at], b)
        return probability(self.model, d, e, b, np.broadcast_to(np.asarray(position, dtype=np.float64), d.shape))


def annotator_bradley_terry(
    winners: ArrayLike,
    losers: ArrayLike,
    annotators: Column,
    *,
    p: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    position: ArrayLike | None = None,
    n: int | None = None,
    model: Kind = "crowd",
    prior: float = 1.0,
    ability_prior: tuple[float, float] | Literal["estimate"] | None = None,
    position_prior: float | Literal["estimate"] = 0.5,
    abilities: ArrayLike | None = None,
    intervals: bool = True,
    confidence: float = 0.95,
    most: int = 500,
) -> AnnotatorBradleyTerry:
    """Fit strengths and annotators together: the mode of the posterior, by L-BFGS and then Newton.

    The strengths are those that are most probable with the annotators integrated out (Laplace), each annotator is at
    the mode given them: the mode of all at once has too large a scale, and intervals that hold too little. Beyond
    `MOST_DENSE` contestants, or without intervals, it is the mode of all at once.

    With about 20 verdicts of each annotator no model of them orders the contestants better than Bradley-Terry alone;
    they pay with a hundred, or with adversaries. The models are in `annotator_likelihood`.

    Args:
        winners: [m] integers in [0, n).
        losers: [m] integers in [0, n).
        annotators: [m] by whom; any hashable.
        p: [m] P(winner is better) in [0, 1]; 1 each unless given. 0.5 is a tie: half a verdict each way.
        weights: [m] finite and not negative; 1 each unless given.
        position: [m] 1 where the winner was shown first, -1 where second, 0 unknown. Not for `crowd`, which has no
            term for it.
        n: how many contestants; one more than the highest number unless given.
        model: crowd, noisy or discrimination.
        prior: virtual comparisons of each contestant with an average one, half won and half lost; positive.
        ability_prior: crowd and noisy: Beta counts of the ability; discrimination: its mean and standard deviation.
            `DEFAULT_PRIORS` unless given. "estimate": taken from the annotators themselves (the mean of a
            discrimination stays 1, which fixes the scale). The intervals take it for known, so that it wants many
            annotators: with twenty, 95 % intervals of strengths held 80 % (crowd) to 92 %.
        position_prior: standard deviation of an annotator's pull to the first around the common one, or "estimate".
        abilities: [W] abilities that are known, in the order of `annotators` in the result, NaN where not; they stay.
        intervals: whether to compute them. They are of the observed information: annotators' parameters are free.
        confidence: in (0, 1).
        most: iterations at most.

    Raises:
        ValueError: arrays of different lengths, an index, weight, probability or position out of range, a contestant
            against itself, no comparisons, or a prior that is not positive.
    """
    z, most = normal_quantile(confidence), checked_count(most, "most", 1)
    names, posterior = _rows(winners, losers, annotators, p, weights, position, n, model, prior, abilities)
    estimated = ability_prior == "estimate", position_prior == "estimate"
    beliefs = DEFAULT_PRIORS[model] if ability_prior is None or isinstance(ability_prior, str) else ability_prior
    spread = 0.5 if isinstance(position_prior, str) else position_prior
    if not (np.isfinite([*beliefs, spread]).all() and beliefs[1] > 0 and spread > 0):
        raise ValueError(f"priors of annotators must be finite and positive; they are {beliefs} and {spread}")
    if model != "discrimination" and not beliefs[0] > 0:
        raise ValueError(f"the counts of a Beta prior must be positive; they are {beliefs}")
    posterior = replace(posterior, priors=Priors(prior, (float(beliefs[0]), float(beliefs[1])), float(spread)))
    dense = posterior.n <= MOST_DENSE
    place = fit(posterior, estimated, intervals and dense, most, dense)
    return _result(names, place, z, confidence)


def _result(names: Column, place: Place, z: float, confidence: float) -> AnnotatorBradleyTerry:
    posterior, x, found = place.posterior, place.x, place.found
    n, w = posterior.n, posterior.w
    theta, e, b = x[:n] - x[:n].mean(), posterior.ability(x), posterior.position(x)
    unknown, nobody = np.full(n, np.nan), np.full(w, np.nan)
    covariance, half, own = None, unknown, np.full((w, posterior.own), np.nan)
    if found is not None:
        centred = found.shared[:n, :n]
        centred = centred - centred.mean(axis=0)
        covariance = centred - centred.mean(axis=1, keepdims=True)
        half = z * np.sqrt(np.clip(np.diag(covariance), 0, None))
        own = z * np.sqrt(np.clip(posterior.own_covariance(found), 0, None))
    own[:, 0] = np.where(np.isnan(posterior.fixed), own[:, 0], 0.0)
    working = x[posterior.shared : posterior.shared + w]
    low, high = working - own[:, 0], working + own[:, 0]
    if posterior.kind != "discrimination":
        low, high = sigmoid(low), sigmoid(high)
    free = np.isnan(posterior.fixed)
    return AnnotatorBradleyTerry(
        theta, theta - half, theta + half, covariance, _components(posterior), names,
        e, np.where(free, low, e), np.where(free, high, e),
        nobody if b is None else b, nobody if b is None else b - own[:, 1], nobody if b is None else b + own[:, 1],
        float("nan") if b is None else float(x[n]),
        posterior.priors.ability, posterior.priors.position, posterior.kind,
        _log_likelihood(posterior, x), place.left, place.used, place.left < CLOSE, confidence,
    )  # fmt: skip


def _log_likelihood(posterior: Posterior, x: FloatArray) -> float:
    d = x[posterior.winner] - x[posterior.loser]
    e = posterior.ability(x)[posterior.annotator]
    b = posterior.position(x)
    bias = np.zeros(len(d)) if b is None else b[posterior.annotator]
    side = np.zeros(len(d)) if posterior.side is None else posterior.side
    with np.errstate(divide="ignore"):
        return float(posterior.weight @ np.log(probability(posterior.kind, d, e, bias, side)))


def _components(posterior: Posterior) -> IntArray:
    told = posterior.weight > 0
    return components(posterior.n, posterior.winner[told], posterior.loser[told])


def _rows(
    winners: ArrayLike,
    losers: ArrayLike,
    annotators: Column,
    p: ArrayLike | None,
    weights: ArrayLike | None,
    position: ArrayLike | None,
    n: int | None,
    model: Kind,
    prior: float,
    abilities: ArrayLike | None,
) -> tuple[Column, Posterior]:
    """Checked; a soft outcome is two rows, the second with winner and loser changed about."""
    if model not in get_args(Kind):
        raise ValueError(f"there is no model {model!r}; there are {', '.join(get_args(Kind))}")
    if not (prior > 0 and np.isfinite(prior)):
        raise ValueError(f"the prior of the strengths must be positive and finite; it is {prior}")
    a, b = (_contestants(column) for column in (winners, losers))
    if not (len(a) == len(b) == len(annotators)) or not len(a):
        raise ValueError(f"each comparison has a winner, a loser and an annotator; there are {len(a)}, {len(b)} "
                         f"and {len(annotators)}")  # fmt: skip
    size = checked_count(n, "n") if n is not None else int(max(a.max(), b.max())) + 1
    if min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= size:
        raise ValueError(f"winners and losers must lie in [0, {size})")
    if (a == b).any():
        raise ValueError(f"comparison {int(np.argmax(a == b))} is of a contestant with itself")
    by, names = coded(annotators, "annotator")
    y = _column(p, len(a), "p", 0, 1)
    w = checked_weights(weights, len(a), "comparisons")
    side = None if position is None else _column(position, len(a), "a position", -1, 1)
    if side is not None and not side.any():
        side = None
    if side is not None and model == "crowd":
        raise ValueError("the crowd model has no position bias: leave position out, or take noisy or discrimination")
    fixed = np.full(len(names), np.nan) if abilities is None else np.asarray(abilities, dtype=np.float64)
    _check_known(fixed, len(names), model)
    by = by.astype(np.int64)
    soft = np.flatnonzero(y < 1)
    if len(soft):
        a, b = np.concatenate([a, b[soft]]), np.concatenate([b, a[soft]])
        by = np.concatenate([by, by[soft]])
        w = np.concatenate([w * y, w[soft] * (1 - y[soft])])
        side = None if side is None else np.concatenate([side, -side[soft]])
    a, b, by, w, side = _merged(a, b, by, w, side, size, len(names))
    nothing = Priors(prior, DEFAULT_PRIORS[model], 0.5)
    return names, Posterior(model, a, b, by, w, side, size, len(names), fixed, nothing)


def _merged(
    a: IntArray, b: IntArray, by: IntArray, w: FloatArray, side: FloatArray | None, n: int, annotators: int
) -> tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray | None]:
    """What the same annotator said of the same two several times, as one row of their weight.

    Only where there are fewer possible rows than given ones: the few judges of many verdicts. Finding repetitions among
    rows that hardly repeat costs more than it saves.
    """
    places = 1 if side is None else 3
    if n * n * annotators * places > len(a) or (side is not None and (side != np.rint(side)).any()):
        return a, b, by, w, side
    key = (by * n + a) * n + b
    if side is not None:
        key = key * 3 + np.rint(side).astype(np.int64) + 1
    total = np.asarray(np.bincount(key, weights=w, minlength=n * n * annotators * places), dtype=np.float64)
    rows = np.flatnonzero(np.bincount(key, minlength=len(total)))  # a row of weight 0 stays: its annotator is there
    total, rest = total[rows], (rows // places).astype(np.int64)
    where = None if side is None else (rows % 3 - 1).astype(np.float64)
    return rest // n % n, rest % n, rest // (n * n), total, where


def _check_known(fixed: FloatArray, w: int, model: Kind) -> None:
    known = fixed[~np.isnan(fixed)] if fixed.shape == (w,) else fixed
    if fixed.shape != (w,):
        raise ValueError(f"abilities must have one entry for each of the {w} annotators, NaN where it is not known")
    if not np.isfinite(known).all() or (model != "discrimination" and not ((known >= 0) & (known <= 1)).all()):
        raise ValueError("known abilities must be finite, and probabilities for the models crowd and noisy")


def _contestants(column: ArrayLike) -> IntArray:
    array = np.asarray(column)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError("winners and losers must be lists of integers, the positions of the contestants")
    return array.astype(np.int64)


def _column(values: ArrayLike | None, size: int, what: str, low: float, high: float) -> FloatArray:
    if values is None:
        return np.ones(size)
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (size,):
        raise ValueError(f"there must be one entry for each of the {size} comparisons; {what} has {array.shape}")
    good = (array >= low) & (array <= high) & np.isfinite(array)
    if not good.all():
        raise ValueError(f"{what} must be a number from {low:g} to {high:g}; in comparison {int(np.argmin(good))} "
                         f"it is {array[int(np.argmin(good))]:g}")  # fmt: skip
    return array
