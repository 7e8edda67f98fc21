"""Rows of JSON lines: one object a line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from prefdata.errors import DataError
from prefdata.formats.arrow_rows import Refuse
from prefdata.formats.source import HalfPairError, Record, RowError, describe, not_utf8, parse_json

LONGEST_LINE = 64 << 20
"""Bytes of a line, and characters of a cell: bounds the memory that one row takes. A prompt may be 2 MB and more."""
KEPT_OF_LONGER = 1 << 16
"""How much of a longer line is kept in quarantine."""
BOM = b"\xef\xbb\xbf"
WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""How a file in UTF-16 or UTF-32 begins."""


def json_lines(path: Path, refuse: Refuse) -> Iterator[Record]:
    """Rows of JSON lines, gzipped or not. Blank lines are passed over; a byte order mark may begin any line.

    Args:
        path: the file.
        refuse: is told of a line that is no row.

    Raises:
        DataError: the file breaks off, is not gzip in spite of its name, or is not in UTF-8.
    """
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as opened:
        lines = cast(BinaryIO, opened)
        number = 0
        while True:
            number += 1
            try:
                line = lines.readline(LONGEST_LINE + 1)
                length = len(line)
                if length > LONGEST_LINE and not line.endswith(b"\n"):
                    length += _skip_line(lines)
            except (OSError, EOFError, zlib.error) as error:
                raise broken(path, number - 1, error) from None
            if not line:
                return
            if number == 1 and line.startswith(WIDE_MARKS):
                raise DataError(f"{path} is in UTF-16 or UTF-32: save it as UTF-8")
            line = line.removeprefix(BOM)
            if not line.strip():
                continue
            try:
                record = _json_line(line, length, path, number)
            except RowError as error:
                refuse(error)
            else:
                yield record


def _json_line(line: bytes, length: int, path: Path, number: int) -> Record:
    """The row of a line.

    Raises:
        RowError: it is none.
    """
    unread = Record({}, path, number, raw=line)
    if length > LONGEST_LINE:
        limit, kept = LONGEST_LINE >> 20, KEPT_OF_LONGER >> 10
        problem = (
            f"it is {length:,} bytes long and may be {limit} MiB at most; split it (its first {kept} KiB are kept)"
        )
        raise Record({}, path, number, raw=line[:KEPT_OF_LONGER]).error(problem)
    try:
        row = parse_json(line.rstrip(b"\r\n").decode())
    except UnicodeDecodeError as error:
        raise unread.error(not_utf8(error)) from None
    except HalfPairError as error:
        raise unread.error(str(error), error.column()) from None
    except ValueError as error:
        cut = "" if line.endswith(b"\n") else "; the file ends with this line, which may be cut off"
        raise unread.error(f"{error}{cut}") from None
    if not isinstance(row, dict):
        raise unread.error(f"it should be a JSON object and is {describe(row)}")
    return Record(row, path, number, raw=line)


def _skip_line(lines: BinaryIO) -> int:
    """Read to the end of a line without keeping it; return its bytes."""
    skipped = 0
    while piece := lines.readline(1 << 20):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def broken(path: Path, rows: int, error: Exception) -> DataError:
    """A file that cannot be read to its end. What would come after is not known, so what came before is no whole."""
    after = f"to its end: it breaks off after row {rows:,}" if rows else "at all"
    said = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path} cannot be read {after} ({said}). Nothing of it was taken: get the whole file")
