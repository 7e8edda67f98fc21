"""Annotations that reach across groups: their targets answer prompts of different groups."""

from __future__ import annotations

import polars as pl


def across(annotations: pl.DataFrame, responses: pl.DataFrame) -> pl.DataFrame:
    """The ids of the annotations that name responses of another group: column annotation_id.

    Only annotations without a prompt of their own can. A response that is not among `responses` counts as another
    group's, so that nothing depends on whether that group is there.
    """
    named = annotations.filter(pl.col("prompt_id").is_null() & (pl.col("target") == "response"))
    if named.is_empty():
        return named.select("annotation_id")
    own = responses.select("response_id", "group_id").with_columns(own=pl.lit(True))
    targets = named.select("annotation_id", "group_id", response_id="target_ids").explode("response_id")
    met = targets.join(own, on=["response_id", "group_id"], how="left", maintain_order="left")
    return met.filter(pl.col("own").is_null()).select("annotation_id").unique(maintain_order=True)
