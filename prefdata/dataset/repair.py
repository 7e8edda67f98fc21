"""Repair: a dataset of which something was damaged becomes one that can be read and run again. Nothing is deleted.

What cannot be read is moved to `lost+found/`, and a commit puts what can be read of it in its place. Lost rows of steps
are made again by the next run: the notes that say they were made are taken out, so that the runtime runs these groups
again, copies the rows that are still there, and finds the answers in the request cache. Lost labels and imports are
lost, unless they are brought in again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from prefdata.dataset import lease
from prefdata.dataset.dataset import Dataset, marker_of
from prefdata.dataset.leftovers import KEEP, holds_erased, remove, uncommitted, undone
from prefdata.dataset.log import Commit, ConflictError, Log, Part, Snapshot, StepRecord, name_of, read_commit
from prefdata.dataset.parts import (
    COMMIT,
    PART,
    WHOLE,
    PartWriter,
    digest_of,
    fitted,
    in_step,
    inside,
    of_shard,
    origin_of,
    scan,
)
from prefdata.dataset.verify import PLACEHOLDER, Damage, Verified, emptied, free_rows, lost_rows, strays, verify
from prefdata.errors import DataError
from prefdata.schema import CORE_TABLES, SCHEMAS

LOST = "lost+found"
"""The folder, within the dataset's, that takes what was damaged."""

_SLACK = 60.0
"""Seconds by which a part may be older than the commit before its own: it was begun while that was made."""


@dataclass(frozen=True)
class _Region:
    """Where rows are lost.

    Attributes:
        steps: of these steps; None: of any.
        commits: that came with these commits.
        groups: between these two groups; None: of any.
        shard: of this shard; None: of any.
    """

    steps: frozenset[str] | None
    commits: tuple[int, int]
    groups: tuple[str, str] | None = None
    shard: int | None = None

    def noted(self, shards: int) -> pl.Expr:
        """The notes of progress that say that rows in here were made."""
        group = pl.col("group_id")
        found = pl.coalesce("run", COMMIT).is_between(*self.commits)
        if self.steps is not None:
            found &= pl.col("step").is_in(sorted(self.steps))
        within = pl.lit(True)
        if self.groups is not None:
            within &= group.is_between(pl.lit(self.groups[0]), pl.lit(self.groups[1]))
        if self.shard is not None:
            within &= of_shard(shards) == self.shard
        return found & (within | (group == WHOLE))


def repair(root: Path) -> list[str]:
    """Put a damaged dataset right as far as can be, and say what was done, a sentence each.

    Args:
        root: the dataset's folder.

    Raises:
        DataError: a run, a compact or an erase is at work; there is no dataset; or a newer prefdata wrote it.
        OSError: the disk is full.
    """
    shards = int(marker_of(root)["shards"])
    with lease.care(root, lease.REPAIR):
        done: list[str] = []
        regions: list[_Region] = []
        broken = verify(root).broken
        for number, (parts, replaces) in _adopted(root, broken, shards).items():
            said, region = _mended(root, number, parts, replaces)
            done.append(said)
            regions += [region] if region else []
        found = verify(root)
        if found.damaged or regions:
            done += _put_right(Dataset(root), found, regions)
        return done + _aside(Dataset(root))


# The log


def _mended(root: Path, number: int, parts: Sequence[Part], replaces: Sequence[str]) -> tuple[str, _Region | None]:
    """Put a commit in the place of a log entry that is lost, with what can be told of its parts."""
    log = Log(root / "log")
    path = log.folder / f"{number:08d}.json"
    known = {record.step for commit in _readable(log) for record in commit.steps}
    steps = [
        StepRecord(step, name_of(step) or step, kind)
        for step in sorted({step for part in parts for step in part.steps} - known)
        for kind, start in (("import", "import:"), ("labels", "labels:"))
        if step.startswith(start)
    ]
    if path.exists():
        _keep(root, path, root / "log")
        inside(path, root / "log").unlink()
    log.fill(number, PLACEHOLDER, tuple(parts), tuple(steps), tuple(replaces))
    rows = sum(part.rows for part in parts)
    what = f"{len(parts)} parts ({rows:,} rows) that were written then" if parts else "nothing in it"
    whole = any(part.table == "progress" for part in parts)  # a commit's notes are written after its rows
    return f"log/{path.name}: a commit stands in its place, with {what}", None if whole else _Region(
        None, (number,) * 2
    )


def _readable(log: Log) -> list[Commit]:
    found = []
    for number in log.numbers():
        with contextlib.suppress(DataError):
            found.append(read_commit(log.folder / f"{number:08d}.json"))
    return found


def _adopted(root: Path, broken: Sequence[int], shards: int) -> dict[int, tuple[list[Part], list[str]]]:
    """By number of a lost commit, the parts that it must have named, and those that they replaced.

    No commit names them, and they were written between the commits before and after: as the note in each says, which
    also tells which belong together, or, where there is none, as the file's time says. Of several lost commits in a
    row, the first has the parts that were written first, and the last all that are left over: none is left out.
    """
    log = Log(root / "log")
    commits = _readable(log)
    snapshot = Snapshot(tuple(commits))
    told = {commit.number: _seconds(commit) for commit in commits if commit.message != PLACEHOLDER}
    together: dict[str, list[tuple[float, Path]]] = {}
    for file in uncommitted(root, snapshot):
        if _is_part(root, file):
            with contextlib.suppress(OSError, pa.ArrowException):
                token, written = origin_of(file) or ("", file.stat().st_mtime)
                together.setdefault(token, []).append((written, file))
    found: dict[int, tuple[list[Part], list[str]]] = {number: ([], []) for number in broken}
    for gap in _gaps(broken):
        begin = max((time for number, time in told.items() if number < gap[0]), default=0.0) - _SLACK
        path = log.folder / f"{gap[-1]:08d}.json"
        last = path.stat().st_mtime if path.exists() else time.time()
        end = min((time for number, time in told.items() if number > gap[-1]), default=last)
        # A note has its writer's time, and a file the file server's: only clocks of writers differ among themselves.
        within = [one for one in together.get("", []) if begin <= one[0] <= end]
        begun = [token for token, files in together.items() if token and begin <= max(files)[0] <= end + _SLACK]
        whole = sorted((together.pop(token) for token in begun), key=max)
        for at, files in enumerate([*whole, within]):
            parts, replaces = found[gap[min(at, len(gap) - 1)]]
            for _, file in sorted(files):
                _adopt(root, snapshot, file, shards, parts, replaces)
    return found


def _adopt(root: Path, snapshot: Snapshot, file: Path, shards: int, parts: list[Part], replaces: list[str]) -> None:
    """Take a part in; one that replaced others only where one of those is gone: otherwise they hold the same rows."""
    with contextlib.suppress(OSError, pa.ArrowException):
        part = _described(root, file, shards)
        stood = [] if part.commits is None else _within(snapshot, part)
        if part.commits is None or any(not (root / one).is_file() for one in stood):
            parts.append(part)
            replaces += [one for one in stood if one not in replaces]


def _seconds(commit: Commit) -> float:
    return datetime.fromisoformat(commit.time).timestamp()


def _gaps(numbers: Sequence[int]) -> list[list[int]]:
    """Numbers, in order, as runs without a number between."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return found


def _is_part(root: Path, path: Path) -> bool:
    """Whether a file is where parts are: parts/TABLE/NAME.parquet, and no link to elsewhere."""
    here = path.suffix == ".parquet" and path.parent.parent == root / "parts" and path.parent.name in SCHEMAS
    return here and path.resolve().is_relative_to((root / "parts").resolve())


def _within(snapshot: Snapshot, part: Part) -> list[str]:
    """The parts whose rows all came with commits of which `part` has rows."""
    low, high = part.commits or (0, 0)
    return [
        other.path
        for first, other in snapshot.standing.get(part.table, ())
        if other.shard == part.shard and low <= first and (other.commits or (first, first))[1] <= high
    ]


def _described(root: Path, path: Path, shards: int) -> Part:
    """What the log would say of a part."""
    table = path.parent.name
    rows = fitted(pq.read_table(path), SCHEMAS[table].append(pa.field(COMMIT, pa.int64())), 0)
    frame = pl.from_arrow(rows.select([name for name in ("group_id", "step", COMMIT) if name in rows.column_names]))
    assert isinstance(frame, pl.DataFrame)
    shard = frame.select(of_shard(shards))[0, 0] if "group_id" in frame.columns else 0
    steps = tuple(sorted(frame["step"].drop_nulls().unique())) if "step" in frame.columns else ()
    own = COMMIT in pq.read_schema(path).names
    commits = frame.select(low=pl.col(COMMIT).min(), high=pl.col(COMMIT).max()).row(0) if own else None
    size = path.stat().st_size
    return Part(table, str(path.relative_to(root)), rows.num_rows, shard, steps, size, digest_of(path), commits)


# The parts


def _put_right(dataset: Dataset, found: Verified, regions: list[_Region]) -> list[str]:
    """Replace damaged parts by what can be read of them, and take out the notes about what is lost."""
    root, snapshot = dataset.path, dataset.log.snapshot()
    regions = [*regions, *(one for damage in found.damaged for one in _regions(root, damage))]
    said = [_sentence(root, damage, snapshot) for damage in found.damaged]
    parts: list[Part] = []
    replaces = [damage.part.path for damage in found.damaged]
    stood = snapshot.standing.get("prompts", [])
    behind = in_step(stood, replaces) - set(replaces)
    with undone(root, parts):
        for damage in found.damaged:
            if damage.readable:
                with pq.ParquetFile(root / damage.part.path, page_checksum_verification=True) as file:
                    parts += _copied(dataset, file, damage.part, damage.first, damage.readable, regions)
        for first, part in (one for one in stood if one[1].path in behind):
            with pq.ParquetFile(root / part.path) as file:
                parts += _copied(dataset, file, part, first, range(file.num_row_groups), regions)
            replaces.append(part.path)
        for first, part in _noting(dataset, snapshot, regions, besides=set(replaces)):
            with pq.ParquetFile(root / part.path) as file:
                parts += _copied(dataset, file, part, first, range(file.num_row_groups), regions)
            replaces.append(part.path)
    for damage in found.damaged:
        _keep(root, root / damage.part.path, root / "parts")
    if replaces:
        message = f"repair: {len(found.damaged)} damaged parts"
        try:
            dataset.log.append(message, tuple(parts), replaces=tuple(replaces), seen=snapshot.number)
        except ConflictError:
            remove(root, parts)
            raise DataError(f"{root}: rows were erased while it was repaired; give the command again") from None
    for damage in found.damaged:
        inside(root / damage.part.path, root / "parts").unlink(missing_ok=True)
    return said


def _regions(root: Path, damage: Damage) -> list[_Region]:
    """Where a damaged part's lost rows were, from what its footer says of each row group."""
    part = damage.part
    if part.table not in CORE_TABLES:
        return []
    steps, commits = frozenset(part.steps), part.commits or (damage.first, damage.first)
    if damage.lost is None:
        return [_Region(steps, commits, None, part.shard)]
    found = []
    metadata = pq.read_metadata(root / part.path)
    for group in damage.lost:
        ends = {}
        for at in range(metadata.num_columns):
            column = metadata.row_group(group).column(at)
            if column.is_stats_set and column.statistics.has_min_max:
                ends[column.path_in_schema] = (column.statistics.min, column.statistics.max)
        found.append(_Region(steps, ends.get(COMMIT, commits), ends.get("group_id"), part.shard))
    return found


def _noting(
    dataset: Dataset, snapshot: Snapshot, regions: Sequence[_Region], besides: set[str]
) -> list[tuple[int, Part]]:
    """The parts of `progress` with notes that say that lost rows were made."""
    stood = [one for one in snapshot.standing.get("progress", ()) if one[1].path not in besides]
    if not stood or not regions:
        return []
    damaged = [one for one in snapshot.standing["progress"] if one[1].path in besides]
    if damaged:  # they cannot be scanned: look at each of the others by itself
        return stood
    rows = scan(dataset.path, snapshot, "progress", with_part=True)
    touched = rows.filter(_lost(regions, dataset.shards)).select(PART).unique().collect()[PART].to_list()
    return [one for one in stood if one[1].path in touched]


def _lost(regions: Sequence[_Region], shards: int) -> pl.Expr:
    return pl.any_horizontal(pl.lit(False), *(region.noted(shards) for region in regions))


def _copied(
    dataset: Dataset, file: pq.ParquetFile, part: Part, first: int, groups: Sequence[int], regions: Sequence[_Region]
) -> list[Part]:
    """Some row groups of a part as a new one, each row with its commit; of `progress` without notes on what is lost."""
    schema = file.schema_arrow.remove_metadata()
    if COMMIT not in schema.names:
        schema = schema.append(pa.field(COMMIT, pa.int64()))
    with PartWriter(dataset.path, part.table, schema, part.shard) as writer:
        for group in groups:
            rows = fitted(file.read_row_group(group), schema, first)
            if part.table == "progress":
                whole = fitted(rows, SCHEMAS["progress"].append(pa.field(COMMIT, pa.int64())), first)
                frame = pl.from_arrow(whole)
                assert isinstance(frame, pl.DataFrame)
                stays = frame.with_row_index("_row").filter(~_lost(regions, dataset.shards))["_row"]
                rows = rows.take(stays.to_arrow())
            if rows.num_rows:
                writer.write(rows)
        return [writer.finish()] if writer.rows else []


def _sentence(root: Path, damage: Damage, snapshot: Snapshot) -> str:
    """What was lost, and how it comes back."""
    part = damage.part
    said = f"{part.path} {damage.why}: {lost_rows(root, damage)}, and are lost"
    free = [step for step in part.steps if step in snapshot.free_steps]
    if part.table == "calls":
        return f"{said}: what these calls cost is not counted any more"
    if part.table == "erased":
        return f"{said}: what they kept out may come back. Erase it again"
    if part.table == "progress":
        return f"{said}: the next run of these steps looks at these groups again, and asks nothing for what is there"
    if part.table not in CORE_TABLES:
        return (
            f"{said}: they describe criteria or annotators, and are written again when a step makes rows that name them"
        )
    if free:
        said += f". Those of {', '.join(free)} come back only if they are imported or labelled again"
    if len(free) < len(part.steps):
        said += ". The next run makes those of steps again, from the request cache where it holds the answers"
    return said


# Files


def _keep(root: Path, path: Path, folder: Path) -> None:
    """Give a file a second name in lost+found."""
    if not path.is_file():
        return
    inside(path, folder)
    to = _lost_place(root, path)
    to.unlink(missing_ok=True)
    try:
        os.link(path, to)
    except OSError:
        shutil.copy2(path, to)


def _lost_place(root: Path, path: Path) -> Path:
    """Where in lost+found a file goes."""
    to = root / LOST / path.relative_to(root)
    inside(to, root / LOST)
    to.parent.mkdir(parents=True, exist_ok=True)
    return to


def _aside(dataset: Dataset) -> list[str]:
    """Move what belongs to no commit to lost+found, once it is too old to be a writer's at work."""
    root, snapshot = dataset.path, dataset.log.snapshot()
    moved, waiting = 0, emptied(snapshot)
    for path in strays(root, snapshot):
        old = time.time() - path.stat().st_mtime > KEEP.total_seconds()
        hers = path.suffix == ".parquet" and holds_erased(path, path.parent.name, dataset.erased)
        mourned = waiting and path.suffix == ".parquet" and free_rows(path)  # verify names it, until it is settled
        if old and not hers and not mourned:  # what is erased must not be kept: `finish` removes it
            folders = {"parts", "log", "running"}.intersection(path.relative_to(root).parts[:1])
            inside(path, root / next(iter(folders), ".")).rename(_lost_place(root, path))
            moved += 1
    return [f"{moved} files that belong to no commit are in {root / LOST} now"] if moved else []
