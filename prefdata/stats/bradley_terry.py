r"""Bradley-Terry strengths from comparisons, ties and soft outcomes.

The model (Bradley and Terry, 1952): P(i beats j) = sigma(theta_i - theta_j). With W_ij the weight of i's wins over j,
the log-likelihood is sum_ij W_ij log sigma(theta_i - theta_j). It is concave, so Newton's method on the aggregated
table W finds its one maximum to machine precision in a few steps. A soft outcome p adds p to W_ij and 1 - p to W_ji; a
tie is p = 1/2, half a win each (good point estimates; not a likelihood of ties).

A maximum exists only if the graph "i beat j" is strongly connected (Ford, 1957). Otherwise a prior keeps it finite:
each contestant plays `prior` further comparisons against a virtual one of strength 0, half won and half lost, which
adds prior/2 * [log sigma(theta_i) + log sigma(-theta_i)]. Strengths are shifted to sum zero at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

DEFAULT_PRIOR = 1.0
"""Virtual comparisons of each contestant, half won and half lost: two unanimous votes then give P = 0.88, not 1."""

_STEPS = 200
_TOLERANCE = 1e-11


@dataclass(frozen=True)
class BradleyTerry:
    """What a fit gives.

    Attributes:
        strengths: [n], in logits, sum zero, higher is better.
        covariance: [n, n], of the strengths: the inverse information (with a prior: of the posterior), or the sandwich.
        components: [n], which strongly connected component of the win graph each contestant is in, numbered from 0 in
            the order of their first members. One component: the maximum exists without a prior. Contestants of
            different components are comparable only through the prior.
        prior: the prior that was used; 0 for plain maximum likelihood.
        converged: whether the last Newton step was below 1e-11, or the gradient zero up to rounding.
    """

    strengths: FloatArray
    covariance: FloatArray
    components: IntArray
    prior: float
    converged: bool

    @property
    def standard_errors(self) -> FloatArray:
        """[n], of each strength (they sum to zero: for a difference use `difference_error`)."""
        return np.sqrt(np.clip(np.diag(self.covariance), 0.0, None))

    def difference_error(self, i: int, j: int) -> float:
        """Standard error of strengths[i] - strengths[j]: sqrt(C_ii + C_jj - 2 C_ij)."""
        c = self.covariance
        return float(np.sqrt(max(c[i, i] + c[j, j] - 2 * c[i, j], 0.0)))

    def probability(self, i: int, j: int) -> float:
        """P(i beats j)."""
        return float(_sigmoid(self.strengths[i] - self.strengths[j]))


def bradley_terry(
    winners: ArrayLike,
    losers: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    p: ArrayLike | None = None,
    n: int | None = None,
    prior: float | None = None,
    robust: bool = False,
) -> BradleyTerry:
    """Fit strengths to comparisons.

    Costs O(n^3) time and O(n^2) memory in the number of contestants, and one pass over the comparisons.

    Args:
        winners: [m] integers in [0, n): who won.
        losers: [m] integers in [0, n): who lost.
        weights: [m] non-negative weights; 1 each unless given.
        p: [m] P(winner is better) in [0, 1]; 1 each unless given. 0.5 is a tie.
        n: how many contestants; one more than the highest index unless given.
        prior: virtual comparisons of each contestant with an average one, half won and half lost. None: 0 where the
            maximum of the likelihood exists, else `DEFAULT_PRIOR`.
        robust: the sandwich H^-1 B H^-1 with B = sum w^2 (y - p)^2 x x^T for the covariance in place of H^-1. Right
            also where outcomes are soft or ties, whose variance is smaller than p (1 - p).

    Raises:
        ValueError: arrays of different lengths, an index out of range, a contestant against itself, a weight or a
            probability out of range, no contestant, or prior=0 where the maximum does not exist.
    """
    first, second, y, w, size = _checked(winners, losers, weights, p, n, prior)
    cells = first * size + second
    lost = np.bincount(second * size + first, weights=w * (1 - y), minlength=size * size)
    wins = (np.bincount(cells, weights=w * y, minlength=size * size) + lost).astype(np.float64).reshape(size, size)
    components = _strong_components(wins > 0)
    if prior is None:
        prior = 0.0 if components.max() == 0 else DEFAULT_PRIOR
    elif prior == 0 and components.max() > 0:
        raise ValueError(
            f"without a prior the strengths are not finite: the win graph falls into {components.max() + 1} strongly "
            f"connected components (somebody won or lost every comparison with the others); give a prior"
        )
    strengths, covariance, converged = bradley_terry_batch(wins[None], prior=prior)
    theta, spread = strengths[0], covariance[0]
    if robust:
        residual = np.bincount(
            cells, weights=w**2 * (y - _sigmoid(theta[first] - theta[second])) ** 2, minlength=size * size
        ).reshape(size, size)
        residual = residual + residual.T
        spread = spread @ (np.diag(residual.sum(axis=1)) - residual) @ spread
    return BradleyTerry(theta, spread, components, float(prior), bool(converged[0]))


def bradley_terry_batch(wins: FloatArray, *, prior: float = DEFAULT_PRIOR) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Fit many small problems of one size at once; each one's result does not depend on the others.

    Args:
        wins: [b, n, n]; wins[:, i, j] is the weight of i's wins over j, a tie half to each. The diagonal is ignored.
        prior: as in `bradley_terry`; 0 only where every maximum exists.

    Returns:
        strengths [b, n] with sum zero, their covariance [b, n, n] (inverse information), converged [b].
    """
    count, n = wins.shape[0], wins.shape[1]
    wins = np.where(np.eye(n, dtype=bool), 0.0, wins)
    games = wins + wins.transpose(0, 2, 1)
    theta = np.zeros((count, n))
    converged = np.zeros(count, dtype=bool)
    value = _log_likelihood(theta, wins, prior)
    for _ in range(_STEPS):
        active = np.flatnonzero(~converged)
        if not len(active):
            break
        here = theta[active]
        gradient, information = _derivatives(here, wins[active], games[active], prior)
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        small = np.abs(step).max(axis=1) <= _TOLERANCE * (1 + np.abs(here).max(axis=1))
        # Very many votes and a small prior: the gradient cannot come closer to zero than its terms are rounded.
        small |= np.abs(gradient).max(axis=1) <= 4 * np.finfo(float).eps * games[active].sum(axis=2).max(axis=1)
        there, new = here + step, np.zeros(len(active))
        todo = np.ones(len(active), dtype=bool)
        for _ in range(40):  # Newton on a logistic likelihood may overshoot; halving the step restores the ascent
            new[todo] = _log_likelihood(there[todo], wins[active[todo]], prior)
            todo &= ~small & ~(new >= value[active] - 1e-9 * (1 + np.abs(value[active])))
            if not todo.any():
                break
            step[todo] /= 2
            there[todo] = here[todo] + step[todo]
        theta[active], value[active] = there, new
        converged[active] = small
    _, information = _derivatives(theta, wins, games, prior)
    # The shift to sum zero, applied to both sides of the inverse.
    centre = np.eye(n) - 1.0 / n
    covariance = centre @ np.linalg.inv(information) @ centre
    return theta - theta.mean(axis=1, keepdims=True), covariance, converged


def _derivatives(theta: FloatArray, wins: FloatArray, games: FloatArray, prior: float) -> tuple[FloatArray, FloatArray]:
    """Gradient [b, n] and information (minus the Hessian) [b, n, n], made invertible along (1, ..., 1)."""
    n = theta.shape[1]
    p = _sigmoid(theta[:, :, None] - theta[:, None, :])
    gradient = (wins - games * p).sum(axis=2)
    curvature = games * p * (1 - p)
    information = -curvature
    diagonal = np.arange(n)
    information[:, diagonal, diagonal] += curvature.sum(axis=2)
    if prior > 0:
        alone = _sigmoid(theta)
        gradient += prior * (0.5 - alone)
        information[:, diagonal, diagonal] += prior * alone * (1 - alone)
    else:
        # Without a prior the likelihood does not change along (1, ..., 1), nor does the step: sums stay zero.
        scale = np.trace(information, axis1=1, axis2=2) / n
        information += np.where(scale > 0, scale, 1.0)[:, None, None] / n
    return gradient, information


def _log_likelihood(theta: FloatArray, wins: FloatArray, prior: float) -> FloatArray:
    difference = theta[:, :, None] - theta[:, None, :]
    value = -(wins * np.logaddexp(0.0, -difference)).sum(axis=(1, 2))
    if prior > 0:
        value = value - prior / 2 * (np.logaddexp(0.0, -theta) + np.logaddexp(0.0, theta)).sum(axis=1)
    result: FloatArray = value
    return result


def _sigmoid(x: FloatArray) -> FloatArray:
    # tanh overflows nowhere and is exactly odd, so that p_ij + p_ji = 1.
    result: FloatArray = 0.5 + 0.5 * np.tanh(x / 2)
    return result


def _checked(
    winners: ArrayLike,
    losers: ArrayLike,
    weights: ArrayLike | None,
    p: ArrayLike | None,
    n: int | None,
    prior: float | None,
) -> tuple[IntArray, IntArray, FloatArray, FloatArray, int]:
    first, second = np.asarray(winners), np.asarray(losers)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"winners and losers must be two lists of one length; they are {first.shape}, {second.shape}")
    if len(first) and not (np.issubdtype(first.dtype, np.integer) and np.issubdtype(second.dtype, np.integer)):
        raise ValueError("winners and losers must be integers, the positions of the contestants")
    a, b = first.astype(np.int64), second.astype(np.int64)
    size = n if n is not None else int(max(a.max(initial=-1), b.max(initial=-1))) + 1
    if size < 1:
        raise ValueError("there is no contestant: no comparison was given, and no n")
    if len(a) and (min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= size):
        raise ValueError(f"winners and losers must lie in [0, {size})")
    if (a == b).any():
        raise ValueError(f"comparison {int(np.argmax(a == b))} is of a contestant with itself")
    y = np.ones(len(a)) if p is None else np.asarray(p, dtype=np.float64)
    w = np.ones(len(a)) if weights is None else np.asarray(weights, dtype=np.float64)
    if y.shape != a.shape or w.shape != a.shape:
        raise ValueError(f"p and weights must have one entry for each of the {len(a)} comparisons")
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError("p must lie in [0, 1]: it is the probability that the winner is better")
    if not ((w >= 0) & np.isfinite(w)).all():
        raise ValueError("weights must be finite and not negative")
    if prior is not None and not (prior >= 0 and np.isfinite(prior)):
        raise ValueError(f"the prior must be finite and not negative; it is {prior}")
    return a, b, y, w, size


def _strong_components(beat: BoolArray) -> IntArray:
    """Strongly connected components of the graph with an edge i -> j where beat[i, j] (Tarjan, without recursion)."""
    n = len(beat)
    sources, targets = np.nonzero(beat)
    starts = np.searchsorted(sources, np.arange(n + 1)).tolist()
    following = targets.tolist()
    order, low, component = [-1] * n, [0] * n, [-1] * n
    stack: list[int] = []
    seen = found = 0
    for root in range(n):
        if order[root] >= 0:
            continue
        work = [(root, starts[root])]
        while work:
            node, edge = work.pop()
            if order[node] < 0:
                order[node] = low[node] = seen
                seen += 1
                stack.append(node)
            if edge < starts[node + 1]:
                work.append((node, edge + 1))
                other = following[edge]
                if order[other] < 0:
                    work.append((other, starts[other]))
                elif component[other] < 0:
                    low[node] = min(low[node], order[other])
                continue
            if low[node] == order[node]:
                while component[node] < 0:
                    component[stack.pop()] = found
                found += 1
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[node])
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)
