"""The files of texts that a dataset must not hold: benchmarks, held-out sets."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from prefdata.errors import DataError
from prefdata.formats.lines import json_lines
from prefdata.formats.source import RowError
from prefdata.pipeline.spec import find_file
from prefdata.schema import make_id
from prefdata.similarity import normalised

_LARGEST = 1 << 30
"""Bytes of a file of plain text, and of the texts of any file: they are held in memory."""


class Benchmark(BaseModel):
    """A file of protected texts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="A .jsonl, .jsonl.gz, .parquet or .txt file (of text: one a line).")
    columns: tuple[str, ...] = Field((), description="Only these columns; every column of texts unless given.")


class ProtectedTexts:
    """Protected texts by the name of their benchmark.

    Args:
        texts: by name, in the order of the files; each text once.
    """

    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        self.texts = {name: list(dict.fromkeys(listed)) for name, listed in texts.items()}
        self.digest = make_id("protected", sorted((name, sorted(listed)) for name, listed in self.texts.items()))

    def __eq__(self, other: object) -> bool:
        """Whether they hold the same: a step is equal to one that read the same files."""
        return isinstance(other, ProtectedTexts) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def read_protected(benchmarks: Mapping[str, Benchmark], folder: Path, least_words: int) -> ProtectedTexts:
    """The texts of files, those of fewer than `least_words` words left out.

    Raises:
        DataError: a file cannot be read, or holds no text; names file and row.
    """
    found: dict[str, list[str]] = {}
    for name, benchmark in benchmarks.items():
        texts = list(read_texts(benchmark.path, benchmark.columns, folder))
        lengths = normalised(texts).str.count_matches(r"\S+").to_list()
        kept = [text for text, length in zip(texts, lengths, strict=True) if length >= least_words]
        if not kept:
            raise DataError(
                f"{benchmark.path} holds no text of {least_words} words or more, so that nothing would be protected"
                + ("" if not texts else f" (it has {len(texts)} shorter ones: least_words)")
            )
        found[name] = kept
    return ProtectedTexts(found)


def read_texts(path: str, columns: Sequence[str], folder: Path) -> Iterable[str]:
    """The texts of one file, in its order: of a table all cells that are texts or lists of texts.

    Args:
        path: looked up in the working folder, then in `folder`.
        columns: only these; a row need not have all of them, the file must.
        folder: the pipeline file's.

    Raises:
        DataError: see `read_protected`.
    """
    found = find_file(path, folder)
    if found is None or not found.is_file():
        raise DataError(f"there is no file {path!r}, neither in the working folder nor in {folder}")
    name = found.name.lower()
    if name.endswith(".parquet"):
        texts = _of_parquet(found, columns)
    elif name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
        texts = _of_lines(found, columns)
    elif name.endswith(".txt"):
        if columns:
            raise DataError(f"{found} is plain text and has no columns: leave `columns` out")
        texts = _of_text(found)
    else:
        raise DataError(f"{found}: the end of its name says none of .jsonl, .jsonl.gz, .parquet, .txt")
    size = 0
    for text in texts:
        size += len(text)
        if size > _LARGEST:
            raise DataError(f"{found} holds more than {_LARGEST >> 30} GiB of text, which is held in memory: split it")
        yield text


def _of_text(path: Path) -> Iterable[str]:
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path} is larger than {_LARGEST >> 30} GiB, and is held in memory: split it")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from None
    return [line for line in lines if line.strip()]


def _of_lines(path: Path, columns: Sequence[str]) -> Iterable[str]:
    def refuse(error: RowError) -> None:
        raise error

    seen: set[str] = set()
    try:
        for record in json_lines(path, refuse):
            seen.update(record.row)
            for name in columns or record.row:
                yield from _cells(record.row.get(name))
    except (OSError, gzip.BadGzipFile) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    _named(path, columns, seen)


def _of_parquet(path: Path, columns: Sequence[str]) -> Iterable[str]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _named(path, columns, names)
            wanted = [name for name in names if (not columns or name in columns) and _textual(file.schema_arrow, name)]
            if not wanted:
                raise DataError(f"{path} has no column of texts (it has: {', '.join(names)})")
            for batch in file.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    for name in wanted:
                        yield from _cells(row[name])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from None


def _textual(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _named(path: Path, columns: Sequence[str], names: Iterable[str]) -> None:
    known = set(names)
    for name in columns:
        if name not in known:
            raise DataError(f"{path} has no column {name!r} (it has: {', '.join(sorted(known)) or 'none'})")


def _cells(value: object) -> Iterable[str]:
    for cell in value if isinstance(value, list) else [value]:
        if isinstance(cell, str) and cell.strip():
            yield cell
