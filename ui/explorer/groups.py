"""Everything about one prompt: its responses, what was said about them, what was dropped, and where it came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from prefdata.dataset import Dataset
from prefdata.errors import DataError
from prefdata.schema import Row

from .edition import Edition

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Group:
    """One root prompt and all that belongs to it.

    Rows are those of their tables. Those of prompts, responses, annotations and preferences have besides: `state`
    (live, dropped, or hidden because of something that was dropped), `reason` and `drop_step` (where it was dropped).

    Attributes:
        group_id: of all of them.
        prompts: as they were asked, the root first.
        responses: with `name`, A, B, C and so on, under which the page shows them.
        annotations: with `targets`, for each target its name (or id, if it stands elsewhere) and its score.
        preferences: with `names`, of their responses.
        drops: every drop or restore of any of these rows, in every view.
        failed: responses whose making failed.
        steps: by fingerprint, what the steps were: name, kind, fields, inputs.
        calls: by id, what the calls behind these rows cost.
        commit: of the dataset, at which all this is so.
    """

    group_id: str
    prompts: list[Row]
    responses: list[Row]
    annotations: list[Row]
    preferences: list[Row]
    drops: list[Row]
    failed: list[Row]
    steps: dict[str, dict[str, Any]]
    calls: dict[str, Row]
    commit: int


def name_of(position: int) -> str:
    """A, B, ... Z, AA, AB: what the response at a position is called on the page."""
    name = ""
    position += 1
    while position:
        position, letter = divmod(position - 1, 26)
        name = chr(65 + letter) + name
    return name


def group_of(dataset: Dataset, edition: Edition, group_id: str) -> Group:
    """Everything about one group.

    Raises:
        DataError: the dataset has no prompt of such a group.
    """
    cursor = edition.cursor()
    found = cursor.execute("SELECT g FROM texts.roots WHERE group_id = ?", [group_id]).fetchall()
    if not found:
        raise DataError(f"there is no prompt with the group id {group_id!r} at commit {edition.number}")
    g = found[0][0]
    prompts = _rows(cursor, "SELECT * EXCLUDE (asked, excerpt) FROM texts.prompts WHERE g = ? ORDER BY n", g)
    responses = _rows(cursor, "SELECT * FROM texts.responses WHERE g = ? ORDER BY n", g)
    about = cursor.execute(
        "SELECT a FROM said.said WHERE g = $1 UNION SELECT n FROM said.annotations WHERE g = $1", [g]
    )
    numbers = ", ".join(str(n) for (n,) in about.fetchall()) or "NULL"  # a list is looked up, a subquery reads all rows
    annotations = _rows(cursor, f"SELECT * FROM said.annotations WHERE n IN ({numbers}) ORDER BY n")  # noqa: S608
    for position, response in enumerate(responses):
        response["name"] = name_of(position)
    names = {response["response_id"]: response["name"] for response in responses}
    ids = list(names)
    preferences = _rows(
        cursor,
        "SELECT * FROM said.preferences WHERE g = ? OR list_has_any(response_ids, ?::VARCHAR[]) ORDER BY n",
        g,
        ids,
    )
    for row in annotations:
        scores = row["scores"] or [None] * len(row["target_ids"])
        row["targets"] = [(names.get(id, id), score) for id, score in zip(row["target_ids"], scores, strict=False)]
    for row in preferences:
        row["names"] = [names.get(id, id) for id in row["response_ids"]]
    every = [*prompts, *responses, *annotations, *preferences]
    keys = ("prompt_id", "response_id", "annotation_id", "preference_id")
    named = [row[key] for key in keys for row in every if row.get(key)]
    drops = _rows(cursor, "SELECT * FROM said.drops WHERE id IN (SELECT unnest(?::VARCHAR[]))", named)
    failed = _rows(cursor, "SELECT * FROM texts.failed WHERE group_id = ?", group_id)
    return Group(
        group_id,
        prompts,
        responses,
        annotations,
        preferences,
        drops,
        failed,
        _steps(dataset, [*every, *drops, *failed]),
        _calls(dataset, edition, [*responses, *annotations, *failed]),
        edition.number,
    )


def _rows(cursor: duckdb.DuckDBPyConnection, query: str, *values: Any) -> list[Row]:
    found = cursor.execute(query, list(values))
    names = [name for name, *_ in found.description]
    return [
        {name: value for name, value in zip(names, row, strict=True) if name not in ("n", "g")}
        for row in found.fetchall()
    ]


def _steps(dataset: Dataset, rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """What the log says of the steps of some rows, and of the steps that these read."""
    known = dataset.snapshot.steps
    waiting = [step for row in rows for step in (row.get("step"), row.get("drop_step")) if step]
    found: dict[str, dict[str, Any]] = {}
    while waiting:
        step = waiting.pop()
        if step in found:
            continue
        record = known.get(step)
        if record is None:
            found[step] = {"name": step.rpartition("@")[0], "kind": "", "fields": {}, "inputs": []}
            continue
        found[step] = {
            "name": record.name,
            "kind": record.kind,
            "fields": record.fields,
            "inputs": list(record.inputs),
        }
        waiting += record.inputs
    return found


def _calls(dataset: Dataset, edition: Edition, rows: Iterable[Row]) -> dict[str, Row]:
    ids = {row["call_id"] for row in rows if row.get("call_id")}
    if not ids:
        return {}
    columns = (
        "call_id",
        "engine",
        "model",
        "prompt_tokens",
        "completion_tokens",
        "money",
        "seconds",
        "cached",
        "error",
    )
    calls = dataset.view(at=edition.number)["calls"].filter(pl.col("call_id").is_in(list(ids)))
    return {row["call_id"]: row for row in calls.select(columns).collect().to_dicts()}
