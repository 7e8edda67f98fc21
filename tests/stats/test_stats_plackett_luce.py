"""Plackett-Luce: hand-computed numbers, derivatives by differences, laws, and what has no answer."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats import bradley_terry, plackett_luce, plackett_luce_log_probability
from prefdata.stats.ballots import ballots
from prefdata.stats.plackett_luce import _Model

MIXED: list[Any] = [(1, (0, 2, 3), 4), ((0, 4), 2), (3, (1, 2)), ((0, 1), (2, 3, 4)), (2, 1, 0), (4,), ((2, 3),)]


def drawn(theta: Any, m: int, k: int, seed: int = 0) -> Any:
    """[m, k] rankings of k drawn contestants."""
    random = np.random.default_rng(seed)
    n = len(theta)
    among = np.argsort(random.random((m, n)), axis=1)[:, :k]
    order = np.argsort(-(np.asarray(theta)[among] + random.gumbel(size=among.shape)), axis=1)
    return np.take_along_axis(among, order, axis=1)


def test_log_probability_by_hand() -> None:
    """theta (1, .5, 0): -(log(1 + e^-.5 + e^-1) + log(1 + e^-.5)) = -1.154347."""
    (found,) = plackett_luce_log_probability([(0, 1, 2)], [1, 0.5, 0])
    assert found == pytest.approx(-1.154347, abs=1e-6)
    assert plackett_luce_log_probability([(), (2,), ((0, 1),)], [1, 0.5, 0]).tolist() == [0, 0, 0]


def test_probabilities_of_all_orders_sum_to_one() -> None:
    theta = [0.3, -1.0, 0.7, 2.0]
    orders = list(permutations(range(4)))
    assert np.exp(plackett_luce_log_probability(orders, theta)).sum() == pytest.approx(1, abs=1e-12)
    # A top two is the sum over the orders of the rest.
    (top,) = plackett_luce_log_probability([(2, 0, (1, 3))], theta)
    whole = plackett_luce_log_probability([(2, 0, 1, 3), (2, 0, 3, 1)], theta)
    assert np.exp(top) == pytest.approx(np.exp(whole).sum(), abs=1e-12)


@pytest.mark.parametrize("scale", [0.1, 1.0, 12.0])
def test_ties_are_the_sum_or_the_mean_over_orders(scale: float) -> None:
    theta = scale * np.array([0.3, -1.0, 0.7, 2.0, -0.4])
    tied = [(1, (0, 2, 3), 4)]
    each = plackett_luce_log_probability([(1, *order, 4) for order in permutations((0, 2, 3))], theta)
    assert plackett_luce_log_probability(tied, theta)[0] == pytest.approx(
        np.logaddexp.reduce(each), rel=1e-12, abs=1e-12
    )
    assert plackett_luce_log_probability(tied, theta, ties="half")[0] == pytest.approx(each.mean(), rel=1e-12)


@pytest.mark.parametrize("ties", ["unknown", "half"])
@pytest.mark.parametrize("last", ["unranked", "tied"])
def test_derivatives_by_differences(ties: Any, last: str) -> None:
    theta = np.array([0.3, -1.0, 0.7, 2.0, -0.4])
    rankings, n = ballots(MIXED, np.random.default_rng(0).random(7))
    model = _Model(rankings, n, ties, last == "unranked")
    value, gradient, information = model.derivatives(theta, 0.7)
    assert value == pytest.approx(model.objective(theta, 0.7), abs=1e-12)
    step = 1e-5 * np.eye(5)
    slopes = [(model.objective(theta + e, 0.7) - model.objective(theta - e, 0.7)) / 2e-5 for e in step]
    bends = [(model.derivatives(theta + e, 0.7)[1] - model.derivatives(theta - e, 0.7)[1]) / 2e-5 for e in step]
    np.testing.assert_allclose(gradient, slopes, atol=1e-8)
    np.testing.assert_allclose(-information, bends, atol=1e-8)
    assert np.linalg.eigvalsh(information).min() > 0  # concave


def test_of_two_it_is_bradley_terry() -> None:
    random = np.random.default_rng(1)
    pairs = drawn([1.0, 0.2, -0.5, 0.0], 300, 2)
    weights = random.random(300)
    for prior, robust in ((None, False), (0.5, False), (None, True)):
        ours = plackett_luce(pairs, weights=weights, prior=prior, robust=robust)
        theirs = bradley_terry(pairs[:, 0], pairs[:, 1], weights, prior=prior, robust=robust)
        np.testing.assert_allclose(ours.values, theirs.values, atol=1e-9)
        np.testing.assert_allclose(ours.covariance, theirs.covariance, atol=1e-9)
    # A choice of one among two is the same comparison, and a tie by halves is half a win each.
    choices = [(a, (b,)) for a, b in pairs.tolist()]
    np.testing.assert_allclose(plackett_luce(choices).values, plackett_luce(pairs).values, atol=1e-10)
    tied = [*map(tuple, pairs.tolist()), ((0, 1),), ((2, 3),)]
    first, second = zip(*pairs.tolist(), (0, 1), (2, 3), strict=True)
    halves = bradley_terry(first, second, p=[1.0] * 300 + [0.5, 0.5])
    np.testing.assert_allclose(plackett_luce(tied, ties="half", last="tied").values, halves.values, atol=1e-9)


def test_choices_of_one_among_three_by_hand() -> None:
    """From all of three, the shares of the choices are the probabilities: log(.5), log(.3), log(.2), sum zero."""
    choices = [(0, (1, 2))] * 5 + [(1, (0, 2))] * 3 + [(2, (1, 0))] * 2
    wanted = np.log([0.5, 0.3, 0.2])
    fit = plackett_luce(choices)
    np.testing.assert_allclose(fit.values, wanted - wanted.mean(), atol=1e-10)
    assert (fit.converged, fit.prior, fit.n) == (True, 0.0, 10)
    assert fit.gradient < 1e-9
    assert fit.log_likelihood == pytest.approx(5 * np.log(0.5) + 3 * np.log(0.3) + 2 * np.log(0.2), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 50))
def test_names_and_order_of_rankings_do_not_matter(names: list[int], seed: int) -> None:
    rankings = drawn([0.5, 0.0, -0.5, 1.0, 0.2], 40, 3, seed)
    fit = plackett_luce(rankings, prior=0.3)
    renamed = plackett_luce(np.array(names)[rankings][::-1].copy(), prior=0.3)
    np.testing.assert_allclose(renamed.values[names], fit.values, atol=1e-8)
    assert fit.values.sum() == pytest.approx(0, abs=1e-9)


def test_equal_rankings_are_weights() -> None:
    rankings = [(0, 1, 2), (2, 1, 0), (1, (0, 2)), (1, 2, 0)]
    once = plackett_luce(rankings, weights=[3, 1, 2, 1], robust=True)
    often = plackett_luce([r for r, k in zip(rankings, (3, 1, 2, 1), strict=True) for _ in range(k)], robust=True)
    np.testing.assert_allclose(once.values, often.values, atol=1e-10)
    # Nine independent scores are not one score of weight three: the sandwich tells them apart.
    assert once.covariance[0, 0] > often.covariance[0, 0]
    nothing = plackett_luce([*rankings, (0, 2, 1)], weights=[3, 1, 2, 1, 0])
    np.testing.assert_allclose(nothing.values, once.values, atol=1e-10)


def test_the_sandwich_of_clusters() -> None:
    rankings = drawn([0.5, 0.0, -0.5, 1.0], 200, 3)
    alone = plackett_luce(rankings, robust=True)
    each = plackett_luce(rankings, clusters=np.arange(200))
    np.testing.assert_allclose(each.covariance, alone.covariance, atol=1e-12)
    # Everybody said everything twice: twice the votes, and no more knowledge.
    twice = plackett_luce(np.vstack([rankings, rankings]), clusters=[*range(200), *range(200)])
    np.testing.assert_allclose(twice.covariance, alone.covariance, atol=1e-9)
    named = plackett_luce(rankings, clusters=[f"w{i}" for i in range(200)])
    np.testing.assert_allclose(named.covariance, alone.covariance, atol=1e-12)


def test_intervals_cover() -> None:
    theta = np.array([1.0, 0.5, 0.0, -0.5, -1.0])
    covered, differences = [], []
    for seed in range(100):
        fit = plackett_luce(drawn(theta, 60, 3, seed))
        covered.append((fit.low <= theta) & (theta <= fit.high))
        difference = fit.difference(0, 4)
        assert difference.low is not None and difference.high is not None
        differences.append(difference.low <= 2.0 <= difference.high)
    assert 0.91 <= np.mean(covered) <= 0.985
    assert 0.88 <= np.mean(differences) <= 1.0


def test_where_no_maximum_exists() -> None:
    separated = [(0, 1, 2)] * 4
    with pytest.raises(ValueError, match=r"falls into 3 strongly connected components"):
        plackett_luce(separated, prior=0)
    fit = plackett_luce(separated)
    assert (fit.prior, fit.components.tolist(), fit.converged) == (1.0, [0, 1, 2], True)
    assert fit.values[0] > fit.values[1] > fit.values[2]
    apart = plackett_luce([(0, 1), (1, 0), (2, 3), (3, 2)])
    assert apart.components.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(apart.values, 0, atol=1e-12)
    # Of those who only share the last place nothing is known; by halves they are equal.
    assert plackett_luce([((0, 1, 2),)], n=3).components.tolist() == [0, 1, 2]
    assert plackett_luce([((0, 1, 2),)], ties="half", last="tied").components.tolist() == [0, 0, 0]


def test_the_smallest_and_the_largest() -> None:
    assert plackett_luce([(0,)]).values.tolist() == [0.0]
    assert plackett_luce([], n=2).values.tolist() == [0.0, 0.0]
    million = plackett_luce(np.tile([[0, 1, 2]], (1_000_000, 1)))
    assert (million.converged, million.prior) == (True, 1.0)
    assert np.isfinite(million.covariance).all()
    both = plackett_luce([(0, 1, 2), (2, 1, 0)], weights=[1e6, 1.0])
    assert both.converged
    assert both.probability(0, 2) > 0.999


@pytest.mark.parametrize(
    ("rankings", "options", "sentence"),
    [
        ([(0, 1), (0, 0)], {}, "ranking 1 holds somebody twice"),
        ([(0, 1), (0, 5, 1)], {"n": 3}, r"ranking 1 holds a number outside \[0, 3\)"),
        ([(0, -1)], {}, "outside"),
        ([(0, 1.5), (1, 0, 2)], {}, "whole numbers"),
        ([[0.0, float("nan")]], {}, "whole numbers"),
        ([(0, None)], {}, "whole numbers"),
        ([], {}, "nobody to rank"),
        ([(0, 1)], {"weights": [float("nan")]}, "finite weight"),
        ([(0, 1)], {"weights": [-1]}, "finite weight"),
        ([(0, 1)], {"weights": [1, 1]}, "finite weight"),
        ([(0, 1)], {"prior": -1}, "prior"),
        ([(0, 1)], {"prior": float("inf")}, "prior"),
        ([(0, 1)], {"ties": "maybe"}, "ties are unknown or half"),
        ([(0, 1)], {"confidence": 1.0}, "confidence"),
        ([(0, 1)], {"clusters": [1, 2]}, "one cluster for each"),
        ([(tuple(range(12)), 12)], {"ties": "half"}, "at most 10"),
    ],
)
def test_what_makes_no_sense(rankings: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        plackett_luce(rankings, **options)
