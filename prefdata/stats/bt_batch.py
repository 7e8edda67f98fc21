"""Many small Bradley-Terry problems of one size at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prefdata.stats.checking import check_magnitude
from prefdata.stats.logistic import sigmoid

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

DEFAULT_PRIOR = 1.0
"""Virtual comparisons of each contestant, half won and half lost: two unanimous votes then give P = 0.88, not 1."""

LOST = 1e-13
"""A prior below this part of the information is lost in rounding."""

_STEPS = 200
_TOLERANCE = 1e-11


def bradley_terry_batch(wins: FloatArray, *, prior: float = DEFAULT_PRIOR) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Fit many small problems of one size at once; each one's result does not depend on the others.

    Args:
        wins: [b, n, n]; wins[:, i, j] is the weight of i's wins over j, a tie half to each. The diagonal is ignored.
        prior: as in `bradley_terry`; 0 only where every maximum exists.

    Returns:
        strengths [b, n] with sum zero, their covariance [b, n, n] (inverse information), converged [b].

    Raises:
        ValueError: no square tables, a number that is negative, missing or infinite, or a prior out of range.
    """
    wins = np.asarray(wins, dtype=np.float64)
    if wins.ndim != 3 or wins.shape[1] != wins.shape[2] or not wins.shape[1]:
        raise ValueError(f"tables of wins have a row and a column for each contestant; they are {wins.shape}")
    if not ((wins >= 0) & np.isfinite(wins)).all():
        raise ValueError("a table of wins holds finite numbers that are not negative")
    if not (prior >= 0 and np.isfinite(prior)):
        raise ValueError(f"the prior must be finite and not negative; it is {prior}")
    check_magnitude(wins, "a number of wins")
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
    p = sigmoid(theta[:, :, None] - theta[:, None, :])
    gradient = (wins - games * p).sum(axis=2)
    curvature = games * p * (1 - p)
    information = -curvature
    diagonal = np.arange(n)
    information[:, diagonal, diagonal] += curvature.sum(axis=2)
    if prior > 0:
        alone = sigmoid(theta)
        gradient += prior * (0.5 - alone)
        information[:, diagonal, diagonal] += prior * alone * (1 - alone)
    # Without a prior, or one that is lost beside the votes, nothing changes along (1, ..., 1): sums stay zero.
    scale = np.trace(information, axis1=1, axis2=2) / n
    shift = np.where(scale > 0, scale, 1.0) if prior == 0 else np.where(prior < LOST * scale, scale, 0.0)
    information += shift[:, None, None] / n
    return gradient, information


def _log_likelihood(theta: FloatArray, wins: FloatArray, prior: float) -> FloatArray:
    difference = theta[:, :, None] - theta[:, None, :]
    value = -(wins * np.logaddexp(0.0, -difference)).sum(axis=(1, 2))
    if prior > 0:
        value = value - prior / 2 * (np.logaddexp(0.0, -theta) + np.logaddexp(0.0, theta)).sum(axis=1)
    result: FloatArray = value
    return result
