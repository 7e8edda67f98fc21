"""`relabel.margin`: by how much the better response is to be better, from a measure."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from pydantic import Field

from prefdata.operators.relabel.base import MeasuredRelabel
from prefdata.operators.relabel.pairs import edges_with, with_edge
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row


def with_margin(pairs: pl.DataFrame, margin: pl.Expr) -> pl.DataFrame:
    """Pairs whose edge has this margin, better response less the other, whichever the edge calls the winner."""
    rows = with_edge(pairs)
    turned = pl.col("edge").struct.field("winner") != pl.col("better_at")
    return rows.with_columns(edges=edges_with(rows, {"margin": pl.when(turned).then(-margin).otherwise(margin)})).drop(
        "edge"
    )


@step("relabel.margin")
class Margin(MeasuredRelabel):
    """Lay down the measure as the margin of the pair's edge: the adaptive margin of a reward ensemble.

    Losses read it with `margin: edges`: `-log s(z - margin)`. A negative strength gives a negative margin, by which a
    doubtful label teaches less; `least: 0` cuts it off.

    Source: Wang et al. 2024, Secrets of RLHF Part II, equation of the adaptive margin.
    """

    aspect: str = Field("strength", description="The measure: its aspect.")
    scale: float = Field(1.0, allow_inf_nan=False, description="What the measure is multiplied by.")
    least: float | None = Field(None, allow_inf_nan=False, description="A smaller margin becomes this one.")

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The preferences with margins, and the drops of their originals."""
        concerned = self.with_measure(self.pairs(tables["preferences"], context), tables, context)
        margin = pl.col("value") * self.scale
        margin = margin if self.least is None else pl.max_horizontal(margin, pl.lit(self.least))
        return self.restated(concerned, with_margin(concerned, margin), f"margin: {self.aspect}{self.limit}", context)
