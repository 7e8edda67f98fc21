"""What a reader hands back, and the builder that all readers share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefdata import schema
from prefdata.schema import Row, Rows


@dataclass
class Imported:
    """What a reader made of a source.

    Attributes:
        rows: rows by table, every column but `step` filled in; ids are unique within a table.
        left_out: rows of the source (or parts of them) that were not taken, by reason.
        note: one sentence for the user: what came in, and what was put where.
    """

    rows: Rows
    left_out: Counter[str]
    note: str


Reader = Callable[..., Imported]
"""Takes the source (file or folder) and options by keyword."""


@dataclass
class Intake:
    """Collects rows by id: of two rows with one id the first wins."""

    prompts: dict[str, Row] = field(default_factory=dict)
    responses: dict[str, Row] = field(default_factory=dict)
    annotations: dict[str, Row] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    to_meta: Counter[str] = field(default_factory=Counter)
    """How many rows had a column that only `meta` holds, by column."""
    remarks: list[str] = field(default_factory=list)

    def prompt(self, row: Row) -> Row:
        """Take a prompt, and return the one that is kept under its id."""
        return self.prompts.setdefault(row["prompt_id"], row)

    def response(self, row: Row) -> Row:
        """Take a response, and return the one that is kept under its id."""
        return self.responses.setdefault(row["response_id"], row)

    def annotation(self, **columns: Any) -> None:
        """Take an annotation of `prefdata.schema.annotation`'s arguments; an equal one is counted and left out.

        When it was made is not known, so `created_at` stays null: reading a source twice gives equal rows.
        """
        row = schema.annotation(created_at=None, **columns)
        if row["annotation_id"] in self.annotations:
            self.left_out["annotation twice"] += 1
        self.annotations.setdefault(row["annotation_id"], row)

    def imported(self, where: object) -> Imported:
        """The result.

        Raises:
            DataError: an annotation says what none can (see `prefdata.schema.check_annotations`).
        """
        rows: Rows = {
            "prompts": list(self.prompts.values()),
            "responses": list(self.responses.values()),
            "annotations": list(self.annotations.values()),
        }
        schema.check_annotations(rows["annotations"], str(where))
        counts = {name: len(made) for name, made in rows.items() if made}
        counted = (
            ", ".join(f"{count:,} {name if count > 1 else name[:-1]}" for name, count in counts.items()) or "nothing"
        )
        remarks = [counted, *self.remarks]
        if self.to_meta:
            named = ", ".join(f"{column!r} ({count:,})" for column, count in sorted(self.to_meta.items()))
            remarks.append(f"columns kept in meta only: {named}")
        kept = {name: made for name, made in rows.items() if made}
        return Imported(kept, self.left_out, "; ".join(remarks))


def in_id_order(ids: Sequence[str], scores: Sequence[float]) -> tuple[list[str], list[float]]:
    """Targets and scores in the order of the ids, for a source that does not tell the order in which it showed them.

    The better one first would look like a habit of the annotator's.
    """
    order = sorted(range(len(ids)), key=lambda place: ids[place])
    return [ids[place] for place in order], [scores[place] for place in order]
