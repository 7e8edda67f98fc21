"""How much a scale tells: how many of its points are used, and how often two responses of a prompt get the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from prefdata.report.annotators import MOST_ANNOTATORS
from prefdata.report.numbers import Entry, most_frequent, share
from prefdata.report.verdicts import KEY, TIE, Verdicts


def scores(verdicts: Verdicts) -> list[Entry] | None:
    """Of each annotator that scores responses one by one: where its scores lie, and whether they tell them apart.

    Returns:
        {name, source, protocol, aspect, n, mean, sd, low, high (the smallest and the largest), distinct, top (value, n,
        share), entropy (of the values that occur, over the log of their number, in [0, 1]; None with one value), ties
        (share of the pairs of one prompt with equal scores)}, the most scores first; None where nobody scores.
    """
    scored = verdicts.scored
    if scored.is_empty():
        return None
    keys = scored.group_by(KEY).agg(n=pl.len()).sort(["n", *KEY], descending=[True, *(False for _ in KEY)])
    keys = keys.head(MOST_ANNOTATORS)
    parts = scored.join(keys, on=KEY, how="semi", nulls_equal=True).partition_by(KEY, as_dict=True)
    pairs = verdicts.stated.filter(pl.col("protocol").is_in(["score", "measure"]))
    tied = pairs.group_by(KEY).agg(pairs=pl.len(), ties=((pl.col("p") - 0.5).abs() < TIE).sum())
    of_pairs: dict[tuple[Any, ...], tuple[int, int]] = {row[:4]: row[4:] for row in tied.iter_rows()}
    return [_entry(key[:4], parts[key[:4]]["score"].to_numpy(), of_pairs) for key in keys.iter_rows()]


def _entry(key: tuple[Any, ...], values: Any, of_pairs: dict[tuple[Any, ...], tuple[int, int]]) -> Entry:
    known, counts = np.unique(values, return_counts=True)
    top = most_frequent(values)
    assert top is not None
    p = counts / counts.sum()
    pairs, ties = of_pairs.get(key, (0, 0))
    name, source, protocol, aspect = key
    return {
        "name": name,
        "source": source,
        "protocol": protocol,
        "aspect": aspect,
        "n": len(values),
        "mean": float(np.mean(values)),
        "sd": float(np.std(values)),
        "low": float(known[0]),
        "high": float(known[-1]),
        "distinct": len(known),
        "top": {**top, "share": top["n"] / len(values)},
        "entropy": float(-(p * np.log(p)).sum() / np.log(len(p))) if len(p) > 1 else None,
        "ties": share(ties, pairs),
    }
