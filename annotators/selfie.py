"""`judge.selfie`: which labels a model's own margin leaves unsure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.stats.denoise import noise_threshold

from .pair_measures import MarginMeasure, name_of_all


@step("judge.selfie")
class Selfie(MarginMeasure):
    """The measure `sure`: 0 for the pairs with the least margins, 1 for the others.

    The threshold lies midway between the two margins around the `share` point of all. `relabel.soften` with `aspect:
    sure, below: 0.5, right: alpha` then smooths the unsure labels by alpha: the loss becomes
    `(1 - alpha + alpha sure) l(m) + alpha (1 - sure) l(-m)`. In the paper margins come from extrapolated logits and the
    threshold follows the last steps of training, as in the loss `selfie`; here they are the margins of a scorer and
    the threshold is that of the whole dataset.

    Source: Kim et al. 2024, Aligning Large Language Models with Self-generated Preference Data.
    """

    share: float = Field(0.1, gt=0, lt=1, description="The share of labels that count as unsure.")

    def measures(self, pairs: pl.DataFrame, tables: Mapping[str, pl.DataFrame], context: Context) -> list[pl.DataFrame]:
        """One measure of each pair that has a margin."""
        margins = self.margins(pairs, tables["annotations"])
        threshold = noise_threshold(margins, self.share)
        if threshold is None:
            known = int((~np.isnan(margins)).sum())
            then = "every label that has one counts as sure" if known else "nothing is said of any label"
            context.log(f"too few margins ({known}) for a share of {self.share:g}: {then}")
        sure = np.ones(len(margins)) if threshold is None else (margins >= threshold).astype(np.float64)
        values = np.where(np.isnan(margins), np.nan, sure)
        read = name_of_all(pairs.select("preference_id", "better"), margins)
        return self.said(pairs, {"sure": values}, annotator="rule:selfie", source="rule", read=read)
