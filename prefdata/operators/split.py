"""`split`: which groups train, and which are held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import ClassVar

import polars as pl
from pydantic import Field

from prefdata.operators.row_ids import json_of, json_text, row_ids
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Scope, TableStep
from prefdata.schema import Row, make_id, now


@step("split")
class Split(TableStep):
    """A label `train` or `valid` on the root prompt of each group.

    Whole groups are split, so that no prompt leaks. They are sorted by a hash of seed and group, and the first are held
    out; the count is exact.
    """

    scope: ClassVar[Scope] = "dataset"
    reads: ClassVar[frozenset[str]] = frozenset({"prompts"})
    writes: ClassVar[frozenset[str]] = frozenset({"annotations"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {"prompts": ()}
    narrows: ClassVar[str | None] = "prompts"

    valid: float = Field(0.1, ge=0, le=1, description="Share of the groups to hold out.")
    seed: int = Field(0, description="Another seed, another split.")

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """One annotation for each group."""
        groups = tables["prompts"]["group_id"].unique().sort().to_list()
        # Any group more may move others, so every row's id names all that was read.
        key = [self.kind, self.version, self.valid, self.seed, make_id("groups", groups)]
        ordered = sorted(groups, key=lambda group: make_id("split", self.seed, group))
        count = held_out(len(groups), self.valid)
        name = pl.when(pl.int_range(pl.len()) < count).then(pl.lit("valid")).otherwise(pl.lit("train"))
        made = (
            pl.DataFrame({"group_id": ordered}, schema={"group_id": pl.String})
            .with_columns(
                pl.col("group_id").alias("prompt_id"),
                target_ids=pl.concat_list("group_id"),
                labels=pl.concat_list(name),
            )
            .sort("group_id")
        )
        said = {"target": "prompt", "protocol": "label", "annotator": "rule:split", "aspect": "split"}
        ids = row_ids(
            made,
            "annotation",
            json_of(pl.col("prompt_id")),
            json_text(said["target"]),
            json_of(pl.col("target_ids")),
            *(json_text(said[name]) for name in ("protocol", "annotator", "aspect")),
            json_text(0),
            json_text(key),
        )
        context.log(f"{len(groups) - count} groups to train on, {count} held out")
        rest = {**said, "source": "rule", "status": "ok", "created_at": now()}
        numbers = {"replicate": pl.lit(0, pl.Int32), "revision": pl.lit(1, pl.Int32)}
        constant = {name: pl.lit(value) for name, value in rest.items()}
        return {"annotations": made.with_columns(ids.alias("annotation_id"), **constant, **numbers)}


def held_out(n: int, share: float) -> int:
    """The nearest whole number to `share` of `n`, a half upward. A decimal share is taken at its word."""
    return int(n * Fraction(repr(share)) + Fraction(1, 2))
