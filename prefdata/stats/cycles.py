"""Cycles of preferences that noise does not explain: every majority in them is sure, all of them together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.coding import FloatArray
from prefdata.stats.components import components
from prefdata.stats.intervals import check_confidence
from prefdata.stats.voting import checked_wins

MOST_LISTED = 100


@dataclass(frozen=True)
class Cycles:
    """Cycles of which every majority clears one half.

    Attributes:
        cycles: each begins with its lowest number, and each member is put before the next, the last before the first.
            All of three, up to `MOST_LISTED`; and the shortest one of each knot that has none of three.
        lows: for each cycle the least of the lower bounds of its shares.
        triads: how many of three there are, listed or not.
        sure: how many pairs have a sure majority.
    """

    cycles: tuple[tuple[int, ...], ...]
    lows: tuple[float, ...]
    triads: int
    sure: int


def sure_cycles(wins: ArrayLike, *, confidence: float = 0.95) -> Cycles:
    """Cycles among the majorities that are sure.

    A majority is sure where the lower end of the exact interval of its share (Clopper and Pearson, 1934) lies above
    one half, at a level that is divided by the number of pairs (Bonferroni): with this confidence no majority that is
    called sure is wrong, and so no cycle of them.

    Args:
        wins: [n, n] how often i was put before j.
        confidence: in (0, 1).

    Raises:
        ValueError: no square table of numbers that are not negative.
    """
    check_confidence(confidence)
    table = checked_wins(wins)
    lows = _lower_bounds(table, confidence)
    sure = lows > 0.5
    knots = components(len(table), *np.nonzero(sure), strong=True)
    found: list[tuple[int, ...]] = []
    triads = 0
    for knot in range(int(knots.max(initial=-1)) + 1):
        members = np.flatnonzero(knots == knot)
        if len(members) < 3:
            continue
        inner = sure[np.ix_(members, members)]
        listed, total = _threes(inner, MOST_LISTED - len(found))
        triads += total
        loops = listed if total else [_shortest(inner)]
        found += [tuple(members[list(loop)].tolist()) for loop in loops]
    least = tuple(min(float(lows[i, j]) for i, j in pairwise((*cycle, cycle[0]))) for cycle in found)
    return Cycles(tuple(found), least, triads, int(sure.sum()))


def _lower_bounds(table: FloatArray, confidence: float) -> FloatArray:
    """[n, n] of the share of votes for i over j; 0 where there is none."""
    from scipy.special import betaincinv

    votes = table + table.T
    pairs = int(np.count_nonzero(np.triu(votes, 1)))
    lows = np.zeros(table.shape)
    ahead = table > table.T
    if pairs:
        lows[ahead] = betaincinv(table[ahead], (votes - table)[ahead] + 1, (1 - confidence) / 2 / pairs)
    return lows


def _threes(sure: NDArray[np.bool_], most: int) -> tuple[list[tuple[int, ...]], int]:
    """Cycles of three, the first of each its lowest number, up to `most`; and how many there are."""
    found: list[tuple[int, ...]] = []
    total = 0
    for i in range(len(sure)):
        after = np.flatnonzero(sure[i])
        after = after[after > i]
        before = np.flatnonzero(sure[:, i])
        before = before[before > i]
        j, k = np.nonzero(sure[np.ix_(after, before)])
        total += len(j)
        room = max(most - len(found), 0)
        found += [(i, int(after[a]), int(before[b])) for a, b in zip(j[:room], k[:room], strict=True)]
    return found, total


def _shortest(sure: NDArray[np.bool_]) -> tuple[int, ...]:
    """A shortest cycle of a strongly connected graph, from its lowest number on."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    distance, before = shortest_path(csr_array(sure), method="D", unweighted=True, return_predecessors=True)
    lengths = np.where(sure.T, distance, np.inf)  # from i to j, and an edge from j back to i
    i, j = np.unravel_index(int(lengths.argmin()), lengths.shape)
    path = [int(j)]
    while path[-1] != i:
        path.append(int(before[i, path[-1]]))
    path.reverse()
    lowest = path.index(min(path))
    return tuple(path[lowest:] + path[:lowest])
