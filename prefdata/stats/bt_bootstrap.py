"""Bootstrap of Bradley-Terry: many resamples fitted side by side, on cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.bradley_terry import (
    DENSE_LIMIT,
    Method,
    Ties,
    check_options,
    chosen_prior,
    newton_by,
    tie_model,
    without_zeros,
)
from prefdata.stats.bt_existence import Existence, existence
from prefdata.stats.bt_newton import Dense, Penalty, Point, newton
from prefdata.stats.bt_outcomes import Outcomes
from prefdata.stats.bt_sparse import SPARSE_TOLERANCE, Builder
from prefdata.stats.checking import checked_count
from prefdata.stats.comparisons import Cells, FloatArray, IntArray, Rows, cells_of, checked_rows, place_of_rows
from prefdata.stats.estimate import Estimate, Estimates
from prefdata.stats.intervals import check_confidence
from prefdata.stats.logistic import sigmoid
from prefdata.stats.resampling import MOST_UNITS

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_BLOCK = 1 << 16
_ROUNDS = 40
_TOLERANCE = 1e-8
_SLOW = 0.7
_SAME = 1e-7


@dataclass(frozen=True)
class BradleyTerryBootstrap:
    """A fit and its resamples.

    Attributes:
        values: [n] of the fit itself.
        low: [n] percentiles of the draws; NaN where too many draws have no finite strengths, where all are the same,
            and for contestants outside the largest strongly connected component of wins: outcomes that are all alike
            stay alike in every draw, so that drawing cannot show how uncertain they are.
        high: [n].
        medians: [n] of the draws.
        draws: [resamples, n], each with sum zero; NaN in the draws that failed.
        tie: as in `BradleyTerry`, with percentiles.
        coefficients: as in `BradleyTerry`, with percentiles.
        failed: how many draws have no finite maximum or did not converge. An interval counts each as beyond both ends.
        converged: whether the fit itself did.
        placed: [n] who is in the largest component.
        n: how many comparisons.
        confidence: of the intervals.
    """

    values: FloatArray
    low: FloatArray
    high: FloatArray
    medians: FloatArray
    draws: FloatArray = field(repr=False)
    tie: Estimate | None
    coefficients: Estimates | None
    failed: int
    converged: bool
    placed: NDArray[np.bool_]
    n: int
    confidence: float

    def difference(self, i: int, j: int) -> Estimate:
        """Value i minus value j, with percentiles of the differences draw by draw."""
        if not (self.converged and self.placed[i] and self.placed[j]):
            return Estimate(float(self.values[i] - self.values[j]), None, None, self.n)
        low, high = _ends(self.draws[:, [i]] - self.draws[:, [j]], self.confidence)
        return _estimate(float(self.values[i] - self.values[j]), low, high, self.n)


def bradley_terry_bootstrap(
    winners: ArrayLike,
    losers: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    p: ArrayLike | None = None,
    n: int | None = None,
    prior: float | None = None,
    ridge: float = 0.0,
    ties: Ties = "half",
    covariates: ArrayLike | None = None,
    covariate_ridge: float = 0.0,
    clusters: ArrayLike | None = None,
    method: Method = "auto",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> BradleyTerryBootstrap:
    """Percentile intervals (Efron, 1979) of strengths, coefficients and the tie parameter.

    Drawing comparisons is drawing counts of cells, and all draws climb together with the information of the fit itself
    in place of their own, which leads to each draw's own maximum in a few rounds; those it does not suit are fitted
    one by one. The sandwich (`robust`, `clusters` of `bradley_terry`) gives the same errors for a thousandth of this.

    Args:
        winners: see `bradley_terry`, as all that is not described here.
        losers: see there.
        weights: see there. Then rows are drawn, in blocks where there are more than 2048.
        p: see there. Soft outcomes are drawn as rows too.
        n: see there.
        prior: see there; each draw has the prior of the fit itself.
        ridge: see there.
        ties: see there.
        covariates: see there.
        covariate_ridge: see there.
        clusters: [m] what is drawn as a whole, in blocks where there are more than 2048.
        method: see there.
        resamples: how many draws.
        confidence: of the intervals, in (0, 1).
        seed: of the draws.

    Raises:
        ValueError: as in `bradley_terry`; no comparison; or no resamples.
    """
    check_confidence(confidence)
    check_options(prior, ridge, covariate_ridge, ties, method)
    resamples = checked_count(resamples, "resamples", 1)
    rows, used = without_zeros(checked_rows(winners, losers, weights, p, n, covariates, clusters))
    cells = cells_of(rows)
    by_rows = rows.weights is not None or rows.clusters is not None or cells.soft is not None
    if by_rows and rows.covariates.shape[1]:
        cells = cells_of(rows, merge=False)
    if not cells.weight.any():
        raise ValueError("there is no comparison with any weight: nothing can be drawn")
    outcomes = tie_model(cells, ties)
    found = existence(cells, ties)
    penalty = Penalty(chosen_prior(found, prior, ridge), ridge, covariate_ridge)
    sparse = method == "sparse" or (method == "auto" and rows.n > DENSE_LIMIT)
    point = newton_by(cells, outcomes, penalty, sparse)
    random = np.random.default_rng(seed)
    draw = _drawn_rows if by_rows else _drawn_cells
    width = max(1, _BLOCK // len(cells.first))
    parts = [
        _fitted(cells, counts, outcomes, penalty, point, sparse)
        for counts in draw(rows, cells, random, resamples, width)
    ]
    return _result(rows, used, point, np.concatenate(parts), ties, outcomes, _largest(found), confidence)


def _drawn_cells(
    rows: Rows, cells: Cells, random: np.random.Generator, resamples: int, width: int
) -> Iterator[FloatArray]:
    """[3, b, e] weights of wins, ties and losses in the draws of a block."""
    whole = np.concatenate([cells.win, cells.tie, cells.loss])
    found = np.flatnonzero(whole)
    m, size = len(rows.first), len(whole)
    share = whole[found] / whole.sum()
    of = np.repeat(found.astype(np.int32), whole[found].astype(np.int64))
    for start in range(0, resamples, width):
        out = np.zeros((min(width, resamples - start), size))
        for row in out:
            if m < 2 * len(found):  # hardly anything repeats: drawing rows is faster
                row[:] = np.bincount(of[random.integers(0, m, m)], minlength=size)
            else:
                row[found] = _multinomial(random, m, share)
                row += np.bincount(of[random.integers(0, m, m - int(row.sum()))], minlength=size)
        yield out.reshape(len(out), 3, -1).transpose(1, 0, 2)


def _multinomial(random: np.random.Generator, m: int, share: FloatArray) -> IntArray:
    """Counts of a little fewer than m rows: whatever the number is, these and the rest drawn by rows are multinomial.

    Poisson counts given their sum are multinomial, and take a third of the time of NumPy's binomials one by one.
    """
    while True:
        counts: IntArray = random.poisson(share * max(m - 3 * np.sqrt(m), 0.0)).astype(np.int64, copy=False)
        if counts.sum() <= m:
            return counts


def _drawn_rows(
    rows: Rows, cells: Cells, random: np.random.Generator, resamples: int, width: int
) -> Iterator[FloatArray]:
    """The same where rows have weights or soft outcomes, or belong to clusters that are drawn as wholes."""
    from scipy.sparse import coo_array

    unit = np.arange(len(rows.first)) if rows.clusters is None else rows.clusters
    count = min(int(unit.max()) + 1, MOST_UNITS)
    if rows.covariates.shape[1]:
        place, turned = np.arange(len(rows.first)), np.zeros(len(rows.first), dtype=bool)
    else:
        place, turned = place_of_rows(rows, cells)
    w, y = rows.w, np.where(turned, 1 - rows.y, rows.y)
    tie = y == 0.5
    values = np.concatenate([np.where(tie, 0.0, w * y), np.where(tie, w, 0.0), np.where(tie, 0.0, w * (1 - y))])
    e = len(cells.first)
    columns = np.concatenate([place, place + e, place + 2 * e])
    kept = np.flatnonzero(values)
    units: IntArray = np.tile(unit % count, 3)
    table = coo_array((values[kept], (units[kept], columns[kept])), shape=(count, 3 * e)).tocsr()
    for start in range(0, resamples, width):
        b = min(width, resamples - start)
        times = random.multinomial(count, np.full(count, 1 / count), size=b).astype(np.float64)
        yield np.asarray((table.T @ times.T).T).reshape(b, 3, e).transpose(1, 0, 2)


def _fitted(
    cells: Cells, counts: FloatArray, outcomes: Outcomes, penalty: Penalty, point: Point, sparse: bool
) -> FloatArray:
    """[b, p] the parameters of each draw; NaN where it has no maximum."""
    win, tie, loss = counts
    n, b = cells.n, counts.shape[1]
    at = np.tile(np.concatenate([point.theta, point.beta, [point.tau][: outcomes.size]]), (b, 1))
    last = np.full(b, np.inf)
    todo, alone = np.arange(b), []
    incidence = _incidence(cells)
    for turn in range(_ROUNDS):
        whole = len(todo) == b
        own = (win, tie, loss) if whole else (win[todo], tie[todo], loss[todo])
        gradient = _gradients(cells, own, outcomes, penalty, at[todo], incidence)
        step = point.system.solve(np.ascontiguousarray(gradient.T), 1e-2).T
        size = np.abs(step).max(axis=1)
        at[todo] += step
        bad = ~(size <= np.where(turn > 1, _SLOW * last[todo], np.inf)) | (size > 5)
        if outcomes.size:
            bad |= ~np.isfinite(at[todo, -1]) | (at[todo, -1] <= 0 if outcomes.positive else False)
        last[todo] = size
        done = size <= _TOLERANCE * (1 + np.abs(at[todo]).max(axis=1))
        alone += todo[bad & ~done].tolist()
        todo = todo[~bad & ~done]
        if not len(todo):
            break
    for place in [*alone, *todo.tolist()]:
        at[place] = _alone(cells, counts[:, place], outcomes, penalty, sparse)
    at[:, :n] -= at[:, :n].mean(axis=1, keepdims=True)
    return at


def _gradients(
    cells: Cells,
    counts: tuple[FloatArray, FloatArray, FloatArray],
    outcomes: Outcomes,
    penalty: Penalty,
    at: FloatArray,
    incidence: csr_array,
) -> FloatArray:
    """[b, p]."""
    n, k = cells.n, cells.covariates.shape[1]
    win, tie, loss = counts
    theta, beta = at[:, :n], at[:, n : n + k]
    d = theta[:, cells.first] - theta[:, cells.second]
    if k:
        d += beta @ cells.covariates.T
    if outcomes.size:
        by_d, by_tie = outcomes.scores(d, at[:, -1:])
        slope = win * by_d[0] + tie * by_d[1] + loss * by_d[2]
        ties = (win * by_tie[0] + tie * by_tie[1] + loss * by_tie[2]).sum(axis=1, keepdims=True)
    else:
        slope, ties = win + tie / 2 - (win + tie + loss) * sigmoid(d), np.zeros((len(at), 0))
    down, down_beta = penalty.gradient(theta, beta)
    by_strength = np.asarray(incidence @ slope.T).T
    return np.concatenate([by_strength + down, slope @ cells.covariates + down_beta, ties], axis=1)


def _incidence(cells: Cells) -> csr_array:
    """[n, e] 1 where a contestant is the first of a cell, -1 where it is the second."""
    from scipy.sparse import coo_array

    e = len(cells.first)
    signs = np.concatenate([np.ones(e), -np.ones(e)])
    places = (np.concatenate([cells.first, cells.second]), np.tile(np.arange(e), 2))
    return coo_array((signs, places), shape=(cells.n, e)).tocsr()


def _alone(cells: Cells, counts: FloatArray, outcomes: Outcomes, penalty: Penalty, sparse: bool) -> FloatArray:
    """[p] of one draw, by its own Newton steps."""
    own = replace(cells, win=counts[0], tie=counts[1], loss=counts[2])
    size = cells.n + cells.covariates.shape[1] + outcomes.size
    failed = np.full(size, np.nan)
    name: Ties = "davidson" if outcomes.size else "half"  # which of the two makes no difference to existence
    if not own.weight.any() or (not penalty.anchored and not existence(own, name).exists):
        return failed
    try:
        model = tie_model(own, name)
        if model.size == outcomes.size:
            model = outcomes
        tolerance = SPARSE_TOLERANCE if sparse else _TOLERANCE
        point = newton(own, model, penalty, Builder(own) if sparse else Dense, tolerance=tolerance)
    except ValueError:
        return failed
    if not point.converged:
        return failed
    none = 0.0 if outcomes.positive else -np.inf  # no tie was drawn
    tie = [point.tau if model.size else none][: outcomes.size]
    return np.concatenate([point.theta, point.beta, tie])


def _ends(draws: FloatArray, confidence: float) -> tuple[FloatArray, FloatArray]:
    """[c] percentiles of each column; a failed draw lies beyond both ends, and an end that it reaches is NaN."""
    tail = 0.5 - confidence / 2
    missing = np.isnan(draws)
    exact = not missing.any() and bool(np.isfinite(draws).all())
    low = np.quantile(np.where(missing, -np.inf, draws), tail, axis=0, method="linear" if exact else "lower")
    high = np.quantile(np.where(missing, np.inf, draws), 1 - tail, axis=0, method="linear" if exact else "higher")
    undefined = ~(np.isfinite(low) & np.isfinite(high)) | (high - low <= _SAME)
    return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)


def _largest(found: Existence) -> NDArray[np.bool_]:
    """[n] who is in the largest strongly connected component; nobody where each is alone in his own."""
    sizes = np.bincount(found.components)
    alone = sizes.max() == 1 and len(sizes) > 1
    return np.zeros(len(found.components), dtype=bool) if alone else found.components == int(np.argmax(sizes))


def _estimate(value: float, low: FloatArray, high: FloatArray, n: int) -> Estimate:
    known = not np.isnan(low[0])
    return Estimate(value, float(low[0]) if known else None, float(high[0]) if known else None, n)


def _result(
    rows: Rows,
    used: NDArray[np.bool_],
    point: Point,
    draws: FloatArray,
    ties: Ties,
    outcomes: Outcomes,
    placed: NDArray[np.bool_],
    confidence: float,
) -> BradleyTerryBootstrap:
    n, m, k = rows.n, len(rows.first), len(point.beta)
    failed = np.isnan(draws[:, 0])
    low, high = _ends(draws[:, :n], confidence)
    coefficients = None
    if len(used):
        beta, ends = np.full(len(used), np.nan), np.full((2, len(used)), np.nan)
        beta[used], ends[:, used] = point.beta, np.stack(_ends(draws[:, n : n + k], confidence))
        coefficients = Estimates(beta, ends[0], ends[1])
    tie = None
    if ties != "half":
        tie = Estimate(0.0, None, None, m)
        if outcomes.size:
            to_nu = (lambda x: x) if outcomes.positive else np.exp
            tie = _estimate(float(to_nu(point.tau)), *_ends(to_nu(draws[:, -1:]), confidence), m)
    good = draws[~failed, :n]
    medians = np.median(good, axis=0) if len(good) else np.full(n, np.nan)
    defined = placed & point.converged
    low, high = np.where(defined, low, np.nan), np.where(defined, high, np.nan)
    return BradleyTerryBootstrap(
        point.theta - point.theta.mean(),
        low,
        high,
        medians,
        draws[:, :n],
        tie,
        coefficients,
        int(failed.sum()),
        point.converged,
        placed,
        m,
        confidence,
    )
