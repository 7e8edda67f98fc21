"""Numbers that annotators gave to single responses, as the `values` of preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from prefdata.errors import DataError
from prefdata.operators.aggregate.majority import labels_of
from prefdata.operators.evidence import VALID, newest_cards, selected
from prefdata.schema import PROTOCOLS

_CONSENSUS = "consensus:"
_VALUES = pl.List(pl.Struct({"name": pl.String, "values": pl.List(pl.Float64)}))


class Numbers(BaseModel):
    """Whose numbers, and which of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    annotator: str = Field(min_length=1, description="Whose (`*` stands for any text).")
    aspect: str | None = Field(None, min_length=1, description="Under which aspect; needed where there are several.")
    protocol: str | None = Field(None, description="By which protocol; needed where there are several.")
    labels: dict[str, float] | None = Field(None, description="Labels in place of scores: which number each one is.")
    number: Literal["score", "position"] = Field(
        "score", description="position: the place (1, 2, ...) at which the response was shown among others."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.protocol is not None and self.protocol not in PROTOCOLS:
            raise ValueError(f"there is no protocol {self.protocol!r}; it is one of {', '.join(sorted(PROTOCOLS))}")
        if self.labels is not None and self.protocol not in (None, "label"):
            raise ValueError(f"labels are of the protocol label, not {self.protocol}")
        if self.labels is not None and self.number == "position":
            raise ValueError("give labels or number: position, not both: each says what the number is")
        if self.labels is not None and not (self.labels and all(map(np.isfinite, self.labels.values()))):
            raise ValueError("labels gives each label a finite number, for example {factual: 0, wrong: 1}")
        return self


def numbers_of(annotations: pl.DataFrame, name: str, asked: str | Numbers) -> pl.DataFrame:
    """The number of each response: the mean of all that these annotators gave it under the same prompt.

    Scores count as they stand: of comparisons the mean is the share of wins, and a measure is
    not turned. A consensus counts only where the pattern begins with `consensus:`. Of a judge whose card was edited
    only the newest version counts.

    Args:
        annotations: rows of `annotations`, created_at among the columns.
        name: of the values, for the message.
        asked: a pattern of annotators, or more.

    Returns:
        prompt_id, target, number, and the ids of the annotations.

    Raises:
        DataError: they gave numbers under several aspects or protocols, and which is meant is not said.
    """
    which = Numbers(annotator=asked) if isinstance(asked, str) else asked
    rows = selected(annotations, annotators=[which.annotator], aspects=[which.aspect] if which.aspect else [])
    agreed = pl.col("source") == "consensus"
    rows = newest_cards(rows.filter(agreed if which.annotator.startswith(_CONSENSUS) else ~agreed))
    if which.protocol is not None:
        rows = rows.filter(pl.col("protocol") == which.protocol)
    if which.labels is not None:
        number = pl.col("verdict").replace_strict(dict(which.labels), default=None, return_dtype=pl.Float64)
        found = labels_of(rows.filter(pl.col("protocol") == "label")).with_columns(target="named", number=number)
    elif which.number == "position":
        shown = rows.filter(VALID & (pl.col("target_ids").list.len() > 1))
        place = pl.int_ranges(1, pl.col("target_ids").list.len() + 1).cast(pl.List(pl.Float64))
        found = shown.with_columns(target="target_ids", number=place).explode("target", "number")
    else:
        scored = rows.filter(VALID).with_columns(target="target_ids", number="scores")
        found = scored.explode("target", "number")
    found = found.drop_nulls(["target", "number"])
    for kind in ("aspect", "protocol"):
        several = found[kind].unique().sort().to_list()
        if len(several) > 1:
            raise DataError(
                f"pair: values {name!r}: {which.annotator} gave numbers under {len(several)} {kind}s "
                f"({', '.join(map(str, several))}); say which: {name}: {{annotator: {which.annotator!r}, {kind}: ...}}"
            )
    return _means(found)


def _means(found: pl.DataFrame) -> pl.DataFrame:
    """One row for each prompt and response. Equal numbers in another order give the same bits: they are sorted."""
    rows = found.sort("prompt_id", "target", "number")
    key = pl.struct("prompt_id", "target")
    code = rows.select(key.rle_id()).to_series().to_numpy()
    count = np.bincount(code)
    number = rows["number"].to_numpy()
    first = np.flatnonzero(np.diff(code, prepend=-1)) if len(code) else np.zeros(0, dtype=np.int64)
    low, high = number[first], number[first + count - 1]
    # 12 decimals, as a consensus has: means that are equal on paper must not differ in the last bit.
    mean = np.where(low == high, low, np.round(np.bincount(code, weights=number) / np.maximum(count, 1), 12))
    each = rows.group_by("prompt_id", "target", maintain_order=True).agg(ids="annotation_id")
    return each.with_columns(number=pl.Series(mean, dtype=pl.Float64))


def values_of(listed: pl.DataFrame, annotations: pl.DataFrame, asked: Mapping[str, str | Numbers]) -> pl.DataFrame:
    """The values of lists of responses, one number for each response under each name; null where there is none.

    Args:
        listed: row, target, and prompt: under which the response is judged; sorted by row.
        annotations: rows of `annotations`.
        asked: whose numbers, by name.

    Returns:
        row, values, and the ids of their annotations; rows whose responses have no number at all are not in it.
    """
    columns = {name: f"number {place}" for place, name in enumerate(asked)}
    ids = [f"ids of {column}" for column in columns.values()]
    wide = listed.select("row", "prompt", "target")
    for (name, column), own in zip(columns.items(), ids, strict=True):
        found = numbers_of(annotations, name, asked[name])
        found = found.rename({"prompt_id": "prompt", "number": column, "ids": own})
        wide = wide.join(found, on=["prompt", "target"], how="left", nulls_equal=True, maintain_order="left")
    every = pl.concat_list(pl.col(own).fill_null([]) for own in ids)
    heard = pl.col("heard").list.explode().drop_nulls()
    wide = wide.with_columns(heard=every)
    grouped = wide.group_by("row", maintain_order=True).agg(*columns.values(), heard_values=heard)
    each = [pl.struct(pl.lit(name).alias("name"), pl.col(column).alias("values")) for name, column in columns.items()]
    said = pl.any_horizontal(pl.col(column).list.drop_nulls().list.len() > 0 for column in columns.values())
    return grouped.filter(said).select("row", "heard_values", values=pl.concat_list(each).cast(_VALUES))
