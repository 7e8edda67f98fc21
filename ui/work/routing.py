"""Which tasks come first: by what annotators of the dataset, models as a rule, say already."""

from __future__ import annotations

import polars as pl

from prefdata.dataset import Dataset
from prefdata.operators.evidence import VALID, comparisons, lists_of, selected
from prefdata.report.verdicts import KEY, merged

from .project import Project


def priorities(dataset: Dataset, project: Project) -> dict[frozenset[str] | str, float]:
    """The priority of each pair of responses (a set of two ids) and each prompt; the highest first.

    `uncertain`: 1 - |2 p - 1| of a pair, p the mean over annotators of P(the first is better); `disagreement`: the
    share of the annotators that the majority does not have (at most one half). A prompt has the mean over its pairs.
    `score`: minus the mean score of a prompt's responses, so that the lowest come first.

    Args:
        dataset: whose live annotations are read.
        project: route, route_by, route_aspect.
    """
    view = dataset.view()
    rows = view["annotations"].with_columns(pl.col("aspect").fill_null("overall")).collect()
    rows = selected(rows, annotators=[project.route_by], aspects=[project.route_aspect]).filter(VALID)
    if project.route == "score":
        scored = rows.filter(pl.col("protocol") == "score").select("prompt_id", mean=pl.col("scores").list.mean())
        means = scored.group_by("prompt_id").agg(-pl.col("mean").mean())
        return dict(means.iter_rows())
    lengths = view["responses"].select("response_id", length=pl.lit(0, pl.Int64)).collect()
    pairs = merged(comparisons(lists_of(rows)).drop("list"), lengths, [*KEY[:2]])
    if project.route == "uncertain":
        each = pairs.group_by("prompt_id", "first", "second").agg(value=1 - pl.col("margin").mean().abs())
    else:
        sides = [(pl.col("verdict") == side).sum() for side in (1, 0, -1)]
        each = pairs.group_by("prompt_id", "first", "second").agg(value=1 - pl.max_horizontal(*sides) / pl.len())
    found: dict[frozenset[str] | str, float] = {
        frozenset((first, second)): value for _, first, second, value in each.iter_rows()
    }
    found.update(each.group_by("prompt_id").agg(pl.col("value").mean()).iter_rows())
    return found
