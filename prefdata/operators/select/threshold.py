"""Keep what is scored within a range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import polars as pl
from pydantic import Field, model_validator

from prefdata.operators.evidence import EVIDENCE, VALID, selected
from prefdata.operators.select.dropping import drops_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import CONSENSUS, Context, TableStep
from prefdata.schema import KEYS, Row

_SHOWN = 8
"""How many names a message gives."""


@step("select.threshold")
class Threshold(TableStep):
    """Keep the prompts, the responses, or the preferences whose scores lie in a range.

    Scores are those of the protocols `score` and `measure` under one aspect: of the prompt itself, of the response
    itself, or of the preference itself (by a pair critic). Where several annotations fit, every one of them must lie in
    the range: name one annotator where that is not meant. What has no score is kept unless `unscored: drop` says
    otherwise: missing is not zero.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"annotations", CONSENSUS, "prompts", "responses", "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"drops"})
    ordered: ClassVar[bool] = False
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": EVIDENCE,
        "prompts": (),
        "responses": (),
        "preferences": (),
    }
    narrows: ClassVar[str | None] = "annotations"

    aspect: str = Field("overall", description="The aspect scored.")
    annotator: str = Field("consensus:*", description="Whose scores (`*` stands for any text).")
    min: float | None = Field(None, description="Scores below are dropped.")
    max: float | None = Field(None, description="Scores above are dropped.")
    table: Literal["prompts", "responses", "preferences"] = Field("responses", description="What to drop from.")
    unscored: Literal["keep", "drop"] = Field("keep", description="What happens to what has no score.")

    @model_validator(mode="after")
    def _has_limit(self) -> Threshold:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both: without a limit nothing is dropped")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: nothing could be kept")
        if self.table != "responses" and "annotator" not in self.model_fields_set:
            who, example = ("critic", "judge:*") if self.table == "preferences" else ("annotator", "rule:contamination")
            raise ValueError(
                f'{self.table} have no consensus: name the {who} whose scores count, for example annotator: "{example}"'
            )
        return self

    def inputs(self) -> frozenset[str]:
        """The table that it drops from, and what is said about it."""
        return frozenset({"annotations", CONSENSUS, self.table})

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The drops."""
        key, target = KEYS[self.table], self.table.removesuffix("s")
        rows = selected(tables["annotations"], aspects=[self.aspect], annotators=[self.annotator], target=target)
        scores = (
            rows.filter(VALID & pl.col("protocol").is_in(["score", "measure"]))
            .select(pl.col("target_ids").alias(key), score="scores")
            .explode(key, "score")
            .group_by(key)
            .agg(low=pl.col("score").min(), high=pl.col("score").max())
        )
        judged = tables[self.table].join(scores, on=key, how="left", maintain_order="left")
        what = f"{self.aspect} by {self.annotator}"
        reason = pl.lit(None, dtype=pl.String)
        if self.unscored == "drop":
            reason = pl.when(pl.col("low").is_null()).then(pl.lit(f"{what}: no score"))
        if self.min is not None:
            reason = pl.when(pl.col("low") < self.min).then(pl.lit(f"{what} < {self.min:g}")).otherwise(reason)
        if self.max is not None:
            reason = pl.when(pl.col("high") > self.max).then(pl.lit(f"{what} > {self.max:g}")).otherwise(reason)
        dropped = judged.with_columns(reason=reason).filter(pl.col("reason").is_not_null())
        unscored = judged["low"].null_count()
        note = f"; {unscored} without a score: {'dropped' if self.unscored == 'drop' else 'kept'}" if unscored else ""
        if not judged.is_empty() and unscored == len(judged):
            note += _there(tables["annotations"], target)
        context.log(f"{len(dropped)} of {len(judged)} {self.table} dropped by {what}{note}")
        return {"drops": drops_of(self.table, dropped, pl.col("reason"), self.view)}


def _there(annotations: pl.DataFrame, target: str) -> str:
    """What could have been named, where nothing is scored by the name that was given."""
    rows = selected(annotations, target=target).filter(pl.col("protocol").is_in(["score", "measure"]))
    pairs = rows.select("aspect", "annotator").unique().sort("aspect", "annotator").rows()
    names = [f"{aspect} by {annotator}" for aspect, annotator in pairs]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f" (there are: {', '.join(names[:_SHOWN]) or 'none'}{more})"
