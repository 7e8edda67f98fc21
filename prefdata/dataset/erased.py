"""Tombstones: what was erased from a dataset, so that no run, import or label brings it back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl
import pyarrow as pa

from prefdata.dataset.log import Snapshot
from prefdata.dataset.parts import scan
from prefdata.schema import KEYS, Row, make_id

GROUPS = "groups"
"""In the column `table` of `erased`: the id is a group's, and everything of it is gone."""

EDGES: dict[str, tuple[str, ...]] = {
    "prompts": ("parent_id", "ref_ids"),
    "responses": ("prompt_id", "parent_id", "prefix_id"),
    "annotations": ("prompt_id", "target_ids"),
    "preferences": ("prompt_id", "prompt_ids", "ref_prompt_id", "response_ids", "parent_id", "rationale_ids"),
    "token_scores": ("prompt_id", "response_id"),
}
"""By table, the columns that name what a row was derived from or is about: it goes where one of these goes."""

_LISTS = ("ref_ids", "target_ids", "prompt_ids", "response_ids", "rationale_ids")


def edge(name: str) -> pl.Expr:
    """The ids in a column of EDGES: one for each row, or a list."""
    column = pl.col("condition").struct.field("ref_ids") if name == "ref_ids" else pl.col(name)
    return column.alias(name)


def columns_of(table: str) -> set[str]:
    """The columns that say whether a row is gone."""
    named = {"condition" if name == "ref_ids" else name for name in EDGES.get(table, ())}
    more = {"table", "id"} if table == "drops" else {KEYS[table]} if table in KEYS else set()
    return {"group_id", *more, *named}


@dataclass(frozen=True)
class Erased:
    """What is gone for good.

    Attributes:
        groups: ids of groups of which nothing is left.
        ids: ids of single rows, by table; of `annotators`, whose ids are names, hashes.
    """

    groups: frozenset[str] = frozenset()
    ids: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.groups or self.ids)

    def holds(self, table: str, row: Row) -> bool:
        """Whether this row was erased."""
        one = row.get(KEYS.get(table, ""))
        return row.get("group_id") in self.groups or tombstone(table, one) in self.ids.get(table, ())

    def gone(self, table: str, columns: Collection[str], *, about: bool = True) -> pl.Expr:
        """Whether a row was erased, or is about one that was.

        Args:
            table: of the rows.
            columns: that the frame has; a missing one is null.
            about: False where `ids` name all the rows that are about erased ones: only they themselves, then.
        """
        found = pl.lit(False)
        if self.groups and "group_id" in columns:
            found |= pl.col("group_id").is_in(self._sets[GROUPS]).fill_null(False)
        if not self.ids:
            return found
        key = KEYS.get(table, "")
        if table in self.ids and key in columns:
            named = pl.col(key)
            if table == "annotators":
                named = named.map_elements(lambda name: tombstone(table, name), return_dtype=pl.String)
            found |= named.is_in(self._sets[table])
        for name in EDGES.get(table, ()) if about or not key else ():
            if ("condition" if name == "ref_ids" else name) in columns:
                any_of = pl.element().is_in(self._sets["rows"])
                found |= (
                    edge(name).list.eval(any_of).list.any() if name in _LISTS else edge(name).is_in(self._sets["rows"])
                ).fill_null(False)
        if table == "drops":
            for other in self.ids:
                found |= (pl.col("table") == other) & pl.col("id").is_in(self._sets[other])
        return found

    @cached_property
    def _sets(self) -> dict[str, pl.Series]:
        every = {GROUPS: self.groups, **self.ids, "rows": frozenset[str]().union(*self.ids.values())}
        return {name: pl.Series(sorted(ids), dtype=pl.String).implode() for name, ids in every.items()}

    def without(self, table: str, rows: pa.Table) -> pa.Table:
        """Rows without those that were erased."""
        columns = [name for name in rows.column_names if name in columns_of(table)]
        frame = pl.from_arrow(rows.select(columns)) if columns else pl.DataFrame()
        assert isinstance(frame, pl.DataFrame)
        if frame.is_empty():
            return rows
        kept = frame.with_row_index("_row").filter(~self.gone(table, columns))["_row"]
        return rows if len(kept) == rows.num_rows else rows.take(kept.to_arrow())


def tombstone(table: str, row_id: object) -> object:
    """What stands for a row in `erased`: its id, which is a hash; a name is hashed, so as not to be kept."""
    return make_id("erased", row_id) if table == "annotators" else row_id


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
