"""Bradley-Terry: numbers worked out by hand or by another optimiser, and what must not change the answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats import DEFAULT_PRIOR, bradley_terry, bradley_terry_batch

# Three models: A-B 3:1, B-C 2:2, A-C 4:1.
WINNERS = [0, 0, 0, 1, 1, 1, 2, 2, 0, 0, 0, 0, 2]
LOSERS = [1, 1, 1, 0, 2, 2, 1, 1, 2, 2, 2, 2, 0]


def test_three_models() -> None:
    fit = bradley_terry(WINNERS, LOSERS)
    np.testing.assert_allclose(fit.values, [0.832497, -0.376119, -0.456378], atol=1e-6)
    np.testing.assert_allclose(400 / np.log(10) * fit.values + 1000, [1144.619582, 934.661427, 920.718991], atol=1e-5)
    assert fit.probability(0, 1) == pytest.approx(0.770054, abs=1e-6)
    assert fit.converged and fit.prior == 0 and set(fit.components.tolist()) == {0}


def test_two_models_are_the_logit_of_the_share() -> None:
    fit = bradley_terry([0, 0, 0, 1], [1, 1, 1, 0])
    assert fit.values[0] - fit.values[1] == pytest.approx(np.log(3))
    assert 400 / np.log(10) * (fit.values[0] - fit.values[1]) == pytest.approx(190.848502, abs=1e-6)
    assert fit.gradient < 1e-12 and fit.steps < 10  # a certificate, not a claim, that this is the maximum
    # Information of the difference: 4 * .75 * .25; the sandwich agrees, as the outcomes are hard.
    assert fit.difference_error(0, 1) == pytest.approx(0.75**-0.5)
    assert bradley_terry([0, 0, 0, 1], [1, 1, 1, 0], robust=True).difference_error(0, 1) == pytest.approx(0.75**-0.5)


def test_ties_are_known_better_than_half_wins() -> None:
    plain = bradley_terry([0] * 8, [1] * 8, p=[0.5] * 8)
    assert plain.values.tolist() == [0.0, 0.0]
    assert plain.difference_error(0, 1) == pytest.approx(2**-0.5)
    assert bradley_terry([0] * 8, [1] * 8, p=[0.5] * 8, robust=True).difference_error(0, 1) == 0


def test_two_unanimous_votes_with_the_prior() -> None:
    # The difference d solves 2 sigma(-d) = tanh(d / 4) / 2.
    fit = bradley_terry([0, 0], [1, 1])
    d = fit.values[0] - fit.values[1]
    assert fit.prior == DEFAULT_PRIOR
    assert 2 / (1 + np.exp(d)) == pytest.approx(np.tanh(d / 4) / 2)
    assert fit.components.tolist() == [0, 1]


def test_what_is_not_connected_is_said_so() -> None:
    fit = bradley_terry([0, 1, 2, 3], [1, 0, 3, 2], n=5)
    assert fit.components.tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(ValueError, match="3 strongly connected"):
        bradley_terry([0, 1, 2, 3], [1, 0, 3, 2], n=5, prior=0)


def test_bound_of_the_prior_and_large_votes() -> None:
    fit = bradley_terry([0, 1], [1, 2], weights=[1e6, 1e6], prior=0.01)
    assert fit.converged
    assert fit.values[0] > fit.values[1] > fit.values[2]
    assert np.isfinite(fit.covariance).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [0]), "itself"),
        (([0, 1], [1]), "one length"),
        (([0.0], [1.0]), "integers"),
        (([0], [1], [-1.0]), "weights"),
        (([], []), "no contestant"),
        (([0], [-1]), r"\[0, 1\)"),
    ],
)
def test_senseless_arguments_are_refused(arguments: tuple[list[float], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bradley_terry(*arguments)


def test_probabilities_out_of_range_are_refused() -> None:
    for p in (1.1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="probability"):
            bradley_terry([0], [1], p=[p])


def climbed(wins: np.ndarray, prior: float) -> np.ndarray:
    """The maximum by Hunter's minorisation-maximisation with the virtual opponent as one more contestant."""
    n = len(wins)
    table = np.zeros((n + 1, n + 1))
    table[:n, :n] = wins
    table[n, :n] = table[:n, n] = prior / 2
    strength = np.ones(n + 1)
    for _ in range(20000):
        games = (table + table.T) / np.add.outer(strength, strength)
        np.fill_diagonal(games, 0)
        new = table.sum(axis=1) / games.sum(axis=1)
        new /= new[n]
        if np.abs(np.log(new / strength)).max() < 1e-13:
            break
        strength = new
    theta = np.log(strength[:n])
    return theta - theta.mean()


tables = st.integers(2, 5).flatmap(
    lambda n: st.lists(
        st.tuples(st.integers(0, n - 1), st.integers(1, n - 1), st.integers(0, 10), st.integers(1, 3)), max_size=12
    ).map(lambda rows: (n, [(i, (i + k) % n, p / 10, w) for i, k, p, w in rows]))
)


@given(tables)
@settings(max_examples=60, deadline=None)
def test_newton_finds_what_another_algorithm_finds(problem: tuple[int, list[tuple[int, int, float, int]]]) -> None:
    n, rows = problem
    wins = np.zeros((n, n))
    for i, j, p, w in rows:
        wins[i, j] += w * p
        wins[j, i] += w * (1 - p)
    first, second, p, w = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    fit = bradley_terry(first, second, w, p=p, n=n, prior=1.0)
    assert fit.converged
    np.testing.assert_allclose(fit.values, climbed(wins, 1.0), atol=1e-8)
    assert fit.values.sum() == pytest.approx(0, abs=1e-9)


@given(tables, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_names_and_order_of_rows_do_not_matter(problem, random) -> None:  # type: ignore[no-untyped-def]
    n, rows = problem
    new = list(range(n))
    random.shuffle(new)
    shuffled = [(new[j], new[i], 1 - p, w) if random.random() < 0.5 else (new[i], new[j], p, w) for i, j, p, w in rows]
    random.shuffle(shuffled)

    def fit(votes: list[tuple[int, int, float, int]]) -> np.ndarray:
        first, second, p, w = (list(column) for column in zip(*votes, strict=True)) if votes else ([], [], [], [])
        return bradley_terry(first, second, w, p=p, n=n, prior=0.5).values

    np.testing.assert_allclose(fit(shuffled)[new], fit(rows), atol=1e-9)


def test_duplicating_every_vote_changes_errors_but_not_strengths() -> None:
    once, twice = bradley_terry(WINNERS, LOSERS), bradley_terry(WINNERS * 2, LOSERS * 2)
    np.testing.assert_allclose(once.values, twice.values, atol=1e-12)
    np.testing.assert_allclose(once.covariance, 2 * twice.covariance, atol=1e-12)
    # With a prior they must change: more votes say more.
    assert (
        bradley_terry(WINNERS * 2, LOSERS * 2, prior=1.0).values[0]
        > bradley_terry(WINNERS, LOSERS, prior=1.0).values[0]
    )


def test_the_covariance_is_that_of_a_logistic_regression() -> None:
    fit = bradley_terry(WINNERS, LOSERS)
    rows = np.zeros((len(WINNERS), 3))
    rows[np.arange(len(WINNERS)), WINNERS] = 1
    rows[np.arange(len(WINNERS)), LOSERS] = -1
    p = 1 / (1 + np.exp(-rows @ fit.values))
    np.testing.assert_allclose(fit.covariance, np.linalg.pinv(rows.T @ np.diag(p * (1 - p)) @ rows), atol=1e-10)
    meat = rows.T @ np.diag((1 - p) ** 2) @ rows
    np.testing.assert_allclose(
        bradley_terry(WINNERS, LOSERS, robust=True).covariance, fit.covariance @ meat @ fit.covariance, atol=1e-10
    )


def test_a_batch_is_its_problems() -> None:
    wins = np.random.default_rng(0).integers(0, 4, (50, 4, 4)).astype(float)
    together, covariance, converged = bradley_terry_batch(wins)
    assert converged.all()
    for place in range(50):
        alone, spread, _ = bradley_terry_batch(wins[place : place + 1])
        assert alone[0].tobytes() == together[place].tobytes()  # bit by bit: other groups must not move a digit
        assert spread[0].tobytes() == covariance[place].tobytes()


def test_symmetric_votes_give_equal_strengths_exactly() -> None:
    wins = np.array([[[0, 2, 2], [2, 0, 2], [2, 2, 0]]], dtype=float)
    assert bradley_terry_batch(wins)[0].tolist() == [[0.0, 0.0, 0.0]]
