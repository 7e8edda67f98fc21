"""What every cell reads, and how its answer is held against the truth."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(sys.argv[2])


def load(case: str) -> dict[str, Any]:
    """The arrays of a case."""
    with np.load(FOLDER / f"{case}.npz") as found:
        return {name: found[name] for name in found.files}


def texts() -> list[str]:
    """One to a line."""
    return (FOLDER / "texts.txt").read_text().split("\n")


def against_truth(strengths: Any, truth: Any) -> dict[str, Any]:
    """Spearman's correlation with what the data were drawn from."""
    ranks = [np.argsort(np.argsort(values)) for values in (strengths, truth)]
    return {"truth": float(np.corrcoef(*ranks)[0, 1])}


def recall_of(found: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """Pairs held against all pairs whose word 3-grams are alike by 0.7 and more, which `data.py` found by sets."""
    pairs = {(min(a, b), max(a, b)) for a, b in found}
    right = {(int(a), int(b)) for a, b in np.load(FOLDER / "near.npy")}
    return {
        "pairs": len(pairs),
        "recall": len(pairs & right) / max(len(right), 1),
        "precision": len(pairs & right) / max(len(pairs), 1),
    }
