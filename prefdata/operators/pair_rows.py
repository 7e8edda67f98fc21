"""The rows of `preferences` that pairing makes, with what is laid down beside the order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.dataset.parts import frame_of
from prefdata.operators.evidence import CONTEXT, Lists
from prefdata.operators.pair_values import Numbers, values_of
from prefdata.operators.pair_votes import ballots, edges_of, shares
from prefdata.operators.row_ids import array_of, json_of, json_text, row_ids

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Beside:
    """What a preference says besides its order; see the fields of `Pair`.

    Attributes:
        values: whose numbers, by name.
        votes: whether edges have the share of votes and their number.
        margin: whether edges have the gap of the scores.
        voters: whose votes count; empty: all.
        direction: of measures, by aspect.
    """

    values: Mapping[str, str | Numbers] = field(default_factory=dict)
    votes: bool = False
    margin: bool = False
    voters: Sequence[str] = ()
    direction: Mapping[str, int] = field(default_factory=dict)

    @property
    def asked(self) -> bool:
        """Whether anything is."""
        return bool(self.values) or self.votes or self.margin

    def columns(self, listed: pl.DataFrame, annotations: pl.DataFrame, paired: pl.DataFrame) -> pl.DataFrame:
        """row, those of `edges` and `values` that are asked for, and `heard`: the ids of what they were made from.

        Args:
            listed: see `edges_of` and `values_of`.
            annotations: all rows of `annotations`.
            paired: those of them that are paired.
        """
        found = listed.select("row").unique(maintain_order=True)
        if self.votes or self.margin:
            votes = None
            if self.votes:
                votes = shares(ballots(annotations, paired, voters=self.voters, direction=self.direction))
            edges = edges_of(listed, votes, margin=self.margin)
            found = found.join(edges, on="row", how="left", maintain_order="left")
        if self.values:
            values = values_of(listed, annotations, self.values)
            found = found.join(values, on="row", how="left", maintain_order="left")
        heard = [pl.col(name).fill_null([]) for name in ("heard_votes", "heard_values") if name in found.columns]
        return found.with_columns(heard=pl.concat_list(heard))


def members_of(ends: list[IntArray], blocks: list[IntArray] | None) -> pl.DataFrame:
    """Which entries each preference is of, in order: its two ends, or a block (start, size). Columns: row, entry."""
    if blocks is None:
        entry = np.stack(ends, axis=1).ravel()
        return pl.DataFrame({"row": np.repeat(np.arange(len(ends[0])), 2), "entry": entry})
    start, size = blocks
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return pl.DataFrame({"row": np.repeat(np.arange(len(size)), size), "entry": np.repeat(start, size) + within})


def listed_of(lists: Lists, entries: pl.DataFrame, which: IntArray, members: pl.DataFrame) -> pl.DataFrame:
    """The members of each preference by response: row, target, score, prompt (that it answers), and the CONTEXT."""
    of = [entries[name].gather(members["entry"]) for name in ("target", "score", "own_prompt")]
    context = lists.heads.select(pl.col(CONTEXT).gather(which[members["row"].to_numpy()]))
    return pl.concat([members.select("row"), pl.DataFrame(of), context], how="horizontal").with_columns(
        prompt=pl.coalesce("prompt_id", "own_prompt")
    )


def preference_rows(
    lists: Lists,
    entries: pl.DataFrame,
    which: IntArray,
    members: pl.DataFrame,
    beside: pl.DataFrame | None = None,
    *,
    unpaired: bool = False,
) -> pl.DataFrame:
    """Rows of `preferences`, every column, named as `schema.preference` names them.

    What is said besides the order (edges, values, the labels of unpaired responses) is the `key` of the id, as a text;
    where there is nothing the key is null.

    Args:
        lists: that they are of.
        entries: what `ranked` of `prefdata.operators.pair` returns.
        which: the list of each.
        members: see `members_of`.
        beside: see `Beside.columns`; null: nothing.
        unpaired: each response stands alone, and the scores are what is said.
    """
    inner = ("target", "score", "annotation_ids", "own_prompt", "own_group")
    of = members.with_columns(entries[name].gather(members["entry"]) for name in inner)
    gathered = of.group_by("row", maintain_order=True).agg(
        "own_prompt",
        pl.col("own_group").first(),
        response_ids="target",
        scores="score",
        annotation_ids=pl.col("annotation_ids").list.explode().unique().sort(),
    )
    if beside is not None:
        rests_on = pl.concat_list("annotation_ids", "heard").list.unique().list.sort()
        gathered = gathered.join(beside, on="row", how="left", maintain_order="left")
        gathered = gathered.with_columns(annotation_ids=rests_on)
    alone = pl.col("prompt_id").is_null()  # each response was judged under its own prompt
    joint = alone & (pl.col("own_prompt").list.n_unique() > 1)
    rows = (
        pl.concat([lists.heads.select(pl.all().gather(which)), gathered.drop("row")], how="horizontal")
        .with_columns(
            pl.when(joint).then("own_group").otherwise("group_id").alias("group_id"),
            pl.when(alone & ~joint).then(pl.col("own_prompt").list.first()).otherwise("prompt_id").alias("prompt_id"),
            kind=pl.lit("unpaired")
            if unpaired
            else pl.when(joint).then(pl.lit("joint")).otherwise(pl.lit("conditional")),
            prompt_ids=pl.when(joint).then("own_prompt"),
            annotator=pl.when(pl.col("source") != "consensus").then("annotator"),
        )
        .with_columns(weight=pl.lit(1.0))
    )
    nothing = json_text(None)
    said = array_of(json_of(pl.col("annotator")), nothing, json_of(pl.col("prompt_ids")), nothing, nothing)
    ids = row_ids(
        rows.with_columns(_stated(rows, unpaired).alias("stated")),
        "preference",
        json_of(pl.col("prompt_id")),
        json_of(pl.col("response_ids")),
        json_of(pl.col("kind")),
        json_of(pl.col("aspect")),
        json_of(pl.col("annotation_ids")),
        said,
        json_of(pl.col("stated")),
    )
    return frame_of("preferences", rows.with_columns(ids.alias("preference_id")))


def _stated(rows: pl.DataFrame, unpaired: bool) -> pl.Expr:
    """What a row says besides its order, as one text; null where it says nothing."""
    names = [name for name in ("edges", "values") if name in rows.columns] + (["scores"] if unpaired else [])
    if not names:
        return pl.lit(None, pl.String)
    says = pl.any_horizontal(pl.col(name).is_not_null() for name in names)
    return pl.when(says).then(pl.struct(names).struct.json_encode())
