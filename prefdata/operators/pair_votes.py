"""The edges of preferences: the share of votes for each, how many they are, and the gap of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from prefdata.operators.evidence import (
    CONTEXT,
    ORDERING,
    coded,
    compared,
    directed,
    lists_of,
    newest_cards,
    pairs_within,
    selected,
)

_PAIR = [*CONTEXT, "first", "second"]
_EDGES = pl.List(
    pl.Struct(
        {
            "winner": pl.Int32,
            "loser": pl.Int32,
            "p": pl.Float64,
            "margin": pl.Float64,
            "weight": pl.Float64,
            "votes": pl.Int32,
        }
    )
)


def ballots(
    annotations: pl.DataFrame,
    paired: pl.DataFrame,
    *,
    voters: Sequence[str] = (),
    direction: Mapping[str, int] | None = None,
) -> pl.DataFrame:
    """Every vote on two responses that what is paired rests on.

    A ranking, a choice, and the scores that one annotator gave on one scale are a vote on each two of their responses,
    a comparison is one on its two. The two orders of one comparison by one annotator (same criterion and replicate)
    are one vote: the mean of the two. What is no valid order is no vote, nor is what a judge said by an older version
    of its card, nor a measure without direction.

    Args:
        annotations: rows of `annotations`, created_at among the columns.
        paired: those of them that are paired. Of a group where these are no consensus they vote, else all that were
            there to agree.
        voters: patterns of the annotators whose votes count; empty: all.
        direction: of measures, by aspect.

    Returns:
        group_id, prompt_id, aspect (a consensus under an aspect that nobody was asked about, as `aggregate.mean` with
        `into` makes it, has the votes of all aspects), first, second (ids in alphabetical order), p: P(first is better)
        as that vote has it, and the ids of its annotations.
    """
    direction = direction or {}
    consensus = paired.filter(pl.col("source") == "consensus")
    agreed = pl.col("group_id").is_in(consensus["group_id"].unique().implode())
    asked = selected(annotations).filter((pl.col("source") != "consensus") & pl.col("protocol").is_in(ORDERING))
    rows = selected(asked, annotators=voters).filter(
        ((pl.col("protocol") != "measure") | pl.col("aspect").is_in(list(direction)))
        & (agreed | pl.col("annotation_id").is_in(paired["annotation_id"].implode()))
    )
    rows = directed(newest_cards(rows), direction, "pair")
    found = _merged(rows)
    unasked = (
        consensus.select(CONTEXT)
        .unique()
        .join(asked.select(CONTEXT).unique(), on=CONTEXT, how="anti", nulls_equal=True)
    )
    place = ["group_id", "prompt_id"]
    every = found.drop("aspect").join(unasked, on=place, nulls_equal=True).select(found.columns)
    return pl.concat([found, every])


def _merged(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each vote: `_PAIR`, p, and the ids of its annotations."""
    lists = lists_of(rows)
    i, j, p = compared(lists)
    which = lists.entries["list"].gather(i)
    ids = [lists.entries["annotation_ids"].gather(place).alias(name) for name, place in (("ids", i), ("more", j))]
    target = lists.entries["target"]
    said = lists.heads.select(pl.col(*CONTEXT, "annotator", "protocol").gather(which)).with_columns(
        target.gather(i).alias("first"), target.gather(j).alias("second"), pl.Series("p", p), *ids
    )
    two = pl.col("protocol") == "compare"
    each = said.filter(~two).select(*_PAIR, "p", ids=pl.concat_list("ids", "more"))
    return pl.concat([each, _both_orders(said.filter(two), rows)])


def _both_orders(said: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Comparisons as votes: the two orders of one are one vote."""
    unit = [*_PAIR, "annotator", "criterion_id", "replicate"]
    asked = rows.select("annotation_id", "criterion_id", "replicate", shown=pl.col("target_ids").list.first())
    two = (
        said.with_columns(annotation_id=pl.col("ids").list.first())
        .join(asked, on="annotation_id", how="left")
        .with_columns(forward=pl.col("shown") == pl.col("first"))
    )
    two = coded(two, unit, "unit").sort("unit", "forward", "p", "annotation_id")
    # The k-th of one order meets the k-th of the other; what has no partner is a vote by itself.
    two = two.with_columns(k=pl.int_range(pl.len()).over("unit", "forward"))
    votes = two.group_by("unit", "k").agg(pl.col(_PAIR).first(), pl.col("p").mean(), ids="annotation_id")
    return votes.select(*_PAIR, "p", "ids")


def shares(votes: pl.DataFrame) -> pl.DataFrame:
    """`ballots` by pair: `_PAIR`, won (votes for first, ties half), votes (how many there are), and their ids."""
    rows = coded(votes, _PAIR, "pair").sort("pair", "p")
    code = rows["pair"].to_numpy()
    # bincount adds in the order of the rows; 12 decimals: 0.1 + 0.2 + 0.7 votes are one.
    won = np.round(np.bincount(code, weights=rows["p"].to_numpy()), 12)
    pairs = rows.group_by("pair", maintain_order=True).agg(pl.col(_PAIR).first(), pl.col("ids").list.explode())
    return pairs.drop("pair").with_columns(
        pl.Series("won", won, dtype=pl.Float64), votes=pl.Series(np.bincount(code)).cast(pl.Int32)
    )


def edges_of(listed: pl.DataFrame, votes: pl.DataFrame | None, *, margin: bool) -> pl.DataFrame:
    """The edges of lists of responses.

    There is one for each two responses of which one has the higher score, and one for each two of equal score that
    somebody voted on. `p` is the share of votes for the one that stands first, null where there are none.

    Args:
        listed: row, target, score (best first within a row), and the CONTEXT of the row; sorted by row.
        votes: see `shares`; null: p and votes are not asked for, and equal scores make no edge.
        margin: whether the gap of the scores is laid down.

    Returns:
        row, edges, and the ids of the annotations that voted; rows without any edge that says something are not in it.
    """
    row, score = listed["row"].to_numpy(), listed["score"].to_numpy()
    sizes = np.bincount(row).astype(np.int64) if len(row) else np.zeros(0, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    i, j = pairs_within(sizes)
    target, context = listed["target"], listed.select(CONTEXT)
    gap = score[i] - score[j]
    edges = pl.DataFrame(
        {
            "row": row[i],
            "winner": i - starts[row[i]],
            "loser": j - starts[row[i]],
            "falls": gap > 0,
            "margin": gap if margin else np.full(len(gap), np.nan),
            "a": target.gather(i),
            "b": target.gather(j),
        }
    ).with_columns(pl.col("margin").fill_nan(None), weight=pl.lit(None, pl.Float64))
    edges = pl.concat([edges, context[i]], how="horizontal")
    if votes is None:
        nothing = {"p": pl.Float64(), "votes": pl.Int32(), "ids": pl.List(pl.String())}
        edges = edges.with_columns(pl.lit(None, kind).alias(name) for name, kind in nothing.items())
    else:
        ends = {"first": pl.min_horizontal("a", "b"), "second": pl.max_horizontal("a", "b")}
        edges = edges.with_columns(**ends).join(votes, on=_PAIR, how="left", nulls_equal=True, maintain_order="left")
        won = pl.when(pl.col("a") == pl.col("first")).then("won").otherwise(pl.col("votes") - pl.col("won"))
        edges = edges.with_columns(p=won / pl.col("votes"))
    says = pl.col("margin").is_not_null() | pl.col("votes").is_not_null()
    edge = pl.struct("winner", "loser", "p", "margin", "weight", "votes")
    return (
        edges.filter(pl.col("falls") | pl.col("votes").is_not_null())
        .filter(says.any().over("row"))
        .group_by("row", maintain_order=True)
        .agg(edges=edge, heard_votes=pl.col("ids").list.explode().drop_nulls())
        .with_columns(pl.col("edges").cast(_EDGES))
    )
