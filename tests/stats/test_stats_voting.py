"""Elections: Borda, Copeland, Condorcet, Schulze, Kemeny, Mallows, the minimax winner, and cyclic preferences."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats import (
    borda,
    borda_counts,
    condorcet_winner,
    contradicted,
    copeland,
    count_triads,
    draw_mallows,
    kemeny,
    mallows,
    mallows_log_probability,
    minimax_winner,
    preference_probabilities,
    preference_scores,
    schulze,
    shares,
    win_shares,
    wins_of_comparisons,
    wins_of_rankings,
)
from prefdata.stats.voting import _kemeny_moves

VOTERS = [(0, 1, 2)] * 3 + [(1, 2, 0)] * 2 + [(2, 0, 1)] * 2
CYCLE = [[0.5, 0.6, 0.3], [0.4, 0.5, 0.9], [0.7, 0.1, 0.5]]


def table(seed: int, n: int) -> Any:
    wins = np.random.default_rng(seed).integers(0, 4, (n, n)).astype(float)
    np.fill_diagonal(wins, 0)
    return wins


def test_seven_voters_by_hand() -> None:
    """3 ABC, 2 BCA, 2 CAB: Borda 8, 7, 6; A>B 5:2, B>C 5:2, C>A 4:3, so nobody beats everybody."""
    wins = wins_of_rankings(VOTERS)
    assert wins.tolist() == [[0, 5, 3], [2, 0, 5], [4, 2, 0]]
    assert borda_counts(wins).tolist() == [8, 7, 6]
    np.testing.assert_allclose(borda(wins).values, [8 / 14, 7 / 14, 6 / 14])
    assert copeland(wins).tolist() == [0, 0, 0]
    assert condorcet_winner(wins) is None
    found = schulze(wins)
    assert found.paths.tolist() == [[0, 5, 5], [4, 0, 5], [4, 4, 0]]
    assert found.ranks.tolist() == [1, 2, 3]
    best = kemeny(wins)
    assert (best.order.tolist(), best.distance, best.exact, best.unique) == ([0, 1, 2], 8, True, True)
    assert count_triads(wins > wins.T) == 1
    weighted = wins_of_rankings([VOTERS[0], VOTERS[3], VOTERS[5]], [3, 2, 2])
    np.testing.assert_array_equal(weighted, wins)


def test_ties_and_who_was_not_named() -> None:
    assert wins_of_rankings([(0, (1, 2)), (3, 0)]).tolist() == [
        [0, 1, 1, 0],
        [0, 0, 0.5, 0],
        [0, 0.5, 0, 0],
        [1, 0, 0, 0],
    ]
    known = shares(wins_of_rankings([(0, (1, 2)), (3, 0)]))
    assert known[1, 2] == 0.5 and known[0, 1] == 1 and np.isnan(known[1, 3])
    comparisons = wins_of_comparisons([0, 0, 2], [1, 1, 0], [1, 2, 1], p=[1, 0.5, 1])
    assert comparisons.tolist() == [[0, 2, 0], [1, 0, 0], [1, 0, 0]]
    nobody = borda(wins_of_comparisons([0], [1], n=3))
    assert np.isnan(nobody.values[2]) and nobody.low[0] < nobody.values[0] == 1


def test_schulze_by_the_book() -> None:
    """Schulze (2011), example 1: 45 voters, order E, A, C, B, D."""
    ballots = ["ACBED", "ADECB", "BEDAC", "CABED", "CAEBD", "CBADE", "DCEBA", "EBADC"]
    counts = [5, 5, 8, 3, 7, 2, 7, 8]
    found = schulze(wins_of_rankings([["ABCDE".index(one) for one in ballot] for ballot in ballots], counts))
    assert found.ranks.tolist() == [2, 4, 3, 5, 1]
    assert found.values.tolist() == [3, 1, 2, 0, 4]
    assert found.paths[4].tolist() == [25, 28, 28, 31, 0]


def test_schulze_shares_ranks() -> None:
    assert schulze(np.zeros((3, 3))).ranks.tolist() == [1, 1, 1]
    assert schulze([[0, 2, 2], [1, 0, 1], [1, 1, 0]]).ranks.tolist() == [1, 2, 2]


@pytest.mark.parametrize("seed", range(12))
def test_kemeny_is_the_best_of_all_orders(seed: int) -> None:
    wins = table(seed, 6)
    every = sorted((contradicted(wins, order), order) for order in permutations(range(6)))
    found = kemeny(wins)
    assert (found.distance, tuple(found.order)) == every[0]
    assert found.unique == (every[1][0] > every[0][0])
    best = np.array([order for distance, order in every if distance == every[0][0]])
    assert found.orders == len(best)
    np.testing.assert_allclose(found.places, np.argsort(best, axis=1).mean(axis=0))
    np.testing.assert_allclose(found.firsts, (best[:, :1] == np.arange(6)).mean(axis=0))
    assert every[0][0] <= _kemeny_moves(wins).distance <= every[0][0] * 1.1


def test_kemeny_of_many_says_that_it_is_no_more_than_near() -> None:
    order = np.random.default_rng(0).permutation(40)
    found = kemeny(wins_of_rankings([order.tolist()] * 3))
    assert (found.order.tolist(), found.distance, found.exact, found.unique) == (order.tolist(), 0, False, None)
    assert found.places[order].tolist() == list(range(40)) and found.orders is None and np.isnan(found.firsts).all()


def test_kemeny_of_nothing_but_ties_is_every_order() -> None:
    found = kemeny(np.zeros((9, 9)))
    assert (found.orders, found.unique) == (362880, False)
    np.testing.assert_allclose(found.places, 4)
    np.testing.assert_allclose(found.firsts, 1 / 9)


def test_rules_agree_where_somebody_beats_everybody() -> None:
    wins = wins_of_rankings([(2, 0, 1, 3)] * 3 + [(2, 1, 0, 3)] * 2)
    assert condorcet_winner(wins) == 2
    assert schulze(wins).ranks[2] == 1 and kemeny(wins).order[0] == 2 and copeland(wins).argmax() == 2
    found = minimax_winner(shares(wins))
    np.testing.assert_allclose(found.values, [0, 0, 1, 0], atol=1e-12)
    assert (found.condorcet, found.triads, found.coverage) == (2, 0, 1.0)


def test_minimax_by_hand() -> None:
    """P(A>B) = .6, P(B>C) = .9, P(C>A) = .7: (4, 2, 1)/7, and every payoff against it is 0."""
    found = minimax_winner(CYCLE)
    np.testing.assert_allclose(found.values, [0.571429, 0.285714, 0.142857], atol=1e-6)
    np.testing.assert_allclose(found.payoffs, 0, atol=1e-12)
    assert (found.condorcet, found.triads, found.converged) == (None, 1, True)
    assert found.game_value == pytest.approx(0, abs=1e-12)
    # The one with the highest share of wins is not the likeliest of the lottery.
    np.testing.assert_allclose(win_shares(CYCLE), [0.45, 0.65, 0.40])
    np.testing.assert_allclose(minimax_winner([[0.5, 0.8, 0.2], [0.2, 0.5, 0.8], [0.8, 0.2, 0.5]]).values, 1 / 3)


def test_a_clone_shares_the_mass_of_its_like() -> None:
    at = [0, 0, 1, 2]
    cloned = np.array(CYCLE)[np.ix_(at, at)]
    np.testing.assert_allclose(minimax_winner(cloned).values, [2 / 7, 2 / 7, 2 / 7, 1 / 7], atol=1e-9)
    at = [0, 1, 2, 2, 2]
    cloned = np.array(CYCLE)[np.ix_(at, at)]
    np.testing.assert_allclose(minimax_winner(cloned).values, [4 / 7, 2 / 7, *[1 / 21] * 3], atol=1e-9)


def test_of_many_lotteries_the_most_even() -> None:
    np.testing.assert_allclose(minimax_winner(np.full((4, 4), 0.5)).values, 0.25, atol=1e-9)
    # A and B are even and both beat C.
    np.testing.assert_allclose(
        minimax_winner([[0.5, 0.5, 0.8], [0.5, 0.5, 0.6], [0.2, 0.4, 0.5]]).values, [0.5, 0.5, 0], atol=1e-9
    )
    # A beats C by .1 and C beats B by .3: as even as C lets it be is (3, 1)/4.
    found = minimax_winner([[0.5, 0.5, 0.6], [0.5, 0.5, 0.2], [0.4, 0.8, 0.5]])
    np.testing.assert_allclose(found.values, [0.75, 0.25, 0], atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10_000), st.booleans())
def test_no_candidate_beats_the_lottery(n: int, seed: int, coarse: bool) -> None:
    random = np.random.default_rng(seed)
    p = random.choice([0.0, 0.5, 1.0], (n, n)) if coarse else random.random((n, n))
    p = np.triu(p, 1) + np.tril(1 - p.T, -1) + 0.5 * np.eye(n)
    found = minimax_winner(p)
    assert found.values.sum() == pytest.approx(1) and (found.values >= 0).all()
    assert found.payoffs.min() > -1e-7 and found.converged
    order = random.permutation(n)
    np.testing.assert_allclose(minimax_winner(p[np.ix_(order, order)]).values, found.values[order], atol=1e-6)


def test_a_matrix_of_bradley_terry_has_its_best_on_top() -> None:
    theta = np.random.default_rng(3).normal(size=9)
    found = minimax_winner(1 / (1 + np.exp(theta - theta[:, None])))
    assert found.values[theta.argmax()] == pytest.approx(1)


def test_what_nobody_compared_is_even_and_said_so() -> None:
    nan = float("nan")
    found = minimax_winner([[0.5, 0.9, nan], [0.1, 0.5, nan], [nan, nan, 0.5]])
    assert found.coverage == pytest.approx(1 / 3)
    np.testing.assert_allclose(found.values, [0.5, 0, 0.5], atol=1e-9)  # C is even with A
    one_side = minimax_winner([[0.5, nan], [0.2, 0.5]])
    assert one_side.values.tolist() == [1, 0]
    assert minimax_winner([[0.5]]).values.tolist() == [1]


def test_mallows() -> None:
    """n = 5, phi = .7: the moments in closed form are those of all 120 orders; drawn rankings give phi back."""
    centre, orders = [2, 0, 3, 1, 4], list(permutations(range(5)))
    p = np.exp(mallows_log_probability(orders, centre, 0.7))
    assert p.sum() == pytest.approx(1, abs=1e-12)
    drawn = draw_mallows(centre, 0.7, 4000, seed=1)
    found = mallows(drawn)
    assert found.order.tolist() == centre and found.exact and found.n == 4000
    assert found.value is not None and found.low is not None and found.high is not None
    assert found.low <= 0.7 <= found.high
    distance = [
        (mallows_log_probability([order], centre, 1.0) - mallows_log_probability([centre], centre, 1.0))[0]
        for order in orders
    ]
    assert -(p * distance).sum() == pytest.approx(2.457802, abs=1e-6)
    even = mallows(orders)
    assert (even.value, even.low) == (0.0, 0.0)
    assert mallows([centre] * 3).value is None
    np.testing.assert_allclose(np.exp(mallows_log_probability(orders, centre, 0.0)), 1 / 120)
    with pytest.raises(ValueError, match="whole rankings"):
        mallows([(0, 1), (0, 1, 2)])


def test_vectors_may_prefer_in_circles() -> None:
    """Unit vectors at 0, 120 and 240 degrees: s = sin 120 = .866025 each way round."""
    angle = np.deg2rad([0, 120, 240])
    vectors = np.column_stack([np.cos(angle), np.sin(angle)])
    s = preference_scores(vectors)
    assert [s[0, 1], s[1, 2], s[2, 0]] == pytest.approx([0.866025] * 3, abs=1e-6)
    np.testing.assert_allclose(s, -s.T)
    assert preference_probabilities(vectors)[0, 1] == pytest.approx(0.703918, abs=1e-6)
    p = preference_probabilities(vectors, scale=0.1)
    assert p[0, 1] == pytest.approx(0.999827, abs=1e-6)
    np.testing.assert_allclose(p + p.T, 1)
    np.testing.assert_allclose(minimax_winner(p).values, 1 / 3, atol=1e-9)
    # One block with an equal second coordinate is a difference of scores; a gate of 2 counts a block twice.
    r = np.array([0.3, -1.0, 2.0])
    np.testing.assert_allclose(preference_scores(np.column_stack([r, np.ones(3)])), r[:, None] - r)
    twice = preference_scores(np.hstack([vectors, vectors]), [0.5, 1.5])
    np.testing.assert_allclose(twice, 2 * s)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: copeland([[0, 1]]), "a row and a column for each"),
        (lambda: kemeny([[0, float("nan")], [1, 0]]), "finite numbers"),
        (lambda: schulze([[0, -1], [1, 0]]), "not negative"),
        (lambda: wins_of_comparisons([0], [0]), "one with itself"),
        (lambda: wins_of_comparisons([0.5], [1]), "whole numbers"),
        (lambda: wins_of_comparisons([0], [1], p=[float("nan")]), r"p must lie in \[0, 1\]"),
        (lambda: wins_of_comparisons([0], [1], [float("inf")]), "finite"),
        (lambda: wins_of_comparisons([], []), "nobody to compare"),
        (lambda: minimax_winner([[0.5, 1.2], [0, 0.5]]), r"lies in \[0, 1\]"),
        (lambda: minimax_winner(np.zeros((0, 0))), "a row and a column"),
        (lambda: contradicted(np.zeros((2, 2)), [0, 0]), "name each of the 2 once"),
        (lambda: preference_scores([[1.0, 2.0, 3.0]]), "even width"),
        (lambda: draw_mallows([0, 1], -1.0, 3), "not negative"),
    ],
)
def test_what_makes_no_sense(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_million_identical_votes() -> None:
    wins = wins_of_rankings(np.tile([[2, 0, 1]], (1_000_000, 1)))
    assert kemeny(wins).order.tolist() == [2, 0, 1]
    assert borda(wins).values.tolist() == [0.5, 0, 1]
    assert minimax_winner(shares(wins)).values.tolist() == [0, 0, 1]
