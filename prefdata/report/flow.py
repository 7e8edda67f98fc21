"""What came in, what was dropped where and why, and what is left; and what the model calls cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from prefdata.dataset import Snapshot, View
from prefdata.report.numbers import Entry
from prefdata.report.verdicts import KEY
from prefdata.schema import KEYS

TABLES = ("prompts", "responses", "annotations", "preferences")

MOST_TAGS = 100
"""So many tags are counted, the most frequent first."""

_Tables = Mapping[str, pl.LazyFrame]


def flow(view: _Tables, kept: pl.DataFrame, pairs: pl.DataFrame, snapshot: Snapshot) -> Entry:
    """The way of the rows through the dataset.

    Args:
        view: the live tables. Only of a `View` is it known what its drops hide; of a plain mapping what came in, what
            was dropped and what is hidden are None.
        kept: the annotators (KEY) that are named; the others are summed up under the name null.
        pairs: see `prefdata.report.pairs.expanded`.
        snapshot: names the steps.

    Returns:
        tables: by table came_in, dropped (a drop names the row), hidden (what it is about was dropped), live, and
        loose (not in the view for want of something that no drop names: an edited pipeline no longer makes it).
        prompts: by_source, by_tag. responses, annotations, preferences: lists of counts. shortened: annotations that
        lost some of their targets. dropped: step, table, reason, n.
    """
    whole = without_drops(view)
    frames = {table: (_collected(whole, table), _collected(view, table)) for table in TABLES}
    drops = view.dropped if isinstance(view, View) else None
    tables = {}
    for table, (before, after) in frames.items():
        entry: Entry = {"came_in": None, "dropped": None, "hidden": None, "loose": None, "live": after.height}
        if isinstance(view, View) and drops is not None and whole is not None:
            named = drops.filter(pl.col("table") == table).select(pl.col("id").alias(KEYS[table])).unique()
            dropped = before.join(named, on=KEYS[table], how="semi").height
            loose = whole.undropped(table).select(pl.len()).collect().item() - before.height
            hidden = before.height - dropped - after.height
            entry = {**entry, "came_in": before.height, "dropped": dropped, "hidden": hidden, "loose": loose}
        tables[table] = entry
    names = step_names(snapshot)
    errors = view.errors.height if isinstance(view, View) else None
    return {
        "tables": tables,
        "prompts": {
            "groups": frames["prompts"][1]["group_id"].n_unique(),
            "by_source": _counts(frames["prompts"], ["source"]),
            "by_tag": _counts(_each_tag(frames["prompts"]), ["tag"])[:MOST_TAGS],
        },
        "responses": {"errors": errors, "by_model": _counts(frames["responses"], ["model", "finish_reason"])},
        "annotations": _annotations(frames["annotations"], kept, names),
        "preferences": _preferences(frames["preferences"][1], pairs, names),
        "shortened": _shortened(*frames["annotations"]) if whole is not None else None,
        "dropped": _dropped(drops, names),
    }


def without_drops(view: _Tables) -> View | None:
    """The same view as it would be without any drop; None where it cannot be known."""
    if not isinstance(view, View):
        return None
    if view.dropped.is_empty():
        return view
    lineage = replace(view.lineage, narrow={**view.lineage.narrow, "drops": frozenset()})
    return View(view.root, view.snapshot, lineage, view.name, view.shard)


def step_names(snapshot: Snapshot) -> dict[str, str]:
    """What each step is called, by fingerprint."""
    return {step: record.name for step, record in snapshot.steps.items()}


_READ = {
    "prompts": ["prompt_id", "group_id", "step", "source", "tags"],
    "responses": ["response_id", "step", "model", "finish_reason"],
    "annotations": ["annotation_id", "step", *KEY, "status", "target_ids"],
    "preferences": ["preference_id", "step", "aspect", "kind", "response_ids"],
}


def _collected(view: _Tables | None, table: str) -> pl.DataFrame:
    if view is None:
        return pl.DataFrame(schema=dict.fromkeys(_READ[table], pl.String))
    rows = view[table].select(_READ[table])
    if table == "annotations":
        rows = rows.with_columns(pl.col("aspect").fill_null("overall"), targets=pl.col("target_ids").list.len())
        rows = rows.drop("target_ids")
    return rows.collect()


def _counts(frames: tuple[pl.DataFrame, pl.DataFrame], by: Sequence[str]) -> list[Entry]:
    """Rows that came in and rows that are live, by columns; the most frequent first. came_in is None if not known."""
    before, after = frames
    if before.is_empty():
        before = after.clear()
    came = before.group_by(by).agg(came_in=pl.len())
    live = after.group_by(by).agg(live=pl.len())
    both = came.join(live, on=by, how="full", coalesce=True, nulls_equal=True)
    filled = [pl.col("live").fill_null(0)]
    if not before.is_empty():
        filled.append(pl.col("came_in").fill_null(0))
    order = both.with_columns(filled).sort(["live", *by], descending=[True, *(False for _ in by)], nulls_last=True)
    return order.select(*by, "came_in", "live").to_dicts()


def _each_tag(frames: tuple[pl.DataFrame, pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    before, after = (
        frame.select(tag=pl.col("tags")).explode("tag").drop_nulls()
        if frame.schema["tags"] != pl.String
        else pl.DataFrame(schema={"tag": pl.String})
        for frame in frames
    )
    return before, after


def _annotations(
    frames: tuple[pl.DataFrame, pl.DataFrame], kept: pl.DataFrame, names: Mapping[str, str]
) -> list[Entry]:
    known = kept.select("annotator").unique().with_columns(_named=pl.lit(True))
    by = ["step", "annotator", "source", "protocol", "aspect", "status"]
    named = []
    for frame in frames:
        marked = frame.join(known, on="annotator", how="left", maintain_order="left")
        named.append(marked.with_columns(annotator=pl.when("_named").then("annotator")))
    return [_step_named(entry, names) for entry in _counts((named[0], named[1]), by)]


def _preferences(rows: pl.DataFrame, pairs: pl.DataFrame, names: Mapping[str, str]) -> list[Entry]:
    by = ["step", "aspect", "kind"]
    stated = pairs.group_by("preference_id").agg(pairs=(~pl.col("tie")).sum(), ties=pl.col("tie").sum())
    counted = (
        rows.join(stated, on="preference_id", how="left")
        .group_by(by)
        .agg(
            lists=pl.len(),
            responses=pl.col("response_ids").list.len().sum(),
            pairs=pl.col("pairs").sum(),
            ties=pl.col("ties").sum(),
        )
        .sort(by, nulls_last=True)
    )
    return [_step_named(entry, names) for entry in counted.to_dicts()]


def _shortened(before: pl.DataFrame, after: pl.DataFrame) -> int:
    both = before.select("annotation_id", "targets").join(
        after.select("annotation_id", left="targets"), on="annotation_id"
    )
    return both.filter(pl.col("left") < pl.col("targets")).height


def _dropped(drops: pl.DataFrame | None, names: Mapping[str, str]) -> list[Entry]:
    if drops is None:
        return []
    by = ["step", "table", "reason"]
    counted = drops.group_by(by).agg(n=pl.len()).sort(["n", *by], descending=[True, False, False, False])
    return [_step_named(entry, names) for entry in counted.to_dicts()]


def _step_named(entry: Entry, names: Mapping[str, str]) -> Entry:
    return {"step": entry["step"], "name": names.get(entry["step"], entry["step"]), **entry}
