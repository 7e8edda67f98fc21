"""MACE: the bound rises, starts differ, spammers are told from those who know, and its reductions."""

from __future__ import annotations

import numpy as np
import pytest

from prefdata.stats import mace, majority_vote, one_coin


def drawn(items: int, theta: np.ndarray, habits: np.ndarray, seed: int = 0) -> tuple[np.ndarray, ...]:
    """All annotators label all items."""
    random = np.random.default_rng(seed)
    w, k = habits.shape
    truth = random.integers(k, size=items)
    knows = random.random((items, w)) < theta
    guess = np.stack([random.choice(k, size=items, p=habit) for habit in habits], axis=1)
    label = np.where(knows, truth[:, None], guess)
    return truth, np.repeat(np.arange(items), w), np.tile(np.arange(w), items), label.ravel()


def test_the_bound_never_falls_and_the_starts_differ() -> None:
    _, *columns = drawn(200, np.array([0.9, 0.5, 0.2, 0.8]), np.full((4, 3), 1 / 3))
    found = mace(*columns, restarts=4)
    assert np.diff(found.objective).min() >= -1e-9 and found.converged
    assert len(set(found.starts)) == 4 and found.log_likelihood >= max(found.starts) - 1e-6 - 10
    assert (found.competences <= found.abilities).all()
    again = mace(*columns, restarts=4)
    assert again.values.tolist() == found.values.tolist()


def test_a_spammer_is_found_where_the_majority_is_fooled() -> None:
    """Three who always say 2 outvote two who know; that they never say anything else gives them away."""
    theta = np.array([0.0, 0.0, 0.0, 0.95, 0.95])
    habits = np.full((5, 3), 1 / 3)
    habits[:3] = [0.02, 0.02, 0.96]
    truth, *columns = drawn(400, theta, habits)
    found, voted = mace(*columns, habit=1.0), majority_vote(*columns)
    assert (voted.codes == truth).mean() < 0.5 < 0.9 < (found.codes == truth).mean()
    assert found.competences[:3].max() < 0.2 and found.competences[3:].min() > 0.8
    assert found.habits[0, 2] > 0.9


def test_competences_are_within_their_intervals() -> None:
    """Of 20 annotators, 20 times: 95 % intervals hold 89 to 99 % of the competences."""
    held = []
    for seed in range(20):
        theta = np.random.default_rng(seed).uniform(0.2, 0.9, 20)
        _, *columns = drawn(150, theta, np.full((20, 3), 1 / 3), seed)
        found = mace(*columns, restarts=1)
        held.append((found.competence_low <= theta) & (theta <= found.competence_high))
    assert 0.89 <= np.mean(held) <= 0.99


def test_even_habits_are_one_coin() -> None:
    """With guesses held even, right is theta + (1 - theta)/K: the abilities of one-coin, the prior apart."""
    _, *columns = drawn(2000, np.array([0.9, 0.4, 0.6, 0.7]), np.full((4, 3), 1 / 3))
    found, coin = mace(*columns, habit=1e9, restarts=1), one_coin(*columns)
    np.testing.assert_allclose(found.abilities, coin.abilities, atol=0.01)
    np.testing.assert_allclose(found.habits, 1 / 3, atol=1e-5)
    assert np.abs(found.values - coin.values).max() < 0.03


def test_edges() -> None:
    one = mace(["x"], ["a"], ["p"])
    assert one.values.tolist() == [[1.0]] and np.isnan(one.abilities).all()
    size = 100_000
    many = mace(np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.int8), classes=[0, 1], restarts=2)
    assert many.values[0, 0] > 0.99
    known = mace([0, 0, 1, 1], ["a", "b"] * 2, [0, 1, 0, 1], known={0: 0, 1: 0})
    assert known.codes.tolist() == [0, 0] and known.competences[0] > known.competences[1]
    for wrong in ({"prior": (0.0, 1.0)}, {"habit": 0.0}, {"restarts": 0}, {"class_prior": [1.0, 1.0]}):
        with pytest.raises(ValueError):
            mace([0, 1], ["a", "a"], [0, 1], **wrong)
    with pytest.raises(ValueError, match="missing"):
        mace([0], ["a"], [None])
