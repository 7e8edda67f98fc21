"""Rows of Parquet and Arrow files, and what a format wants of a file's columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefdata.errors import DataError
from prefdata.formats.source import Record, RowError, not_utf8

BATCH_ROWS = 1024

Refuse = Callable[[RowError], None]
"""Is told of a row that cannot be read: keeps it in quarantine, or raises."""

TEXT = ("text",)
NAME = ("text", "whole number")
NUMBER = ("number", "whole number")
LIST = ("list", "text")
"""In text it stands as JSON."""
OBJECT = ("object", "text")
ANY_JSON = ("object", "list", "text")


@dataclass(frozen=True)
class Columns:
    """What a format wants of a file whose columns have names and types: a mistake in these is every row's.

    Attributes:
        kinds: by column, the kinds that the format reads (see `kind_of`). Columns that are not named may hold anything.
        needed: of each of these one must be there.
        called: by a file's names, which of them mean a column of another name; a ValueError where two mean the same.
    """

    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    needed: tuple[tuple[str, ...], ...] = ()
    called: Callable[[Sequence[str]], Mapping[str, str]] = lambda _names: {}

    def known_of(self, names: Sequence[str]) -> int:
        """How many of a file's columns the format knows."""
        try:
            called = self.called(names)
        except ValueError:
            called = {}
        known = {*self.kinds, *(name for one_of in self.needed for name in one_of)}
        return sum(called.get(name, name) in known for name in names)


def kind_of(type_: pa.DataType) -> str:
    """An Arrow type in our words; its own name for what no column can be, nothing for a column of nulls."""
    tests: tuple[tuple[str, tuple[Callable[[pa.DataType], bool], ...]], ...] = (
        ("", (pa.types.is_null,)),
        ("text", (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)),
        ("whole number", (pa.types.is_integer,)),
        ("number", (pa.types.is_floating,)),
        ("list", (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)),
        ("object", (pa.types.is_struct,)),
        ("truth value", (pa.types.is_boolean,)),
    )
    if pa.types.is_dictionary(type_):
        return kind_of(type_.value_type)
    return next((kind for kind, of in tests if any(test(type_) for test in of)), str(type_))


def check_names(path: Path, names: Sequence[str], columns: Columns | None) -> Mapping[str, str]:
    """Refuse a file that lacks a column, or names one twice.

    Returns:
        `Columns.called` of the names.

    Raises:
        DataError: it does.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path} has two columns {twice[0]!r}: rename one of them")
    try:
        called = columns.called(names) if columns else {}
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    meant = {called.get(name, name) for name in names}
    for one_of in columns.needed if columns else ():
        if not meant & set(one_of):
            wanted = " or ".join(map(repr, one_of))
            there = ", ".join(map(repr, names)) or "none"
            raise DataError(f"{path} has no column {wanted} (there are: {there}): rename the one that holds it")
    return called


def check_types(path: Path, schema: pa.Schema, columns: Columns | None) -> None:
    """Refuse a file with columns of a kind that the format does not read.

    Raises:
        DataError: column, the type that was found, and what is wanted.
    """
    called = check_names(path, schema.names, columns)
    for field_ in schema if columns else ():
        wanted = columns.kinds.get(called.get(field_.name, field_.name)) if columns else None
        if wanted is not None and kind_of(field_.type) not in ("", *wanted):
            said = str(field_.type).replace("element: ", "")
            raise DataError(
                f"{path}, column {field_.name!r}: its type is {said}, and {' or '.join(wanted)} is wanted: convert it"
            )


def parquet_rows(path: Path, refuse: Refuse, columns: Columns | None) -> Iterator[Record]:
    """Rows of a Parquet file.

    Raises:
        DataError: it is not one, breaks off, or its columns will not do.
    """
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        check_types(path, schema, columns)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {_said(error)}. Get the whole file") from None
    with file:
        yield from _rows(path, file.iter_batches(batch_size=BATCH_ROWS), 0, refuse)


def arrow_rows(path: Path, before: int, refuse: Refuse, columns: Columns | None) -> Iterator[Record]:
    """Rows of a stream of Arrow batches.

    Args:
        path: the file.
        before: how many rows the files before it held.
        refuse: is told of a row that cannot be read.
        columns: what the file must hold.

    Raises:
        DataError: it is not one, breaks off, or its columns will not do.
    """
    try:
        file = pa.OSFile(str(path))  # not memory-mapped: a mapped file that shrinks kills the process
        stream = pa.ipc.open_stream(file)
        check_types(path, stream.schema, columns)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as Arrow: {_said(error)}. Get the whole file") from None
    with file, stream:
        yield from _rows(path, stream, before, refuse)


def _rows(path: Path, batches: Iterable[pa.RecordBatch], before: int, refuse: Refuse) -> Iterator[Record]:
    number = before
    iterator = iter(batches)
    while True:
        try:
            batch = next(iterator, None)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{path} cannot be read to its end: it breaks off after row {number:,} ({_said(error)}). "
                f"Nothing of it was taken: get the whole file"
            ) from None
        if batch is None:
            return
        try:
            for row in batch.to_pylist():
                number += 1
                yield Record(row, path, number)
            continue
        except (ValueError, OverflowError, pa.ArrowException):
            pass  # some cell of some row has no Python value; nothing of the batch was handed on yet
        for place in range(batch.num_rows):
            number += 1
            one = batch.slice(place, 1)
            try:
                record = _one_row(path, number, one)
            except RowError as error:
                refuse(error)
            else:
                yield record


def _one_row(path: Path, number: int, one: pa.RecordBatch) -> Record:
    """A row by itself.

    Raises:
        RowError: one of its cells has no Python value.
    """
    row: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for name, column in zip(one.schema.names, one.columns, strict=True):
        try:
            row[name] = column.to_pylist()[0]
        except UnicodeDecodeError as error:
            row[name] = _shown(column)
            problems.append((name, not_utf8(error)))
        except (ValueError, OverflowError, pa.ArrowException) as error:
            row[name] = _shown(column)
            problems.append((name, f"its value cannot be read: {_said(error)}"))
    record = Record(row, path, number)
    for name, problem in problems:
        raise record.error(problem, name)
    return record


def _shown(column: pa.Array) -> Any:
    """A value that is no text, with its bytes in place of its texts."""
    try:
        return column.cast(_bytes_type(column.type)).to_pylist()[0]
    except (ValueError, OverflowError, pa.ArrowException):
        return f"(a value of type {column.type} that cannot be shown)"


def _bytes_type(type_: pa.DataType) -> pa.DataType:
    """The type with bytes in place of text."""
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return pa.large_binary()
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return pa.large_list(_bytes_type(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([(inner.name, _bytes_type(inner.type)) for inner in type_])
    return type_


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
