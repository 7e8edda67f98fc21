"""`relabel.weight`: how much a preference counts, from a measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.operators.relabel.base import MeasuredRelabel
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row
from prefdata.stats.denoise import gap_factor, mean_one


@step("relabel.weight")
class Weight(MeasuredRelabel):
    """Multiply the weight of preferences by what a measure says. Any kind of preference; ties and lists too.

    - `relative`: s / mean(s) over all that are measured, so that the mean factor is 1; negative measures count as 0.
      (Domain relevance; the spread of scores within a prompt.)
    - `gap`: 1 + strength (1 - e^(-rate max(s, 0))), what dynamic reward scaling multiplies beta by; the loss `mm-dpo`
      does this to beta itself.
    - `as_is`: s, which must not be negative.

    The factor is over the whole dataset, never over a batch. The paper's relevance weights and group spreads are known
    from abstracts: experimental.

    Sources: MM-RLHF (dynamic reward scaling; released code), MMedPO (clinical relevance), DP2O-SR (hierarchical
    weights).
    """

    form: Literal["relative", "gap", "as_is"] = Field("relative", description="How the measure becomes a factor.")
    strength: float = Field(0.5, ge=0, description="gap: the most that is added; 0 is off.")
    rate: float = Field(0.5, gt=0, description="gap: how fast a larger measure comes near the most.")

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The weighted preferences, and the drops of their originals."""
        concerned = self.with_measure(tables["preferences"], tables, context)
        value = concerned["value"].to_numpy()
        if self.form == "as_is":
            if (value < 0).any():
                from prefdata.errors import DataError

                raise DataError(
                    f"relabel.weight: the measure {self.aspect!r} is {value.min():g} for a preference, and a weight is "
                    "not negative; use form: relative, which counts it as 0"
                )
            factor = value
        elif self.form == "gap":
            factor = 1 + self.strength * gap_factor(value, rate=self.rate)
        else:
            factor = mean_one(np.maximum(value, 0.0))
            if not np.isfinite(factor).all():
                context.log(f"every measure {self.aspect!r} is 0 or less: no weight can be made relative to their mean")
                return {}
        weight = pl.col("weight").fill_null(1.0) * pl.Series(factor, dtype=pl.Float64)
        after = concerned.with_columns(weight=weight)
        return self.restated(concerned, after, f"weighted: {self.aspect}{self.limit}", context)
