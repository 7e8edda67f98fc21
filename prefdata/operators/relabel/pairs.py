"""Preferences that are pairs with a label: which they are, what was measured of them, and how one is stated anew.

Everything is by position, so that a pair whose edge names its second response as the winner stays as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.errors import DataError
from prefdata.operators.evidence import VALID, newest_cards, selected

FloatArray = NDArray[np.float64]

FLIPPED = "flipped"
"""The entry of `values` that a flipped pair has: 1 for each response. A pair that is flipped back has none."""

_FIELDS: dict[str, pl.DataType] = {
    "winner": pl.Int32(),
    "loser": pl.Int32(),
    "p": pl.Float64(),
    "margin": pl.Float64(),
    "weight": pl.Float64(),
    "votes": pl.Int32(),
}
_EDGE = pl.Struct(_FIELDS)

_SHOWN = 8
"""How many names a message gives."""

PAIR_COLUMNS = ("prompt_id", "response_ids", "scores", "kind", "prompt_ids", "roles", "edges", "aspect", "annotator")
"""What `with_ends` looks at, and what a judge of pairs needs besides."""


def with_ends(preferences: pl.DataFrame) -> pl.DataFrame:
    """The preferences with better_at, worse_at (positions), better, worse (ids), and `unfit`: why they are no pair.

    A pair is a preference of two ranked responses under one prompt of which one is stated to be better: by its edge
    (the side with p above one half), else by its scores.

    Args:
        preferences: rows of `preferences`, with `PAIR_COLUMNS`.
    """
    edge = pl.col("edges").list.first()
    p = edge.struct.field("p").fill_null(1.0)
    stated = pl.col("edges").list.len().fill_null(0) > 0
    first, second = (pl.col("scores").list.get(place, null_on_oob=True) for place in (0, 1))
    two = (pl.col("response_ids").list.len() == 2) & (
        pl.col("roles").list.eval((pl.element() != "ranked").fill_null(False)).list.any().fill_null(False).not_()
    )
    within = (pl.min_horizontal(edge.struct.field("winner"), edge.struct.field("loser")) == 0) & (
        pl.max_horizontal(edge.struct.field("winner"), edge.struct.field("loser")) == 1
    )
    unscored = (first.is_null() | second.is_null() | first.is_nan() | second.is_nan()).fill_null(True)
    tied = pl.when(stated).then((p == 0.5) | p.is_nan()).otherwise(unscored | (first == second))
    unfit = (
        pl.when(pl.col("kind") == "unpaired")
        .then(pl.lit("unpaired responses"))
        .when(pl.col("prompt_id").is_null() | (pl.col("prompt_ids").list.len().fill_null(0) > 0))
        .then(pl.lit("responses to different prompts"))
        .when(~two | (pl.col("edges").list.len().fill_null(0) > 1) | (stated & ~within.fill_null(False)))
        .then(pl.lit("no pair of two ranked responses"))
        .when(tied)
        .then(pl.lit("a tie"))
    )
    turned = (
        pl.when(stated).then((p > 0.5) == (edge.struct.field("winner") == 1)).otherwise(second > first).fill_null(False)
    )
    ids = pl.col("response_ids")
    return preferences.with_columns(
        unfit=unfit, better_at=turned.cast(pl.Int32), worse_at=(~turned).cast(pl.Int32)
    ).with_columns(
        better=pl.when(pl.col("unfit").is_null()).then(ids.list.get(pl.col("better_at"), null_on_oob=True)),
        worse=pl.when(pl.col("unfit").is_null()).then(ids.list.get(pl.col("worse_at"), null_on_oob=True)),
    )


def require_numbers(
    annotations: pl.DataFrame,
    *,
    where: str,
    aspects: Sequence[str] = (),
    annotators: Sequence[str] = (),
    target: str = "preference",
    protocols: Sequence[str] = ("score", "measure"),
) -> None:
    """Refuse to go by numbers that nobody tried to give: a name is misspelt, or a step is missing.

    An abstention or a failure is an attempt, so that a step goes on where a judge was of no use.

    Args:
        annotations: rows of `annotations`.
        where: the step, for the message.
        aspects: patterns in which `*` stands for any text; empty: all.
        annotators: likewise.
        target: what they are about.
        protocols: what counts as a number.

    Raises:
        DataError: there are none; says which there are.
    """
    every = selected(annotations, target=target).filter(pl.col("protocol").is_in(list(protocols)))
    if not selected(every, aspects=aspects, annotators=annotators, target=target).is_empty():
        return
    pairs = every.select("aspect", "annotator").unique().sort("aspect", "annotator").rows()
    names = [f"{aspect} by {annotator}" for aspect, annotator in pairs]
    there = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    under = f" under {', '.join(map(repr, aspects))}" if aspects else ""
    by = f" by {', '.join(map(repr, annotators))}" if annotators else ""
    again = "; what a relabel step restated is a new row, to be measured anew" if target == "preference" else ""
    raise DataError(
        f"{where}: no {target} has a {' or '.join(protocols)}{under}{by} (there are: {there or 'none'}). Put the step "
        f"that makes it before this one, or correct the name{again}"
    )


def measured(
    annotations: pl.DataFrame, *, aspect: str, annotator: str, where: str, target: str = "preference"
) -> pl.DataFrame:
    """One number for each target: that of the one annotator who measured it under an aspect, replicates as their mean.

    A number that is not finite is no number.

    Args:
        annotations: rows of `annotations`.
        aspect: the aspect.
        annotator: a pattern in which `*` stands for any text.
        where: the step, for the message.
        target: what was measured: preference, response or prompt.

    Returns:
        target, value, annotation_ids.

    Raises:
        DataError: several annotators measured one target.
    """
    rows = selected(annotations, aspects=[aspect], annotators=[annotator], target=target)
    if "created_at" in rows.columns:
        rows = newest_cards(rows)
    found = (
        rows.filter(VALID & pl.col("protocol").is_in(["score", "measure"]))
        .select("annotator", "annotation_id", pl.col("target_ids").alias("target"), value="scores")
        .explode("target", "value")
        .filter(pl.col("value").is_finite())
        .sort("target", "annotation_id")
        .group_by("target", maintain_order=True)
        .agg(pl.col("value").mean(), pl.col("annotator").unique().sort(), annotation_ids="annotation_id")
    )
    several = found.filter(pl.col("annotator").list.len() > 1)
    if several.height:
        names = several["annotator"][0].to_list()
        raise DataError(
            f"{where}: {several.height} {target}s have the measure {aspect!r} by several annotators, for example by "
            f"{names[0]!r} and {names[1]!r}; name the one that counts (annotator:)"
        )
    return found.drop("annotator")


def response_numbers(
    annotations: pl.DataFrame,
    *,
    annotators: Sequence[str],
    aspects: Sequence[str] = (),
    protocols: Sequence[str] = ("score",),
) -> pl.DataFrame:
    """What each annotator gave each response under each prompt: prompt_id, response, member, value, annotation_ids.

    `member` is the annotator, with the aspect where one annotator has several. Numbers count as they are, replicates
    are averaged, and those that are not finite are left out.

    Args:
        annotations: rows of `annotations`.
        annotators: patterns; empty: all.
        aspects: patterns; empty: all.
        protocols: score alone, or measure too where it does not matter which way is better.
    """
    rows = selected(annotations, aspects=aspects, annotators=annotators)
    if "created_at" in rows.columns:
        rows = newest_cards(rows)
    said = (
        rows.filter(VALID & pl.col("protocol").is_in(list(protocols)))
        .select("prompt_id", "annotator", "aspect", "annotation_id", response="target_ids", value="scores")
        .explode("response", "value")
        .filter(pl.col("value").is_finite())
    )
    many = said.group_by("annotator").agg(pl.col("aspect").n_unique().alias("n")).filter(pl.col("n") > 1)
    several = pl.col("annotator").is_in(many["annotator"].implode())
    member = pl.when(several).then(pl.concat_str("annotator", "aspect", separator="#")).otherwise("annotator")
    return (
        said.with_columns(member=member)
        .sort("prompt_id", "response", "member", "annotation_id")
        .group_by("prompt_id", "response", "member", maintain_order=True)
        .agg(pl.col("value").mean(), annotation_ids="annotation_id")
    )


def gaps(pairs: pl.DataFrame, numbers: pl.DataFrame) -> pl.DataFrame:
    """The better response's number less the worse one's: preference_id, member, gap, annotation_ids.

    Numbers given without a prompt count for every prompt.

    Args:
        pairs: preference_id, prompt_id, better, worse.
        numbers: see `response_numbers`.
    """
    ends = []
    for side in ("better", "worse"):
        wanted = pairs.select("preference_id", "prompt_id", response=side)
        under = numbers.filter(pl.col("prompt_id").is_not_null())
        free = numbers.filter(pl.col("prompt_id").is_null()).drop("prompt_id")
        found = wanted.join(under, on=["prompt_id", "response"], how="inner").drop("prompt_id", "response")
        anywhere = wanted.join(free, on="response", how="inner").drop("prompt_id", "response")
        ends.append(
            pl.concat([found, anywhere.select(found.columns)]).unique(
                ["preference_id", "member"], keep="first", maintain_order=True
            )
        )
    return (
        ends[0]
        .join(ends[1], on=["preference_id", "member"], suffix="_worse")
        .select(
            "preference_id",
            "member",
            gap=pl.col("value") - pl.col("value_worse"),
            annotation_ids=pl.concat_list("annotation_ids", "annotation_ids_worse"),
        )
        .sort("member", "preference_id")
    )


def edges_with(rows: pl.DataFrame, changed: Mapping[str, pl.Expr]) -> pl.Expr:
    """The edges of pairs, with some fields of the one edge changed; a pair without an edge gets the one it implies.

    Args:
        rows: pairs, see `with_ends`; for the types.
        changed: p or margin, by name; may read the column `edge` (winner, loser, p, ... of the edge as it is).
    """
    fields = []
    for name, kind in _FIELDS.items():
        value = changed.get(name, pl.col("edge").struct.field(name))
        fields.append(value.cast(kind).alias(name))
    assert "edge" in rows.columns
    return pl.concat_list(pl.struct(fields))


def with_edge(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with the column `edge`: the stated edge with its p, or the one that the scores imply (p = 1)."""
    implied = pl.struct(
        pl.col("better_at").alias("winner"),
        pl.col("worse_at").alias("loser"),
        pl.lit(1.0).alias("p"),
        pl.lit(None, pl.Float64).alias("margin"),
        pl.lit(None, pl.Float64).alias("weight"),
        pl.lit(None, pl.Int32).alias("votes"),
    )
    stated = pl.col("edges").list.first()
    kept = pl.struct(
        stated.struct.field(name) if name != "p" else stated.struct.field("p").fill_null(1.0).alias("p")
        for name in _FIELDS
    )
    has = pl.col("edges").list.len().fill_null(0) > 0
    return pairs.with_columns(edge=pl.when(has).then(kept).otherwise(implied).cast(_EDGE))
