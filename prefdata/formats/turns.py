"""The responses of lists as one long frame, and each as messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from prefdata.formats.columns import LISTS, polars_type
from prefdata.formats.conversation import split_turns
from prefdata.schema import Row

_TURNS = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))


def flattened(lists: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """Every response of every list, in order.

    Args:
        lists: with every column of `lists`, and `row`.

    Returns:
        row, response_id, text, prefix, ends_turn, segments (null where there is none); and where each list begins.
    """
    held = lists.filter(pl.col("responses").list.len() > 0)
    count = pl.col("responses").list.len()
    nothing = {
        "prefixes": polars_type(LISTS.field("prefixes").type),
        "ends_turn": polars_type(LISTS.field("ends_turn").type),
        "segments": polars_type(LISTS.field("segments").type),
    }
    names = {"prefixes": "prefix", "ends_turn": "ends_turn", "segments": "segments"}
    made = [
        held.select("row", response_id="response_ids", text="responses").explode("response_id", "text"),
    ]
    for column, kind in nothing.items():
        inner = kind.inner if isinstance(kind, pl.List) else pl.String()
        if held[column].null_count() == held.height:
            made.append(pl.DataFrame({names[column]: pl.Series([None], dtype=inner).new_from_index(0, made[0].height)}))
            continue
        blank = pl.lit(None, inner).repeat_by(count)
        made.append(held.select(pl.col(column).fill_null(blank).explode().alias(names[column])))
    texts = pl.concat(made, how="horizontal")
    return texts, (lists["responses"].list.len().cast(pl.Int64).cum_sum() - lists["responses"].list.len()).cast(
        pl.Int64
    )


def changes_speaker(texts: pl.DataFrame) -> pl.Series:
    """Which responses go on after another role's turn."""
    if texts["segments"].null_count() == texts.height:
        return pl.Series([False]).new_from_index(0, texts.height)
    foreign = pl.element().struct.field("role").fill_null("assistant") != "assistant"
    return texts.select(pl.col("segments").list.eval(foreign).list.any().fill_null(False)).to_series()


def trained_turns(text: str, segments: list[Mapping[str, Any]] | None) -> tuple[list[Row], bool]:
    """The messages of a response up to the assistant's last, and whether something follows that.

    A new message begins wherever the segments change role, whatever their kinds: a tool's output is no text of the
    assistant's, and only in a turn of its own can a message say so. What follows the assistant's last turn cannot be
    trained. A response without any turn of the assistant's is left as it is.
    """
    turns = split_turns(text, segments)
    count = max((place + 1 for place, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns))
    return turns[:count], count < len(turns)


def answer_messages(texts: pl.DataFrame) -> pl.Series:
    """Each response as a list of messages: one, or more where its segments change role."""
    one = texts.select(
        pl.concat_list(pl.struct(role=pl.lit("assistant"), content=pl.col("text"))).cast(_TURNS).alias("messages")
    ).to_series()
    places = changes_speaker(texts).arg_true()
    if not len(places):
        return one
    split = [trained_turns(row["text"], row["segments"])[0] for row in texts[places].iter_rows(named=True)]
    several = pl.DataFrame([places.cast(pl.Int64).alias("at"), pl.Series("several", split, dtype=_TURNS)])
    joined = pl.DataFrame([one, pl.int_range(len(one), eager=True).alias("at")]).join(
        several, on="at", how="left", maintain_order="left"
    )
    return joined.select(pl.coalesce("several", "messages").alias("messages")).to_series()
