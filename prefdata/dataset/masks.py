"""What is not in the view counts as dropped: prompts, responses, annotations and preferences that rest on it follow.

Only the lists that a missing target touches are rebuilt; every other row stays a lazy scan.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from prefdata.schema import TARGETS

ORDERING = ("compare", "rank", "choose")
"""Protocols that say nothing once they are left with one target."""


def known(rows: pl.LazyFrame, column: str, ids: pl.DataFrame, *, null: bool) -> pl.LazyFrame:
    """The rows whose `column` names one of `ids` (a frame of one column), in their order, with null rows or without."""
    marked = rows.join(
        ids.lazy().select(pl.col(ids.columns[0]).alias(column), pl.lit(True).alias("_known")),
        on=column,
        how="left",
        maintain_order="left",
    )
    keep = pl.col("_known") | pl.col(column).is_null() if null else pl.col("_known")
    return marked.filter(keep).drop("_known")


def with_ancestors(links: pl.DataFrame) -> pl.DataFrame:
    """The ids whose whole chain of parents is there.

    Args:
        links: columns `id` and `parent` (null: none).

    Returns:
        One column, `id`.
    """
    present = links
    while True:
        orphan = (
            present.filter(pl.col("parent").is_not_null())
            .join(present.select(pl.col("id").alias("parent")), on="parent", how="anti")
            .select("id")
        )
        if orphan.is_empty():
            return present.select("id")
        present = present.join(orphan, on="id", how="anti")


def mask_preferences(rows: pl.LazyFrame, prompts: pl.DataFrame, responses: pl.DataFrame) -> pl.LazyFrame:
    """Preferences whose context and whose responses are all in the view."""
    rows = known(rows, "prompt_id", prompts, null=True)
    broken = (
        rows.select("preference_id", pl.col("response_ids").alias("response_id"))
        .explode("response_id")
        .join(responses.lazy(), on="response_id", how="anti")
        .select("preference_id")
        .unique()
        .collect()
    )
    return rows.join(broken.lazy(), on="preference_id", how="anti", maintain_order="left")


def mask_annotations(rows: pl.LazyFrame, present: Mapping[str, pl.DataFrame], *, nested: bool = True) -> pl.LazyFrame:
    """Annotations with the targets that are left in the view.

    A ranking of four that loses one stays a ranking of three; a comparison left with one target is hidden, and so is a
    choice whose chosen one is gone.

    Args:
        rows: rows of `annotations`, one for each id.
        present: for prompts, responses and preferences the ids in the view, each a frame of one column.
        nested: whether there may be annotations about annotations.
    """
    rows = known(rows, "prompt_id", present["prompts"], null=True)
    about = {target: table for target, table in TARGETS.items() if table != "annotations"}
    named = rows.select("annotation_id", "target", "target_ids", "protocol").collect()
    missing = pl.concat(
        named.filter(pl.col("target") == target)
        .explode("target_ids")
        .join(present[table].select(pl.nth(0).alias("target_ids")), on="target_ids", how="anti")
        for target, table in about.items()
    )
    del named
    if not missing.is_empty():
        touched = missing.select("annotation_id").unique()
        shorter = missing.filter(pl.col("protocol") != "compare")  # a comparison that loses a target is gone
        untouched = rows.join(touched.lazy(), on="annotation_id", how="anti", maintain_order="left")
        if shorter.is_empty():
            rows = untouched
        else:
            columns = rows.collect_schema().names()
            lists = rows.join(shorter.select("annotation_id").unique().lazy(), on="annotation_id", how="semi")
            rebuilt = _without(lists.collect(), shorter.select("annotation_id", "target_ids"))
            rows = pl.concat([untouched, rebuilt.select(columns).lazy()])
    return _about_annotations(rows) if nested else rows


def _without(rows: pl.DataFrame, missing: pl.DataFrame) -> pl.DataFrame:
    """`rows` with the targets in `missing` (annotation_id, target_ids) taken out of every aligned list."""
    positions = pl.int_ranges(pl.col("target_ids").list.len(), dtype=pl.Int32)
    aligned = ["scores", "parts"]
    nothing = pl.col("target_ids").list.eval(pl.lit(None))
    kept = (
        rows.select(
            "annotation_id",
            "target_ids",
            positions.alias("_position"),
            *(pl.col(name).fill_null(nothing.cast(rows.schema[name])) for name in aligned),
        )
        .explode("target_ids", "_position", *aligned)
        .join(missing, on=["annotation_id", "target_ids"], how="anti", maintain_order="left")
        .group_by("annotation_id", maintain_order=True)
        .agg("target_ids", "_position", *aligned)
    )
    was_null = rows.select("annotation_id", *(pl.col(name).is_null().alias(f"_no_{name}") for name in aligned))
    rest = rows.drop("target_ids", *aligned)
    left = rest.join(kept, on="annotation_id", how="inner").join(was_null, on="annotation_id")
    left = left.with_columns(pl.when(f"_no_{name}").then(None).otherwise(pl.col(name)).alias(name) for name in aligned)
    says = (
        pl.when(pl.col("protocol").is_in(ORDERING))
        .then(pl.col("target_ids").list.len() >= 2)
        .otherwise(pl.col("target_ids").list.len() >= 1)
    )
    chosen_gone = (pl.col("protocol") == "choose") & (pl.col("scores").list.n_unique() < 2)
    return _renumber_spans(left.filter(says & ~chosen_gone.fill_null(False)))


def _renumber_spans(rows: pl.DataFrame) -> pl.DataFrame:
    """Spans name their target by its place in the list; places have moved."""
    if rows["spans"].null_count() == rows.height:
        return rows
    spans = []
    for old, places in rows.select("spans", "_position").iter_rows():
        to = {-1: -1, **{place: new for new, place in enumerate(places)}}
        spans.append(None if old is None else [{**s, "target": to[s["target"]]} for s in old if s["target"] in to])
    return rows.with_columns(pl.Series("spans", spans, dtype=rows.schema["spans"]))


def _about_annotations(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Hide annotations about annotations that are not there, and then those about these, to any depth."""
    about = (
        rows.filter(pl.col("target") == "annotation")
        .select(pl.col("annotation_id").alias("id"), pl.col("target_ids").alias("of"))
        .explode("of")
        .collect()
    )
    if about.is_empty():
        return rows
    present = rows.select(pl.col("annotation_id").alias("of")).collect()
    gone = pl.DataFrame(schema={"annotation_id": pl.String})
    while True:
        orphan = about.join(present, on="of", how="anti").select(pl.col("id").alias("annotation_id")).unique()
        orphan = orphan.join(gone, on="annotation_id", how="anti")
        if orphan.is_empty():
            return rows.join(gone.lazy(), on="annotation_id", how="anti", maintain_order="left")
        gone = pl.concat([gone, orphan])
        present = present.join(orphan.rename({"annotation_id": "of"}), on="of", how="anti")
