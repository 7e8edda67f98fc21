"""Whether a maximum of the likelihood exists, and whom it cannot place if not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefdata.stats.comparisons import Cells
from prefdata.stats.components import components

IntArray = NDArray[np.int64]

_NAMED = 8


@dataclass(frozen=True)
class Existence:
    """What the comparisons can place.

    Attributes:
        components: [n] which strongly connected component of the win graph each contestant is in, numbered from 0 in
            the order of their first members. Within a component strengths are identified; one component: the maximum
            of the likelihood exists (Ford, 1957).
        islands: [n] which connected component of the graph of comparisons; those of different islands never met,
            not even by way of others.
        unplayed: [k] contestants without a comparison.
        unbeaten: [k] those who never lost, of those who played.
        winless: [k] those who never won.
        ties_bounded: whether the tie parameter is finite as well; true for ties="half".
    """

    components: IntArray
    islands: IntArray
    unplayed: IntArray
    unbeaten: IntArray
    winless: IntArray
    ties_bounded: bool = True

    @property
    def exists(self) -> bool:
        """Whether the likelihood has a finite maximum."""
        return int(self.components.max()) == 0 and self.ties_bounded

    def explain(self) -> str:
        """Sentences that say who cannot be placed; empty where all can."""
        if self.exists:
            return ""
        count = int(self.components.max()) + 1
        said = [f"the win graph falls into {count} strongly connected components"] if count > 1 else []
        if self.unplayed.size:
            said.append(f"{_numbers(self.unplayed)} played no comparison")
        if self.unbeaten.size:
            said.append(f"{_numbers(self.unbeaten)} never lost")
        if self.winless.size:
            said.append(f"{_numbers(self.winless)} never won")
        if len(self.islands) - self.unplayed.size > 0:
            parts = np.delete(self.islands, self.unplayed)
            if len(set(parts.tolist())) > 1:
                said.append(f"there are {len(set(parts.tolist()))} groups that never met one another")
        if not self.ties_bounded:
            said.append(
                "the tie parameter grows without bound together with the strengths (too few upsets beside ties)"
            )
        return "; ".join(said)


def existence(cells: Cells, ties: str = "half") -> Existence:
    """Look at the graph of wins; a tie counts as a win of both (Ford, 1957).

    With a tie parameter that is necessary, not enough: strengths and parameter can run off together where ties stand
    for losses that never happened. They do iff numbers s exist with s_i - s_j >= 1 for each win of i over j and
    |s_i - s_j| <= 1 for each tie, that is iff no cycle has more wins than ties (derived; a system of difference
    constraints).
    """
    n = cells.n
    forth, back = cells.win + cells.tie > 0, cells.loss + cells.tie > 0
    sources = np.concatenate([cells.first[forth], cells.second[back]])
    targets = np.concatenate([cells.second[forth], cells.first[back]])
    if len(sources) > n * n:  # cells of covariates: each pair once is enough
        sources, targets = np.divmod(np.flatnonzero(np.bincount(sources * n + targets)), n)
    lost, won = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    lost[targets], won[sources] = False, False
    unplayed = lost & won
    one = _hub(n, sources, targets)
    strong = np.zeros(n, dtype=np.int64) if one else components(n, sources, targets, strong=True)
    return Existence(
        strong,
        components(n, sources, targets) if strong.any() else strong.copy(),
        np.flatnonzero(unplayed),
        np.flatnonzero(lost & ~unplayed),
        np.flatnonzero(won & ~unplayed),
        ties == "half" or not cells.tie.any() or _bounded(cells),
    )


def _hub(n: int, sources: IntArray, targets: IntArray) -> bool:
    """Whether who played most beat everybody and lost to everybody: then all are in one component, without a search."""
    hub = int(np.argmax(np.bincount(sources, minlength=n) + np.bincount(targets, minlength=n)))
    beaten, beat = targets[sources == hub], sources[targets == hub]
    return all(np.count_nonzero(np.bincount(others, minlength=n)) == n - 1 for others in (beaten, beat))


def _bounded(cells: Cells) -> bool:
    """Whether some cycle has more wins than ties."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import NegativeCycleError, bellman_ford

    n = cells.n
    won, lost, tied = cells.win > 0, cells.loss > 0, cells.tie > 0
    a, b = cells.first, cells.second
    if components(n, np.r_[a[won], b[lost]], np.r_[b[won], a[lost]], strong=True).max(initial=-1) + 1 < n:
        return True  # a cycle of wins alone
    # Wins have no cycle, so no pair has wins in both directions. A constraint s_v - s_u <= c is an edge u -> v of
    # length c; a pair with both wins and ties must be exactly 1 apart, which takes an edge each way.
    length = {}
    for i, j in [*zip(a[tied].tolist(), b[tied].tolist(), strict=True)]:
        length[i, j] = length[j, i] = 1.0
    for i, j in [
        *zip(a[won].tolist(), b[won].tolist(), strict=True),
        *zip(b[lost].tolist(), a[lost].tolist(), strict=True),
    ]:
        length[i, j] = -1.0
    # A start that reaches everyone, at a length that changes nothing.
    for i in range(n):
        length[n, i] = float(2 * n + 2)
    keys = np.array(list(length), dtype=np.int64)
    graph = coo_array((np.array(list(length.values())), (keys[:, 0], keys[:, 1])), shape=(n + 1, n + 1)).tocsr()
    try:
        bellman_ford(graph, indices=n)
    except NegativeCycleError:
        return True
    return False


def _numbers(which: IntArray) -> str:
    more = f" and {len(which) - _NAMED} more" if len(which) > _NAMED else ""
    return ("contestants " if len(which) > 1 else "contestant ") + ", ".join(map(str, which[:_NAMED].tolist())) + more
