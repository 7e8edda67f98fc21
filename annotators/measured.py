"""Annotations of many rows at once, for judges that compute on columns; ids are as `schema.annotation` makes them."""

from __future__ import annotations

from typing import Any

import polars as pl

from prefdata.operators.row_ids import annotation_ids, array_of, json_of, json_text
from prefdata.schema import now

SAID = {"id": pl.String(), "group_id": pl.String(), "prompt_id": pl.String(), "read": pl.String()}
"""What rows have beside `score` or `label`: `read` names what the value rests on besides the target."""


def annotations_of(
    rows: pl.DataFrame, *, target: str, protocol: str, annotator: str, aspect: str, source: str = "rule", key: Any
) -> pl.DataFrame:
    """A row of `annotations` for each of these; one without a value abstains.

    Args:
        rows: the columns of `SAID` (of `prompt_id` and `read` either may be absent), and `score` (a number) or
            `labels` (a list of texts).
        target: what `id` names: a key of `schema.TARGETS`.
        protocol: measure or label.
        annotator: who says so.
        aspect: under which aspect.
        source: rule or embedding.
        key: what else was asked: all that changes the value.
    """
    for name in ("prompt_id", "read"):
        if name not in rows.columns:
            rows = rows.with_columns(pl.lit(None, pl.String).alias(name))
    value = "labels" if "labels" in rows.columns else "score"
    valid = pl.col(value).is_not_null()
    if value == "score":
        valid &= pl.col("score").is_finite()  # a number that is none is no verdict
    made = rows.select(
        "group_id",
        "prompt_id",
        "read",
        pl.concat_list("id").alias("target_ids"),
        (pl.col("labels") if value == "labels" else pl.lit(None, pl.List(pl.String))).alias("labels"),
        (
            pl.when(valid).then(pl.concat_list(pl.col("score").cast(pl.Float64)))
            if value == "score"
            else pl.lit(None, pl.List(pl.Float64))
        ).alias("scores"),
        pl.when(valid).then(pl.lit("ok")).otherwise(pl.lit("abstain")).alias("status"),
    )
    said = {"target": target, "protocol": protocol, "annotator": annotator, "aspect": aspect}
    ids = annotation_ids(
        made,
        target=target,
        annotator=annotator,
        protocol=json_text(protocol),
        aspect=json_text(aspect),
        key=array_of(json_text(key), json_of(pl.col("read"))),
    )
    constant = {name: pl.lit(each) for name, each in {**said, "source": source, "created_at": now()}.items()}
    numbers = {"replicate": pl.lit(0, pl.Int32), "revision": pl.lit(1, pl.Int32)}
    return made.drop("read").with_columns(ids.alias("annotation_id"), **constant, **numbers)
