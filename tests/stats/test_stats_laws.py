"""Laws that every estimator keeps: no order of rows, no names, no side that comes first; and intervals that cover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from prefdata import stats
from prefdata.stats.logistic import sigmoid

RANDOM = np.random.default_rng(0)
M = 120
FIRST = RANDOM.integers(0, 5, M)
SECOND = (FIRST + RANDOM.integers(1, 5, M)) % 5
P, TIMES, WHO = RANDOM.choice([1.0, 1, 1, 0.5, 0], M), RANDOM.integers(1, 4, M), RANDOM.integers(0, 4, M)
ORDER, AGAIN = RANDOM.permutation(M), np.repeat(np.arange(M), TIMES)
RANKINGS = np.array([RANDOM.permutation(5) for _ in range(M)])
FIELDS = ("values", "value", "low", "high", "abilities", "ability_low", "ability_high", "covariance", "cyclicity")

Fit = Callable[..., Any]
BY_PAIRS: dict[str, Fit] = {
    ties: lambda rows, w, ties=ties: stats.bradley_terry(FIRST[rows], SECOND[rows], w, p=P[rows], ties=ties)
    for ties in ("half", "davidson", "rao-kupper")
} | {
    model: lambda rows, w, model=model: stats.annotator_bradley_terry(
        FIRST[rows], SECOND[rows], WHO[rows], p=P[rows], weights=w, model=model
    )
    for model in ("crowd", "noisy", "discrimination")
}
BY_PAIRS |= {
    "plackett_luce": lambda rows, w: stats.plackett_luce(RANKINGS[rows], weights=w),
    "mallows": lambda rows, w: stats.mallows(RANKINGS[rows], w),
    "hodge_rank": lambda rows, w: stats.hodge_rank(FIRST[rows], SECOND[rows], w, p=P[rows], resamples=9),
    "joint_model": lambda rows, w: stats.joint_model(FIRST[rows], SECOND[rows], WHO[rows], p=P[rows], weights=w),
}


def same(one: Any, other: Any, within: float) -> None:
    for field in FIELDS:
        found, again = (np.asarray(getattr(fit, field, None), dtype=np.float64) for fit in (one, other))
        np.testing.assert_allclose(found, again, atol=within, err_msg=field)


@pytest.mark.parametrize("name", BY_PAIRS)
def test_rows_have_no_order_and_a_weight_is_a_repetition(name: str) -> None:
    fit, within = BY_PAIRS[name], 1e-3 if name in ("crowd", "noisy", "discrimination", "joint_model") else 1e-6
    whole = fit(np.arange(M), TIMES.astype(float))
    same(whole, fit(ORDER, TIMES[ORDER].astype(float)), within)
    same(whole, fit(AGAIN, None), within)


def test_what_says_that_a_weight_is_none() -> None:
    """A win rate knows that a weighted verdict is one verdict: another scale of the weights changes nothing."""
    same(stats.win_rate(P, TIMES * 1.0), stats.win_rate(P, TIMES * 100.0), 1e-12)
    repeated = stats.win_rate(P[AGAIN])
    weighted = stats.win_rate(P, TIMES * 1.0)
    assert weighted.value == pytest.approx(repeated.value) and weighted.low < repeated.low


def test_one_row_that_weighs_all_leaves_the_rate_open() -> None:
    found = stats.win_rate([1, 0, 1, 0], [1e9, 1, 1, 1])
    assert (found.low, found.high) == (pytest.approx(0, abs=0.1), 1.0)


@pytest.mark.parametrize("measure", [stats.krippendorff_alpha, stats.fleiss_kappa, stats.gwet_ac1])
def test_units_that_all_agree_leave_the_coefficient_open(measure: Fit) -> None:
    few, many = (measure(np.repeat(np.arange(n), 2), [0, 1] * n, np.repeat(np.arange(n) % 2, 2)) for n in (4, 400))
    assert few.value == many.value == 1 == few.high and few.low < 0.1 and 0.97 < many.low < 1
    kappa = stats.cohen_kappa([0, 1] * 200, [0, 1] * 200)
    assert kappa.low == pytest.approx(1 - 2 * (1 - stats.wilson_interval(400, 400)[0])) and kappa.high == 1
    order = stats.order_agreement([1, -1] * 200, [1, -1] * 200)
    assert order.low == pytest.approx(kappa.low) and order.value == 1


def test_rankings_that_all_agree_are_as_unsure_as_pairs_are() -> None:
    """A sandwich of scores without spread claimed to know what five rankings cannot say."""
    ranked, paired = stats.plackett_luce([[0, 1]] * 5, robust=True), stats.bradley_terry([0] * 5, [1] * 5, robust=True)
    np.testing.assert_allclose(ranked.low, paired.low, atol=1e-6)


@pytest.mark.parametrize("weight", [1e12, 1e15, 1e20, 1e90])
def test_weights_beyond_a_prior_are_a_fit_without_it(weight: float) -> None:
    """Standard errors of 0, or a singular matrix, where the prior was lost in rounding."""
    rows, votes = ([0, 1, 0, 2, 1, 2], [1, 0, 2, 0, 2, 1]), np.array([3.0, 2, 1, 3, 4, 1])
    free = stats.bradley_terry(*rows, votes, prior=0)
    fit = stats.bradley_terry(*rows, votes * weight, prior=1.0)
    np.testing.assert_allclose(fit.values, free.values, atol=1e-9)
    np.testing.assert_allclose(fit.standard_errors * np.sqrt(weight), free.standard_errors, rtol=1e-3)
    table = np.array([[0, 3, 1.0], [2, 0, 4], [3, 1, 0]])
    values, covariance, converged = stats.bradley_terry_batch(table[None] * weight)
    np.testing.assert_allclose(values[0], free.values, atol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance[0]) * weight), free.standard_errors, rtol=1e-3)
    assert converged.all() and stats.plackett_luce(RANKINGS, weights=np.full(M, weight), prior=1.0).converged


def test_apart_and_beyond_the_prior_is_said() -> None:
    with pytest.raises(ValueError, match="the prior, which alone holds"):
        stats.bradley_terry([0, 1, 2, 3], [1, 0, 3, 2], np.full(4, 1e16))


def covered(fit: Callable[[np.random.Generator], Any], truth: Any, draws: int = 200) -> float:
    """How often the interval holds the truth, on average over what it is of."""
    hits = []
    for seed in range(draws):
        found = fit(np.random.default_rng(seed))
        low, high = np.asarray([found.low, found.high], dtype=np.float64)
        hits.append(np.mean((low <= truth) & (truth <= high)))
    return float(np.mean(hits))


def votes_of(random: np.random.Generator) -> Any:
    truth = random.integers(0, 3, 60)
    said = np.stack([np.where(random.random(60) < 0.8, truth, random.integers(0, 3, 60)) for _ in range(2)], axis=1)
    return np.repeat(np.arange(60), 2), [0, 1] * 60, said.ravel()


def few_prompts(random: np.random.Generator) -> Any:
    rate = random.beta(2, 1, 8)
    return stats.win_rate((random.random((8, 4)) < rate[:, None]).ravel(), clusters=np.repeat(np.arange(8), 4))


def scaled(random: np.random.Generator) -> Any:
    x = random.normal(0, 2, 200)
    return stats.temperature(x, (random.random(200) < sigmoid(x / 1.7)).astype(float))


@pytest.mark.parametrize(
    ("fit", "truth"),
    [
        (lambda random: stats.krippendorff_alpha(*votes_of(random), resamples=200), 0.64),
        (lambda random: stats.gwet_ac1(*votes_of(random), resamples=200), 0.64),
        (few_prompts, 2 / 3),
        (scaled, 1.7),
        (lambda random: stats.mallows(stats.draw_mallows([1, 0, 2], 0.7, 60, seed=int(random.integers(1e9)))), 0.7),
    ],
    ids=["alpha", "ac1", "win rate of eight prompts", "temperature", "mallows"],
)
def test_intervals_of_95_percent_cover(fit: Any, truth: float) -> None:
    assert 0.91 <= covered(fit, truth) <= 0.985
