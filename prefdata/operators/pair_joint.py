"""`pair.joint`: preferences between responses to different prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import polars as pl

from prefdata.operators.across import across
from prefdata.operators.pair import Pair
from prefdata.operators.pair_planned import PLANNED, planned_rule, stood_in
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Scope
from prefdata.schema import Row


@step("pair.joint")
class PairJoint(Pair):
    """Preferences of kind `joint`: between responses that each answer a prompt of their own.

    It reads annotations whose targets stand under their own prompts in different groups (`prompt_id` null: those of
    `judge.compare_joint`, of people, imported), and nothing else; all the rest is said by `pair`. A row carries the
    group of its first response. DOVE's loss reads them; they mix with the preferences of `pair` in one export.
    """

    scope: ClassVar[Scope] = "dataset"

    def planned(self) -> PairJoint:
        """See `TableStep`: every pair that there could be."""
        return PlannedPairJoint.model_construct(**{**dict(self), **PLANNED, "rule": planned_rule(self.rule)})

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The preferences; what gave none is counted in the log."""
        kept = across(tables["annotations"], tables["responses"])
        listed = tables["annotations"].join(kept, on="annotation_id", how="semi", maintain_order="left")
        return self.paired(tables, listed, context)


class PlannedPairJoint(PairJoint):
    """A `pair.joint` in a plan; see `prefdata.operators.pair_planned`."""

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The preferences, whatever the scores."""
        return super().run(stood_in(tables), context)
