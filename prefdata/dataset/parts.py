"""Parts: the Parquet files that hold the rows, written once and scanned together."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prefdata.dataset.log import Part, Snapshot, sync_folder
from prefdata.schema import CORE_TABLES, SCHEMAS

COMMIT = "_commit"
"""The number of the commit that a row came with; every scan has it."""


@cache
def polars_schema(table: str) -> pl.Schema:
    """The polars types of a table's columns."""
    frame = pl.from_arrow(SCHEMAS[table].empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame.schema


def empty(table: str) -> pl.DataFrame:
    """No rows, every column."""
    return pl.DataFrame(schema=polars_schema(table))


def shard_of(group_id: str, shards: int) -> int:
    """Which of `shards` a group belongs to. Group ids are hashes, so their own digits spread evenly."""
    return int(group_id[:8], 16) % shards


def write_parts(root: Path, table: str, rows: pa.Table, shards: int) -> list[Part]:
    """Write rows of one table as one part for each shard that they touch."""
    if rows.num_rows == 0:
        return []
    pieces = {0: rows}
    if shards > 1 and table in CORE_TABLES:
        of_row = pa.array([shard_of(group, shards) for group in rows["group_id"].to_pylist()], pa.int32())
        pieces = {shard: rows.filter(pc.equal(of_row, shard)) for shard in sorted(set(of_row.to_pylist()))}
    return [_write_part(root, table, piece, shard) for shard, piece in pieces.items()]


def _write_part(root: Path, table: str, rows: pa.Table, shard: int) -> Part:
    folder = root / "parts" / table
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    temporary, final = folder / f".{name}.tmp", folder / f"{name}.parquet"
    with temporary.open("wb") as file:
        pq.write_table(rows, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(final)
    sync_folder(folder)
    steps = tuple(sorted(rows["step"].unique().to_pylist())) if "step" in rows.column_names else ()
    return Part(table=table, path=str(final.relative_to(root)), rows=rows.num_rows, shard=shard, steps=steps)


def scan(
    root: Path,
    snapshot: Snapshot,
    table: str,
    *,
    steps: Iterable[str] | None = None,
    shard: int | None = None,
) -> pl.LazyFrame:
    """All rows of a table, live or not, with every column of its schema and `_commit`, oldest first.

    Args:
        root: the dataset's folder.
        snapshot: what was committed.
        table: which table.
        steps: leave out parts that hold rows of none of these (a part may hold others beside them).
        shard: only this shard.
    """
    wanted = None if steps is None else set(steps)
    commits: dict[str, int] = {}
    for number, part in snapshot.parts(table):
        if (wanted is None or wanted.intersection(part.steps)) and shard in (None, part.shard):
            commits[str(root / part.path)] = number
    if not commits:
        return empty(table).lazy().with_columns(pl.lit(None, pl.Int64).alias(COMMIT))
    return (
        pl.scan_parquet(
            list(commits),
            schema=polars_schema(table),
            missing_columns="insert",
            extra_columns="ignore",
            include_file_paths="_part",
            glob=False,
            hive_partitioning=False,
        )
        .with_columns(pl.col("_part").replace_strict(commits, return_dtype=pl.Int64).alias(COMMIT))
        .drop("_part")
    )


def to_arrow(table: str, frame: pl.DataFrame) -> pa.Table:
    """A polars frame as an Arrow table of the schema's own types, without the columns that are all null."""
    kept = [name for name in SCHEMAS[table].names if name in frame.columns and frame[name].null_count() < frame.height]
    schema = pa.schema([SCHEMAS[table].field(name) for name in kept])
    return frame.select(kept).to_arrow().cast(schema)


def frame_of(table: str, rows: pl.DataFrame | pa.Table) -> pl.DataFrame:
    """Any of the shapes that rows come in, as a frame with every column of the table's schema."""
    if isinstance(rows, pl.DataFrame):
        frame = rows
    else:
        made = pl.from_arrow(rows)
        assert isinstance(made, pl.DataFrame)
        frame = made
    schema = polars_schema(table)
    return frame.select(
        [
            (pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype).alias(name))
            for name, dtype in schema.items()
        ]
    )
