"""Rows of a file or folder, one at a time, whatever kind of file it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prefdata.errors import DataError
from prefdata.formats.arrow_rows import Columns, Refuse, arrow_rows, parquet_rows
from prefdata.formats.csv_rows import csv_rows, has_tabs, is_spreadsheet, spreadsheet
from prefdata.formats.lines import json_lines
from prefdata.formats.source import Record, RowError, parse_json


def records(
    source: str | Path,
    *,
    within: str | None = None,
    columns: Columns | None = None,
    refuse: Refuse | None = None,
) -> Iterator[Record]:
    """The rows of JSON lines (also gzipped), CSV (also with semicolons or tabs), Parquet, or a folder of save_to_disk.

    Args:
        source: a file or such a folder.
        within: the name of the file to read where `source` is a folder that holds it.
        columns: what the format wants of a file whose columns have names (CSV, Parquet, Arrow).
        refuse: is told of each row that cannot be read, and the others are read; without it such a row is an error.

    Raises:
        DataError: there is no such file, its kind is not known, it cannot be read to its end, it changes while it is
            read, or its columns will not do.
    """
    path = Path(source)
    try:
        if path.is_dir() and within is not None and (path / within).is_file():
            path = path / within
        return _rows_of(path, within, columns, refuse or _raise)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def _raise(error: RowError) -> None:
    raise error from None


def _rows_of(path: Path, within: str | None, columns: Columns | None, refuse: Refuse) -> Iterator[Record]:
    if path.is_dir():
        if not ((path / "state.json").is_file() or (path / "dataset_dict.json").is_file()):
            lacks = f"neither {within} nor the" if within else "no"
            raise DataError(f"{path} is a folder that holds {lacks} state.json of datasets' save_to_disk: name a file")
        return _saved_dataset(path, columns, refuse)
    if not path.exists():
        raise DataError(f"there is no file {path}")
    if not path.is_file():
        raise DataError(f"{path} is no regular file: write what it gives into one")
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson")):
        return _steady(path, json_lines(path, refuse))
    if is_spreadsheet(path):
        raise spreadsheet(path)
    if path.suffix.lower() in (".csv", ".tsv", ".tab") or (path.suffix.lower() == ".txt" and has_tabs(path)):
        return _steady(path, csv_rows(path, refuse, columns))
    if path.suffix.lower() == ".parquet":
        return _steady(path, parquet_rows(path, refuse, columns))
    raise DataError(
        f"{path}: the end of its name says none of .jsonl, .jsonl.gz, .csv, .tsv, .parquet; rename it after "
        f"what it holds"
    )


def _steady(path: Path, rows: Iterator[Record]) -> Iterator[Record]:
    """The rows of a file that is the same at the end as at the beginning."""
    before = _state(path)
    try:
        yield from rows
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if _state(path) != before:
        raise DataError(f"{path} changed while it was read, and nothing of it was taken: try again when it is written")


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:  # taken away, or not there: opening it says so
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _saved_dataset(folder: Path, columns: Columns | None, refuse: Refuse) -> Iterator[Record]:
    if (folder / "dataset_dict.json").is_file():
        for split in _listed(folder / "dataset_dict.json", "splits"):
            yield from _saved_dataset(folder / split, columns, refuse)
        return
    state = folder / "state.json"
    if not state.is_file():
        raise DataError(f"{folder} holds no state.json: it was not written by datasets' save_to_disk")
    number = 0

    def counted(error: RowError) -> None:
        nonlocal number
        number = error.record.number
        refuse(error)

    for name in _listed(state, "_data_files"):
        for record in _steady(folder / name, arrow_rows(folder / name, number, counted, columns)):
            number = record.number
            yield record


def _listed(path: Path, key: str) -> list[str]:
    """The names that a file of save_to_disk lists: of splits, or of data files. Each stays inside its folder."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        names = [entry["filename"] if isinstance(entry, dict) else entry for entry in content[key]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not what datasets' save_to_disk writes: {type(error).__name__} {error}") from None
    if isinstance(content, dict) and content.get("_indices_data_files"):
        raise DataError(f"{path} names an indices file; save the dataset again after flatten_indices()")
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise DataError(f"{path} names {name!r}, which is not a name within its folder")
    return names
