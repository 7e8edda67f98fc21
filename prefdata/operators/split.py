"""`split`: which groups train, and which are held out."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

import polars as pl
from pydantic import Field

from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Scope, TableStep
from prefdata.schema import Row, annotation, make_id


@step("split")
class Split(TableStep):
    """A label `train` or `valid` on the root prompt of each group.

    Whole groups are split, so that no prompt leaks. They are sorted by a hash of seed and group, and the first are held
    out; the count is exact.
    """

    scope: ClassVar[Scope] = "dataset"
    reads: ClassVar[frozenset[str]] = frozenset({"prompts"})
    writes: ClassVar[frozenset[str]] = frozenset({"annotations"})
    narrows: ClassVar[str | None] = "prompts"

    valid: float = Field(0.1, ge=0, le=1, description="Share of the groups to hold out.")
    seed: int = Field(0, description="Another seed, another split.")

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """One annotation for each group."""
        groups = sorted(set(tables["prompts"]["group_id"].to_list()))
        # Any group more may move others, so every row's id names all that was read.
        key = [self.kind, self.version, self.valid, self.seed, make_id("groups", groups)]
        ordered = sorted(groups, key=lambda group: make_id("split", self.seed, group))
        count = held_out(len(groups), self.valid)
        names = ["valid"] * count + ["train"] * (len(groups) - count)
        made = [
            annotation(
                group_id=group,
                prompt_id=group,
                target="prompt",
                target_ids=[group],
                protocol="label",
                labels=[name],
                annotator="rule:split",
                aspect="split",
                source="rule",
                key=key,
            )
            for group, name in sorted(zip(ordered, names, strict=True))
        ]
        context.log(f"{len(groups) - count} groups to train on, {count} held out")
        return {"annotations": made}


def held_out(n: int, share: float) -> int:
    """The nearest whole number to `share` of `n`, a half upward. A decimal share is taken at its word."""
    return int(n * Fraction(repr(share)) + Fraction(1, 2))
