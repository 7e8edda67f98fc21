"""The joint model beside each single family: on data with everything in it, and on each family's own data.

Every world gives votes on pairs by known annotators; a share of the votes is held out. A family is asked what the
held-out annotators said (P of "the first is better", ties left out), which of each pair is truly better, and how the
members of a group are ordered. What a family cannot use it is not given: labels' models see decided votes on pairs;
Bradley-Terry's see ties as half wins; scores become votes on each pair of a group, by the same annotator, for all but
the joint model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from prefdata.stats import joint, simulate
from prefdata.stats.annotator_bradley_terry import annotator_bradley_terry
from prefdata.stats.bradley_terry import bradley_terry
from prefdata.stats.crowd import majority_vote
from prefdata.stats.dawid_skene import dawid_skene, one_coin
from prefdata.stats.glad import glad
from prefdata.stats.mace import mace


@dataclass
class World:
    """Votes (rows), and what is true.

    Attributes:
        n: contestants.
        group: [n].
        first: [m] shown first.
        second: [m].
        by: [m] annotators, named 0, 1, ...
        said: [m] 1 the first is better, 0 the second, 0.5 a tie.
        test: [m] held out.
        theta: [n] true strengths.
        lengths: [n].
        scores: contestants, annotators, values, for the joint model alone.
        kinds: of annotators.
    """

    n: int
    group: np.ndarray
    first: np.ndarray
    second: np.ndarray
    by: np.ndarray
    said: np.ndarray
    test: np.ndarray
    theta: np.ndarray
    lengths: np.ndarray | None = None
    scores: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    kinds: dict[int, str] | None = None


@dataclass
class Answers:
    """What a family says: of held-out votes P(first | decided), and of pairs P(i is better)."""

    votes: np.ndarray
    pairs: Callable[[np.ndarray, np.ndarray], np.ndarray]


def held_out(world: World) -> np.ndarray:
    return np.flatnonzero(world.test & (world.said != 0.5))


def measured(world: World, family: Callable[[World], Answers]) -> dict[str, float]:
    """Log-loss and accuracy of held-out votes, accuracy of the truth of pairs, rank correlation within groups."""
    answers = family(world)
    rows = held_out(world)
    p, y = np.clip(answers.votes, 1e-6, 1 - 1e-6), world.said[rows]
    low, high = np.minimum(world.first, world.second), np.maximum(world.first, world.second)
    pairs = np.unique(np.column_stack([low, high])[~world.test], axis=0)
    q = answers.pairs(pairs[:, 0], pairs[:, 1])
    truth = world.theta[pairs[:, 0]] > world.theta[pairs[:, 1]]
    wins = np.bincount(pairs[:, 0], q, world.n) + np.bincount(pairs[:, 1], 1 - q, world.n)
    return {
        "log-loss": float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()),
        "accuracy": float(np.where(p == 0.5, 0.5, (p > 0.5) == (y == 1)).mean()),
        "truth": float(np.where(np.abs(q - 0.5) < 1e-9, 0.5, (q > 0.5) == truth).mean()),
        "rank": _within(world, wins),
    }


def _within(world: World, wins: np.ndarray) -> float:
    found = []
    for g in np.unique(world.group):
        of = np.flatnonzero(world.group == g)
        if len(of) > 2 and np.ptp(wins[of]) > 0:
            found.append(np.corrcoef(rankdata(wins[of].round(9)), rankdata(world.theta[of]))[0, 1])
    return float(np.mean(found)) if found else float("nan")


# The families.


def by_joint(world: World) -> Answers:
    train, rows = ~world.test, held_out(world)
    known = world.lengths is not None
    lengths = world.lengths if known else np.zeros(world.n)
    size = lengths[world.first] - lengths[world.second]
    model = joint.joint_model(
        world.first[train], world.second[train], world.by[train], p=world.said[train], position=np.ones(train.sum()),
        length=size[train] if known else None, n=world.n, groups=world.group, kinds=world.kinds, scores=world.scores,
        score_length=None if world.scores is None or not known else lengths[world.scores[0]],
    )  # fmt: skip
    if not model.converged:
        print("the joint model did not converge", model.gradient, model.iterations)
    told = model.predict(world.first[rows], world.second[rows], world.by[rows], 1.0, size[rows])
    return Answers(told[:, 0] / (told[:, 0] + told[:, 2]), model.certainty)


def _with_scores(world: World) -> tuple[np.ndarray, ...]:
    """Training votes, scores as votes on each pair of a group (both orders even, so no position)."""
    train = ~world.test
    columns = [world.first[train], world.second[train], world.by[train], world.said[train], np.ones(train.sum())]
    if world.scores is None:
        return tuple(columns)
    of, by, values = world.scores
    added: list[list[np.ndarray]] = []
    for w in np.unique(by):
        value = np.full(world.n, np.nan)
        value[of[by == w]] = values[by == w]
        for g in np.unique(world.group):
            i, j = np.triu_indices((world.group == g).sum(), 1)
            members = np.flatnonzero(world.group == g)
            i, j = members[i], members[j]
            win = np.where(value[i] > value[j], 1.0, np.where(value[i] < value[j], 0.0, 0.5))
            added.append([i, j, np.full(len(i), w), win, np.zeros(len(i))])
    return tuple(np.concatenate([column, *(rows[k] for rows in added)]) for k, column in enumerate(columns))


def by_bradley_terry(world: World) -> Answers:
    i, j, _, said, _ = _with_scores(world)
    values = bradley_terry(i, j, p=said, n=world.n, prior=1.0, intervals=False).values
    rows = held_out(world)
    return _of_values(values, 1 / (1 + np.exp(values[world.second[rows]] - values[world.first[rows]])))


def _of_values(values: np.ndarray, votes: np.ndarray) -> Answers:
    return Answers(votes, lambda i, j: 1 / (1 + np.exp(values[j] - values[i])))


def _by_annotators(kind: str) -> Callable[[World], Answers]:
    def answer(world: World) -> Answers:
        i, j, w, said, position = _with_scores(world)
        has = {} if kind == "crowd" else {"position": position}
        model = annotator_bradley_terry(
            i, j, w, p=said, n=world.n, model=kind, intervals=False, ability_prior="estimate", **has  # type: ignore[arg-type]
        )  # fmt: skip
        rows = held_out(world)
        at = {} if kind == "crowd" else {"position": np.ones(len(rows))}
        told = model.predict(world.first[rows], world.second[rows], world.by[rows].tolist(), **at)
        return _of_values(model.values, told)

    return answer


def _by_labels(fit: Callable[..., Any]) -> Callable[[World], Answers]:
    def answer(world: World) -> Answers:
        i, j, w, said, _ = _with_scores(world)
        decided = said != 0.5
        i, j, w, said = i[decided], j[decided], w[decided], said[decided]
        # Both orders of a pair are one item, so the class is whether the smaller number is better.
        low, high = np.minimum(i, j), np.maximum(i, j)
        model = fit(low * world.n + high, w, ((i == low) == (said == 1)).astype(int), classes=[0, 1])
        place = {int(key): at for at, key in enumerate(model.items)}

        def posterior(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            small, large = np.minimum(a, b), np.maximum(a, b)
            at = np.array([place.get(int(key), -1) for key in small * world.n + large])
            if fit is majority_vote:
                counts = np.bincount(model_rows(low, high), minlength=1)
                p = (model.values[at, 1] * counts[at] + 1) / (counts[at] + 2)
            else:
                p = model.values[at, 1]
            p = np.where(at < 0, 0.5, p)
            return np.where(a == small, p, 1 - p)

        def model_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.array([place[int(key)] for key in a * world.n + b])

        rows = held_out(world)
        a, b = world.first[rows], world.second[rows]
        return Answers(_vote(model, posterior(a, b), a, b, world, rows, place), posterior)

    return answer


def _vote(
    model: Any, p: np.ndarray, a: np.ndarray, b: np.ndarray, world: World, rows: np.ndarray, place: dict[int, int]
) -> np.ndarray:
    """P(the annotator says the first) from P(the first is better)."""
    number = {int(name): at for at, name in enumerate(model.annotators)}
    w = np.array([number.get(int(name), -1) for name in world.by[rows]])
    if hasattr(model, "confusions"):
        table = model.confusions[w]  # of classes 0, 1 = the smaller number is better
        turned = a > b
        say = np.where(turned, table[:, 0, 0], table[:, 1, 1])
        miss = np.where(turned, table[:, 1, 0], table[:, 0, 1])
        return np.where(w < 0, p, p * say + (1 - p) * miss)
    if hasattr(model, "discriminations"):
        at = np.array([place.get(int(key), 0) for key in np.minimum(a, b) * world.n + np.maximum(a, b)])
        right = model.right(w, at)
        return np.where(w < 0, p, p * right + (1 - p) * (1 - right))
    return p


FAMILIES: dict[str, Callable[[World], Answers]] = {
    "majority (smoothed)": _by_labels(majority_vote),
    "one-coin": _by_labels(one_coin),
    "Dawid-Skene": _by_labels(dawid_skene),
    "GLAD": _by_labels(glad),
    "MACE": _by_labels(mace),
    "Bradley-Terry": by_bradley_terry,
    "annotator BT, crowd": _by_annotators("crowd"),
    "annotator BT, noisy": _by_annotators("noisy"),
    "annotator BT, discrimination": _by_annotators("discrimination"),
    "joint": by_joint,
}


# The worlds.


def _prompts(seed: int, groups: int, each: int, annotators: int, votes: int) -> tuple[Any, ...]:
    draw = np.random.default_rng([seed, groups])
    corner = np.array([(a, b) for a in range(each) for b in range(a + 1, each)])
    question, by = simulate.assign(groups * len(corner), votes, annotators, seed=seed)
    i, j = (question // len(corner) * each + corner[question % len(corner), side] for side in (0, 1))
    turned = draw.random(len(i)) < 0.5
    i, j = np.where(turned, j, i), np.where(turned, i, j)
    return draw, np.repeat(np.arange(groups), each), i, j, by, draw.random(len(i)) < 0.25


def mixed(seed: int) -> World:
    """100 prompts of 4 responses; 12 people (2 of them adversaries), 3 judges with more bias; ties; 2 reward models."""
    draw, group, i, j, by, test = _prompts(seed, 100, 4, 15, 4)
    n = len(group)
    theta, lengths = draw.normal(0, 1.2, n), draw.uniform(-0.7, 0.7, n)
    people = draw.normal(1.0, 0.4, 12) * np.where(np.arange(12) < 2, -1, 1)
    who = simulate.Annotators.of(
        17, ability=np.concatenate([people, draw.normal(1.2, 0.2, 3), draw.normal(0.8, 0.3, 2)]),
        position=np.concatenate([draw.normal(0.1, 0.3, 12), draw.normal(0.8, 0.4, 3), [0, 0]]),
        length=np.concatenate([draw.normal(0.2, 0.3, 12), draw.normal(1.2, 0.4, 3), draw.normal(0.8, 0.3, 2)]),
        threshold=np.concatenate([np.exp(draw.normal(-0.9, 0.7, 12)), np.full(3, 0.1), [0, 0]]),
        gain=3.0,
    )  # fmt: skip
    said = answers(who, theta, i, j, by, seed, lengths)
    of, rater = np.tile(np.arange(n), 2), np.repeat([15, 16], n)
    values = simulate.simulate_scores(who, theta, of, rater, lengths=lengths, seed=seed)
    kinds = {w: "human" if w < 12 else "judge" if w < 15 else "reward" for w in range(17)}
    return World(n, group, i, j, by, said, test, theta, lengths, (of, rater, values), kinds)


def mixed_votes(seed: int) -> World:
    """The same without the reward models: votes alone."""
    world = mixed(seed)
    world.scores = None
    return world


def answers(
    who: simulate.Annotators, theta: np.ndarray, i: np.ndarray, j: np.ndarray, by: np.ndarray, seed: int,
    lengths: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """What each says of `i` shown first and `j` second: 1, 0.5 or 0."""
    rows = simulate.simulate_comparisons(
        who, theta, i, j, by, lengths=lengths, position=np.ones(len(i)), questions=np.arange(len(i)), seed=seed
    )
    return np.where(rows.p == 0.5, 0.5, (rows.winners == i).astype(float))


def _pairs(seed: int, votes: int = 6) -> tuple[Any, ...]:
    """400 prompts of two responses, of which one is right; 15 annotators."""
    draw, group, i, j, by, test = _prompts(seed, 400, 2, 15, votes)
    theta = draw.permuted(np.tile([0.0, 1.0], (400, 1)), axis=1).ravel()
    return draw, group, i, j, by, test, theta


def _by_right(seed: int, right: Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]) -> World:
    draw, group, i, j, by, test, theta = _pairs(seed)
    hit = draw.random(len(i)) < right(draw, by, i // 2)
    said = np.where(hit, theta[i] > theta[j], theta[i] < theta[j]).astype(float)
    return World(len(group), group, i, j, by, said, test, theta)


def majority_world(seed: int) -> World:
    return _by_right(seed, lambda draw, by, of: np.full(len(by), 0.75))


def one_coin_world(seed: int) -> World:
    return _by_right(seed, lambda draw, by, of: draw.beta(7, 3, 15)[by])


def glad_world(seed: int) -> World:
    return _by_right(
        seed,
        lambda draw, by, of: 1 / (1 + np.exp(-draw.normal(1, 0.6, 15)[by] * np.exp(draw.normal(0.3, 0.7, 400))[of])),
    )


def dawid_skene_world(seed: int) -> World:
    """Confusions: an annotator is right with one probability where the first is better, another where the second is.

    Every pair is shown in one order here and in the next world, so that a class of labels is a position.
    """
    draw, group, i, j, by, test, theta = _pairs(seed)
    i, j = np.minimum(i, j), np.maximum(i, j)
    right = draw.beta(6, 2.5, (15, 2))
    hit = draw.random(len(i)) < right[by, (theta[i] == 1).astype(int)]
    said = np.where(hit, theta[i] > theta[j], theta[i] < theta[j]).astype(float)
    return World(len(group), group, i, j, by, said, test, theta)


def mace_world(seed: int) -> World:
    """Who does not know says by habit: the first with a probability of their own."""
    draw, group, i, j, by, test, theta = _pairs(seed)
    i, j = np.minimum(i, j), np.maximum(i, j)
    knows = draw.random(len(i)) < draw.beta(2, 1.5, 15)[by]
    habit = draw.random(len(i)) < draw.beta(2, 2, 15)[by]
    return World(len(group), group, i, j, by, np.where(knows, theta[i] == 1, habit).astype(float), test, theta)


def _arena(seed: int, rows: int = 3000) -> tuple[Any, ...]:
    draw = np.random.default_rng([seed, 9])
    theta = draw.normal(0, 1.2, 40)
    i = draw.integers(40, size=rows)
    j = (i + draw.integers(1, 40, size=rows)) % 40
    return draw, theta, i, j, draw.integers(20, size=rows), draw.random(rows) < 0.25


def bradley_terry_world(seed: int) -> World:
    _, theta, i, j, by, test = _arena(seed)
    said = answers(simulate.Annotators.of(20), theta, i, j, by, seed)
    return World(40, np.zeros(40, int), i, j, by, said, test, theta)


def crowd_world(seed: int) -> World:
    draw, theta, i, j, by, test = _arena(seed)
    said = answers(simulate.Annotators.of(20), theta, i, j, by, seed)
    turned = draw.random(len(i)) > draw.beta(5, 1.2, 20)[by]
    return World(40, np.zeros(40, int), i, j, by, np.where(turned, 1 - said, said), test, theta)


def noisy_world(seed: int) -> World:
    """Looks with probability g, else takes the first with one of their own."""
    draw, theta, i, j, by, test = _arena(seed)
    said = answers(simulate.Annotators.of(20), theta, i, j, by, seed)
    looks = draw.random(len(i)) < draw.beta(5, 1.5, 20)[by]
    blind = draw.random(len(i)) < 1 / (1 + np.exp(-draw.normal(0, 1, 20)[by]))
    return World(40, np.zeros(40, int), i, j, by, np.where(looks, said, blind), test, theta)


def discrimination_world(seed: int) -> World:
    _, theta, i, j, by, test = _arena(seed)
    who = simulate.Annotators.drawn(20, seed=seed, ability=(1.0, 0.4), position=(0.2, 0.4))
    said = answers(who, theta, i, j, by, seed)
    return World(40, np.zeros(40, int), i, j, by, said, test, theta)


OWN: dict[str, Callable[[int], World]] = {
    "majority (smoothed)": majority_world,
    "one-coin": one_coin_world,
    "Dawid-Skene": dawid_skene_world,
    "GLAD": glad_world,
    "MACE": mace_world,
    "Bradley-Terry": bradley_terry_world,
    "annotator BT, crowd": crowd_world,
    "annotator BT, noisy": noisy_world,
    "annotator BT, discrimination": discrimination_world,
}
