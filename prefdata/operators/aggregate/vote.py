"""Consensus by the rules of elections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.operators.aggregate.base import FloatArray, ScoredAggregate, WeightedAggregate
from prefdata.operators.aggregate.tables import comparisons_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context

Rule = Literal["borda", "copeland", "schulze", "kemeny", "minimax"]


@step("aggregate.vote")
class Vote(WeightedAggregate, ScoredAggregate):
    """The responses to each prompt as candidates, annotators as voters; one score by a rule of social choice.

    From every order that annotators state, as `aggregate.bradley_terry`, as a table of who was put before whom how
    often (weights count votes; a tie is half a vote each way).

    - borda: how many votes put the response before another, over all others.
    - copeland: how many others it beats in the majority, less how many beat it.
    - schulze: how many others it beats, path of majorities against path (Schulze, 2011).
    - kemeny: its place in the order that contradicts the fewest votes, counted from the last (0); where several orders
      contradict as few, there is no such order, and the row abstains. Exact for up to 16 responses.
    - minimax: its probability in the lottery that no other response beats on average (the von Neumann winner): the rule
      to take where preferences go round in a circle. A pair that nobody compared counts as even.

    The confidence is null: a rule states none. For the share of wins against each opponent see
    `aggregate.win_proportion`.
    """

    by: Rule = Field("schulze", description="borda, copeland, schulze, kemeny or minimax.")

    @property
    def annotator(self) -> str:
        """Each rule speaks under its own name."""
        return f"{super().annotator}-{self.by}"

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """See `ScoredAggregate.scored`. A response needs `min_valid` lists that compare it with another."""
        stated = comparisons_of(valid, weight)
        scores = np.full(stated.nodes.height, np.nan)
        undecided = 0
        for rows, wins in stated.tables():
            # 12 decimals: shares that are equal on paper must not break a tie.
            for members, table in zip(rows, np.round(wins, 12), strict=True):
                scores[members] = points(table, self.by)
                undecided += bool(np.isnan(scores[members]).any())
        if undecided:
            context.log(f"{undecided} prompts have several orders that contradict as few votes: no verdict")
        scores[stated.votes < self.min_valid] = np.nan
        scored = stated.nodes.select("problem", "target", score=pl.Series(np.round(scores, 9) + 0.0, nan_to_null=True))
        return scored, pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})


def points(wins: FloatArray, rule: Rule) -> FloatArray:
    """[n] the points of each candidate, higher is better; all NaN where the rule cannot decide.

    Args:
        wins: [n, n] the weight of votes that put i before j.
        rule: see `Vote`.
    """
    from prefdata.stats import voting
    from prefdata.stats.minimax import minimax_winner

    if rule == "borda":
        return voting.borda_counts(wins)
    if rule == "copeland":
        return voting.copeland(wins)
    if rule == "schulze":
        return voting.schulze(wins).values
    if rule == "minimax":
        return minimax_winner(voting.shares(wins)).values
    found = voting.kemeny(wins)
    place = np.full(len(wins), np.nan)
    if found.unique is not False:
        place[found.order] = np.arange(len(wins))[::-1]
    return place
