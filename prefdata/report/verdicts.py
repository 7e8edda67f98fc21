"""What the annotators of a dataset say about pairs of responses, as frames that the rest of the report counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from prefdata.operators.evidence import CONTEXT, VALID, coded, comparisons, lists_of, selected

KEY = ["annotator", "source", "protocol", "aspect"]
"""What an entry of `annotators` stands for."""

MOST_PAIRS = 1_000_000
"""Judgements of pairs beyond this many are left out, whole groups at a time, in the order of their ids (hashes)."""

TIE = 1e-9
"""Probabilities and score differences nearer than this are equal: sums of floats are not exact."""

_COLUMNS = [
    "annotation_id",
    "group_id",
    "step",
    "prompt_id",
    "target",
    "target_ids",
    "protocol",
    "scores",
    "labels",
    "annotator",
    "criterion_id",
    "aspect",
    "source",
    "status",
    "replicate",
    "parts",
    "seconds",
    "confidence",
]


@dataclass(frozen=True)
class Verdicts:
    """The judgements of a view.

    Attributes:
        annotations: the live annotations, without texts.
        shown: one row for each comparison of two responses: KEY, prompt_id, replicate, first and second (the ids in
            alphabetical order), turned (second was shown first), p (probability that the one shown first wins).
        stated: one row for each two responses of each ranking, comparison, choice or joined list of scores: KEY,
            group_id, prompt_id, first, second, p (first is better).
        scored: KEY, score, length, for each response that was scored by itself.
        by_protocol: one verdict for each KEY and pair of responses; see `merged`.
        by_annotator: the same for each annotator, its protocols taken together.
        lengths: response_id, length (characters; null where there is no text).
        notes: sentences on what was left out.
    """

    annotations: pl.DataFrame
    shown: pl.DataFrame
    stated: pl.DataFrame
    scored: pl.DataFrame
    by_protocol: pl.DataFrame
    by_annotator: pl.DataFrame
    lengths: pl.DataFrame
    notes: list[str] = field(default_factory=list)


def verdicts_of(view: Mapping[str, pl.LazyFrame]) -> Verdicts:
    """Collect what a view's annotators said."""
    annotations = view["annotations"].select(_COLUMNS).with_columns(pl.col("aspect").fill_null("overall")).collect()
    lengths = view["responses"].select("response_id", length=pl.col("text").str.len_chars().cast(pl.Int64)).collect()
    notes: list[str] = []
    usable = selected(annotations).filter(VALID)
    finite = usable.filter(pl.col("scores").list.eval(pl.element().is_finite().fill_null(False)).list.all())
    if len(finite) < len(usable):
        notes.append(f"{len(usable) - len(finite):,} annotations have a score that is no finite number; not counted.")
    ordering = _within_bounds(finite.filter(pl.col("protocol") != "measure"), notes)
    stated = comparisons(lists_of(ordering)).drop("list")
    return Verdicts(
        annotations=annotations,
        shown=_shown(ordering),
        stated=stated,
        scored=_scored(finite, lengths),
        by_protocol=merged(stated, lengths, KEY),
        by_annotator=merged(stated, lengths, ["annotator", "source"]),
        lengths=lengths,
        notes=notes,
    )


def _within_bounds(rows: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """As many whole groups as state at most MOST_PAIRS judgements of pairs."""
    lists = lists_of(rows)
    sizes = np.bincount(lists.entries["list"].to_numpy(), minlength=lists.heads.height).astype(np.int64)
    pairs = sizes * (sizes - 1) // 2
    if pairs.sum() <= MOST_PAIRS:
        return rows
    weight = lists.heads.select("group_id").with_columns(pairs=pl.Series(pairs))
    groups = weight.group_by("group_id").agg(pl.col("pairs").sum()).sort("group_id")
    kept = groups.filter((pl.col("pairs").cum_sum() <= MOST_PAIRS) | (pl.int_range(pl.len()) == 0))
    notes.append(
        f"The annotators order {int(pairs.sum()):,} pairs of responses; habits and agreement are taken from the "
        f"{kept.height:,} of {groups.height:,} prompts whose ids come first (ids are hashes)."
    )
    return rows.join(kept, on="group_id", how="semi", maintain_order="left")


def _shown(rows: pl.DataFrame) -> pl.DataFrame:
    ids, two = pl.col("target_ids").list, pl.col("target_ids").list.len() == 2
    compared = rows.filter((pl.col("protocol") == "compare") & two)
    return compared.select(
        *KEY,
        "prompt_id",
        "replicate",
        first=pl.min_horizontal(ids.get(0), ids.get(1)),
        second=pl.max_horizontal(ids.get(0), ids.get(1)),
        turned=ids.get(0) > ids.get(1),
        p=pl.col("scores").list.get(0),
    )


def _scored(rows: pl.DataFrame, lengths: pl.DataFrame) -> pl.DataFrame:
    alone = rows.filter(pl.col("protocol").is_in(["score", "measure"])).select(*KEY, "target_ids", "scores")
    each = alone.explode("target_ids", "scores").rename({"target_ids": "response_id", "scores": "score"})
    return each.join(lengths, on="response_id", how="left", maintain_order="left").drop("response_id")


def merged(stated: pl.DataFrame, lengths: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """One verdict for each annotator and pair of responses.

    Where one annotator judged a pair more than once (both orders, replicates, several rankings), the majority holds,
    and a balance is a tie: two orders that contradict each other say nothing.

    Args:
        stated: see `Verdicts`.
        lengths: see `Verdicts`.
        by: what stands for an annotator, for example KEY; the aspect is always kept apart.

    Returns:
        The columns `by`, group_id, prompt_id, aspect, first, second, votes, verdict (1: first is better,
        -1: second, 0: tie), margin (mean of 2p - 1 over its judgements, to nine digits, because noise in the last ones
        would break ties), gap (difference of their lengths, first minus second) and longer (its sign); null where a
        text is missing.
    """
    columns = list(dict.fromkeys([*by, *CONTEXT, "first", "second"]))
    lean = 2 * pl.col("p") - 1
    vote = pl.when(lean > TIE).then(1).when(lean < -TIE).then(-1).otherwise(0)
    rows = (
        stated.with_columns(lean=lean, vote=vote)
        .group_by(columns)
        .agg(votes=pl.len(), verdict=pl.col("vote").sum().sign().cast(pl.Int8), margin=pl.col("lean").mean().round(9))
        .sort(columns)
    )
    for side in ("first", "second"):
        named = lengths.rename({"response_id": side, "length": f"length_{side}"})
        rows = rows.join(named, on=side, how="left", maintain_order="left")
    gap = pl.col("length_first") - pl.col("length_second")
    return rows.with_columns(gap=gap, longer=gap.sign().cast(pl.Int8)).drop("length_first", "length_second")


def numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` of `merged` with the number of their pair (under one prompt and aspect) in `pair`."""
    return coded(rows, ["aspect", "prompt_id", "first", "second"], "pair")
