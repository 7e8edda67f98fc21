"""The cells of the floor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import floor
import numpy as np
from worker_data import against_truth, load, recall_of, texts

Run = Callable[[], dict[str, Any]]


def bradley_terry() -> Run:
    """The maximum, and the sandwich."""
    data = load("dense")

    def run() -> dict[str, Any]:
        theta, errors = floor.bradley_terry(data["winners"], data["losers"], 100)
        return {"strengths": theta.tolist(), "first_error": float(errors[0])}

    return run


def bootstrap() -> Run:
    """1,000 resamples."""
    data = load("dense")

    def run() -> dict[str, Any]:
        drawn = floor.bootstrap(data["winners"], data["losers"], 100, 1000)
        return {"first_error": float(drawn[:, 0].std())}

    return run


def sparse_bradley_terry() -> Run:
    """20,000 items, ridge 0.1."""
    data = load("sparse")
    n = len(data["truth"])

    def run() -> dict[str, Any]:
        return against_truth(floor.sparse_bradley_terry(data["winners"], data["losers"], n, 0.1), data["truth"])

    return run


def dawid_skene() -> Run:
    """Compiled EM."""
    data, fit = load("labels"), floor.compiled_dawid_skene(5)

    def run() -> dict[str, Any]:
        found, steps = fit(
            data["items"],
            data["annotators"],
            data["labels"],
            int(data["items"].max()) + 1,
            int(data["annotators"].max()) + 1,
        )
        return {"right": float((found.argmax(axis=1) == data["truth"]).mean()), "steps": steps}

    return run


def annotator_bradley_terry() -> Run:
    """EM to the mode."""
    data = load("votes")

    def run() -> dict[str, Any]:
        theta, eta = floor.crowd_bradley_terry(
            data["winners"], data["losers"], data["annotators"], len(data["truth"]), len(data["right"])
        )
        return {**against_truth(theta, data["truth"]), "annotators": float(np.corrcoef(eta, data["right"])[0, 1])}

    return run


def alpha() -> Run:
    """Nominal and ordinal, one after the other."""
    data = load("ratings")

    def run() -> dict[str, Any]:
        return {
            name: floor.alpha(data["units"], data["values"], 5, name == "ordinal") for name in ("nominal", "ordinal")
        }

    return run


def near_duplicates() -> Run:
    """Word 3-grams, 0.7."""
    given = texts()

    def run() -> dict[str, Any]:
        return recall_of(floor.near_duplicates(given, 0.7).rows())

    return run
