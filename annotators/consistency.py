"""`judge.consistency`: whether several views of a pair agree on which response is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar

import polars as pl
from pydantic import Field, field_validator

from prefdata.operators.aggregate.base import refuse_infinite
from prefdata.operators.evidence import (
    EVIDENCE,
    ORDERING,
    comparisons,
    directed,
    first_match,
    lists_of,
    newest_cards,
    selected,
)
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, TableStep
from prefdata.schema import Row, make_id

from .measured import annotations_of

ASPECT = "consistency"


@step("judge.consistency")
class Consistency(TableStep):
    """Measure how far several views (judges, likelihoods, rewards) agree on each pair of a better and a worse response.

    A view is an annotator; its probability that the better response wins is the mean of all it said of the two: both
    orders of a comparison, or the order of its scores (1, 0, or 1/2 for a tie). Two measures on each preference: under
    `consistency` the share of weight of the views that stand on one side of 1/2, the larger side; under
    `consistency_p` their weighted mean probability. `select.consistent` then drops. With fewer than two views it
    abstains, and from lists of more than two. The log says how often each two views disagree.

    Views of one model err together: what all of them prefer may only be longer (`judge.heuristics` with
    `pairs: [length_ratio]` says).

    Source: the filter by consistent internal rewards of SCIR; reconstructed from its abstract, so that the default of
    `select.consistent`'s margin is this project's.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"annotations", "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"annotations", "annotators"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": (*EVIDENCE, "created_at"),
        "preferences": ("prompt_id", "response_ids"),
    }
    narrows: ClassVar[str | None] = "annotations"

    views: dict[str, float] = Field(
        {"*": 1.0}, description="Whose views count, by annotator (`*`: any text), and their weights; or a list of them."
    )
    aspects: tuple[str, ...] = Field((), description="Only what was said under these aspects; all unless given.")
    direction: dict[str, int] = Field({}, description="Of measures, by aspect: 1 if more is better, -1 if less.")

    @field_validator("views", mode="before")
    @classmethod
    def _weighted(cls, value: object) -> object:
        return dict.fromkeys(value, 1.0) if isinstance(value, list | tuple) else value

    @field_validator("views")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        if not value or not all(0 < weight < float("inf") for weight in value.values()):
            raise ValueError("views needs at least one annotator, and weights above 0")
        return value

    @field_validator("direction")
    @classmethod
    def _turned(cls, value: dict[str, int]) -> dict[str, int]:
        if any(sign not in (1, -1) for sign in value.values()):
            raise ValueError("a direction is 1 (more is better) or -1 (less is better)")
        return value

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """Two measures for each pair."""
        two = pl.when(pl.col("response_ids").list.len() == 2).then("response_ids")
        pairs = tables["preferences"].select(
            "group_id",
            "prompt_id",
            id="preference_id",
            better=two.list.get(0, null_on_oob=True),
            worse=two.list.get(1, null_on_oob=True),
        )
        seen = self._views(tables["annotations"])
        said = pairs.with_columns(
            first=pl.min_horizontal("better", "worse"), second=pl.max_horizontal("better", "worse")
        )
        said = said.drop_nulls("first").join(
            seen, on=["prompt_id", "first", "second"], how="inner", nulls_equal=True, maintain_order="left"
        )
        said = said.with_columns(
            p=pl.when(pl.col("better") == pl.col("first")).then("p").otherwise(1 - pl.col("p"))
        ).sort("id", "annotator")
        self._tell(said, pairs.height, context)
        weight, p = pl.col("weight"), pl.col("p")
        found = said.group_by("id", maintain_order=True).agg(
            views=pl.len(),
            share=pl.max_horizontal(weight.filter(p > 0.5).sum(), weight.filter(p < 0.5).sum()) / weight.sum(),
            mean=(weight * p).sum() / weight.sum(),
            read=pl.concat_str("annotator", p.cast(pl.String), separator=" ").str.join("\n"),
        )
        enough = pl.col("views") >= 2
        rows = pairs.join(found, on="id", how="left", maintain_order="left").with_columns(
            pl.when(enough).then(pl.col("share", "mean"))
        )
        key = [self.version, {**self.resolved(), "view": None}]
        names: dict[str, Any] = {"target": "preference", "annotator": "rule:consistency", "key": key}
        base = ["id", "group_id", "prompt_id", "read"]
        rows = rows.with_columns(read=pl.col("read").map_elements(_named, return_dtype=pl.String))
        made = [
            annotations_of(rows.select(*base, score="share"), protocol="measure", aspect=ASPECT, **names),
            annotations_of(rows.select(*base, score="mean"), protocol="measure", aspect=f"{ASPECT}_p", **names),
        ]
        return {"annotations": pl.concat(made), "annotators": [{"annotator": "rule:consistency"}]}

    def _views(self, annotations: pl.DataFrame) -> pl.DataFrame:
        """prompt_id, first, second, annotator, p: P(first is better), and the weight of the view."""
        rows = selected(annotations, aspects=self.aspects, annotators=list(self.views))
        rows = rows.filter((pl.col("source") != "consensus") & pl.col("protocol").is_in(ORDERING))
        if self.direction or self.aspects:
            rows = directed(rows, self.direction, self.kind)
        else:
            rows = rows.filter(pl.col("protocol") != "measure")  # a fact is no view, unless it is asked for
        refuse_infinite(rows, self.kind)
        place = ["prompt_id", "first", "second", "annotator"]
        found = comparisons(lists_of(newest_cards(rows))).sort(*place, "p").group_by(place, maintain_order=True)
        views = found.agg(pl.col("p").mean())
        weights = {name: self.views[str(first_match(name, self.views))] for name in views["annotator"].unique()}
        weight = pl.col("annotator").replace_strict(weights, return_dtype=pl.Float64) if weights else pl.lit(1.0)
        return views.with_columns(weight.alias("weight"))

    def _tell(self, said: pl.DataFrame, count: int, context: Context) -> None:
        side = said.select("id", "annotator", side=(pl.col("p") - 0.5).sign())
        names = side["annotator"].unique().sort().to_list()
        for one, other in combinations(names[:8], 2):
            both = side.filter(pl.col("annotator") == one).join(side.filter(pl.col("annotator") == other), on="id")
            apart = both.filter(pl.col("side") != pl.col("side_right")).height
            context.log(f"{one} and {other} disagree on {apart} of {both.height} pairs")
        alone = count - said.group_by("id").len().filter(pl.col("len") >= 2).height
        if alone:
            context.log(f"{alone} of {count} pairs have fewer than two views")


def _named(read: str) -> str:
    return make_id("read", read)
