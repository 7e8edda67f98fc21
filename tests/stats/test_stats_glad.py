"""GLAD: the objective rises to a point without slope, adversaries and hard items are found, and its reductions."""

from __future__ import annotations

import numpy as np
import pytest

from prefdata.stats import glad, one_coin
from prefdata.stats.logistic import sigmoid


def drawn(alpha: np.ndarray, beta: np.ndarray, classes: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """All annotators label all items."""
    random = np.random.default_rng(seed)
    items, w = len(beta), len(alpha)
    truth = random.integers(classes, size=items)
    right = random.random((items, w)) < sigmoid(alpha[None] * np.exp(beta)[:, None])
    wrong = (truth[:, None] + random.integers(1, classes, size=(items, w))) % classes
    return (
        truth,
        np.repeat(np.arange(items), w),
        np.tile(np.arange(w), items),
        np.where(right, truth[:, None], wrong).ravel(),
    )


def test_objective_rises_to_where_it_is_flat() -> None:
    random = np.random.default_rng(1)
    _, item, worker, label = drawn(random.normal(1, 1, 12), random.normal(0.5, 1, 150), 3)
    found = glad(item, worker, label, tolerance=1e-12, most=5000)
    assert np.diff(found.objective).min() >= -1e-8 and found.converged

    def objective(alpha: np.ndarray, beta: np.ndarray) -> float:
        """Written anew, item by item."""
        p = sigmoid(alpha[worker] * np.exp(beta[item]))
        total = 0.0
        for i in range(150):
            rows = item == i
            terms = [np.log(found.class_prior[k]) + np.where(label[rows] == k, np.log(p[rows]),
                     np.log(1 - p[rows]) - np.log(2)).sum() for k in range(3)]  # fmt: skip
            total += np.logaddexp.reduce(terms)
        return float(total - 0.5 * ((alpha - 1) ** 2).sum() - 0.5 * ((beta - 1) ** 2).sum())

    alpha, beta = found.discriminations, -np.log(found.difficulties)
    here = objective(alpha, beta)
    assert here + np.log(found.class_prior).sum() == pytest.approx(found.objective[-1], abs=1e-6)
    for at in range(0, 12, 3):
        step = np.eye(12)[at] * 1e-4
        assert abs(objective(alpha + step, beta) - objective(alpha - step, beta)) / 2e-4 < 0.02
    for at in range(0, 150, 40):
        step = np.eye(150)[at] * 1e-4
        assert abs(objective(alpha, beta + step) - objective(alpha, beta - step)) / 2e-4 < 0.02


def test_adversaries_and_hard_items_are_found() -> None:
    random = np.random.default_rng(0)
    alpha = np.concatenate([random.uniform(0.5, 2, 20), [-1.5, -1.5]])
    beta = random.normal(0.3, 0.8, 600)
    truth, *columns = drawn(alpha, beta, 2)
    found = glad(*columns, easiness_prior=(0.3, 0.8))
    assert (found.codes == truth).mean() > 0.93
    assert found.abilities[-2:].max() < 0.3 and found.discrimination_high[-2:].max() < 0
    inside = (found.discrimination_low <= alpha) & (alpha <= found.discrimination_high)
    assert np.corrcoef(found.discriminations, alpha)[0, 1] > 0.97 and inside.mean() > 0.6
    assert np.corrcoef(np.log(found.difficulties), -beta)[0, 1] > 0.6
    assert ((found.difficulty_low < found.difficulties) & (found.difficulties < found.difficulty_high)).all()


def test_items_all_alike_are_one_coin() -> None:
    """With easiness held at 0, right is sigma(alpha): one-coin, the prior apart."""
    _, *columns = drawn(np.array([2.0, 1.0, 0.5, 1.5]), np.zeros(3000), 2)
    found = glad(*columns, easiness_prior=(0.0, 1e-6), ability_prior=(1.0, 10.0))
    coin = one_coin(*columns, prior=(1e-3, 1e-3))
    np.testing.assert_allclose(found.abilities, coin.abilities, atol=0.01)
    np.testing.assert_allclose(found.difficulties, 1, atol=1e-4)
    # 95 % intervals of the same parameter by two ways
    np.testing.assert_allclose(found.ability_high - found.ability_low, coin.ability_high - coin.ability_low, rtol=0.1)


def test_order_does_not_matter() -> None:
    random = np.random.default_rng(3)
    _, item, worker, label = drawn(random.normal(1, 1, 6), random.normal(0, 1, 50), 3)
    found, shuffle = glad(item, worker, label), random.permutation(len(item))
    other = glad(item[shuffle], worker[shuffle], label[shuffle])
    np.testing.assert_allclose(other.values, found.values, atol=1e-9)
    assert found.right([0, 1], [3, 4])[0] == pytest.approx(sigmoid(found.discriminations[0] / found.difficulties[3]))


def test_edges() -> None:
    one = glad(["x", "y"], ["a", "b"], ["p", "p"])
    assert one.values.tolist() == [[1.0], [1.0]] and np.isnan(one.abilities).all()
    size = 100_000
    many = glad(np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.int8), classes=[0, 1])
    assert many.values[0, 0] > 0.999 and np.isfinite(many.discriminations).all()
    tied = glad([0, 0, 1, 1], ["a", "b"] * 2, [0, 1, 1, 0])
    np.testing.assert_allclose(tied.values, 0.5)
    known = glad([0, 0, 1, 1], ["a", "b"] * 2, [0, 1, 0, 1], known={0: 0, 1: 0})
    assert known.codes.tolist() == [0, 0] and known.discriminations[0] > known.discriminations[1]
    for wrong in ({"ability_prior": (1.0, 0.0)}, {"easiness_prior": (np.nan, 1.0)}):
        with pytest.raises(ValueError):
            glad([0, 1], ["a", "a"], [0, 1], **wrong)
    with pytest.raises(ValueError, match="missing"):
        glad([0], ["a"], [None])
