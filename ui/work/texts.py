"""One prompt, one response by its id, out of millions: an index of where each row stands, in memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prefdata.dataset import Dataset
from prefdata.errors import DataError
from prefdata.schema import KEYS, Row

_COLUMNS = {
    "prompts": ("prompt_id", "group_id", "messages", "condition", "context", "media", "tags"),
    "responses": ("response_id", "group_id", "prompt_id", "text", "segments", "media", "parent_id"),
}
_KEPT = 12
"""Row groups that stay decoded; one takes 32 MB at most."""

_BELIEVED = 2.0
"""Seconds for which it is not asked whether the dataset has changed."""


@dataclass
class _Index:
    """Where the rows of one table stand: sorted hashes of their ids, and part and row of each."""

    parts: list[str] = field(default_factory=list)
    ids: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    part: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    row: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


class Texts:
    """Rows of `prompts` and `responses` by id.

    A scan of the Parquet parts for one id takes as long as one for all; this reads one row group of one part, and keeps
    those that were read last. The index takes 20 bytes a row and follows the log.

    Args:
        dataset: whose rows.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._lock = threading.RLock()
        self._indices = {table: _Index() for table in _COLUMNS}
        self._commit, self._asked = -1, 0.0
        self._groups: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()
        self._files: dict[str, pq.ParquetFile] = {}

    def prompt(self, prompt_id: str) -> Row:
        """One prompt.

        Raises:
            DataError: the dataset has none of that id (any more).
        """
        return self._rows("prompts", [prompt_id])[prompt_id]

    def responses(self, ids: Iterable[str]) -> dict[str, Row]:
        """Responses by id.

        Raises:
            DataError: the dataset does not have one of them (any more).
        """
        return self._rows("responses", list(ids))

    def _rows(self, table: str, ids: list[str]) -> dict[str, Row]:
        with self._lock:
            self._follow()
            found = {one: self._find(table, one) for one in ids}
            if None in found.values() and self._follow(now=True):
                found = {one: self._find(table, one) for one in ids}
        missing = [one for one, row in found.items() if row is None]
        if missing:
            raise DataError(f"the dataset has no {table.removesuffix('s')} {missing[0]!r} any more")
        return {one: row for one, row in found.items() if row is not None}

    def _follow(self, now: bool = False) -> bool:
        """Bring the index up to the newest commit; whether there was anything new."""
        if not now and time.monotonic() < self._asked + _BELIEVED:
            return False
        self._asked = time.monotonic()
        snapshot = self.dataset.snapshot
        if snapshot.number == self._commit:
            return False
        for table, index in self._indices.items():
            present = [part.path for _, part in snapshot.standing.get(table, [])]
            if set(index.parts) - set(present):  # compact or erase replaced some: all anew
                index = self._indices[table] = _Index()
                self._groups.clear()
                self._files.clear()
            self._extend(table, index, [path for path in present if path not in set(index.parts)])
        self._commit = snapshot.number
        return True

    def _extend(self, table: str, index: _Index, new: list[str]) -> None:
        ids, parts, rows = [index.ids], [index.part], [index.row]
        for path in new:
            column = pl.scan_parquet(self.dataset.path / path).select(KEYS[table]).collect().to_series()
            hashed = column.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64, strict=False).fill_null(0)
            ids.append(hashed.to_numpy())
            parts.append(np.full(len(column), len(index.parts), np.int32))
            rows.append(np.arange(len(column)))
            index.parts.append(path)
        if new:
            every = np.concatenate(ids)
            order = np.argsort(every, kind="stable")  # of rows with one id the last committed one stands last
            index.ids, index.part = every[order], np.concatenate(parts)[order]
            index.row = np.concatenate(rows)[order]

    def _find(self, table: str, one: str) -> Row | None:
        index, key = self._indices[table], KEYS[table]
        try:
            wanted = np.uint64(int(one[:16], 16))
        except ValueError:
            return None
        low, high = np.searchsorted(index.ids, wanted, "left"), np.searchsorted(index.ids, wanted, "right")
        # Of prompts the first wins, of responses the last, as in a view.
        places = range(low, high) if table == "prompts" else range(high - 1, low - 1, -1)
        for place in places:
            row = self._row(table, index.parts[index.part[place]], int(index.row[place]))
            if row[key] == one:
                return row
        return None

    def _row(self, table: str, path: str, row: int) -> Row:
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = pq.ParquetFile(self.dataset.path / path, memory_map=True)
        group = 0
        while row >= file.metadata.row_group(group).num_rows:
            row -= file.metadata.row_group(group).num_rows
            group += 1
        rows = self._groups.pop((path, group), None)
        if rows is None:
            there = set(file.schema_arrow.names)
            rows = file.read_row_group(group, columns=[name for name in _COLUMNS[table] if name in there])
        self._groups[path, group] = rows
        while len(self._groups) > _KEPT:
            self._groups.popitem(last=False)
        made: Row = dict.fromkeys(_COLUMNS[table])
        made.update(rows.slice(row, 1).to_pylist()[0])
        return made
