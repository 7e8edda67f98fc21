"""What an annotator's judgements cost: its calls' money and seconds, for a thousand judgements and a thousand pairs."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from prefdata.report.cost import counted_calls
from prefdata.report.numbers import Entry

THOUSAND = 1000


def judge_costs(view: Mapping[str, pl.LazyFrame], pairs: Mapping[str, int]) -> dict[str, Entry]:
    """Money and seconds by annotator, over all its aspects.

    A call belongs to the annotator whose annotation names it. A call that no annotation names (an earlier turn of a
    debate, an attempt that failed) belongs to the annotator of its step, where that has one, or one of that model. What
    was answered from a cache was paid elsewhere, so it counts with the mean of the calls that were paid here: the
    figures say what asking again would cost.

    Args:
        view: for its tables annotations, annotators and calls.
        pairs: how many pairs each annotator has ordered.

    Returns:
        By annotator that made calls: judgements, calls, paid, cached, money, seconds (both of all calls, paid or not),
        money_per_thousand and seconds_per_judgement, money_per_thousand_pairs and seconds_per_pair. None where not
        known; money 0 means that no engine had a price.
    """
    said = (
        view["annotations"].filter(pl.col("target") == "response").select("annotator", "step", "call_id").collect()
    ).drop_nulls("annotator")
    calls = counted_calls(view)
    if calls.is_empty() or said.is_empty():
        return {}
    judgements = dict(said.group_by("annotator").len().iter_rows())
    mine = pl.concat([_named(said, calls), _unnamed(said, calls, _models(view))])
    # One that failed and was asked again has two rows and is one question.
    sums = mine.group_by("annotator").agg(
        calls=pl.col("call_id").n_unique(),
        paid=pl.col("call_id").filter(~pl.col("cached")).n_unique(),
        money=_known("money"),
        seconds=_known("seconds"),
    )
    made = {}
    for row in sums.sort("annotator").to_dicts():
        name = row["annotator"]
        scale = row["calls"] / row["paid"] if row["paid"] else None
        whole = {
            key: row[key] * scale if row[key] is not None and scale is not None else None
            for key in ("money", "seconds")
        }
        made[name] = {
            "judgements": judgements[name],
            "calls": row["calls"],
            "paid": row["paid"],
            "cached": row["calls"] - row["paid"],
            **whole,
            "money_per_thousand": _per(whole["money"], judgements[name], THOUSAND),
            "seconds_per_judgement": _per(whole["seconds"], judgements[name]),
            "money_per_thousand_pairs": _per(whole["money"], pairs.get(name, 0), THOUSAND),
            "seconds_per_pair": _per(whole["seconds"], pairs.get(name, 0)),
        }
    return made


def _per(value: float | None, n: int, times: int = 1) -> float | None:
    return None if value is None or not n else value * times / n


def _known(column: str) -> pl.Expr:
    """The sum over paid calls; null where none of them knows."""
    values = pl.col(column).filter(~pl.col("cached"))
    return pl.when(values.is_not_null().any()).then(values.sum()).alias(column)


_COLUMNS = ["annotator", "call_id", "cached", "money", "seconds"]


def _named(said: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    asked = said.select("annotator", "call_id").drop_nulls().unique()
    return asked.join(calls, on="call_id", how="inner").select(_COLUMNS)


def _unnamed(said: pl.DataFrame, calls: pl.DataFrame, models: pl.DataFrame) -> pl.DataFrame:
    rest = calls.join(said.select("call_id").drop_nulls().unique(), on="call_id", how="anti")
    makers = said.select("annotator", "step").unique().join(models, on="annotator", how="left")
    alone = makers.filter(pl.len().over("step") == 1).select("annotator", "step")
    by_model = makers.drop_nulls("model").filter(pl.len().over("step", "model") == 1)
    by_model = by_model.join(alone, on="step", how="anti")
    return pl.concat(
        [
            rest.join(alone, on="step", how="inner").select(_COLUMNS),
            rest.join(by_model, on=["step", "model"], how="inner").select(_COLUMNS),
        ]
    )


def _models(view: Mapping[str, pl.LazyFrame]) -> pl.DataFrame:
    return view["annotators"].select("annotator", "model").collect().unique("annotator", keep="first")
