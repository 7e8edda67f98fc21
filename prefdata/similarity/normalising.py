"""Texts made alike where they differ in form only: shapes of letters, capitals, spaces, punctuation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

Normalise = Literal["words", "raw"]
"""`words`: see `normalised`; `raw`: nothing but the white space around a text is taken off."""

# Scripts that are written without spaces: each character stands as a word of its own.
_UNSPACED = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"


def normalised(texts: Sequence[str | None] | pl.Series, form: Normalise = "words") -> pl.Series:
    """The texts in the form in which they are compared, words separated by single spaces.

    Unicode NFKC, lower case, white space as one space, punctuation (Unicode category P) taken out. A sign before a
    digit stays, as a sign of arithmetic: 12 - 3 is not 12 / 3. A text of nothing but punctuation stays as it is, so
    that two such texts are alike only if they are equal. A null is an empty text.

    Args:
        texts: in any order.
        form: see `Normalise`.
    """
    given = pl.Series("text", texts, dtype=pl.String).fill_null("")
    if form == "raw":
        return given.str.strip_chars()
    plain = given.str.normalize("NFKC").str.to_lowercase()
    bare = plain
    for sign, arithmetic in (("-", "\u2212"), (r"\*", "\u00d7"), ("/", "\u00f7")):
        bare = bare.str.replace_all(rf"{sign} ?([0-9])", f" {arithmetic}$1")
    bare = bare.str.replace_all(r"['’]", "").str.replace_all(r"\p{P}+", " ")
    if bare.str.contains(_UNSPACED).any():
        bare = bare.str.replace_all(f"({_UNSPACED})", " $1 ")
    bare = bare.str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.select(pl.when(bare != "").then(bare).otherwise(plain.str.strip_chars()).alias("text")).to_series()


def words_of(texts: Sequence[str | None] | pl.Series, form: Normalise = "words") -> pl.Series:
    """The words of each text, as a list: of the normalised text, or (raw) what white space separates."""
    found = normalised(texts, form)
    if form == "raw":
        found = found.str.replace_all(r"\s+", " ")
    return pl.select(
        pl.when(found != "").then(found.str.split(" ")).otherwise(pl.lit([], pl.List(pl.String)))
    ).to_series()
