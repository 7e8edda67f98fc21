"""Files in a dataset's folder that hold none of its rows any more, or none yet.

*Replaced* files are parts in whose place compact, erase or repair put others. *Uncommitted* ones are parts, whole or
half written, that no commit names: of a writer that was killed, or of one at work.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from prefdata.dataset import lease
from prefdata.dataset.dataset import Dataset
from prefdata.dataset.erased import Erased, columns_of
from prefdata.dataset.log import Part, Snapshot, erases
from prefdata.dataset.parts import inside
from prefdata.errors import DataError

KEEP = timedelta(hours=1)
"""How long a replaced file stays, for readers that still have it open."""


@dataclass(frozen=True)
class Replaced:
    """A part that is still there although others stand for it.

    Attributes:
        path: of the file.
        bytes: its size.
        since: when it was replaced.
        erased: it may hold rows that were erased, and must not stay.
    """

    path: Path
    bytes: int
    since: datetime
    erased: bool


@dataclass(frozen=True)
class Swept:
    """What was removed, and what stays.

    Attributes:
        removed: how many files.
        bytes: of those.
        kept: the files that stay.
        until: when the last of those may go; None where a run at work decides it, or nothing stays.
    """

    removed: int = 0
    bytes: int = 0
    kept: tuple[Replaced, ...] = ()
    until: datetime | None = None


def replaced(root: Path, snapshot: Snapshot) -> list[Replaced]:
    """The replaced files that are still on the disk."""
    last_erase = max((commit.number for commit in snapshot.commits if erases(commit.parts)), default=0)
    found = []
    for commit in snapshot.commits:
        for name in commit.replaces:
            path = root / name
            if path.is_file():
                since = datetime.fromisoformat(commit.time)
                found.append(Replaced(path, path.stat().st_size, since, commit.number <= last_erase))
    return found


def uncommitted(root: Path, snapshot: Snapshot) -> list[Path]:
    """The files below `parts/` that no commit names."""
    known = {part.path for commit in snapshot.commits for part in commit.parts}
    files = (path for path in sorted((root / "parts").rglob("*")) if path.is_file())
    return [path for path in files if path.relative_to(root).as_posix() not in known]


def finish(dataset: Dataset) -> int:
    """Remove what an erase that was killed left on the disk: files with rows that are erased; return how many."""
    root, snapshot = dataset.path, dataset.log.snapshot()
    gone = [one.path for one in replaced(root, snapshot) if one.erased]
    erased = dataset.erased
    if erased:
        # Their writers, if there are any, had begun before the erase: the log refuses their commits.
        strays = (path for path in uncommitted(root, snapshot) if path.suffix == ".parquet")
        gone += [path for path in strays if holds_erased(path, path.parent.name, erased)]
    for path in gone:
        inside(path, root / "parts").unlink(missing_ok=True)
    return len(gone)


def sweep(root: Path, snapshot: Snapshot, *, now: bool = False) -> Swept:
    """Remove replaced files that nobody can be reading any more.

    Args:
        root: the dataset's folder.
        snapshot: the whole log.
        now: also those that were replaced within the hour.
    """
    running = bool(lease.runs(root))
    removed = size = 0
    kept = []
    for one in replaced(root, snapshot):
        if not running and (now or datetime.now(UTC) - one.since > KEEP):
            inside(one.path, root / "parts").unlink(missing_ok=True)
            removed, size = removed + 1, size + one.bytes
        else:
            kept.append(one)
    until = None if running or not kept else max(one.since for one in kept) + KEEP
    return Swept(removed, size, tuple(kept), until)


@contextlib.contextmanager
def writable(root: Path) -> Iterator[None]:
    """Say in a sentence that a dataset cannot be written to, where the block finds that out.

    Raises:
        DataError: that.
    """
    try:
        yield
    except OSError as error:
        of_dataset = error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(root)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and of_dataset:
            raise DataError(
                f"{root} cannot be written to ({error.strerror}: {error.filename}). Make the folder writable, or do "
                "this to a copy of it"
            ) from error
        raise


def remove(root: Path, parts: Iterable[Part]) -> None:
    """Remove parts that no commit names."""
    for part in parts:
        inside(root / part.path, root / "parts").unlink(missing_ok=True)


@contextlib.contextmanager
def undone(root: Path, parts: list[Part]) -> Iterator[None]:
    """Where the block fails, the parts written in it (those in `parts` by then) are removed.

    Raises:
        DataError: a part that the block reads cannot be read.
    """
    try:
        yield
    except BaseException as error:
        remove(root, parts)
        if isinstance(error, pa.ArrowException | FileNotFoundError):
            raise DataError(
                f"{root}: a part cannot be read ({error}). Nothing was changed: `prefdata verify {root}` says which "
                "part it is, and what can be done"
            ) from error
        raise


def holds_erased(path: Path, table: str, erased: Erased) -> bool | None:
    """Whether a part holds rows that were erased; None where it cannot be read."""
    try:
        there = pq.read_schema(path).names
        columns = [name for name in there if name in columns_of(table)]
        rows = pl.from_arrow(pq.read_table(path, columns=columns))
    except (OSError, pa.ArrowException):
        return None
    assert isinstance(rows, pl.DataFrame)
    return not rows.filter(erased.gone(table, columns)).is_empty()
