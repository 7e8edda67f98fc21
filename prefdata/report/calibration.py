"""Whether the probabilities that annotators state come true, held against the reference.

A statement and its opposite are one statement, so each pair counts both ways round: P(first is better) = p, and
P(second is better) = 1 - p. (In one order alone a judge that is sure and right half the time would look calibrated.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from prefdata.operators.evidence import VALID, selected
from prefdata.report.agreement import referred
from prefdata.report.numbers import Entry
from prefdata.report.reading import THRESHOLDS
from prefdata.report.verdicts import TIE, Verdicts
from prefdata.stats import Draws
from prefdata.stats.calibration import calibration as calibrated

BINS = 10

MOST = 20
"""Annotators and aspects with a curve."""

_PAIR = ["prompt_id", "first", "second"]
_WHO = ["annotator", "source", "aspect"]


def calibration(verdicts: Verdicts, members: Sequence[str]) -> list[Entry] | None:
    """Each annotator that states probabilities or its confidence, against the majority of the reference.

    Args:
        verdicts: see `verdicts_of`.
        members: the reference annotators.

    Returns:
        {name, source, aspect, of (`probability` of comparisons, the mean of its orders, or `confidence` in a verdict),
        n (pairs), prompts, ece ({value, low, high, debiased}: expected calibration error, both ways round, in 10 bins
        of equal width), brier, log_loss, stated (mean of max(p, 1 - p)), right (how often the side it leans to is the
        reference's), too_sure ({value, low, high}: stated minus right, resampling prompts), curve: {stated, observed,
        n, low, high} of max(p, 1 - p) in bins}. None where nobody states any, or there is no reference.
    """
    if not members:
        return None
    _, rows = referred(verdicts.by_annotator, list(members))
    rows = rows.filter((pl.col("truth") != 0) & ~pl.col("member"))
    made = []
    for of, stated in (("probability", _probabilities(rows, verdicts)), ("confidence", _confidences(rows, verdicts))):
        for key, part in stated.partition_by(_WHO, as_dict=True, maintain_order=True).items():
            if part.height >= THRESHOLDS.least_reference:
                made.append({**dict(zip(("name", "source", "aspect"), key, strict=True)), "of": of, **measured(part)})
    made.sort(key=lambda one: (-one["n"], str(one["name"]), str(one["aspect"]), one["of"]))
    return made[:MOST] or None


def _probabilities(rows: pl.DataFrame, verdicts: Verdicts) -> pl.DataFrame:
    """What they say of the first, and the truth, of annotators that do not only say 0, one half and 1."""
    soft = verdicts.stated.filter(pl.col("protocol") == "compare")
    apart = (pl.col("p") - 0.5).abs()
    soft = soft.filter((apart > 1e-6) & (apart < 0.5 - 1e-6)).select(_WHO).unique()
    kept = rows.join(soft, on=_WHO, how="semi")
    p = ((pl.col("margin") + 1) / 2).clip(0, 1)
    return kept.select(*_WHO, "group_id", *_PAIR, "truth", p=p).sort(*_WHO, *_PAIR, nulls_last=True)


def _confidences(rows: pl.DataFrame, verdicts: Verdicts) -> pl.DataFrame:
    """The same by the confidence in the verdict; it is at least one half, for less would be the other verdict."""
    said = selected(verdicts.annotations).filter(VALID & pl.col("confidence").is_between(0.5, 1))
    two = said.filter(pl.col("protocol").is_in(["compare", "choose", "rank"]) & (pl.col("target_ids").list.len() == 2))
    ids = pl.col("target_ids").list
    two = two.select(
        *_WHO,
        "prompt_id",
        "confidence",
        first=pl.min_horizontal(ids.get(0), ids.get(1)),
        second=pl.max_horizontal(ids.get(0), ids.get(1)),
    )
    sure = two.group_by(*_WHO, *_PAIR).agg(pl.col("confidence").mean().round(9))
    kept = rows.filter(pl.col("verdict") != 0).join(sure, on=[*_WHO, *_PAIR], how="inner", nulls_equal=True)
    kept = kept.filter(pl.len().over(_WHO) > 1).filter(pl.col("confidence").n_unique().over(_WHO) > 1)
    p = pl.when(pl.col("verdict") > 0).then("confidence").otherwise(1 - pl.col("confidence"))
    return kept.select(*_WHO, "group_id", *_PAIR, "truth", p=p).sort(*_WHO, *_PAIR, nulls_last=True)


def measured(rows: pl.DataFrame) -> Entry:
    """The measures of one annotator.

    Args:
        rows: group_id, p, truth (1 the first is better, -1 the second).
    """
    p, y = rows["p"].to_numpy(), (rows["truth"].cast(pl.Float64).to_numpy() + 1) / 2
    units = rows["group_id"].rank("dense").to_numpy()
    whole = calibrated(p, y, bins=BINS, both_orders=True, units=units)
    sure, right = np.maximum(p, 1 - p), np.where(p > 0.5, y, 1 - y)
    right = np.where(np.abs(p - 0.5) < TIE, 0.5, right)
    draws = Draws(units)
    value, drawn = draws.ratio(sure - right, np.ones(len(p)))
    ends = draws.interval(drawn)
    return {
        "n": len(p),
        "prompts": rows["group_id"].n_unique(),
        "ece": {"value": whole.value, "low": whole.low, "high": whole.high, "debiased": whole.debiased},
        "brier": whole.brier,
        "log_loss": whole.log_loss,
        "stated": float(sure.mean()),
        "right": float(right.mean()),
        "too_sure": {"value": value, "low": ends[0] if ends else None, "high": ends[1] if ends else None},
        "curve": _curve(sure, right, draws),
    }


def _place(p: Any, bins: int, low: float = 0.0) -> Any:
    return np.minimum(((p - low) / (1 - low) * bins).astype(np.int64), bins - 1)


def _curve(sure: Any, right: Any, draws: Draws) -> list[Entry]:
    """How often it is right by how sure it says it is, in five bins from one half to 1."""
    place = _place(sure, BINS // 2, 0.5)
    made = []
    for one in range(BINS // 2):
        rows = np.flatnonzero(place == one)
        if not len(rows):
            continue
        value, drawn = draws.ratio(right[rows], np.ones(len(rows)), rows)
        ends = draws.interval(drawn)
        made.append(
            {
                "stated": float(sure[rows].mean()),
                "observed": value,
                "n": len(rows),
                "low": ends[0] if ends else None,
                "high": ends[1] if ends else None,
            }
        )
    return made
