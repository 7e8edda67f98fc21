"""Logistic regression: against finite differences, known coefficients, separation, weights and clusters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.stats.logistic import log_sigmoid, logistic, sigmoid
from prefdata.stats.logistic_sparse import ridge_logistic


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), draw.normal(size=(n, 2))])
    truth = np.array([0.3, 1.0, -0.7])
    return x, (draw.random(n) < sigmoid(x @ truth)).astype(float), truth


def test_the_maximum_is_one() -> None:
    x, y, _ = drawn(400)
    w = np.random.default_rng(1).random(400)
    fit = logistic(x, y, w, ridge=[0.0, 0.5, 2.0])

    def objective(beta: np.ndarray) -> float:
        z = x @ beta
        likelihood = (w * (y * log_sigmoid(z) + (1 - y) * log_sigmoid(-z))).sum()
        return float(likelihood - (np.array([0.0, 0.5, 2.0]) * beta**2).sum() / 2)

    assert fit.converged
    for k in range(3):
        step = np.zeros(3)
        step[k] = 1e-4
        slope = (objective(fit.values + step) - objective(fit.values - step)) / 2e-4
        assert slope == pytest.approx(0, abs=1e-6)


def test_intervals_cover_and_narrow() -> None:
    inside = 0
    for seed in range(60):
        x, y, truth = drawn(300, seed)
        fit = logistic(x, y)
        inside += int(((fit.low < truth) & (truth < fit.high)).sum())
    assert 0.9 < inside / 180 <= 1
    x, y, _ = drawn(4000)
    few, many = logistic(x[:1000], y[:1000]), logistic(x, y)
    assert np.allclose((few.high - few.low) / (many.high - many.low), 2, rtol=0.2)


def test_a_soft_outcome_is_two_rows() -> None:
    x, _, _ = drawn(50)
    soft = np.random.default_rng(2).random(50)
    one = logistic(x, soft, ridge=1e-3)
    two = logistic(np.r_[x, x], np.r_[np.ones(50), np.zeros(50)], np.r_[soft, 1 - soft], ridge=1e-3)
    np.testing.assert_allclose(one.values, two.values, atol=1e-8)


def test_copies_are_no_evidence_when_they_are_one_cluster() -> None:
    x, y, _ = drawn(300)
    once = logistic(x, y)
    copies = logistic(np.r_[x, x, x], np.r_[y, y, y], clusters=np.tile(np.arange(300), 3))
    np.testing.assert_allclose(copies.covariance, once.covariance, rtol=1e-6)


def test_separation_and_wrong_numbers_are_said() -> None:
    with pytest.raises(ValueError, match="separate"):
        logistic([[1.0], [-1.0]], [1, 0])
    assert np.isfinite(logistic([[1.0], [-1.0]], [1, 0], ridge=1.0).values).all()
    for x, y, message in (
        ([[1.0]], [2], "outcomes"),
        ([[np.nan]], [1], "infinite"),
        ([[1.0]], [1, 0], "shape|rows"),
        (np.zeros((0, 2)), [], "rows"),
    ):
        with pytest.raises(ValueError, match=message):
            logistic(x, y)
    with pytest.raises(ValueError, match="weight"):
        logistic([[1.0]], [1], [-1.0])
    assert sigmoid(1000.0) == 1 and sigmoid(-1000.0) == 0 and log_sigmoid(-1000.0) == -1000


@given(st.floats(-800, 800))
def test_the_logistic_function_and_its_complement(x: float) -> None:
    assert 0 <= sigmoid(x) <= 1 and sigmoid(x) + sigmoid(-x) == 1
    assert sigmoid(0.0) == 0.5 and np.isnan(sigmoid(np.nan))


@pytest.mark.parametrize("sparse", [False, True])
def test_many_features_end_where_the_gradient_is_zero(sparse: bool) -> None:
    from scipy.sparse import csr_array

    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(60, 3)), (draw.random(60) < 0.5).astype(float)
    w, b = ridge_logistic(csr_array(x) if sparse else x, y)
    rest = y - sigmoid(x @ w + b)
    assert np.abs(x.T @ rest - w).max() < 1e-3
    assert abs(rest.sum()) < 1e-3
