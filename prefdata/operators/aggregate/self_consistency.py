"""Consensus of one annotator with itself: what it says most often when it is asked again and again."""

from __future__ import annotations

from typing import ClassVar

import polars as pl

from prefdata.errors import DataError
from prefdata.operators.aggregate.base import VERDICT
from prefdata.operators.aggregate.majority import Majority, tally
from prefdata.operators.evidence import CONTEXT, VALID, coded, digests
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context


@step("aggregate.self_consistency")
class SelfConsistency(Majority):
    """The verdict that one annotator gives most often, over its replicates.

    As `aggregate.majority`, and of scores likewise the most frequent one, response by response (a judge that says 4, 4
    and 2 means 4). The confidence is the share of the replicates that say so. Where a prompt and an aspect have
    several annotators it refuses: that is a jury, for `aggregate.majority` or `aggregate.mean`.

    After Wang et al. (2022), who take the most frequent of several sampled answers.
    """

    later: ClassVar[frozenset[str]] = frozenset()

    def consensus(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """Rows of protocol compare, label and score."""
        speakers = rows.group_by(CONTEXT).agg(pl.col("annotator").unique().sort().drop_nulls())
        several = speakers.filter(pl.col("annotator").list.len() > 1).sort(CONTEXT)
        if several.height:
            first = several.row(0, named=True)
            raise DataError(
                f"{self.kind}: prompt {first['prompt_id']} has {len(first['annotator'])} annotators of aspect "
                f"{first['aspect']!r} ({', '.join(first['annotator'][:3])}). Self-consistency is one annotator's: name "
                "it (annotators:), or take aggregate.majority"
            )
        scored = (pl.col("protocol") == "score") & (pl.col("target_ids").list.len() == 1)
        return pl.concat([super().consensus(rows.filter(~scored), context), self._scored(rows.filter(scored))])

    def _scored(self, rows: pl.DataFrame) -> pl.DataFrame:
        rows = rows.filter(pl.col("target_ids").list.len() == 1)
        each = coded(rows.with_columns(named=pl.col("target_ids").list.first()), [*CONTEXT, "named"], "problem")
        if each.is_empty():
            return pl.DataFrame(schema=VERDICT)
        read = digests(each, "problem", VALID, self.asked())
        said = each.filter(VALID).select(
            "problem", verdict=pl.col("scores").list.first().cast(pl.String), weight=pl.lit(1.0)
        )
        winner = self._winners(tally(said)).filter(pl.col("verdict").is_not_null())
        return (
            each.unique("problem", keep="first", maintain_order=True)
            .join(read, on="problem", how="left", maintain_order="left")
            .join(winner, on="problem", how="left", maintain_order="left")
            .with_columns(
                target_ids=pl.concat_list("named"),
                protocol=pl.lit("score"),
                scores=pl.when(pl.col("verdict").is_not_null()).then(
                    pl.concat_list(pl.col("verdict").cast(pl.Float64))
                ),
                labels=pl.lit(None, pl.List(pl.String)),
                confidence="share",
            )
            .select(list(VERDICT))
        )
