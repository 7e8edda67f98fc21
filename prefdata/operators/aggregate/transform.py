"""Consensus of rewards that were made comparable first: how probably a response is good, in all respects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.operators.aggregate.base import BoolArray, FloatArray, IntArray, ScoredAggregate, WeightedAggregate
from prefdata.operators.aggregate.mean import entries_of, means
from prefdata.operators.evidence import EVIDENCE, ORDERING, directed, matching
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row
from prefdata.stats.logistic import log_sigmoid


@step("aggregate.transform")
class Transform(WeightedAggregate, ScoredAggregate):
    """The sum of log-sigmoids of rewards over a reference: the log-probability of being good in all respects.

    A reward r (of one annotator, under one aspect and criterion) becomes u = log sigma(r - ref), where ref is a
    quantile of that reward over the prompt's responses, or over those of the models in `reference` alone (samples of
    the base policy, or one canned reply, whose reward then is the reference). What is far above the reference gains
    little more; what is below loses much. The u of all annotators of an aspect are summed (weighted), with `into` those
    of all aspects. A response that lacks one of the rewards that others of its prompt have gets no score, and so does a
    prompt without any response of the reference.

    Rewards of Bradley-Terry models are known up to a constant of each prompt, which the reference takes out; scores on
    any other scale should be log-odds. Wang et al. (2024), Transforming and Combining Rewards for Aligning Large
    Language Models.
    """

    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": (*EVIDENCE, "created_at"),
        "responses": ("model",),
    }

    quantile: float = Field(0.85, ge=0, le=1, description="Which quantile of the rewards is the reference.")
    reference: tuple[str, ...] = Field(
        (), description="Models (`*` stands for any text) whose responses are the reference; all responses otherwise."
    )
    into: str | None = Field(
        None, min_length=1, description="One sum over all aspects, under this name; one for each otherwise."
    )

    def inputs(self) -> frozenset[str]:
        """Responses only where their models matter."""
        return self.reads | {"responses"} if self.reference else self.reads

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """See `Aggregate.run`."""
        annotations = tables["annotations"].with_columns(canned=pl.lit(None, pl.List(pl.String)))
        if self.reference:
            models = matching(tables["responses"]["model"].unique(), self.reference)
            canned = tables["responses"].filter(pl.col("model").is_in(models))["response_id"]
            annotations = annotations.with_columns(canned=pl.col("target_ids").list.set_intersection(canned.to_list()))
        return super().run({**tables, "annotations": annotations}, context)

    def consensus(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """See `ScoredAggregate.consensus`."""
        rows = directed(rows.filter(pl.col("protocol").is_in(ORDERING)), self.direction, self.kind)
        rows = rows.with_columns(part=pl.col("aspect"), protocol=pl.col("protocol").replace("measure", "score"))
        if self.into is not None:
            rows = rows.with_columns(aspect=pl.lit(self.into))
        return super().consensus(rows, context)

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """See `ScoredAggregate.scored`. The confidence is null."""
        entries = entries_of(valid.with_columns(aspect="part"), weight, "none", self.kind, context)
        of = ["problem", "aspect", "annotator", "criterion_id"]
        nodes = entries.filter(pl.col("node").is_first_distinct()).select("problem", "target", "node")
        entries = entries.sort(*of, "node", "score", nulls_last=True)
        voice = entries.select(pl.struct(of).rle_id()).to_series().to_numpy().astype(np.int64)
        cell = entries.select(pl.struct(*of, "node").rle_id()).to_series().to_numpy().astype(np.int64)
        first = np.flatnonzero(np.diff(cell, prepend=-1))
        reward = means(cell, entries["score"].to_numpy(), np.ones(len(cell)), len(first))
        votes = np.bincount(cell, minlength=len(first))
        is_reference = np.ones(nodes.height, dtype=bool)
        if self.reference:
            canned = valid.select("problem", target="canned").explode("target").unique()
            marked = nodes.join(canned.with_columns(canned=True), on=["problem", "target"], how="left")
            is_reference = marked.sort("node")["canned"].fill_null(False).to_numpy()
        node, unit = entries["node"].to_numpy()[first], voice[first]
        reference = quantiles(unit, reward, is_reference[node], self.quantile)
        u, said = np.full(len(reward), np.nan), ~np.isnan(reference) & (votes >= self.min_valid)
        u[said] = log_sigmoid((reward - reference)[said]) * entries["weight"].to_numpy()[first][said]
        return self._summed(nodes, node, unit, u, context)

    def _summed(
        self, nodes: pl.DataFrame, node: IntArray, unit: IntArray, u: FloatArray, context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        problem = nodes["problem"].to_numpy().astype(np.int64)
        voices = np.zeros(int(problem.max(initial=-1)) + 1, dtype=np.int64)
        opens = np.flatnonzero(np.diff(unit, prepend=-1))
        np.add.at(voices, problem[node[opens]], 1)
        order = np.lexsort((u, node))
        total = np.bincount(node[order], weights=u[order], minlength=nodes.height).astype(np.float64)
        heard = np.bincount(node, minlength=nodes.height)
        total[heard < voices[problem]] = np.nan
        silent = int(np.isnan(total).sum())
        if silent:
            context.log(f"{silent} responses lack a reward that others of their prompt have, or a reference")
        scored = nodes.select("problem", "target", score=pl.Series(np.round(total, 12) + 0.0, nan_to_null=True))
        return scored, pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})


def quantiles(unit: IntArray, value: FloatArray, counted: BoolArray, q: float) -> FloatArray:
    """[n] the q-quantile (linear between values) of the counted values of each entry's unit; NaN where there are none.

    Args:
        unit: [n] numbers from 0.
        value: [n]
        counted: [n] which values the quantile is of.
        q: from 0 to 1.
    """
    size = int(unit.max(initial=-1)) + 1
    u, x = unit[counted], value[counted]
    order = np.lexsort((x, u))
    u, x = u[order], x[order]
    count = np.bincount(u, minlength=size)
    starts = np.concatenate([[0], np.cumsum(count)])[:-1]
    result = np.full(size, np.nan)
    there = count > 0
    place = q * (count[there] - 1)
    below = np.floor(place).astype(np.int64)
    low, high = x[starts[there] + below], x[starts[there] + np.minimum(below + 1, count[there] - 1)]
    result[there] = low + (place - below) * (high - low)
    found: FloatArray = result[unit]
    return found
