"""Reward votes, smoothing, weights, thresholds and the area under the curve: the reference's numbers, and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prefdata.stats.denoise import (
    gap_beta,
    gap_factor,
    margin_loss,
    mean_one,
    noise_threshold,
    reward_votes,
    separation,
    soft_loss,
)
from prefdata.stats.logistic import sigmoid

margins = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 8)), elements=st.floats(-9, 9))


def test_reward_votes_of_the_reference() -> None:
    """A06: four members on one pair."""
    found = reward_votes(np.array([[1.2], [0.4], [-0.2], [0.6]]), normalise=False)
    assert found.values[0] == pytest.approx(0.5) and found.std[0] == pytest.approx(0.5)
    assert found.agree[0] == 0.75 and sigmoid(found.values)[0] == pytest.approx(0.622459, abs=1e-6)
    assert margin_loss(1.0, 0.5) == pytest.approx(0.474077, abs=1e-6)
    assert soft_loss(1.0, 0.622459) == pytest.approx(0.690802, abs=1e-6)
    half = 1.959964 * 0.577350 / 2  # of the mean, by the sample standard deviation
    assert (found.high[0] - found.low[0]) / 2 == pytest.approx(half, abs=1e-5)


@given(margins, st.randoms())
def test_members_have_no_order_and_no_scale(d: np.ndarray, random: object) -> None:
    d = np.round(d, 3)
    base = reward_votes(d)
    mixed = reward_votes(d[::-1] * 7.5)
    np.testing.assert_allclose(mixed.values, base.values, atol=1e-9)
    np.testing.assert_allclose(mixed.std, base.std, atol=1e-9)
    flipped = reward_votes(-d)
    np.testing.assert_allclose(flipped.values, -base.values, atol=1e-12)
    np.testing.assert_allclose(flipped.std, base.std, atol=1e-9)


def test_members_that_say_nothing() -> None:
    d = np.array([[1.0, -1.0, np.nan], [2.0, 2.0, 2.0]])
    found = reward_votes(d)
    assert np.isnan(found.scales[1]) and found.members.tolist() == [1, 1, 0]
    assert found.values[:2].tolist() == [1.0, -1.0] and np.isnan(found.values[2]) and np.isnan(found.low).all()
    empty = reward_votes(np.zeros((0, 2)))
    assert np.isnan(empty.values).all() and empty.members.tolist() == [0, 0]
    with pytest.raises(ValueError, match="a margin is infinite"):
        reward_votes(np.array([[np.inf]]))
    with pytest.raises(ValueError, match="a row for each member"):
        reward_votes(np.zeros(3))


def test_selfie_of_the_reference() -> None:
    """A10: an unsure label is smoothed, another is not."""
    alpha, m = 0.1, -0.3
    assert soft_loss(m, 1 - alpha * (1 - 0)) == pytest.approx(0.824355, abs=1e-6)
    assert soft_loss(m, 1 - alpha * (1 - 1)) == pytest.approx(0.854355, abs=1e-6)
    assert soft_loss(0.5, 0.9) == pytest.approx(0.524077, abs=1e-6)  # A08's conservative form


def test_the_threshold_lies_between_two_order_statistics() -> None:
    values = np.arange(50.0)
    assert noise_threshold(values) == 4.5 and int((values < 4.5).sum()) == 5
    assert noise_threshold(np.arange(100.0), 0.29) == 28.5  # 0.29 * 100 is 28.999...
    assert noise_threshold([]) is None and noise_threshold([1.0] * 5) is None
    with pytest.raises(ValueError, match="above 0 and below 1"):
        noise_threshold(values, 1.0)


def test_weights_of_the_reference() -> None:
    """A18."""
    np.testing.assert_allclose(gap_beta([2.0, 0.0, 1e9, -3.0]), [0.131606, 0.1, 0.15, 0.1], atol=1e-6)
    np.testing.assert_allclose(mean_one([0.2, 0.5, 0.9]), [0.375, 0.9375, 1.6875], atol=1e-12)
    assert np.std([0.1, 0.4, 0.5, 0.9]) == pytest.approx(0.286138, abs=1e-6)  # the spread that is a group's measure
    assert gap_factor([0.0])[0] == 0.0 and gap_beta([5.0], strength=-5.0)[0] == 1e-3
    assert np.isnan(mean_one([0.0, 0.0])).all() and mean_one([]).size == 0
    with pytest.raises(ValueError, match="finite numbers that are not negative"):
        mean_one([1.0, -1.0])


def test_quantiles_of_the_reference() -> None:
    """A06: linear interpolation, as the steps cut."""
    strengths = [-0.9, -0.3, 0.1, 0.2, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0]
    np.testing.assert_allclose(np.quantile(strengths, [0.2, 0.4, 0.9]), [0.02, 0.32, 1.46], atol=1e-12)


def test_area_by_hand() -> None:
    """A02's example: 8.5 of 9 pairs in the right order."""
    found = separation([2, 3, 4, 0, 1, 2], [1, 1, 1, 0, 0, 0])
    assert found.value == pytest.approx(0.944444, abs=1e-6) and found.low is not None and found.low < 0.9445
    assert separation([1, 2], [0, 1]).value == 1.0 and separation([1, 2], [0, 1]).low is None
    assert separation([1, 2], [1, 1]).value is None and separation([], []).value is None
    assert separation([1, np.nan, 0], [1, 0, 0]).value == 1.0
    assert separation([1.0] * 6, [1, 1, 1, 0, 0, 0]).value == 0.5
    with pytest.raises(ValueError, match="one truth for each score"):
        separation([1.0], [1, 0])


def test_area_of_clusters() -> None:
    """Rows of a cluster that say the same are as one row; a row for itself each is DeLong's, up to (n - 1)/n."""
    draw = np.random.default_rng(0)
    s, t = draw.normal(size=200) + np.arange(200) % 2, np.arange(200) % 2 == 1
    alone, each = separation(s, t), separation(s, t, clusters=np.arange(200))
    assert each.value == alone.value and each.low == pytest.approx(alone.low, abs=1e-3)
    four = separation(np.repeat(s, 4), np.repeat(t, 4), clusters=np.repeat(np.arange(200), 4))
    assert (four.low, four.high) == (pytest.approx(each.low), pytest.approx(each.high))
    assert separation(s[:4], t[:4], clusters=[0, 0, 1, 1]).low is None
    with pytest.raises(ValueError, match="needs its cluster"):
        separation(s, t, clusters=[1])


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_area_laws(rows: list[tuple[int, bool]]) -> None:
    s, t = np.array([a for a, _ in rows], float), np.array([b for _, b in rows])
    found = separation(s, t)
    if found.value is None:
        assert t.all() or not t.any()
        return
    assert separation(np.exp(s), t).value == pytest.approx(found.value)
    assert separation(-s, t).value == pytest.approx(1 - found.value)
    if found.low is not None:
        assert 0 <= found.low <= found.value <= found.high <= 1  # type: ignore[operator]


def test_the_areas_interval_covers() -> None:
    """Two normals one apart: the area is Phi(1/sqrt 2)."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        found = separation(np.r_[rng.normal(1, 1, 60), rng.normal(0, 1, 60)], np.r_[np.ones(60), np.zeros(60)])
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.760250 <= found.high
    assert 0.90 <= hits / 200 <= 0.99
