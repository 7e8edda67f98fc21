"""Our cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from worker_data import against_truth, load

from prefdata import stats

Run = Callable[[], dict[str, Any]]


def bradley_terry() -> Run:
    """With the sandwich and intervals."""
    data = load("dense")

    def run() -> dict[str, Any]:
        fit = stats.bradley_terry(data["winners"], data["losers"], n=100, robust=True)
        return {"strengths": fit.values.tolist(), "first_error": float(np.sqrt(fit.covariance[0, 0]))}

    return run


def sparse_bradley_terry() -> Run:
    """With the prior of one virtual comparison."""
    data = load("sparse")

    def run() -> dict[str, Any]:
        fit = stats.bradley_terry(data["winners"], data["losers"], n=len(data["truth"]), prior=1.0)
        return against_truth(fit.values, data["truth"])

    return run


def _labels(fit: Callable[[Any, Any, Any], Any]) -> Run:
    data = load("labels")

    def run() -> dict[str, Any]:
        found = fit(data["items"], data["annotators"], data["labels"])
        return {"right": float((found.labels == data["truth"]).mean()), "steps": int(getattr(found, "iterations", 0))}

    return run


def dawid_skene() -> Run:
    """With the intervals of abilities and posteriors."""
    return _labels(stats.dawid_skene)


def one_coin() -> Run:
    """Likewise."""
    return _labels(stats.one_coin)


def mace() -> Run:
    """One start."""
    return _labels(lambda items, annotators, labels: stats.mace(items, annotators, labels, restarts=1))


def majority() -> Run:
    """With Wilson's intervals."""
    return _labels(stats.majority_vote)


def annotator_bradley_terry() -> Run:
    """P(right) of each annotator, with intervals."""
    data = load("votes")

    def run() -> dict[str, Any]:
        fit = stats.annotator_bradley_terry(
            data["winners"], data["losers"], data["annotators"], n=len(data["truth"]), model="crowd"
        )
        rho = float(np.corrcoef(fit.abilities, data["right"])[0, 1])
        return {**against_truth(fit.values, data["truth"]), "annotators": rho}

    return run


def plain_bradley_terry() -> Run:
    """Blind to who voted."""
    data = load("votes")

    def run() -> dict[str, Any]:
        fit = stats.bradley_terry(data["winners"], data["losers"], n=len(data["truth"]), prior=1.0)
        return against_truth(fit.values, data["truth"])

    return run


def alpha() -> Run:
    """Both levels."""
    data = load("ratings")

    def run() -> dict[str, Any]:
        columns = (data["units"], data["raters"], data["values"])
        return {
            name: stats.krippendorff_alpha(*columns, name, resamples=0).value  # type: ignore[arg-type]
            for name in ("nominal", "ordinal")
        }

    return run


def alpha_interval() -> Run:
    """1,000 resamples of units."""
    data = load("ratings")

    def run() -> dict[str, Any]:
        return {"nominal": stats.krippendorff_alpha(data["units"], data["raters"], data["values"]).value}

    return run
