"""Strengths of responses by models that find out at the same time how good each annotator is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from prefdata.operators.aggregate.abilities import AnnotatorModel, Fit, kinds_of
from prefdata.operators.aggregate.base import VERDICT, FloatArray, IntArray, ScoredAggregate, verdicts_of
from prefdata.operators.evidence import CONTEXT, ORDERING, VALID, coded, comparisons, directed, lists_of, pairs_within
from prefdata.pipeline.step import Context


@dataclass(frozen=True)
class Stated:
    """What is said under one aspect.

    Attributes:
        nodes: problem, target, node: the responses, numbered from 0; and characters, where lengths were asked for.
        votes: first, second (nodes), annotator, p (P(first is better)), position (1: the first was shown first; 0: not
            known) and weight. What one annotator says of a pair again, in the other order too, shares the weight of 1.
        scores: node, annotator, value: the mean of what an annotator gave.
        heard: [nodes] how many annotators said something that sets the response beside another.
    """

    nodes: pl.DataFrame
    votes: pl.DataFrame
    scores: pl.DataFrame
    heard: IntArray


Certainty = Callable[[IntArray, IntArray], FloatArray]
"""How sure the order of two responses (nodes [n], nodes [n]) is: [n] from 0, not at all, to 1."""


@dataclass(frozen=True)
class Strengths:
    """A fit of one aspect.

    Attributes:
        values: [nodes] NaN for those of whom nothing is known.
        certainty: of the order of two nodes; None: not known.
        fit: what is known of the annotators.
    """

    values: FloatArray
    certainty: Certainty | None
    fit: Fit


class RatedModel(AnnotatorModel, ScoredAggregate):
    """A model of strengths: one score for each response, under each aspect, and an ability for each annotator."""

    @abstractmethod
    def strengths(self, stated: Stated, kinds: Mapping[str, str], aspect: str, context: Context) -> Strengths:
        """Fit one aspect, of which something is said."""

    def scores_apart(self) -> bool:
        """Whether scores are read as scores; else as the comparisons that they imply."""
        return False

    def fitted(self, rows: pl.DataFrame, read: str, context: Context) -> tuple[pl.DataFrame, Sequence[Fit]]:
        """See `AnnotatorModel.fitted`."""
        unnamed = rows.filter(pl.col("annotator").is_null()).height
        if unnamed:
            context.log(f"{unnamed} annotations left out: they have no annotator")
        rows = rows.filter(pl.col("annotator").is_not_null() & pl.col("protocol").is_in(ORDERING))
        rows = coded(directed(rows, self.direction, self.kind), CONTEXT, "problem")
        if rows.is_empty():
            return pl.DataFrame(schema=VERDICT), []
        kinds = kinds_of(rows)
        fits: list[Fit] = []
        made: list[tuple[pl.DataFrame, pl.DataFrame]] = []
        for aspect in rows["aspect"].unique().sort():
            here = rows.filter((pl.col("aspect") == aspect) & VALID)
            stated = stated_of(here, apart=self.scores_apart())
            scores = np.full(stated.nodes.height, np.nan)
            sure = pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})
            if stated.heard.any():
                found = self.strengths(stated, kinds, str(aspect), context)
                scores, sure = _by_problem(stated, found, self.min_valid)
                fits.append(found.fit)
            made.append((stated.nodes.select("problem", "target", score=pl.Series(scores, nan_to_null=True)), sure))
        scored, confidence = (pl.concat(part) for part in zip(*made, strict=True))
        names = rows.select("problem").unique().with_columns(read=pl.lit(read))
        return verdicts_of(rows, scored, confidence, names), fits


def stated_of(valid: pl.DataFrame, *, apart: bool) -> Stated:
    """What valid annotations of one aspect say.

    Args:
        valid: numbered by `problem`.
        apart: whether scores are kept as scores.
    """
    single = pl.col("protocol").is_in(["score", "measure"])
    rated, ordered = (valid.filter(single), valid.filter(~single)) if apart else (valid.clear(), valid)
    number = valid.select(*CONTEXT, "problem").unique(CONTEXT)
    shown = pl.col("target_ids").list
    said = ordered.filter((pl.col("protocol") == "compare") & (shown.len() == 2))
    said = said.select(
        "problem", "annotator", first=shown.first(), second=shown.last(), p=pl.col("scores").list.first(), position=1.0
    )
    implied = comparisons(lists_of(ordered.filter(pl.col("protocol") != "compare")))
    implied = implied.join(number, on=CONTEXT, how="left", nulls_equal=True).select(
        "problem", "annotator", "first", "second", "p", position=pl.lit(0.0)
    )
    votes = pl.concat([said, implied])
    low, high = pl.min_horizontal("first", "second"), pl.max_horizontal("first", "second")
    unit = ["problem", "annotator", "low", "high"]
    votes = votes.with_columns(low=low, high=high).with_columns(weight=1 / pl.len().over(unit))
    votes = votes.sort(*unit, "first", "p", "position")
    scores = (
        rated.select("problem", "annotator", target="target_ids", value="scores")
        .explode("target", "value")
        .group_by("problem", "target", "annotator")
        .agg(pl.col("value").sort().mean())
    )
    # A score says something where its annotator has scored another response to the prompt as well.
    several = pl.len().over("problem", "annotator") > 1
    heard = pl.concat(
        [
            votes.select("problem", "annotator", target="first"),
            votes.select("problem", "annotator", target="second"),
            scores.filter(several).select("problem", "annotator", "target"),
        ]
    ).unique()
    more = [name for name in ("characters",) if name in valid.columns]
    targets = valid.select("problem", *more, target="target_ids").explode("target", *more).unique(["problem", "target"])
    nodes = targets.sort("problem", "target").with_columns(node=pl.int_range(pl.len()))
    counted = nodes.join(heard.group_by("problem", "target").len("heard"), on=["problem", "target"], how="left")
    on = ["problem", "target"]
    for end in ("first", "second"):
        ends = nodes.select("problem", pl.col("target").alias(end), pl.col("node").alias(f"{end}_node"))
        votes = votes.join(ends, on=["problem", end], how="left", maintain_order="left")
    votes = votes.select("annotator", "p", "position", "weight", first="first_node", second="second_node")
    scores = scores.join(nodes, on=on, how="left").select("node", "annotator", "value").sort("node", "annotator")
    return Stated(nodes, votes, scores, counted.sort("node")["heard"].fill_null(0).to_numpy().astype(np.int64))


def _by_problem(stated: Stated, found: Strengths, least: int) -> tuple[FloatArray, pl.DataFrame]:
    """The strengths of those of whom enough is said, with sum zero for each problem, and the confidence in each."""
    problem = stated.nodes["problem"].to_numpy()
    kept = (stated.heard >= least) & (stated.heard > 0) & ~np.isnan(found.values)
    _, place = np.unique(problem, return_inverse=True)
    size = int(place.max(initial=-1)) + 1
    count = np.bincount(place[kept], minlength=size)
    kept &= count[place] > 1  # of one alone there is nothing to say
    count = np.bincount(place[kept], minlength=size)
    total = np.bincount(place[kept], weights=found.values[kept], minlength=size)
    scores = np.full(len(problem), np.nan)
    scores[kept] = np.round(found.values[kept] - (total / np.maximum(count, 1))[place[kept]], 9) + 0.0
    members = np.flatnonzero(kept)
    sizes = count[count > 0]
    i, j = pairs_within(sizes.astype(np.int64))
    first, second = members[i], members[j]
    of = problem[first]
    names, which = np.unique(of, return_inverse=True)
    if found.certainty is None or not len(first):
        return scores, pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})
    sure = np.bincount(which, weights=found.certainty(first, second)) / np.bincount(which)
    return scores, pl.DataFrame({"problem": names.astype(np.int64), "confidence": np.round(sure, 9)})
