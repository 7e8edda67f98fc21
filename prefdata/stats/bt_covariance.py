"""Covariances of a Bradley-Terry fit: inverse information, and sandwiches by rows and by clusters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from prefdata.stats.bt_newton import Dense, Penalty, Point, assemble
from prefdata.stats.bt_outcomes import Outcomes
from prefdata.stats.bt_sparse import Sparse, probed_variances
from prefdata.stats.comparisons import Cells, FloatArray, IntArray, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_DENSE_SCORES = 8_000_000
_SOLVED = 256
_ROUNDING = 1e-14


@dataclass(frozen=True)
class Spread:
    """How uncertain a fit is.

    Attributes:
        variances: [n] of the strengths, shifted to sum zero; 0 where a sandwich holds nothing but rounding.
        border: [b, b] covariance of coefficients and tie parameter.
        covariance: [n, n] of the strengths; None for a sparse fit.
        probe_error: largest relative standard error that random probes leave in a standard error; 0 for a dense fit.
        system: the information of a sparse fit.
        root: R of its sandwich H^-1 R R^T H^-1.
    """

    variances: FloatArray
    border: FloatArray
    covariance: FloatArray | None
    probe_error: float = 0.0
    system: Sparse | None = None
    root: csr_array | None = None

    def of_difference(self, i: int, j: int) -> float:
        """Variance of strength i minus strength j; a sparse fit solves one system for it."""
        if i == j:
            return 0.0
        if self.covariance is not None:
            c = self.covariance
            return max(float(c[i, i] + c[j, j] - 2 * c[i, j]), 0.0)
        if self.system is None or self.root is None:
            return float("nan")
        apart = np.zeros(self.root.shape[0])
        apart[i], apart[j] = 1.0, -1.0
        half = self.root.T @ self.system.solve(apart)
        return float(half @ half)


def spread(
    rows: Rows,
    cells: Cells,
    outcomes: Outcomes,
    penalty: Penalty,
    point: Point,
    *,
    robust: bool,
    components: IntArray,
    seed: int,
) -> Spread:
    """The covariance of a fit.

    With a prior or a ridge its information is part of the sandwich's filling too, as if the prior were data: a
    contestant of whom little is known is then as uncertain as the prior says, not certain. For the same reason pairs
    of different components, whose outcomes are all alike, fill it with the variance that the model expects of them.
    """
    system = point.system
    if robust and components.max() > 0:
        cells = _expected_between(cells, outcomes, point, components)
    if isinstance(system, Sparse):
        return _sparse(rows, cells, outcomes, penalty, point, system, robust, components, seed)
    assert isinstance(system, Dense)
    inverse = np.linalg.inv(system.matrix)
    plain = np.diag(inverse)[: cells.n] * (_unit(cells) if robust else 0.0)
    if robust:
        inverse = inverse @ _filling(rows, cells, outcomes, penalty, point, components) @ inverse
    n = cells.n
    # The shift to sum zero, applied to both sides.
    inverse[:n] -= inverse[:n].mean(axis=0)
    inverse[:, :n] -= inverse[:, :n].mean(axis=1, keepdims=True)
    inverse = (inverse + inverse.T) / 2
    variances = np.diag(inverse)[:n]
    return Spread(np.where(variances > _ROUNDING * plain, variances, 0.0), inverse[n:, n:], inverse[:n, :n])


def _unit(cells: Cells) -> float:
    """What a sandwich is larger than the information's inverse by, if all weights are multiplied."""
    squares = float(cells.squares.sum()) + (float(cells.soft[0].sum()) if cells.soft is not None else 0.0)
    return squares / float(cells.weight.sum()) if squares else 1.0


def _expected_between(cells: Cells, outcomes: Outcomes, point: Point, components: IntArray) -> Cells:
    """The cells with expected squares of scores between components in place of those seen."""
    between = components[cells.first] != components[cells.second]
    total = cells.squares.sum(axis=0) + (cells.soft[0] if cells.soft is not None else 0.0)
    expected = total * np.stack(outcomes.chances(point.differences(cells), point.tau))
    soft = None if cells.soft is None else np.where(between, 0.0, cells.soft)
    return replace(cells, squares=np.where(between, expected, cells.squares), soft=soft)


def _between(cells: Cells, components: IntArray) -> Cells | None:
    """Only the cells between components."""
    which = components[cells.first] != components[cells.second]
    if not which.any():
        return None
    parts = {name: getattr(cells, name)[which] for name in ("first", "second", "win", "tie", "loss", "covariates")}
    return Cells(n=cells.n, squares=cells.squares[:, which], soft=None, **parts)


def _filling(
    rows: Rows, cells: Cells, outcomes: Outcomes, penalty: Penalty, point: Point, components: IntArray
) -> FloatArray:
    """[p, p] the sum of squared scores, by rows or by clusters."""
    found: FloatArray
    if rows.clusters is not None:
        by = _cluster_scores(rows, outcomes, point)
        found = by.T @ by if isinstance(by, np.ndarray) else (by.T @ by).toarray()
        apart = _between(cells, components)
        if apart is not None:
            found += assemble(apart, *_second_moments(apart, outcomes, point), outcomes.size)
    else:
        found = assemble(cells, *_second_moments(cells, outcomes, point), outcomes.size)
    places = np.arange(len(found))
    found[places[: cells.n], places[: cells.n]] += penalty.curvature(point.theta)
    own = places[cells.n : cells.n + cells.covariates.shape[1]]
    found[own, own] += penalty.covariates
    return found


def _second_moments(cells: Cells, outcomes: Outcomes, point: Point) -> tuple[FloatArray, FloatArray, float]:
    """Sums over the rows of each cell: score in d squared, times the score in the tie parameter; the latter squared."""
    d = point.differences(cells)
    by_d, by_tie = outcomes.scores(d, point.tau)
    squared = (cells.squares * by_d**2).sum(axis=0) + _soft(cells, outcomes, d)
    return squared, (cells.squares * by_d * by_tie).sum(axis=0), float((cells.squares * by_tie**2).sum())


def _soft(cells: Cells, outcomes: Outcomes, d: FloatArray) -> FloatArray | float:
    if cells.soft is None:
        return 0.0
    p = outcomes.chances(d, 0.0)[0]
    found: FloatArray = np.maximum(cells.soft[2] - 2 * p * cells.soft[1] + p**2 * cells.soft[0], 0.0)
    return found


def _cluster_scores(rows: Rows, outcomes: Outcomes, point: Point) -> csr_array | FloatArray:
    """[clusters, p] the sum of the scores of each cluster's rows; dense where that is not large."""
    from scipy.sparse import coo_array

    assert rows.clusters is not None
    n, k, m = rows.n, rows.covariates.shape[1], len(rows.clusters)
    first, second = rows.first.astype(np.int64), rows.second.astype(np.int64)
    d = point.theta[first] - point.theta[second] + rows.covariates @ point.beta
    y, w = rows.y, rows.w
    if outcomes.size:
        by_d, by_tie = outcomes.scores(d, point.tau)
        which = (2 - 2 * y).astype(np.int64)  # 0 a win, 1 a tie, 2 a loss
        score, tie = w * by_d[which, np.arange(m)], w * by_tie[which, np.arange(m)]
    else:
        score, tie = w * (y - outcomes.chances(d, 0.0)[0]), np.zeros(0)
    values: list[FloatArray] = [score, -score, *(score * column for column in rows.covariates.T)]
    columns: list[IntArray] = [first, second, *(np.full(m, n + number) for number in range(k))]
    if outcomes.size:
        values.append(tie)
        columns.append(np.full(m, n + k))
    size = (int(rows.clusters.max()) + 1, n + k + outcomes.size)
    if size[0] * size[1] <= _DENSE_SCORES:
        out = np.zeros(size[0] * size[1])
        for value, column in zip(values, columns, strict=True):
            out += np.bincount(rows.clusters * size[1] + column, weights=value, minlength=len(out))
        return out.reshape(size)
    places = np.tile(rows.clusters, len(values))
    return coo_array((np.concatenate(values), (places, np.concatenate(columns))), shape=size).tocsr()


def _sparse(
    rows: Rows,
    cells: Cells,
    outcomes: Outcomes,
    penalty: Penalty,
    point: Point,
    system: Sparse,
    robust: bool,
    components: IntArray,
    seed: int,
) -> Spread:
    from scipy.sparse import coo_array, csr_array, hstack

    n, k = cells.n, cells.covariates.shape[1]
    size = n + k + outcomes.size
    if rows.clusters is not None:
        root = csr_array(_cluster_scores(rows, outcomes, point).T)
        apart = _between(cells, components)
        if apart is not None:
            root = hstack([root, _row_scores(apart, outcomes, point, robust)], format="csr")
    else:
        root = _row_scores(cells, outcomes, point, robust)
    own = np.concatenate([penalty.curvature(point.theta), np.full(k, penalty.covariates)])
    places = np.flatnonzero(own)
    anchor = coo_array((np.sqrt(own[places]), (places, np.arange(len(places)))), shape=(size, len(places)))
    root = hstack([root, anchor], format="csr")
    border = np.zeros((0, 0))
    plain = (_unit(cells) if robust else 0.0) / np.where(system.diagonal > 0, system.diagonal, 1.0)
    if n <= _SOLVED:
        half = root.T @ system.solve(np.eye(size))
        half[:, :n] -= half[:, :n].mean(axis=1, keepdims=True)
        whole = half.T @ half
        variances = np.diag(whole)[:n]
        variances = np.where(variances > _ROUNDING * plain, variances, 0.0)
        return Spread(variances, whole[n:, n:], whole[:n, :n], 0.0, system, root)
    variances, error = probed_variances(system, root, seed=seed)
    if size > n:
        half = root.T @ system.solve(np.eye(size)[:, n:])
        border = half.T @ half
    variances = np.where(variances <= _ROUNDING * plain, 0.0, variances)
    return Spread(variances, border, None, error, system, root)


def _row_scores(cells: Cells, outcomes: Outcomes, point: Point, robust: bool) -> csr_array:
    """[p, r] R with R R^T = the sum of squared scores, or its expectation (the information) unless robust."""
    from scipy.sparse import coo_array

    n, k, d = cells.n, cells.covariates.shape[1], point.differences(cells)
    by_d, by_tie = outcomes.scores(d, point.tau)
    weight = cells.squares if robust else cells.weight * np.stack(outcomes.chances(d, point.tau))
    if not outcomes.size:  # all in one column of each cell
        total = (weight * by_d**2).sum(axis=0) + (_soft(cells, outcomes, d) if robust else 0.0)
        by_d, by_tie, weight = np.sqrt(total)[None], np.zeros((1, len(d))), np.ones((1, len(d)))
    which, cell = np.nonzero(weight * (by_d**2 + by_tie**2))
    scale = np.sqrt(weight[which, cell])
    score, column = scale * by_d[which, cell], np.arange(len(which))
    values = [score, -score, *(score * x for x in cells.covariates[cell].T)]
    places: list[IntArray] = [cells.first[cell], cells.second[cell]]
    places += [np.full(len(cell), n + number) for number in range(k)]
    if outcomes.size:
        values.append(scale * by_tie[which, cell])
        places.append(np.full(len(cell), n + k))
    shape = (n + k + outcomes.size, len(which))
    return coo_array(
        (np.concatenate(values), (np.concatenate(places), np.tile(column, len(values)))), shape=shape
    ).tocsr()
