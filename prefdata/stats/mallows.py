r"""Mallows' model: P(r) = exp(-phi d(r, r0)) / Z, with d the number of pairs that r and r0 order differently.

Mallows (1957); Z = prod_{j=1..n} (1 - e^(-j phi)) / (1 - e^-phi). With phi = 0 every order is as likely as another. The
centre r0 of highest likelihood is Kemeny's order, and phi the root of E d = mean d, where
E d = n e^-phi / (1 - e^-phi) - sum_j j e^(-j phi) / (1 - e^(-j phi)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.ballots import Rankings, ballots
from prefdata.stats.checking import checked_count
from prefdata.stats.coding import FloatArray, IntArray
from prefdata.stats.estimate import Estimate, normal_quantile
from prefdata.stats.voting import kemeny, wins_of_rankings

_MOST = 50.0
"""A phi beyond it says no more than that nobody contradicts the centre."""


@dataclass(frozen=True)
class Mallows(Estimate):
    """What a fit gives; `value` is phi, None where no ranking contradicts the centre (phi has no upper bound then).

    Attributes:
        order: [k] the centre, best first.
        mean_distance: of the rankings from it.
        exact: whether the centre is Kemeny's order for certain.
    """

    order: IntArray
    mean_distance: float
    exact: bool


def mallows(rankings: Rankings, weights: ArrayLike | None = None, *, confidence: float = 0.95) -> Mallows:
    """Fit centre and spread to whole rankings without ties.

    Args:
        rankings: [m] each names the same [0, k) once, best first.
        weights: [m] how often each was given; 1 each unless given.
        confidence: of the interval of phi, in (0, 1): normal, from the Fisher information, for the centre as found.

    Raises:
        ValueError: a ranking that is partial or has ties, no ranking, or a weight out of range.
    """
    z = normal_quantile(confidence)
    given, n = ballots(rankings, weights)
    if any(len(one.sizes) != n or max(one.sizes) > 1 for one in given) or not given:
        raise ValueError("Mallows' model is of whole rankings without ties: each must name all of them once")
    total = sum(float(one.weights.sum()) for one in given)
    wins = wins_of_rankings(rankings, weights)
    centre = kemeny(wins)
    mean = centre.distance / total
    if mean == 0 or n == 1:
        return Mallows(None, None, None, round(total), centre.order, mean, centre.exact)
    low, high = 0.0, _MOST
    if mean >= n * (n - 1) / 4:
        high = 0.0
    for _ in range(200):  # E d falls with phi
        middle = (low + high) / 2
        low, high = (middle, high) if _moments(middle, n)[0] > mean else (low, middle)
    phi = (low + high) / 2
    half = z / float(np.sqrt(total * _moments(phi, n)[1]))
    return Mallows(phi, max(phi - half, 0.0), phi + half, round(total), centre.order, mean, centre.exact)


def mallows_log_probability(rankings: Rankings, order: ArrayLike, phi: float) -> FloatArray:
    """[m] the log-probability of whole rankings without ties, for a centre [k] and phi >= 0."""
    centre = _checked_centre(order, phi)
    n = len(centre)
    made = np.zeros(len(rankings))
    place = np.argsort(centre)
    log_z = float(np.log(np.arange(1, n + 1)).sum())
    if phi > 0:
        log_z = float((np.log(-np.expm1(-phi * np.arange(1, n + 1))) - np.log(-np.expm1(-phi))).sum())
    for one in ballots(rankings, n=n, together=False)[0]:
        if len(one.sizes) != n or max(one.sizes) > 1:
            raise ValueError("Mallows' model is of whole rankings without ties: each must name all of them once")
        there = place[one.members]
        first, second = np.triu_indices(n, 1)
        made[one.rows] = -phi * (there[:, first] > there[:, second]).sum(axis=1) - log_z
    return made


def draw_mallows(order: ArrayLike, phi: float, size: int, *, seed: int = 0) -> IntArray:
    """[size, k] rankings drawn by repeated insertion (Doignon, Pekec and Regenwetter, 2004).

    The j-th of the centre goes i places before the end of those already placed with probability ~ e^(-phi i).

    Raises:
        ValueError: a centre that does not name each of [0, k) once, or a phi or a size out of range.
    """
    centre, size = _checked_centre(order, phi), checked_count(size, "the size")
    random = np.random.default_rng(seed)
    made = np.empty((size, 0), dtype=np.int64)
    for j, one in enumerate(centre):
        weight = np.exp(-phi * np.arange(j + 1))
        jump = random.choice(j + 1, size=size, p=weight / weight.sum())
        place = j - jump
        grown = np.empty((size, j + 1), dtype=np.int64)
        column = np.arange(j + 1)
        source = np.where(column < place[:, None], column, column - 1)
        grown[:] = np.take_along_axis(made, np.clip(source, 0, max(j - 1, 0)), axis=1) if j else 0
        grown[np.arange(size), place] = one
        made = grown
    return made


def _checked_centre(order: ArrayLike, phi: float) -> IntArray:
    centre = np.asarray(order)
    whole = centre.ndim == 1 and (centre.dtype.kind in "iu" or not centre.size)
    if not (phi >= 0 and np.isfinite(phi)) or not whole or sorted(centre.tolist()) != list(range(len(centre))):
        raise ValueError("phi must be finite and not negative, and the centre must name each once")
    return centre.astype(np.int64)


def _moments(phi: float, n: int) -> tuple[float, float]:
    """Mean and variance of the distance."""
    if phi < 1e-5:  # the limit, where the closed form is a difference of very large numbers
        return n * (n - 1) / 4 - phi * n * (n - 1) * (2 * n + 5) / 72, n * (n - 1) * (2 * n + 5) / 72
    j = np.arange(1, n + 1)
    near, far = np.expm1(phi), np.expm1(j * phi)
    mean = n / near - float((j / far).sum())
    variance = n * (near + 1) / near**2 - float((j**2 * (far + 1) / far**2).sum())
    return float(mean), float(variance)
