"""Small tables and a small runtime for the tests of columnar operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from prefdata.pipeline.step import TableStep
from prefdata.schema import KEYS, SCHEMAS, Row, annotation, check_annotations, make_id


class FakeContext:
    """What a columnar step asks of the runtime."""

    dataset_path, view, pipeline = "", "main", "test"

    pipeline = "test"

    def __init__(self, artifacts: Path = Path("/nowhere/artifacts/step")) -> None:
        self.said: list[str] = []
        self.artifacts = artifacts

    def log(self, message: str) -> None:
        self.said.append(message)


def frame(table: str, rows: Iterable[Row]) -> pl.DataFrame:
    """Rows as a step gets them: every column, sorted by id."""
    made = pl.DataFrame(pa.Table.from_pylist(list(rows), schema=SCHEMAS[table]))
    return made.sort(KEYS[table])


def run(step: TableStep, context: FakeContext | None = None, /, **tables: Iterable[Row]) -> Mapping[str, list[Row]]:
    """Run a step on rows; what it made, as rows of the table's schema."""
    frames = {
        name: frame(name, tables.get(name, ())) for name in ("prompts", "responses", "annotations", "preferences")
    }
    made = step.run(frames, context or FakeContext())  # type: ignore[arg-type]
    return {
        name: rows.to_dicts()
        if isinstance(rows, pl.DataFrame)
        else [dict.fromkeys(SCHEMAS[name].names) | r for r in rows]
        for name, rows in made.items()
    }


def consensus(step: TableStep, rows: Iterable[Row], context: FakeContext | None = None) -> list[Row]:
    """The annotations that an aggregate makes, checked against the schema."""
    made = list(run(step, context, annotations=rows)["annotations"])
    check_annotations(made, "consensus")
    return made


def response(response_id: str, text: str | None = None, prompt_id: str = "p1", **columns: Any) -> Row:
    """A response whose text is its id, unless given."""
    return {
        "response_id": response_id,
        "group_id": columns.pop("group_id", prompt_id),
        "prompt_id": prompt_id,
        "text": response_id if text is None else text,
        "model": "m",
        "finish_reason": "stop",
        **columns,
    }


def said(targets: Iterable[str], scores: Iterable[float] | None, **columns: Any) -> Row:
    """An annotation of responses to p1; two targets are a comparison, others scores, unless a protocol is given."""
    ids = list(targets)
    prompt_id = columns.pop("prompt_id", "p1")
    row = annotation(
        group_id=columns.pop("group_id", prompt_id),
        prompt_id=prompt_id,
        target_ids=ids,
        scores=None if scores is None else list(scores),
        protocol=columns.pop("protocol", "compare" if len(ids) == 2 else "score"),
        annotator=columns.pop("annotator", "judge:a"),
        source=columns.pop("source", "judge"),
        **columns,
    )
    return row


def copy_of(row: Row, tag: str) -> Row:
    """The same vote once more, under another id."""
    return {**row, "annotation_id": make_id("copy", row["annotation_id"], tag)}


def scores_by_target(row: Row) -> dict[str, float]:
    return dict(zip(row["target_ids"], row["scores"], strict=True))
