"""Keep a share by chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import polars as pl
from polars.exceptions import PolarsError
from pydantic import Field, field_validator, model_validator

from prefdata.errors import PipelineError
from prefdata.operators.select.conditions import row_expression
from prefdata.operators.select.dropping import drops_of
from prefdata.operators.select.where import with_extras
from prefdata.operators.split import held_out
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Scope, TableStep
from prefdata.schema import KEYS, PASSED_THROUGH, Row, make_id


@step("select.sample")
class Sample(TableStep):
    """Keep so many rows of a table, or such a share of them, drawn by seed and id; the rest is dropped.

    The counts are exact, and rows are drawn in the order of a hash of seed and id: a larger share keeps the same and
    more, and one more row displaces at most one. With `where` only the rows for which a condition is true are drawn
    from, and all others are kept: a mix is one such step for each of its sources.
    """

    scope: ClassVar[Scope] = "dataset"
    reads: ClassVar[frozenset[str]] = frozenset({"prompts", "responses", "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"drops"})

    table: Literal["prompts", "responses", "preferences"] = Field("prompts", description="What to draw from.")
    n: int | None = Field(None, ge=0, description="How many to keep.")
    share: float | None = Field(None, ge=0, le=1, description="Which share to keep; instead of n.")
    per: Literal["dataset", "prompt"] = Field("dataset", description="So many of all, or of each prompt.")
    where: str | None = Field(None, description="SQL condition: only these rows are drawn from, others are kept.")
    seed: int = Field(0, description="Another seed, other rows.")

    @field_validator("where")
    @classmethod
    def _is_condition(cls, where: str | None) -> str | None:
        if where is not None:
            row_expression(where)
        return where

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.n is None) == (self.share is None):
            raise ValueError("give n or share, one of the two")
        if self.table == "prompts" and self.per == "prompt":
            raise ValueError("per: prompt is for responses and preferences: of each prompt there is but one")
        return self

    def inputs(self) -> frozenset[str]:
        """The table that it draws from, and the prompts that responses are shown with."""
        return frozenset({self.table, "prompts"} if self.table == "responses" else {self.table})

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The drops."""
        key = KEYS[self.table]
        rows = with_extras(self.table, tables).drop(PASSED_THROUGH)
        if self.where is not None:
            try:
                rows = rows.filter(row_expression(self.where))
            except PolarsError as error:
                raise PipelineError(f"where: {self.where!r} does not work on {self.table}: {error}") from error
        drawn = [make_id("sample", self.seed, one) for one in rows[key]]
        rows = rows.select(key, "group_id", place=pl.coalesce("prompt_id", "group_id")).with_columns(
            pl.Series("drawn", drawn, dtype=pl.String)
        )
        rows = rows.with_columns(place=pl.lit("")) if self.per == "dataset" else rows
        rows = rows.sort("place", "drawn").with_columns(rank=pl.int_range(pl.len()).over("place"))
        counts = {
            place: self.n if self.n is not None else held_out(size, self.share or 0.0)
            for place, size in rows.group_by("place").len().iter_rows()
        }
        kept = pl.col("place").replace_strict(counts, default=0, return_dtype=pl.Int64)
        dropped = rows.filter(pl.col("rank") >= kept)
        context.log(f"{dropped.height} of {tables[self.table].height} {self.table} dropped by chance")
        said = f"n {self.n}" if self.n is not None else f"share {self.share:g}"
        return {"drops": drops_of(self.table, dropped, pl.lit(f"not drawn: {said}, seed {self.seed}"), self.view)}
