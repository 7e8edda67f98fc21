"""Packs: token sequences laid out so that what they begin with alike is computed once.

The rows of one group (a prompt and its responses) form a tree of tokens: a run of tokens that several rows share stands
once, and the rows part where their tokens do. The tree is laid out in preorder, so a token is seen by exactly those
that follow it inside its subtree: one whole number for each token, where its subtree ends, is the whole attention mask,
also of many trees side by side. Sharing by token ids is exact: equal tokens after equal tokens have equal states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Row:
    """One token sequence.

    Attributes:
        tokens: L >= 1 token ids.
        scored: ascending positions (1 to L - 1) of the tokens whose log-probability is wanted; may be empty.
    """

    tokens: tuple[int, ...]
    scored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what has no prediction.

        Raises:
            ValueError: there is no token, or a scored position is not among 1 to L - 1 in ascending order.
        """
        if not self.tokens:
            raise ValueError("a row needs at least one token")
        scored = self.scored
        if scored and (scored[0] < 1 or scored[-1] >= len(self.tokens)):
            raise ValueError(f"scored positions lie from 1 to {len(self.tokens) - 1}: a row's first token has none")
        if any(first >= second for first, second in pairwise(scored)):
            raise ValueError("scored positions ascend")


@dataclass(frozen=True, slots=True)
class Pack:
    """Trees of T tokens in all, and what is to be read off them.

    Attributes:
        token_ids: `[T]`.
        positions: `[T]`, how deep in its tree a token stands, from 0: what it is in every row that holds it.
        ends: `[T]`; token k is seen by the tokens q with `k <= q < ends[k]`.
        source: `[M]`, the token whose state predicts.
        target: `[M]`, the token id predicted. Rows that share both share the entry.
        entry: `[L]`, which of the M each scored token of each row is, row after row.
        lengths: `[B]`, scored tokens of each row; their sum is L.
        last: `[B]`, each row's last token.
        separate: how many tokens the rows would be one by one.
    """

    token_ids: Ints
    positions: Ints
    ends: Ints
    source: Ints
    target: Ints
    entry: Ints
    lengths: Ints
    last: Ints
    separate: int

    @property
    def size(self) -> int:
        """T."""
        return len(self.token_ids)

    def visible(self, window: int | None = None) -> Bools:
        """`[T, T]`, true where token q (row) sees token k (column).

        Args:
            window: a sliding window: only the last so many positions, itself included.
        """
        place = np.arange(self.size)
        seen = (place[:, None] >= place[None, :]) & (place[:, None] < self.ends[None, :])
        if window is not None:
            seen &= self.positions[:, None] - self.positions[None, :] < window
        return seen

    def padded(self, size: int) -> Pack:
        """The same with tokens at the end that see and are seen by themselves alone, `size` in all."""
        more = size - self.size
        if more <= 0:
            return self
        nothing = np.zeros(more, dtype=np.int64)
        return Pack(
            token_ids=np.concatenate([self.token_ids, nothing]),
            positions=np.concatenate([self.positions, nothing]),
            ends=np.concatenate([self.ends, np.arange(self.size, size) + 1]),
            source=self.source,
            target=self.target,
            entry=self.entry,
            lengths=self.lengths,
            last=self.last,
            separate=self.separate,
        )


def pack(groups: Sequence[Sequence[Row]]) -> Pack:
    """Lay out groups of rows, one after another; rows share tokens within a group only.

    Args:
        groups: of rows. The pack's rows are theirs, in this order.

    Raises:
        ValueError: there is no row, or a token id below 0.
    """
    rows = [row for group in groups for row in group]
    if not rows:
        raise ValueError("a pack needs at least one row")
    layout = _Layout()
    paths = [path for group in groups for path in layout.add([row.tokens for row in group])]
    token_ids = np.concatenate(layout.token_ids)
    if token_ids.min() < 0:
        raise ValueError(f"token ids are 0 or more; {token_ids.min()} stands in a row")
    sources, targets = [], []
    for row, path in zip(rows, paths, strict=True):
        scored = np.asarray(row.scored, dtype=np.int64)
        sources.append(path[scored - 1])
        targets.append(token_ids[path[scored]])
    source, target = np.concatenate(sources), np.concatenate(targets)
    width = int(token_ids.max()) + 1
    codes, entry = np.unique(source * width + target, return_inverse=True)
    return Pack(
        token_ids=token_ids,
        positions=np.concatenate(layout.positions),
        ends=np.concatenate(layout.ends),
        source=codes // width,
        target=codes % width,
        entry=entry.astype(np.int64),
        lengths=np.array([len(row.scored) for row in rows], dtype=np.int64),
        last=np.array([path[-1] for path in paths], dtype=np.int64),
        separate=sum(len(row.tokens) for row in rows),
    )


def tree_size(rows: Sequence[Row]) -> int:
    """How many tokens one group takes in a pack."""
    layout = _Layout()
    layout.add([row.tokens for row in rows])
    return layout.size


def first_fit_decreasing(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Bins of at most `budget`, as few as first fit with the largest first finds; what is larger has a bin of its own.

    Args:
        sizes: of the things to place.
        budget: at least 1.

    Returns:
        For each bin the numbers of what lies in it, ascending.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(sizes)), key=lambda number: (-sizes[number], number)):
        place = next((at for at, left in enumerate(room) if sizes[number] <= left), None)
        if place is None:
            bins.append([number])
            room.append(budget - sizes[number])
        else:
            bins[place].append(number)
            room[place] -= sizes[number]
    return [sorted(one) for one in bins]


class _Layout:
    """Trees laid out so far."""

    def __init__(self) -> None:
        self.size = 0
        self.token_ids: list[Ints] = []
        self.positions: list[Ints] = []
        self.ends: list[Ints] = []

    def add(self, rows: Sequence[Sequence[int]]) -> list[Ints]:
        """Lay out one group; returns for each row where its tokens stand.

        Rows are taken in the order of their token ids, in which each shares most with the one before it. So a row adds
        what that one has not, and what it has not of that one has seen all that it will: its subtree ends here.
        """
        arrays = [np.asarray(row, dtype=np.int64) for row in rows]
        paths: list[Ints] = [np.zeros(0, dtype=np.int64)] * len(rows)
        ends = np.zeros(sum(len(row) for row in arrays), dtype=np.int64)
        first, before = self.size, np.zeros(0, dtype=np.int64)
        path = before
        for number in _in_order(arrays):
            row = arrays[number]
            shared = _shared(before, row)
            ends[path[shared:] - first] = self.size
            new = np.arange(self.size, self.size + len(row) - shared)
            self.token_ids.append(row[shared:])
            self.positions.append(np.arange(shared, len(row)))
            self.size += len(new)
            before, path = row, np.concatenate([path[:shared], new])
            paths[number] = path
        ends[path - first] = self.size
        self.ends.append(ends[: self.size - first])
        return paths


def _in_order(rows: Sequence[Ints]) -> list[int]:
    """Numbers of the rows, by their token ids from the first to the last; a beginning of another row before it."""
    keys = [row.astype(">i8").tobytes() for row in rows]  # bytes of equal sign compare as the numbers do, and fast
    return sorted(range(len(rows)), key=keys.__getitem__)


def _shared(first: Ints, second: Ints) -> int:
    """With how many equal tokens two rows begin."""
    length = min(len(first), len(second))
    differs = first[:length] != second[:length]
    return int(differs.argmax()) if differs.any() else length
