"""Small tables for judges that compute on columns, and a runtime that only listens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl
import pyarrow as pa

from prefdata.pipeline.step import TableStep
from prefdata.schema import KEYS, SCHEMAS, Row, check_annotations, message, prompt


class Listener:
    """What a column step asks of the runtime."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def log(self, text: str) -> None:
        self.said.append(text)


def frame(table: str, rows: Iterable[Row]) -> pl.DataFrame:
    """Rows as a step gets them: every column, sorted by id."""
    made = pl.DataFrame(pa.Table.from_pylist(list(rows), schema=SCHEMAS[table]))
    return made.sort(KEYS[table])


def judged(step: TableStep, listener: Listener | None = None, /, **tables: Iterable[Row]) -> list[Row]:
    """The annotations that a step makes of these rows, checked against the schema."""
    names = ("prompts", "responses", "annotations", "preferences")
    frames: Mapping[str, pl.DataFrame] = {name: frame(name, tables.get(name, ())) for name in names}
    made = step.run(frames, listener or Listener())["annotations"]  # type: ignore[arg-type]
    assert isinstance(made, pl.DataFrame)
    rows = made.to_dicts()
    check_annotations(rows, step.kind)
    assert len({row["annotation_id"] for row in rows}) == len(rows)
    return rows


def labels(rows: Iterable[Row], aspect: str = "duplicates") -> dict[str, str | None]:
    """The label of each target under an aspect; None where it was abstained from."""
    found = [row for row in rows if row["protocol"] == "label" and row["aspect"] == aspect]
    return {row["target_ids"][0]: row["labels"][0] if row["labels"] else None for row in found}


def measures(rows: Iterable[Row], aspect: str) -> dict[str, float | None]:
    """The number of each target under an aspect; None where it was abstained from."""
    found = [row for row in rows if row["protocol"] == "measure" and row["aspect"] == aspect]
    return {row["target_ids"][0]: row["scores"][0] if row["scores"] else None for row in found}


def asked(name: str, *turns: str, **columns: object) -> Row:
    """A root prompt of this id whose turns alternate, the user's first."""
    roles = ("user", "assistant")
    row = prompt([message(roles[place % 2], turn) for place, turn in enumerate(turns)], **columns)
    return {**row, "prompt_id": name, "group_id": columns.get("group_id", name)}


def said(name: str, text: str | None, prompt_id: str = "p1", **columns: object) -> Row:
    """A response of this id."""
    return {"response_id": name, "group_id": prompt_id, "prompt_id": prompt_id, "text": text, **columns}
