"""Rows of CSV as programs for spreadsheets write it: with commas, semicolons or tabs, in UTF-8 or UTF-16."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TextIO

from prefdata.errors import DataError
from prefdata.formats.arrow_rows import Columns, Refuse, check_names
from prefdata.formats.lines import LONGEST_LINE, broken
from prefdata.formats.source import Record, RowError, not_utf8

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What parts the cells of a row; where a header speaks for two alike, the first of these."""
SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".fods", ".numbers")
_OWN_MARKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How a spreadsheet begins, whatever its name says: a ZIP archive, or the container of old Office files."""
_UTF_32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_SEPARATOR = re.compile(r'"?sep=([^"\r\n])"?\r?\n?', re.IGNORECASE)
"""The line with which Excel tells itself what parts the cells."""
_QUOTED = re.compile(r'(?<![^,;\t\r\n])"[^"]*(?:""[^"]*)*"')
"""A cell in quotes, whichever of the delimiters it stands behind."""
_LONGEST_HEADER = 1 << 20
_SAVE = 'in the spreadsheet, save it as "CSV UTF-8"'


def csv_rows(path: Path, refuse: Refuse, columns: Columns | None) -> Iterator[Record]:
    """Rows of CSV with a header, in UTF-8 or, where a byte order mark says so, UTF-16.

    Empty cells are null. Rows of nothing but empty cells are passed over; the rows behind them keep their numbers.
    Commas, semicolons or tabs part the cells: as a first line `sep=;` says, else as the header does.

    Args:
        path: the file.
        refuse: is told of a row with another number of cells than the header, or bytes that are no UTF-8.
        columns: what the header must name.

    Raises:
        DataError: the header will not do, or the quotes do not: nobody knows where the rows behind a stray quote begin,
            so that what would be read of them may be wrong without looking so.
    """
    csv.field_size_limit(LONGEST_LINE)  # the module's own limit is 131,072
    with _opened(path) as file:
        lines = _lines(path, file)
        head, delimiter = _head(path, lines, columns)
        seen: list[str] = []
        reader = csv.reader(_told(chain(head, lines), seen), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        number = width = 0
        while True:
            seen.clear()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                where = f"{path}, row {number + 1}" if header is not None else f"{path}, header"
                raise DataError(
                    f"{where}: it cannot be read as CSV: {error}. Where the rows after it begin is not certain, so "
                    f"nothing was taken: put its quotes right"
                ) from None
            if cells is None:
                return
            if not cells:
                continue
            if header is None:
                header, width = _without_empty_end(cells), len(cells)
                _check_header(path, header, columns)
                continue
            number += 1
            if len(cells) > 1 and not any(cells):
                continue  # a row of the spreadsheet in which nothing stands
            if len(header) < len(cells) <= width and not any(cells[len(header) :]):
                cells = cells[: len(header)]
            try:
                record = _row(path, number, header, cells, "".join(seen), DELIMITERS.get(delimiter, repr(delimiter)))
            except RowError as error:
                refuse(error)
            else:
                yield record


def has_tabs(path: Path) -> bool:
    """Whether the header of a text file has tabs, as the "Unicode text" of Excel does."""
    with _opened(path) as file:
        return _head(path, _lines(path, file), None)[1] == "\t"


def is_spreadsheet(path: Path) -> bool:
    """Whether a file's name says that it is a spreadsheet's own, and no text."""
    return path.name.lower().endswith(SPREADSHEETS)


def spreadsheet(path: Path) -> DataError:
    """What is said of a spreadsheet's own file."""
    return DataError(
        f"{path} is a spreadsheet's own file, which is not read: open it in the spreadsheet, save it as "
        f'"CSV UTF-8", and give that file'
    )


def _opened(path: Path) -> TextIO:
    """The file as text.

    Raises:
        DataError: it is a spreadsheet, or in UTF-32.
    """
    with path.open("rb") as file:
        beginning = file.read(4)
    if beginning in _OWN_MARKS:
        raise spreadsheet(path)
    if beginning in _UTF_32:
        raise DataError(f"{path} is in UTF-32: {_SAVE}")
    if beginning.startswith(_UTF_16):
        return path.open(encoding="utf-16", newline="")
    # Bytes that are no UTF-8 come through as half surrogates, so that the rows beside them are read.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(LONGEST_LINE + 1)
        except OSError as error:
            raise broken(path, number - 1, error) from None
        except UnicodeError:
            raise DataError(f"{path}, near line {number}: it begins as UTF-16 and is none: {_SAVE}") from None
        if not line:
            return
        if len(line) > LONGEST_LINE:
            raise DataError(f"{path}, line {number}: it is longer than {LONGEST_LINE >> 20} MiB; split it")
        yield line


def _told(lines: Iterable[str], seen: list[str]) -> Iterator[str]:
    """The lines, each also put into `seen` when it is asked for."""
    for line in lines:
        seen.append(line)
        yield line


def _head(path: Path, lines: Iterator[str], columns: Columns | None) -> tuple[list[str], str]:
    """The lines that hold the header, which may go over several, and what parts the cells; `sep=;` is passed over."""
    head: list[str] = []
    length = quotes = 0
    for number, line in enumerate(lines):
        if number == 0 and (stated := _SEPARATOR.fullmatch(line)):
            return [], stated[1]
        if not head and not line.strip("\r\n"):
            continue
        head.append(line)
        length, quotes = length + len(line), quotes + line.count('"')
        if quotes % 2 == 0 or length > _LONGEST_HEADER:
            break
    order = [*DELIMITERS] if path.suffix.lower() not in (".tsv", ".tab") else ["\t", ",", ";"]
    return head, max(order, key=lambda delimiter: _speaks_for(head, delimiter, columns))  # of equals the first


def _speaks_for(head: Sequence[str], delimiter: str, columns: Columns | None) -> tuple[int, int]:
    """How many columns the header has that the format knows, and how many at all, if this parts its cells."""
    unquoted = _QUOTED.sub("", "".join(head)[:_LONGEST_HEADER]).lstrip("\r\n").partition("\n")[0]
    try:
        cells = next(csv.reader(head, delimiter=delimiter), [])
    except csv.Error:
        cells = []
    return columns.known_of(cells) if columns else 0, unquoted.count(delimiter)


def _without_empty_end(header: list[str]) -> list[str]:
    """The header without the empty columns that a spreadsheet writes where something stood once."""
    count = max((place for place, name in enumerate(header, start=1) if name.strip()), default=0)
    return header[:count]


def _check_header(path: Path, header: list[str], columns: Columns | None) -> None:
    for name in header:
        if problem := _not_utf8(name):
            raise DataError(f"{path}, header: {problem}")
    check_names(path, header, columns)


def _row(path: Path, number: int, header: list[str], cells: list[str], text: str, delimiters: str) -> Record:
    """The row of these cells.

    Raises:
        RowError: it is none.
    """
    row = dict(zip(header, (cell or None for cell in cells), strict=False))
    record = Record(row, path, number, textual=True, raw=text.encode("utf-8", "surrogateescape"))
    if len(cells) != len(header):
        more, hint = ("more", f"; quote its {delimiters}") if len(cells) > len(header) else ("fewer", "")
        raise record.error(f"it has {more} cells than the header ({len(cells)} for {len(header)}){hint}")
    if not "".join(cells).isascii():
        for column, cell in zip(header, cells, strict=True):
            if problem := _not_utf8(cell):
                raise record.error(problem, column)
    return record


def _not_utf8(cell: str) -> str | None:
    """What is wrong with a cell whose bytes are no UTF-8: those of Windows-1252, as a rule."""
    try:
        cell.encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError as error:
        return f"{not_utf8(error)}; {_SAVE}"
    return None
