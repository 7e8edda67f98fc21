"""Rankings as arrays: who stands in which place of which ranking, with ties, and equal rankings counted once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import checked_count, checked_weights
from prefdata.stats.coding import FloatArray, IntArray

Rankings = Sequence[Sequence[Any]] | NDArray[Any]
"""Each ranking best first; an entry is the number of who stands there, or a tuple of numbers that share the place."""

_CELLS = 1 << 20
"""So many possible rankings are counted in a table; of more, equal ones are not looked for."""


@dataclass(frozen=True)
class Ballots:
    """Rankings of one shape.

    Attributes:
        sizes: how many share each place, best first; they sum to K.
        members: [m, K] who, best first; those who share a place stand by number.
        weights: [m] how much each counts: the sum of the weights of equal rankings.
        squares: [m] the sum of the squares of these weights.
        rows: [m] which of the given rankings each is; of equal ones the first.
    """

    sizes: tuple[int, ...]
    members: IntArray
    weights: FloatArray
    squares: FloatArray
    rows: IntArray

    @property
    def ends(self) -> list[tuple[int, int]]:
        """Of each place, where it begins and ends within `members`."""
        last = np.cumsum(self.sizes).tolist()
        return list(zip([0, *last[:-1]], last, strict=True))


def ballots(
    rankings: Rankings, weights: ArrayLike | None = None, *, n: int | None = None, together: bool = True
) -> tuple[list[Ballots], int]:
    """Read rankings.

    Args:
        rankings: see `Rankings`; an array [m, K] of integers is read fastest.
        weights: [m] not negative; 1 each unless given. What weighs nothing is left out.
        n: how many there are; one more than the highest number unless given.
        together: count equal rankings once, where that is cheap.

    Returns:
        The rankings by shape, and n.

    Raises:
        ValueError: a number that is no integer or out of range, somebody twice in one ranking, a weight that is
            negative or not finite, or nobody at all.
    """
    found = list(_shapes(rankings))
    count = sum(len(rows) for _, _, rows in found)
    given = checked_weights(weights, count, "rankings")
    highest = max((int(members.max(initial=-1)) for _, members, _ in found), default=-1)
    size = highest + 1 if n is None else checked_count(n, "n")
    if size < 1:
        raise ValueError("there is nobody to rank: no ranking was given, and no n")
    made = []
    for sizes, members, rows in found:
        _check(members, rows, size)
        kept = given[rows] > 0
        members, rows = _by_number(members[kept], sizes), rows[kept]
        if members.size:
            made.append(_counted(sizes, members, given[rows], rows, size if together else 0))
    return made, size


def _shapes(rankings: Rankings) -> Iterable[tuple[tuple[int, ...], IntArray, IntArray]]:
    """Sizes of the places, members and row numbers of the rankings of each shape."""
    try:
        whole = np.asarray(rankings)
    except ValueError:  # of different lengths
        whole = np.empty(0)
    if whole.ndim == 2 and whole.size:
        if whole.dtype.kind not in "iu":
            raise ValueError("rankings must hold whole numbers, the positions of who is ranked")
        yield (1,) * whole.shape[1], whole.astype(np.int64), np.arange(len(whole))
        return
    shapes: dict[tuple[int, ...], tuple[list[list[int]], list[int]]] = {}
    for row, ranking in enumerate(rankings):
        sizes: list[int] = []
        members: list[int] = []
        for entry in ranking:
            tied = entry if isinstance(entry, tuple | list | set | frozenset | np.ndarray) else (entry,)
            try:
                members.extend(index(one) for one in tied)
            except TypeError:
                raise ValueError(f"ranking {row} holds {entry!r}: positions are whole numbers") from None
            if len(tied):
                sizes.append(len(tied))
        kept = shapes.setdefault(tuple(sizes), ([], []))
        kept[0].append(members)
        kept[1].append(row)
    for sizes_, (lists, rows) in shapes.items():
        yield sizes_, np.array(lists, dtype=np.int64).reshape(len(rows), sum(sizes_)), np.array(rows, dtype=np.int64)


def _check(members: IntArray, rows: IntArray, n: int) -> None:
    if members.size and (members.min() < 0 or members.max() >= n):
        bad = ((members < 0) | (members >= n)).any(axis=1)
        raise ValueError(f"ranking {rows[int(bad.argmax())]} holds a number outside [0, {n})")
    ordered = np.sort(members, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if twice.any():
        raise ValueError(f"ranking {rows[int(twice.argmax())]} holds somebody twice")


def _by_number(members: IntArray, sizes: tuple[int, ...]) -> IntArray:
    """Those who share a place in the order of their numbers: the order given says nothing."""
    made = members.copy()
    end = 0
    for size in sizes:
        start, end = end, end + size
        if size > 1:
            made[:, start:end].sort(axis=1)
    return made


def _counted(sizes: tuple[int, ...], members: IntArray, weights: FloatArray, rows: IntArray, n: int) -> Ballots:
    """Equal rankings as one, where a table of all possible ones is small enough; n = 0: each by itself."""
    cells = float(n) ** members.shape[1]
    if not 0 < cells <= max(_CELLS, 4 * len(rows)):
        return Ballots(sizes, members, weights, weights**2, rows)
    code = members @ (n ** np.arange(members.shape[1], dtype=np.int64))
    total: FloatArray = np.bincount(code, weights=weights).astype(np.float64)
    there = np.flatnonzero(total)
    first = np.zeros(len(total), dtype=np.int64)
    first[code[::-1]] = np.arange(len(rows))[::-1]
    kept = first[there]
    squares: FloatArray = np.bincount(code, weights=weights**2).astype(np.float64)[there]
    return Ballots(sizes, members[kept], total[there], squares, rows[kept])
