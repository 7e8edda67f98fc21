"""`pair` in a plan: how many preferences there can be, while the answers that decide it are not there yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from prefdata.operators.pair import Pair, Rule
from prefdata.pipeline.step import Context
from prefdata.schema import Row

# What is laid down beside the order decides about no row, and made-up numbers would say nothing.
PLANNED: dict[str, Any] = {"values": {}, "p": None, "margin": None, "voters": (), "min_gap": 0.0}


def planned_rule(rule: Rule) -> Rule:
    """A list may turn out to be a pair, which is judged where longer ones are not."""
    return "best_worst" if rule == "list" else rule


class PlannedPair(Pair):
    """A `pair` that finds no ties, no missing scores, no equal texts: it makes as many preferences as a run ever could.

    Which of two responses it prefers says nothing. Judges of pairs (rationales, pair critics) are asked about each
    preference, and the plan counts each time.
    """

    @classmethod
    def of(cls, step: Pair) -> PlannedPair:
        """The same step, with nothing left out for its gap."""
        return cls.model_construct(**{**dict(step), **PLANNED, "rule": planned_rule(step.rule)})

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The preferences, whatever the scores: made-up ones stand in their place."""
        return super().run(stood_in(tables), context)


def stood_in(tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """The tables with scores and texts of which no two are equal."""
    responses = tables["responses"].with_columns(text=pl.col("response_id"))
    return {**tables, "annotations": scored(tables["annotations"]), "responses": responses}


def scored(annotations: pl.DataFrame) -> pl.DataFrame:
    """The annotations, each valid, with a score for each of its targets; those of two targets are never equal."""
    targets = annotations.select(pl.col("target_ids").explode().unique().drop_nulls().sort()).to_series().to_list()
    places = {target: float(place) for place, target in enumerate(targets)}
    number = pl.element().replace_strict(places, return_dtype=pl.Float64)
    return annotations.with_columns(scores=pl.col("target_ids").list.eval(number), status=pl.lit("ok"))
