"""What `show` says of a dataset: its steps, what is dropped and hidden, what is not finished, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from prefdata.dataset import Dataset, Snapshot, View
from prefdata.dataset.log import name_of
from prefdata.dataset.view import pipeline_key
from prefdata.pipeline.costs import costs, total
from prefdata.pipeline.fingerprint import lineage_of
from prefdata.pipeline.pieces import pieces
from prefdata.pipeline.progress import digests, last_runs, readable, refused, with_partners, work_for_whole
from prefdata.pipeline.registry import STEPS, load_plugins
from prefdata.pipeline.step import GroupStep
from prefdata.schema import CORE_TABLES, KEYS

MEANINGS = {
    "unparsed": "an answer without a verdict, or with two; `prefdata reparse` reads it again, `prefdata run --retry "
    "unparsed` asks again",
    "refused": "the server's content filter stepped in; `prefdata run --retry refused` asks again",
    "timeout": "no answer in time; the next run asks again",
    "failed": "no answer, `calls.error` says why; the next run asks again",
    "abstain": "there was nothing to go by; it is made anew when what it rests on changes",
    "skipped": "a person passed it over; nobody is asked again",
}
"""What it means that there is no verdict (or, for `refused` and `failed`, no response), and what asks again."""


@dataclass(frozen=True)
class StepStatus:
    """One live step.

    Attributes:
        pipeline: its pipeline; `import` or `labels` for rows that no pipeline made.
        name: what the pipeline calls it.
        fingerprint: as it stands in the `step` column.
        rows: live rows by table, in the view main.
        note: what is not as it should be: not run yet, not finished, or rests on rows that are no longer live.
    """

    pipeline: str
    name: str
    fingerprint: str
    rows: dict[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Status:
    """A dataset at one commit.

    Attributes:
        commit: its number.
        counts: live rows by table.
        hidden: rows that no drop names, hidden because what they are about is not in the view, by table.
        dropped: table, reason, step, n.
        statuses: annotator, status, n: of the live annotations, only those that are not ok.
        unmade: status, n: of the live responses, those whose making failed: `failed`, or `refused` by the server's
            content filter.
        cost: one row: paid, cached, failed, prompt_tokens, completion_tokens, money, of all calls that were made.
        steps: every live step, in order.
    """

    commit: int
    counts: dict[str, int]
    hidden: dict[str, int]
    dropped: pl.DataFrame
    statuses: pl.DataFrame
    unmade: pl.DataFrame
    cost: pl.DataFrame
    steps: list[StepStatus]


def status(dataset: Dataset, *, pipeline: str | None = None) -> Status:
    """Count what a dataset holds.

    Args:
        dataset: which; one that is pinned to a commit is described as it was then.
        pipeline: only what this pipeline made, beside imports and labels.
    """
    view = dataset.view(pipeline=pipeline)
    tables = [table for table in CORE_TABLES if table not in ("drops", "token_scores")]
    frames = {table: view[table].collect() for table in tables}
    dropped = view.dropped.group_by("table", "reason", "step", maintain_order=True).len("n")
    hidden = {}
    for table in tables:
        undropped = view.undropped(table).select(pl.len()).collect().item()
        if undropped > frames[table].height:
            hidden[table] = undropped - frames[table].height
    not_ok = frames["annotations"].filter(pl.col("status") != "ok")
    return Status(
        commit=view.snapshot.number,
        counts={table: frame.height for table, frame in frames.items()},
        hidden=hidden,
        dropped=dropped,
        statuses=not_ok.group_by("annotator", "status", maintain_order=True).len("n"),
        unmade=_unmade(view),
        cost=total(costs(dataset, pipeline=pipeline)),
        steps=_steps(dataset, view, frames, pipeline),
    )


def _unmade(view: View) -> pl.DataFrame:
    errors = view.errors.with_columns(refused(view["calls"], view.errors["call_id"]).alias("refused"))
    status = pl.when("refused").then(pl.lit("refused")).otherwise(pl.lit("failed")).alias("status")
    return errors.group_by(status).len("n").sort("status")


def _steps(dataset: Dataset, view: View, frames: dict[str, pl.DataFrame], pipeline: str | None) -> list[StepStatus]:
    rows: dict[str, dict[str, int]] = {}
    for table, frame in frames.items():
        for step, count in frame.group_by("step").len().iter_rows():
            rows.setdefault(step, {})[table] = count
    for step, count in view.dropped.group_by("step").len().iter_rows():
        rows.setdefault(step, {})["drops"] = count
    snapshot = view.snapshot
    made = [
        StepStatus(snapshot.steps[step].kind, snapshot.steps[step].name, step, rows.get(step, {}))
        for step in snapshot.free_steps
    ]
    stale = _resting_on_nothing(frames)
    load_plugins()
    for key, plan in snapshot.plans.items():
        if pipeline not in (None, key[0]):
            continue
        for place, step in enumerate(plan.steps):
            notes = [_unfinished(dataset, snapshot, pipeline_key(*key), plan.steps[:place], step)]
            if step in stale:
                notes.append(f"{stale[step]:,} rows rest on judgements no longer live")
            made.append(StepStatus(key[0], name_of(step), step, rows.get(step, {}), "; ".join(filter(None, notes))))
    return made


def _unfinished(dataset: Dataset, snapshot: Snapshot, pipeline: str, earlier: Sequence[str], step: str) -> str:
    """What a run would still do: the groups whose input is not what the step had read."""
    record = snapshot.steps[step]
    if not record.reads:
        return ""
    narrows = STEPS[record.kind].narrows if record.kind in STEPS else None
    lineage = lineage_of(record, earlier, pipeline, snapshot, narrows, f"step {record.name!r}")
    view = View(dataset.path, snapshot, lineage, record.fields.get("view", "main"))
    kind = STEPS.get(record.kind)
    if kind is not None and issubclass(kind, GroupStep) and kind.partners:
        current: dict[str, str] = {}
        for piece in pieces(snapshot):
            current |= with_partners(digests(readable(piece.of(view), frozenset(record.reads))))
    else:
        current = digests(readable(view, frozenset(record.reads)), everything=record.scope == "dataset")
    last = last_runs(dataset, pipeline, step)
    if not last:
        return "not run yet" if current else ""
    if record.scope == "dataset":
        return "not finished" if work_for_whole(dataset, pipeline, step, current).todo else ""
    missing = sum(last.get(group) != digest for group, digest in current.items())
    return f"not finished: {len(current) - missing:,} of {len(current):,} prompts" if missing else ""


def _resting_on_nothing(frames: dict[str, pl.DataFrame]) -> dict[str, int]:
    """By step, the live preferences that name an annotation which is not live."""
    live = frames["annotations"].select(pl.col(KEYS["annotations"]).alias("annotation_ids"))
    return dict(
        frames["preferences"]
        .select("step", "preference_id", "annotation_ids")
        .explode("annotation_ids")
        .filter(pl.col("annotation_ids").is_not_null())
        .join(live, on="annotation_ids", how="anti")
        .unique("preference_id")
        .group_by("step")
        .len()
        .iter_rows()
    )
