"""Annotator-aware Bradley-Terry: derivatives against differences, reductions, adversaries, coverage, and edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from prefdata.stats import annotator_bradley_terry, bradley_terry
from prefdata.stats.annotator_bradley_terry import _rows
from prefdata.stats.annotator_fit import climb
from prefdata.stats.annotator_likelihood import Kind, Priors, first, probability, second
from prefdata.stats.annotator_posterior import Posterior
from prefdata.stats.logistic import sigmoid

KINDS: list[Kind] = ["crowd", "noisy", "discrimination"]
Array = NDArray[np.float64]


def drawn(
    kind: Kind, theta: Array, ability: Array, bias: Array, rows: int, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Winners, losers, annotators, and where the winner stood."""
    random = np.random.default_rng(seed)
    n, w = len(theta), len(ability)
    i = random.integers(n, size=rows)
    j = (i + random.integers(1, n, size=rows)) % n
    by, side = np.arange(rows) % w, random.choice([-1, 1], size=rows)
    won = random.random(rows) < probability(kind, theta[i] - theta[j], ability[by], bias[by], side)
    return np.where(won, i, j), np.where(won, j, i), by, np.where(won, side, -side)


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_and_curvatures_are_those_of_the_probability(kind: Kind) -> None:
    """Central differences of log P in d, e and b."""
    random = np.random.default_rng(0)
    d, b, side = random.normal(0, 2, 50), random.normal(0, 1, 50), random.choice([-1.0, 0.0, 1.0], 50)
    e = random.normal(1, 1, 50) if kind == "discrimination" else random.uniform(0.05, 0.95, 50)
    h = 1e-5

    def log_p(d: Array, e: Array, b: Array) -> Array:
        return np.log(probability(kind, d, e, b, side))

    there, curve = first(kind, d, e, b, side), second(kind, d, e, b, side)
    np.testing.assert_allclose(there.value, log_p(d, e, b), atol=1e-12)
    np.testing.assert_allclose(there.d, (log_p(d + h, e, b) - log_p(d - h, e, b)) / (2 * h), atol=1e-7)
    np.testing.assert_allclose(there.e, (log_p(d, e + h, b) - log_p(d, e - h, b)) / (2 * h), atol=1e-7)
    up, down = first(kind, d + h, e, b, side), first(kind, d - h, e, b, side)
    np.testing.assert_allclose(curve.dd, (up.d - down.d) / (2 * h), atol=1e-6)
    np.testing.assert_allclose(curve.de, (up.e - down.e) / (2 * h), atol=1e-6)
    up, down = first(kind, d, e + h, b, side), first(kind, d, e - h, b, side)
    np.testing.assert_allclose(curve.ee, (up.e - down.e) / (2 * h), atol=1e-6)
    if there.b is None or up.b is None or down.b is None:
        assert kind == "crowd"
        return
    np.testing.assert_allclose(there.b, (log_p(d, e, b + h) - log_p(d, e, b - h)) / (2 * h), atol=1e-7)
    np.testing.assert_allclose(curve.eb, (up.b - down.b) / (2 * h), atol=1e-6)
    up, down = first(kind, d, e, b + h, side), first(kind, d, e, b - h, side)
    np.testing.assert_allclose(curve.db, (up.d - down.d) / (2 * h), atol=1e-6)
    np.testing.assert_allclose(curve.bb, (up.b - down.b) / (2 * h), atol=1e-6)


def a_posterior(kind: Kind) -> tuple[Posterior, Array]:
    random = np.random.default_rng(1)
    winner, loser, by, side = drawn(kind, random.normal(size=5), np.full(4, 0.8), random.normal(size=4), 60)
    position = None if kind == "crowd" else side
    p = random.choice([0.5, 0.8, 1.0], 60)
    fixed = np.array([np.nan, np.nan, np.nan, 0.7])
    _, posterior = _rows(winner, loser, by, p, random.uniform(0.5, 2, 60), position, 5, kind, 1.0, fixed)
    prior = (1.0, 0.5) if kind == "discrimination" else (4.0, 2.0)
    posterior = replace(posterior, priors=Priors(1.0, prior, 0.7))
    return posterior, random.normal(0, 0.5, len(posterior.start()))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_information_and_bend_of_the_posterior(kind: Kind) -> None:
    posterior, x = a_posterior(kind)
    h, size = 1e-5, len(x)
    _, gradient = posterior.value(x)
    differences = [(posterior.value(x + step)[0] - posterior.value(x - step)[0]) / (2 * h) for step in np.eye(size) * h]
    np.testing.assert_allclose(gradient, differences, atol=1e-6)
    hessian = np.array(
        [(posterior.value(x + step)[1] - posterior.value(x - step)[1]) / (2 * h) for step in np.eye(size) * h]
    )
    shared, own, cross = posterior._blocks(x)
    g, w, parts = posterior.shared, posterior.w, posterior.own
    np.testing.assert_allclose(shared, hessian[:g, :g], atol=1e-5)
    order = np.arange(parts * w).reshape(parts, w).T.ravel() + g  # annotator by annotator
    np.testing.assert_allclose(cross.toarray(), hessian[:g][:, order], atol=1e-5)
    for at in range(w - 1):  # the last one's ability is fixed
        where = order[at * parts : (at + 1) * parts]
        np.testing.assert_allclose(own[at], hessian[np.ix_(where, where)], atol=1e-5)

    def log_det(x: Array) -> float:
        return -0.5 * float(np.log(np.abs(np.linalg.det(posterior._own(x, posterior._second(x))))).sum())

    bend = posterior.bend(x, posterior.own_inverse(x))
    free = np.setdiff1d(np.arange(size), [g + w - 1, *([] if parts == 1 else [posterior.n])])
    slope = np.array([(log_det(x + s) - log_det(x - s)) / (2 * h) for s in np.eye(size) * h])
    np.testing.assert_allclose(bend[free], slope[free], atol=1e-5)


def test_eliminated_information_is_the_inverse_of_the_whole() -> None:
    random = np.random.default_rng(2)
    winner, loser, by, side = drawn("discrimination", random.normal(size=6), np.ones(3), np.zeros(3), 900)
    _, posterior = _rows(winner, loser, by, None, None, side, 6, "discrimination", 1.0, None)
    x, _ = climb(posterior, posterior.start(), 100)
    h, size = 1e-5, len(x)
    hessian = np.array([(posterior.value(x + s)[1] - posterior.value(x - s)[1]) / (2 * h) for s in np.eye(size) * h])
    whole, found = np.linalg.inv(hessian), posterior.information(x)
    np.testing.assert_allclose(found.shared, whole[:7, :7], atol=1e-6)
    np.testing.assert_allclose(posterior.own_covariance(found).T.ravel(), np.diag(whole)[7:], atol=1e-6)
    gradient = random.normal(size=size)
    np.testing.assert_allclose(posterior.step(found, gradient), -whole @ gradient, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_bradley_terry_where_everybody_is_able(kind: Kind) -> None:
    winner, loser, by, _ = drawn("crowd", np.array([1.0, 0.3, 0, -1]), np.array([0.95, 0.8]), np.zeros(2), 300)
    p = np.where(np.arange(300) % 7 == 0, 0.5, 1.0)
    plain = bradley_terry(winner, loser, p=p, n=5, prior=1.0)
    found = annotator_bradley_terry(winner, loser, by, p=p, n=5, model=kind, prior=1.0, abilities=[1.0, 1.0])
    np.testing.assert_allclose(found.values, plain.values, atol=1e-5)
    assert found.covariance is not None
    np.testing.assert_allclose(found.covariance, plain.covariance, atol=1e-4)
    assert found.converged and found.abilities.tolist() == found.ability_low.tolist() == [1.0, 1.0]
    assert found.components.tolist() == [0, 0, 0, 0, 1]
    difference = found.difference(0, 3)
    assert difference.low is not None and difference.value is not None
    assert difference.low < difference.value == found.values[0] - found.values[3]


def test_guessing_without_sides_is_the_crowd_model() -> None:
    """e A + (1 - e)/2 = e' A + (1 - e')(1 - A) with e' = (1 + e)/2."""
    d, e = np.linspace(-3, 3, 7), np.linspace(0.1, 0.9, 7)
    nothing = np.zeros(7)
    crowd = probability("crowd", d, (1 + e) / 2, nothing, nothing)
    np.testing.assert_allclose(probability("noisy", d, e, nothing, nothing), crowd, atol=1e-15)


def test_adversaries_are_turned_about() -> None:
    """Six perfect adversaries of twenty, with a hundred verdicts each: plain Bradley-Terry orders worse."""
    theta = np.random.default_rng(0).normal(0, 1.5, 12)
    ability = np.r_[np.zeros(6), np.ones(14)]
    winner, loser, by, _ = drawn("crowd", theta, ability, np.zeros(20), 2000)
    for kind in ("crowd", "discrimination"):
        found = annotator_bradley_terry(winner, loser, by, model=kind)  # type: ignore[arg-type]
        assert found.converged
        limit = 0.5 if kind == "crowd" else 0.0
        assert found.ability_high[:6].max() < limit < found.ability_low[6:].min()
        plain = bradley_terry(winner, loser, prior=1.0)
        assert spearmanr(found.values, theta)[0] > 0.97
        assert np.abs(found.values - (theta - theta.mean())).mean() < np.abs(plain.values - theta + theta.mean()).mean()


def test_common_and_own_pull_to_the_first() -> None:
    theta = np.random.default_rng(0).normal(0, 1, 10)
    bias = np.r_[np.full(10, 0.3), np.full(10, 0.9)]
    winner, loser, by, side = drawn("discrimination", theta, np.ones(20), bias, 8000)
    found = annotator_bradley_terry(winner, loser, by, position=side, model="discrimination")
    assert found.position == pytest.approx(0.6, abs=0.12)
    assert ((found.position_low <= bias) & (bias <= found.position_high)).mean() >= 0.85
    swapped = annotator_bradley_terry(winner, loser, by, position=-side, model="discrimination")
    np.testing.assert_allclose(swapped.positions, -found.positions, atol=1e-3)
    np.testing.assert_allclose(swapped.values, found.values, atol=1e-3)
    first_said = found.predict([0], [1], [15], 1)[0]
    d = found.values[0] - found.values[1]
    assert first_said == pytest.approx(float(sigmoid(found.abilities[15] * d + found.positions[15])))
    both = found.predict([0, 1], [1, 0], None, [1, -1])
    assert both.sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_small_coverage(kind: Kind) -> None:
    """20 draws of everything from its prior: 95 % intervals hold strengths and abilities in 87 to 99.5 %."""
    strengths, abilities = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        theta = random.normal(0, 1, 20)
        ability = random.normal(1, 0.5, 20) if kind == "discrimination" else random.beta(6, 3, 20)
        bias = random.normal(0.2, 0.5, 20) if kind != "crowd" else np.zeros(20)
        winner, loser, by, side = drawn(kind, theta, ability, bias, 6000, seed)
        found = annotator_bradley_terry(
            winner, loser, by, position=None if kind == "crowd" else side, model=kind,
            ability_prior=None if kind == "discrimination" else (6.0, 3.0),
        )  # fmt: skip
        assert found.converged
        theta = theta - theta.mean()
        strengths.append((found.low <= theta) & (theta <= found.high))
        abilities.append((found.ability_low <= ability) & (ability <= found.ability_high))
    assert 0.87 <= np.mean(strengths) <= 0.995 and 0.87 <= np.mean(abilities) <= 0.995


def test_estimated_priors_come_near_those_that_were_drawn_from() -> None:
    random = np.random.default_rng(0)
    winner, loser, by, _ = drawn("crowd", random.normal(0, 1.5, 15), random.beta(6, 3, 60), np.zeros(60), 12_000)
    found = annotator_bradley_terry(winner, loser, by, ability_prior="estimate")
    yes, no = found.ability_prior
    assert found.converged and yes / (yes + no) == pytest.approx(2 / 3, abs=0.06) and 4 < yes + no < 20


class TestEdges:
    """A right answer, or a sentence."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_perfect_separation_and_one_annotator(self, kind: Kind) -> None:
        found = annotator_bradley_terry([0, 0, 1] * 20, [1, 2, 2] * 20, ["a"] * 60, model=kind)
        assert found.converged and found.values[0] > found.values[1] > found.values[2]
        assert np.isfinite([found.low, found.high]).all()

    @pytest.mark.parametrize("kind", KINDS)
    def test_all_ties(self, kind: Kind) -> None:
        found = annotator_bradley_terry([0, 1], [1, 2], ["a", "b"], p=[0.5, 0.5], model=kind)
        np.testing.assert_allclose(found.values, 0, atol=1e-6)
        assert found.converged and (found.low < 0).all() and (found.high > 0).all()

    def test_a_million_times_the_same(self) -> None:
        size = 1_000_000
        found = annotator_bradley_terry(np.zeros(size, np.int64), np.ones(size, np.int64), np.zeros(size, np.int32))
        one = annotator_bradley_terry([0], [1], ["a"], weights=[float(size)])
        assert found.converged and found.values[0] > 3
        np.testing.assert_allclose(found.values, one.values, rtol=1e-4)

    def test_two_islands(self) -> None:
        found = annotator_bradley_terry([0, 2], [1, 3], ["a", "a"])
        assert found.components.tolist() == [0, 0, 1, 1]
        assert found.difference(0, 2).value == pytest.approx(0, abs=1e-6)

    def test_many_contestants_have_no_intervals(self) -> None:
        found = annotator_bradley_terry([0, 1, 0], [1, 2, 2], ["a"] * 3, n=4001)
        assert np.isnan(found.low).all() and found.covariance is None and found.converged
        assert found.difference(0, 1).low is None and np.isnan(found.ability_low).all()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (([], [], []), "a winner, a loser"),
            (([0], [0], ["a"]), "with itself"),
            (([0], [1], ["a", "b"]), "a winner, a loser"),
            (([0.5], [1], ["a"]), "integers"),
            (([0], [-1], ["a"]), r"lie in \[0"),
            (([0], [1], [None]), "annotator 0 is missing"),
        ],
    )
    def test_refused_rows(self, arguments: tuple[list[int], list[int], list[str]], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            annotator_bradley_terry(*arguments)

    @pytest.mark.parametrize(
        "named",
        [
            {"p": [1.5]}, {"p": [np.nan]}, {"weights": [-1.0]}, {"weights": [np.inf]}, {"position": [2]},
            {"prior": 0.0},
            {"position": [1]}, {"abilities": [2.0]}, {"abilities": [0.5, 0.5]}, {"ability_prior": (1.0, 0.0)},
            {"ability_prior": (0.0, 1.0)}, {"position_prior": 0.0}, {"model": "davidson"}, {"confidence": 0.0},
        ],
    )  # fmt: skip
    def test_refused_arguments(self, named: dict[str, object]) -> None:
        with pytest.raises(ValueError):
            annotator_bradley_terry([0], [1], ["a"], **named)  # type: ignore[arg-type]
