"""The rows of `drops`."""

from __future__ import annotations

import polars as pl

from prefdata.schema import KEYS


def drops_of(table: str, rows: pl.DataFrame, reason: pl.Expr, view: str) -> pl.DataFrame:
    """A drop for each of these rows.

    Args:
        table: that the rows are of.
        rows: what is dropped, with its id and group_id.
        reason: of each row.
        view: that they are dropped from.
    """
    return rows.select(
        pl.lit(table).alias("table"),
        pl.col(KEYS[table]).alias("id"),
        "group_id",
        pl.lit(view).alias("view"),
        reason.alias("reason"),
        pl.lit(False).alias("restore"),
    )
