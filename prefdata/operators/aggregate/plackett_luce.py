"""Consensus by the model of Plackett and Luce, from rankings taken as wholes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.operators.aggregate.base import FloatArray, ScoredAggregate, WeightedAggregate
from prefdata.operators.aggregate.bradley_terry import of_those
from prefdata.operators.evidence import CONTEXT, lists_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.stats import DEFAULT_PRIOR

Ranking = tuple[int | tuple[int, ...], ...]


@step("aggregate.plackett_luce")
class PlackettLuceConsensus(WeightedAggregate, ScoredAggregate):
    """Strengths of the responses to each prompt, under each aspect, from rankings: first the best, then the next best.

    A ranking of K is K - 1 choices of the best of what is left, where `aggregate.bradley_terry` takes it for all its
    pairs as if they had been asked for one by one, which counts it for more than it says. Rankings, choices and scores
    of one annotator are rankings, a comparison is a ranking of two (one with a probability is both, weighted). Equal
    scores say nothing about the order of these responses, but that they stand below what stands above. Of comparisons
    alone the result is that of `aggregate.bradley_terry`.

    The strengths are log-odds with sum zero, rounded to 9 decimals. Weights count rankings. The confidence is the mean
    over pairs of 2 Phi(|difference| / its standard error) - 1.
    """

    prior: float = Field(
        DEFAULT_PRIOR,
        gt=0,
        description="Virtual comparisons of each response with an average one, half won and half lost.",
    )

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """See `ScoredAggregate.scored`. A response needs `min_valid` rankings that place it beside another."""
        from prefdata.stats.plackett_luce import plackett_luce

        number = valid.select(*CONTEXT, "problem").unique(CONTEXT)
        lists = lists_of(valid)
        heads = lists.heads.join(number, on=CONTEXT, nulls_equal=True, how="left", maintain_order="left")
        heads = heads.with_columns(
            list=pl.int_range(pl.len()),
            weight=pl.col("annotator").replace_strict(dict(weight), default=1.0, return_dtype=pl.Float64),
        )
        entries = lists.entries.join(heads.select("list", "problem", "protocol", "weight"), on="list", how="left")
        scored: list[tuple[int, str, float | None]] = []
        sure: list[tuple[int, float | None]] = []
        for (problem,), rows in entries.sort("problem", "list", "target").group_by("problem", maintain_order=True):
            names = rows["target"].unique().sort().to_list()
            rankings, weights, votes = _rankings(rows, {name: place for place, name in enumerate(names)})
            heard = np.flatnonzero(votes > 0)
            place = {old: new for new, old in enumerate(heard.tolist())}
            strengths = np.full(len(names), np.nan)
            confidence = np.nan
            if len(heard):
                found = plackett_luce(
                    [_renamed(one, place) for one in rankings], n=len(heard), weights=weights, prior=self.prior
                )
                theta, certain = of_those(
                    found.values[None], found.covariance[None], votes[heard][None] >= self.min_valid
                )
                strengths[heard], confidence = theta[0], float(certain[0])
            assert isinstance(problem, int)
            scored += [
                (problem, name, None if np.isnan(value) else float(value))
                for name, value in zip(names, strengths, strict=True)
            ]
            sure.append((problem, None if np.isnan(confidence) else confidence))
        return (
            pl.DataFrame(scored, schema={"problem": pl.Int64, "target": pl.String, "score": pl.Float64}, orient="row"),
            pl.DataFrame(sure, schema={"problem": pl.Int64, "confidence": pl.Float64}, orient="row"),
        )


def _rankings(rows: pl.DataFrame, place: Mapping[str, int]) -> tuple[list[Ranking], FloatArray, FloatArray]:
    """The rankings of one problem, best first, with their weights, and in how many each response stands."""
    rankings: list[Ranking] = []
    weights: list[float] = []
    votes = np.zeros(len(place))
    for _, entries in rows.group_by("list", maintain_order=True):
        members = np.array([place[name] for name in entries["target"]])
        score, weight = entries["score"].to_numpy(), float(entries["weight"][0])
        choice = entries["protocol"][0] == "choose"
        if len(members) < 2 or (choice and np.ptp(score) == 0):
            continue
        votes[members] += 1
        if entries["protocol"][0] == "compare":
            first, second = members.tolist()
            for order, share in (((first, second), score[0]), ((second, first), score[1])):
                if share > 0:
                    rankings.append(order)
                    weights.append(weight * share)
            continue
        levels = np.unique(score)[::-1]
        ranking = tuple(tuple(members[score == level].tolist()) for level in levels)
        rankings.append(tuple(level[0] if len(level) == 1 else level for level in ranking))
        weights.append(weight)
    return rankings, np.array(weights), votes


def _renamed(ranking: Ranking, place: Mapping[int, int]) -> Ranking:
    return tuple(tuple(place[one] for one in entry) if isinstance(entry, tuple) else place[entry] for entry in ranking)
