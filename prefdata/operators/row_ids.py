"""Ids of many rows at once: what `prefdata.schema.make_id` gives for each, from columns.

The text that an id hashes is put together by polars; what is left for Python is one hash a row.
"""

from __future__ import annotations

from hashlib import blake2b

import polars as pl

from prefdata.schema import canonical_json


def json_of(column: pl.Expr) -> pl.Expr:
    """Texts, whole numbers and lists of these as the JSON that `canonical_json` writes; not for floats."""
    wrapped = pl.struct(column.alias("_")).struct.json_encode()
    return wrapped.str.strip_prefix('{"_":').str.strip_suffix("}")


def array_of(*parts: pl.Expr) -> pl.Expr:
    """JSON arrays of parts that are JSON already."""
    between = [piece for part in parts for piece in (pl.lit(","), part)][1:]
    return pl.concat_str([pl.lit("["), *between, pl.lit("]")])


def json_text(value: object) -> pl.Expr:
    """A value that is the same in every row, as JSON."""
    return pl.lit(canonical_json(value))


def row_ids(rows: pl.DataFrame, kind: str, *parts: pl.Expr) -> pl.Series:
    """`make_id(kind, *parts)` of every row.

    Args:
        rows: the columns that the parts name.
        kind: as for `make_id`.
        parts: JSON texts, see `json_of` and `json_text`.
    """
    texts = rows.select(array_of(json_text(kind), *parts).cast(pl.Binary)).to_series()
    return pl.Series([blake2b(text, digest_size=16).hexdigest() for text in texts], dtype=pl.String)


def annotation_ids(
    rows: pl.DataFrame, *, target: str, annotator: str, key: pl.Expr, protocol: pl.Expr, aspect: pl.Expr
) -> pl.Series:
    """Ids of annotations, as `prefdata.schema.annotation` names them (replicate 0).

    Args:
        rows: with prompt_id, target_ids and what the expressions name.
        target: what is annotated.
        annotator: who says so.
        key: what else was asked, as JSON.
        protocol: as JSON.
        aspect: as JSON.
    """
    about = (json_of(pl.col("prompt_id")), json_text(target), json_of(pl.col("target_ids")))
    return row_ids(rows, "annotation", *about, protocol, json_text(annotator), aspect, json_text(0), key)
