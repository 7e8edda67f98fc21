"""What steps measured of pairs: how hard they are for the reference model, how far they would push a likelihood down.

`judge.difficulty` and `judge.displacement` write such measures of preferences; one of two responses (the chosen one
first) is read as well.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from prefdata.report.numbers import Entry, histogram, quantiles

ASPECTS = ("difficulty", "loss_to_flip", "ches", "ches_ln", "last_state", "displacement")

SIGNED = ("difficulty", "ches", "ches_ln", "displacement")
"""Of these, above 0 is another thing than below it."""

_EXTREME = (("hardest", ("difficulty",)), ("displaced", ("ches_ln", "displacement")))
"""Kinds of examples, and the aspects whose highest values they show."""

EXAMPLES = 3


def hardness(view: Mapping[str, pl.LazyFrame]) -> tuple[list[Entry] | None, list[tuple[str, pl.DataFrame]]]:
    """The measures' quantiles, and the pairs with the highest values.

    Args:
        view: the live tables.

    Returns:
        {aspect, annotator, target, n, positive (how many above 0), quantiles, histogram}, or None where no step has
        measured any; and by `hardest` and `displaced` the extreme pairs: prompt_id, aspect, a, b, gap (the measure).
    """
    wanted = (pl.col("protocol") == "measure") & (pl.col("status") == "ok") & pl.col("aspect").is_in(ASPECTS)
    rows = (
        view["annotations"]
        .filter(wanted & pl.col("target").is_in(["preference", "response"]))
        .select("aspect", "annotator", "target", "target_ids", "prompt_id", value=pl.col("scores").list.first())
        .filter(pl.col("value").is_finite())
        .collect()
        .sort("aspect", "annotator", "target", "value", "target_ids", nulls_last=True)
    )
    made = []
    for key, part in rows.partition_by("aspect", "annotator", "target", as_dict=True, maintain_order=True).items():
        values = part["value"].to_numpy()
        made.append(
            {
                **dict(zip(("aspect", "annotator", "target"), key, strict=True)),
                "n": part.height,
                "positive": int((values > 0).sum()),
                "quantiles": quantiles(values),
                "histogram": histogram(values),
            }
        )
    return made or None, _extreme(view, rows)


def _extreme(view: Mapping[str, pl.LazyFrame], rows: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    found = []
    for kind, aspects in _EXTREME:
        here = rows.filter(pl.col("aspect").is_in(aspects))
        here = here.with_columns(at=pl.col("target_ids").list.first())
        here = here.sort(["value", "at", "annotator"], descending=[True, False, False], nulls_last=True)
        of_preferences = here.filter(pl.col("target") == "preference").head(20 * EXAMPLES)
        of_responses = here.filter((pl.col("target") == "response") & (pl.col("target_ids").list.len() == 2))
        two = [pl.col("target_ids").list.get(place, null_on_oob=True).alias(side) for place, side in enumerate("ab")]
        sides = of_responses.head(20 * EXAMPLES).select("prompt_id", *two, gap="value")
        pairs = pl.concat([_of_preferences(view, of_preferences), sides]).drop_nulls(["a", "b"])
        pairs = pairs.sort(["gap", "a", "b"], descending=[True, False, False]).with_columns(aspect=pl.lit(aspects[0]))
        unlike = pairs.unique("prompt_id", keep="first", maintain_order=True).head(EXAMPLES)
        found.append(
            (
                kind,
                unlike if unlike.height == EXAMPLES else pairs.unique(["a", "b"], maintain_order=True).head(EXAMPLES),
            )
        )
    return found


def _of_preferences(view: Mapping[str, pl.LazyFrame], rows: pl.DataFrame) -> pl.DataFrame:
    """The best and the worst response of each of these preferences."""
    ids = rows["at"].to_list()
    lists = (
        view["preferences"]
        .filter(pl.col("preference_id").is_in(ids))
        .select("preference_id", "prompt_id", "response_ids")
    )
    named = rows.select(at="at", gap="value").join(lists.collect(), left_on="at", right_on="preference_id", how="inner")
    return named.select(
        "prompt_id", a=pl.col("response_ids").list.first(), b=pl.col("response_ids").list.last(), gap="gap"
    )
