"""Do the intervals of annotators' parameters hold what they should? 400 draws of each model, from the model itself.

    python benchmarks/annotator_coverage.py [--draws 400]

Every draw has new annotators and new labels. A share is that of all intervals of all draws which hold the parameter
they were drawn with; 95 % is asked for, and 91 to 98.5 % is what is accepted where the
priors are those that were drawn from. Ends with 1 otherwise. Writes benchmarks/results/annotator_coverage.md.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdata.stats import annotator_bradley_terry, dawid_skene, glad, mace, one_coin
from prefdata.stats.annotator_likelihood import Kind, probability

RESULTS = Path(__file__).parent / "results" / "annotator_coverage.md"
Array = NDArray[np.float64]
Held = dict[str, NDArray[np.bool_]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    lines, good = [], True
    for name, (what, case) in cases().items():
        started, held = time.process_time(), [case(seed) for seed in range(options.draws)]
        seconds = time.process_time() - started
        for parameter in held[0]:
            share = float(np.mean([draw[parameter].mean() for draw in held]))
            good &= "estimated" in name or 0.91 <= share <= 0.985
            lines.append(f"| {name} | {what} | {parameter} | {100 * share:.1f} % | {seconds / options.draws:.3f} |")
            print(lines[-1], flush=True)
    head = [
        "# Coverage of annotators' intervals",
        "",
        f"`python benchmarks/annotator_coverage.py --draws {options.draws}`, Python {platform.python_version()}.",
        "",
        "How many of the 95 % intervals hold the parameter that the labels were drawn with; new annotators in each "
        "draw. Where priors are estimated from the annotators themselves, what is not known of the priors is not in "
        "the intervals: with twenty annotators they are too narrow.",
        "",
        "| model | drawn | parameter | held | CPU s a fit |",
        "|---|---|---|---|---|",
    ]
    options.out.write_text("\n".join([*head, *lines, ""]), encoding="utf-8")
    return 0 if good else 1


def cases() -> dict[str, tuple[str, Callable[[int], Held]]]:
    labels = "200 items, 20 annotators, 5 labels an item, 3 classes"
    pairs = "20 contestants, 20 annotators, 6,000 comparisons"
    made: dict[str, tuple[str, Callable[[int], Held]]] = {
        "one-coin": (labels, coin),
        "Dawid-Skene": (labels, confusion),
        "MACE": (labels, knowing),
        "GLAD": ("200 items, 20 annotators, all label all, 2 classes", difficult),
    }
    for kind in ("crowd", "noisy", "discrimination"):
        made[f"{kind} Bradley-Terry"] = pairs, lambda seed, kind=kind: compared(seed, kind, False)  # type: ignore[misc]
        made[f"{kind} Bradley-Terry, priors estimated"] = (
            pairs,
            lambda seed, kind=kind: compared(seed, kind, True),  # type: ignore[misc]
        )
    return made


def within(low: Array, value: Array, high: Array) -> NDArray[np.bool_]:
    return (low <= value) & (value <= high)


def labelled(random: np.random.Generator, confusions: Array) -> tuple[Any, Any, Any]:
    """Five labels of each of 200 items by annotators with these confusions [W, K, K]."""
    w, k, _ = confusions.shape
    truth, item = random.integers(k, size=200), np.repeat(np.arange(200), 5)
    by = np.concatenate([random.choice(w, 5, replace=False) for _ in range(200)])
    label = (random.random((1000, 1)) > confusions.cumsum(axis=2)[by, truth[item]]).sum(axis=1)
    return item, by, label.clip(0, k - 1)


def coin(seed: int) -> Held:
    random = np.random.default_rng(seed)
    q = random.beta(7, 3, 20)
    confusions = np.where(np.eye(3, dtype=bool), q[:, None, None], (1 - q)[:, None, None] / 2)
    found = one_coin(*labelled(random, confusions), intervals=False)
    return {"ability": within(found.ability_low, q[found.annotators], found.ability_high)}


def confusion(seed: int) -> Held:
    random = np.random.default_rng(seed)
    confusions = np.stack([random.dirichlet(1 + 6 * np.eye(3)[k], 20) for k in range(3)], axis=1)
    found = dawid_skene(*labelled(random, confusions), intervals=False)
    ability = np.einsum("wkk->w", confusions)[found.annotators] / 3
    return {"ability": within(found.ability_low, ability, found.ability_high)}


def knowing(seed: int) -> Held:
    random = np.random.default_rng(seed)
    theta, habits = random.uniform(0.2, 0.95, 20), random.dirichlet(np.full(3, 10.0), 20)
    confusions = theta[:, None, None] * np.eye(3) + ((1 - theta)[:, None] * habits)[:, None, :]
    found = mace(*labelled(random, confusions), restarts=2, intervals=False)
    right = np.einsum("wkk->w", confusions)[found.annotators] / 3
    return {
        "competence": within(found.competence_low, theta[found.annotators], found.competence_high),
        "ability": within(found.ability_low, right, found.ability_high),
    }


def difficult(seed: int) -> Held:
    random = np.random.default_rng(seed)
    alpha, beta, truth = random.normal(1, 1, 20), random.normal(0, 0.7, 200), random.integers(2, size=200)
    right = random.random((200, 20)) < 1 / (1 + np.exp(-alpha * np.exp(beta)[:, None]))
    label = np.where(right, truth[:, None], 1 - truth[:, None])
    columns = np.repeat(np.arange(200), 20), np.tile(np.arange(20), 200), label.ravel()
    found = glad(*columns, easiness_prior=(0.0, 0.7))
    return {
        "discrimination": within(found.discrimination_low, alpha, found.discrimination_high),
        "difficulty": within(found.difficulty_low, np.exp(-beta), found.difficulty_high),
    }


def compared(seed: int, kind: Kind, estimate: bool) -> Held:
    random = np.random.default_rng(seed)
    n = w = 20
    theta = random.normal(0, 1, n)
    ability = random.normal(1, 0.5, w) if kind == "discrimination" else random.beta(6, 3, w)
    bias = np.zeros(w) if kind == "crowd" else random.normal(0.2, 0.5, w)
    i = random.integers(n, size=6000)
    j = (i + random.integers(1, n, size=6000)) % n
    by, side = np.arange(6000) % w, random.choice([-1, 1], 6000)
    won = random.random(6000) < probability(kind, theta[i] - theta[j], ability[by], bias[by], side)
    named: dict[str, Any] = {} if kind == "crowd" else {"position": np.where(won, side, -side)}
    if estimate:
        named |= {"ability_prior": "estimate", "position_prior": "estimate"}
    elif kind != "discrimination":
        named["ability_prior"] = (6.0, 3.0)
    found = annotator_bradley_terry(np.where(won, i, j), np.where(won, j, i), by, model=kind, **named)
    held = {
        "strength": within(found.low, theta - theta.mean(), found.high),
        "ability": within(found.ability_low, ability, found.ability_high),
    }
    if kind != "crowd":
        held["position"] = within(found.position_low, bias, found.position_high)
    return held


if __name__ == "__main__":
    sys.exit(main())
