"""Lists as single responses with a label: what KTO and its kin read."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl

from prefdata.formats.columns import UNPAIRED, UNPAIRED_OPTIONAL
from prefdata.formats.pairs import distinct_edges
from prefdata.formats.template import NEEDS_TEMPLATE, Template, single_user_text
from prefdata.formats.turns import answer_messages, changes_speaker

SHUFFLED_BY = 20240607
"""Seed of the one shuffle: TRL pairs every row with another row's completion, so neighbours must not be related."""


def unpaired_from_lists(
    lists: pl.DataFrame,
    *,
    conversational: bool = False,
    template: Template | None = None,
    from_lists: bool = False,
) -> tuple[pl.DataFrame, Counter[str]]:
    """One row a response: the columns of `unpaired`, shuffled.

    Args:
        lists: what `training_lists` returns.
        conversational: messages in place of texts.
        template: renders prompts that are not one user message (standard form only).
        from_lists: take lists of other kinds too: an edge's winner is wanted, its loser not.

    Returns:
        The frame, and what was left out, by reason: `several prompts`, `another reference prompt`, `media`, `no order`
        and `not unpaired` count lists, `tie` and `same text` pairs, all others responses.
    """
    frame, texts, edges, left_out = distinct_edges(lists, ties=False)
    del left_out["unpaired"]
    alone = _of_unpaired(frame, left_out)
    if from_lists:
        rows = pl.concat([alone, _of_edges(edges, left_out)])
    else:
        for reason in ("tie", "same text", "no order", "role other than ranked"):
            del left_out[reason]
        left_out["not unpaired (--from-lists takes these too)"] = frame.filter(pl.col("kind") != "unpaired").height
        rows = alone
    rows = rows.sort("at")
    scores = frame["scores"].explode() if frame.height else pl.Series([], dtype=pl.Float64)
    rows = _holdable(frame, texts, rows, conversational, template, left_out)
    order = np.random.default_rng(SHUFFLED_BY).permutation(rows.height)
    rows = rows[pl.Series(order, dtype=pl.UInt32)] if rows.height else rows
    lists_of, at = frame[texts["row"].gather(rows["at"])], rows["at"]
    if conversational:
        shown = [lists_of["prompt"], answer_messages(texts[at]).alias("completion")]
    else:
        prompts = single_user_text(frame) if template is None else template.prompts(frame)
        answers = texts["text"] if template is None else template.answers(frame, texts)
        before = texts["prefix"].gather(at).fill_null("")
        shown = [
            (prompts.gather(texts["row"].gather(at)) + before).alias("prompt"),
            answers.gather(at).alias("completion"),
        ]
    begin = pl.int_range(texts.height, eager=True).to_frame("at").select(pl.col("at").min().over(texts["row"]))["at"]
    made = pl.DataFrame(
        [
            *shown,
            rows["label"],
            lists_of["weight"],
            scores.gather(at).alias("score"),
            lists_of["tools"],
            (lists_of["id"] + ":" + (at.cast(pl.Int64) - begin.gather(at)).cast(pl.String)).alias("id"),
            lists_of["id"].alias("list"),
            *(lists_of[name] for name in ("group", "split", "aspect", "annotator")),
            texts["response_id"].gather(at),
        ]
    )
    silent = [name for name in UNPAIRED_OPTIONAL if made[name].null_count() == made.height]
    return made.select(name for name in UNPAIRED.names if name not in silent), +left_out


def _of_unpaired(frame: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """At and label of the responses of unpaired lists: wanted where the score is above one half."""
    if not frame.height:
        return pl.DataFrame(schema={"at": pl.Int64, "label": pl.Boolean})
    long = frame.select("kind", score="scores").explode("score").with_row_index("at")
    alone = long.filter(pl.col("kind") == "unpaired")
    left_out["no score"] = alone["score"].null_count()
    return alone.drop_nulls("score").select(pl.col("at").cast(pl.Int64), label=pl.col("score") > 0.5)


def _of_edges(edges: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """At and label of winners and losers; a response that is both is left out."""
    sides = pl.concat(
        [
            edges.select(at="at_winner", label=pl.lit(True)),
            edges.select(at="at_loser", label=pl.lit(False)),
        ]
    ).unique()
    both = pl.len().over("at") > 1
    left_out["both wanted and not"] = sides.filter(both)["at"].n_unique()
    return sides.filter(~both)


def _holdable(
    frame: pl.DataFrame,
    texts: pl.DataFrame,
    rows: pl.DataFrame,
    conversational: bool,
    template: Template | None,
    left_out: Counter[str],
) -> pl.DataFrame:
    """The rows that the form can hold."""
    if conversational:
        prefixed = texts["prefix"].is_not_null().gather(rows["at"])
        left_out["prefix"] = int(prefixed.sum())
        return rows.filter(~prefixed)
    if template is not None and template.holds_turns:
        return rows
    alone = pl.Series([True]).new_from_index(0, rows.height)
    if template is None:
        alone = single_user_text(frame).is_not_null() & frame["tools"].is_null()
        alone = alone.gather(texts["row"].gather(rows["at"]))
    several = changes_speaker(texts).gather(rows["at"])
    left_out[NEEDS_TEMPLATE] = int((~alone).sum())
    left_out["several turns"] = int((alone & several).sum())
    return rows.filter(alone & ~several)
