"""Rows of a file or folder, one at a time, each with the place it came from."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from prefdata.errors import DataError
from prefdata.schema import Row

BATCH_ROWS = 1024
LONGEST_CELL = 1 << 30
"""Characters. The csv module refuses cells of more than 131,072 unless it is told otherwise; prompts may be longer."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a source.

    Attributes:
        row: its columns, as Python values.
        file: where it stands.
        number: counted from 1 (for CSV without the header; for JSON lines it is the line).
        textual: the source knows nothing but text (CSV), so lists and objects are written in it as JSON.
    """

    row: Row
    file: Path
    number: int
    textual: bool = False

    def error(self, problem: str, column: str | None = None) -> DataError:
        """The sentence that names file, row and column."""
        place = f"{self.file}, row {self.number}" + (f", column {column!r}" if column else "")
        return DataError(f"{place}: {problem}")

    def text(self, column: str, *, blank: bool = False) -> str:
        """The column as text; see `checked`."""
        return self.checked(column, self.row.get(column), blank=blank)

    def checked(self, column: str, value: object, *, blank: bool = False) -> str:
        """A text that was found in a column.

        Args:
            column: for the message.
            value: what was found.
            blank: whether text without a visible character is allowed.

        Raises:
            DataError: it is not text, is blank, or holds half of a surrogate pair (which no file can store).
        """
        if not isinstance(value, str):
            raise self.error(f"it should be text and is {describe(value)}", column)
        if not blank and not value.strip():
            raise self.error("it is empty; give it a text or take the row out", column)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error("it holds half of a surrogate pair, which is no character", column) from None
        return value

    def name(self, column: str) -> str | None:
        """The column as a short text (numbers are taken as they are written), None where there is none."""
        value = self.row.get(column)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.text(column)

    def number_in(self, column: str) -> float | None:
        """The column as a finite number, None where there is none."""
        value = self.row.get(column)
        if value is None:
            return None
        if self.textual and isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise self.error(f"it should be a number and is {describe(value)}", column) from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"it should be a number and is {describe(value)}", column)
        if value != value or value in (float("inf"), float("-inf")):
            return None
        return float(value)

    def structured(self, column: str, *, always: bool = True) -> Any:
        """The column, read as JSON where it is the text of a list or an object.

        Args:
            column: its name.
            always: also where the source has lists and objects of its own (not only in CSV).
        """
        value = self.row.get(column)
        if isinstance(value, str) and (always or self.textual) and value.lstrip()[:1] in ("[", "{"):
            try:
                return parse_json(value)
            except ValueError as error:
                raise self.error(f"it is not valid JSON: {error}", column) from None
        return value


def describe(value: object) -> str:
    """A value for an error message: its kind and how it begins."""
    if value is None:
        return "missing"
    kinds = {str: "text", bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}
    shown = repr(value)
    return f"{kinds.get(type(value), type(value).__name__)} ({shown[:40]}{'...' if len(shown) > 40 else ''})"


def suggestion(word: str, known: Iterable[str]) -> str:
    """The nearest of the names that are known, for a message; nothing where none is near."""
    from prefdata.pipeline.registry import nearest  # here, since it brings pydantic and the engines along

    return nearest(word, known)


def parse_json(text: str) -> Any:
    """JSON without NaN and infinity, which the tables' ids cannot hold.

    Raises:
        ValueError: it is not valid; the message says where.
    """

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a JSON number")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def meta_json(columns: Mapping[str, Any]) -> str | None:
    """Whatever no column holds, as the JSON text of `meta`; None where nothing is left."""
    kept = {key: plain(value) for key, value in columns.items() if value is not None}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True) if kept else None


def plain(value: Any) -> Any:
    """The value as JSON holds it: a NaN becomes null, a date or a decimal its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return value if value is None or isinstance(value, bool | int) else str(value)


def records(source: str | Path, *, within: str | None = None) -> Iterator[Record]:
    """The rows of JSON lines (also gzipped), CSV, Parquet, or a folder that datasets' save_to_disk wrote.

    Args:
        source: a file or such a folder.
        within: the name of the file to read where `source` is a folder that holds it.

    Raises:
        DataError: there is no such file, its kind is not known, or a row cannot be read.
    """
    path = Path(source)
    if path.is_dir() and within is not None and (path / within).is_file():
        path = path / within
    if path.is_dir():
        if not ((path / "state.json").is_file() or (path / "dataset_dict.json").is_file()):
            lacks = f"neither {within} nor the" if within else "no"
            raise DataError(f"{path} is a folder that holds {lacks} state.json of datasets' save_to_disk: name a file")
        return _saved_dataset(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson")):
        return _json_lines(path)
    if path.suffix.lower() == ".csv":
        return _csv(path)
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    raise DataError(
        f"{path}: the end of its name says none of .jsonl, .jsonl.gz, .csv, .parquet; rename it after what it holds"
    )


def _json_lines(path: Path) -> Iterator[Record]:
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as lines:
        number = 0
        while True:
            number += 1
            try:
                line = lines.readline()
                if not line:
                    return
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except (OSError, EOFError, UnicodeDecodeError) as error:
                raise DataError(f"{path}, row {number}: it cannot be read as UTF-8 text: {error}") from None
            if not text.strip():
                continue
            try:
                row = parse_json(text)
            except ValueError as error:
                raise DataError(f"{path}, row {number}: it is not valid JSON: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, row {number}: it should be a JSON object and is {describe(row)}")
            yield Record(row, path, number)


def _csv(path: Path) -> Iterator[Record]:
    csv.field_size_limit(LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        number = 0
        while True:
            number += 1
            try:
                cells: dict[Any, Any] | None = next(reader, None)
            except (csv.Error, UnicodeDecodeError) as error:
                raise DataError(f"{path}, row {number}: it cannot be read as CSV in UTF-8: {error}") from None
            if cells is None:
                return
            if None in cells:
                raise DataError(f"{path}, row {number}: it has more cells than the header; quote its commas")
            yield Record({key: cell or None for key, cell in cells.items()}, path, number, textual=True)


def _parquet(path: Path) -> Iterator[Record]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(row, path, number)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as Parquet after row {number}: {error}") from error


def _saved_dataset(folder: Path) -> Iterator[Record]:
    if (folder / "dataset_dict.json").is_file():
        for split in _listed(folder / "dataset_dict.json", "splits"):
            yield from _saved_dataset(folder / split)
        return
    state = folder / "state.json"
    if not state.is_file():
        raise DataError(f"{folder} holds no state.json: it was not written by datasets' save_to_disk")
    number = 0
    for name in _listed(state, "_data_files"):
        path = folder / name
        try:
            with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    for row in batch.to_pylist():
                        number += 1
                        yield Record(row, path, number)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} cannot be read as Arrow after row {number}: {error}") from error


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
