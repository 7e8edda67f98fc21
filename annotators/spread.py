"""`judge.spread`: how far the ratings of one response lie apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import polars as pl
from pydantic import Field

from prefdata.operators.aggregate.base import refuse_infinite
from prefdata.operators.evidence import EVIDENCE, VALID, selected
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, TableStep
from prefdata.schema import Row, make_id

from .measured import annotations_of


@step("judge.spread")
class Spread(TableStep):
    """Measure how far the ratings of each response lie apart: the highest less the lowest, under `ASPECT_spread`.

    With `agreeing` only so many ratings count, those whose distances to one another are the smallest in sum (of several
    such choices the one of the higher median). A response with a single rating is abstained from: nobody could differ.
    `select.threshold` then drops, for example `{aspect: helpfulness_spread, annotator: "rule:spread", max: 2}`.

    Source: HelpSteer2 keeps the 3 of 3 to 5 ratings that agree most and drops what stays more than 2 apart; the choice
    among ties is this project's.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"annotations"})
    writes: ClassVar[frozenset[str]] = frozenset({"annotations", "annotators"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {"annotations": EVIDENCE}
    narrows: ClassVar[str | None] = "annotations"

    aspects: tuple[str, ...] = Field((), description="Only these aspects (`*` stands for any text); all unless given.")
    annotators: tuple[str, ...] = Field(("human:*",), description="Whose ratings (`*` stands for any text).")
    agreeing: int | None = Field(
        None, ge=2, description="Only so many ratings, those that agree most; all unless given."
    )

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """One measure for each response and aspect."""
        rows = selected(tables["annotations"], aspects=self.aspects, annotators=self.annotators)
        refuse_infinite(rows, self.kind)
        rated = (
            rows.filter(VALID & (pl.col("protocol") == "score") & (pl.col("source") != "consensus"))
            .select("annotation_id", "group_id", "prompt_id", "aspect", "target_ids", "scores")
            .explode("target_ids", "scores")
            .sort("aspect", "target_ids", "annotation_id")
        )
        found = rated.group_by("group_id", "prompt_id", "aspect", id="target_ids", maintain_order=True).agg(
            "scores", read=pl.col("annotation_id").str.join(" ")
        )
        spreads = [None if len(listed) < 2 else spread(listed, self.agreeing) for listed in found["scores"].to_list()]
        found = found.with_columns(
            score=pl.Series(spreads, dtype=pl.Float64),
            read=pl.concat_str("read", pl.col("scores").list.eval(pl.element().cast(pl.String)).list.join(" ")),
        ).with_columns(pl.col("read").map_elements(lambda read: make_id("read", read), return_dtype=pl.String))
        said: dict[str, Any] = {"target": "response", "protocol": "measure", "annotator": "rule:spread"}
        key = [self.version, self.agreeing]
        made = [
            annotations_of(part.drop("aspect", "scores"), aspect=f"{aspect}_spread", key=key, **said)
            for (aspect,), part in found.partition_by("aspect", as_dict=True, maintain_order=True).items()
        ]
        if not made:
            who = ", ".join(map(repr, self.annotators)) or "anybody"
            context.log(f"no ratings (protocol score) by {who}: nothing to measure (annotators:)")
            return {}
        context.log(f"{found['score'].null_count()} of {found.height} responses have one rating only")
        return {"annotations": pl.concat(made), "annotators": [{"annotator": "rule:spread"}]}


def spread(ratings: Sequence[float], agreeing: int | None = None) -> float:
    """The range of ratings, or of the `agreeing` ones that are nearest to one another.

    Args:
        ratings: at least one.
        agreeing: how many; all where there are fewer.
    """
    listed = sorted(ratings)
    size = len(listed) if agreeing is None else min(agreeing, len(listed))
    # Those that are nearest stand side by side. Of equal sums of distances the last, which has the higher median.
    windows = [listed[start : start + size] for start in range(len(listed) - size + 1)]
    best = min(reversed(windows), key=lambda window: sum(b - a for i, a in enumerate(window) for b in window[i:]))
    return best[-1] - best[0]
