"""Consensus by the model of Bradley and Terry (1952), from every order that annotators state."""

from __future__ import annotations

from collections.abc import Mapping
from math import erf, sqrt

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from prefdata.operators.aggregate.base import FloatArray, ScoredAggregate, WeightedAggregate
from prefdata.operators.aggregate.tables import comparisons_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.stats import DEFAULT_PRIOR, bradley_terry_batch


@step("aggregate.bradley_terry")
class BradleyTerryConsensus(WeightedAggregate, ScoredAggregate):
    """Strengths of the responses to each prompt, under each aspect, from every order that annotators state.

    Everything becomes comparisons: comparisons as they are (soft), rankings and choices as the pairs they imply, scores
    as comparisons within one annotator, criterion and replicate, so that no common scale is needed. The strengths are
    log-odds with sum zero, rounded to 9 decimals (what is symmetric comes out equal). Weights count comparisons.

    The confidence is the mean over pairs of 2 Phi(|difference| / its standard error) - 1: how surely the order of two
    of the responses is known, 0 not at all, 1 for certain.
    """

    prior: float = Field(
        DEFAULT_PRIOR,
        gt=0,
        description="Virtual comparisons of each response with an average one, half won and half lost.",
    )

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """See `ScoredAggregate.scored`. A response needs `min_valid` lists that compare it with another."""
        stated = comparisons_of(valid, weight)
        scores = np.full(stated.nodes.height, np.nan)
        sure: list[pl.DataFrame] = [pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})]
        for rows, wins in stated.tables():
            strengths, covariance, _ = bradley_terry_batch(wins, prior=self.prior)
            theta, confidence = of_those(strengths, covariance, stated.votes[rows] >= self.min_valid)
            scores[rows] = theta
            members = stated.nodes["problem"].gather(rows[:, 0])
            sure.append(pl.DataFrame([members, pl.Series("confidence", confidence, nan_to_null=True)]))
        scored = stated.nodes.select("problem", "target", score=pl.Series(scores, nan_to_null=True))
        return scored, pl.concat(sure)


def of_those(strengths: FloatArray, covariance: FloatArray, kept: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Scores [b, n] of the responses that are kept (NaN for the others, and where only one is), and confidence [b]."""
    scores = np.full(strengths.shape, np.nan)
    confidence = np.full(len(strengths), np.nan)
    whole = kept.all(axis=1) & (kept.shape[1] > 1)
    scores[whole] = np.round(strengths[whole], 9) + 0.0
    confidence[whole] = order_confidence(strengths[whole], covariance[whole])
    for row in np.flatnonzero(~whole & (kept.sum(axis=1) > 1)).tolist():
        places = np.flatnonzero(kept[row])
        theta = strengths[row, places] - strengths[row, places].mean()
        scores[row, places] = np.round(theta, 9) + 0.0
        confidence[row] = order_confidence(theta[None], covariance[row][np.ix_(places, places)][None])[0]
    return scores, confidence


def order_confidence(theta: FloatArray, covariance: FloatArray) -> FloatArray:
    """The mean over pairs of 2 Phi(|difference| / its standard error) - 1, of strengths [b, n]; [b]."""
    i, j = np.triu_indices(theta.shape[1], 1)
    error = np.sqrt(np.maximum(covariance[:, i, i] + covariance[:, j, j] - 2 * covariance[:, i, j], 1e-300))
    z = np.abs(theta[:, i] - theta[:, j]) / error / sqrt(2)
    sure = np.array([erf(one) for one in z.ravel().tolist()]).reshape(z.shape)
    # Added one after the other, so that it does not matter how many problems are solved together.
    total = np.zeros(len(theta))
    for pair in range(len(i)):
        total += sure[:, pair]
    return np.round(total / max(len(i), 1), 9)
