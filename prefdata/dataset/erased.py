"""Tombstones: what was erased from a dataset, so that no run, import or label brings it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa

from prefdata.dataset.log import Snapshot
from prefdata.dataset.parts import scan
from prefdata.schema import KEYS, Row

GROUPS = "groups"
"""In the column `table` of `erased`: the id is a group's, and everything of it is gone."""


@dataclass(frozen=True)
class Erased:
    """What is gone for good.

    Attributes:
        groups: ids of groups of which nothing is left.
        ids: ids of single rows, by table.
    """

    groups: frozenset[str] = frozenset()
    ids: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.groups or self.ids)

    def holds(self, table: str, row: Row) -> bool:
        """Whether this row was erased."""
        return row.get("group_id") in self.groups or row.get(KEYS.get(table, "")) in self.ids.get(table, ())

    def without(self, table: str, rows: pa.Table) -> pa.Table:
        """Rows without those that were erased."""
        frame = pl.from_arrow(rows)
        assert isinstance(frame, pl.DataFrame)
        keep = pl.lit(True)
        if "group_id" in frame.columns and self.groups:
            keep &= ~pl.col("group_id").is_in(list(self.groups)).fill_null(False)
        if table in self.ids:
            keep &= ~pl.col(KEYS[table]).is_in(list(self.ids[table]))
        if table == "drops" and self.ids:
            for other, ids in self.ids.items():
                keep &= ~((pl.col("table") == other) & pl.col("id").is_in(list(ids)))
        kept = frame.select(keep.alias("keep")).to_series()
        if len(kept) == 1 and frame.height != 1:
            return rows if kept[0] else rows.slice(0, 0)
        return rows if kept.all() else rows.filter(kept.to_arrow())


def erased_from(root: Path, snapshot: Snapshot) -> Erased:
    """The tombstones of a dataset, of every commit: what is erased is erased at every `--at`."""
    if "erased" not in snapshot.standing:
        return Erased()
    rows = scan(root, snapshot, "erased").select("table", "id").collect()
    ids: dict[str, set[str]] = {}
    for table, one in rows.iter_rows():
        ids.setdefault(table, set()).add(one)
    groups = ids.pop(GROUPS, set())
    return Erased(frozenset(groups), {table: frozenset(found) for table, found in ids.items()})


def stand_in(table: str, row_id: str, group_id: str) -> Row:
    """A row in place of one that was erased, for the step that would make it. `Dataset.commit` leaves it out again."""
    row: Row = {KEYS[table]: row_id, "group_id": group_id}
    if table == "responses":
        return {**row, "text": None, "finish_reason": "error", "call_id": None}
    if table == "annotations":
        shown: Sequence[str] = ["-"]
        said = {"target": "response", "target_ids": shown, "protocol": "score", "source": "judge", "status": "skipped"}
        return {**row, **said, "scores": None, "revision": 1}
    return row
