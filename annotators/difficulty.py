"""`judge.difficulty`: which pairs the reference model ranks wrongly, and what loss would put them right."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.errors import DataError
from prefdata.operators.relabel.pairs import gaps, response_numbers
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.stats.ranking import loss_to_flip

from .pair_measures import PairMeasure, aligned


@step("judge.difficulty")
class Difficulty(PairMeasure):
    """The measures `difficulty` and `loss_to_flip` of each pair, from log-probabilities under the reference model.

    `difficulty` is `c = lp_ref(worse) - lp_ref(better)`, in nats: positive where the reference finds the worse response
    likelier. A policy ranks the pair as its label does exactly when its DPO loss is below `loss_to_flip = log(1 +
    e^(-beta c))`; training begins at log 2. Take summed log-probabilities of the reference: `judge.likelihood` with
    `mode: conditional, per: sum`.

    Source: Chen et al. 2024, Preference Learning Algorithms Do Not Learn Preference Rankings.
    """

    scores: str = Field(
        "likelihood:*/conditional/sum", description="Whose scores are the summed log-probabilities (one annotator)."
    )
    beta: float = Field(0.1, gt=0, description="DPO's.")

    def measures(self, pairs: pl.DataFrame, tables: Mapping[str, pl.DataFrame], context: Context) -> list[pl.DataFrame]:
        """Both measures; a pair without log-probabilities of both responses is abstained from."""
        found = gaps(pairs, response_numbers(tables["annotations"], annotators=[self.scores]))
        names = found["member"].unique().sort().to_list()
        if len(names) > 1:
            raise DataError(
                f"judge.difficulty: the scores of {names[0]!r} and {names[1]!r} fit {self.scores!r}; name the "
                "reference model's (scores:)"
            )
        gap = aligned(pairs, found.select("preference_id", value="gap"))
        if unknown := int(np.isnan(gap).sum()):
            hint = "" if names else ": put judge.likelihood with mode: conditional, per: sum before this step"
            context.log(f"{unknown:,} of {pairs.height:,} pairs have no scores by {self.scores!r}{hint}")
        rests = pairs.select("preference_id").join(
            found.select("preference_id", read=pl.format("{} {}", "gap", pl.col("annotation_ids").list.join(" "))),
            on="preference_id",
            how="left",
            maintain_order="left",
        )
        with np.errstate(invalid="ignore"):  # no gap, no loss
            values = {"difficulty": -gap, "loss_to_flip": loss_to_flip(gap, self.beta)}
        return self.said(pairs, values, annotator="rule:difficulty", source="likelihood", read=rests["read"])
