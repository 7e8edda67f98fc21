"""Coverage of 95 % intervals: known parameters, drawn anew each time, and how often their intervals hold them.

Each draw takes new strengths and annotators from the populations written below, lets the simulator answer, fits, and
looks at every parameter. The share over all of them is reported, with an interval for the share that is wide enough
for parameters of one draw depending on one another (over draws). What is drawn is what the hierarchy believes, a
normal population; parameters that one holds fixed at the edge of it are covered less, as with any shrinkage.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from prefdata import stats
from prefdata.stats import joint, simulate

Share = tuple[str, str, float, float, float, int]
Found = dict[str, np.ndarray]


def coverage(draws: int, seed: int = 0) -> list[Share]:
    """Rows (estimator, parameter, share, low, high, parameters in all)."""
    rows: list[Share] = []
    for name, one in SCENES.items():
        held: dict[str, list[np.ndarray]] = defaultdict(list)
        for draw in range(draws):
            for parameter, hits in one(seed + draw).items():
                held[parameter].append(np.asarray(hits, dtype=float))
        for parameter, lists in held.items():
            means = np.array([hits.mean() for hits in lists if len(hits)])
            everything = np.concatenate(lists)
            spread = 1.96 * means.std(ddof=1) / np.sqrt(len(means))
            share = everything.mean()
            rows.append((name, parameter, share, share - spread, share + spread, len(everything)))
    return rows


def inside(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> np.ndarray:
    low, high, truth = (np.asarray(x, dtype=float) for x in (low, high, truth))
    known = np.isfinite(low) & np.isfinite(high)
    return ((low <= truth) & (truth <= high))[known]


def differences(model: Any, truth: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Whether each pair's interval holds the difference."""
    found = [model.difference(int(i), int(j)) for i, j in pairs]
    there = [k for k, each in enumerate(found) if each.low is not None]
    low, high = ([getattr(found[k], end) for k in there] for end in ("low", "high"))
    return inside(np.array(low), np.array(high), (truth[pairs[:, 0]] - truth[pairs[:, 1]])[there])


def crowd(seed: int, count: int, **more: Any) -> simulate.Annotators:
    return simulate.Annotators.drawn(
        count, seed=seed, ability=(1.0, 0.3), position=(0.2, 0.3), length=(0.3, 0.3), log_threshold=(-0.9, 0.5), **more
    )


def joint_hits(model: joint.JointModel, who: simulate.Annotators, theta: np.ndarray, pairs: np.ndarray) -> Found:
    known = np.array([int(name) for name in model.annotators])
    scale = np.abs(who.ability[known]).mean()  # the model's convention: mean |a| is 1
    return {
        "difference of strengths": differences(model, theta * scale, pairs),
        "ability": inside(model.ability_low, model.ability_high, who.ability[known] / scale),
        "position bias": inside(model.position_low, model.position_high, who.position[known]),
        "length bias": inside(model.length_low, model.length_high, who.length[known]),
        "tie threshold": inside(model.threshold_low, model.threshold_high, who.threshold[known]),
    }


def joint_arena(seed: int, votes: int = 1500) -> Found:
    """30 models, 20 annotators: one connected graph."""
    draw = np.random.default_rng([seed, 1])
    theta, lengths, who = draw.normal(0, 1.2, 30), draw.uniform(-0.5, 0.5, 30), crowd(seed, 20)
    i = draw.integers(30, size=votes)
    j = (i + draw.integers(1, 30, size=votes)) % 30
    rows = simulate.simulate_comparisons(
        who, theta, i, j, draw.integers(20, size=votes), lengths=lengths, questions=np.arange(votes), seed=seed
    )
    model = stats.joint_model(
        rows.winners, rows.losers, rows.annotators, p=rows.p, position=rows.position, length=rows.length, n=30
    )
    pairs = np.array([draw.permutation(30)[:2] for _ in range(20)])
    return joint_hits(model, who, theta, pairs)


def joint_sparse(seed: int) -> Found:
    """The same with 20 votes of each annotator."""
    return joint_arena(seed, votes=400)


def joint_prompts(seed: int) -> Found:
    """120 prompts with 4 responses, 10 people and 2 judges who compare 3 pairs each, 2 reward models that score all."""
    draw = np.random.default_rng([seed, 2])
    groups, each = 120, 4
    n = groups * each
    group = np.repeat(np.arange(groups), each)
    theta, lengths, who = draw.normal(0, 1.2, n), draw.uniform(-0.5, 0.5, n), crowd(seed, 14)
    question, by = simulate.assign(groups * 6, 3, 12, seed=seed)
    corner = np.array([(a, b) for a in range(each) for b in range(a + 1, each)])
    i, j = (question // 6 * each + corner[question % 6, side] for side in (0, 1))
    rows = simulate.simulate_comparisons(who, theta, i, j, by, lengths=lengths, seed=seed)
    everyone, raters = np.tile(np.arange(n), 2), np.repeat([12, 13], n)
    values = simulate.simulate_scores(who, theta, everyone, raters, lengths=lengths, seed=seed)
    kinds = {w: "human" if w < 10 else "judge" if w < 12 else "reward" for w in range(14)}
    model = stats.joint_model(
        rows.winners, rows.losers, rows.annotators, p=rows.p, position=rows.position, length=rows.length, n=n,
        scores=(everyone, raters, values), score_length=lengths[everyone], groups=group, kinds=kinds,
    )  # fmt: skip
    return joint_hits(model, who, theta, np.column_stack([np.arange(n), np.arange(n) // each * each])[1::each])


def bradley_terry(seed: int, prior: float | None = None) -> Found:
    """20 contestants, 1,000 comparisons by anybody; the strengths are fixed numbers to it."""
    draw = np.random.default_rng([seed, 3])
    theta = draw.normal(0, 1, 20)
    i = draw.integers(20, size=1000)
    j = (i + draw.integers(1, 20, size=1000)) % 20
    rows = simulate.simulate_comparisons(
        simulate.Annotators.of(1), theta, i, j, np.zeros(1000, dtype=int), questions=np.arange(1000), seed=seed
    )
    model = stats.bradley_terry(rows.winners, rows.losers, n=20, prior=prior)
    pairs = np.array([draw.permutation(20)[:2] for _ in range(20)])
    return {
        "difference of strengths": differences(model, theta, pairs),
        "strength": inside(model.low, model.high, theta - theta.mean()),
    }


def plackett_luce(seed: int) -> Found:
    """15 contestants, 300 rankings of five."""
    draw = np.random.default_rng([seed, 4])
    theta = draw.normal(0, 1, 15)
    rankings = []
    for _ in range(300):
        five = draw.permutation(15)[:5]
        rankings.append(five[np.argsort(-(theta[five] + draw.gumbel(size=5)))].tolist())
    model = stats.plackett_luce(rankings, n=15)
    pairs = np.array([draw.permutation(15)[:2] for _ in range(20)])
    return {
        "difference of strengths": differences(model, theta, pairs),
        "strength": inside(model.low, model.high, theta - theta.mean()),
    }


def _labels(seed: int, classes: int) -> tuple[simulate.Labels, simulate.Annotators, np.ndarray]:
    draw = np.random.default_rng([seed, 5])
    who = simulate.Annotators.drawn(20, seed=seed, ability=(1.0, 0.3))
    truth = draw.integers(classes, size=300)
    of, by = simulate.assign(300, 5, 20, seed=seed)
    clarity = 2.0
    right = 1 / (1 + (classes - 1) * np.exp(-who.ability * clarity))
    return simulate.simulate_labels(who, truth, of, by, classes=classes, clarity=clarity, seed=seed), who, right


def dawid_skene(seed: int) -> Found:
    """300 items of three classes, five labels each by 20 annotators."""
    rows, _, right = _labels(seed, 3)
    model = importlib.import_module("prefdata.stats.dawid_skene").dawid_skene(rows.items, rows.annotators, rows.labels)
    return {"ability": inside(model.ability_low, model.ability_high, right[np.asarray(model.annotators, dtype=int)])}


def one_coin(seed: int) -> Found:
    rows, _, right = _labels(seed, 3)
    model = importlib.import_module("prefdata.stats.dawid_skene").one_coin(rows.items, rows.annotators, rows.labels)
    return {"ability": inside(model.ability_low, model.ability_high, right[np.asarray(model.annotators, dtype=int)])}


def discrimination(seed: int) -> Found:
    """30 contestants, 20 annotators, 3,000 comparisons, position known; no ties, no length."""
    draw = np.random.default_rng([seed, 6])
    theta = draw.normal(0, 1.2, 30)
    who = simulate.Annotators.drawn(20, seed=seed, ability=(1.0, 0.3), position=(0.2, 0.3))
    i = draw.integers(30, size=3000)
    j = (i + draw.integers(1, 30, size=3000)) % 30
    by = draw.integers(20, size=3000)
    rows = simulate.simulate_comparisons(who, theta, i, j, by, questions=np.arange(3000), seed=seed)
    model = importlib.import_module("prefdata.stats.annotator_bradley_terry").annotator_bradley_terry(
        rows.winners, rows.losers, rows.annotators, position=rows.position, n=30, model="discrimination",
        ability_prior="estimate", position_prior="estimate",
    )  # fmt: skip
    known = np.asarray(model.annotators, dtype=int)
    pairs = np.array([draw.permutation(30)[:2] for _ in range(20)])
    return {
        "difference of strengths": differences(model, theta, pairs),
        "ability": inside(model.ability_low, model.ability_high, who.ability[known]),
        "position bias": inside(model.position_low, model.position_high, who.position[known]),
    }


def crowd_bt(seed: int) -> Found:
    """Crowd-BT's own world: right with probability eta of what the strengths say."""
    draw = np.random.default_rng([seed, 7])
    theta, eta = draw.normal(0, 1.5, 30), draw.beta(8, 2, 20)
    i = draw.integers(30, size=3000)
    j = (i + draw.integers(1, 30, size=3000)) % 30
    by = draw.integers(20, size=3000)
    says = draw.random(3000) < 1 / (1 + np.exp(theta[j] - theta[i]))
    first = says == (draw.random(3000) < eta[by])
    model = importlib.import_module("prefdata.stats.annotator_bradley_terry").annotator_bradley_terry(
        np.where(first, i, j), np.where(first, j, i), by, n=30, ability_prior="estimate"
    )
    known = np.asarray(model.annotators, dtype=int)
    pairs = np.array([draw.permutation(30)[:2] for _ in range(20)])
    return {
        "difference of strengths": differences(model, theta, pairs),
        "ability": inside(model.ability_low, model.ability_high, eta[known]),
    }


SCENES: dict[str, Callable[[int], Found]] = {
    "joint_model, arena (75 votes of each annotator)": joint_arena,
    "joint_model, arena (20 votes of each annotator)": joint_sparse,
    "joint_model, prompts (people, judges, reward models)": joint_prompts,
    "bradley_terry": bradley_terry,
    "plackett_luce": plackett_luce,
    "dawid_skene": dawid_skene,
    "one_coin": one_coin,
    "annotator_bradley_terry, discrimination": discrimination,
    "annotator_bradley_terry, crowd": crowd_bt,
}

if __name__ == "__main__":
    import sys

    for row in coverage(int(sys.argv[1]) if len(sys.argv) > 1 else 40):
        print(f"{row[0]:55s} {row[1]:25s} {100 * row[2]:.1f} [{100 * row[3]:.1f}, {100 * row[4]:.1f}] {row[5]}")
