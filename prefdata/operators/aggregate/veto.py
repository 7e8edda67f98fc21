"""Consensus by minority veto: a few objections are enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import polars as pl
from pydantic import Field, model_validator

from prefdata.operators.aggregate.base import VERDICT, WeightedAggregate, weight_of
from prefdata.operators.aggregate.majority import SEPARATOR, SLACK, ends_of, labels_of, merged_orders, tally
from prefdata.operators.evidence import CONTEXT, VALID, coded, digests, first_match
from prefdata.operators.scales import check_alike
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context


@step("aggregate.veto")
class Veto(WeightedAggregate):
    """A response is rejected where enough members of the jury object to it, though most may be for it.

    What counts as an objection:

    - a label of `objections` (protocol `label`);
    - a score below `below` (protocol `score`);
    - a comparison that the response loses. The two orders of one comparison by one annotator are merged first, as by
      `aggregate.majority`, and a tie is no objection.

    Each annotation is a vote. A response is rejected where at least `least` votes object or, if `share` is given, at
    least that share of the votes' weight. Of labels and scores that gives one row of protocol `score` for each
    response: 1 it stands, 0 it is rejected (`select.threshold` with min 0.5 then drops it). Of comparisons it gives one
    row for each pair: the response that alone stands wins; where both stand it is a tie; where both are rejected the
    jury is divided and abstains, so that with `least: 1` only a unanimous comparison is won. The confidence is the
    share of the votes' weight that says the same. Whatever is no vote (another protocol, labels without `objections`,
    scores without `below`) is left out and counted.

    Reconstructed from the minority veto proposed against the agreeableness of LLM judges (a jury of judges that each
    pass nearly everything); how many objections it takes is a default of ours.
    """

    objections: tuple[str, ...] = Field(
        (), description="Labels that are an objection, for example [unsafe, incorrect]."
    )
    below: float | dict[str, float] | None = Field(
        None,
        description="A score below is an objection; one number where all score on one scale, or by annotator pattern.",
    )
    least: int | None = Field(None, ge=1, description="How many objections reject; 1 unless share is given.")
    share: float | None = Field(None, gt=0, le=1, description="Which share of the votes (by weight) rejects.")

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.least is not None and self.share is not None:
            raise ValueError("give least or share, not both: each says how many objections reject")
        return self

    def consensus(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """Rows of protocol score (one response each: 1 stands, 0 rejected) and compare."""
        rows, weight = self.weighed(rows)
        votes = (pl.col("protocol") == "compare") | self._single(rows)
        other = rows.filter(~votes)
        if len(other):
            kinds = ", ".join(sorted(other["protocol"].unique().to_list()))
            context.log(f"{len(other)} annotations are no votes here ({kinds}; see objections and below): left out")
        compared = self._compared(rows.filter(pl.col("protocol") == "compare"), weight)
        return pl.concat([compared, self._judged(rows.filter(self._single(rows)), weight)])

    def _single(self, rows: pl.DataFrame) -> pl.Expr:
        """Which annotations are votes about responses one by one."""
        found = (pl.col("protocol") == "label") & bool(self.objections)
        if self.below is None:
            return found
        limited = pl.col("protocol") == "score"
        if isinstance(self.below, dict):
            known = [name for name in rows["annotator"].drop_nulls().unique() if first_match(name, self.below)]
            limited &= pl.col("annotator").is_in(known)
        return found | limited

    def _limit(self, rows: pl.DataFrame) -> pl.Expr:
        """The score below which each row's annotator objects."""
        if not isinstance(self.below, dict):
            return pl.lit(self.below, pl.Float64)
        names = rows["annotator"].drop_nulls().unique()
        limits = {name: self.below[pattern] for name in names if (pattern := first_match(name, self.below)) is not None}
        return pl.col("annotator").replace_strict(limits, default=None, return_dtype=pl.Float64)

    def _judged(self, rows: pl.DataFrame, weight: Mapping[str, float]) -> pl.DataFrame:
        labelled = labels_of(rows.filter(pl.col("protocol") == "label"))
        named = pl.col("verdict").str.split(SEPARATOR).list.set_intersection(pl.lit(list(self.objections)))
        silent = pl.col("target_ids").list.eval(pl.lit(None, dtype=pl.Float64).repeat_by(pl.len()).explode())
        scored = (
            rows.filter(pl.col("protocol") == "score")
            .with_columns(score=pl.when(VALID).then("scores").otherwise(silent), named=pl.col("target_ids"))
            .explode("score", "named")
        )
        if isinstance(self.below, float | int):
            check_alike(scored.drop_nulls("score"), self.kind)
        columns = [*rows.columns, "named", "objects"]
        each = pl.concat(
            [
                labelled.with_columns(objects=named.list.len() > 0).select(columns),
                scored.with_columns(objects=pl.col("score") < self._limit(rows)).select(columns),
            ]
        )
        each = coded(each, [*CONTEXT, "named"], "problem")
        if each.is_empty():
            return pl.DataFrame(schema=VERDICT)
        given = pl.col("objects").is_not_null()
        against = pl.when("objects").then(pl.lit("against")).otherwise(pl.lit("for"))
        votes = tally(each.filter(given).select("problem", verdict=against, weight=weight_of(weight)))
        verdict = self._sides(votes, ("against",)).with_columns(
            confidence=pl.when("rejected").then("part").otherwise(1 - pl.col("part"))
        )
        return (
            each.unique("problem", keep="first", maintain_order=True)
            .drop("confidence", strict=False)
            .join(digests(each, "problem", given, self.asked()), on="problem", how="left", maintain_order="left")
            .join(verdict, on="problem", how="left", maintain_order="left")
            .with_columns(
                target_ids=pl.concat_list("named"),
                protocol=pl.lit("score"),
                scores=pl.when(pl.col("rejected").is_not_null()).then(
                    pl.concat_list((~pl.col("rejected")).cast(pl.Float64))
                ),
                labels=pl.lit(None, pl.List(pl.String)),
            )
            .select(list(VERDICT))
        )

    def _compared(self, rows: pl.DataFrame, weight: Mapping[str, float]) -> pl.DataFrame:
        ends = ends_of(rows)
        if ends.is_empty():
            return pl.DataFrame(schema=VERDICT)
        votes = tally(merged_orders(ends.filter(VALID), weight))
        low, high = (
            self._sides(votes, (other,)).select("problem", pl.all().exclude("problem").name.prefix(f"{side}_"))
            for side, other in (("low", "high"), ("high", "low"))
        )
        both = low.join(high, on="problem").with_columns(
            first=pl.when(pl.col("low_rejected") & pl.col("high_rejected"))
            .then(None)
            .when("high_rejected")
            .then(1.0)
            .when("low_rejected")
            .then(0.0)
            .otherwise(0.5)
        )
        tied = 1 - pl.col("low_part") - pl.col("high_part")
        same = {1.0: pl.col("high_part"), 0.0: pl.col("low_part"), 0.5: tied.clip(0, 1)}
        confidence = pl.coalesce(*(pl.when(pl.col("first") == first).then(part) for first, part in same.items()))
        return (
            ends.unique("problem", keep="first", maintain_order=True)
            .drop("confidence", strict=False)
            .join(digests(ends, "problem", VALID, self.asked()), on="problem", how="left", maintain_order="left")
            .join(
                both.select("problem", "first", confidence=confidence), on="problem", how="left", maintain_order="left"
            )
            .with_columns(
                target_ids=pl.concat_list("low", "high"),
                protocol=pl.lit("compare"),
                scores=pl.when(pl.col("first").is_not_null()).then(pl.concat_list("first", 1 - pl.col("first"))),
                labels=pl.lit(None, pl.List(pl.String)),
            )
            .select(list(VERDICT))
        )

    def _sides(self, votes: pl.DataFrame, against: tuple[str, ...]) -> pl.DataFrame:
        """problem, rejected and part (the share of the weight that objects), where there are `min_valid` votes.

        Args:
            votes: what `tally` returns.
            against: the verdicts that are an objection.
        """
        objects = pl.col("verdict").is_in(list(against))
        counted = votes.group_by("problem", maintain_order=True).agg(
            given=pl.col("votes").sum(),
            objecting=pl.col("votes").filter(objects).sum(),
            part=pl.col("weight").filter(objects).sum() / pl.col("weight").sum().round(12),
        )
        enough = pl.col("objecting") >= (self.least or 1)
        if self.share is not None:
            enough = pl.col("part") >= self.share - SLACK
        return counted.filter(pl.col("given") >= self.min_valid).select("problem", "part", rejected=enough)
