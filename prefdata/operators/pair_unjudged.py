"""What pairing without annotations shares: which responses count, and the rows it makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from prefdata.dataset.parts import frame_of
from prefdata.operators.row_ids import array_of, json_of, json_text, row_ids
from prefdata.operators.same_text import content

COLUMNS = ("prompt_id", "text", "model", "params", "sample_index", "finish_reason", "media", "parent_id", "step")
"""The columns of `responses` that pairing without annotations looks at."""


def usable(responses: pl.DataFrame) -> pl.DataFrame:
    """The responses that say something, by prompt and draw, with their `content` in the place of text and media."""
    said = pl.col("text").is_not_null() | pl.col("media").is_not_null()
    return (
        responses.filter(said & (pl.col("finish_reason") != "error"))
        .with_columns(content=content(responses))
        .drop("text", "media")
        .sort("group_id", "prompt_id", "sample_index", "response_id")
    )


def params_of(text: str | None) -> Mapping[str, Any]:
    """The parameters of a response; none where they cannot be read, as those of an import may not."""
    try:
        params = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return params if isinstance(params, Mapping) else {}


def stated(lists: pl.DataFrame, rule: str) -> pl.DataFrame:
    """Preferences that rest on how their responses were made: scores are ranks, the last has 1.

    Args:
        lists: group_id, prompt_id and response_ids, best first, of each.
        rule: by which they were made; part of the ids.

    Returns:
        Rows of `preferences`, every column, named as `schema.preference` names them with `key=rule`.
    """
    order = ("group_id", "prompt_id", pl.col("response_ids").list.join(" "))
    rows = (
        lists.select("group_id", "prompt_id", "response_ids")
        .sort(order)
        .with_columns(
            scores=pl.int_ranges(pl.col("response_ids").list.len(), 0, -1).cast(pl.List(pl.Float64)),
            weight=pl.lit(1.0),
            aspect=pl.lit("overall"),
            kind=pl.lit("conditional"),
            annotation_ids=pl.lit([], dtype=pl.List(pl.String)),
        )
    )
    ids = row_ids(
        rows,
        "preference",
        json_of(pl.col("prompt_id")),
        json_of(pl.col("response_ids")),
        json_text("conditional"),
        json_text("overall"),
        json_text([]),
        array_of(*[json_text(None)] * 5),
        json_text(rule),
    )
    return frame_of("preferences", rows.with_columns(ids.alias("preference_id")))
