"""What a step returned: checked before it is kept, and signed with the step's fingerprint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import polars as pl

from prefdata.dataset.parts import frame_of
from prefdata.errors import PipelineError
from prefdata.pipeline.step import CONSENSUS, Step
from prefdata.schema import KEYS, Row, Rows, canonical_json, check_annotations

STEPLESS = frozenset({"criteria", "annotators"})
"""Tables that describe; their rows belong to no step and no group."""

Made = Mapping[str, pl.DataFrame | list[Row]]
"""Rows by table, as frames or as dicts."""


def checked(step: Step, made: object) -> Made:
    """What a step returned, if it is rows of the tables that it declares.

    Raises:
        PipelineError: it is not; says what it is.
        DataError: an annotation that would mislead its readers.
    """
    allowed = {"annotations" if table == CONSENSUS else table for table in step.writes}
    if not isinstance(made, Mapping):
        raise PipelineError(f"it returned {made!r:.80}; a step returns rows by table: {{'annotations': [...], ...}}")
    for table, rows in made.items():
        if table not in allowed:
            raise PipelineError(f"it returned {table!r}, but what it declares in `writes` is {sorted(allowed)}")
        if isinstance(rows, pl.DataFrame):
            continue
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise PipelineError(f"its {table} are {rows!r:.80}; they should be a list of rows, each a dict")
        if table not in STEPLESS and not all(row.get("group_id") for row in rows):
            raise PipelineError(f"it made a row of {table} without a group_id")
        if table == "annotations":
            check_annotations(rows, "what it returned")
    return made


def signed(table: str, given: pl.DataFrame | list[Row], fingerprint: str) -> pl.DataFrame | list[Row]:
    """The rows with their step."""
    if table in STEPLESS:
        return given
    if isinstance(given, pl.DataFrame):
        return frame_of(table, given.with_columns(pl.lit(fingerprint).alias("step")))
    return [{**row, "step": fingerprint} for row in given]


def fresh(table: str, given: pl.DataFrame | list[Row], known: set[str]) -> list[Row]:
    """Criteria and annotators that are not `known` yet, and are now: every group names the same few."""
    rows = given.to_dicts() if isinstance(given, pl.DataFrame) else given
    new = {row[KEYS[table]]: row for row in reversed(rows) if row[KEYS[table]] not in known}
    known.update(new)
    return list(reversed(new.values()))


def without_copies(calls: list[Row], responses: list[Row]) -> list[Row]:
    """The calls, without the raw answer where a response holds it as its text."""
    texts = {row["call_id"]: row["text"] for row in responses if row.get("call_id")}
    return [{**call, "raw": None} if call.get("raw") == texts.get(call["call_id"], "") else call for call in calls]


def timeless(rows: Rows) -> str:
    """Rows as one text, without the moment they were made."""
    return canonical_json(
        {table: [{k: v for k, v in row.items() if k != "created_at"} for row in made] for table, made in rows.items()}
    )


def unanswered(table: str, rows: pl.DataFrame | list[Row]) -> Counter[str]:
    """How many rows of a table hold no answer, by why not."""
    if isinstance(rows, pl.DataFrame):
        return Counter()  # computed, not asked for
    if table == "annotations":
        return Counter(row["status"] for row in rows if row["status"] != "ok")
    return Counter("without an answer" for row in rows if table == "responses" and row.get("finish_reason") == "error")
