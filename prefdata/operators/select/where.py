"""Keep the rows of a table for which a condition on their columns is true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import polars as pl
from polars.exceptions import PolarsError
from pydantic import Field, field_validator, model_validator

from prefdata.errors import PipelineError
from prefdata.operators.select.conditions import row_expression
from prefdata.operators.select.dropping import drops_of
from prefdata.pipeline.registry import nearest, step
from prefdata.pipeline.step import CONSENSUS, Context, TableStep
from prefdata.schema import PASSED_THROUGH, SCHEMAS, Row

_EXTRAS = {"responses": ("n_chars", "prompt_tags", "prompt_source"), "prompts": ("n_turns", "n_chars")}
"""What `with_extras` adds to a table."""


@step("select.where")
class Where(TableStep):
    """Keep the rows of a table for which a SQL condition on their own columns is true.

    As in SQL, a condition that is neither true nor false (it meets a null) does not keep the row: such rows are
    dropped with the reason `<condition>: unknown` and counted in the log; `coalesce(n_tokens, 0) > 3` or
    `n_tokens is null or n_tokens > 3` say it otherwise. Besides the table's columns there are, for responses, n_chars,
    prompt_tags and prompt_source; for prompts, n_turns and n_chars (of all turns).
    """

    reads: ClassVar[frozenset[str]] = frozenset({"prompts", "responses", "annotations", CONSENSUS, "preferences"})
    ordered: ClassVar[bool] = False
    writes: ClassVar[frozenset[str]] = frozenset({"drops"})

    table: Literal["responses", "prompts", "annotations", "preferences"] = Field(
        "responses", description="What to drop from."
    )
    keep: str = Field(description="SQL condition on the columns of one row, for example \"finish_reason = 'stop'\".")

    @field_validator("keep")
    @classmethod
    def _is_condition(cls, keep: str) -> str:
        row_expression(keep)
        return keep

    @model_validator(mode="after")
    def _names_columns(self) -> Where:
        """Refuse a wrong column here, before any earlier step has paid for a call."""
        columns = [*SCHEMAS[self.table].names, *_EXTRAS.get(self.table, ())]
        columns.remove(PASSED_THROUGH)
        for name in row_expression(self.keep).meta.root_names():
            if name == PASSED_THROUGH:
                raise ValueError(f"keep names the column {name!r}, which is carried along and no step reads")
            if name not in columns:
                hint = nearest(name, columns) or f" (it has: {', '.join(columns)})"
                raise ValueError(f"keep names the column {name!r}, which {self.table} does not have{hint}")
        return self

    def inputs(self) -> frozenset[str]:
        """The table that it drops from, and the prompts that responses are shown with."""
        if self.table == "annotations":
            return frozenset({"annotations", CONSENSUS})
        return frozenset({self.table, "prompts"} if self.table == "responses" else {self.table})

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The drops."""
        rows = with_extras(self.table, tables).drop(PASSED_THROUGH)
        expression = row_expression(self.keep)
        try:
            kept = rows.select(expression.alias("kept")).to_series()
        except PolarsError as error:
            raise PipelineError(f"keep: {self.keep!r} does not work on {self.table}: {error}") from error
        if len(kept) == 1 != len(rows):
            kept = kept.new_from_index(0, len(rows))
        if kept.dtype != pl.Boolean or len(kept) != len(rows):
            raise PipelineError(f"keep: {self.keep!r} is not true or false for each row: it is {kept.dtype}")
        unknown = kept.is_null().sum()
        dropped = rows.with_columns(kept.alias("kept")).filter(~pl.col("kept").fill_null(False))
        note = f", {unknown} of them because it is unknown (null)" if unknown else ""
        context.log(f"{len(dropped)} of {len(rows)} {self.table} dropped by {self.keep!r}{note}")
        reason = pl.when(pl.col("kept").is_null()).then(pl.lit(f"{self.keep}: unknown")).otherwise(pl.lit(self.keep))
        return {"drops": drops_of(self.table, dropped, reason, self.view)}


def with_extras(table: str, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The rows of a table with the further columns that a condition may name, see `Where`."""
    rows = tables[table]
    if table == "responses":
        prompts = tables["prompts"].select("prompt_id", prompt_tags="tags", prompt_source="source")
        return rows.with_columns(n_chars=pl.col("text").str.len_chars()).join(
            prompts, on="prompt_id", how="left", maintain_order="left"
        )
    if table == "prompts":
        contents = pl.col("messages").list.eval(pl.element().struct.field("content").str.len_chars())
        return rows.with_columns(n_turns=pl.col("messages").list.len(), n_chars=contents.list.sum())
    return rows
