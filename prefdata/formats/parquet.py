"""Files that are there whole or not at all, and Parquet with exact types and a footer."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from prefdata.errors import DataError

PREFIX = "prefdata."
"""Of every key that we write into a footer."""
ROW_GROUP_BYTES = 128 << 20
ROW_GROUP_ROWS = 1 << 16


@contextmanager
def whole_file(path: Path) -> Iterator[io.BufferedWriter]:
    """A file that appears under its name only when it is whole and on disk.

    Raises:
        DataError: the folder cannot be written to, or the path is a folder.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; name the file to write")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # what stopped the writing is what is to be said
            temporary.unlink(missing_ok=True)


def write_parquet(
    frames: Iterable[pl.DataFrame], schema: pa.Schema, path: Path, footer: Mapping[str, str], row_bytes: int
) -> None:
    """Write frames one after the other with exactly this schema, zstd-compressed.

    Where row groups end does not depend on where frames do.

    Args:
        frames: the schema's columns, in any order.
        schema: the types in the file.
        path: where to; replaced if it is there.
        footer: key-value metadata, keys without `prefdata.`.
        row_bytes: about how many bytes a row takes in memory.
    """
    marked = schema.with_metadata({f"{PREFIX}{key}": value for key, value in footer.items()})
    # An Arrow string column holds at most 2 GiB: what goes in at a time is bounded by bytes, too.
    rows = ROW_GROUP_ROWS
    while rows > 1 and rows * row_bytes > ROW_GROUP_BYTES:
        rows //= 2
    with whole_file(path) as file, pq.ParquetWriter(file, marked, compression="zstd") as writer:
        for part in _of_rows(frames, rows):
            arrow = part.select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest())
            writer.write_table(arrow.cast(schema).cast(marked))


def _of_rows(frames: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of `rows` each; the last one may be shorter."""
    kept: list[pl.DataFrame] = []
    held = 0
    for frame in frames:
        kept.append(frame)
        held += frame.height
        if held >= rows:
            whole = pl.concat(kept)
            yield from (whole.slice(start, rows) for start in range(0, held - held % rows, rows))
            kept, held = [whole.slice(held - held % rows)], held % rows
    if held:
        yield pl.concat(kept)


def read_footer(path: Path) -> tuple[pa.Schema, int, dict[str, str]]:
    """A Parquet file's schema, its number of rows, and our keys of its footer (without `prefdata.`).

    Raises:
        DataError: it is not a Parquet file.
    """
    try:
        found = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    with found:
        keys = {
            key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
            for key, value in (found.schema_arrow.metadata or {}).items()
        }
        ours = {key.removeprefix(PREFIX): value for key, value in keys.items() if key.startswith(PREFIX)}
        return found.schema_arrow.remove_metadata(), found.metadata.num_rows, ours
