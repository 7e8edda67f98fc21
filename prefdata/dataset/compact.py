"""Compaction: many small parts become few large ones, with the same rows, each with the commit that it came with.

One table and shard at a time. Its rows are sorted by group, and within a group by commit, so that whoever wants some
groups can skip most of a part; prompts alone keep the order in which they came, since `--limit` goes by it. Where the
rows of a shard do not fit in memory they are first distributed, by group, over files of ranges that do.

Each table is one commit, which replaces the parts that its writer had seen: what others commit meanwhile stands beside
it, so that runs and labels need not wait. After a crash some tables are compact and the others are as they were. The
replaced files stay for an hour, and as long as a run is at work, for those who read them.
"""

from __future__ import annotations

import bisect
import contextlib
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from prefdata.dataset import lease
from prefdata.dataset.dataset import Dataset
from prefdata.dataset.leftovers import Swept, finish, remove, sweep, undone
from prefdata.dataset.log import ConflictError, Part
from prefdata.dataset.parts import COMMIT, PartWriter, fitted, rows_per_group
from prefdata.errors import DataError
from prefdata.schema import SCHEMAS

TARGET = 128 * 1024 * 1024
"""Bytes of Parquet that a part aims at."""

IN_MEMORY = 128 * 1024 * 1024
"""Bytes of rows, as Arrow holds them, that are sorted at once."""

_BATCH = 32 * 1024
_IN_ORDER = frozenset({"prompts", "criteria", "annotators"})
_LEFT_ALONE = frozenset({"erased"})

Stood = tuple[int, Part]
"""A part, and the first commit of its rows."""


@dataclass(frozen=True)
class Compacted:
    """What became of a table: parts and bytes before and after."""

    table: str
    parts: tuple[int, int]
    bytes: tuple[int, int]


@dataclass(frozen=True)
class Compaction:
    """What was done: the tables that were rewritten, and the replaced files that were removed or stay."""

    tables: list[Compacted] = field(default_factory=list)
    swept: Swept = field(default_factory=Swept)


def compact(
    dataset: Dataset,
    *,
    now: bool = False,
    target_bytes: int = TARGET,
    memory_bytes: int = IN_MEMORY,
    say: Callable[[str], object] = lambda _: None,
) -> Compaction:
    """Replace many small parts by few. Every view, at every commit, is what it was before.

    Args:
        dataset: to be made compact. Others may read it and write to it meanwhile.
        now: remove the replaced files at once, and not after an hour. Needs that no run is at work.
        target_bytes: of a part.
        memory_bytes: of rows that are sorted at once; the peak is about four times as much.
        say: is told of each table, when it is done.

    Raises:
        DataError: another compact, an erase or a repair is at work; or `now`, and a run is.
        OSError: the disk is full; what was committed until then is compact.
    """
    root = dataset.path
    with lease.care(root, lease.COMPACT):
        if now and (running := lease.runs(root)):
            raise DataError(
                f"{root}: a run of {running[0].name} is at work ({running[0]}) and may be reading the files that --now "
                "would remove. Wait for its end, or leave --now out"
            )
        finish(dataset)
        before = sweep(root, dataset.log.snapshot(), now=now)  # first: it makes room
        done = []
        for table in sorted(dataset.log.snapshot().standing.keys() - _LEFT_ALONE):
            if one := _compact_table(dataset, table, target_bytes, memory_bytes):
                done.append(one)
                say(f"{table}: {one.parts[0]:,} parts to {one.parts[1]:,}")
        after = sweep(root, dataset.log.snapshot(), now=now)
    swept = Swept(before.removed + after.removed, before.bytes + after.bytes, after.kept, after.until)
    return Compaction(done, swept)


def _compact_table(dataset: Dataset, table: str, target: int, memory: int) -> Compacted | None:
    snapshot = dataset.log.snapshot()
    shards: defaultdict[int, list[Stood]] = defaultdict(list)
    for first, part in snapshot.standing[table]:
        shards[part.shard].append((first, part))
    old: list[Part] = []
    new: list[Part] = []
    with undone(dataset.path, new):
        for shard, stood in sorted(shards.items()):
            if _worth_it([part for _, part in stood], target):
                old += [part for _, part in stood]
                for part in _rewritten(dataset.path, table, shard, stood, target, memory):
                    new.append(part)  # one by one: on a disk that fills, all that were written are known
    if not old:
        return None
    message = f"compact: {table}, {len(old)} parts to {len(new)}"
    try:
        dataset.log.append(message, tuple(new), replaces=tuple(part.path for part in old), seen=snapshot.number)
    except ConflictError:
        remove(dataset.path, new)
        raise DataError(f"{dataset.path}: rows were erased while {table} was made compact; try again") from None
    return Compacted(table, (len(old), len(new)), (sum(map(_size, old)), sum(map(_size, new))))


def _size(part: Part) -> int:
    return part.bytes


def _worth_it(parts: Sequence[Part], target: int) -> bool:
    """Whether there are many more parts than there need be.

    Sorted rows take less room, so that what was made compact may look as if it fitted into one part less: of several,
    twice as many as need be are few enough.
    """
    needed = -(-sum(map(_size, parts)) // target)
    return len(parts) > (1 if needed <= 1 else 2 * needed)


def _rewritten(root: Path, table: str, shard: int, stood: Sequence[Stood], target: int, memory: int) -> Iterator[Part]:
    """Write the rows of one table and shard again, in order; give each part as soon as it is there."""
    schema = _schema(root, table, stood)
    by_group = table not in _IN_ORDER and "group_id" in schema.names
    rows = _read(root, stood, schema)
    if by_group:
        rows = _sorted(root / "parts" / table, rows, _ranges(root, stood, schema, memory), schema)
    total = sum((root / part.path).stat().st_size for _, part in stood)
    each = -(-total // max(1, -(-total // target)))
    with contextlib.ExitStack() as open_one:
        writer: PartWriter | None = None
        for piece in _pieces(rows, whole_groups=by_group):
            if writer is None:
                writer = open_one.enter_context(PartWriter(root, table, schema, shard))
            writer.write(piece)
            del piece  # a slice holds all of its range
            if writer.bytes >= each:
                yield writer.finish()
                open_one.close()
                writer = None
        if writer is not None:
            yield writer.finish()


def _schema(root: Path, table: str, stood: Sequence[Stood]) -> pa.Schema:
    """The columns that some part has, in the table's order, and `_commit`."""
    there: dict[str, pa.Field] = {}
    for _, part in stood:
        for one in pq.read_schema(root / part.path):
            there.setdefault(one.name, one)
    known = [one for one in SCHEMAS[table] if one.name in there]
    unknown = [one for name, one in there.items() if name not in SCHEMAS[table].names and name != COMMIT]
    return pa.schema([*known, *unknown, pa.field(COMMIT, pa.int64())])


def _read(root: Path, stood: Iterable[Stood], schema: pa.Schema) -> Iterator[pa.Table]:
    """All rows in the order of the parts, each with its commit, a few thousand at a time."""
    for first, part in stood:
        with pq.ParquetFile(root / part.path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                yield fitted(pa.Table.from_batches([batch]), schema, first)


def _ranges(root: Path, stood: Sequence[Stood], schema: pa.Schema, memory: int) -> int:
    """Into how many ranges of groups the rows are cut, so that one fits in memory; judged by the largest part."""
    largest = max(stood, key=lambda one: one[1].rows)
    first = next(_read(root, [largest], schema))
    rows = sum(part.rows for _, part in stood)
    return int(-(-first.nbytes * rows // max(1, first.num_rows) // memory)) or 1


def _sorted(folder: Path, rows: Iterator[pa.Table], ranges: int, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows sorted by group and commit, one range of groups after the other."""
    if ranges == 1:
        yield _in_order(pa.concat_tables(rows))
        return
    spilled = [folder / f".{uuid.uuid4().hex}.tmp" for _ in range(ranges)]
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    try:
        with contextlib.ExitStack() as open_ones:
            writers = [
                open_ones.enter_context(pa.ipc.new_stream(str(path), schema, options=options)) for path in spilled
            ]
            for some in rows:
                place = _range_of(some, ranges)
                for at in place.unique():
                    writers[at].write_table(some.filter((place == at).to_arrow()))
        for path in spilled:
            yield _in_order(_unspilled(path))
            path.unlink()
            pa.default_memory_pool().release_unused()
    finally:
        for path in spilled:
            path.unlink(missing_ok=True)


def _unspilled(path: Path) -> pa.Table:
    with pa.ipc.open_stream(str(path)) as reader:
        return reader.read_all()


def _range_of(rows: pa.Table, ranges: int) -> pl.Series:
    """Which range each row's group belongs to. Ids are hashes, so equal ranges of them hold about as many."""
    groups = pl.from_arrow(rows.select(["group_id"]))
    assert isinstance(groups, pl.DataFrame)
    start = pl.col("group_id").str.slice(0, 8).str.to_integer(base=16, strict=False).fill_null(0)
    return groups.select((start * ranges // 2**32).clip(0, ranges - 1)).to_series()


def _in_order(rows: pa.Table) -> pa.Table:
    keys = pl.from_arrow(rows.select(["group_id", COMMIT]))
    assert isinstance(keys, pl.DataFrame)
    places = keys.select(pl.arg_sort_by("group_id", COMMIT, maintain_order=True)).to_series()
    return rows.take(places.to_arrow())


def _pieces(tables: Iterable[pa.Table], *, whole_groups: bool) -> Iterator[pa.Table]:
    """The rows in pieces of a row group each; a group is never cut in two."""
    for rows in tables:
        starts = _starts(rows) if whole_groups else None
        at, size = 0, rows_per_group(rows)
        while at < rows.num_rows:
            end = min(at + size, rows.num_rows)
            if starts is not None and end < rows.num_rows:
                end = starts[bisect.bisect_left(starts, end)] if end <= starts[-1] else rows.num_rows
            yield rows.slice(at, end - at)
            at = end
        del rows


def _starts(rows: pa.Table) -> list[int]:
    """Where a new group begins."""
    groups = pl.from_arrow(rows.select(["group_id"]))
    assert isinstance(groups, pl.DataFrame)
    new = pl.col("group_id").ne_missing(pl.col("group_id").shift(1))
    starts: list[int] = groups.select(new.arg_true()).to_series().to_list()
    return starts
