"""Parts: the Parquet files that hold the rows, written once and scanned together."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prefdata.dataset.log import ConflictError, Part, Snapshot, sync_folder
from prefdata.errors import DataError
from prefdata.schema import CORE_TABLES, SCHEMAS

COMMIT = "_commit"
"""The number of the commit that a row came with; every scan has it."""

PART = "_part"
"""The path of the part that a row stands in, below the dataset's folder; where `scan` is asked for it."""

NOTE = b"prefdata"
"""The key in a part's Parquet footer under which stands which commit it was written for, and when; see `origin_of`."""

Span = tuple[str, str]
"""A range of group ids: from the first on, and below the second; an empty text is no bound."""

WHOLE = "*"
"""The group_id under which a dataset-scope step notes its progress."""

SHARDED = frozenset({*CORE_TABLES, "calls", "progress"})
"""The tables whose parts keep to one shard each."""

ROW_GROUP = 128 * 1024
"""Rows in a row group at most."""

GROUP_BYTES = 32 * 1024 * 1024
"""Bytes in a row group at most, in memory."""


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


def write_parts(root: Path, table: str, rows: pa.Table, shards: int, token: str = "") -> Iterator[Part]:
    """Write rows of one table as one part for each shard that they touch, and name each as soon as it is there.

    All parts of one commit have the same `token`.
    """
    if rows.num_rows == 0:
        return
    if shards == 1 or table not in SHARDED or "group_id" not in rows.column_names:
        yield write_part(root, table, rows, token=token)
        return
    groups = pl.from_arrow(rows.select(["group_id"]))
    assert isinstance(groups, pl.DataFrame)
    shard_of_row = groups.select(of_shard(shards)).to_series()
    places = shard_of_row.arg_sort()  # stable: within a shard the order stays
    start = 0
    for shard, count in shard_of_row.value_counts().sort(pl.nth(0)).iter_rows():
        yield write_part(root, table, rows.take(places.slice(start, count).to_arrow()), shard, token)
        start += count


def write_part(root: Path, table: str, rows: pa.Table, shard: int = 0, token: str = "") -> Part:
    """Write one part: under a temporary name, synced, then renamed.

    Args:
        root: the dataset's folder.
        table: of the rows.
        rows: at least one; with a column `_commit` where they came with several commits.
        shard: of all rows.
        token: of the commit that it is written for; one of its own unless given.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind then.
        ConflictError: an erase took the unfinished file away.
    """
    with PartWriter(root, table, rows.schema, shard, token) as writer:
        writer.write(rows)
        return writer.finish()


class PartWriter:
    """Writes one part piece by piece; a context manager, that leaves nothing behind unless `finish` was reached.

    Args:
        root: the dataset's folder.
        table: of the rows.
        schema: of every piece.
        shard: of all rows.
        token: of the commit that it is written for; one of its own unless given.

    Attributes:
        rows: how many were written so far.
    """

    def __init__(self, root: Path, table: str, schema: pa.Schema, shard: int = 0, token: str = "") -> None:
        self._root, self._table, self._shard = root, table, shard
        folder = root / "parts" / table
        folder.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        self._token = token or name
        self._temporary, self._final = folder / f".{name}.tmp", folder / f"{name}.parquet"
        self.rows = 0
        self._steps: set[str] = set()
        self._commits: list[int] = []
        self._file = self._temporary.open("wb")
        # A checksum for each page: of a damaged part `verify --repair` keeps what is certain to be right.
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd", write_page_checksum=True)

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # On a full disk both may fail, of a part that is given up: why it was is what the caller must hear.
            with contextlib.suppress(OSError, pa.ArrowException):
                self._writer.close()
            with contextlib.suppress(OSError):
                self._file.close()
        finally:
            self._temporary.unlink(missing_ok=True)

    @property
    def bytes(self) -> int:
        """How large the file is so far."""
        return self._file.tell()

    def write(self, rows: pa.Table) -> None:
        """Add rows, as row groups of their own."""
        self._writer.write_table(rows, row_group_size=rows_per_group(rows))
        self.rows += rows.num_rows
        if "step" in rows.column_names:
            self._steps.update(rows["step"].drop_null().unique().to_pylist())
        if COMMIT in rows.column_names:
            ends = pc.min_max(rows[COMMIT]).as_py()
            self._commits = [min([ends["min"], *self._commits]), max([ends["max"], *self._commits])]

    def finish(self) -> Part:
        """Give the file its name, once the disk has it."""
        # In the file itself, since a copy of the dataset may have other times of files.
        note = {"commit": self._token, "time": datetime.now(UTC).isoformat(timespec="microseconds")}
        self._writer.add_key_value_metadata({NOTE: json.dumps(note)})
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        try:
            size, digest = self._temporary.stat().st_size, digest_of(self._temporary)
            self._temporary.rename(self._final)
        except FileNotFoundError as error:
            raise ConflictError from error
        sync_folder(self._final.parent)
        commits = (self._commits[0], self._commits[1]) if self._commits else None
        path = str(self._final.relative_to(self._root))
        return Part(self._table, path, self.rows, self._shard, tuple(sorted(self._steps)), size, digest, commits)


def rows_per_group(rows: pa.Table) -> int:
    """How many rows make a row group: what a reader of a few of them must read."""
    fits = GROUP_BYTES * rows.num_rows // max(1, rows.nbytes)
    return int(min(ROW_GROUP, max(1024, fits)))


def origin_of(path: Path) -> tuple[str, float] | None:
    """The token of the commit that a part was written for, and when (in Unix seconds, by its writer's clock).

    None for a part from before there was such a note, and where the note makes no sense.

    Raises:
        OSError, pyarrow.ArrowException: the file cannot be read.
    """
    said = (pq.read_metadata(path).metadata or {}).get(NOTE)
    try:
        note = json.loads(said or b"")
        return str(note["commit"]), datetime.fromisoformat(note["time"]).timestamp()
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def inside(path: Path, folder: Path) -> Path:
    """The path, where it leads into a folder: what a log or a link names is never removed or moved elsewhere.

    Raises:
        DataError: it leads out of the folder.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"{path} leads out of {folder}, and is not touched: no prefdata wrote that. Find out who did, and restore "
            "the dataset from a copy"
        )
    return path


def in_step(stood: Sequence[tuple[int, Part]], touched: Collection[str]) -> set[str]:
    """Which parts of `prompts` are written again with those that must be, so that the order of prompts holds.

    Of parts that begin with the same commit, the one that was written last comes last. Where compacted parts share a
    commit at their ends, those behind a touched one therefore go with it.

    Args:
        stood: the parts that stand, each with its first commit, in order.
        touched: the paths of those that must be written again.
    """
    found = set(touched)
    ends: dict[int, tuple[int, bool]] = {}
    for first, part in stood:
        end, taken = ends.get(part.shard, (-1, False))
        taken = part.path in found or (taken and first <= end)
        if taken:
            found.add(part.path)
        ends[part.shard] = max(end, part.commits[1] if part.commits else first), taken
    return found


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
    span: Span | None = None,
    with_part: bool = False,
) -> pl.LazyFrame:
    """All rows of a table, live or not, with every column of its schema and `_commit`.

    The rows of one group stand in the order of their commits, and prompts altogether in the order in which they came:
    `--limit` goes by it.

    Args:
        root: the dataset's folder.
        snapshot: what was committed.
        table: which table.
        steps: leave out parts that hold rows of none of these (a part may hold others beside them).
        shard: only this shard; notes of progress about everything at once are in each.
        span: only the groups of this range, likewise.
        with_part: with `_part`, too.
    """
    wanted = None if steps is None else set(steps)
    shards = None if shard is None else {shard, 0} if table == "progress" else {shard}
    paths: list[str] = []
    commits: dict[str, int] = {}
    of_part: dict[str, int] = {}
    later = moved = False
    for number, part in snapshot.standing.get(table, ()):
        if (wanted is None or wanted.intersection(part.steps)) and (shards is None or part.shard in shards):
            paths.append(str(_there(root, part)))
            of_part[paths[-1]] = part.shard
            if part.commits is None:
                commits[paths[-1]] = number
            else:
                moved = True
                later |= part.commits[1] > snapshot.number
    if not paths:
        nothing = {COMMIT: pl.Int64(), **({PART: pl.String()} if with_part else {})}
        return pl.LazyFrame(schema={**polars_schema(table), **nothing})
    came_with = pl.col(PART).replace_strict(commits, default=None, return_dtype=pl.Int64)
    rows = pl.scan_parquet(
        paths,
        schema={**polars_schema(table), COMMIT: pl.Int64()},
        missing_columns="insert",
        extra_columns="ignore",
        include_file_paths=PART,
        glob=False,
        hive_partitioning=False,
    ).with_columns(pl.coalesce(COMMIT, came_with).alias(COMMIT))
    if span is not None:
        rows = rows.filter(within(span) | (pl.col("group_id") == WHOLE) if table == "progress" else within(span))
    if table == "prompts" and moved and len(set(of_part.values())) > 1:  # compacted shards stand one after the other
        rows = rows.sort(COMMIT, pl.col(PART).replace_strict(of_part), maintain_order=True)
    rows = rows.with_columns(pl.col(PART).str.strip_prefix(f"{root}/")) if with_part else rows.drop(PART)
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
                f"{path} {state}: {part.rows:,} rows of {part.table} cannot be read. If a compact or an erase put "
                "others in its place meanwhile, open the dataset again; else bring the file back from a copy, or run "
                f"`prefdata verify {root} --repair`, which saves the rest"
            )
        _seen.add(path)
    return path


def fitted(rows: pa.Table, schema: pa.Schema, commit: int) -> pa.Table:
    """Rows with exactly the columns of `schema`, of which `_commit` is `commit` where the rows do not say it."""
    columns = []
    for one in schema:
        if one.name in rows.column_names:
            columns.append(rows[one.name].cast(one.type))
        elif one.name == COMMIT:
            columns.append(pa.repeat(pa.scalar(commit, pa.int64()), rows.num_rows))
        else:
            columns.append(pa.nulls(rows.num_rows, one.type))
    return pa.table(columns, schema=schema)


def within(span: Span) -> pl.Expr:
    """Whether group_id lies in a range; rows of no group lie in none but the one without bounds."""
    low, high = span
    bounds = [pl.col("group_id") >= low] if low else []
    bounds += [pl.col("group_id") < high] if high else []
    return pl.all_horizontal(bounds) if bounds else pl.lit(True)


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
