r"""Bradley-Terry strengths from comparisons, ties and soft outcomes.

The model (Bradley and Terry, 1952): P(i beats j) = sigma(theta_i - theta_j). With W_ij the weight of i's wins over j,
the log-likelihood is sum_ij W_ij log sigma(theta_i - theta_j). It is concave, so Newton's method on the comparisons
counted into cells finds its one maximum to machine precision in a few steps. A soft outcome p adds p to W_ij and 1 - p
to W_ji; a tie is half a win each, or has its own likelihood (`prefdata.stats.bt_outcomes`).

A maximum exists only if the graph "i beat j" is strongly connected (Ford, 1957). Otherwise a prior keeps it finite:
each contestant plays `prior` further comparisons against a virtual one of strength 0, half won and half lost, which
adds prior/2 * [log sigma(theta_i) + log sigma(-theta_i)]. Strengths are shifted to sum zero at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.bt_batch import DEFAULT_PRIOR, bradley_terry_batch
from prefdata.stats.bt_covariance import Spread, spread
from prefdata.stats.bt_existence import Existence, existence
from prefdata.stats.bt_newton import Dense, Penalty, Point, newton
from prefdata.stats.bt_outcomes import MODELS, Outcomes
from prefdata.stats.bt_sparse import SPARSE_TOLERANCE, Builder
from prefdata.stats.comparisons import Cells, FloatArray, IntArray, Rows, cells_of, checked_rows
from prefdata.stats.estimate import Estimate, Estimates, normal_quantile
from prefdata.stats.ranks import RankSets, rank_sets

__all__ = ["DEFAULT_PRIOR", "BradleyTerry", "Method", "Ties", "bradley_terry", "bradley_terry_batch"]

Ties = Literal["half", "davidson", "rao-kupper"]
Method = Literal["auto", "dense", "sparse"]

DENSE_LIMIT = 1000
"""Up to so many contestants `method="auto"` is dense: exact covariances, n^3 time."""


@dataclass(frozen=True)
class BradleyTerry:
    """What a fit gives.

    Attributes:
        values: [n], in logits, sum zero, higher is better.
        low: [n] lower ends of their intervals (normal); NaN where the fit did not converge, where there is but one
            contestant, and where every outcome fits exactly (a sandwich of nothing but ties).
        high: [n] upper ends.
        covariance: [n, n], of the values: the inverse information (with a prior: of the posterior), or the sandwich.
            None for a sparse fit, which has `standard_errors` and `difference` all the same.
        standard_errors: [n], of each value (they sum to zero: for a difference use `difference`).
        components: [n], which strongly connected component of the win graph each contestant is in, numbered from 0 in
            the order of their first members. One component: the maximum exists without a prior. Contestants of
            different components are comparable only through the prior.
        existence: who cannot be placed, and why.
        prior: the prior that was used; 0 for plain maximum likelihood.
        converged: whether the last Newton step was below 1e-11 (1e-9 for a sparse fit), or the gradient zero up to
            rounding.
        gradient: the largest entry of the gradient, in comparisons: how far from the maximum.
        steps: of Newton's method.
        ties: the model of ties.
        tie: Davidson's nu or Rao and Kupper's nu, which are positive, with an interval on the log scale; None for
            ties="half". Without any tie it is 0 and has no interval: the likelihood is that of Bradley and Terry.
        coefficients: of the covariates, in logits for each unit; None without covariates. A column that is zero
            everywhere has NaN.
        probe_error: of a sparse fit: the largest relative standard error of `standard_errors`, which are estimated.
        n: how many comparisons.
        confidence: of the intervals.
        spread: how differences of a sparse fit are solved for.
    """

    values: FloatArray
    low: FloatArray
    high: FloatArray
    covariance: FloatArray | None
    standard_errors: FloatArray
    components: IntArray
    existence: Existence
    prior: float
    converged: bool
    gradient: float
    steps: int
    ties: Ties
    tie: Estimate | None
    coefficients: Estimates | None
    probe_error: float
    n: int
    confidence: float
    spread: Spread = field(repr=False)

    def difference_error(self, i: int, j: int) -> float:
        """Standard error of values[i] - values[j]: sqrt(C_ii + C_jj - 2 C_ij)."""
        return float(np.sqrt(self.spread.of_difference(self._place(i), self._place(j))))

    def difference(self, i: int, j: int) -> Estimate:
        """Value i minus value j, with its interval. Comparing two intervals of single values is not the same.

        Raises:
            ValueError: no such contestant.
        """
        half = normal_quantile(self.confidence) * self.difference_error(i, j)
        value = float(self.values[i] - self.values[j])
        if not (self.converged and half > 0 and np.isfinite(self.low[[i, j]]).all()):
            return Estimate(value, None, None, self.n)
        return Estimate(value, value - half, value + half, self.n)

    def probability(self, i: int, j: int) -> float:
        """P(i beats j), with equal covariates."""
        return self._chances(i, j)[0]

    def tie_probability(self, i: int, j: int) -> float:
        """P(i and j tie), with equal covariates; 0 for ties="half"."""
        return self._chances(i, j)[1]

    def ranks(self, *, draws: int = 4000, seed: int = 0) -> RankSets:
        """Rank sets that hold for all contestants at once, with the fit's confidence; see `rank_sets`.

        Raises:
            ValueError: a sparse fit, which has no covariance, or one that did not converge.
        """
        if self.covariance is None:
            raise ValueError("a sparse fit has no covariance of all pairs: fit fewer contestants, with method='dense'")
        if not self.converged:
            raise ValueError("the fit did not converge: ranks would be of no use")
        if len(self.values) > 1 and not np.isfinite(self.low).all():
            raise ValueError("every outcome fits exactly (nothing but ties?), so errors and ranks are not known")
        return rank_sets(self.values, self.covariance, confidence=self.confidence, draws=draws, seed=seed)

    def _chances(self, i: int, j: int) -> tuple[float, float]:
        d = np.array([self.values[self._place(i)] - self.values[self._place(j)]])
        nu = 0.0 if self.tie is None or not self.tie.value else self.tie.value
        if not nu:
            return float(MODELS["half"].chances(d, 0.0)[0][0]), 0.0
        won, tied, _ = MODELS[self.ties].chances(d, _to_parameter(nu, self.ties))
        return float(won[0]), float(tied[0])

    def _place(self, i: int) -> int:
        if not -len(self.values) <= i < len(self.values):
            raise ValueError(f"there is no contestant {i}: there are {len(self.values)}, numbered from 0")
        return i % len(self.values)


def bradley_terry(
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
    robust: bool = False,
    method: Method = "auto",
    intervals: bool = True,
    confidence: float = 0.95,
    seed: int = 0,
) -> BradleyTerry:
    """Fit strengths to comparisons.

    A dense fit costs O(n^3) time and O(n^2) memory in the number of contestants, and one pass over the comparisons; a
    sparse fit is linear in the pairs that met. Give integers of 8 or 32 bits where there are millions of comparisons.

    Args:
        winners: [m] integers in [0, n): who won.
        losers: [m] integers in [0, n): who lost.
        weights: [m] non-negative weights; 1 each unless given.
        p: [m] P(winner is better) in [0, 1]; 1 each unless given. 0.5 is a tie, 0 a win of the loser.
        n: how many contestants; one more than the highest index unless given.
        prior: virtual comparisons of each contestant with an average one, half won and half lost. None: 0 where the
            maximum of the likelihood exists or there is a ridge, else `DEFAULT_PRIOR`.
        ridge: subtracts ridge/2 sum theta^2 from the log-likelihood.
        ties: "half" a win for each; "davidson" (1970) or "rao-kupper" (1967) with a likelihood of ties and a parameter
            of how frequent they are. These two take p in {0, 0.5, 1} only.
        covariates: [m] or [m, k] finite numbers, of the winner's side minus the loser's: log length, position (+1 the
            winner was shown first, -1 second), `style_features`. They are used as they are, without centring, so that
            equal sides are 0. What is the same in all comparisons of a contestant (its size, its mean length) can only
            be told from its strength by a prior or a ridge; strengths are then what it leaves.
        covariate_ridge: subtracts covariate_ridge/2 sum beta^2.
        clusters: [m] the prompt or the annotator of each comparison, any names; the covariance is then the sandwich by
            clusters (Liang and Zeger, 1986), without a correction for few clusters.
        robust: the sandwich H^-1 B H^-1 with B = sum w^2 (y - p)^2 x x^T for the covariance in place of H^-1. Right
            also where outcomes are soft or ties, whose variance is smaller than p (1 - p), and where weights are not
            counts.
        method: "dense", "sparse", or "auto": sparse with more than 1000 contestants.
        intervals: whether a sparse fit estimates standard errors, which takes longer than the fit; without them `low`,
            `high` and `standard_errors` are NaN. A dense fit has them at no cost.
        confidence: of the intervals, in (0, 1).
        seed: of the random probes of a sparse fit's standard errors.

    Raises:
        ValueError: arrays of different lengths, an index out of range, a contestant against itself, a weight, a
            probability or a covariate out of range, no contestant, prior=0 where the maximum does not exist, covariates
            that are not identified or separate the outcomes, ties="davidson" or "rao-kupper" with soft outcomes or with
            nothing but ties, or all comparisons in one cluster.
    """
    normal_quantile(confidence)
    check_options(prior, ridge, covariate_ridge, ties, method)
    rows = checked_rows(winners, losers, weights, p, n, covariates, clusters)
    rows, used = without_zeros(rows)
    cells = cells_of(rows)
    outcomes = tie_model(cells, ties)
    found = existence(cells, ties)
    penalty = Penalty(chosen_prior(found, prior, ridge), ridge, covariate_ridge)
    sparse = method == "sparse" or (method == "auto" and rows.n > DENSE_LIMIT)
    point = newton_by(cells, outcomes, penalty, sparse)
    uncertainty = None
    if intervals or not sparse:
        uncertainty = spread(
            rows,
            cells,
            outcomes,
            penalty,
            point,
            robust=robust or rows.clusters is not None,
            components=found.components,
            seed=seed,
        )
    return _result(rows, used, found, penalty, point, uncertainty, ties, confidence)


def without_zeros(rows: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Rows without the covariates that are zero everywhere, and [k] which were kept: the others tell nothing."""
    if not rows.covariates.shape[1]:
        return rows, np.zeros(0, dtype=bool)
    used: NDArray[np.bool_] = np.asarray(rows.covariates.any(axis=0))
    return (rows if used.all() else replace(rows, covariates=rows.covariates[:, used])), used


def newton_by(cells: Cells, outcomes: Outcomes, penalty: Penalty, sparse: bool) -> Point:
    """The maximum, by one method or the other."""
    if sparse:
        return newton(cells, outcomes, penalty, Builder(cells), tolerance=SPARSE_TOLERANCE)
    return newton(cells, outcomes, penalty, Dense)


def chosen_prior(found: Existence, prior: float | None, ridge: float) -> float:
    """The prior to use.

    Raises:
        ValueError: neither prior nor ridge where the maximum does not exist.
    """
    if prior is None:
        return 0.0 if found.exists or ridge > 0 else DEFAULT_PRIOR
    if prior == 0 and ridge == 0 and not found.exists:
        raise ValueError(f"without a prior the strengths are not finite: {found.explain()}; give a prior")
    return float(prior)


def tie_model(cells: Cells, ties: Ties) -> Outcomes:
    """The model of ties that the comparisons allow: without any tie that of Bradley and Terry.

    Raises:
        ValueError: soft outcomes, or nothing but ties, with a model that has a tie parameter.
    """
    if ties == "half":
        return MODELS["half"]
    if cells.soft is not None and cells.soft.any():
        raise ValueError(
            f"ties={ties!r} takes p of 0, 0.5 or 1 only: soft outcomes have no likelihood; use ties='half'"
        )
    if not cells.tie.any():
        return MODELS["half"]
    if not (cells.win.any() or cells.loss.any()):
        raise ValueError(f"every comparison is a tie, so the parameter of ties={ties!r} is not finite; use ties='half'")
    return MODELS[ties]


def check_options(prior: float | None, ridge: float, covariate_ridge: float, ties: str, method: str) -> None:
    for name, value in (("prior", prior), ("ridge", ridge), ("covariate_ridge", covariate_ridge)):
        if value is not None and not (value >= 0 and np.isfinite(value)):
            raise ValueError(f"the {name} must be finite and not negative; it is {value}")
    for name, said, known in (("ties", ties, get_args(Ties)), ("method", method, get_args(Method))):
        if said not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; it is {said!r}")


def _result(
    rows: Rows,
    used: NDArray[np.bool_],
    found: Existence,
    penalty: Penalty,
    point: Point,
    uncertainty: Spread | None,
    ties: Ties,
    confidence: float,
) -> BradleyTerry:
    if uncertainty is None:
        missing = np.full(len(point.theta) + len(point.beta) + 1, np.nan)
        uncertainty = Spread(missing[: len(point.theta)], np.diag(missing[len(point.theta) :]), None, np.nan)
    z = normal_quantile(confidence) if point.converged else np.nan
    values = point.theta - point.theta.mean()
    errors = np.sqrt(np.clip(uncertainty.variances, 0.0, None))
    # A sandwich of outcomes that all fit exactly (nothing but ties) is empty: that is not certainty.
    half_width = np.where(errors > 0, z * errors, np.nan)
    border = np.sqrt(np.clip(np.diag(uncertainty.border), 0.0, None))
    coefficients = None
    if len(used):
        beta, half = np.full(len(used), np.nan), np.full(len(used), np.nan)
        beta[used], half[used] = point.beta, z * border[: len(point.beta)]
        coefficients = Estimates(beta, beta - half, beta + half)
    m = len(rows.first)
    tie = None
    if ties != "half":
        tie = Estimate(0.0, None, None, m)
        if len(border) > len(point.beta):
            tie = _tie(point.tau, float(border[-1]), ties, z, m)
    return BradleyTerry(
        values,
        values - half_width,
        values + half_width,
        uncertainty.covariance,
        errors,
        found.components,
        found,
        penalty.prior,
        point.converged,
        point.gradient,
        point.steps,
        ties,
        tie,
        coefficients,
        uncertainty.probe_error,
        m,
        confidence,
        uncertainty,
    )


def _tie(tau: float, error: float, ties: Ties, z: float, m: int) -> Estimate:
    """The interval of nu, positive at both ends."""
    value, error = (float(np.exp(tau)), error) if ties == "davidson" else (tau, error / tau)
    if z * error != z * error:
        return Estimate(value, None, None, m)
    return Estimate(value, value * float(np.exp(-z * error)), value * float(np.exp(z * error)), m)


def _to_parameter(nu: float, ties: Ties) -> float:
    return float(np.log(nu)) if ties == "davidson" else nu
