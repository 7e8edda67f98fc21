"""How able each annotator is: by a model of annotators where a step has fitted one, and by what the others say."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.dataset import Snapshot
from prefdata.report.numbers import Entry, histogram, quantiles, share
from prefdata.report.reading import THRESHOLDS
from prefdata.report.verdicts import Verdicts, numbered

MOST_ABILITIES = 50
"""So many annotators are listed, those with the most judgements first."""

ASPECT = "ability"
"""Of a fit of another aspect than `overall` it is `ability/ASPECT`."""

FILE = "annotators.json"

FURTHER = ("position", "length", "threshold")
"""Parameters of an annotator that are shown beside its ability, where a step has fitted them."""

_LARGEST_FILE = 64 << 20
"""Bytes. It comes with the dataset, and so from anywhere."""


def abilities(view: Mapping[str, pl.LazyFrame], verdicts: Verdicts, artifacts: Path, snapshot: Snapshot) -> Entry:
    """The annotators' abilities.

    Args:
        view: the live tables.
        verdicts: see `verdicts_of`.
        artifacts: the folder with a folder for each step, whose annotators.json holds intervals.
        snapshot: names the steps.

    Returns:
        models: one entry for each step and aspect whose annotators were fitted: {method, aspect, unit (what an ability
            is; None where the step's file does not say), step, name, annotators, by (name, value, low, high, n, more),
            quantiles, histogram}. None where no live step did.
        majority: {annotators, pairs, by (name, source, share, low, high, n, part), quantiles, histogram}: how often
            each agrees with the majority of the others (people: of other people; judges: of other judges) on the pairs
            that both decide; None where no pair was judged by two.
    """
    return {"models": _fitted(view, artifacts, snapshot), "majority": _left_out(verdicts)}


def _fitted(view: Mapping[str, pl.LazyFrame], artifacts: Path, snapshot: Snapshot) -> list[Entry] | None:
    of_ability = (pl.col("aspect") == ASPECT) | pl.col("aspect").str.starts_with(f"{ASPECT}/")
    about = (pl.col("target") == "annotator") & of_ability & (pl.col("status") == "ok")
    rows = (
        view["annotations"]
        .filter(about & (pl.col("source") == "consensus"))
        .select(
            "step", "annotator", "aspect", name=pl.col("target_ids").list.first(), value=pl.col("scores").list.first()
        )
        .filter(pl.col("name").is_not_null() & pl.col("value").is_finite())
        .collect()
        .sort("step", "annotator", "aspect", "name", nulls_last=True)
    )
    made = []
    key = ["step", "annotator", "aspect"]
    for (step, method, aspect), part in rows.partition_by(key, as_dict=True, maintain_order=True).items():
        judged = str(aspect).partition("/")[2] or "overall"
        unit, ends = interval_file(artifacts / str(step) / FILE, judged)
        by = [{**row, **ends.get(row["name"], _NOTHING)} for row in part.select("name", "value").to_dicts()]
        by.sort(key=lambda one: (-(one["n"] or 0), one["name"]))
        record = snapshot.steps.get(str(step))
        made.append(
            {
                "method": str(method).removeprefix("consensus:"),
                "aspect": judged,
                "unit": unit,
                "step": step,
                "name": record.name if record is not None else step,
                "annotators": part.height,
                "by": sorted(by[:MOST_ABILITIES], key=lambda one: (-one["value"], one["name"])),
                "quantiles": quantiles(part["value"].to_numpy()),
                "histogram": histogram(part["value"].to_numpy()),
            }
        )
    return made or None


_NOTHING: Entry = {"low": None, "high": None, "n": None, "more": {}}


def interval_file(path: Path, aspect: str) -> tuple[str | None, dict[str, Entry]]:
    """What a step wrote about its annotators, as far as that can be read: it may be missing, or hold anything.

    Args:
        path: JSON: {"fits": [{"aspect", "unit", "annotators": [{"annotator", "n", "low", "high"}]}]}, see
            `prefdata.operators.aggregate.abilities`.
        aspect: of which fit.

    Returns:
        The unit of an ability, and by annotator low, high, n and more: {value, low, high} of each of FURTHER that is
        there.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return None, {}
        held = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None, {}
    fits = held.get("fits") if isinstance(held, dict) else None
    for fit in fits if isinstance(fits, list) else []:
        if isinstance(fit, dict) and fit.get("aspect") == aspect and isinstance(fit.get("annotators"), list):
            unit = fit.get("unit")
            named = [
                one for one in fit["annotators"] if isinstance(one, dict) and isinstance(one.get("annotator"), str)
            ]
            return unit if isinstance(unit, str) else None, {one["annotator"]: _ends(one) for one in named}
    return None, {}


def _ends(entry: dict[str, Any]) -> Entry:
    low, high = _span(entry, "")
    more = {}
    for name in FURTHER:
        value = _number(entry.get(name))
        if value is not None:
            ends = _span(entry, f"{name}_")
            more[name] = {"value": value, "low": ends[0], "high": ends[1]}
    return {"low": low, "high": high, "n": _number(entry.get("n")), "more": more}


def _span(entry: dict[str, Any], of: str) -> tuple[float | None, float | None]:
    low, high = _number(entry.get(f"{of}low")), _number(entry.get(f"{of}high"))
    return (low, high) if low is not None and high is not None and low <= high else (None, None)


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _left_out(verdicts: Verdicts) -> Entry | None:
    """Each annotator against the majority of the others: people among people, the rest among themselves.

    (Two poor judges would outvote the only person.)
    """
    said = verdicts.by_annotator.filter(pl.col("source") != "consensus")
    pairs = numbered(said).unique(["pair", "annotator"], keep="first", maintain_order=True)
    votes = pl.col("verdict").cast(pl.Int64)
    rest = votes.sum().over("pair", pl.col("source") == "human") - votes
    met = pairs.select("pair", "annotator", "source", "verdict", rest=rest.sign()).filter(
        (pl.col("verdict") != 0) & (pl.col("rest") != 0)
    )
    if met.is_empty():
        return None
    counts = (
        met.group_by("annotator", "source")
        .agg(n=pl.len(), right=(pl.col("verdict").cast(pl.Int64) == pl.col("rest")).sum())
        .sort(["n", "annotator", "source"], descending=[True, False, False])
    )
    by = [
        {"name": name, "source": source, **share(right, n)}
        for name, source, n, right in counts.head(MOST_ABILITIES).iter_rows()
    ]
    enough = counts.filter(pl.col("n") >= THRESHOLDS.least)
    shares = (enough["right"] / enough["n"]).to_numpy()
    return {
        "annotators": counts["annotator"].n_unique(),
        "with_enough": enough.height,
        "pairs": met["pair"].n_unique(),
        "by": sorted(by, key=lambda one: (-one["share"], -one["n"], str(one["name"]))),
        "quantiles": quantiles(shares),
        "histogram": histogram(shares, (0.0, 1.0)) if enough.height else None,
    }
