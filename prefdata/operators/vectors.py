"""Vectors of texts as annotations hold them: base64 of half-precision numbers, under the aspect `vector`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.errors import DataError
from prefdata.operators.evidence import matching

VECTOR = "vector"
"""The aspect under which vectors stand."""

_FORM = "float16:"


def packed(vector: Sequence[float]) -> str | None:
    """A vector, scaled to length 1, as text; None where it has no length, or is not finite."""
    given = np.asarray(vector, dtype=np.float64)
    length = float(np.sqrt((given**2).sum()))
    if not np.isfinite(length) or length == 0:
        return None
    return _FORM + base64.b64encode((given / length).astype("<f2").tobytes()).decode("ascii")


def read_vectors(
    annotations: pl.DataFrame, where: str, annotators: Sequence[str] = ("*",)
) -> tuple[list[str], NDArray[np.float32]]:
    """The ids that have a vector, and the vectors; [n], [n, dimensions].

    Args:
        annotations: of one target, under the aspect `vector`; those without an answer are left out.
        where: the step, for the message.
        annotators: patterns (`*` stands for any text).

    Raises:
        DataError: there are vectors of several annotators or lengths, or a text is no vector.
    """
    rows = annotations.filter(
        (pl.col("status") == "ok")
        & (pl.col("protocol") == "label")
        & pl.col("text").is_not_null()
        & pl.col("annotator").is_in(matching(annotations["annotator"].unique(), annotators))
    )
    names = rows["annotator"].unique().sort().to_list()
    if len(names) > 1:
        raise DataError(f"{where}: there are vectors by {', '.join(names)}; name one of them (vectors:)")
    rows = rows.select(pl.col("target_ids").list.first().alias("id"), "text").unique("id", keep="last").sort("id")
    found: list[NDArray[np.float32]] = []
    for one, text in rows.iter_rows():
        try:
            if not text.startswith(_FORM):
                raise ValueError(f"it begins with {text[:12]!r} and not with {_FORM!r}")
            vector = np.frombuffer(base64.b64decode(text[len(_FORM) :], validate=True), dtype="<f2")
        except (binascii.Error, ValueError) as error:
            raise DataError(f"{where}: the vector of {one} cannot be read: {error}") from None
        found.append(vector.astype(np.float32))
    if len({len(vector) for vector in found}) > 1:
        raise DataError(f"{where}: the vectors by {names[0]!r} have different lengths; embed all texts by one model")
    stacked = np.stack(found) if found else np.zeros((0, 1), dtype=np.float32)
    if not (np.isfinite(stacked).all() and (stacked**2).sum(axis=1).all()):
        raise DataError(f"{where}: a vector by {names[0]!r} is not finite, or has no length")
    return rows["id"].to_list(), stacked
