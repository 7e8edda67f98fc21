"""When two responses to one prompt say the same: equal text, whitespace apart, and equal media."""

from __future__ import annotations

import polars as pl


def normalised(text: str) -> str:
    """The text with each run of whitespace as one space."""
    return " ".join(text.split())


def content(responses: pl.DataFrame) -> pl.Expr:
    """Text and media as one text, which is equal where two responses are the same.

    Args:
        responses: with the columns text and media.
    """
    text = pl.col("text").str.replace_all(r"\s+", " ").str.strip_chars().fill_null("")
    if responses["media"].null_count() == len(responses):
        return pl.concat_str(text, pl.lit("\x00"))
    each = pl.col("media").list.eval(pl.element().struct.json_encode())
    return pl.concat_str(text, each.list.join("\x01").fill_null(""), separator="\x00")
