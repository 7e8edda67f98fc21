"""Each annotator by itself: how much it said, how its scores lie, and its habits of position and length."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
import polars as pl

from prefdata.report.numbers import Entry, histogram, most_frequent, quantiles, share
from prefdata.report.verdicts import KEY, TIE, Verdicts
from prefdata.stats import spearman

MOST_ANNOTATORS = 50
"""So many entries, the most active annotators first; the rest is summed up."""

POOLED = ["source", "protocol", "aspect"]

_Rows = dict[tuple[Any, ...], dict[str, Any]]


def most_active(annotations: pl.DataFrame) -> pl.DataFrame:
    """The keys (KEY, n) of the annotators with the most annotations, at most MOST_ANNOTATORS entries."""
    counts = annotations.group_by(KEY).agg(n=pl.len())
    return counts.sort(["n", *KEY], descending=[True, *(False for _ in KEY)], nulls_last=True).head(MOST_ANNOTATORS)


def the_rest(annotations: pl.DataFrame, kept: pl.DataFrame) -> Entry | None:
    """How many annotators and annotations have no entry of their own; None where all have one."""
    left = annotations.join(kept, on=KEY, how="anti", nulls_equal=True)
    if left.is_empty():
        return None
    ok = int((left["status"] == "ok").sum())
    return {"annotators": left["annotator"].n_unique(), "annotations": left.height, "ok": ok}


def entries(verdicts: Verdicts, kept: pl.DataFrame) -> list[Entry]:
    """One entry for each annotator, protocol and aspect of `kept`, in its order."""
    return [{"name": entry.pop("annotator"), **entry} for entry in _entries(verdicts, kept.select(KEY), KEY)]


def pooled(verdicts: Verdicts) -> list[Entry]:
    """The same for all annotators of one source together, where there are several."""
    counts = verdicts.annotations.group_by(POOLED).agg(annotators=pl.col("annotator").n_unique())
    several = counts.filter(pl.col("annotators") > 1).sort(POOLED, nulls_last=True)
    made = _entries(verdicts, several.select(POOLED), POOLED)
    return [{**entry, "annotators": n} for entry, n in zip(made, several["annotators"], strict=True)]


def _entries(verdicts: Verdicts, keys: pl.DataFrame, by: Sequence[str]) -> list[Entry]:
    def those(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.join(keys, on=list(by), how="semi", nulls_equal=True, maintain_order="left")

    annotations, shown, stated = those(verdicts.annotations), those(verdicts.shown), those(verdicts.stated)
    pairs = those(verdicts.by_protocol)
    scored = _parts(those(verdicts.scored), by)
    targets = _rows(annotations.group_by(by).agg(targets=pl.col("target").unique().sort()), by)
    statuses = _parts(annotations.group_by([*by, "status"]).agg(n=pl.len()), by)
    seconds = _parts(annotations.filter(pl.col("seconds").is_not_null()).select(*by, "seconds"), by)
    first, orders = first_shown(shown, by), two_orders(shown, by)
    judged = _parts(shown, by)
    ties = _rows(stated.group_by(by).agg(n=pl.len(), ties=((pl.col("p") - 0.5).abs() < TIE).sum()), by)
    compared = _parts(pairs, by)
    made = []
    for key in keys.iter_rows():
        name = dict(zip(by, key, strict=True))
        counts = {row["status"]: row["n"] for row in statuses[key].sort("status").to_dicts()}
        n = sum(counts.values())
        tied = ties.get(key, {"n": 0, "ties": 0})
        made.append(
            {
                **name,
                "targets": targets[key]["targets"],
                "n": n,
                "statuses": {status: {"n": count, "share": count / n} for status, count in counts.items()},
                "distribution": _distribution(name["protocol"], scored.get(key), judged.get(key)),
                "position": {"first_shown": first.get(key, NO_FIRST), "orders": orders.get(key, NO_ORDERS)},
                "length": _length(compared.get(key), scored.get(key)),
                "ties": share(tied["ties"], tied["n"]),
                "seconds": _time(seconds.get(key)),
            }
        )
    return made


def _rows(frame: pl.DataFrame, by: Sequence[str]) -> _Rows:
    return {tuple(row[name] for name in by): row for row in frame.to_dicts()}


def _parts(frame: pl.DataFrame, by: Sequence[str]) -> dict[tuple[Any, ...], pl.DataFrame]:
    return frame.partition_by(list(by), as_dict=True, maintain_order=True)


def _distribution(protocol: str, scored: pl.DataFrame | None, judged: pl.DataFrame | None) -> Entry | None:
    """How the scores lie; of comparisons, the probability that the response shown first wins."""
    if protocol == "compare":
        of, values, within = "probability of the first shown", None if judged is None else judged["p"], (0.0, 1.0)
    else:
        of, values, within = "score", None if scored is None else scored["score"], None
    if values is None:
        return None
    return {
        "of": of,
        "histogram": histogram(values, within),
        "quantiles": quantiles(values),
        "most_frequent": most_frequent(values),
        "n": len(values),
    }


NO_FIRST: Entry = {**share(0, 0), "ties": 0}
NO_ORDERS: Entry = {**share(0, 0), "pairs": 0, "ties": 0, "first_both": 0, "second_both": 0, "mcnemar_z": None}


def first_shown(shown: pl.DataFrame, by: Sequence[str]) -> dict[tuple[Any, ...], Entry]:
    """Share of decided comparisons that the response shown first wins."""
    counts = shown.group_by(by).agg(
        wins=(pl.col("p") > 0.5 + TIE).sum(),
        losses=(pl.col("p") < 0.5 - TIE).sum(),
        ties=((pl.col("p") - 0.5).abs() <= TIE).sum(),
    )
    return {
        key: {**share(row["wins"], row["wins"] + row["losses"]), "ties": row["ties"]}
        for key, row in _rows(counts, by).items()
    }


def two_orders(shown: pl.DataFrame, by: Sequence[str]) -> dict[tuple[Any, ...], Entry]:
    """Of the pairs that one annotator was shown in both orders, in how many both have one winner.

    The share is of the pairs that it decided in both orders; ties are counted apart. McNemar's
    z = (a - b)/sqrt(a + b) compares how often the first shown wins both times (a) with the second (b).
    """
    one = list(dict.fromkeys([*by, "annotator", "prompt_id", "first", "second", "replicate"]))
    straight = pl.col("p").filter(~pl.col("turned")).mean()
    turned = (1 - pl.col("p")).filter(pl.col("turned")).mean()
    both = shown.group_by(one).agg(straight=straight, turned=turned).drop_nulls(["straight", "turned"])
    a, b = pl.col("straight") - 0.5, pl.col("turned") - 0.5
    decided = (a.abs() > TIE) & (b.abs() > TIE)
    counts = both.group_by(by).agg(
        pairs=pl.len(),
        decided=decided.sum(),
        same=(decided & (a.sign() == b.sign())).sum(),
        first_both=(decided & (a > 0) & (b < 0)).sum(),
        second_both=(decided & (a < 0) & (b > 0)).sum(),
    )
    found = {}
    for key, row in _rows(counts, by).items():
        first, second = row["first_both"], row["second_both"]
        found[key] = {
            **share(row["same"], row["decided"]),
            "pairs": row["pairs"],
            "ties": row["pairs"] - row["decided"],
            "first_both": first,
            "second_both": second,
            "mcnemar_z": (first - second) / sqrt(first + second) if first + second else None,
        }
    return found


def _length(pairs: pl.DataFrame | None, scored: pl.DataFrame | None) -> Entry:
    """Share of decided pairs in which the longer one is preferred, and the rank correlation with length.

    A pair judged in both orders counts once, by its mean probability. Spearman's rho is of scores and lengths where
    responses were scored; else of margins and differences of length, each pair counted both ways round.
    """
    empty: Entry = {**share(0, 0), "spearman": None, "spearman_of": None}
    if pairs is None and scored is None:
        return empty
    found = empty
    if pairs is not None:
        decided = pairs.filter((pl.col("margin").abs() > TIE) & (pl.col("gap") != 0))
        longer = int((decided["margin"].sign() == decided["gap"].sign()).sum())
        found = {**found, **share(longer, decided.height)}
    if scored is not None:
        known = scored.drop_nulls("length")
        return {**found, "spearman": spearman(known["score"], known["length"]).value, "spearman_of": "score"}
    assert pairs is not None
    known = pairs.drop_nulls("gap")
    margin, gap = known["margin"].to_numpy(), known["gap"].to_numpy()
    rho = spearman(np.concatenate([margin, -margin]), np.concatenate([gap, -gap])).value
    return {**found, "spearman": rho, "spearman_of": "margin"}


def _time(rows: pl.DataFrame | None) -> Entry | None:
    if rows is None:
        return None
    taken = rows["seconds"]
    found = np.quantile(taken.to_numpy(), [0.5, 0.9])
    return {"n": len(taken), "median": float(found[0]), "q90": float(found[1]), "total": float(taken.sum())}
