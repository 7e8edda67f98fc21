r"""HodgeRank: how much of the preferences is an order, how much runs in circles, and whether that is more than noise.

Jiang, Lim, Yao and Ye (2011). Each pair that was compared n_ij times has a flow Y_ij = -Y_ji. The scores s minimise
sum n_ij (s_i - s_j - Y_ij)^2; what they leave, R, is cyclic. ||R||^2 / ||Y||^2, weighted by n, is the cyclicity: 0
where an order explains everything, 1 where it explains nothing. R is the sum of two parts that are orthogonal: curl,
which runs around triangles of compared pairs, and harmonic, which runs around longer circles only.

That R is not 0 does not say that people are intransitive: noise does the same. Under Bradley-Terry
sum n_ij (share_ij - p_ij)^2 / (p_ij (1 - p_ij)) is chi-squared with (pairs - contestants + components) degrees of
freedom; where pairs have few votes that is not so, and its distribution is drawn instead (parametric bootstrap).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.checking import checked_count
from prefdata.stats.coding import FloatArray, IntArray
from prefdata.stats.components import components
from prefdata.stats.cycles import Cycles, sure_cycles
from prefdata.stats.estimate import normal_quantile
from prefdata.stats.minimax import count_triads
from prefdata.stats.voting import checked_wins, wins_of_comparisons

Flow = Literal["log-odds", "margin"]
Test = Literal["auto", "chi-squared", "bootstrap"]

_EXPECTED = 5.0
"""Cochran's rule: the chi-squared distribution will do where no more than a fifth of the cells expect less."""
_MOST_DRAWN = 80
_MOST_TRIANGLES = 1_000_000
_BLOCK = 1 << 21
_SMALL = 0.1


@dataclass(frozen=True)
class HodgeRank:
    """What is an order in the preferences, and what is not.

    Attributes:
        values: [n] scores, sum zero within each component, in the unit of the flow; NaN for who was not compared.
        low: [n] lower ends of their intervals (votes taken as independent).
        high: [n] upper ends.
        cyclicity: ||R||^2 / ||Y||^2, 0 to 1; None where all flows are 0.
        curl: the part of it that runs around triangles; None where it was not computed (more than a million triangles).
        harmonic: the part that runs around longer circles only.
        statistic: Pearson's chi-squared of the table against Bradley-Terry.
        degrees: its degrees of freedom.
        p_value: how often noise around an order gives as much; None with no degree of freedom left.
        test: how the p-value was found.
        triads: how many cycles of three the majorities form.
        zeta: 1 for no such cycle, 0 for as many as there can be (Kendall and Babington Smith, 1940); None unless every
            pair was compared and none is a tie.
        cycles: those of which all majorities are sure at once.
        components: [n] which connected component of the graph of compared pairs each is in.
        pairs: how many pairs were compared.
    """

    values: FloatArray
    low: FloatArray
    high: FloatArray
    cyclicity: float | None
    curl: float | None
    harmonic: float | None
    statistic: float
    degrees: int
    p_value: float | None
    test: Test
    triads: int
    zeta: float | None
    cycles: Cycles
    components: IntArray
    pairs: int


def hodge_rank(
    winners: ArrayLike,
    losers: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    p: ArrayLike | None = None,
    n: int | None = None,
    flow: Flow = "log-odds",
    test: Test = "auto",
    resamples: int = 499,
    confidence: float = 0.95,
    seed: int = 0,
) -> HodgeRank:
    """Split the preferences of comparisons into an order and cycles; for a table of wins see `hodge_rank_of_wins`.

    Args:
        winners: [m] integers in [0, n).
        losers: [m] likewise.
        weights: [m] votes, not negative; 1 each unless given.
        p: [m] P(the winner is better); 1 each unless given, 0.5 is a tie.
        n: how many there are; one more than the highest number unless given.
        flow: `log-odds`, log (W_ij + 1/2) / (W_ji + 1/2), in which an order of Bradley-Terry has no cycles; or
            `margin`, (W_ij - W_ji) / n_ij.
        test: `auto` takes chi-squared where four fifths of the cells expect 5 votes or more, and draws otherwise (with
            up to 80 contestants). A tie or a soft outcome varies less than a vote: then the p-value is too high.
        resamples: how many tables are drawn.
        confidence: of the intervals, and that all majorities of `cycles` together are right, in (0, 1).
        seed: of the draws.

    Raises:
        ValueError: lists of different lengths, a number out of range, or nobody at all.
    """
    table = wins_of_comparisons(winners, losers, weights, p=p, n=n)
    return hodge_rank_of_wins(table, flow=flow, test=test, resamples=resamples, confidence=confidence, seed=seed)


def hodge_rank_of_wins(
    wins: ArrayLike,
    *,
    flow: Flow = "log-odds",
    test: Test = "auto",
    resamples: int = 499,
    confidence: float = 0.95,
    seed: int = 0,
) -> HodgeRank:
    """The same of a table [n, n] of how often i was put before j; see `hodge_rank`."""
    table = checked_wins(wins)
    z = normal_quantile(confidence)
    if flow not in ("log-odds", "margin") or test not in ("auto", "chi-squared", "bootstrap"):
        raise ValueError(f"the flow is log-odds or margin, the test auto, chi-squared or bootstrap: {flow!r}, {test!r}")
    if not resamples >= 1:
        raise ValueError(f"at least one table must be drawn; resamples is {resamples}")
    resamples = checked_count(resamples, "resamples")
    votes = table + table.T
    first, second = np.nonzero(np.triu(votes, 1))
    count, n = votes[first, second], len(table)
    won, lost = table[first, second], table[second, first]
    y, variance = _flows(won, lost, flow)
    parts = components(n, first, second)
    scores, spread = _scores(first, second, count, y, variance, n)
    alone = votes.sum(axis=1) == 0
    scores[alone] = np.nan
    half = np.where(alone, np.nan, z * np.sqrt(np.clip(np.diag(spread), 0, None)))
    rest = y - (scores[first] - scores[second])
    whole, cyclic = float(count @ y**2), float(count @ rest**2)
    curl = None if whole == 0 else _curl(first, second, count, rest, n, whole, cyclic)
    statistic, degrees, p_value, used = _significance(table, test, resamples, seed)
    majority = table > table.T
    triads = count_triads(majority)
    return HodgeRank(
        values=scores,
        low=scores - half,
        high=scores + half,
        cyclicity=cyclic / whole if whole else None,
        curl=curl,
        harmonic=None if curl is None else cyclic / whole - curl,
        statistic=statistic,
        degrees=degrees,
        p_value=p_value,
        test=used,
        triads=triads,
        zeta=_zeta(majority, triads),
        cycles=sure_cycles(table, confidence=confidence),
        components=parts,
        pairs=len(first),
    )


def _flows(won: FloatArray, lost: FloatArray, flow: Flow) -> tuple[FloatArray, FloatArray]:
    """[e] flows and their variances, with half a vote added to each side."""
    a, b = won + 0.5, lost + 0.5
    if flow == "log-odds":
        return np.log(a / b), 1 / a + 1 / b
    share = a / (a + b)
    return (won - lost) / (won + lost), 4 * share * (1 - share) / (won + lost)


def _scores(
    first: IntArray, second: IntArray, count: FloatArray, y: FloatArray, variance: FloatArray, n: int
) -> tuple[FloatArray, FloatArray]:
    """[n] scores and [n, n] their covariance: s = L^+ div(n Y)."""
    laplacian = np.zeros((n, n))
    laplacian[first, second] = laplacian[second, first] = -count
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    inverse = np.linalg.pinv(laplacian, hermitian=True)
    divergence = np.bincount(first, count * y, n) - np.bincount(second, count * y, n)
    weight = count**2 * variance
    middle = np.zeros((n, n))
    middle[first, second] = middle[second, first] = -weight
    np.fill_diagonal(middle, -middle.sum(axis=1))
    return inverse @ divergence, inverse @ middle @ inverse


def _curl(
    first: IntArray, second: IntArray, count: FloatArray, rest: FloatArray, n: int, whole: float, cyclic: float
) -> float | None:
    """||curl part of the residual||^2 / ||Y||^2.

    In the product weighted by n, flows W^-1 d' phi (d: edges to triangles) are orthogonal to every order; the nearest
    of them to the residual is a sparse least-squares problem.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import lsqr

    if len(first) * 2 == n * (n - 1):
        return cyclic / whole  # with every pair compared there is no other circle
    number = np.full((n, n), -1, dtype=np.int64)
    number[first, second] = np.arange(len(first))
    triangles = _triangles(number)
    if triangles is None:
        return None
    if not len(triangles) or cyclic <= 1e-18 * whole:
        return 0.0
    i, j, k = triangles.T
    edges = np.concatenate([number[i, j], number[j, k], number[i, k]])
    signs = np.repeat([1.0, 1.0, -1.0], len(triangles))
    faces = np.tile(np.arange(len(triangles)), 3)
    root = np.sqrt(count)
    boundary = csr_array((signs / root[edges], (edges, faces)), shape=(len(first), len(triangles)))
    target = root * rest
    phi = lsqr(boundary, target, atol=1e-13, btol=1e-13, iter_lim=20_000)[0]
    part = boundary @ phi
    return min(float(part @ part), cyclic) / whole


def _triangles(number: IntArray) -> IntArray | None:
    """[t, 3] all i < j < k whose three pairs were compared; None where they are too many."""
    joined = number >= 0
    made, total = [], 0
    for i in range(len(number)):
        later = np.flatnonzero(joined[i])
        j, k = np.nonzero(joined[np.ix_(later, later)])
        total += len(j)
        if total > _MOST_TRIANGLES:
            return None
        made.append(np.column_stack([np.full(len(j), i), later[j], later[k]]))
    return np.concatenate(made)


def _zeta(majority: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], triads: int) -> float | None:
    n = len(majority)
    if n < 3 or not (majority | majority.T | np.eye(n, dtype=bool)).all():
        return None
    return 1 - 24 * triads / (n**3 - n if n % 2 else n**3 - 4 * n)


def _significance(table: FloatArray, test: Test, resamples: int, seed: int) -> tuple[float, int, float | None, Test]:
    """Pearson's chi-squared, its degrees of freedom, the p-value and how it was found.

    Between strongly connected components of the graph of wins everything points one way: there the likelihood is
    highest with an infinite gap, which fits exactly, so that only pairs within a component count.
    """
    from scipy.special import chdtrc

    from prefdata.stats.bt_batch import bradley_terry_batch

    strong = components(len(table), *np.nonzero(table), strong=True)
    statistic, degrees = 0.0, 0
    expected: list[FloatArray] = []
    for one in range(int(strong.max()) + 1):
        members = np.flatnonzero(strong == one)
        if len(members) < 3:
            continue
        inner = table[np.ix_(members, members)]
        theta = bradley_terry_batch(inner[None], prior=0.0)[0][0]
        value, cells = _pearson(inner[None], theta[None])
        pairs = int(np.count_nonzero(np.triu(inner + inner.T, 1)))
        statistic, degrees = statistic + float(value[0]), degrees + pairs - len(members) + 1
        expected.append(cells)
    if degrees == 0:
        return 0.0, 0, None, "chi-squared" if test == "auto" else test
    few = float((np.concatenate(expected) < _EXPECTED).mean()) > 0.2
    whole = np.array_equal(table, np.round(table))
    if test == "bootstrap" or (test == "auto" and few and whole and len(table) <= _MOST_DRAWN):
        return statistic, degrees, _drawn(table, resamples, seed), "bootstrap"
    return statistic, degrees, float(chdtrc(degrees, statistic)), "chi-squared"


def _pearson(wins: FloatArray, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """[b] sum over pairs of n (share - p)^2 / (p (1 - p)), and the expected counts of both sides of all pairs."""
    first, second = np.triu_indices(wins.shape[1], 1)
    votes = wins[:, first, second] + wins[:, second, first]
    p = 0.5 + 0.5 * np.tanh((theta[:, first] - theta[:, second]) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = (wins[:, first, second] - votes * p) ** 2 / (votes * p * (1 - p))
    value: FloatArray = np.where(votes > 0, terms, 0.0).sum(axis=1)
    there = votes > 0
    return value, np.concatenate([(votes * p)[there], (votes * (1 - p))[there]])


def _drawn(table: FloatArray, resamples: int, seed: int) -> float:
    """How often a table drawn from the fit, and fitted again, strays from its fit as far as the real one.

    It is drawn from the fit with the usual prior, since strengths fitted to few votes lie too far apart, and compared
    with a fit with a small one, since a drawn table may have none without. Of 600 tables of 5 to 12 contestants with 2
    to 5 votes a pair, drawn from an order, 9 to 11 % come below 0.1 (with one vote 4 to 9 %). The real one counts among
    the drawn.
    """
    from prefdata.stats.bt_batch import DEFAULT_PRIOR, bradley_terry_batch

    random, n = np.random.default_rng(seed), len(table)
    theta = bradley_terry_batch(table[None], prior=DEFAULT_PRIOR)[0][0]
    seen = float(_pearson(table[None], bradley_terry_batch(table[None], prior=_SMALL)[0])[0][0])
    first, second = np.triu_indices(n, 1)
    votes = np.round(table[first, second] + table[second, first]).astype(np.int64)
    p = 0.5 + 0.5 * np.tanh((theta[first] - theta[second]) / 2)
    step, further = max(1, _BLOCK // (n * n * 8)), 0
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        won = random.binomial(votes, p, size=(size, len(votes)))
        tables = np.zeros((size, n, n))
        tables[:, first, second] = won
        tables[:, second, first] = votes - won
        strayed = _pearson(tables, bradley_terry_batch(tables, prior=_SMALL)[0])[0]
        further += int((strayed >= seen * (1 - 1e-9)).sum())
    return (1 + further) / (1 + resamples)
