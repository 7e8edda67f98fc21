"""`select`: what is left out of a view, and why. It reads and drops, and computes no new value.

A dropped row stays in the dataset; a row of `drops` hides it from the step's view as long as the step is live.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import polars as pl
from polars.exceptions import PolarsError
from pydantic import Field, field_validator, model_validator

from prefdata.errors import PipelineError
from prefdata.operators.evidence import EVIDENCE, VALID, selected
from prefdata.pipeline.registry import nearest, step
from prefdata.pipeline.step import CONSENSUS, Context, TableStep
from prefdata.schema import KEYS, PASSED_THROUGH, SCHEMAS, Row

_TOKENS = re.compile(
    r"""\s+
    | '(?:[^'\\]|''|\\(?!'))*'          # a text; \' would end it in some dialects and not in others
    | "[^"]*"                           # a column's name
    | [^\W\d]\w*(?!['\w])               # a word (E'...' and the like are not)
    | \d+(?:\.\d+)?(?:[eE][+-]?\d+)?
    | (?!--|/\*)[-+*/%=<>!~|&^(),.:\[\]]
    """,
    re.VERBOSE,
)
_WORD = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|([^\W\d]\w*)(\s*\()?""")
_QUERIES = {"select", "from"}
_ACROSS_ROWS = {
    *("avg", "mean", "sum", "count", "min", "max", "first", "last", "median", "stddev", "stdev", "stddev_samp"),
    *("stdev_samp", "variance", "var", "var_samp", "quantile_cont", "quantile_disc", "corr", "covar", "covar_samp"),
    *("covar_pop", "array_agg", "string_agg", "listagg", "row_number", "rank", "dense_rank", "lag", "lead"),
    *("first_value", "last_value", "unnest"),
}

_EXTRAS = {"responses": ("n_chars", "prompt_tags", "prompt_source"), "prompts": ("n_turns", "n_chars")}
"""What `_with_extras` adds to a table."""


def row_expression(text: str) -> pl.Expr:
    """A polars expression from a SQL condition on the columns of one row.

    polars opens the files that a SQL subquery names while it parses, so queries are refused before it sees them.

    Args:
        text: for example `n_tokens > 3 and finish_reason = 'stop'`.

    Raises:
        ValueError: it is no SQL expression, holds a query, or looks at other rows.
    """
    end = 0
    while end < len(text):
        token = _TOKENS.match(text, end)
        if token is None:
            raise ValueError(f"{text!r} cannot be read as a SQL expression from {text[end : end + 20]!r} on")
        end = token.end()
    for word in _WORD.finditer(text):
        name = (word.group(1) or "").lower()
        if name in _QUERIES:
            raise ValueError(
                f"{text!r} holds the word {name.upper()}: a condition on one row cannot query other tables"
            )
        if name == "over" or (name in _ACROSS_ROWS and word.group(2)):
            raise ValueError(f"{text!r} uses {name.upper()}, which looks at other rows: a condition sees one row")
    try:
        return pl.sql_expr(text)
    except (PolarsError, OSError) as error:
        raise ValueError(f"{text!r} is not a SQL expression: {error}") from error


def _drops(table: str, rows: pl.DataFrame, reason: pl.Expr, view: str) -> pl.DataFrame:
    return rows.select(
        pl.lit(table).alias("table"),
        pl.col(KEYS[table]).alias("id"),
        "group_id",
        pl.lit(view).alias("view"),
        reason.alias("reason"),
        pl.lit(False).alias("restore"),
    )


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
        rows = _with_extras(self.table, tables).drop(PASSED_THROUGH)
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
        return {"drops": _drops(self.table, dropped, reason, self.view)}


def _with_extras(table: str, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
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


@step("select.threshold")
class Threshold(TableStep):
    """Keep the responses, or the preferences, whose scores lie in a range.

    Scores are those of the protocols `score` and `measure` under one aspect: of the response itself, or of the
    preference itself (by a pair critic). Where several annotations fit, every one of them must lie in the range: name
    one annotator where that is not meant. What has no score is kept unless `unscored: drop` says otherwise: missing is
    not zero.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"annotations", CONSENSUS, "responses", "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"drops"})
    ordered: ClassVar[bool] = False
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": EVIDENCE,
        "responses": (),
        "preferences": (),
    }
    narrows: ClassVar[str | None] = "annotations"

    aspect: str = Field("overall", description="The aspect scored.")
    annotator: str = Field("consensus:*", description="Whose scores (`*` stands for any text).")
    min: float | None = Field(None, description="Scores below are dropped.")
    max: float | None = Field(None, description="Scores above are dropped.")
    table: Literal["responses", "preferences"] = Field("responses", description="What to drop from.")
    unscored: Literal["keep", "drop"] = Field("keep", description="What happens to what has no score.")

    @model_validator(mode="after")
    def _has_limit(self) -> Threshold:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both: without a limit nothing is dropped")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: nothing could be kept")
        if self.table == "preferences" and "annotator" not in self.model_fields_set:
            raise ValueError(
                'preferences have no consensus: name the critic whose scores count, for example annotator: "judge:*"'
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
        context.log(f"{len(dropped)} of {len(judged)} {self.table} dropped by {what}{note}")
        return {"drops": _drops(self.table, dropped, pl.col("reason"), self.view)}
