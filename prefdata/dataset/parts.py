"""Parts: the Parquet files that hold the rows, written once and scanned together."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prefdata.dataset.log import Part, Snapshot, sync_folder
from prefdata.errors import DataError
from prefdata.schema import CORE_TABLES, SCHEMAS

COMMIT = "_commit"
"""The number of the commit that a row came with; every scan has it."""

SHARDED = frozenset({*CORE_TABLES, "calls", "progress"})
"""The tables whose parts keep to one shard each."""

ROW_GROUP = 128 * 1024
"""Rows: what a reader of some groups must read at least."""


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


def of_shard(shards: int) -> pl.Expr:
    """`shard_of` of the column group_id; 0 for rows of no group and for notes about everything at once."""
    return pl.col("group_id").str.slice(0, 8).str.to_integer(base=16, strict=False).fill_null(0) % shards


def write_parts(root: Path, table: str, rows: pa.Table, shards: int) -> Iterator[Part]:
    """Write rows of one table as one part for each shard that they touch, and name each as soon as it is there."""
    if rows.num_rows == 0:
        return
    if shards == 1 or table not in SHARDED or "group_id" not in rows.column_names:
        yield write_part(root, table, rows)
        return
    groups = pl.from_arrow(rows.select(["group_id"]))
    assert isinstance(groups, pl.DataFrame)
    shard_of_row = groups.select(of_shard(shards)).to_series()
    places = shard_of_row.arg_sort()  # stable: within a shard the order stays
    start = 0
    for shard, count in shard_of_row.value_counts().sort(pl.nth(0)).iter_rows():
        yield write_part(root, table, rows.take(places.slice(start, count).to_arrow()), shard)
        start += count


def write_part(root: Path, table: str, rows: pa.Table, shard: int = 0) -> Part:
    """Write one part: under a temporary name, synced, then renamed.

    Args:
        root: the dataset's folder.
        table: of the rows.
        rows: at least one; with a column `_commit` where they came with several commits.
        shard: of all rows.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind then.
    """
    folder = root / "parts" / table
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    temporary, final = folder / f".{name}.tmp", folder / f"{name}.parquet"
    try:
        with temporary.open("wb") as file:
            pq.write_table(rows, file, compression="zstd", row_group_size=ROW_GROUP)
            file.flush()
            os.fsync(file.fileno())
        size, digest = temporary.stat().st_size, digest_of(temporary)
        temporary.rename(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    steps = tuple(sorted(rows["step"].drop_null().unique().to_pylist())) if "step" in rows.column_names else ()
    commits = None
    if COMMIT in rows.column_names:
        lowest_highest = pc.min_max(rows[COMMIT]).as_py()
        commits = (lowest_highest["min"], lowest_highest["max"])
    return Part(table, str(final.relative_to(root)), rows.num_rows, shard, steps, size, digest, commits)


def digest_of(path: Path) -> str:
    """BLAKE2b of a file, 128 bits in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def scan(
    root: Path,
    snapshot: Snapshot,
    table: str,
    *,
    steps: Iterable[str] | None = None,
    shard: int | None = None,
) -> pl.LazyFrame:
    """All rows of a table, live or not, with every column of its schema and `_commit`.

    The rows of one group stand in the order of their commits.

    Args:
        root: the dataset's folder.
        snapshot: what was committed.
        table: which table.
        steps: leave out parts that hold rows of none of these (a part may hold others beside them).
        shard: only this shard; notes of progress about everything at once are in each.
    """
    wanted = None if steps is None else set(steps)
    shards = None if shard is None else {shard, 0} if table == "progress" else {shard}
    paths: list[str] = []
    commits: dict[str, int] = {}
    later = False
    for number, part in snapshot.standing.get(table, ()):
        if (wanted is None or wanted.intersection(part.steps)) and (shards is None or part.shard in shards):
            paths.append(str(_there(root, part)))
            if part.commits is None:
                commits[paths[-1]] = number
            else:
                later |= part.commits[1] > snapshot.number
    if not paths:
        return empty(table).lazy().with_columns(pl.lit(None, pl.Int64).alias(COMMIT))
    of_part = pl.col("_part").replace_strict(commits, default=None, return_dtype=pl.Int64)
    rows = (
        pl.scan_parquet(
            paths,
            schema={**polars_schema(table), COMMIT: pl.Int64()},
            missing_columns="insert",
            extra_columns="ignore",
            include_file_paths="_part",
            glob=False,
            hive_partitioning=False,
        )
        .with_columns(pl.coalesce(COMMIT, of_part).alias(COMMIT))
        .drop("_part")
    )
    return rows.filter(pl.col(COMMIT) <= snapshot.number) if later else rows


_seen: set[Path] = set()
"""The parts that were there, and whole: each is looked at once in a process."""


def _there(root: Path, part: Part) -> Path:
    """The file of a part.

    Raises:
        DataError: it is gone, or is not as long as it was when it was committed.
    """
    path = root / part.path
    if path not in _seen:
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = -1
        if size != part.bytes and (part.bytes or size < 0):
            state = "is gone" if size < 0 else f"has {size:,} bytes and had {part.bytes:,} when it was committed"
            raise DataError(
                f"{path} {state}: {part.rows:,} rows of {part.table} cannot be read. Bring the file back from a copy, "
                f"or run `prefdata verify {root} --repair`, which saves the rest"
            )
        _seen.add(path)
    return path


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
