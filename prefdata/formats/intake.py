"""What a reader hands back, and the builder that all readers share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdata import schema
from prefdata.errors import DataError
from prefdata.formats.arrow_rows import Columns
from prefdata.formats.files import records
from prefdata.formats.quarantine import BadRow, reasons
from prefdata.formats.source import Record, RowError
from prefdata.schema import Row, Rows


@dataclass
class Imported:
    """What a reader made of a source.

    Attributes:
        rows: rows by table, every column but `step` filled in; ids are unique within a table.
        left_out: rows of the source (or parts of them) that were not taken by rule, by reason.
        note: one sentence for the user: what came in, and what was put where.
        quarantined: rows of the source that could not be read, in its order. None of what they hold is in `rows`.
        files: pictures that the rows name, by their uri below the dataset's folder; see `pictures.bring`.
    """

    rows: Rows
    left_out: Counter[str]
    note: str
    quarantined: list[BadRow] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)


Reader = Callable[..., Imported]
"""Takes the source (file or folder) and options by keyword; `strict`, where it can leave out bad rows."""


@dataclass
class Intake:
    """Collects rows by id: of two rows with one id the first wins. A row of the source is taken whole or not at all.

    Attributes:
        source: the file or folder that is read.
        strict: a row that cannot be read is an error, and nothing is taken.
        left_out: see `Imported`.
        to_meta: how many rows had a column that only `meta` holds, by column.
        remarks: further sentences for the note.
        quarantined: see `Imported`.
        files: see `Imported`.
    """

    source: Path
    strict: bool = False
    prompts: dict[str, Row] = field(default_factory=dict)
    responses: dict[str, Row] = field(default_factory=dict)
    annotations: dict[str, Row] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    to_meta: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    quarantined: list[BadRow] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    _taken: int = 0
    """How many rows of the source went through `row` without an error."""
    _undo: list[Callable[[], object]] = field(default_factory=list)
    """Takes back what the current row of the source added."""

    def records(self, path: Path | None = None, *, columns: Columns, within: str | None = None) -> Iterator[Record]:
        """The rows of the source, or of one file of it, that can be read at all; read each of them in a `row`.

        Args:
            path: the file, where the source is several.
            columns: what the format wants of its columns.
            within: the name of the file to read where the source is a folder that holds it.

        Raises:
            DataError: see `prefdata.formats.files.records`; there is no row, or none that can be taken.
        """
        part = self.source if path is None else path
        taken, bad = self._taken, len(self.quarantined)
        yield from records(part, within=within, columns=columns, refuse=self.refuse)
        if self._taken == taken:
            raise self.nothing_taken(part, self.quarantined[bad:])

    def nothing_taken(self, part: Path, bad: Sequence[BadRow]) -> DataError:
        """The sentence for a file of which no row is good: that is one mistake, not many."""
        if not bad:
            return DataError(f"{part} holds no rows")
        return DataError(f"{part}: none of its {len(bad):,} rows can be read, so nothing was taken: {reasons(bad)}")

    @contextmanager
    def row(self, record: Record) -> Iterator[None]:
        """Whatever is taken within comes from this row: if it turns out to be bad, all of that is taken back."""
        self._undo.clear()
        try:
            yield
        except RowError as error:
            self._take_back()
            self.refuse(error)
        except (ValueError, OverflowError, RecursionError) as error:  # a value that no table can hold
            self._take_back()
            self.refuse(record.error(f"it cannot be kept: {error}"))
        else:
            self._taken += 1

    def refuse(self, error: RowError) -> None:
        """Put a row into quarantine.

        Raises:
            RowError: always, where the reading is strict.
        """
        if self.strict:
            raise error
        self.quarantined.append(BadRow.of(error, self.source))

    def _take_back(self) -> None:
        for undo in reversed(self._undo):
            undo()

    def prompt(self, row: Row) -> Row:
        """Take a prompt, and return the one that is kept under its id."""
        return self._add(self.prompts, row["prompt_id"], row)

    def response(self, row: Row) -> Row:
        """Take a response, and return the one that is kept under its id."""
        return self._add(self.responses, row["response_id"], row)

    def annotation(self, **columns: Any) -> None:
        """Take an annotation of `prefdata.schema.annotation`'s arguments; an equal one is counted and left out.

        When it was made is not known, so `created_at` stays null: reading a source twice gives equal rows.
        """
        self.annotation_row(schema.annotation(created_at=None, **columns))

    def annotation_row(self, row: Row) -> None:
        """Take an annotation that is a row already; one of an equal id is counted and left out."""
        if self._add(self.annotations, row["annotation_id"], row) is not row:
            self.leave_out("annotation twice")

    def _add(self, table: dict[str, Row], key: str, row: Row) -> Row:
        kept = table.setdefault(key, row)
        if kept is row:
            self._undo.append(lambda: table.pop(key))
        return kept

    def leave_out(self, reason: str) -> None:
        """Count what is not taken, by rule."""
        self._count(self.left_out, [reason])

    def keep_in_meta(self, columns: Iterable[str]) -> None:
        """Count columns that only `meta` holds."""
        self._count(self.to_meta, list(columns))

    def _count(self, counter: Counter[str], keys: list[str]) -> None:
        if keys:
            counter.update(keys)
            self._undo.append(lambda: counter.subtract(keys))

    def imported(self) -> Imported:
        """The result.

        Raises:
            DataError: an annotation says what none can (see `prefdata.schema.check_annotations`).
        """
        rows: Rows = {
            "prompts": list(self.prompts.values()),
            "responses": list(self.responses.values()),
            "annotations": list(self.annotations.values()),
        }
        schema.check_annotations(rows["annotations"], str(self.source))
        counts = {name: len(made) for name, made in rows.items() if made}
        counted = (
            ", ".join(f"{count:,} {name if count > 1 else name[:-1]}" for name, count in counts.items()) or "nothing"
        )
        bad = sorted(self.quarantined, key=lambda row: (row.file, row.row))
        remarks = [counted, *self.remarks]
        if to_meta := +self.to_meta:
            named = ", ".join(f"{column!r} ({count:,})" for column, count in sorted(to_meta.items()))
            remarks.append(f"columns kept in meta only: {named}")
        if bad:
            remarks.append(f"{len(bad):,} row{'' if len(bad) == 1 else 's'} in quarantine")
        kept = {name: made for name, made in rows.items() if made}
        return Imported(kept, +self.left_out, "; ".join(remarks), bad, self.files)


def in_id_order(ids: Sequence[str], scores: Sequence[float]) -> tuple[list[str], list[float]]:
    """Targets and scores in the order of the ids, for a source that does not tell the order in which it showed them.

    The better one first would look like a habit of the annotator's.
    """
    order = sorted(range(len(ids)), key=lambda place: ids[place])
    return [ids[place] for place in order], [scores[place] for place in order]
