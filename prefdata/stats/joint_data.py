"""What the joint model is fitted to: votes and scores, checked, coded and laid out once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.components import components
from prefdata.stats.crowd import coded

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

DENSE = 3000
"""A part of the comparison graph with more contestants than this is solved by conjugate gradients, not densely."""

LARGE_SHEET = 64
"""More scores than this by one annotator in one group are looked at pair by pair without a list of the pairs."""

ABILITY, POSITION, LENGTH, THRESHOLD, SCALE = range(5)
"""An annotator's parameters, in the order of columns: a, b, c, log t, q."""
PARAMETERS = 5


@dataclass(frozen=True)
class Votes:
    """Comparisons. `win`, `loss` and `tie` are the weights of the three outcomes in each row.

    Attributes:
        first: [m] who is said to be better.
        second: [m] the other.
        annotator: [m].
        win: [m] weight of "first is better".
        loss: [m] weight of "second is better".
        tie: [m] weight of a tie.
        position: [m], or None where no position is known.
        length: [m], or None.
        cell_first: [m] the cell (contestant, annotator) of `first`.
        cell_second: [m] that of `second`.
        place: [m] where (first, second) stands in the flat blocks of the layout.
    """

    first: IntArray
    second: IntArray
    annotator: IntArray
    win: FloatArray
    loss: FloatArray
    tie: FloatArray
    position: FloatArray | None
    length: FloatArray | None
    cell_first: IntArray
    cell_second: IntArray
    place: IntArray

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Scores:
    """Scores, centred within (group, annotator) and divided by the annotator's standard deviation there.

    Attributes:
        contestant: [r].
        annotator: [r].
        value: [r] centred and scaled.
        length: [r] centred; None where no length is known.
        sheet: [r] the (group, annotator) it belongs to, a number.
        sheet_annotator: [s].
        sheet_size: [s].
        cell: [r] the cell (contestant, annotator).
        left: [e] rows of all ordered pairs of rows of one small sheet (a row with itself too), ...
        place: [e] ... and where both contestants stand in the flat blocks.
        large: the rows of each large sheet, which has no list of pairs.
        freedom: [W] rows less sheets.
        deviation: [W] what each annotator's scores were divided by; NaN without scores.
    """

    contestant: IntArray
    annotator: IntArray
    value: FloatArray
    length: FloatArray | None
    sheet: IntArray
    sheet_annotator: IntArray
    sheet_size: FloatArray
    cell: IntArray
    left: IntArray
    place: IntArray
    large: tuple[slice, ...]
    freedom: FloatArray
    deviation: FloatArray

    def __len__(self) -> int:
        return len(self.contestant)


@dataclass(frozen=True)
class Batch:
    """Parts of the comparison graph of one size: a slice of the flat blocks that is [g, size, size].

    Attributes:
        members: [g, size] contestants.
        start: of the slice.
        stop: of the slice.
    """

    members: IntArray
    start: int
    stop: int

    def blocks(self, flat: FloatArray) -> FloatArray:
        """[g, size, size], a view."""
        count, size = self.members.shape
        return flat[self.start : self.stop].reshape(count, size, size)


@dataclass(frozen=True)
class Layout:
    """How matrices over contestants are kept: a dense block for each connected part, one after the other.

    Attributes:
        part: [n] which connected part each contestant is in, numbered by first members.
        local: [n] its number within its part.
        size: [n] how many contestants its part has.
        offset: [n] where its part's block begins.
        batches: parts of one size together.
        total: length of the flat blocks.
        dense: False where a part is too large; then there are no blocks at all.
    """

    part: IntArray
    local: IntArray
    size: IntArray
    offset: IntArray
    batches: tuple[Batch, ...]
    total: int
    dense: bool

    def place(self, i: IntArray, j: IntArray) -> IntArray:
        """Where (i, j), of one part, stands in the flat blocks."""
        return self.offset[i] + self.local[i] * self.size[i] + self.local[j]


@dataclass(frozen=True)
class Data:
    """All of it.

    Attributes:
        n: contestants.
        names: [W] annotators.
        votes: comparisons.
        scores: scores.
        cell_contestant: [C] of each cell (contestant, annotator) that has data; sorted by contestant.
        cell_annotator: [C].
        layout: of matrices over contestants.
        group: [n].
    """

    n: int
    names: tuple[Hashable, ...]
    votes: Votes
    scores: Scores
    cell_contestant: IntArray
    cell_annotator: IntArray
    layout: Layout
    group: IntArray

    @property
    def annotators(self) -> int:
        """How many there are."""
        return len(self.names)


def tally(index: IntArray, weights: ArrayLike, size: int) -> FloatArray:
    """[size] the sums of weights by index."""
    if not len(index):
        return np.zeros(size)
    made: FloatArray = np.bincount(index, weights=np.asarray(weights, dtype=np.float64), minlength=size).astype(
        np.float64, copy=False
    )
    return made


def numbers(annotators: Sequence[Any] | NDArray[Any]) -> tuple[IntArray, list[Hashable]]:
    """Each row's annotator as a number, and the names: sorted for numbers, else in the order of first occurrence."""
    array = np.asarray(annotators)
    whole = array.ndim == 1 and array.dtype.kind in "iu" and len(array)
    made, names = coded(array if whole else list(annotators), "annotator")
    return made.astype(np.int64), names.tolist() if isinstance(names, np.ndarray) else list(names)


def lay_out(n: int, edges: tuple[IntArray, IntArray]) -> Layout:
    """The connected parts of a graph of n contestants, and where their blocks stand."""
    part = components(n, *edges)
    sizes = np.bincount(part)
    dense = int(sizes.max(initial=0)) <= DENSE
    order = np.lexsort((np.arange(n), part, sizes[part]))
    local, offset = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    batches: list[Batch] = []
    start, at = 0, 0
    for size in np.unique(sizes):
        count = int((sizes == size).sum())
        members = order[at : at + count * size].reshape(count, size)
        stop = start + count * int(size) ** 2
        local[members] = np.arange(size)
        offset[members] = start + np.arange(count)[:, None] * size**2
        batches.append(Batch(members, start, stop))
        start, at = stop, at + count * int(size)
    return Layout(part, local, sizes[part], offset, tuple(batches) if dense else (), start if dense else 0, dense)


_LARGEST = 1e6
_HEAVIEST = 1e12
_LIMITS = {"position": (1.0, "it is 1 where the winner was shown first, -1 where second, 0 where it is unknown")}
"""By column: the largest number that makes sense, and what to do."""


def number_column(values: ArrayLike | None, m: int, name: str) -> FloatArray | None:
    """[m] finite numbers; None where none was given or all are 0."""
    if values is None:
        return None
    column = np.asarray(values, dtype=np.float64)
    column = np.broadcast_to(column, (m,)) if column.ndim == 0 else column
    if column.shape != (m,):
        raise ValueError(f"{name} must have one entry for each of the {m} rows; its shape is {column.shape}")
    if not np.isfinite(column).all():
        row = int(np.argmin(np.isfinite(column)))
        raise ValueError(f"{name} of row {row} is missing or infinite: give 0 where it is unknown")
    most, why = _LIMITS.get(name, (_LARGEST, "divide by a typical one"))
    if np.abs(column).max(initial=0.0) > most:
        row = int(np.abs(column).argmax())
        raise ValueError(f"{name} of row {row} is {column[row]:g}, beyond {most:g}: {why}")
    return column if column.any() else None


def contestants(winners: ArrayLike, losers: ArrayLike) -> tuple[IntArray, IntArray]:
    """Two columns of contestants' numbers, checked."""
    first, second = np.asarray(winners), np.asarray(losers)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"winners and losers must be two lists of one length; they are {first.shape}, {second.shape}")
    if len(first) and (first.dtype.kind not in "iu" or second.dtype.kind not in "iu"):
        raise ValueError("winners and losers must be integers, the numbers of the contestants")
    a, b = first.astype(np.int64), second.astype(np.int64)
    if (a == b).any():
        raise ValueError(f"comparison {int(np.argmax(a == b))} is of a contestant with itself")
    return a, b


def outcomes(m: int, p: ArrayLike | None, weights: ArrayLike | None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The weights of win, loss and tie in each row: p = 0.5 exactly is a tie, other p are shares of win and loss."""
    y = np.ones(m) if p is None else np.asarray(p, dtype=np.float64)
    w = np.ones(m) if weights is None else np.asarray(weights, dtype=np.float64)
    if y.shape != (m,) or w.shape != (m,):
        raise ValueError(f"p and weights must have one entry for each of the {m} comparisons")
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError("p must lie in [0, 1]: it is the probability that the winner is better, 0.5 a tie")
    if not ((w >= 0) & np.isfinite(w)).all():
        raise ValueError("weights must be finite and not negative")
    if w.max(initial=0.0) > _HEAVIEST:
        raise ValueError(f"a weight is {w.max():g}, beyond {_HEAVIEST:g}: scale them down")
    even = y == 0.5
    return np.where(even, 0.0, w * y), np.where(even, 0.0, w * (1 - y)), np.where(even, w, 0.0)
