"""Our cells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from worker_data import against_truth, load, recall_of, texts

from prefdata import similarity, stats

Run = Callable[[], dict[str, Any]]


def bradley_terry() -> Run:
    """With the sandwich and intervals."""
    data = load("dense")

    def run() -> dict[str, Any]:
        fit = stats.bradley_terry(data["winners"], data["losers"], n=100, robust=True)
        return {"strengths": fit.values.tolist(), "first_error": float(np.sqrt(fit.covariance[0, 0]))}

    return run


def bootstrap() -> Run:
    """1,000 resamples, as the floor draws them."""
    data = load("dense")

    def run() -> dict[str, Any]:
        found = stats.bradley_terry_bootstrap(data["winners"], data["losers"], n=100, resamples=1000)
        return {"first_error": float(found.draws[:, 0].std())}

    return run


def _sparse(**options: Any) -> Run:
    data = load("sparse")

    def run() -> dict[str, Any]:
        fit = stats.bradley_terry(data["winners"], data["losers"], n=len(data["truth"]), ridge=0.1, **options)
        return {**against_truth(fit.values, data["truth"]), "steps": fit.steps}

    return run


def sparse_bradley_terry() -> Run:
    """The fit alone, as the floor's and the peers'."""
    return _sparse(intervals=False)


def sparse_intervals() -> Run:
    """With its standard errors."""
    return _sparse()


def sparse_robust() -> Run:
    """With those of the sandwich."""
    return _sparse(robust=True)


def _labels(fit: Callable[[Any, Any, Any], Any]) -> Run:
    data = load("labels")

    def run() -> dict[str, Any]:
        found = fit(data["items"], data["annotators"], data["labels"])
        return {"right": float((found.labels == data["truth"]).mean()), "steps": int(getattr(found, "iterations", 0))}

    return run


def dawid_skene() -> Run:
    """With the intervals of abilities and posteriors."""
    return _labels(stats.dawid_skene)


def dawid_skene_alone() -> Run:
    """Without those of the posteriors; an ability has one all the same."""
    return _labels(partial(stats.dawid_skene, intervals=False))


def one_coin() -> Run:
    """With intervals."""
    return _labels(stats.one_coin)


def mace() -> Run:
    """One start."""
    return _labels(partial(stats.mace, restarts=1))


def majority() -> Run:
    """With Wilson's intervals."""
    return _labels(stats.majority_vote)


def _votes(**options: Any) -> Run:
    data = load("votes")

    def run() -> dict[str, Any]:
        fit = stats.annotator_bradley_terry(
            data["winners"], data["losers"], data["annotators"], n=len(data["truth"]), model="crowd", **options
        )
        rho = float(np.corrcoef(fit.abilities, data["right"])[0, 1])
        return {**against_truth(fit.values, data["truth"]), "annotators": rho}

    return run


def annotator_bradley_terry() -> Run:
    """The mode of all at once, as the floor's."""
    return _votes(intervals=False)


def annotator_intervals() -> Run:
    """The annotators integrated out, with intervals."""
    return _votes()


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


def _near(join: Literal["exact", "minhash"]) -> Run:
    given = texts()

    def run() -> dict[str, Any]:
        # "raw" parts at white space, as the floor and the peers do.
        near = similarity.near_duplicates(similarity.shingle_sets(given, 3, form="raw"), 0.7, join=join)
        left, right, _ = near.pairs()
        return recall_of(zip(left.tolist(), right.tolist(), strict=True))

    return run


def near_duplicates() -> Run:
    """Every pair."""
    return _near("exact")


def minhash() -> Run:
    """25 bands of 5 rows, candidates measured."""
    return _near("minhash")
