"""Scores of different annotators on one scale: are they, and how to bring them there."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.errors import DataError

Normalise = Literal["none", "zscore", "rank", "minmax"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

VOICE = ["aspect", "protocol", "annotator", "criterion_id"]
"""Scores of one voice stand on one scale."""

_ENOUGH_FOR_UNIT = 10
_ENOUGH_FOR_RANGE = 30
_OVERLAP = 0.1


def check_alike(entries: pl.DataFrame, where: str) -> None:
    """Refuse to average scores that evidently stand on different scales.

    Evident is, within one aspect: different protocols; one voice (annotator, protocol and criterion) keeps within
    [0, 1], with a fraction or with ten scores and a 0 among them, while another reaches 2 or -1; or two voices with
    thirty scores each, one of them the widest, whose ranges overlap in less than a tenth of what they span together.
    Scales of like range (1 to 5 and 1 to 10) cannot be told apart from the scores.

    Args:
        entries: VOICE and score, one row for each score.
        where: the step, for the message.

    Raises:
        DataError: names the two voices, their ranges and what to do.
    """
    score = pl.col("score")
    voices = (
        entries.group_by(VOICE)
        .agg(
            n=pl.len(),
            low=score.min(),
            high=score.max(),
            fractions=((score > 0) & (score < 1)).sum(),
        )
        .sort(VOICE)
    )
    for _, rows in voices.group_by("aspect", maintain_order=True):
        unlike = _unlike(rows)
        if unlike is None:
            continue
        one, other = (rows.row(place, named=True) for place in unlike)
        raise DataError(
            f"{where}: the scores of aspect {one['aspect']!r} stand on unlike scales: {_voice(one)}, "
            f"but {_voice(other)}. Say normalise: zscore, rank or minmax (within annotator and prompt), leave some out "
            "(annotators:, aspects:), or say normalise: none if they are comparable as they are; "
            "aggregate.bradley_terry needs no common scale"
        )


def _unlike(rows: pl.DataFrame) -> tuple[int, int] | None:
    """The positions of two voices on unlike scales, if there are."""
    protocol = rows["protocol"].to_list()
    if len(set(protocol)) > 1:
        return 0, next(place for place, name in enumerate(protocol) if name != protocol[0])
    low, high, n = rows["low"].to_numpy(), rows["high"].to_numpy(), rows["n"].to_numpy()
    fractions = rows["fractions"].to_numpy()
    unit = (low >= 0) & (high <= 1) & ((fractions > 0) | ((n >= _ENOUGH_FOR_UNIT) & (low == 0)))
    beyond = (high >= 2) | (low <= -1)
    if unit.any() and beyond.any():
        return int(np.argmax(unit)), int(np.argmax(beyond))
    many = np.flatnonzero(n >= _ENOUGH_FOR_RANGE)
    if len(many) > 1:
        widest = many[np.argmax((high - low)[many])]
        shared = np.minimum(high[many], high[widest]) - np.maximum(low[many], low[widest])
        spanned = np.maximum(high[many], high[widest]) - np.minimum(low[many], low[widest])
        apart = (shared < _OVERLAP * spanned) & (high > low)[many]
        if apart.any():
            return int(many[np.argmax(apart)]), int(widest)
    return None


def _voice(row: dict[str, object]) -> str:
    criterion = f" under criterion {row['criterion_id']!r}" if row["criterion_id"] is not None else ""
    return f"{row['annotator']!r} gives {row['protocol']}s from {row['low']:g} to {row['high']:g}{criterion}"


def normalised(unit: IntArray, target: IntArray, score: FloatArray, how: Normalise) -> FloatArray:
    """Scores relative to the other scores of their unit; NaN where the unit has one target and so states no order.

    Args:
        unit: [n] what is normalised within: an annotator's scores for one prompt.
        target: [n] the response scored.
        score: [n]
        how: zscore: (x - mean) / population standard deviation, 0 where all are equal. rank: mid-rank from 0 (worst)
            to 1 (best). minmax: from 0 to 1; 0.5 where all are equal. none: as they are.
    """
    if how == "none" or not len(score):
        return score
    _, unit = np.unique(unit, return_inverse=True)
    order = np.lexsort((score, unit))
    u, x = unit[order], score[order]
    starts = np.flatnonzero(np.r_[True, u[1:] != u[:-1]])
    sizes = np.diff(np.r_[starts, len(u)])
    low, high = x[starts][u], x[starts + sizes - 1][u]
    equal = low == high
    if how == "zscore":
        deviation = x - (np.bincount(u, weights=x) / sizes)[u]
        spread = np.sqrt(np.bincount(u, weights=deviation**2) / sizes)[u]
        value = np.where(equal, 0.0, deviation / np.where(equal, 1.0, spread))
    elif how == "minmax":
        value = np.where(equal, 0.5, (x - low) / np.where(equal, 1.0, high - low))
    else:
        run = np.cumsum(np.r_[False, (u[1:] != u[:-1]) | (x[1:] != x[:-1])])
        first = np.flatnonzero(np.r_[True, run[1:] != run[:-1]])
        last = np.r_[first[1:], len(u)] - 1
        middle = (first + last)[run] / 2 - starts[u]
        value = np.where(equal, 0.5, middle / np.maximum(sizes[u] - 1, 1))
    lowest, highest = np.full(len(sizes), np.iinfo(np.int64).max), np.full(len(sizes), -1)
    np.minimum.at(lowest, unit, target)
    np.maximum.at(highest, unit, target)
    result = np.empty_like(value)
    result[order] = value
    return np.where((lowest == highest)[unit], np.nan, result)
