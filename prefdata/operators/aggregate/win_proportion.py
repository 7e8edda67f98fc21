"""Consensus by the share of wins against the other responses to the prompt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from prefdata.operators.aggregate.base import ScoredAggregate, WeightedAggregate
from prefdata.operators.aggregate.tables import comparisons_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context


@step("aggregate.win_proportion")
class WinProportion(WeightedAggregate, ScoredAggregate):
    """How often each response wins against the others of its prompt, under each aspect; a tie is half a win.

    From every order that annotators state, as `aggregate.bradley_terry`. Each opponent counts the same, however often
    it was met: the mean over opponents of the share of the votes won against it. (`aggregate.mean` of comparisons
    counts each vote the same.) Opponents that a response never met are left out of its mean, and the log says how many
    pairs that are: where they are many the shares are of different games.

    The reward of self-play preference optimisation (Swamy et al., 2024, A Minimaximalist Approach to RLHF): the share
    of the prompt's other samples that a response beats.
    """

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """See `ScoredAggregate.scored`. A response needs `min_valid` lists that compare it. The confidence is null."""
        stated = comparisons_of(valid, weight)
        scores = np.full(stated.nodes.height, np.nan)
        unmet = pairs = 0
        for rows, wins in stated.tables():
            games = wins + wins.transpose(0, 2, 1)
            met = games > 0
            share = np.where(met, wins / np.where(met, games, 1.0), 0.0)
            scores[rows] = np.round(share.sum(axis=2) / met.sum(axis=2), 12) + 0.0
            size = rows.shape[1]
            pairs += len(rows) * size * (size - 1) // 2
            unmet += len(rows) * size * (size - 1) // 2 - int(met.sum()) // 2
        if unmet:
            context.log(f"{unmet} of {pairs} pairs of responses were never compared: left out of the shares")
        scores[stated.votes < self.min_valid] = np.nan
        scored = stated.nodes.select("problem", "target", score=pl.Series(scores, nan_to_null=True))
        return scored, pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})
