"""Rules of elections on a table of wins: Borda, Copeland, Condorcet, Schulze, Kemeny.

A table of wins [n, n] holds at (i, j) the weight of votes that put i before j, a tie as half a vote each way. What has
no diagonal and no vote stays out: a pair nobody compared says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.ballots import Rankings, ballots
from prefdata.stats.checking import check_magnitude, checked_count, checked_weights
from prefdata.stats.coding import FloatArray, IntArray
from prefdata.stats.estimate import Estimates, normal_quantile

BoolArray = NDArray[np.bool_]

MOST_EXACT = 16
"""With up to so many, Kemeny's order is found over all 2^n subsets."""


@dataclass(frozen=True)
class Schulze:
    """Schulze's ranking.

    Attributes:
        values: [n] how many of the others each beats, path against path.
        paths: [n, n] strength of the strongest path from i to j: the weight of its weakest win.
        ranks: [n] 1 is best; those whom none of the same rank beats share it.
    """

    values: FloatArray
    paths: FloatArray
    ranks: IntArray


@dataclass(frozen=True)
class Kemeny:
    """The order that contradicts the fewest votes.

    Attributes:
        order: [n] best first; of several such orders the one that is first by number.
        distance: the weight of votes that it contradicts.
        exact: whether no order contradicts fewer; with many to order it is a local optimum.
        unique: whether every other order contradicts more; None where that was not found out.
        places: [n] the mean place of each, 0 the first, over all orders that contradict as few; of `order` alone where
            those were not found.
        firsts: [n] the share of those orders in which each is first; NaN where they were not found.
        orders: how many they are; None where they were not found.
    """

    order: IntArray
    distance: float
    exact: bool
    unique: bool | None
    places: FloatArray
    firsts: FloatArray
    orders: int | None


def wins_of_rankings(rankings: Rankings, weights: ArrayLike | None = None, *, n: int | None = None) -> FloatArray:
    """[n, n] the table of wins of rankings, best first; those who share a place are half a win each way.

    Args:
        rankings: [m] entries are numbers, or tuples of numbers that share a place (also the last one). Those who are
            not named were not compared.
        weights: [m] not negative; 1 each unless given.
        n: how many there are; one more than the highest number unless given.

    Raises:
        ValueError: see `prefdata.stats.ballots.ballots`.
    """
    given, size = ballots(rankings, weights, n=n)
    table = np.zeros(size * size)
    for one in given:
        place = np.repeat(np.arange(len(one.sizes)), one.sizes)
        ahead = np.where(place[:, None] < place, 1.0, np.where(place[:, None] == place, 0.5, 0.0))
        np.fill_diagonal(ahead, 0.0)
        first, second = np.nonzero(ahead)
        cells = one.members[:, first] * size + one.members[:, second]
        counted = (one.weights[:, None] * ahead[first, second]).ravel()
        table += np.bincount(cells.ravel(), counted, minlength=size * size)
    return table.reshape(size, size)


def wins_of_comparisons(
    winners: ArrayLike,
    losers: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    p: ArrayLike | None = None,
    n: int | None = None,
) -> FloatArray:
    """[n, n] the table of wins of comparisons, with the arguments of `bradley_terry`.

    Args:
        winners: [m] integers in [0, n).
        losers: [m] likewise.
        weights: [m] not negative; 1 each unless given.
        p: [m] P(the winner is better), 1 each unless given; 0.5 is a tie.
        n: how many there are; one more than the highest number unless given.

    Raises:
        ValueError: lists of different lengths, or a number out of range.
    """
    a, b = np.asarray(winners), np.asarray(losers)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"winners and losers must be two lists of one length; they are {a.shape} and {b.shape}")
    if a.size and not (a.dtype.kind in "iu" and b.dtype.kind in "iu"):
        raise ValueError("winners and losers must be whole numbers, the positions of who is compared")
    a, b = a.astype(np.int64), b.astype(np.int64)
    size = max(int(a.max(initial=-1)), int(b.max(initial=-1))) + 1 if n is None else checked_count(n, "n")
    if size < 1:
        raise ValueError("there is nobody to compare: no comparison was given, and no n")
    if a.size and (min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= size):
        raise ValueError(f"winners and losers must lie in [0, {size})")
    if (a == b).any():
        raise ValueError(f"comparison {int(np.argmax(a == b))} is of one with itself")
    y = np.ones(len(a)) if p is None else np.asarray(p, dtype=np.float64)
    w = checked_weights(weights, len(a), "comparisons")
    if y.shape != a.shape or not ((y >= 0) & (y <= 1)).all():
        raise ValueError(f"p must lie in [0, 1], one for each of the {len(a)} comparisons")
    table = np.bincount(a * size + b, w * y, size * size) + np.bincount(b * size + a, w * (1 - y), size * size)
    return np.asarray(table, dtype=np.float64).reshape(size, size)


def shares(wins: ArrayLike) -> FloatArray:
    """[n, n] the share of votes that put i before j; NaN where nobody compared them, 0.5 on the diagonal."""
    table = checked_wins(wins)
    with np.errstate(invalid="ignore"):
        made: FloatArray = table / (table + table.T)
    np.fill_diagonal(made, 0.5)
    return made


def borda_counts(wins: ArrayLike) -> FloatArray:
    """[n] Borda's count: the weight of votes that put each before another, summed over the others."""
    made: FloatArray = checked_wins(wins).sum(axis=1)
    return made


def borda(wins: ArrayLike, confidence: float = 0.95) -> Estimates:
    """[n] the mean, over those whom each was compared with, of the share of votes it won; NaN for nobody.

    Unlike the count it does not grow with how often somebody was compared. The interval takes votes as independent, and
    a unanimous pair as if each side had half a vote more, since its plain variance would be 0.
    """
    table = checked_wins(wins)
    z = normal_quantile(confidence)
    votes = table + table.T
    met = votes > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.where(met, table / votes, 0.0)
        rivals = np.where(met.any(axis=1), met.sum(axis=1), np.nan)
        values = p.sum(axis=1) / rivals
        smooth = (table + 0.5) / (votes + 1)
        error = np.sqrt(np.where(met, smooth * (1 - smooth) / votes, 0.0).sum(axis=1)) / rivals
    return Estimates(values, np.clip(values - z * error, 0, 1), np.clip(values + z * error, 0, 1))


def copeland(wins: ArrayLike) -> FloatArray:
    """[n] how many of the others each beats in the majority, less how many beat it."""
    table = checked_wins(wins)
    made: FloatArray = np.sign(table - table.T).sum(axis=1)
    return made


def condorcet_winner(wins: ArrayLike) -> int | None:
    """Who beats each of the others in the majority; None where there is nobody, or nobody else."""
    table = checked_wins(wins)
    beats = (table > table.T).sum(axis=1)
    best = int(beats.argmax())
    return best if len(table) > 1 and beats[best] == len(table) - 1 else None


def schulze(wins: ArrayLike) -> Schulze:
    """Schulze's method (2011), by winning votes: i stands before j if its strongest path to j is stronger than back.

    A path leads over majorities and is as strong as its weakest one. O(n^3), in n passes over the table.
    """
    table = checked_wins(wins)
    paths = np.where(table > table.T, table, 0.0)
    for k in range(len(paths)):
        np.maximum(paths, np.minimum(paths[:, k, None], paths[None, k, :]), out=paths)
    np.fill_diagonal(paths, 0.0)
    before = paths > paths.T
    # The relation is transitive, so that taking off those whom nobody left beats gives the ranks.
    ranks, left, rank = np.zeros(len(paths), dtype=np.int64), np.ones(len(paths), dtype=bool), 1
    while left.any():
        top = left & ~(before & left[:, None]).any(axis=0)
        ranks[top] = rank
        rank += int(top.sum())
        left &= ~top
    return Schulze(before.sum(axis=1).astype(np.float64), paths, ranks)


def kemeny(wins: ArrayLike) -> Kemeny:
    """Kemeny's order (1959): the least weight of votes that put somebody before one who stands before them.

    Up to `MOST_EXACT` it is exact, by dynamic programming over subsets (2^n n steps, in n passes), and all orders that
    contradict as few are counted in a second one. With more it starts from Borda's order and moves one at a time to a
    better place until no move helps.
    """
    table = checked_wins(wins)
    n = len(table)
    if n > MOST_EXACT:
        return _kemeny_moves(table)
    cost, ways, leads = _suffixes(table)
    places, firsts = _places(ways, leads)
    order, left = [], (1 << n) - 1
    while left:
        order.append(int(leads[left].argmax()))
        left ^= 1 << order[-1]
    found = round(ways[-1])
    return Kemeny(np.array(order, dtype=np.int64), float(cost[-1]), True, found == 1, places, firsts, found)


def _suffixes(table: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Of every subset [2^n], as the last of an order: the least weight it contradicts, and in how many ways.

    And [2^n, n] whether some of these ways begin with i.
    """
    n = len(table)
    subsets = np.arange(1 << n)
    cost = np.zeros(1 << n)
    ways = np.ones(1 << n)
    leads = np.zeros((1 << n, n), dtype=bool)
    # against[s, i]: the votes for members of s over i, contradicted where i stands before all of s.
    against = np.zeros((1 << n, n))
    for k in range(n):
        against[1 << k : 2 << k] = against[: 1 << k] + table[k]
    size = np.array([bin(s).count("1") for s in range(1 << n)])
    for level in range(1, n + 1):
        these = subsets[size == level]
        options = np.full((len(these), n), np.inf)
        for k in range(n):
            has = (these >> k) & 1 == 1
            without = these[has] ^ (1 << k)
            options[has, k] = cost[without] + against[without, k]
        cost[these] = options.min(axis=1)
        near = options <= cost[these][:, None] + 1e-9 * (1 + cost[these][:, None])
        leads[these] = near
        count = np.zeros(len(these))
        for k in range(n):
            chosen = near[:, k]
            count[chosen] += ways[these[chosen] ^ (1 << k)]
        ways[these] = count
    return cost, ways, leads


def _places(ways: FloatArray, leads: BoolArray) -> tuple[FloatArray, FloatArray]:
    """[n] the mean place of each over all best orders, and the share of them in which it is first."""
    n = leads.shape[1]
    before = np.zeros(1 << n)  # in how many ways, all of them parts of best orders, the others come before a subset
    before[-1] = 1.0
    counts = np.zeros((n, n))  # of the orders that have i at each place
    these = np.array([(1 << n) - 1])
    for place in range(n):
        for k in range(n):
            led = these[leads[these, k]]
            rest = led ^ (1 << k)
            before[rest] += before[led]  # each subset less k is another one
            counts[k, place] = before[led] @ ways[rest]
        these = np.unique(np.concatenate([these[leads[these, k]] ^ (1 << k) for k in range(n)]))
    shares_of = counts / ways[-1]
    return shares_of @ np.arange(n, dtype=np.float64), shares_of[:, 0]


def _kemeny_moves(table: FloatArray) -> Kemeny:
    votes = table + table.T
    with np.errstate(invalid="ignore"):
        score = np.where(votes > 0, table / votes - 0.5, 0.0).sum(axis=1)
    order = np.argsort(-score, kind="stable")
    margin = table - table.T
    moved = True
    while moved:
        moved = False
        for one in order.copy():
            rest = order[order != one]
            # At place k it stands behind rest[:k]: what that contradicts, up to a constant, is a running sum.
            worth = np.concatenate([[0.0], np.cumsum(margin[one, rest])])
            place, here = int(worth.argmin()), int(np.flatnonzero(order == one)[0])
            if worth[place] < worth[here] - 1e-9 * (1 + abs(worth[here])):
                order = np.insert(rest, place, one)
                moved = True
    places = np.empty(len(table))
    places[order] = np.arange(len(table))
    unknown = np.full(len(table), np.nan)
    return Kemeny(order.astype(np.int64), contradicted(table, order), False, None, places, unknown, None)


def contradicted(wins: ArrayLike, order: ArrayLike) -> float:
    """The weight of votes that an order [n], best first, contradicts."""
    table, best_first = checked_wins(wins), np.asarray(order)
    if sorted(best_first.tolist()) != list(range(len(table))):
        raise ValueError(f"an order must name each of the {len(table)} once")
    return float(np.tril(table[np.ix_(best_first, best_first)], -1).sum())


def checked_wins(wins: ArrayLike) -> FloatArray:
    """[n, n] a copy with a diagonal of zeros.

    Raises:
        ValueError: it is not square, or holds a number that is negative, missing or infinite.
    """
    table = np.array(wins, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not len(table):
        raise ValueError(f"a table of wins has a row and a column for each; it is {table.shape}")
    np.fill_diagonal(table, 0.0)
    if not ((table >= 0) & np.isfinite(table)).all():
        raise ValueError("a table of wins holds finite numbers that are not negative")
    check_magnitude(table, "a number of wins")
    return table
