"""HodgeRank: order and cycles, whether they are more than noise, and which cycles are sure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prefdata.stats import bradley_terry, hodge_rank, hodge_rank_of_wins, sure_cycles


def drawn(theta: Any, votes: int, seed: int) -> Any:
    """A table of wins between all, from Bradley-Terry."""
    random = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(theta - np.asarray(theta)[:, None]))
    upper = np.triu(random.binomial(votes, p), 1)
    return (upper + np.tril(votes - upper.T, -1)).astype(float)


def test_three_by_hand() -> None:
    """Margins .6, .6, .2 of (A>B, B>C, A>C) with equal weights: scores (4, 0, -4)/15, curl (.6 + .6 - .2)/3 each."""
    found = hodge_rank_of_wins([[0, 80, 60], [20, 0, 80], [40, 20, 0]], flow="margin")
    np.testing.assert_allclose(found.values, np.array([4, 0, -4]) / 15, atol=1e-12)
    assert found.cyclicity == pytest.approx(3 * (1 / 3) ** 2 / (0.36 + 0.36 + 0.04), abs=1e-12)
    assert found.curl == found.cyclicity and found.harmonic == 0
    assert (found.triads, found.zeta, found.degrees, found.pairs) == (0, 1.0, 1, 3)
    assert found.test == "chi-squared" and found.p_value is not None and found.p_value < 1e-4


def test_a_full_circle_is_all_curl() -> None:
    found = hodge_rank_of_wins([[0, 90, 10], [10, 0, 90], [90, 10, 0]])
    np.testing.assert_allclose(found.values, 0, atol=1e-12)
    assert found.cyclicity == pytest.approx(1) and found.curl == pytest.approx(1)
    assert (found.triads, found.zeta) == (1, 0.0)
    assert found.cycles.cycles == ((0, 1, 2),)
    assert found.p_value is not None and found.p_value < 1e-12


def test_a_circle_of_four_is_all_harmonic() -> None:
    first, second = [0, 1, 2, 3], [1, 2, 3, 0]
    found = hodge_rank(first, second, [250] * 4, p=[0.8] * 4)
    assert found.cyclicity == pytest.approx(1)
    assert (found.curl, found.harmonic, found.triads, found.zeta) == (0.0, pytest.approx(1), 0, None)
    assert found.cycles.cycles == ((0, 1, 2, 3),)
    assert found.cycles.lows[0] == pytest.approx(0.7296, abs=1e-4)
    assert found.degrees == 1


def test_curl_and_harmonic_add_up() -> None:
    random = np.random.default_rng(0)
    joined = np.zeros((8, 8), dtype=bool)
    joined[[0, 1, 0, 2, 3, 4, 5, 6, 0], [1, 2, 2, 3, 4, 5, 6, 7, 7]] = True  # a triangle, and a circle of seven
    wins = random.integers(1, 20, (8, 8)) * joined
    wins = (wins + random.integers(1, 20, (8, 8)) * (wins.T > 0)).astype(float)
    found = hodge_rank_of_wins(wins)
    assert found.cyclicity is not None and found.curl is not None and found.harmonic is not None
    assert 0.01 < found.curl < found.cyclicity - 0.01 < 0.99
    assert found.curl + found.harmonic == pytest.approx(found.cyclicity, abs=1e-10)
    order = random.permutation(8)
    again = hodge_rank_of_wins(wins[np.ix_(order, order)])
    assert again.cyclicity == pytest.approx(found.cyclicity, abs=1e-12)
    np.testing.assert_allclose(again.values, found.values[order], atol=1e-10)
    turned = hodge_rank_of_wins(wins.T)
    np.testing.assert_allclose(turned.values, -found.values, atol=1e-12)


def test_an_order_has_no_cycles() -> None:
    """Votes in exactly the proportions of Bradley-Terry: the flow of log-odds is a difference of strengths."""
    theta = np.array([1.0, 0.3, -0.2, -1.1])
    p = 1 / (1 + np.exp(theta - theta[:, None]))
    found = hodge_rank_of_wins(1e7 * (p - np.diag(np.diag(p))))
    assert found.cyclicity == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(found.values, theta, atol=1e-5)
    assert found.p_value == pytest.approx(1)
    assert found.cycles.cycles == ()


@pytest.mark.parametrize(("votes", "test"), [(3, "bootstrap"), (40, "chi-squared")])
def test_noise_is_not_called_a_cycle(votes: int, test: str) -> None:
    """Under an order, p-values below .1 come in one of ten."""
    low = []
    for seed in range(1000, 1080):
        found = hodge_rank_of_wins(drawn([0.9, 0.4, 0.0, -0.4, -0.9], votes, seed), resamples=99, seed=seed)
        assert found.p_value is None or found.test == test
        low.append(found.p_value is not None and found.p_value < 0.1)
    assert 1 <= sum(low) <= 16


def test_scores_and_intervals_beside_bradley_terry() -> None:
    theta = np.array([1.0, 0.3, -0.2, -1.1])
    wins = drawn(theta, 400, 5)
    first, second = np.nonzero(wins)
    fit = bradley_terry(first, second, wins[first, second])
    found = hodge_rank(first, second, wins[first, second])
    np.testing.assert_allclose(found.values, fit.values, atol=0.06)
    np.testing.assert_allclose(found.high - found.low, fit.high - fit.low, rtol=0.15)


def test_what_is_undefined() -> None:
    one = hodge_rank([0], [1], n=3)
    assert np.isnan(one.values[2]) and np.isnan(one.low[2])
    assert (one.p_value, one.degrees, one.pairs, one.components.tolist()) == (None, 0, 1, [0, 0, 1])
    even = hodge_rank([0, 1], [1, 0])
    assert (even.cyclicity, even.curl, even.harmonic) == (None, None, None)
    nothing = hodge_rank([], [], n=2)
    assert (nothing.cyclicity, nothing.p_value, nothing.pairs) == (None, None, 0)
    ties = hodge_rank([0, 1, 2] * 100, [1, 2, 0] * 100, p=[0.5] * 300)
    assert (ties.cyclicity, ties.triads, ties.zeta) == (None, 0, None)
    apart = hodge_rank([0, 2], [1, 3], [10, 10])
    assert apart.components.tolist() == [0, 0, 1, 1] and apart.cyclicity == pytest.approx(0)


def test_separated_and_a_million_votes() -> None:
    order = hodge_rank(np.tile([0, 0, 1], 333_334), np.tile([1, 2, 2], 333_334))
    assert (order.triads, order.zeta, order.p_value, order.degrees) == (0, 1.0, None, 0)
    assert np.isfinite(order.values).all() and order.values[0] > order.values[1] > order.values[2]


def test_sure_cycles_need_every_edge() -> None:
    """60:40, 90:10 and 70:30: of 100 votes 60 is not sure among three pairs, of 1,000 it is."""
    wins = np.array([[0, 60, 30], [40, 0, 90], [70, 10, 0]])
    assert sure_cycles(wins).cycles == () and sure_cycles(wins).sure == 2
    found = sure_cycles(10 * wins)
    assert found.cycles == ((0, 1, 2),) and found.triads == 1
    assert 0.55 < found.lows[0] < 0.6


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"flow": "odds"}, "log-odds or margin"),
        ({"resamples": 0}, "at least one table"),
        ({"confidence": 0.0}, "confidence"),
        ({"p": [2.0]}, "p must lie"),
        ({"weights": [float("nan")]}, "finite"),
    ],
)
def test_what_makes_no_sense(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        hodge_rank([0], [1], **options)
