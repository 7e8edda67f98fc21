"""Newton's method for strengths, coefficients of covariates and a tie parameter, with dense linear algebra.

The parameters stand in one vector: n strengths, k coefficients, then the tie parameter if there is one. What a method
of solving must offer is `System`; `prefdata.stats.bt_sparse` offers another for many contestants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prefdata.stats.bt_batch import LOST
from prefdata.stats.bt_outcomes import Outcomes, Slopes
from prefdata.stats.comparisons import Cells, FloatArray
from prefdata.stats.components import components
from prefdata.stats.logistic import log_sigmoid, sigmoid

_STEPS = 200
_TOLERANCE = 1e-11
_FLAT = 1e-9
_SAFE = 0.5
"""Strengths that change by no more than this change no difference by more than D = 1, and then a full step is sure to
climb: the third derivative of a logistic term is at most its second, so that the step gains at least
s.H.s (1 - (e^D - 1 - D)/D^2), which is positive for D < 1.79 (derived)."""


@dataclass(frozen=True)
class Penalty:
    """What is added to the log-likelihood, and taken from it.

    Attributes:
        prior: virtual comparisons of each contestant against one of strength 0, half of them won.
        ridge: prior/2 sum theta^2.
        covariates: ridge of the coefficients.
    """

    prior: float = 0.0
    ridge: float = 0.0
    covariates: float = 0.0

    @property
    def anchored(self) -> bool:
        """Whether adding one number to all strengths changes the objective."""
        return self.prior > 0 or self.ridge > 0

    def value(self, theta: FloatArray, beta: FloatArray) -> float:
        """Of these strengths and coefficients."""
        out = -0.5 * self.ridge * float(theta @ theta) - 0.5 * self.covariates * float(beta @ beta)
        return out + (self.prior / 2 * float((log_sigmoid(theta) + log_sigmoid(-theta)).sum()) if self.prior else 0.0)

    def gradient(self, theta: FloatArray, beta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """[n] and [k]."""
        return self.prior * (0.5 - sigmoid(theta)) - self.ridge * theta, -self.covariates * beta

    def curvature(self, theta: FloatArray) -> FloatArray:
        """[n] minus the second derivatives in the strengths."""
        p = sigmoid(theta)
        return self.prior * p * (1 - p) + self.ridge


class System(Protocol):
    """The information at a point, and how systems with it are solved.

    Attributes:
        corner: [b, b] the information of coefficients and tie parameter if the strengths were known.
        exact: whether the last system was solved to the accuracy asked for.
    """

    corner: FloatArray
    exact: bool

    def solve(self, right: FloatArray, accuracy: float = ...) -> FloatArray:
        """[p] or [p, c]: the information's inverse times `right`, to this relative accuracy."""

    def border(self) -> FloatArray:
        """[b, b]: the information of coefficients and tie parameter that not knowing the strengths leaves."""


@dataclass(frozen=True)
class Point:
    """Where Newton's method ended.

    Attributes:
        theta: [n] strengths.
        beta: [k] coefficients.
        tau: the tie parameter; 0 without one.
        system: the information there.
        gradient: the largest entry of the gradient.
        steps: how many were taken.
        converged: whether the last step was small, or the gradient zero up to rounding.
    """

    theta: FloatArray
    beta: FloatArray
    tau: float
    system: System
    gradient: float
    steps: int
    converged: bool

    def differences(self, cells: Cells) -> FloatArray:
        """[e] of the cells."""
        return differences(cells, self.theta, self.beta)


def differences(cells: Cells, theta: FloatArray, beta: FloatArray) -> FloatArray:
    """[e] the logit of each cell: the strength of the first, less that of the second, plus its covariates' part."""
    d: FloatArray = theta[cells.first] - theta[cells.second]
    return d + cells.covariates @ beta if len(beta) else d


def newton(
    cells: Cells,
    outcomes: Outcomes,
    penalty: Penalty,
    build: Callable[[Cells, Slopes, Penalty, FloatArray, int], System],
    *,
    tolerance: float = _TOLERANCE,
) -> Point:
    """Climb to the maximum.

    Args:
        cells: the comparisons.
        outcomes: the model of ties.
        penalty: prior and ridges.
        build: makes the system of a point from cells, slopes, penalty, strengths and the number of tie parameters.
        tolerance: of the last step, beside 1 + the largest parameter.

    Raises:
        ValueError: the covariates are no more than differences of strengths, or separate the outcomes.
    """
    n, k = cells.n, cells.covariates.shape[1]
    at = np.zeros(n + k + outcomes.size)
    plain = not (outcomes.size or k)
    if outcomes.size:
        at[-1] = outcomes.start(cells)

    def parts(x: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        return x[:n], x[n : n + k], float(x[-1]) if outcomes.size else 0.0

    def value(x: FloatArray) -> float:
        theta, beta, tau = parts(x)
        return outcomes.value(cells, differences(cells, theta, beta), tau) + penalty.value(theta, beta)

    rounding = 4 * np.finfo(float).eps * float(_by_contestant(cells, cells.weight, 1.0).max(initial=0.0))
    start, converged, steps, first = None, False, 0, 0.0
    while True:
        theta, beta, tau = parts(at)
        slopes = outcomes.slopes(cells, differences(cells, theta, beta), tau)
        system = build(cells, slopes, penalty, theta, outcomes.size)
        if start is None and k:
            start = _start(system, k, penalty)
        gradient = full_gradient(cells, slopes, penalty, theta, beta, outcomes.size)
        size = float(np.abs(gradient).max(initial=0.0))
        if converged or steps == _STEPS:
            break
        first = first or size
        step = system.solve(gradient, min(0.1, size / first) if first else 0.1)
        # Very many votes and a small prior: the gradient cannot come closer to zero than its terms are rounded.
        small = float(np.abs(step).max()) <= tolerance * (1 + float(np.abs(at).max()))
        converged = bool((small and system.exact) or size <= rounding)
        if not (converged or (plain and float(np.abs(step).max()) <= _SAFE)):
            here = value(at)
            for _ in range(40):  # Newton on a logistic likelihood may overshoot; halving restores the ascent
                if value(at + step) >= here - 1e-9 * (1 + abs(here)):
                    break
                step = step / 2
        at, steps = at + step, steps + 1
    if start is not None:
        _refuse_flat(system.border()[:k, :k], start, penalty)
    return Point(theta, beta, tau, system, size, steps, converged)


def full_gradient(
    cells: Cells, slopes: Slopes, penalty: Penalty, theta: FloatArray, beta: FloatArray, ties: int
) -> FloatArray:
    """[p] of the penalised log-likelihood."""
    down, down_beta = penalty.gradient(theta, beta)
    out = [_by_contestant(cells, slopes.d, -1.0) + down, cells.covariates.T @ slopes.d + down_beta]
    return np.concatenate([*out, np.array([slopes.tie])] if ties else out)


def assemble(cells: Cells, dd: FloatArray, cross: FloatArray, tie_tie: float, ties: int) -> FloatArray:
    """[p, p] the sum over cells of x x^T dd, with x = e_first - e_second and its covariates; and the tie's border."""
    n, k = cells.n, cells.covariates.shape[1]
    out = np.zeros((n + k + ties, n + k + ties))
    table = np.bincount(cells.first * n + cells.second, weights=dd, minlength=n * n).reshape(n, n)
    table = table + table.T
    out[:n, :n] = np.diag(table.sum(axis=1)) - table
    side, corner = border(cells, dd, cross, tie_tie, ties)
    out[:n, n:], out[n:, :n], out[n:, n:] = side, side.T, corner
    return out


def border(cells: Cells, dd: FloatArray, cross: FloatArray, tie_tie: float, ties: int) -> tuple[FloatArray, FloatArray]:
    """[n, k + ties] and [k + ties, k + ties]: the part of `assemble` that is not of strengths alone."""
    x = cells.covariates
    columns = [_by_contestant(cells, dd * column, -1.0) for column in x.T]
    corner = np.zeros((x.shape[1] + ties, x.shape[1] + ties))
    corner[: x.shape[1], : x.shape[1]] = x.T @ (x * dd[:, None])
    if ties:
        columns.append(_by_contestant(cells, cross, -1.0))
        corner[-1, :-1] = corner[:-1, -1] = x.T @ cross
        corner[-1, -1] = tie_tie
    return (np.stack(columns, axis=1) if columns else np.zeros((cells.n, 0))), corner


class Dense:
    """The information as a matrix."""

    def __init__(self, cells: Cells, slopes: Slopes, penalty: Penalty, theta: FloatArray, ties: int) -> None:
        """Assemble it, made invertible along (1, ..., 1) where nothing else does that."""
        n = cells.n
        self.n = n
        self.matrix = assemble(cells, slopes.dd, slopes.cross, slopes.tie_tie, ties)
        places = np.arange(n)
        scale = float(self.matrix[places, places].sum()) / n
        lost = penalty.anchored and bool(penalty.curvature(theta).max() < LOST * scale)
        if penalty.anchored:
            self.matrix[places, places] += penalty.curvature(theta)
        if lost and components(n, cells.first, cells.second).max() > 0:
            raise ValueError(
                "weights are so large that the prior, which alone holds groups without a comparison between them "
                "together, is lost beside them: scale the weights down"
            )
        if lost or not penalty.anchored:
            # The likelihood does not change along (1, ..., 1), nor does the step: sums stay zero.
            self.matrix[:n, :n] += (scale if scale > 0 else 1.0) / n
        own = np.arange(n, len(self.matrix) - ties)
        self.matrix[own, own] += penalty.covariates
        self.corner = self.matrix[n:, n:]
        self.exact = True

    def solve(self, right: FloatArray, accuracy: float = 0.0) -> FloatArray:
        """Exactly, whatever the accuracy asked for."""
        found: FloatArray
        try:
            found = np.asarray(np.linalg.solve(self.matrix, right), dtype=np.float64)
        except np.linalg.LinAlgError:
            found = np.asarray(np.linalg.lstsq(self.matrix, right, rcond=None)[0], dtype=np.float64)
        return found

    def border(self) -> FloatArray:
        """The Schur complement of the strengths."""
        n = self.n
        found: FloatArray = self.matrix[n:, n:] - self.matrix[n:, :n] @ np.linalg.solve(
            self.matrix[:n, :n], self.matrix[:n, n:]
        )
        return found


def _by_contestant(cells: Cells, values: FloatArray, sign: float) -> FloatArray:
    """[n] the sum over cells of the first, and with this sign of the second."""
    n = cells.n
    out: FloatArray = np.bincount(cells.first, weights=values, minlength=n) + sign * np.bincount(
        cells.second, weights=values, minlength=n
    )
    return out


def _start(system: System, k: int, penalty: Penalty) -> FloatArray:
    """What the covariates would tell if all were equal; the measure of what they tell in the end."""
    found = system.border()[:k, :k]
    if penalty.covariates:
        return found
    scale = 1 / np.sqrt(np.diag(system.corner[:k, :k]))
    if float(np.linalg.eigvalsh(found * np.outer(scale, scale))[0]) < _FLAT:
        raise ValueError(
            "the covariates cannot be told apart from the strengths or from one another (each contestant has always "
            "the same value, or a column repeats others): leave one out, or give covariate_ridge"
        )
    return found


def _refuse_flat(end: FloatArray, start: FloatArray, penalty: Penalty) -> None:
    """The likelihood has lost its curvature in some direction: there it still rises, towards infinity."""
    if penalty.covariates:
        return
    values, vectors = np.linalg.eigh(start)
    root = vectors / np.sqrt(np.maximum(values, np.finfo(float).tiny))
    if not np.isfinite(end).all() or float(np.linalg.eigvalsh(root.T @ end @ root)[0]) < _FLAT:
        raise ValueError(
            "the covariates separate the outcomes, so their coefficients are not finite: give covariate_ridge"
        )
