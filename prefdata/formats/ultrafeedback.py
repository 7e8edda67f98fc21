"""The columns of HuggingFaceH4/ultrafeedback_binarized, which many recipes read."""

from __future__ import annotations

import hashlib
from collections import Counter

import polars as pl

from prefdata.formats.columns import ULTRAFEEDBACK
from prefdata.formats.pairs import pairs_from_lists
from prefdata.formats.template import single_user_text
from prefdata.render import transcript

PLAIN_KEYS = ("role", "content")


def ultrafeedback_from_lists(lists: pl.DataFrame) -> tuple[pl.DataFrame, Counter[str]]:
    """prompt, prompt_id, chosen, rejected, messages, score_chosen, score_rejected, and our split.

    `chosen` and `rejected` are whole conversations, `messages` is the chosen one. `prompt` is the user's text, for
    prompts of several turns their transcript; `prompt_id` is its SHA-256.

    Args:
        lists: what `training_lists` returns.

    Returns:
        The frame, and what was left out, by reason; a tie has no place in this format.
    """
    pairs, left_out = pairs_from_lists(lists, conversational=True)
    pairs, reasons = plain_conversations(pairs)
    alone = single_user_text(pairs)
    shown = alone.to_list()
    for place in alone.is_null().arg_true():
        shown[place] = transcript(pairs["prompt"][place].to_list())
    ids = [hashlib.sha256(text.encode()).hexdigest() for text in shown]
    chosen = pairs.select(pl.concat_list("prompt", "chosen")).to_series()
    made = pairs.select(
        pl.Series("prompt", shown, dtype=pl.String),
        pl.Series("prompt_id", ids, dtype=pl.String),
        chosen.alias("chosen"),
        pl.concat_list("prompt", "rejected").alias("rejected"),
        chosen.alias("messages"),
        "score_chosen",
        "score_rejected",
        "split",
    ).select(ULTRAFEEDBACK.names)
    return made, left_out + reasons


def plain_conversations(pairs: pl.DataFrame) -> tuple[pl.DataFrame, Counter[str]]:
    """Conversational pairs whose prompts are roles and contents and nothing else, and how many are not."""
    inner = pairs.schema["prompt"]
    assert isinstance(inner, pl.List) and isinstance(inner.inner, pl.Struct)
    further = [field.name for field in inner.inner.fields if field.name not in PLAIN_KEYS]
    filled = [
        pl.col("prompt").list.eval(pl.element().struct.field(key).is_not_null()).list.any().fill_null(False)
        for key in further
    ]
    tools = [pl.col("tools").is_not_null()] if "tools" in pairs.columns else []
    held = pairs.filter(~pl.any_horizontal(*filled, *tools)) if filled or tools else pairs
    left_out = Counter({"tools, tool calls or names": pairs.height - held.height})
    plain = pl.struct([pl.element().struct.field(key) for key in PLAIN_KEYS])
    return held.with_columns(pl.col("prompt").list.eval(plain)), +left_out
