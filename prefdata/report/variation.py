"""How far people differ on one question: that may be noise, and it may be taste.

Entropy of the verdicts on a pair, with Miller and Madow's correction (1955), and how often two random annotators say
the same, without bias (curation reference: preference variation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from prefdata.report.numbers import Entry, histogram, quantiles, share
from prefdata.report.verdicts import Verdicts, numbered

OPTIONS = 3
"""The first, a tie, the second."""

FEWEST = 3
"""Of fewer annotators a pair's distribution says next to nothing."""


def variation_of(counts: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Entropy and agreement of choices among options.

    Args:
        counts: [n, k] how many chose each option; of each row at least one.

    Returns:
        entropy [n] in nats, normalised [n] (by log k), corrected [n] (Miller-Madow: plus (options chosen - 1)/(2 n)),
        agreement [n]: the chance that two of them, drawn without repetition, chose the same; NaN where there is one.
    """
    table = np.asarray(counts, dtype=np.float64)
    total = table.sum(axis=1)
    p = table / total[:, None]
    entropy = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(axis=1)
    entropy = np.abs(entropy)  # no minus zero
    with np.errstate(invalid="ignore", divide="ignore"):
        agreement = (table * (table - 1)).sum(axis=1) / (total * (total - 1))
    k = table.shape[1]
    return {
        "entropy": entropy,
        "normalised": entropy / np.log(k) if k > 1 else np.zeros_like(entropy),
        "corrected": entropy + ((table > 0).sum(axis=1) - 1) / (2 * total),
        "agreement": agreement,
    }


def variation(verdicts: Verdicts) -> list[Entry] | None:
    """Of each aspect and source with several annotators on a pair: how their verdicts on one pair vary.

    Returns:
        {aspect, source, pairs, annotators (mean on a pair), unanimous (a share of the pairs), split (the two sides have
        equally many votes), normalised (quantiles of the entropy over log 3), corrected (mean, in nats), agreement
        (mean over pairs), histogram (of the winning side's share of the votes)}; None where no pair has FEWEST.
    """
    said = verdicts.by_annotator.filter(pl.col("source") != "consensus")
    pairs = numbered(said).unique(["pair", "annotator"], keep="first", maintain_order=True)
    verdict = pl.col("verdict")
    counts = (
        pairs.group_by("aspect", "source", "pair")
        .agg(up=(verdict > 0).sum(), even=(verdict == 0).sum(), down=(verdict < 0).sum())
        .with_columns(n=pl.sum_horizontal("up", "even", "down"))
        .filter(pl.col("n") >= FEWEST)
        .sort("aspect", "source", "pair")
    )
    parts = counts.partition_by("aspect", "source", as_dict=True, maintain_order=True)
    made = [_entry(str(aspect), str(source), rows) for (aspect, source), rows in parts.items()]
    return made or None


def _entry(aspect: str, source: str, rows: pl.DataFrame) -> Entry:
    table = rows.select("up", "even", "down").to_numpy().astype(np.float64)
    found: dict[str, Any] = variation_of(table)
    top = table.max(axis=1) / table.sum(axis=1)
    return {
        "aspect": aspect,
        "source": source,
        "pairs": rows.height,
        "annotators": float(rows["n"].to_numpy().mean()),
        "unanimous": share(int((top == 1).sum()), rows.height),
        "split": share(int((table[:, 0] == table[:, 2]).sum()), rows.height),
        "normalised": quantiles(found["normalised"]),
        "corrected": float(found["corrected"].mean()),
        "agreement": float(found["agreement"].mean()),
        "histogram": histogram(top, (0.0, 1.0)),
    }
