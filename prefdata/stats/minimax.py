"""The minimax (von Neumann) winner: the lottery over candidates that none of them beats more than half the time.

Preferences need not be transitive; then no order is right, but a lottery always exists (Kreweras, 1965; Fishburn,
1984: maximal lotteries; Swamy et al., 2024, A Minimaximalist Approach, for its use in training).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.coding import FloatArray, IntArray

_ZERO = 1e-9


@dataclass(frozen=True)
class Minimax:
    """The lottery, exact for the table that it was given: how sure the table is, it does not say.

    Attributes:
        values: [n] the probability of each; of several lotteries that are as good, the one of maximum entropy.
        payoffs: [n] by how much the lottery beats each of them, P(win) - 1/2: not negative.
        game_value: the least of the payoffs: 0 but for rounding, since the game is symmetric.
        condorcet: who beats each of the others; None where nobody does.
        triads: how many cycles of three there are.
        coverage: the share of pairs with a preference; the others count as even.
        converged: whether no payoff is below -1e-7.
    """

    values: FloatArray
    payoffs: FloatArray
    game_value: float
    condorcet: int | None
    triads: int
    coverage: float
    converged: bool


def minimax_winner(preference: ArrayLike) -> Minimax:
    """Solve max_p min_j (p'M)_j with M = P - 1/2, by linear programming.

    Args:
        preference: [n, n] P(i beats j) in [0, 1], NaN where nothing is known (see `prefdata.stats.voting.shares`).
            P_ij and 1 - P_ji are averaged; the diagonal is not read.

    Raises:
        ValueError: no square table, or a probability outside [0, 1].
    """
    p, coverage = _symmetric(preference)
    m = p - 0.5
    n = len(m)
    support = _support(m)
    values = np.zeros(n)
    values[support] = _most_even(m, support)
    payoffs = values @ m
    beats = (m > _ZERO).sum(axis=1)
    best = int(beats.argmax())
    least = float(payoffs.min())
    return Minimax(
        values=values,
        payoffs=payoffs,
        game_value=least,
        condorcet=best if n > 1 and beats[best] == n - 1 else None,
        triads=count_triads(m > _ZERO),
        coverage=coverage,
        converged=least > -1e-7,
    )


def win_shares(preference: ArrayLike) -> FloatArray:
    """[n] the mean P(i beats j) over the others, as a reward in self-play; NaN for one alone.

    Whoever has the highest share need not be likeliest in the minimax lottery.
    """
    p, _ = _symmetric(preference)
    n = len(p)
    with np.errstate(invalid="ignore", divide="ignore"):
        made: FloatArray = (p.sum(axis=1) - 0.5) / np.float64(n - 1)
    return made


def count_triads(beats: ArrayLike) -> int:
    """How many cycles of three a relation [n, n] holds: trace(A^3) / 3.

    Raises:
        ValueError: no square table of true and false.
    """
    from scipy.sparse import csr_array

    given = np.asarray(beats)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not np.isin(given, (0, 1)).all():
        raise ValueError(f"a relation has a row and a column for each, of true and false; it is {given.shape}")
    a = csr_array(given.astype(np.int64))
    return int(((a @ a) * a.T).sum()) // 3


def _symmetric(preference: ArrayLike) -> tuple[FloatArray, float]:
    given = np.array(preference, dtype=np.float64)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not len(given):
        raise ValueError(f"a table of preferences has a row and a column for each; it is {given.shape}")
    np.fill_diagonal(given, 0.5)
    known = ~np.isnan(given)
    if not ((given[known] >= 0) & (given[known] <= 1)).all():
        raise ValueError("a preference is a probability: it lies in [0, 1], or is NaN where nothing is known")
    forth, back = given, 1 - given.T
    both = np.where(known & known.T, (forth + back) / 2, np.where(known, forth, np.where(known.T, back, 0.5)))
    pairs = len(given) * (len(given) - 1)
    off = (known | known.T).sum() - len(given)
    return both, float(off / pairs) if pairs else 1.0


def _support(m: FloatArray) -> IntArray:
    """Who has a probability above 0 in some lottery that is optimal, in one program.

    Over the cone of q >= 0 with q'M >= 0, maximise sum_i min(q_i, 1): scaled up, every coordinate that can be positive
    reaches 1.
    """
    from scipy.optimize import linprog

    n = len(m)
    objective = np.concatenate([np.zeros(n), -np.ones(n)])
    upper = np.block([[-m.T, np.zeros((n, n))], [-np.eye(n), np.eye(n)]])
    bounds = [(0, None)] * n + [(0, 1)] * n
    found = linprog(objective, A_ub=upper, b_ub=np.zeros(2 * n), bounds=bounds, method="highs")
    if not found.success:
        raise ValueError(f"the linear program has no solution: {found.message}")
    return np.flatnonzero(found.x[n:] > 0.5)


def _most_even(m: FloatArray, support: IntArray) -> FloatArray:
    """[k] the lottery of maximum entropy over the support.

    Within the support every payoff is 0 (complementary slackness). Where that leaves one lottery it is solved for;
    otherwise entropy is maximised in the dual, whose multipliers are free within the support and not negative outside.
    """
    from scipy.linalg import null_space
    from scipy.optimize import minimize

    inside = m[np.ix_(support, support)]
    kernel = null_space(inside, rcond=1e-10)
    if kernel.shape[1] == 1:
        lottery: FloatArray = kernel[:, 0] / kernel[:, 0].sum()
        lottery = np.clip(lottery, 0, None)
        return lottery / float(lottery.sum())
    outside = np.setdiff1d(np.arange(len(m)), support)
    features = np.column_stack([inside, m[np.ix_(support, outside)]])

    def dual(multipliers: FloatArray) -> tuple[float, FloatArray]:
        lottery, value = _exponential(features @ multipliers)
        return value, features.T @ lottery

    bounds = [(None, None)] * len(support) + [(0, None)] * len(outside)
    found = minimize(
        dual,
        np.zeros(features.shape[1]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 5000, "ftol": 1e-16, "gtol": 1e-12},
    ).x
    active = np.concatenate([np.ones(len(support), bool), found[len(support) :] > 1e-8])
    for _ in range(20):  # Newton's steps on the constraints that hold, for the last digits
        lottery, _ = _exponential(features @ found)
        gradient = features.T @ lottery
        if float(np.abs(gradient[active]).max()) < 1e-14:
            break
        centred = features[:, active] - gradient[active]
        found[active] -= np.linalg.lstsq((centred * lottery[:, None]).T @ centred, gradient[active], rcond=1e-12)[0]
    return _exponential(features @ found)[0]


def _exponential(logits: FloatArray) -> tuple[FloatArray, float]:
    """Probabilities proportional to exp(logits), and log of the sum of these."""
    highest = float(logits.max())
    raised = np.exp(logits - highest)
    total = float(raised.sum())
    return raised / total, highest + float(np.log(total))
