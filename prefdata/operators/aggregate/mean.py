"""Consensus by a middle of scores: the weighted mean, the median, the mean without the extremes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.operators.aggregate.base import FloatArray, IntArray, ScoredAggregate, WeightedAggregate, weight_of
from prefdata.operators.evidence import ORDERING, directed
from prefdata.operators.scales import Normalise, check_alike, normalised
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context

_SLACK = 1e-9
"""Of the weight on one side of a cut: three tenths are three tenths, whatever binary fractions say."""

_TOGETHER = 64
"""Responses with up to so many scores are summed all at once."""


class Centre(WeightedAggregate, ScoredAggregate):
    """What rules share that give each response a middle of its scores."""

    later: ClassVar[frozenset[str]] = frozenset({"into"})

    normalise: Normalise | None = Field(
        None,
        description="Within annotator and prompt: zscore, rank, minmax. none: take the scores as they are, whatever "
        "their scales. Unless given, unlike scales are refused.",
    )
    into: str | None = Field(
        None, min_length=1, description="One mean of all aspects together, under this name; one for each otherwise."
    )

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
        """See `ScoredAggregate.scored`. The confidence is null: a middle states none."""
        entries = entries_of(valid, weight, self.normalise, self.kind, context)
        node, score, w = (entries[name].to_numpy() for name in ("node", "score", "weight"))
        silent = np.isnan(score)
        size = int(node.max(initial=-1)) + 1
        # Equal scores in another order give the same bits: they are sorted first.
        order = np.flatnonzero(~silent)[np.lexsort((w[~silent], score[~silent], node[~silent]))]
        middle = self.middle(node[order], score[order], w[order], size)
        enough = np.bincount(node[order], minlength=size) >= self.min_valid
        scored = entries.filter(pl.col("node").is_first_distinct()).select("problem", "target")
        scored = scored.with_columns(score=pl.Series(middle), enough=pl.Series(enough)).select(
            "problem", "target", pl.when("enough").then("score").alias("score")
        )
        return scored, pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})

    def middle(self, node: IntArray, score: FloatArray, weight: FloatArray, size: int) -> FloatArray:
        """The middle of each response's scores, NaN where it has none.

        Args:
            node: [n] the response, ascending.
            score: [n] ascending within a response.
            weight: [n] positive.
            size: how many responses.
        """
        raise NotImplementedError


@step("aggregate.mean")
class Mean(Centre):
    """The weighted mean of each response's scores, per prompt and aspect.

    Of comparisons it is the share of wins. Scores on unlike scales are refused (see `scales.check_alike`) unless
    `normalise` says how to treat them. A response with fewer than `min_valid` scores gets none.

    With `into` it is one mean over all aspects, of those that apply to the response: an aspect that a judge calls not
    applicable has no score, and enters no mean. Where the aspects weigh differently there is `aggregate.direction`.
    """

    def middle(self, node: IntArray, score: FloatArray, weight: FloatArray, size: int) -> FloatArray:
        """See `Centre.middle`."""
        return means(node, score, weight, size)


@step("aggregate.median")
class Median(Centre):
    """The weighted median of each response's scores, per prompt and aspect: one wild annotator does not move it.

    The score that half of the weight does not exceed; where exactly half of it lies below, the mean of the scores on
    either side. Scales and `into` as in `aggregate.mean`.
    """

    def middle(self, node: IntArray, score: FloatArray, weight: FloatArray, size: int) -> FloatArray:
        """See `Centre.middle`."""
        total, upto = _weights_upto(node, weight, size)
        half = total[node] / 2
        below, above = upto >= half * (1 - _SLACK), upto > half * (1 + _SLACK)
        result = np.full((2, size), np.nan)
        for which, reached in enumerate((below, above)):
            places = np.flatnonzero(reached)[::-1]  # the first of each response is written last
            result[which, node[places]] = score[places]
        lower, upper = result
        middle: FloatArray = np.where(lower == upper, lower, np.round((lower + upper) / 2, 12) + 0.0)
        return middle


@step("aggregate.trimmed_mean")
class TrimmedMean(Centre):
    """The mean of each response's scores without the lowest and the highest, per prompt and aspect.

    `share` of the weight is cut on each side; a score on the edge counts in part, so that a vote of everybody twice
    changes nothing. With 5 equal votes a share of 0.2 leaves out one on each side. Scales and `into` as in
    `aggregate.mean`.
    """

    share: float = Field(0.2, ge=0, lt=0.5, description="Of the weight, cut on each side.")

    def middle(self, node: IntArray, score: FloatArray, weight: FloatArray, size: int) -> FloatArray:
        """See `Centre.middle`."""
        total, upto = _weights_upto(node, weight, size)
        low, high = self.share * total[node], (1 - self.share) * total[node]
        left = np.minimum(upto, high) - np.maximum(upto - weight, low)
        kept = np.where(left > _SLACK * total[node], left, 0.0)
        inside = kept > 0
        return means(node[inside], score[inside], kept[inside], size)


def entries_of(
    valid: pl.DataFrame, weight: Mapping[str, float], normalise: Normalise | None, where: str, context: Context
) -> pl.DataFrame:
    """Scores one by one, on one scale.

    Args:
        valid: annotations with scores, numbered by `problem`.
        weight: by annotator.
        normalise: see `Mean`; None: unlike scales are refused.
        where: the step, for the message.
        context: is told what was left out.

    Returns:
        problem, aspect, annotator, criterion_id, target, node (a number for each problem and target, ascending from
        0), score (NaN: says nothing once normalised) and weight.

    Raises:
        DataError: see `scales.check_alike`.
    """
    columns = ["problem", "aspect", "annotator", "protocol", "criterion_id"]
    entries = valid.select(*columns, target="target_ids", score="scores").explode("target", "score")
    if normalise is None:
        check_alike(entries, where)
    entries = entries.sort("problem", "target").with_columns(
        node=pl.struct("problem", "target").rle_id().cast(pl.Int64), weight=weight_of(weight)
    )
    if normalise in (None, "none"):
        return entries
    voice = entries.select(pl.struct("problem", "aspect", "annotator", "protocol", "criterion_id").rank("dense"))
    unit = voice.to_series().to_numpy().astype(np.int64)
    score = normalised(unit, entries["node"].to_numpy(), entries["score"].to_numpy(), normalise)
    silent = int(np.isnan(score).sum())
    if silent:
        context.log(f"{silent} scores left out: the only response their annotator scored")
    return entries.with_columns(score=pl.Series(score))


def means(node: IntArray, score: FloatArray, weight: FloatArray, size: int) -> FloatArray:
    """Weighted mean by node, NaN where there is none. Sorted scores give the same bits in whatever order they came."""
    total = np.bincount(node, weights=weight, minlength=size)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, node, score)
    np.maximum.at(high, node, score)
    with np.errstate(invalid="ignore", divide="ignore"):
        # 12 decimals: means that are equal on paper (0.1, 0.1, 0.4 and 3 x 0.2) must not differ in the last bit.
        mean = np.round(np.bincount(node, weights=weight * score, minlength=size) / total, 12) + 0.0
    return np.where(low == high, low, mean)


def _weights_upto(node: IntArray, weight: FloatArray, size: int) -> tuple[FloatArray, FloatArray]:
    """[size] the weight of each response's scores; [n] the weight up to each score, itself included."""
    total = np.bincount(node, weights=weight, minlength=size).astype(np.float64)
    counts = np.bincount(node, minlength=size)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    # Summed within each response: a running sum over all of them would let the others move a last bit.
    upto = weight.copy()
    for rank in range(1, min(int(counts.max(initial=0)), _TOGETHER)):
        here = starts[(counts > rank) & (counts <= _TOGETHER)] + rank
        upto[here] += upto[here - 1]
    for start, count in zip(starts[counts > _TOGETHER], counts[counts > _TOGETHER], strict=True):
        upto[start : start + count] = np.cumsum(weight[start : start + count])
    return total, upto
