"""Pieces: which groups are worked on together, so that memory depends on the piece and not on the dataset.

A piece is a shard, or, where a shard holds very much, a range of its group ids. A shard's parts hold nothing else; a
range has to be picked out of them, which reads them once for each range: enough shards are faster than one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from prefdata.dataset import Snapshot, View
from prefdata.dataset.parts import Span
from prefdata.schema import CORE_TABLES

ROWS_AT_ONCE = 2_500_000
"""A piece holds about so many rows at most: a shard of a million annotations and what they are about is one."""

BYTES_AT_ONCE = 256 * 1024 * 1024
"""And so many bytes, as they lie in parts."""


@dataclass(frozen=True)
class Piece:
    """Groups that are worked on together.

    Attributes:
        shard: their shard; None where only one holds any rows.
        span: the range of their ids; None: the whole shard.
        name: for messages; empty where there is but one piece.
    """

    shard: int | None = None
    span: Span | None = None
    name: str = ""

    def of(self, view: View) -> View:
        """What a view of everything shows of these groups."""
        return view.narrowed(self.shard, self.span)


EVERYTHING = Piece()


def pieces(snapshot: Snapshot) -> list[Piece]:
    """All groups of a dataset, piece by piece: shard by shard, and within a shard by group id."""
    weights = _weights(snapshot)
    made: list[Piece] = []
    for shard, count in sorted(weights.items()):
        for number, span in enumerate(spans(count)):
            names = [f"shard {shard}"] if len(weights) > 1 else []
            names += [f"part {number + 1} of {count}"] if count > 1 else []
            made.append(Piece(shard if len(weights) > 1 else None, span if count > 1 else None, ", ".join(names)))
    return made or [EVERYTHING]


def spans(count: int) -> list[Span]:
    """So many ranges of group ids of about one size: ids are hashes."""
    bounds = ["", *(f"{number * 2**32 // count:08x}" for number in range(1, count)), ""]
    return list(pairwise(bounds))


def _weights(snapshot: Snapshot) -> Mapping[int, int]:
    """By shard that holds any rows, in how many pieces these are to be read."""
    rows: dict[int, int] = {}
    size: dict[int, int] = {}
    for table in CORE_TABLES:
        for _, part in snapshot.standing.get(table, ()):
            rows[part.shard] = rows.get(part.shard, 0) + part.rows
            size[part.shard] = size.get(part.shard, 0) + part.bytes
    return {shard: max(1, -(-rows[shard] // ROWS_AT_ONCE), -(-size[shard] // BYTES_AT_ONCE)) for shard in rows}
