"""Consensus of the ratings that agree most: the stray ones are left out before the mean is taken."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.operators.aggregate.base import FloatArray, IntArray, ScoredAggregate
from prefdata.operators.aggregate.mean import entries_of
from prefdata.operators.scales import Normalise
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context

_SLACK = 1e-9
"""Distances and spreads that are equal on paper are."""


@step("aggregate.agreeing")
class Agreeing(ScoredAggregate):
    """The mean of the `k` ratings of a response that lie closest together, per prompt and aspect.

    Of all sets of `k` ratings the one with the smallest sum of pairwise distances; of several such sets the one with
    the higher median, then with the higher mean (so of 0, 3, 3, 4, 4 it is 3, 4, 4). A response with fewer ratings
    keeps all that it has. The confidence is 1 / (1 + spread), where the spread is the range of what was kept: 1 where
    they are equal. One with a spread above `max_spread` gets no verdict. Each response is a row of its own.

    As HelpSteer2 (Wang et al., 2024) aggregates three to five ratings of each attribute; the rule for ties is ours.
    """

    k: int = Field(3, ge=1, description="How many ratings are kept of each response.")
    rounded: bool = Field(False, description="Round the mean to a whole number, halves upwards.")
    max_spread: float | None = Field(
        None, ge=0, description="Abstain where the kept ratings range over more than this."
    )
    normalise: Normalise | None = Field(
        None,
        description="Within annotator and prompt: zscore, rank, minmax. none: take the scores as they are, whatever "
        "their scales. Unless given, unlike scales are refused.",
    )

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """See `ScoredAggregate.scored`."""
        entries = entries_of(valid, weight, self.normalise, self.kind, context)
        given = entries.filter(pl.col("score").is_not_nan()).sort("node", "score")
        size = entries["node"].n_unique()
        mean, spread = most_agreeing(given["node"].to_numpy(), given["score"].to_numpy(), self.k, size)
        count = np.bincount(given["node"].to_numpy(), minlength=size)
        if self.rounded:
            mean = np.floor(mean + 0.5) + 0.0
        said = count >= self.min_valid
        if self.max_spread is not None:
            said &= ~(spread > self.max_spread + _SLACK)
        scored = entries.filter(pl.col("node").is_first_distinct()).select(
            "problem", "target", score=pl.Series(np.where(said, mean, np.nan), nan_to_null=True)
        )
        confidence = np.round(1 / (1 + spread), 12)
        return scored, scored.select("problem", "target", confidence=pl.Series(confidence, nan_to_null=True))


def most_agreeing(unit: IntArray, score: FloatArray, k: int, size: int) -> tuple[FloatArray, FloatArray]:
    """The mean of the k scores of each unit with the smallest sum of pairwise distances, and their range.

    Sorted scores that lie closest together stand side by side, so that only windows of k need be looked at.

    Args:
        unit: [n] ascending.
        score: [n] ascending within a unit.
        k: how many are kept; of a unit with fewer scores all.
        size: how many units.

    Returns:
        Mean and range, each [size]; NaN for a unit without scores.
    """
    mean, spread = np.full(size, np.nan), np.full(size, np.nan)
    counts = np.bincount(unit, minlength=size)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    for count in np.unique(counts[counts > 0]).tolist():
        units = np.flatnonzero(counts == count)
        sorted_scores = score[starts[units][:, None] + np.arange(count)]
        width = min(k, count)
        windows = np.lib.stride_tricks.sliding_window_view(sorted_scores, width, axis=1)
        distance = np.round(windows @ (2.0 * np.arange(width) - width + 1), 9)
        ties = distance == distance.min(axis=1, keepdims=True)
        # Windows stand in the order of their medians and means: of those that tie the last has the highest.
        best = ties.shape[1] - 1 - np.argmax(ties[:, ::-1], axis=1)
        kept = windows[np.arange(len(units)), best]
        low, high = kept[:, 0], kept[:, -1]
        mean[units] = np.where(low == high, low, np.round(kept.mean(axis=1), 12) + 0.0)
        spread[units] = np.round(high - low, 12)
    return mean, spread
