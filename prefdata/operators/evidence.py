"""What annotations say about the order of responses: which count, the lists that they state, the comparisons in those.

Aggregation, pairing and the report rest on these three questions, so they are answered once, here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.errors import DataError
from prefdata.operators.row_ids import json_of, json_text, row_ids
from prefdata.schema import canonical_json
from prefdata.similarity.blocks import pairs_in_blocks

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

ORDERING = ("score", "measure", "compare", "rank", "choose")
"""The protocols whose scores put responses in an order."""

CONTEXT = ["group_id", "prompt_id", "aspect"]
"""Within these, and nowhere else, responses are compared with one another."""

_CARD = re.compile(r"(judge:.*/[A-Za-z0-9][A-Za-z0-9_.-]*)@[0-9a-f]{8}", re.DOTALL)
"""The name of a judge that reads a card: all but the card's hash, which is what an edit of the card changes."""

_AT_ONCE = 1 << 17
"""Rows whose texts are held at once."""

EVIDENCE = (
    *("prompt_id", "aspect", "target", "target_ids", "protocol", "scores", "labels", "annotator", "criterion_id"),
    *("source", "status", "replicate", "parts"),
)
"""The columns of `annotations` that anything here looks at."""

VALID = (
    (pl.col("status") == "ok")
    & pl.col("scores").is_not_null()
    & (pl.col("scores").list.len() == pl.col("target_ids").list.len())
)
"""Annotations that carry scores. Anything else says nothing, which is not the same as zero."""


def selected(
    annotations: pl.DataFrame,
    *,
    aspects: Sequence[str] = (),
    annotators: Sequence[str] = (),
    sources: Sequence[str] = (),
    target: str = "response",
) -> pl.DataFrame:
    """The annotations of whole responses (or another target) under these aspects, by these annotators and sources.

    Args:
        annotations: rows of `annotations`.
        aspects: patterns in which `*` stands for any text; empty: all.
        annotators: likewise.
        sources: names; empty: all.
        target: what they are about: a key of `schema.TARGETS`.
    """
    kept = [pl.col("target") == target, pl.col("parts").is_null()]
    for column, patterns in (("aspect", aspects), ("annotator", annotators)):
        if patterns:
            kept.append(pl.col(column).is_in(matching(annotations[column].unique(), patterns)))
    if sources:
        kept.append(pl.col("source").is_in(list(sources)))
    return annotations.filter(reduce(lambda a, b: a & b, kept))


def newest_cards(annotations: pl.DataFrame) -> pl.DataFrame:
    """The annotations without those of a judge that has judged by a newer version of its card since.

    Annotators whose names differ in nothing but the hash of the card (`judge:MODEL/CARD@HASH`) are versions of one
    judge. Within a group only the version that spoke last counts, whatever became of it: an answer to the edited card
    that could not be read does not bring the old card back. No other group has a say in it.

    Args:
        annotations: rows of `annotations`, with group_id, annotator and created_at.
    """
    cards = {name: card[1] for name in annotations["annotator"].unique() if name and (card := _CARD.fullmatch(name))}
    shared = {judge for judge, count in Counter(cards.values()).items() if count > 1}
    versions = {name: judge for name, judge in cards.items() if judge in shared}
    if not versions:
        return annotations
    spoke = (
        annotations.filter(pl.col("annotator").is_in(list(versions)))
        .group_by("group_id", "annotator")
        .agg(pl.col("created_at").max())
        .with_columns(judge=pl.col("annotator").replace_strict(versions))
        .sort("group_id", "judge", "created_at", "annotator", nulls_last=False)
    )
    older = spoke.filter(~pl.struct("group_id", "judge").is_last_distinct())
    return annotations.join(older, on=["group_id", "annotator"], how="anti", maintain_order="left")


def matching(names: Iterable[str | None], patterns: Sequence[str]) -> list[str]:
    """Those of `names` that fit one of the patterns, sorted. `*` stands for any text, everything else for itself."""
    return sorted(name for name in names if name is not None and first_match(name, patterns) is not None)


def first_match(name: str, patterns: Iterable[str]) -> str | None:
    """The first pattern that fits the whole of `name`."""
    for pattern in patterns:
        if re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name, re.DOTALL):
            return pattern
    return None


def directed(annotations: pl.DataFrame, direction: Mapping[str, int], where: str) -> pl.DataFrame:
    """The annotations with the scores of `measure` turned so that higher is better.

    Args:
        annotations: rows of `annotations`.
        direction: 1 (more is better) or -1 (less is better) by aspect.
        where: the step, for the message.

    Raises:
        DataError: there is a measure of an aspect whose direction is not given.
    """
    measures = annotations.filter(pl.col("protocol") == "measure")
    if measures.is_empty():
        return annotations
    unknown = measures.filter(~pl.col("aspect").is_in(list(direction)))
    if len(unknown):
        row = unknown.row(0, named=True)
        raise DataError(
            f"{where}: {len(unknown)} annotations measure a quantity without direction, for example "
            f"{row['annotator']!r} the aspect {row['aspect']!r}. Say which way is better (direction: "
            f"{{{row['aspect']}: 1}}, or -1), or leave them out (aspects:, annotators:)"
        )
    sign = pl.col("aspect").replace_strict(dict(direction), default=1, return_dtype=pl.Float64)
    turned = pl.when(pl.col("protocol") == "measure").then(pl.col("scores") * sign).otherwise(pl.col("scores"))
    return annotations.with_columns(turned.alias("scores"))


@dataclass(frozen=True)
class Lists:
    """Responses that one annotator has put in an order.

    Attributes:
        heads: one row for each list, row number = list: group_id, prompt_id, aspect, annotator, source, protocol.
        entries: list, target, score, annotation_ids (list of texts); sorted by list and target, a target once a list.
    """

    heads: pl.DataFrame
    entries: pl.DataFrame


def lists_of(annotations: pl.DataFrame) -> Lists:
    """The lists that valid annotations state.

    An annotation of several targets is a list by itself. Scores of single targets are joined into one list where
    annotator, protocol, criterion, replicate, prompt and aspect agree: they stand on one scale. A response that was
    scored twice in such a list enters with the mean.

    Args:
        annotations: rows of `annotations`; those that are not valid are left out.
    """
    rows = annotations.filter(VALID & pl.col("protocol").is_in(ORDERING))
    head = [*CONTEXT, "annotator", "source", "protocol"]
    scale = [*head, "criterion_id", "replicate"]
    single = (pl.col("target_ids").list.len() == 1) & pl.col("protocol").is_in(["score", "measure"])
    alone = rows.filter(~single).sort("annotation_id").with_columns(list=pl.int_range(pl.len()))
    joined = coded(rows.filter(single), scale, "list").with_columns(pl.col("list") + alone.height)
    heads = pl.concat([alone.select(head), joined.filter(pl.col("list").is_first_distinct()).select(head)])
    entry = [pl.col("list", "annotation_id"), pl.col("target_ids").alias("target"), pl.col("scores").alias("score")]
    entries = (
        pl.concat([alone.select(entry), joined.select(entry)])
        .explode("target", "score")
        .sort("list", "target", "score", "annotation_id")
    )
    repeated = (pl.col("list") == pl.col("list").shift()) & (pl.col("target") == pl.col("target").shift())
    if not entries.select(repeated.any()).item():
        return Lists(heads, entries.with_columns(annotation_ids=pl.concat_list("annotation_id")).drop("annotation_id"))
    code = entries.select(pl.struct("list", "target").rle_id()).to_series().to_numpy()
    merged = entries.group_by("list", "target", maintain_order=True).agg(annotation_ids="annotation_id")
    # bincount adds in the order of the rows; a parallel group_by need not, and would let other groups move a last bit.
    mean = np.bincount(code, weights=entries["score"].to_numpy()) / np.bincount(code)
    return Lists(heads, merged.with_columns(score=pl.Series(mean)).select("list", "target", "score", "annotation_ids"))


def pairs_within(sizes: IntArray) -> tuple[IntArray, IntArray]:
    """All pairs of positions i < j within consecutive blocks of these sizes, block by block."""
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if len(sizes) else sizes
    return pairs_in_blocks(starts, sizes)


def compared(lists: Lists) -> tuple[IntArray, IntArray, FloatArray]:
    """Every comparison that the lists state, list by list.

    A comparison keeps its probability; other scores say first (p = 1), second (0) or equal (0.5). A `choose` says
    nothing within the chosen nor within the rest.

    Args:
        lists: see `lists_of`.

    Returns:
        Two rows of `entries`, of one list and in its order, and P(the first is better); each [n].
    """
    which, score = lists.entries["list"].to_numpy(), lists.entries["score"].to_numpy()
    i, j = pairs_within(np.bincount(which, minlength=lists.heads.height).astype(np.int64))
    soft, choice = ((lists.heads["protocol"] == name).to_numpy()[which[i]] for name in ("compare", "choose"))
    p = np.where(soft, score[i], 0.5 + 0.5 * np.sign(score[i] - score[j]))
    says = ~(choice & (p == 0.5))
    return i[says], j[says], p[says]


def comparisons(lists: Lists) -> pl.DataFrame:
    """Every comparison that the lists state, see `compared`, with its names.

    Args:
        lists: see `lists_of`.

    Returns:
        list, group_id, prompt_id, aspect, annotator, source, protocol, first, second, p: P(first is better). first and
        second are response ids in alphabetical order, which says nothing about the order shown.
    """
    i, j, p = compared(lists)
    which, target = lists.entries["list"].gather(i), lists.entries["target"]
    found = lists.heads.select(pl.all().gather(which)).with_columns(
        which.alias("list"), target.gather(i).alias("first"), target.gather(j).alias("second"), pl.Series("p", p)
    )
    return found.select("list", *CONTEXT, "annotator", "source", "protocol", "first", "second", "p")


def coded(rows: pl.DataFrame, columns: Sequence[str], name: str) -> pl.DataFrame:
    """The rows sorted by `columns` (and annotation_id, if there), with a number for each distinct value of these."""
    # Numbers first: to sort a million rows by four texts takes three times as long.
    values = rows.select(columns).unique().sort(columns).with_columns(pl.int_range(pl.len()).alias(name))
    numbered = rows.join(values, on=list(columns), how="left", nulls_equal=True, maintain_order="left")
    return numbered.sort(name, *(["annotation_id"] if "annotation_id" in rows.columns else []))


def digests(rows: pl.DataFrame, code: str, counts: pl.Expr, asked: Any) -> pl.DataFrame:
    """A name for what was read, by `code`: it changes when what an annotation says or its remaining targets do.

    What is said and not its revision: a label that is corrected and set back gives the old consensus its old name.

    Args:
        rows: annotations sorted by `code` and annotation_id.
        code: the column of numbers to group by.
        counts: which rows were used; a number with none is named by the settings alone.
        asked: the settings, which are part of the name.

    Returns:
        The column `code`, and `read`.
    """
    content = pl.struct("annotation_id", "target_ids", "scores", "labels").struct.json_encode()
    text, settings = json_of(pl.col("said").list.join("\n")), json_text(canonical_json(asked))
    made = [pl.DataFrame(schema={code: rows.schema[code], "read": pl.String})]
    for part in _in_parts(rows, code):  # these texts take more room than what they are made from
        said = part.select(code, said=pl.when(counts).then(content))
        texts = said.group_by(code, maintain_order=True).agg(pl.col("said").drop_nulls())
        made.append(texts.select(code).with_columns(row_ids(texts, "read", settings, text).alias("read")))
    return pl.concat(made)


def _in_parts(rows: pl.DataFrame, code: str) -> Iterator[pl.DataFrame]:
    """Rows that are sorted by `code`, some at a time, those of one code together."""
    start = 0
    while start < rows.height:
        last = rows[code][min(start + _AT_ONCE, rows.height) - 1]
        stop = int(rows[code].search_sorted(last, "right"))
        yield rows.slice(start, stop - start)
        start = stop
