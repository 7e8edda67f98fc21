"""The pairs with a better and a worse side: what the preferences state, else what most annotators say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from prefdata.report.verdicts import Verdicts

CONSENSUS = "consensus"


@dataclass(frozen=True)
class Decided:
    """Pairs with an order.

    Attributes:
        rows: prompt_id, aspect, a (the better response), b, gap (difference of their scores; null where none is
            stated), step (of the preference; null where annotators decide); sorted.
        basis: where the order comes from; None where there is no pair.
        by: whose votes, where annotators decide: `people` or `annotators`.
    """

    rows: pl.DataFrame
    basis: Literal["preferences", "verdicts"] | None
    by: str | None


def decided(
    view: Mapping[str, pl.LazyFrame], pairs: pl.DataFrame, verdicts: Verdicts, members: Sequence[str]
) -> Decided:
    """The pairs of the preferences; without any, the majority of the reference or of all annotators on each pair.

    Args:
        view: the live tables.
        pairs: see `prefdata.report.pairs.expanded`.
        verdicts: see `verdicts_of`.
        members: the reference annotators.
    """
    columns = ["prompt_id", "aspect", "a", "b", "gap"]
    if pairs.height:
        made_by = view["preferences"].select("preference_id", "step").collect()
        rows = pairs.filter(~pl.col("tie")).join(made_by, on="preference_id", how="left").select(*columns, "step")
        return Decided(rows.sort("aspect", "prompt_id", "a", "b", "step", nulls_last=True), "preferences", None)
    said = verdicts.by_annotator.filter(pl.col("source") != CONSENSUS)
    mine = said.filter(pl.col("annotator").is_in(list(members)))
    people = not mine.is_empty()
    unit = ["aspect", "prompt_id", "first", "second"]
    votes = (mine if people else said).group_by(unit).agg(sum=pl.col("verdict").cast(pl.Int64).sum())
    up = pl.col("sum") > 0
    rows = (
        votes.filter(pl.col("sum") != 0)
        .select(
            "prompt_id",
            "aspect",
            a=pl.when(up).then("first").otherwise("second"),
            b=pl.when(up).then("second").otherwise("first"),
            gap=pl.lit(None, pl.Float64),
            step=pl.lit(None, pl.String),
        )
        .sort("aspect", "prompt_id", "a", "b")
    )
    return Decided(rows, "verdicts" if rows.height else None, ("people" if people else "annotators"))


def texts_of(view: Mapping[str, pl.LazyFrame], ids: Sequence[str] | pl.Series, characters: int) -> pl.DataFrame:
    """response_id, model, text (its first characters) of these responses, sorted; without those that have no text."""
    wanted = pl.DataFrame({"response_id": pl.Series(ids, dtype=pl.String).unique()}).lazy()
    found = view["responses"].select("response_id", "model", pl.col("text").str.slice(0, characters))
    rows = found.join(wanted, on="response_id", how="semi").collect()
    return rows.drop_nulls("text").sort("response_id")
