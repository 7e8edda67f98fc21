"""`relabel.soften`: how sure a label is, in the p of its edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from prefdata.operators.relabel.base import MeasuredRelabel
from prefdata.operators.relabel.pairs import edges_with, with_edge
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row
from prefdata.stats.logistic import sigmoid


def softened(pairs: pl.DataFrame, right: pl.Series) -> pl.DataFrame:
    """Pairs whose p takes into account that the label may be wrong: `q p + (1 - q) (1 - p)`.

    Args:
        pairs: see `prefdata.operators.relabel.pairs.with_ends`.
        right: [n] q, the probability that the label of each is right.
    """
    rows = with_edge(pairs).with_columns(right.alias("_right"))
    p, q = pl.col("edge").struct.field("p"), pl.col("_right")
    changed = edges_with(rows, {"p": p + (1 - q) * (1 - 2 * p)})  # written so that q = 1 gives p, bit for bit
    kept = pl.when(pl.col("edges").is_null() & (q == 1)).then(None).otherwise(changed)
    return rows.with_columns(edges=kept).drop("edge", "_right")


@step("relabel.soften")
class Soften(MeasuredRelabel):
    """Lay down how sure the label is, as the p of the pair's edge, which losses over pairs read as a soft label.

    With the probability q that the label is right p becomes `q p + (1 - q) (1 - p)`; p is 1 where nobody counted votes,
    so it becomes q. What q is says `right`:

    - `measure`: the measure itself, a probability (label_posterior, confident).
    - `sigmoid`: 1 / (1 + e^-(measure / temperature)), for a margin or a strength (A reward ensemble's soft label).
    - `alpha`: 1 - alpha, for the pairs past the limit, or for all without one: label smoothing, as in conservative DPO.
      With the measure confident and `below: 0.5` it is Selfie's noise-aware smoothing. alpha 0 changes nothing, and
      with 0.5 both orders are equal.

    A p below one half says that the other response is the better one.

    Sources: Wang et al. 2024 (Secrets of RLHF Part II); Kim et al. 2024 (Selfie); Mitchell 2023 (conservative DPO).
    """

    aspect: str = Field("strength", description="The measure: its aspect; right: alpha without a limit reads none.")
    right: Literal["measure", "sigmoid", "alpha"] = Field(
        "sigmoid", description="What the probability is that a label is right."
    )
    alpha: float = Field(0.1, ge=0, le=0.5, description="right: alpha: how probable it is that the label is wrong.")
    temperature: float = Field(1.0, gt=0, description="right: sigmoid: what the measure is divided by.")

    @model_validator(mode="after")
    def _acts(self) -> Self:
        for name, mode in (("alpha", "alpha"), ("temperature", "sigmoid")):
            if name in self.model_fields_set and self.right != mode:
                raise ValueError(f"{name} belongs to right: {mode}; for {self.right} it does nothing")
        return self

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The softened preferences, and the drops of their originals."""
        pairs = self.pairs(tables["preferences"], context)
        if self.right == "alpha" and not self.limits:
            right = pl.repeat(1 - self.alpha, pairs.height, eager=True)
            return self.restated(pairs, softened(pairs, right), f"softened by {self.alpha:g}", context)
        concerned = self.with_measure(pairs, tables, context)
        after = softened(concerned, self._right(concerned["value"]))
        return self.restated(concerned, after, f"softened: {self.aspect}{self.limit}", context)

    def _right(self, value: pl.Series) -> pl.Series:
        if self.right == "alpha":
            return pl.repeat(1 - self.alpha, len(value), eager=True)
        if self.right == "sigmoid":
            return pl.Series(sigmoid(value.to_numpy() / self.temperature), dtype=pl.Float64)
        numbers = value.to_numpy()
        if ((numbers < 0) | (numbers > 1)).any():
            from prefdata.errors import DataError

            wrong = float(numbers[(numbers < 0) | (numbers > 1)][0])
            raise DataError(
                f"relabel.soften: the measure {self.aspect!r} is {wrong:g} for a pair, and a probability lies from 0 "
                "to 1; for a margin set right: sigmoid"
            )
        return pl.Series(np.asarray(numbers, dtype=np.float64))
