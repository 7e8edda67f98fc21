"""Preferences with their texts, as a person or a notebook wants to see them."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import polars as pl

from prefdata.render import render, transcript


def lists(view: Mapping[str, pl.LazyFrame]) -> pl.DataFrame:
    """One row for each live preference.

    Returns:
        preference_id, group_id, aspect, annotator, prompt (as plain text), responses (list of texts, best first),
        scores, models.
    """
    preferences = view["preferences"].collect()
    prompts = {
        row["prompt_id"]: transcript(render(row))
        for row in view["prompts"].select("prompt_id", "messages", "condition", "context").collect().to_dicts()
    }
    written = view["responses"].select(pl.col("response_id").alias("response_ids"), "text", "model").collect()
    joined = (
        preferences.select("preference_id", "response_ids")
        .explode("response_ids")
        .join(written, on="response_ids", how="left", maintain_order="left")
        .group_by("preference_id", maintain_order=True)
        .agg(pl.col("text").alias("responses"), pl.col("model").alias("models"))
    )
    return (
        preferences.select("preference_id", "group_id", "prompt_id", "aspect", "annotator", "scores")
        .join(joined, on="preference_id", how="left", maintain_order="left")
        .with_columns(pl.col("prompt_id").replace_strict(prompts, default=None, return_dtype=pl.String).alias("prompt"))
        .select("preference_id", "group_id", "aspect", "annotator", "prompt", "responses", "scores", "models")
    )


def pairs(view: Mapping[str, pl.LazyFrame]) -> pl.DataFrame:
    """One row for each two responses of a list whose scores differ.

    Returns:
        preference_id, group_id, aspect, annotator, prompt, chosen, rejected, score_chosen, score_rejected,
        model_chosen, model_rejected.
    """
    rows = lists(view).filter(pl.col("scores").is_not_null())
    keep = ["preference_id", "group_id", "aspect", "annotator", "prompt"]
    places = pl.int_ranges(pl.col("scores").list.len())
    side = rows.select(*keep, "responses", "scores", "models", places.alias("place")).explode(
        "responses", "scores", "models", "place"
    )
    chosen = side.rename({"responses": "chosen", "scores": "score_chosen", "models": "model_chosen"})
    rejected = side.select(
        "preference_id",
        pl.col("responses").alias("rejected"),
        pl.col("scores").alias("score_rejected"),
        pl.col("models").alias("model_rejected"),
        pl.col("place").alias("_rejected"),
    )
    return (
        chosen.join(rejected, on="preference_id", how="inner", maintain_order="left_right")
        .filter((pl.col("place") < pl.col("_rejected")) & (pl.col("score_chosen") > pl.col("score_rejected")))
        .select(*keep, "chosen", "rejected", "score_chosen", "score_rejected", "model_chosen", "model_rejected")
    )


def html(name: str, commit: int, counts: Mapping[str, int], shown: pl.DataFrame) -> str:
    """A small page for a notebook. Texts are escaped: responses come from outside."""
    cells = "".join(f"<th>{escape(table)}</th>" for table in counts)
    numbers = "".join(f"<td>{count:,}</td>" for count in counts.values())
    body = "".join(
        "<tr>"
        + "".join(f"<td>{escape(str(row[key])[:300])}</td>" for key in ("prompt", "chosen", "rejected"))
        + "</tr>"
        for row in shown.to_dicts()
    )
    examples = f"<table><tr><th>prompt</th><th>chosen</th><th>rejected</th></tr>{body}</table>" if body else ""
    return f"<b>{escape(name)}</b>, commit {commit}<table><tr>{cells}</tr><tr>{numbers}</tr></table>{examples}"
