"""Keep the pairs on which several views agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from prefdata.operators.select.dropping import drops_of
from prefdata.operators.select.marks import MARKS, measures_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import CONSENSUS, Context, TableStep
from prefdata.schema import Row


@step("select.consistent")
class Consistent(TableStep):
    """Keep the pairs on whose better response several views agree, as `judge.consistency` measured.

    `strict`: all views stand on one side of 1/2; a tie stands on neither. `majority`: their weighted mean is at least
    `margin` away from 1/2. What has fewer than two views is kept unless `unscored: drop` says otherwise.

    Source: SCIR; reconstructed from its abstract, the margin of 0.1 is this project's.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"annotations", CONSENSUS, "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"drops"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {"annotations": MARKS, "preferences": ()}

    mode: Literal["strict", "majority"] = Field("strict", description="What counts as agreement.")
    margin: float = Field(0.1, ge=0, le=0.5, description="majority: least distance of the mean from 1/2.")
    with_label: bool = Field(False, description="They must also agree with the preference itself.")
    aspect: str = Field("consistency", description="The aspect of the measures.")
    annotator: str = Field("rule:consistency", description="Whose measures (`*` stands for any text).")
    unscored: Literal["keep", "drop"] = Field("keep", description="What happens to what has no measure.")

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The drops."""
        annotations, preferences = tables["annotations"], tables["preferences"]
        if preferences.is_empty():
            return {}
        share, mean = (
            measures_of(annotations, "preference", aspect, self.annotator, self.kind)
            for aspect in (self.aspect, f"{self.aspect}_p")
        )
        rows = preferences.rename({"preference_id": "id"})
        rows = rows.join(share.rename({"score": "share"}), on="id", how="left", maintain_order="left")
        rows = rows.join(mean.rename({"score": "mean"}), on="id", how="left", maintain_order="left")
        apart = pl.col("share") < 1 if self.mode == "strict" else (pl.col("mean") - 0.5).abs() < self.margin - 1e-12
        reason = pl.lit(None, pl.String)
        if self.unscored == "drop":
            reason = pl.when(pl.col("share").is_null()).then(pl.lit("fewer than two views")).otherwise(reason)
        if self.with_label:
            against = pl.lit("the views contradict the label")
            reason = pl.when(pl.col("mean") <= 0.5).then(against).otherwise(reason)
        reason = pl.when(apart).then(pl.lit("the views disagree")).otherwise(reason)
        dropped = rows.with_columns(reason=reason).filter(pl.col("reason").is_not_null())
        context.log(f"{dropped.height} of {rows.height} preferences dropped: the views disagree ({self.mode})")
        return {"drops": drops_of("preferences", dropped.rename({"id": "preference_id"}), pl.col("reason"), self.view)}
