"""`split`: which groups train, and which are held out."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

import polars as pl
from pydantic import Field, model_validator

from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Scope, TableStep
from prefdata.schema import Row, annotation, make_id


@step("split")
class Split(TableStep):
    """A label `train`, `valid` or `test` on the root prompt of each group.

    Whole groups are split, so that no prompt leaks. They are sorted by a hash of seed and group; valid is taken from
    the front and test from the back, so that a change of one leaves the other in place. The counts are exact (largest
    remainder; equal remainders go to valid, then test).
    """

    scope: ClassVar[Scope] = "dataset"
    reads: ClassVar[frozenset[str]] = frozenset({"prompts"})
    writes: ClassVar[frozenset[str]] = frozenset({"annotations"})
    narrows: ClassVar[str | None] = "prompts"

    valid: float = Field(0.1, ge=0, le=1, description="Share of the groups.")
    test: float = Field(0.0, ge=0, le=1, description="Share of the groups.")
    seed: int = Field(0, description="Another seed, another split.")

    @model_validator(mode="after")
    def _leaves_some(self) -> Split:
        if self.valid + self.test > 1:
            raise ValueError(f"valid and test are {self.valid} and {self.test}: together more than 1")
        return self

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """One annotation for each group."""
        groups = sorted(set(tables["prompts"]["group_id"].to_list()))
        # Any group more may move others, so every row's id names all that was read.
        key = [self.kind, self.version, self.valid, self.test, self.seed, make_id("groups", groups)]
        ordered = sorted(groups, key=lambda group: make_id("split", self.seed, group))
        valid, test = shares(len(groups), self.valid, self.test)
        names = ["valid"] * valid + ["train"] * (len(groups) - valid - test) + ["test"] * test
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
        context.log(f"{len(groups) - valid - test} train, {valid} valid, {test} test groups")
        return {"annotations": made}


def shares(n: int, valid: float, test: float) -> tuple[int, int]:
    """How many of `n` are valid and test, by the largest remainder. Decimal shares are taken at their word."""
    parts = [Fraction(repr(valid)), Fraction(repr(test))]
    quotas = [n * part for part in [*parts, 1 - sum(parts)]]
    counts = [int(quota) for quota in quotas]
    order = sorted(range(3), key=lambda place: (counts[place] - quotas[place], place))
    for place in order[: n - sum(counts)]:
        counts[place] += 1
    return counts[0], counts[1]
