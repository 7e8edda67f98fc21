"""Consensus by majority: of labels, and of comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import polars as pl
from pydantic import Field

from prefdata.operators.aggregate.base import VERDICT, WeightedAggregate, weight_of
from prefdata.operators.evidence import CONTEXT, VALID, coded, digests
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context

SEPARATOR = "\x1f"
"""Between several labels of one target, which are one verdict."""


SLACK = 1e-9
"""Two votes in three are a share of 0.6667 or more, whatever binary fractions say."""


@step("aggregate.majority")
class Majority(WeightedAggregate):
    """The most frequent verdict: over labels for each response, over comparisons for each pair.

    A comparison's verdict is first, second or tie. The two orders of one comparison by one annotator (same criterion
    and replicate) are merged to one vote first: the same response in both orders wins, anything else is a tie. With
    `weights` it is the share of weight that counts. Where two verdicts have the same there is no majority, and the row
    abstains; so it does where the most frequent one has less than `share`, of which 1 asks for unanimity. The
    confidence is the winner's share of the votes. Annotations of other protocols are left out and counted.

    Of one annotator that was asked in both orders this is the merged verdict and nothing else (swap merge).
    """

    later: ClassVar[frozenset[str]] = frozenset({"weights", "share", "soft"})

    share: float | None = Field(
        None, gt=0, le=1, description="Which share of the votes (by weight) a verdict needs; 1: all of them agree."
    )
    soft: bool = Field(
        False, description="Of comparisons, state each response's share of the votes (a tie is half), not the winner."
    )

    def consensus(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """Rows of protocol compare (scores 1 and 0, or 0.5 each) and label (one response each)."""
        other = rows.filter(~pl.col("protocol").is_in(["compare", "label"]))
        if len(other):
            kinds = ", ".join(sorted(other["protocol"].unique().to_list()))
            context.log(f"{len(other)} annotations are neither labels nor comparisons ({kinds}): left out")
        rows, weight = self.weighed(rows)
        compared = self._compared(rows.filter(pl.col("protocol") == "compare"), weight)
        return pl.concat([compared, self._labelled(rows.filter(pl.col("protocol") == "label"), weight)])

    def _compared(self, rows: pl.DataFrame, weight: Mapping[str, float]) -> pl.DataFrame:
        ends = ends_of(rows)
        if ends.is_empty():
            return pl.DataFrame(schema=VERDICT)
        read = digests(ends, "problem", VALID, self.asked())
        winner = self._winners(tally(merged_orders(ends.filter(VALID), weight)))
        low = pl.col("part") if self.soft else worth_to_low(pl.col("verdict"))
        return (
            ends.unique("problem", keep="first", maintain_order=True)
            .join(read, on="problem", how="left", maintain_order="left")
            .join(winner, on="problem", how="left", maintain_order="left")
            .with_columns(
                target_ids=pl.concat_list("low", "high"),
                protocol=pl.lit("compare"),
                scores=pl.when(low.is_not_null()).then(pl.concat_list(low, 1 - low)),
                labels=pl.lit(None, pl.List(pl.String)),
                confidence="share",
            )
            .select(list(VERDICT))
        )

    def _labelled(self, rows: pl.DataFrame, weight: Mapping[str, float]) -> pl.DataFrame:
        each = coded(labels_of(rows), [*CONTEXT, "named"], "problem")
        if each.is_empty():
            return pl.DataFrame(schema=VERDICT)
        given = pl.col("verdict").is_not_null()
        read = digests(each, "problem", given, self.asked())
        votes = tally(each.filter(given).select("problem", "verdict", weight=weight_of(weight)))
        winner = self._winners(votes).filter(pl.col("verdict").is_not_null())
        return (
            each.drop("verdict")
            .unique("problem", keep="first", maintain_order=True)
            .join(read, on="problem", how="left", maintain_order="left")
            .join(winner, on="problem", how="left", maintain_order="left")
            .with_columns(
                target_ids=pl.concat_list("named"),
                protocol=pl.lit("label"),
                scores=pl.lit(None, pl.List(pl.Float64)),
                labels=pl.col("verdict").str.split(SEPARATOR),
                confidence="share",
            )
            .select(list(VERDICT))
        )

    def _winners(self, votes: pl.DataFrame) -> pl.DataFrame:
        """problem, verdict, share of the verdicts that have the most weight, and part: what the low response has of it.

        Of those with `min_valid` votes or more. Where two have the most there is no winner: the verdict is null, and
        the problem is there only if shares are stated.

        Args:
            votes: what `tally` returns.
        """
        total, share = pl.col("weight").sum().round(12), pl.col("weight").max() / pl.col("weight").sum().round(12)
        most = pl.col("weight") == pl.col("weight").max()
        part = (pl.col("weight") * worth_to_low(pl.col("verdict"))).sum() / total
        found = votes.group_by("problem", maintain_order=True).agg(
            verdict=pl.when(most.sum() == 1).then(pl.col("verdict").filter(most).first()),
            share=share,
            part=part,
            given=pl.col("votes").sum(),
        )
        enough = (pl.col("given") >= self.min_valid) & (pl.col("share") >= (self.share or 0) - SLACK)
        kept = found.filter(enough & (pl.col("verdict").is_not_null() | self.soft))
        return kept.select("problem", "verdict", "share", "part")


def worth_to_low(verdict: pl.Expr) -> pl.Expr:
    """What a verdict on a pair gives to the response whose id comes first: 1, 0.5 or 0; null for any other verdict."""
    return verdict.replace_strict({"low": 1.0, "tie": 0.5, "high": 0.0}, default=None, return_dtype=pl.Float64)


def ends_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Comparisons of two responses with their ends in the order of the ids (low, high), numbered by `problem`."""
    both = (pl.col("target_ids").list.first(), pl.col("target_ids").list.last())
    # Not list.min: of texts that takes fifty times the time, and ten times the memory of the whole table.
    ends = rows.filter(pl.col("target_ids").list.len() == 2).with_columns(
        low=pl.min_horizontal(both), high=pl.max_horizontal(both)
    )
    return coded(ends, [*CONTEXT, "low", "high"], "problem")


def labels_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Labels response by response: one row for each target, `named`, with the `verdict` (null where nothing is said).

    One label for each target; or several labels of one target, which are one verdict, whatever their order.
    """
    count, targets = pl.col("labels").list.len(), pl.col("target_ids").list.len()
    aligned, several = count == targets, (targets == 1) & (count > 1)
    said = (pl.col("status") == "ok") & (aligned | several).fill_null(False)
    together = pl.concat_list(pl.col("labels").list.sort().list.join(SEPARATOR))
    verdicts = pl.when(~said).then(None).when(several).then(together).otherwise(pl.col("labels"))
    silent = pl.col("target_ids").list.eval(pl.lit(None, dtype=pl.String).repeat_by(pl.len()).explode())
    each = rows.with_columns(verdict=pl.coalesce(verdicts, silent), named=pl.col("target_ids"))
    return each.explode("verdict", "named")


def merged_orders(valid: pl.DataFrame, weight: Mapping[str, float]) -> pl.DataFrame:
    """One row for each vote, after merging the two orders of each comparison.

    Args:
        valid: what `ends_of` returns, valid rows only.
        weight: of each annotator; 1 where none is given.

    Returns:
        problem, annotator, verdict (low, tie, high) and weight.
    """
    forward = pl.col("target_ids").list.first() == pl.col("low")
    margin = (pl.col("scores").list.first() - pl.col("scores").list.last()).sign()
    unit = ["problem", "annotator", "criterion_id", "replicate"]
    votes = valid.select(
        *unit, "annotation_id", forward=forward, vote=pl.when(forward).then(margin).otherwise(-margin)
    ).sort(*unit, "forward", "vote", "annotation_id")
    # The k-th of one order meets the k-th of the other; what has no partner is a vote by itself.
    votes = votes.with_columns(k=pl.int_range(pl.len()).over(*unit, "forward"))
    merged = votes.group_by(*unit, "k").agg(least=pl.col("vote").min(), most=pl.col("vote").max())
    vote = pl.when(pl.col("least") == pl.col("most")).then(pl.col("least")).otherwise(0.0)
    verdict = vote.replace_strict({1.0: "low", 0.0: "tie", -1.0: "high"}, return_dtype=pl.String)
    return merged.select("problem", "annotator", verdict=verdict, weight=weight_of(weight))


def tally(votes: pl.DataFrame) -> pl.DataFrame:
    """problem, verdict, votes (how many) and weight (theirs together), from one row for each vote."""
    counted = votes.group_by("problem", "verdict", "weight").len("votes").sort("problem", "verdict", "weight")
    # 12 decimals: weights that are equal on paper (0.1 + 0.2 and 0.3) must not differ in the last bit.
    weight = (pl.col("weight") * pl.col("votes")).sum().round(12)
    return counted.group_by("problem", "verdict", maintain_order=True).agg(pl.col("votes").sum(), weight=weight)
