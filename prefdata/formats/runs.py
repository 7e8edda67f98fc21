"""The rows of a file to be, which need not fit into memory: sorted runs on disk, read back as one in order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import polars as pl

from prefdata.formats.columns import filled_message_keys, keep_message_keys
from prefdata.schema import MESSAGE

_BUCKETS = 4096
"""Ranges of group ids, of which a run knows where each begins."""

_ROWS = 1 << 16
"""About how many rows are in memory together when runs are merged."""


class Runs:
    """Rows in runs, each sorted by group; a context manager that leaves nothing on disk.

    One run stays in memory. Once there are several they are Parquet files in a folder of their own.

    Args:
        folder: where that folder is made: beside the file, on the same disk.
        order: the columns to sort by, `group` first; rows of equal ones stay in their order.
        conversations: the columns that hold messages.
        defaults: what a column says where a run does not have it; null for others.
    """

    def __init__(
        self, folder: Path, order: Sequence[str], conversations: Sequence[str], defaults: Mapping[str, object]
    ) -> None:
        self._folder, self._order, self._defaults = folder, list(order), defaults
        self._conversations = conversations
        self._scratch: Path | None = None
        self._first: pl.DataFrame | None = None
        self._paths: list[Path] = []
        self._begins: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        self._types: dict[str, pl.DataType] = {}
        self._keys: set[str] = set()
        self.height = 0
        self.size = 0

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def columns(self) -> frozenset[str]:
        """Those that some run has."""
        return frozenset(self._types)

    @property
    def message_keys(self) -> list[str]:
        """The keys that some message fills, in the order of the schema."""
        return [name for name in MESSAGE.names if name in self._keys]

    def add(self, rows: pl.DataFrame) -> None:
        """Add a run: rows sorted by group.

        Raises:
            OSError: the disk is full.
        """
        if not rows.height:
            return
        self._types = {**rows.schema, **self._types}
        self._keys |= set(filled_message_keys([rows[name] for name in self._conversations]))
        self.height += rows.height
        self.size += int(rows.estimated_size())
        if self._first is None and not self._paths:
            self._first = rows
            return
        if self._first is not None:
            first, self._first = self._first, None
            self._spill(first)
        self._spill(rows)

    def _spill(self, rows: pl.DataFrame) -> None:
        if self._scratch is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._scratch = Path(tempfile.mkdtemp(prefix=".export-", suffix=".tmp", dir=self._folder))
        path = self._scratch / f"{len(self._paths)}.parquet"
        rows.write_parquet(path, compression="lz4", statistics=False, row_group_size=1 << 14)
        self._paths.append(path)
        bounds = pl.Series([f"{bucket * 2**32 // _BUCKETS:08x}" for bucket in range(1, _BUCKETS)])
        inner = rows["group"].search_sorted(bounds, "left").to_numpy().astype(np.int64)
        self._begins.append(np.concatenate([[0], inner, [rows.height]]))

    def in_order(self) -> Iterator[pl.DataFrame]:
        """All rows, in some tens of thousands at a time, every frame with the same columns."""
        if self._first is not None:
            yield self._alike(self._first)
            return
        total = np.sum(self._begins, axis=0)
        start = 0
        while start < _BUCKETS:
            stop = max(start + 1, int(np.searchsorted(total, total[start] + _ROWS, "right")) - 1)
            slices = [
                self._alike(pl.scan_parquet(path).slice(int(at[start]), int(at[stop] - at[start])).collect())
                for path, at in zip(self._paths, self._begins, strict=True)
                if at[stop] > at[start]
            ]
            if slices:
                yield pl.concat(slices).sort(self._order, maintain_order=True)
            start = stop

    def _alike(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with every column that some run has, and in messages every key that some message fills."""
        keys = self.message_keys
        missing = {
            name: pl.lit(self._defaults.get(name), kind)
            for name, kind in self._types.items()
            if name not in rows.columns
        }
        shown = [
            # A response's messages have a role and a content; only prompts may fill further keys.
            keep_message_keys(rows[name], keys if name == "prompt" else ["role", "content"])
            for name in self._conversations
        ]
        return rows.with_columns(**missing).with_columns(shown).select(list(self._types))
