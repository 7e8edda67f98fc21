"""`pair` in a plan: how many preferences there can be, while the answers that decide it are not there yet."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from prefdata.operators.pair import Pair
from prefdata.pipeline.step import Context
from prefdata.schema import Row

_NUDGE = 1e-6


class PlannedPair(Pair):
    """A `pair` that finds no ties, no missing scores, no equal texts: it makes as many preferences as a run ever could.

    Judges of pairs (rationales, pair critics) are asked once for each pair and each way round, so that a plan that runs
    this one asks for no less than a run does.
    """

    @classmethod
    def of(cls, step: Pair) -> PlannedPair:
        """The same step, with nothing left out for its gap."""
        return cls.model_construct(**{**dict(step), "min_gap": 0.0})

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The preferences, whatever the scores: those that are missing are made up, and none are equal."""
        responses = tables["responses"].with_columns(text=pl.col("response_id"))
        return super().run({**tables, "annotations": scored(tables["annotations"]), "responses": responses}, context)


def scored(annotations: pl.DataFrame) -> pl.DataFrame:
    """The annotations, each with scores that are never equal.

    What has none gets some: by its place in the list as it was shown, or among the prompt's responses where one is
    scored alone. The voices of a prompt (annotator, aspect, criterion, replicate) take turns: every second one states
    the reverse, and every two begin at another place, so that they agree on as few pairs as can be.
    """
    voice = pl.concat_str(
        [pl.col(name).cast(pl.String).fill_null("") for name in ("aspect", "annotator", "criterion_id", "replicate")],
        separator="\x1f",
    )
    rows = annotations.with_row_index("row").with_columns(
        turn=voice.rank("dense").over("prompt_id") - 1, alone=pl.col("target_ids").list.len() == 1
    )
    nothing = pl.col("target_ids").list.eval(pl.lit(None, dtype=pl.Float64).repeat_by(pl.len()).explode())
    each = (
        rows.filter(pl.col("target_ids").list.len() > 0)
        .select(
            *("row", "prompt_id", "turn", "alone", "target_ids"),
            place=pl.int_ranges(pl.col("target_ids").list.len()),
            score=pl.coalesce("scores", nothing),
        )
        .explode("target_ids", "place", "score")
    )
    among = pl.col("target_ids").rank("dense").over("prompt_id", "alone").cast(pl.Int64) - 1
    each = each.with_columns(
        place=pl.when("alone").then(among).otherwise("place"),
        size=pl.when("alone")
        .then(pl.col("target_ids").n_unique().over("prompt_id", "alone"))
        .otherwise(pl.len().over("row"))
        .cast(pl.Int64),
        turn=pl.col("turn").cast(pl.Int64),
    )
    turned = (pl.col("place") + pl.col("turn") // 2) % pl.col("size")
    turned = pl.when(pl.col("turn") % 2 == 1).then(pl.col("size") - 1 - turned).otherwise(turned)
    made = each.with_columns(score=pl.col("score").fill_null(0.0) + _NUDGE * turned)
    lists = made.group_by("row", maintain_order=True).agg(scores="score")
    kept = rows.drop("scores", "turn", "alone").join(lists, on="row", how="left", maintain_order="left")
    return kept.drop("row").with_columns(status=pl.lit("ok"))
