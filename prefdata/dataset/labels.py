"""What people say: labels, their corrections and deletions, and decisions to drop or to restore."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from prefdata.dataset.log import StepRecord
from prefdata.errors import DataError
from prefdata.schema import KEYS, TARGETS, Row, check_annotations, drop, make_id

if TYPE_CHECKING:
    from prefdata.dataset.dataset import Dataset


def label(
    dataset: Dataset, rows: Iterable[Mapping[str, Any]], store: str, beside: Mapping[str, Sequence[Row]]
) -> list[str]:
    """See `Dataset.label`."""
    step = f"labels:{store}"
    if isinstance(rows, Mapping | str):
        raise DataError("label takes a list of labels, each a dict; for one label write [label]")
    given = [dict(row) for row in rows]
    for row in given:
        row["target_ids"] = [] if row.get("target_ids") is None else [*row["target_ids"]]  # a Series will do
    known = _contexts(dataset, {one for row in given for one in row["target_ids"]})
    known |= {
        row["response_id"]: {"target": "response", "group_id": row["group_id"], "prompt_id": row["prompt_id"]}
        for row in beside.get("responses", ())
    }
    made: list[Row] = []
    for number, row in enumerate(given, start=1):
        person, task = row.get("annotator"), row.pop("key", None)
        if not person:
            raise DataError(f"label {number}: it does not say whose it is (annotator)")
        row = {"aspect": "overall", "status": "ok", "source": "human", **_about(row, known, number), **row}
        if task is None:
            task = [row["prompt_id"], sorted(row["target_ids"]), row["protocol"], row["aspect"]]
        made.append({**row, "annotation_id": make_id("label", store, task, person), "step": step, "replicate": 0})
    check_annotations(made, "label")
    ids = [row["annotation_id"] for row in made]
    made = _revised(dataset, made)
    hidden = set(dataset.view().dropped.filter(pl.col("table") == "annotations")["id"])
    back = [
        {**drop("annotations", row, reason="labelled again", restore=True), "step": step}
        for row in made
        if row["annotation_id"] in hidden
    ]
    new = {table: _new(dataset, table, rows, step) for table, rows in beside.items()}
    record = StepRecord(step=step, name=step, kind="labels")
    if made or any(new.values()):
        dataset.commit({"annotations": made, "drops": back, **new}, f"{len(made)} labels", steps=[record])
    return ids


def _revised(dataset: Dataset, rows: Iterable[Row]) -> list[Row]:
    """The rows with the revision of each; those that are there already, by the revision that they state, left out."""
    made = list(rows)
    known = {
        one: row["revision"] for one, row in dataset.latest("annotations", [r["annotation_id"] for r in made]).items()
    }
    stamp, kept = datetime.now(UTC), []
    for row in made:
        before = known.get(row["annotation_id"], 0)
        if row.get("revision") is None:
            row["revision"] = before + 1
        elif row["revision"] <= before:
            continue
        row.setdefault("created_at", stamp)
        known[row["annotation_id"]] = row["revision"]
        kept.append(row)
    return kept


def _new(dataset: Dataset, table: str, rows: Sequence[Row], step: str) -> list[Row]:
    """Those of `rows` that are not there yet, each once."""
    key = KEYS[table]
    fresh = {row[key]: row if table in ("criteria", "annotators") else {**row, "step": step} for row in rows}
    for one in dataset.latest(table, list(fresh)):
        del fresh[one]
    return list(fresh.values())


def _about(row: Mapping[str, Any], known: Mapping[str, Row], number: int) -> Row:
    """target, group_id and prompt_id of a label, from what its targets are."""
    ids = row["target_ids"]
    if not ids:
        raise DataError(f"label {number}: it names no target (target_ids)")
    if row.get("target") == "annotator":
        return {"target": "annotator", "group_id": None, "prompt_id": None}
    missing = [one for one in ids if one not in known]
    if missing:
        raise DataError(f"label {number}: the dataset has no response or prompt {missing[0]!r}")
    kinds = {known[one]["target"] for one in ids}
    target = row.get("target") or min(kinds)
    if kinds != {target}:
        raise DataError(f"label {number}: it is about {target}s, but its targets are {', '.join(sorted(kinds))}")
    if target in ("annotation", "preference") and len({known[one]["group_id"] for one in ids}) > 1:
        raise DataError(f"label {number}: its {target}s belong to different prompts; label those of each prompt apart")
    prompts = {known[one]["prompt_id"] for one in ids}
    context = prompts.pop() if len(prompts) == 1 else None  # under different prompts: a joint comparison
    return {"target": target, "group_id": known[ids[0]]["group_id"], "prompt_id": context}


def _contexts(dataset: Dataset, ids: Iterable[str]) -> dict[str, Row]:
    """target, group_id and prompt_id of whatever has one of these ids."""
    wanted = pl.DataFrame({"id": list(ids)}, schema={"id": pl.String}).lazy()
    found: dict[str, Row] = {}
    for target, table in TARGETS.items():
        rows = dataset.rows(table).select(pl.col(KEYS[table]).alias("id"), "group_id", "prompt_id")
        for row in rows.join(wanted, on="id", how="semi").collect().to_dicts():
            found[row.pop("id")] = {"target": target, **row}
    return found


def decide(
    dataset: Dataset, table: str, ids: Iterable[str], *, reason: str, view: str, store: str, restore: bool
) -> int:
    """Drop or restore rows by a person's decision; see `Dataset.drop`."""
    if table not in TARGETS.values():
        raise DataError(f"rows of {table!r} cannot be dropped or restored; it must be {', '.join(TARGETS.values())}")
    if isinstance(ids, str):
        raise DataError(f"name the rows of {table} as a list of ids; for one write [id]")
    wanted = list(ids)
    known = dataset.latest(table, wanted)
    missing = [one for one in wanted if one not in known]
    if missing:
        raise DataError(f"the dataset has no row {missing[0]!r} in {table}")
    step = f"labels:{store}"
    rows = [{**drop(table, row, reason=reason, view=view, restore=restore), "step": step} for row in known.values()]
    if rows:
        record = StepRecord(step=step, name=step, kind="labels")
        dataset.commit({"drops": rows}, f"{'restore' if restore else 'drop'} {len(rows)} {table}", steps=[record])
    return len(rows)
