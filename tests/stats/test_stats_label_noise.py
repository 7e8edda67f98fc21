"""How often labels are right: the posterior, its limits, and estimates on simulated labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats.label_noise import SLACK, estimate_reliability, label_posterior, next_reliability

inside = st.floats(0.001, 0.999)


def test_posterior_by_hand() -> None:
    """0.9 * 0.8 / (0.9 * 0.8 + 0.1 * 0.2) = 0.72 / 0.74."""
    assert label_posterior(0.8, 0.9) == pytest.approx(0.72 / 0.74, abs=1e-15)


@given(inside, st.floats(0.501, 0.999))
def test_posterior_limits(q: float, eta: float) -> None:
    assert label_posterior(q, 1.0) == 1.0  # every label is right
    assert label_posterior(0.5, eta) == pytest.approx(eta, rel=1e-12)  # the model says nothing
    assert label_posterior(q, 0.5) == pytest.approx(q, rel=1e-12)  # the labels say nothing
    assert label_posterior(0.0, eta) == 0.0 and label_posterior(1.0, eta) == 1.0
    assert label_posterior(0.0, 1.0) == 1.0  # no 0 / 0


@given(inside, st.floats(0.501, 0.999))
def test_right_and_wrong_are_all_there_is(q: float, eta: float) -> None:
    """The label is wrong exactly where the opposite label would be right at reliability 1 - eta."""
    assert label_posterior(q, eta) + label_posterior(1 - q, 1 - eta) == pytest.approx(1, abs=1e-12)


def test_arrays_and_reliabilities_of_each() -> None:
    found = label_posterior(np.array([0.2, 0.8]), np.array([0.6, 1.0]))
    np.testing.assert_allclose(found, [0.12 / (0.12 + 0.32), 1.0])


@given(st.floats(0.51, 0.99), st.floats(0, 1), st.floats(0, 1))
def test_a_step_is_a_moving_average_within_bounds(eta: float, mean: float, rate: float) -> None:
    after = next_reliability(eta, mean, rate)
    assert 0.5 + SLACK <= after <= 1 - SLACK
    if 0.5 + SLACK <= mean <= 1 - SLACK:
        assert after == pytest.approx((1 - rate) * eta + rate * mean, abs=1e-12)


@settings(deadline=None, max_examples=12)
@given(st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.4]), st.integers(0, 3), st.sampled_from([0.55, 0.8, 0.95]))
def test_calibrated_labels_with_flips_come_to_1_minus_their_share(flipped: float, seed: int, start: float) -> None:
    """20,000 simulated labels, drawn with the model's own probability, a share of them turned afterwards."""
    random = np.random.default_rng(seed)
    truly = 1 / (1 + np.exp(-random.normal(0, 3, 20_000)))
    said = (random.random(20_000) < truly) ^ (random.random(20_000) < flipped)
    found = estimate_reliability(np.where(said, truly, 1 - truly), start=start)
    assert found == pytest.approx(1 - flipped, abs=0.02)


def test_an_overconfident_model_is_not_calibrated() -> None:
    """Negative control: where the model claims too much, right labels look wrong."""
    random = np.random.default_rng(0)
    truly = 1 / (1 + np.exp(-random.normal(0, 1, 20_000)))
    said = random.random(20_000) < truly
    claimed = 1 / (1 + ((1 - truly) / truly) ** 5)
    found = estimate_reliability(np.where(said, claimed, 1 - claimed))
    assert found is not None and found < 0.95


def test_what_makes_no_sense() -> None:
    assert estimate_reliability([]) is None and estimate_reliability([float("nan")]) is None
    for wrong in ([1.5], [-0.1]):
        with pytest.raises(ValueError, match="probabilities lie from 0 to 1; they go from"):
            estimate_reliability(wrong)
    with pytest.raises(ValueError, match=r"begins above 0\.5 and below 1; it is 1"):
        estimate_reliability([0.5], start=1)
    with pytest.raises(ValueError, match="from 0 to 1; it is 2"):
        next_reliability(0.9, 0.9, 2)
