"""What is compared of a prompt, a response or a preference: its texts, piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.schema import KEYS
from prefdata.similarity import normalised
from prefdata.similarity.hashing import mixed, word_codes

Of = Literal["prompts", "responses", "preferences"]
Turns = Literal["all", "first", "last"]


@dataclass(frozen=True)
class Documents:
    """Rows of a table as documents of one or more texts.

    Attributes:
        rows: id, group_id, prompt_id of each document. [n]
        texts: all pieces, document by document. [m]
        owners: the number of the document of each piece, ascending. [m]
        sides: which part of the document a piece is, and with which media: pieces of different sides are not
            compared. [m]
    """

    rows: pl.DataFrame
    texts: pl.Series
    owners: NDArray[np.int64]
    sides: NDArray[np.uint64]


def documents(of: Of, tables: Mapping[str, pl.DataFrame], turns: Turns = "all", *, within_prompt: bool) -> Documents:
    """The documents of a table.

    A prompt is its turns (or one of the user's), its condition and its passages; only root prompts count, for what was
    derived from one goes with it. A response is its text. A preference is its prompt and its responses, best first.

    Args:
        of: which table.
        tables: prompts, responses and preferences, as far as needed.
        turns: of a prompt: all, or the first or last of the user's.
        within_prompt: responses to different prompts are not compared.
    """
    if of == "prompts":
        roots = tables["prompts"].filter(pl.col("prompt_id") == pl.col("group_id"))
        rows = roots.select(pl.col("prompt_id").alias("id"), "group_id", "prompt_id")
        return _gathered(rows, _prompt_pieces(roots.with_row_index("owner"), turns))
    key = KEYS[of]
    rows = tables[of].select(pl.col(key).alias("id"), "group_id", "prompt_id")
    if of == "responses":
        pieces = tables[of].with_row_index("owner").select("owner", "text", media=_media())
        if within_prompt:
            number = pl.col("prompt_id").rank("dense").cast(pl.UInt64).fill_null(0)
            pieces = pieces.with_columns(side=tables[of].select(number).to_series())
        return _gathered(rows, pieces)
    listed = tables[of].with_row_index("owner")
    asked = listed.select("owner", "prompt_id").join(tables["prompts"].drop("group_id"), on="prompt_id")
    said = (
        listed.select("owner", pl.col("response_ids").alias("response_id"))
        .with_columns(side=pl.int_ranges(1, pl.col("response_id").list.len() + 1, dtype=pl.UInt64))
        .explode("response_id", "side")
        .join(tables["responses"].select("response_id", "text", media=_media()), on="response_id")
        .select("owner", "text", "media", "side")
    )
    prompts = _prompt_pieces(asked, turns).with_columns(side=pl.lit(0, pl.UInt64))
    return _gathered(rows, pl.concat([prompts, said], how="diagonal"))


def written(prompts: pl.DataFrame) -> pl.DataFrame:
    """prompt_id and `asked`: all that a prompt says, normalised, and its pictures, as one text.

    Args:
        prompts: whole rows.
    """
    pieces = _prompt_pieces(prompts.with_row_index("owner"), "all")
    said = pieces.with_columns(normalised(pieces["text"])).sort("owner", maintain_order=True)
    joined = said.group_by("owner").agg(asked=pl.col("text").str.join("\x00"), media=pl.col("media").first())
    names = prompts.with_row_index("owner").select("owner", "prompt_id").join(joined, on="owner", how="left")
    return names.select("prompt_id", asked=pl.concat_str(pl.col("asked", "media").fill_null(""), separator="\x02"))


def answered(responses: pl.DataFrame) -> pl.DataFrame:
    """response_id and `said`: the text, normalised, and the pictures, as one text.

    Args:
        responses: whole rows.
    """
    texts = responses.select("response_id", "text", media=_media()).with_columns(normalised(responses["text"]))
    return texts.select("response_id", said=pl.concat_str(pl.col("text", "media").fill_null(""), separator="\x02"))


def _media() -> pl.Expr:
    return pl.col("media").list.eval(pl.element().struct.json_encode()).list.join("\x01")


def _prompt_pieces(prompts: pl.DataFrame, turns: Turns) -> pl.DataFrame:
    """owner, text, media of the pieces of prompts; `owner` numbers them."""
    base = prompts.select("owner", "messages", "condition", "context", media=_media())
    every = pl.col("messages")
    if turns != "all":
        asked = every.list.filter(pl.element().struct.field("role") == "user")
        every = asked.list.slice(0, 1) if turns == "first" else asked.list.slice(-1, 1)
    parts = [
        base.select("owner", "media", text=every.list.eval(pl.element().struct.field("content"))),
        base.select("owner", "media", text=pl.concat_list(pl.col("condition").struct.field("text"))),
        base.select("owner", "media", text=pl.col("context").list.eval(pl.element().struct.field("text"))),
    ]
    return pl.concat(parts).explode("text").drop_nulls("text")


def _gathered(rows: pl.DataFrame, pieces: pl.DataFrame) -> Documents:
    if "side" not in pieces.columns:
        pieces = pieces.with_columns(side=pl.lit(0, pl.UInt64))
    pieces = pieces.drop_nulls("text").sort("owner", maintain_order=True)
    sides = mixed(pieces["side"].cast(pl.UInt64).to_numpy())
    pictured = pieces["media"].is_not_null().to_numpy()
    if pictured.any():
        sides[pictured] = mixed(sides[pictured] ^ word_codes(pieces["media"].drop_nulls()))
    owners = pieces["owner"].cast(pl.Int64).to_numpy()
    return Documents(rows, pieces["text"], owners, sides)
