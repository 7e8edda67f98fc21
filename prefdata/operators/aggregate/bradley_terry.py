"""Consensus by the model of Bradley and Terry (1952), from every order that annotators state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import erf, sqrt

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from prefdata.operators.aggregate.base import FloatArray, IntArray, ScoredAggregate
from prefdata.operators.evidence import CONTEXT, compared, lists_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.stats import DEFAULT_PRIOR, bradley_terry_batch

_CELLS = 4_000_000
"""Cells of the win tables that are held at once: bounds memory."""


@step("aggregate.bradley_terry")
class BradleyTerryConsensus(ScoredAggregate):
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
        number = valid.select(*CONTEXT, "problem").unique(CONTEXT)
        lists = lists_of(valid)
        heads = lists.heads.join(number, on=CONTEXT, nulls_equal=True, how="left", maintain_order="left")
        entries = lists.entries.select("list", "target", problem=heads["problem"].gather(lists.entries["list"]))
        nodes = entries.select("problem", "target").unique().sort("problem", "target").with_row_index("node")
        on = ["problem", "target"]
        node = entries.join(nodes, on=on, how="left", maintain_order="left")["node"].to_numpy().astype(np.int64)
        first, second, p = compared(lists)
        heard = np.zeros(len(node), dtype=bool)
        heard[first] = heard[second] = True
        votes = np.bincount(node[heard], minlength=nodes.height)
        weights = heads["annotator"].replace_strict(dict(weight), default=1.0, return_dtype=pl.Float64)
        w = weights.gather(entries["list"].gather(first)).to_numpy()
        scores = np.full(nodes.height, np.nan)
        sure: list[pl.DataFrame] = [pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})]
        for rows, strengths, covariance in self._fits(
            nodes["problem"].to_numpy(), votes, node[first], node[second], p, w
        ):
            theta, confidence = _of_those(strengths, covariance, votes[rows] >= self.min_valid)
            scores[rows] = theta
            members = nodes["problem"].gather(rows[:, 0])
            sure.append(pl.DataFrame([members, pl.Series("confidence", confidence, nan_to_null=True)]))
        scored = nodes.select("problem", "target", score=pl.Series(scores, nan_to_null=True))
        return scored, pl.concat(sure)

    def _fits(
        self, problem: IntArray, votes: IntArray, first: IntArray, second: IntArray, p: FloatArray, w: FloatArray
    ) -> Iterator[tuple[IntArray, FloatArray, FloatArray]]:
        """Problems of one size, which are solved together.

        Args:
            problem: [n] of each node, ascending.
            votes: [n] in how many lists it is compared; nodes without any are in no problem.
            first: [m] the better or worse node of each comparison.
            second: [m] the other one.
            p: [m] P(first is better).
            w: [m] the weight of each comparison.

        Yields:
            The nodes [b, k] of the problems, their strengths [b, k] and covariances [b, k, k].
        """
        used = np.flatnonzero(votes > 0)
        begins = np.flatnonzero(np.diff(problem[used], prepend=-1))  # of each problem, among the used nodes
        sizes = np.diff(np.append(begins, len(used)))
        place = np.zeros(len(problem), dtype=np.int64)
        place[used] = np.arange(len(used)) - np.repeat(begins, sizes)
        which = np.searchsorted(problem[used][begins], problem[first])
        for k in np.unique(sizes).tolist():
            members = np.flatnonzero(sizes == k)
            at_once = max(_CELLS // (k * k), 1)
            for chunk in (members[start : start + at_once] for start in range(0, len(members), at_once)):
                here = np.flatnonzero((sizes[which] == k) & (which >= chunk[0]) & (which <= chunk[-1]))
                base = np.searchsorted(chunk, which[here]) * k * k
                i, j = place[first[here]], place[second[here]]
                cells = len(chunk) * k * k
                wins = np.bincount(base + i * k + j, weights=w[here] * p[here], minlength=cells).astype(np.float64)
                wins += np.bincount(base + j * k + i, weights=w[here] * (1 - p[here]), minlength=cells)
                theta, covariance, _ = bradley_terry_batch(wins.reshape(-1, k, k), prior=self.prior)
                yield used[begins[chunk][:, None] + np.arange(k)], theta, covariance


def _of_those(strengths: FloatArray, covariance: FloatArray, kept: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Scores [b, n] of the responses that are kept (NaN for the others, and where only one is), and confidence [b]."""
    scores = np.full(strengths.shape, np.nan)
    confidence = np.full(len(strengths), np.nan)
    whole = kept.all(axis=1) & (kept.shape[1] > 1)
    scores[whole] = np.round(strengths[whole], 9) + 0.0
    confidence[whole] = _order_confidence(strengths[whole], covariance[whole])
    for row in np.flatnonzero(~whole & (kept.sum(axis=1) > 1)).tolist():
        places = np.flatnonzero(kept[row])
        theta = strengths[row, places] - strengths[row, places].mean()
        scores[row, places] = np.round(theta, 9) + 0.0
        confidence[row] = _order_confidence(theta[None], covariance[row][np.ix_(places, places)][None])[0]
    return scores, confidence


def _order_confidence(theta: FloatArray, covariance: FloatArray) -> FloatArray:
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
