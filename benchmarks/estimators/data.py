"""The data of the statistics benchmark, made from seeds: the shapes of the tables that it repeats.

    python benchmarks/estimators/data.py FOLDER

writes `CASE.npz` for each case (and `texts.txt`): arrays of int32 and int8, and the truth that they were drawn from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np


def dense(scale: float) -> dict[str, np.ndarray]:
    """Comparisons of 100 models, popularity falling as rank^-0.7, no ties."""
    draw = np.random.default_rng(1)
    n, items = int(1_000_000 * scale), 100
    strength = draw.normal(size=items)
    popular = np.arange(1, items + 1) ** -0.7
    first = draw.choice(items, size=n, p=popular / popular.sum())
    second = draw.choice(items, size=n, p=popular / popular.sum())
    apart = first != second
    first, second = first[apart], second[apart]
    won = draw.random(len(first)) < 1 / (1 + np.exp(strength[second] - strength[first]))
    return {
        "winners": np.where(won, first, second).astype(np.int32),
        "losers": np.where(won, second, first).astype(np.int32),
        "truth": strength,
    }


def sparse(scale: float) -> dict[str, np.ndarray]:
    """Ten times as many comparisons as items, each item in 20: no maximum of the likelihood exists."""
    draw = np.random.default_rng(2)
    items = int(20_000 * scale)
    strength = draw.normal(size=items)
    order = np.concatenate([draw.permutation(items) for _ in range(20)])
    first, second = order[: 10 * items], order[10 * items :]
    apart = first != second
    first, second = first[apart], second[apart]
    won = draw.random(len(first)) < 1 / (1 + np.exp(strength[second] - strength[first]))
    return {
        "winners": np.where(won, first, second).astype(np.int32),
        "losers": np.where(won, second, first).astype(np.int32),
        "truth": strength,
    }


def labels(scale: float) -> dict[str, np.ndarray]:
    """Five of 1,000 annotators, each with his own confusions, put each of 200,000 items into one of five classes."""
    draw = np.random.default_rng(3)
    items, annotators, classes = int(200_000 * scale), 1000, 5
    truth = draw.choice(classes, size=items, p=[0.3, 0.25, 0.2, 0.15, 0.1])
    able = draw.beta(4, 2, size=annotators)
    wrong = draw.dirichlet(np.full(classes, 0.5), size=(annotators, classes))
    wrong[:, np.arange(classes), np.arange(classes)] = 0
    wrong /= wrong.sum(axis=2, keepdims=True)
    confusion = (1 - able)[:, None, None] * wrong
    confusion[:, np.arange(classes), np.arange(classes)] += able[:, None]
    item = np.repeat(np.arange(items), 5)
    annotator = np.concatenate([draw.choice(annotators, 5, replace=False) for _ in range(items)])
    given = (confusion[annotator, truth[item]].cumsum(axis=1) < draw.random(len(item))[:, None]).sum(axis=1)
    return {
        "items": item.astype(np.int32),
        "annotators": annotator.astype(np.int32),
        "labels": np.minimum(given, classes - 1).astype(np.int8),
        "truth": truth.astype(np.int8),
    }


def votes(scale: float) -> dict[str, np.ndarray]:
    """500,000 comparisons of 2,000 items by 1,000 annotators, a tenth of them adversaries."""
    draw = np.random.default_rng(4)
    n, items, annotators = int(500_000 * scale), int(2000 * max(scale, 0.1)), 1000
    strength = draw.normal(size=items)
    right = np.where(draw.random(annotators) < 0.1, draw.uniform(0.05, 0.3, annotators), draw.beta(10, 2, annotators))
    first, second = draw.integers(0, items, n), draw.integers(0, items, n)
    apart = first != second
    first, second = first[apart], second[apart]
    who = draw.integers(0, annotators, len(first))
    p = 1 / (1 + np.exp(strength[second] - strength[first]))
    p = right[who] * p + (1 - right[who]) * (1 - p)
    won = draw.random(len(first)) < p
    return {
        "winners": np.where(won, first, second).astype(np.int32),
        "losers": np.where(won, second, first).astype(np.int32),
        "annotators": who.astype(np.int32),
        "truth": strength,
        "right": right,
    }


def ratings(scale: float) -> dict[str, np.ndarray]:
    """Five of 1,000 raters give each of 200,000 units one of five ordered values."""
    draw = np.random.default_rng(5)
    units = int(200_000 * scale)
    true = draw.normal(size=units)
    unit = np.repeat(np.arange(units), 5)
    rater = np.tile(np.arange(5), units) * 200 + draw.integers(0, 200, len(unit))
    value = np.clip(np.round(2 + 1.2 * true[unit] + 0.6 * draw.normal(size=len(unit))), 0, 4)
    return {"units": unit.astype(np.int32), "raters": rater.astype(np.int32), "values": value.astype(np.int8)}


def texts(scale: float) -> tuple[list[str], np.ndarray]:
    """Texts of 30 to 80 words, and which pairs are alike; one text in five is an edit of another one."""
    draw = np.random.default_rng(6)
    n = int(100_000 * scale)
    words = np.array([f"w{place}" for place in range(20_000)])
    popular = np.arange(1, len(words) + 1) ** -0.9
    popular /= popular.sum()
    made = [draw.choice(len(words), size=draw.integers(30, 81), p=popular) for _ in range(n * 4 // 5)]
    sources = draw.integers(0, len(made), n - len(made))
    families: dict[int, list[int]] = {}
    for source in sources:
        copy = made[source].copy()
        changed = draw.random(len(copy)) < draw.uniform(0.005, 0.12)
        copy[changed] = draw.choice(len(words), size=int(changed.sum()), p=popular)
        families.setdefault(int(source), [int(source)]).append(len(made))
        made.append(copy)
    order = draw.permutation(len(made))
    return [" ".join(words[text]) for text in (made[place] for place in order)], alike(made, families, order)


def alike(made: list[np.ndarray], families: dict[int, list[int]], order: np.ndarray) -> np.ndarray:
    """Pairs of one family that have a Jaccard similarity of 0.7 or more in their word 3-grams, by Python's sets.

    Texts of different families have next to nothing in common.
    """
    place = np.argsort(order)
    found = []
    for family in families.values():
        grams = {member: set(zip(*(made[member][k:].tolist() for k in range(3)), strict=False)) for member in family}
        for a, b in combinations(family, 2):
            if 10 * len(grams[a] & grams[b]) >= 7 * len(grams[a] | grams[b]):
                found.append(sorted((place[a], place[b])))
    return np.array(sorted(found), dtype=np.int32).reshape(-1, 2)


CASES: dict[str, Callable[[float], dict[str, np.ndarray]]] = {
    "dense": dense,
    "sparse": sparse,
    "labels": labels,
    "votes": votes,
    "ratings": ratings,
}


def write(folder: Path, scale: float = 1.0) -> None:
    """Write what is not there yet.

    Args:
        folder: for these data and this scale alone.
        scale: of the number of rows; 1 is the size of the tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in CASES.items():
        if not (folder / f"{name}.npz").exists():
            np.savez(folder / f"{name}.npz", **make(scale))
    if not (folder / "texts.txt").exists():
        given, pairs = texts(scale)
        np.save(folder / "near.npy", pairs)
        (folder / "texts.txt").write_text("\n".join(given))


if __name__ == "__main__":
    write(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
