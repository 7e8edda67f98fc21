"""What a training file holds, as preference lists in memory.

A file of `prefdata export`, or any Parquet, Arrow or JSON-lines file or dataset folder with the columns that TRL reads.
What cannot be trained on is refused with file, row and column, or left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from prefdata.train.columns import COLUMNS, check_columns, find_format
from prefdata.train.dataset_folder import Table, find_tables, read_table
from prefdata.train.errors import TrainError
from prefdata.train.preferences import PreferenceList
from prefdata.train.rows import FileRow
from prefdata.train.rows_lists import list_from_row
from prefdata.train.rows_pairs import alone_from_row, pair_from_row, sft_from_row

BATCH_ROWS = 1024
_Make = Callable[[FileRow, "Counter[str]"], PreferenceList | str]
_MAKERS: dict[str, _Make] = {
    "lists": list_from_row,
    "trl-pairs": pair_from_row,
    "trl-pairs-conversational": pair_from_row,
    "unpaired": alone_from_row,
    "unpaired-conversational": alone_from_row,
    "sft": sft_from_row,
}


@dataclass(frozen=True, slots=True)
class PreferenceData:
    """The lists of a file or folder, and what else is worth knowing of it.

    Attributes:
        path: the file or folder.
        files: the files that were read, in order.
        format: one of FORMATS.
        metadata: the footer's own keys and values (`prefdata.*`); of the first file.
        rows: rows in all files.
        split: whether it is split into what is trained on and what is held out. Where it is not, everything is trained
            on.
        templated: strings were rendered with a chat template at export; null: unknown.
        lists: what can be read; `row` counts on from file to file.
        left_out: how many rows, by reason.
        responses_left_out: how many responses of lists that remain, by reason.
        value_names: the names of `values` that some list has.
        starts: for each file, the number of its first row.
    """

    path: Path
    files: tuple[Path, ...]
    format: str
    metadata: dict[str, str]
    rows: int
    split: bool
    templated: bool | None
    lists: list[PreferenceList]
    left_out: Counter[str]
    responses_left_out: Counter[str]
    value_names: tuple[str, ...] = ()
    starts: tuple[int, ...] = (0,)

    def where(self, row: int) -> str:
        """`FILE, row N`, for an error about a list's row."""
        number = sum(start <= row for start in self.starts) - 1
        return f"{self.files[number]}, row {row - self.starts[number]}"


def read_preferences(path: Path) -> PreferenceData:
    """Read a training file, or a folder of them.

    Raises:
        TrainError: the file, a column or a row cannot be used; the message names it.
    """
    path = Path(path)
    read = _Reading(path)
    for table in find_tables(path):
        read.take(table)
    return read.data()


def check_file(path: Path) -> None:
    """Refuse a path where nothing is: cheap, so that it can come before a model is looked for.

    Raises:
        TrainError: there is nothing.
    """
    if not Path(path).exists():
        raise TrainError(f"there is no file {path}: `data` names an exported Parquet file, or a folder of a dataset")


class _Reading:
    """Files read so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.format = ""
        self.metadata: dict[str, str] = {}
        self.files: list[Path] = []
        self.starts: list[int] = []
        self.rows = 0
        self.split = False
        self.lists: list[PreferenceList] = []
        self.left_out: Counter[str] = Counter()
        self.responses_left_out: Counter[str] = Counter()

    def take(self, part: Table) -> None:
        """Read one file.

        Raises:
            TrainError: it cannot be used, or has another format than the files before it.
        """
        table = read_table(part.path)
        metadata = {
            key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
            for key, value in (table.schema.metadata or {}).items()
            if key.startswith(b"prefdata.")
        }
        form = find_format(part.path, table.schema, metadata)
        if self.files and form != self.format:
            raise TrainError(
                f"{self.path} holds files of several formats ({self.files[0].name}: {self.format}, {part.path.name}: "
                f"{form}): name one file"
            )
        check_columns(part.path, table.schema, form)
        if not self.files:
            self.format, self.metadata = form, metadata
        self.files.append(part.path)
        self.starts.append(self.rows)
        if "split" in table.column_names and table.column("split").null_count == table.num_rows:
            table = table.drop_columns(["split"])  # it says nothing
        wanted = [name for name in COLUMNS[form] if name in table.column_names]
        self.split = self.split or "split" in wanted or part.held_out is not None
        self._read_rows(part, table.select(wanted))
        self.rows += table.num_rows

    def _read_rows(self, part: Table, table: pa.Table) -> None:
        make = _MAKERS[self.format]
        number = 0
        for batch in table.to_batches(max_chunksize=BATCH_ROWS):
            try:
                rows = batch.to_pylist()
            except (ValueError, pa.ArrowException) as error:
                reason = str(error).splitlines()[0]
                raise TrainError(
                    f"{part.path}: a value in rows {number} to {number + len(batch) - 1} cannot be read: {reason}"
                ) from None
            for row in rows:
                found = make(
                    FileRow(part.path, number, self.rows + number, part.held_out, row), self.responses_left_out
                )
                if isinstance(found, str):
                    self.left_out[found] += 1
                else:
                    self.lists.append(found)
                number += 1

    def data(self) -> PreferenceData:
        """All that was read.

        Raises:
            TrainError: there was no row.
        """
        if not self.rows:
            raise TrainError(f"{self.path} has no rows")
        template = self.metadata.get("prefdata.template")
        return PreferenceData(
            path=self.path,
            files=tuple(self.files),
            format=self.format,
            metadata=self.metadata,
            rows=self.rows,
            split=self.split,
            templated=None if template is None else template not in ("", "none"),
            lists=self.lists,
            left_out=self.left_out,
            responses_left_out=self.responses_left_out,
            value_names=tuple(sorted({name for entry in self.lists for name in entry.values})),
            starts=tuple(self.starts),
        )
