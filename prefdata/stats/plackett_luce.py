r"""Plackett-Luce strengths from rankings: whole, partial, with ties; and from choices.

The model (Luce, 1959; Plackett, 1975): P(r) = prod_t g_{r_t} / sum_{s >= t} g_{r_s} with g = exp(theta). Of two it is
Bradley-Terry. A ranking of the best k is the first k of these choices, with the rest of them as the last entry, a
tuple; a choice of one among several is (chosen, (the others)). The log-likelihood is concave also with ties (see
`ranking_stages`), so damped Newton steps lead to its one maximum.

A maximum exists only if the graph "i stood before j" is strongly connected (Hunter, 2004). Otherwise a prior keeps it
finite: each plays `prior` further comparisons against a virtual one of strength 0, half won and half lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.ballots import Ballots, Rankings, ballots
from prefdata.stats.bt_batch import DEFAULT_PRIOR, LOST
from prefdata.stats.coding import FloatArray, IntArray, codes
from prefdata.stats.components import components
from prefdata.stats.estimate import Estimate, normal_quantile
from prefdata.stats.logistic import log_sigmoid, sigmoid
from prefdata.stats.ranking_stages import Terms, Ties, terms

_STEPS = 200
_TOLERANCE = 1e-11
_BLOCK = 1 << 20
_WIDEST = 700.0
"""So many numbers of information are held at once."""


@dataclass(frozen=True)
class PlackettLuce:
    """What a fit gives.

    Attributes:
        values: [n] strengths, in logits, sum zero, higher is better.
        low: [n] lower ends of their intervals (normal, from the covariance).
        high: [n] upper ends.
        covariance: [n, n] of the values: the inverse information (with a prior: of the posterior), or the sandwich.
        components: [n] which strongly connected component of the graph "stood before" each is in, numbered from 0 in
            the order of their first members. Those of different components are comparable only through the prior.
        prior: the prior that was used; 0 for plain maximum likelihood.
        log_likelihood: at the values, without the prior.
        gradient: the largest entry of the gradient of what was maximised, for a certificate.
        converged: whether the last Newton step was below 1e-11, or the gradient zero up to rounding.
        n: the total weight of the rankings.
        confidence: of the intervals.
    """

    values: FloatArray
    low: FloatArray
    high: FloatArray
    covariance: FloatArray
    components: IntArray
    prior: float
    log_likelihood: float
    gradient: float
    converged: bool
    n: float
    confidence: float

    def difference(self, i: int, j: int) -> Estimate:
        """values[i] - values[j] with its interval, from sqrt(C_ii + C_jj - 2 C_ij)."""
        c = self.covariance
        half = normal_quantile(self.confidence) * float(np.sqrt(max(c[i, i] + c[j, j] - 2 * c[i, j], 0.0)))
        value = float(self.values[i] - self.values[j])
        return Estimate(value, value - half, value + half, round(self.n))

    def probability(self, i: int, j: int) -> float:
        """P(i stands before j)."""
        return float(sigmoid(self.values[i] - self.values[j]))


def plackett_luce(
    rankings: Rankings,
    *,
    n: int | None = None,
    weights: ArrayLike | None = None,
    prior: float | None = None,
    ties: Ties = "unknown",
    last: Literal["unranked", "tied"] = "unranked",
    clusters: ArrayLike | None = None,
    robust: bool = False,
    confidence: float = 0.95,
) -> PlackettLuce:
    """Fit strengths to rankings.

    Costs one pass over the rankings and O(n^3) for each of some ten Newton steps, and O(n^2) memory.

    Args:
        rankings: [m] each best first. An entry is a number in [0, n), or a tuple of numbers that share a place. Those
            who are not named were not there.
        n: how many there are; one more than the highest number unless given.
        weights: [m] not negative; 1 each unless given.
        prior: virtual comparisons of each with an average one, half won and half lost. None: 0 where the maximum of
            the likelihood exists, else `DEFAULT_PRIOR`.
        ties: what a tuple means. `unknown`: they came in some order that nobody noted (the exact probability, the sum
            over all orders). `half`: they are equal (the mean log-likelihood over all orders: of two, half a win each;
            at most 10 of them).
        last: what a tuple in the last place means: the `unranked` rest, of whom nothing is known but that they come
            last, or `tied` like any other.
        clusters: [m] rankings of one cluster depend on one another (a prompt, an annotator): their scores are summed
            in the sandwich. Makes `robust` true.
        robust: the sandwich H^-1 B H^-1 for the covariance in place of H^-1. The prior's information is part of B, as
            if it were data; and where all rankings agree on who stands before whom, so that nothing varies, it is not
            below H^-1.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: a number that is no integer or out of range, somebody twice in a ranking, a weight out of range,
            nobody at all, or prior=0 where the maximum does not exist.
    """
    z = normal_quantile(confidence)
    _check_meanings(ties, last)
    given, size = ballots(rankings, weights, n=n, together=clusters is None)
    model = _Model(given, size, ties, last == "unranked")
    components = model.components()
    prior = _chosen_prior(prior, apart=int(components.max()) + 1)
    theta, gradient, converged = model.maximum(prior)
    _, _, information = model.derivatives(theta, prior)
    inverse = np.asarray(np.linalg.inv(information), dtype=np.float64)
    if robust or clusters is not None:
        inverse = _sandwich(inverse, model.scatter(theta, clusters, len(rankings)), theta, prior, components)
    centre = np.eye(size) - 1.0 / size
    covariance = centre @ inverse @ centre
    values = theta - theta.mean()
    half = z * np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    total = float(sum(one.weights.sum() for one in given))
    return PlackettLuce(
        values=values,
        low=values - half,
        high=values + half,
        covariance=covariance,
        components=components,
        prior=prior,
        log_likelihood=model.log_likelihood(theta),
        gradient=gradient,
        converged=converged,
        n=total,
        confidence=confidence,
    )


def _chosen_prior(prior: float | None, apart: int) -> float:
    if prior is None:
        return 0.0 if apart == 1 else DEFAULT_PRIOR
    if not (prior >= 0 and np.isfinite(prior)):
        raise ValueError(f"the prior must be finite and not negative; it is {prior}")
    if prior == 0 and apart > 1:
        raise ValueError(
            f"without a prior the strengths are not finite: the graph of who stood before whom falls into {apart} "
            f"strongly connected components (somebody stood before, or behind, all the others); give a prior"
        )
    return prior


def plackett_luce_log_probability(
    rankings: Rankings,
    values: ArrayLike,
    *,
    ties: Ties = "unknown",
    last: Literal["unranked", "tied"] = "unranked",
) -> FloatArray:
    """[m] the log-probability of each ranking under strengths [n]; see `plackett_luce` for the rest.

    Raises:
        ValueError: a ranking that names somebody without a strength, or a strength that is not finite.
    """
    _check_meanings(ties, last)
    theta = np.asarray(values, dtype=np.float64)
    if theta.ndim != 1 or not np.isfinite(theta).all():
        raise ValueError("one list of finite strengths is needed")
    if len(theta) and float(np.ptp(theta)) > _WIDEST:
        raise ValueError(f"strengths lie more than {_WIDEST:g} apart: the weaker one's chance cannot be represented")
    made = np.zeros(len(rankings))  # a ranking of nobody is certain
    for one in ballots(rankings, n=len(theta), together=False)[0]:
        found = terms(theta[one.members], one.ends, ties, rest=last == "unranked", derivatives=False)
        made[one.rows] = found.value
    return made


def _sandwich(
    inverse: FloatArray, scatter: FloatArray, theta: FloatArray, prior: float, components: IntArray
) -> FloatArray:
    p = sigmoid(theta)
    made: FloatArray = inverse @ (scatter + np.diag(prior * p * (1 - p))) @ inverse
    # Between components every ranking says the same: scores without spread would claim to know what they cannot.
    return inverse if components.max() > 0 and np.trace(made) < np.trace(inverse) else made


def _check_meanings(ties: str, last: str) -> None:
    if ties not in ("unknown", "half") or last not in ("unranked", "tied"):
        raise ValueError(f"ties are unknown or half, and the last are unranked or tied; they are {ties!r}, {last!r}")


class _Model:
    """The likelihood of all rankings."""

    def __init__(self, given: list[Ballots], n: int, ties: Ties, rest: bool) -> None:
        self.given, self.n, self.ties, self.rest = given, n, ties, rest

    def components(self) -> IntArray:
        """Strongly connected components of the graph i -> j where i stood before j (or beside, as an equal)."""
        sources, targets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for one in self.given:
            places = one.ends
            # Through each place of one the chain leads on; between places of several, all pairs.
            for (start, end), following in zip(places, [*places[1:], None], strict=True):
                here = one.members[:, start:end]
                if following is not None:
                    there = one.members[:, slice(*following)]
                    sources.append(np.repeat(here, there.shape[1], axis=1).ravel())
                    targets.append(np.tile(there, here.shape[1]).ravel())
                equals = end - start > 1 and self.ties == "half" and (following is not None or not self.rest)
                if equals:
                    sources.append(here.ravel())
                    targets.append(np.roll(here, 1, axis=1).ravel())
        code = np.unique(np.concatenate(sources) * self.n + np.concatenate(targets))
        return components(self.n, code // self.n, code % self.n, strong=True)

    def _blocks(self, one: Ballots, theta: FloatArray, *, derivatives: bool) -> Iterator[tuple[slice, Terms]]:
        wide = one.members.shape[1]
        step = max(1, _BLOCK // (wide * wide if derivatives else wide))
        for start in range(0, len(one.members), step):
            part = slice(start, start + step)
            yield (
                part,
                terms(theta[one.members[part]], one.ends, self.ties, rest=self.rest, derivatives=derivatives),
            )

    def log_likelihood(self, theta: FloatArray) -> float:
        """Without the prior."""
        return float(
            sum(
                one.weights[part] @ found.value
                for one in self.given
                for part, found in self._blocks(one, theta, derivatives=False)
            )
        )

    def objective(self, theta: FloatArray, prior: float) -> float:
        """With it."""
        return self.log_likelihood(theta) + prior / 2 * float((log_sigmoid(theta) + log_sigmoid(-theta)).sum())

    def derivatives(self, theta: FloatArray, prior: float) -> tuple[float, FloatArray, FloatArray]:
        """The objective, its gradient [n] and information [n, n], made invertible along (1, ..., 1)."""
        n = self.n
        value, gradient, information = 0.0, np.zeros(n), np.zeros(n * n)
        for one in self.given:
            for part, found in self._blocks(one, theta, derivatives=True):
                members, weights = one.members[part], one.weights[part]
                value += float(weights @ found.value)
                gradient += np.bincount(members.ravel(), (found.score * weights[:, None]).ravel(), minlength=n)
                cells = (members[:, :, None] * n + members[:, None, :]).ravel()
                weighted = (found.information * weights[:, None, None]).ravel()
                information += np.bincount(cells, weighted, minlength=n * n)
        whole: FloatArray = information.reshape(n, n)
        if prior > 0:
            p = sigmoid(theta)
            value += prior / 2 * float((log_sigmoid(theta) + log_sigmoid(-theta)).sum())
            gradient += prior * (0.5 - p)
            whole[np.arange(n), np.arange(n)] += prior * p * (1 - p)
        scale = np.trace(whole) / n
        if prior == 0 or prior < LOST * scale:
            # Without a prior, or one that is lost beside the rankings, nothing changes along (1, ..., 1), nor does the
            # step: sums stay zero.
            whole += (scale or 1.0) / n
        return value, gradient, whole

    def maximum(self, prior: float) -> tuple[FloatArray, float, bool]:
        """Where the objective is highest, the largest entry of its gradient there, and whether it converged."""
        theta = np.zeros(self.n)
        weight = max(sum(float(one.weights.sum()) for one in self.given), 1.0)
        for _ in range(_STEPS):
            value, gradient, information = self.derivatives(theta, prior)
            step = np.linalg.solve(information, gradient)
            largest = float(np.abs(gradient).max())
            small = float(np.abs(step).max()) <= _TOLERANCE * (1 + float(np.abs(theta).max()))
            if small or largest <= 4 * np.finfo(float).eps * weight:
                return theta + step, largest, True
            step *= min(1.0, 10.0 / float(np.abs(step).max()))
            for _ in range(40):  # a full step may overshoot; halving it restores the ascent
                if self.objective(theta + step, prior) >= value - 1e-12 * (1 + abs(value)):
                    break
                step = step / 2
            theta = theta + step
        return theta, largest, False

    def scatter(self, theta: FloatArray, clusters: ArrayLike | None, count: int) -> FloatArray:
        """[n, n] the sum of the squared scores, of rankings or of clusters: the middle of the sandwich."""
        from scipy.sparse import coo_array

        of = None if clusters is None else _codes_of(clusters, count)
        rows, members, scores = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
        seen = 0
        for one in self.given:
            for part, found in self._blocks(one, theta, derivatives=True):
                size, wide = one.members[part].shape
                # Equal rankings have equal scores: the sum of their squares is that of one, times their weights'.
                weight = np.sqrt(one.squares[part]) if of is None else one.weights[part]
                row = np.arange(seen, seen + size) if of is None else of[one.rows[part]]
                rows.append(np.repeat(row, wide))
                members.append(one.members[part].ravel())
                scores.append((found.score * weight[:, None]).ravel())
                seen += size
        place = (np.concatenate(rows), np.concatenate(members))
        shape = (max(count, seen, 1), self.n)
        sums = coo_array((np.concatenate(scores), place), shape=shape).tocsr()
        made: FloatArray = (sums.T @ sums).toarray()
        return made


def _codes_of(clusters: ArrayLike, count: int) -> IntArray:
    named = np.asarray(clusters)
    if named.shape != (count,):
        raise ValueError(f"there must be one cluster for each of the {count} rankings")
    return codes(named if named.dtype.kind in "iuf" else named.tolist())[0]
