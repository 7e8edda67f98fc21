"""Consensus by the weighted mean of scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.operators.aggregate.base import FloatArray, IntArray, ScoredAggregate, weight_of
from prefdata.operators.evidence import ORDERING, directed
from prefdata.operators.scales import Normalise, check_alike, normalised
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context


@step("aggregate.mean")
class Mean(ScoredAggregate):
    """The weighted mean of each response's scores, per prompt and aspect.

    Of comparisons it is the share of wins. Scores on unlike scales are refused (see `scales.check_alike`) unless
    `normalise` says how to treat them. A response with fewer than `min_valid` scores gets none.

    With `into` it is one mean over all aspects, of those that apply to the response: an aspect that a judge calls not
    applicable has no score, and enters no mean.
    """

    normalise: Normalise | None = Field(
        None,
        description="Within annotator and prompt: zscore, rank, minmax. none: take the scores as they are, whatever "
        "their scales. Unless given, unlike scales are refused.",
    )
    into: str | None = Field(
        None, min_length=1, description="One mean of all aspects together, under this name; one for each otherwise."
    )

    def asked(self) -> list[Any]:
        """See `Aggregate.asked`. Without `into` a mean is named as it was before there was any."""
        kind, version, settings = super().asked()
        if self.into is None:
            settings.pop("into")
        return [kind, version, settings]

    def consensus(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """See `ScoredAggregate.consensus`."""
        if self.into is not None:
            rows = directed(rows.filter(pl.col("protocol").is_in(ORDERING)), self.direction, self.kind)
            # A measure whose direction was said is a score like any other from here on.
            protocol = pl.col("protocol").replace("measure", "score")
            rows = rows.with_columns(aspect=pl.lit(self.into), protocol=protocol)
        return super().consensus(rows, context)

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """See `ScoredAggregate.scored`. The confidence is null: a mean states none."""
        entries = valid.select(
            "problem", "aspect", "annotator", "protocol", "criterion_id", target="target_ids", score="scores"
        ).explode("target", "score")
        if self.normalise is None:
            check_alike(entries, self.kind)
        entries = entries.sort("problem", "target").with_columns(node=pl.struct("problem", "target").rle_id())
        node, score = entries["node"].to_numpy().astype(np.int64), entries["score"].to_numpy()
        if self.normalise not in (None, "none"):
            voice = entries.select(pl.struct("problem", "annotator", "protocol", "criterion_id").rank("dense"))
            score = normalised(voice.to_series().to_numpy().astype(np.int64), node, score, self.normalise)
        silent = np.isnan(score)
        if silent.any():
            context.log(f"{int(silent.sum())} scores left out: the only response their annotator scored")
        w = entries.select(weight_of(weight)).to_series().to_numpy()
        mean, count = _means(node[~silent], score[~silent], w[~silent], int(node.max(initial=-1)) + 1)
        scored = entries.filter(pl.col("node").is_first_distinct()).select("problem", "target")
        scored = scored.with_columns(score=pl.Series(mean), enough=pl.Series(count >= self.min_valid)).select(
            "problem", "target", pl.when("enough").then("score").alias("score")
        )
        return scored, pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})


def _means(node: IntArray, score: FloatArray, weight: FloatArray, size: int) -> tuple[FloatArray, IntArray]:
    """Weighted mean and count by node. Equal scores in another order give the same bits: they are sorted first."""
    order = np.lexsort((weight, score, node))
    node, score, weight = node[order], score[order], weight[order]
    count = np.bincount(node, minlength=size)
    total = np.bincount(node, weights=weight, minlength=size)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, node, score)
    np.maximum.at(high, node, score)
    with np.errstate(invalid="ignore", divide="ignore"):
        # 12 decimals: means that are equal on paper (0.1, 0.1, 0.4 and 3 x 0.2) must not differ in the last bit.
        mean = np.round(np.bincount(node, weights=weight * score, minlength=size) / total, 12) + 0.0
    return np.where(low == high, low, mean), count
