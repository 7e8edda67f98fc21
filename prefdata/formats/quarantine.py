"""Rows that could not be taken: kept beside the dataset's rows with the reason, and told in one sentence for each file.

`DATASET/quarantine/` has one file of JSON lines for each import and each `ingest`. It is what the last reading of that
source left out, not a history: a row that was put right is gone from it after the next reading, and a file without a
row is taken away.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from prefdata.formats.parquet import whole_file
from prefdata.formats.source import RowError

FOLDER = "quarantine"
REASONS_SHOWN = 4
ROWS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was not taken.

    Attributes:
        file: where it stands, below the source (a file's own name, where the source is the file).
        row: counted from 1 (of JSON lines the line; of CSV without the header).
        column: whose fault it is; None where it is the row's.
        reason: what was found, and what to do where that is not plain.
        raw: the row as text. Bytes that are no UTF-8 are replaced; a row of Parquet is shown as JSON.
    """

    file: str
    row: int
    column: str | None
    reason: str
    raw: str

    @classmethod
    def of(cls, error: RowError, source: Path) -> BadRow:
        """The row that an error is about."""
        file = error.record.file
        below = str(file.relative_to(source)) if file != source and file.is_relative_to(source) else file.name
        return cls(below, error.record.number, error.column, error.problem, error.record.raw_text())

    @property
    def kind(self) -> tuple[str | None, str]:
        """Rows with one kind of problem are told of together: its words without what was found in this very row."""
        return self.column, re.sub(r"\d+|'[^']*'", "", re.split(r"[:;(]", self.reason)[0])


def keep(dataset: Path, name: str, key: Sequence[str], rows: Iterable[BadRow]) -> Path | None:
    """Write what a reading left out in the place of what the reading before it did.

    Args:
        dataset: the dataset's folder.
        name: begins the file's name.
        key: names the source within the dataset; the file's name holds its hash.
        rows: what was left out. Where there is none, the file is taken away.

    Returns:
        The file; None where there is none.

    Raises:
        DataError: it cannot be written.
    """
    digest = blake2b(json.dumps(list(key)).encode(), digest_size=4).hexdigest()
    path = dataset / FOLDER / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:80]}-{digest}.jsonl"
    bad = list(rows)
    if not bad:
        if path.exists():
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # where it is empty
        return None
    with whole_file(path) as file:
        for row in bad:
            file.write(json.dumps(asdict(row), ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    return path


def sentences(rows: Iterable[BadRow], kept: Path | None = None) -> list[str]:
    """What is said of rows that were left out: for each file how many, where they are kept, which and why.

    Args:
        rows: what was left out.
        kept: the file that holds them, if there is one.
    """
    by_file: dict[str, list[BadRow]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    said = []
    for file, bad in by_file.items():
        one = len(bad) == 1
        where = f" and {'is' if one else 'are'} kept in {kept}" if kept else ""
        said.append(f"{len(bad):,} row{'' if one else 's'} of {file} could not be read{where}: {reasons(bad)}")
    return said


def reasons(rows: Iterable[BadRow]) -> str:
    """Which rows, and why: the first of each kind in full, how many there are like it, and the numbers of a few."""
    kinds: dict[tuple[str | None, str], list[BadRow]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    most = sorted(kinds.values(), key=lambda alike: -len(alike))
    said = [_alike(rows) for rows in most[:REASONS_SHOWN]]
    if rest := sum(map(len, most[REASONS_SHOWN:])):
        said.append(f"{rest:,} more for other reasons")
    return "; ".join(said)


def _alike(rows: Sequence[BadRow]) -> str:
    first, others = rows[0], rows[1:]
    column = f", column {first.column!r}" if first.column else ""
    said = f"row {first.row:,}{column}: {first.reason}"
    if others:
        some = ", ".join(f"{row.row:,}" for row in others[:ROWS_SHOWN])
        dots = ", ..." if len(others) > ROWS_SHOWN else ""
        said += f", and {len(others):,} more like it (row{'' if len(others) == 1 else 's'} {some}{dots})"
    return said
