"""Krippendorff's alpha of all annotators together: on pairs of responses, on scores, on labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from prefdata.operators.evidence import VALID, coded, selected
from prefdata.report.numbers import Entry
from prefdata.report.verdicts import Verdicts, numbered
from prefdata.stats import Level, krippendorff_alpha

CONSENSUS = "consensus"

RESAMPLES = 1000
"""Draws for an interval, and FEWEST of them where there are more than MANY values to draw from."""

FEWEST, MANY = 200, 100_000

_OWN_SCALE = ("human", "judge", "imported")
"""Sources whose annotators may be supposed to share a scale that no criterion states. Reward models do not."""

_GIVEN = ["aspect", "scale", "apart", "source", "annotator", "group_id", "unit", "value"]


def independent(view: Mapping[str, pl.LazyFrame]) -> dict[str, pl.LazyFrame] | None:
    """A view without adjudications: who decides a dispute has read what the others said, and agrees with some of them.

    Args:
        view: its live tables.

    Returns:
        None where there are no adjudications.
    """
    marked = (pl.col("source") == "human") & pl.col("meta").str.contains('"adjudication"', literal=True)
    found = view["annotations"].filter(marked).select("annotation_id", "meta").collect()
    ids = [name for name, meta in found.iter_rows() if meta_of(meta).get("adjudication") is True]
    if not ids:
        return None
    return {**view, "annotations": view["annotations"].filter(~pl.col("annotation_id").is_in(ids))}


def meta_of(text: str | None) -> dict[str, object]:
    """What a row's `meta` says; nothing where it is no JSON object."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def alpha(verdicts: Verdicts, criteria: pl.DataFrame | None = None) -> list[Entry]:
    """Krippendorff's alpha of the annotators under each aspect, with its bootstrap interval over prompts.

    `of` says on what: `pairs` (nominal: first, tie, second), `scores` (the scores themselves of single responses, once
    as ordinal and once as interval values) or `labels` (nominal). Over all annotators but consensus, which rests on
    the others, and over those of each source that has several. Scores of different scales are never taken together.

    Args:
        verdicts: see `verdicts_of`; without adjudications, see `independent`.
        criteria: rows of `criteria`, which state scales.

    Returns:
        {aspect, over, of, level, scale, alpha, low, high, percent, annotators, and under `pairs` or `responses` how
        many were judged by two or more}. percent is the mean over these of the share of two annotators' equal values.
    """
    pairs = numbered(verdicts.by_annotator.filter(pl.col("source") != CONSENSUS))
    pairs = pairs.unique(["pair", "annotator"], keep="first", maintain_order=True)
    stated = pairs.select(
        "aspect",
        "source",
        "annotator",
        "group_id",
        scale=pl.lit(None, pl.String),
        apart=pl.lit(None, pl.String),
        unit=pl.col("pair").cast(pl.Int64),
        value=pl.col("verdict").cast(pl.Int64),
    )
    made = [_entry(*part, of="pairs", level="nominal") for part in _parts(stated.select(_GIVEN))]
    for part in _parts(scores(verdicts, criteria)):
        made += [_entry(*part, of="scores", level=level) for level in ("ordinal", "interval")]
    labelled = [part for part in _parts(_labels(verdicts)) if part[-1]["value"].n_unique() > 1]
    made += [_entry(*part, of="labels", level="nominal") for part in labelled]
    return [entry for entry in made if entry["of"] == "pairs" or entry["responses"]]


def scores(verdicts: Verdicts, criteria: pl.DataFrame | None) -> pl.DataFrame:
    """What each annotator gave to each response on a scale, one value each: the mean where it was asked repeatedly.

    Args:
        verdicts: see `verdicts_of`.
        criteria: rows of `criteria`.

    Returns:
        aspect, scale (`1 to 5`; null where none is stated), apart (the source, where there is no scale), prompt_id,
        response_id, group_id, annotator, source, value, unit (the number of prompt and response under this aspect and
        scale); sorted by unit and annotator.
    """
    rows = selected(verdicts.annotations).filter(VALID & (pl.col("protocol") == "score"))
    finite = pl.col("scores").list.eval(pl.element().is_finite().fill_null(False)).list.all()
    rows = rows.filter((pl.col("source") != CONSENSUS) & finite)
    rows = rows.join(_scales(criteria), on="criterion_id", how="left", maintain_order="left")
    rows = rows.filter(pl.col("scale").is_not_null() | pl.col("source").is_in(_OWN_SCALE))
    # Of annotators without a stated scale only those of one source are taken together.
    rows = rows.with_columns(apart=pl.when(pl.col("scale").is_null()).then("source"))
    each = rows.explode("target_ids", "scores").rename({"target_ids": "response_id"})
    unit = ["aspect", "scale", "apart", "prompt_id", "response_id"]
    # Rounded, because means of equal scores in another order may differ in the last digit.
    given = each.sort("annotation_id").group_by(*unit, "annotator", maintain_order=True)
    found = given.agg(pl.col("group_id", "source").first(), value=pl.col("scores").mean().round(9))
    return coded(found, unit, "unit").sort("unit", "annotator")


def _scales(criteria: pl.DataFrame | None) -> pl.DataFrame:
    """criterion_id and its scale in words."""
    if criteria is None:
        return pl.DataFrame(schema={"criterion_id": pl.String, "scale": pl.String})
    known = criteria.filter(pl.col("scale").is_not_null()).unique("criterion_id", keep="first", maintain_order=True)
    ends = known.select("criterion_id", pl.col("scale").struct.field("min", "max")).drop_nulls()
    words = [f"{low:g} to {high:g}" for low, high in ends.select("min", "max").iter_rows()]
    return ends.select("criterion_id", scale=pl.Series(words, dtype=pl.String))


def _labels(verdicts: Verdicts) -> pl.DataFrame:
    """What each annotator called each response (or list of them), with the part that it is about; one of several."""
    rows = verdicts.annotations.filter(
        (pl.col("protocol") == "label")
        & (pl.col("status") == "ok")
        & (pl.col("source") != CONSENSUS)
        & (pl.col("target") == "response")
        & pl.col("labels").is_not_null()
    )
    part = pl.col("parts").list.eval(pl.element().cast(pl.String)).list.join(",")
    said = rows.select(
        *("annotation_id", "aspect", "source", "annotator", "group_id", "prompt_id"),
        scale=pl.lit(None, pl.String),
        apart=pl.lit(None, pl.String),
        targets=pl.col("target_ids").list.sort().list.join(" "),
        value=pl.col("labels").list.sort().list.join("\n") + "\n" + part.fill_null(""),
    )
    one = ["aspect", "prompt_id", "targets", "annotator"]
    said = said.sort("annotation_id").unique(one, keep="last", maintain_order=True)
    numbers = coded(said, ["aspect", "prompt_id", "targets"], "unit")
    return numbers.with_columns(apart=pl.lit(None, pl.String)).select(_GIVEN)


def _parts(rows: pl.DataFrame) -> Iterator[tuple[str, str | None, str, pl.DataFrame]]:
    """aspect, scale, over whom, and the rows of two or more annotators."""
    for (aspect, scale, apart), those in _sorted(rows, ["aspect", "scale", "apart"]):
        sources = _sorted(those, ["source"])
        named = [("all" if apart is None else str(apart), those)]
        if len(sources) > 1:
            named += [(str(source), part) for (source,), part in sources]
        for over, part in named:
            if part["annotator"].n_unique() > 1:
                yield str(aspect), scale, over, part


def _sorted(rows: pl.DataFrame, by: list[str]) -> list[tuple[tuple[Any, ...], pl.DataFrame]]:
    parts = rows.partition_by(by, as_dict=True, maintain_order=True)
    return sorted(parts.items(), key=lambda entry: tuple(str(value or "") for value in entry[0]))


def _entry(aspect: str, scale: str | None, over: str, rows: pl.DataFrame, *, of: str, level: Level) -> Entry:
    values = rows["value"].to_list() if rows["value"].dtype == pl.String else rows["value"].to_numpy()
    raters = (rows["annotator"].rank("dense") - 1).cast(pl.Int64).to_numpy()
    prompts = (rows["group_id"].rank("dense") - 1).cast(pl.Int64).to_numpy()
    units = rows["unit"].to_numpy()
    found = krippendorff_alpha(
        units, raters, values, level, clusters=prompts, resamples=RESAMPLES if len(units) <= MANY else FEWEST
    )
    return {
        "aspect": aspect,
        "over": over,
        "of": of,
        "level": level,
        "scale": scale,
        "alpha": found.value,
        "low": found.low,
        "high": found.high,
        "percent": found.percent,
        "annotators": len(np.unique(raters)),
        "pairs" if of == "pairs" else "responses": found.n,
    }
