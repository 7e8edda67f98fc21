"""Numbers of the curation reference that no other file of tests holds, and its checks of one method by another."""

from __future__ import annotations

import numpy as np
import pytest

from prefdata.stats import (
    best_of_n_win_rate,
    bradley_terry,
    calibration,
    loss_to_flip,
    min_norm_weights,
    minimax_winner,
    preference_scores,
    proxy_point,
    wilson_interval,
    win_rate,
)
from prefdata.stats.logistic import sigmoid


def test_accuracy_of_220_in_400() -> None:  # F01
    hits = np.repeat([1.0, 0.0], [220, 180])
    found = win_rate(hits)
    assert found.value == pytest.approx(0.55) and found.standard_error == pytest.approx(0.02490584, abs=1e-8)
    assert np.sqrt(0.55 * 0.45 / 400) == pytest.approx(0.02487469, abs=1e-8)
    assert wilson_interval(220, 400) == pytest.approx((0.501001, 0.598048), abs=1e-6)


def test_weights_of_tasks_whose_mixed_gradient_is_shortest() -> None:  # E07
    gradients = np.array([[1.0, 0], [-0.5, 1]])
    a = min_norm_weights(gradients)
    assert a == pytest.approx([0.538462, 0.461538], abs=1e-6)
    assert a @ gradients == pytest.approx([0.307692, 0.461538], abs=1e-6)
    assert np.linalg.norm(a @ gradients) == pytest.approx(0.5547, abs=1e-6)
    assert min_norm_weights([[1.0, 0], [3, 0]]) == pytest.approx([1, 0])  # cut to [0, 1]
    assert min_norm_weights([[1.0, 0], [-1, 0], [5, 5]]) == pytest.approx([0.5, 0.5, 0])
    assert min_norm_weights([[2.0, 1]]) == pytest.approx([1.0])
    assert min_norm_weights(gradients * 1e40) == pytest.approx(a)


def test_no_mixture_is_shorter() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        g = random.normal(size=(4, 3)) + 0.5
        a = min_norm_weights(g)
        assert a.min() >= 0 and a.sum() == pytest.approx(1)
        others = random.dirichlet(np.ones(4), size=500)
        assert (np.linalg.norm(others @ g, axis=1) >= np.linalg.norm(a @ g) - 1e-9).all()


def test_where_gold_stops_rising() -> None:  # E04
    found = proxy_point([0.0, 1, 2, 3, 4], [0, 1.5, 2, 1.5, 0])
    assert found.value == pytest.approx(2.0) and (found.low, found.high) == (pytest.approx(2.0), pytest.approx(2.0))
    assert proxy_point([0.0, 1, 2], [0.0, 1, 2]).value is None  # it only rises
    assert proxy_point([0.0, 1, 2], [0.0, -1, 0]).value is None  # a minimum is none
    assert proxy_point([1.0, 1, 2], [0.0, -1, 0]).value is None


def test_the_interval_of_a_proxy_point_covers() -> None:
    random, x = np.random.default_rng(1), np.linspace(0, 4, 25)
    ends = [proxy_point(x, 2 * x - 0.5 * x**2 + random.normal(0, 0.5, 25)) for _ in range(300)]
    assert (
        0.89 < np.mean([one.low < 2 < one.high for one in ends if one.low is not None and one.high is not None]) < 0.99
    )


def test_two_models_are_the_logit_of_the_share() -> None:  # appendix 2, B01
    fit = bradley_terry([0] * 3 + [1], [1] * 3 + [0])
    assert fit.values[0] - fit.values[1] == pytest.approx(np.log(3))


def test_a_vector_with_an_equal_second_coordinate_is_a_score() -> None:  # appendix 2, B04
    r = np.array([0.3, -1.2, 2.0])
    assert preference_scores(np.stack([r, np.ones(3)], axis=1)) == pytest.approx(r[:, None] - r)


def test_the_lottery_on_bradley_terry_is_its_best() -> None:  # appendix 2, B05
    theta = np.array([0.1, 1.4, -0.3, 0.9])
    found = minimax_winner(sigmoid(theta[:, None] - theta))
    assert found.values == pytest.approx([0, 1, 0, 0]) and found.condorcet == 1


def test_at_no_gap_the_loss_to_flip_is_log_2() -> None:  # appendix 2, C01
    assert loss_to_flip([0.0], 0.1) == pytest.approx([np.log(2)])
    random = np.random.default_rng(2)
    policy, reference = random.normal(0, 3, (2, 500))  # winner less loser
    loss = np.logaddexp(0, -0.1 * (policy - reference))
    assert ((loss < loss_to_flip(reference, 0.1)) == (policy > 0)).all()


def test_calibration_in_both_orders_does_not_change_when_pairs_are_turned() -> None:  # appendix 2, E07
    p, y = np.array([0.768525, 0.574443, 0.401312, 0.880797]), np.ones(4)
    assert calibration(1 - p, 1 - y, bins=5, both_orders=True).value == pytest.approx(
        calibration(p, y, bins=5, both_orders=True).value
    )


def test_best_of_four() -> None:  # B10, by simulation
    drawn = np.random.default_rng(3).random((20_000, 5))
    assert (drawn[:, :4].max(axis=1) > drawn[:, 4]).mean() == pytest.approx(best_of_n_win_rate(4), abs=0.01)
