"""A project's annotations, and the simple counts that its quality rests on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.operators.evidence import VALID
from prefdata.report.alpha import meta_of
from prefdata.report.numbers import Entry
from prefdata.report.verdicts import KEY, TIE
from prefdata.stats import bootstrap_interval, spearman

_RESAMPLES = 300
"""Draws for the interval of a correlation; each ranks all scores anew."""


def rows_of(annotations: pl.LazyFrame, project: str) -> pl.DataFrame:
    """A project's annotations with what their `meta` says: task, card, gold, adjudication."""
    rows = annotations.filter((pl.col("source") == "human") & pl.col("meta").is_not_null()).collect()
    found = {text: meta_of(text) for text in rows["meta"].unique()}
    known = pl.DataFrame(
        [
            {
                "meta": text,
                "task": meta.get("task") if isinstance(meta.get("task"), str) else None,
                "card": str(meta.get("card", "")),
                "gold": meta.get("gold") is True,
                "adjudication": meta.get("adjudication") is True,
            }
            for text, meta in found.items()
            if meta.get("project") == project
        ],
        schema={
            "meta": pl.String,
            "task": pl.String,
            "card": pl.String,
            "gold": pl.Boolean,
            "adjudication": pl.Boolean,
        },
    )
    mine = _with_shown(rows.join(known, on="meta", how="inner", maintain_order="left"))
    # Where `meta` names no task, it is the responses that were shown.
    named = pl.concat_str(pl.col("prompt_id").fill_null(""), pl.col("shown").list.sort().list.join(" "), separator=" ")
    return mine.with_columns(task=pl.coalesce("task", named), aspect=pl.col("aspect").fill_null("overall"))


def _with_shown(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with `shown`: the responses of their task, where one label makes several rows.

    A partial ranking is a `rank` of some responses and a `choose` of all; marked spans are a `label` of each response.
    Rows of one label have one person, prompt and moment.
    """
    label = ["annotator", "prompt_id", "created_at"]
    chosen = rows.filter(pl.col("protocol") == "choose").select(*label, "aspect", whole="target_ids")
    chosen = chosen.unique([*label, "aspect"], keep="none")
    joined = rows.join(chosen, on=[*label, "aspect"], how="left", nulls_equal=True, maintain_order="left")
    inside = pl.col("target_ids").list.set_difference("whole").list.len() == 0
    single = (pl.col("protocol") == "label") & (pl.col("target_ids").list.len() == 1)
    marked = joined.filter(single).group_by(label).agg(marked=pl.col("target_ids").list.first().unique())
    joined = joined.join(marked, on=label, how="left", nulls_equal=True, maintain_order="left")
    shown = pl.when(single).then("marked").when((pl.col("protocol") == "rank") & inside).then("whole")
    return joined.with_columns(shown=pl.coalesce(shown, "target_ids")).drop("whole", "marked")


def not_by_themselves(rows: pl.DataFrame, responses: pl.LazyFrame) -> pl.DataFrame:
    """The rows without those whose annotator wrote one of the responses: whoever makes one better prefers it."""
    own = responses.filter(pl.col("model").str.starts_with("human:")).select("response_id", "model").collect()
    written = dict(own.iter_rows())
    if not written:
        return rows
    who = rows.select("annotator", "target_ids").iter_rows()
    return rows.filter(
        ~pl.Series([any(written.get(one) == name for one in ids) for name, ids in who], dtype=pl.Boolean)
    )


def first_shown(rows: pl.DataFrame) -> pl.DataFrame:
    """By KEY: `wins` of the response shown first over the mean of the others, of `n` in which the two differ."""
    several = rows.filter(
        VALID & (pl.col("target") == "response") & (pl.col("target_ids").list.len() > 1) & pl.col("parts").is_null()
    )
    given, size = pl.col("scores").list, pl.col("scores").list.len()
    lead = given.get(0) - (given.sum() - given.get(0)) / (size - 1)
    decided = several.with_columns(lead=lead).filter(pl.col("lead").abs() > 2 * TIE)
    return decided.group_by(KEY).agg(wins=(pl.col("lead") > 0).sum().cast(pl.Int64), n=pl.len().cast(pl.Int64))


def labels_in(rows: pl.DataFrame, aspect: str) -> int:
    """Labels on the tasks that two or more people answered under an aspect."""
    said = rows.filter((pl.col("aspect") == aspect) & (pl.col("status") == "ok") & ~pl.col("adjudication"))
    counts = said.group_by("task").agg(people=pl.col("annotator").n_unique())
    return max(int(counts.filter(pl.col("people") > 1)["people"].sum()), 1)


def as_gold(given: Mapping[str, float], gold: Mapping[str, float]) -> bool:
    """Whether scores put every two responses as gold does; of one response alone, whether they differ by 1 at most."""
    if len(given) == 1:
        return all(abs(given[one] - right) <= 1 for one, right in gold.items() if one in given)
    for a, b in combinations(sorted(given), 2):
        if a in gold and b in gold:
            said, right = given[a] - given[b], gold[a] - gold[b]
            if (said > TIE) - (said < -TIE) != (right > TIE) - (right < -TIE):
                return False
    return True


def scores_beside_people(given: pl.DataFrame) -> list[Entry]:
    """The scores of each annotator who is no person beside the mean of people's, on the responses that both scored.

    Spearman's rank correlation, which asks for no common scale, with its bootstrap interval over prompts.

    Args:
        given: see `prefdata.report.alpha.scores`.

    Returns:
        {name, source, aspect, n, spearman, low, high}, those with the most responses first.
    """
    unit = ["aspect", "prompt_id", "response_id"]
    people = given.filter(pl.col("source") == "human").group_by(unit).agg(people=pl.col("value").mean().round(9))
    models = given.filter(pl.col("source") != "human").join(people, on=unit, nulls_equal=True).sort(unit)
    made = []
    for (name, source, aspect), rows in models.partition_by("annotator", "source", "aspect", as_dict=True).items():
        a, b = rows["value"].to_numpy(), rows["people"].to_numpy()

        def drawn(places: NDArray[np.int64], a: Any = a, b: Any = b) -> float | None:
            return spearman(a[places], b[places]).value

        value = spearman(a, b).value
        ends = None if value is None else bootstrap_interval(drawn, rows["group_id"], resamples=_RESAMPLES)
        low, high = ends or (None, None)
        entry = {"name": name, "source": source, "aspect": aspect, "n": rows.height}
        made.append({**entry, "spearman": value, "low": low, "high": high})
    return sorted(made, key=lambda entry: (-entry["n"], entry["name"], entry["aspect"]))
