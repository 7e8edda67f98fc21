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
      contradict as few, the mean of its places in all of them, so that responses that nothing tells apart score the
      same. Exact for up to 16 responses; with more it is the place in one order that no single move makes better.
    - minimax: its probability in the lottery that no other response beats on average (the von Neumann winner): the rule
      to take where preferences go round in a circle. A pair that nobody compared counts as even.

    The confidence of kemeny is the share of those orders in which the best response comes first (of several that are
    best, the least share; null beyond 16 responses): it says how far the order is settled, not how likely it is to be
    right. The other rules state none, it is null. For the share of wins against each opponent see
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
        scores, firsts = np.full(stated.nodes.height, np.nan), np.full(stated.nodes.height, np.nan)
        for rows, wins in stated.tables():
            # 12 decimals: shares that are equal on paper must not break a tie.
            for members, table in zip(rows, np.round(wins, 12), strict=True):
                scores[members], firsts[members] = points(table, self.by)
        scores[stated.votes < self.min_valid] = np.nan
        scored = stated.nodes.select("problem", "target", score=pl.Series(np.round(scores, 9) + 0.0, nan_to_null=True))
        best = pl.col("score") == pl.col("score").max().over("problem")
        share = scored.with_columns(first=pl.Series(firsts, nan_to_null=True)).filter(best).drop_nulls("first")
        return scored, share.group_by("problem").agg(confidence=pl.col("first").min())


def points(wins: FloatArray, rule: Rule) -> tuple[FloatArray, FloatArray]:
    """[n] the points of each candidate, higher is better; and the share of best orders that it leads.

    The latter is NaN where the rule knows of no orders.

    Args:
        wins: [n, n] the weight of votes that put i before j.
        rule: see `Vote`.
    """
    from prefdata.stats import voting
    from prefdata.stats.minimax import minimax_winner

    if rule == "kemeny":
        found = voting.kemeny(wins)
        return len(wins) - 1 - found.places, found.firsts
    if rule == "borda":
        made = voting.borda_counts(wins)
    elif rule == "copeland":
        made = voting.copeland(wins)
    elif rule == "schulze":
        made = voting.schulze(wins).values
    else:
        made = minimax_winner(voting.shares(wins)).values
    return made, np.full(len(wins), np.nan)
