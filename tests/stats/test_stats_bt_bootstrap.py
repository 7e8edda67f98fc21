"""The bootstrap: each draw is its own maximum, errors agree with the sandwich, and what cannot be known is NaN."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from prefdata.stats import bradley_terry, bradley_terry_bootstrap, bt_bootstrap
from prefdata.stats.bt_newton import Penalty
from prefdata.stats.bt_outcomes import MODELS
from prefdata.stats.comparisons import cells_of, checked_rows

RANDOM = np.random.default_rng(2)
M, N = 600, 5
FIRST = RANDOM.integers(0, N, M)
SECOND = (FIRST + RANDOM.integers(1, N, M)) % N
HARD = RANDOM.choice([0.0, 0.5, 1.0, 1.0], M)
LENGTH = RANDOM.normal(size=M)
POSITION = RANDOM.choice([-1.0, 1.0], M)
PROMPT = RANDOM.integers(0, 60, M)
WEIGHTS = RANDOM.random(M)

VARIANTS: list[dict[str, Any]] = [
    {},
    {"ties": "davidson"},
    {"ties": "rao-kupper", "covariates": POSITION},
    {"covariates": LENGTH, "prior": 1.0},
    {"weights": WEIGHTS},
    {"weights": WEIGHTS, "covariates": LENGTH, "ties": "davidson"},
    {"clusters": PROMPT},
    {"clusters": PROMPT, "method": "sparse"},
    {"p": np.where(HARD == 1, 0.8, HARD)},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: "-".join(one) or "plain")
def test_errors_are_those_of_the_sandwich(variant: dict[str, Any]) -> None:
    arguments = {"p": HARD, **variant}
    found = bradley_terry_bootstrap(FIRST, SECOND, resamples=400, **arguments)
    fit = bradley_terry(FIRST, SECOND, robust=True, **arguments)
    assert found.failed == 0 and found.converged
    np.testing.assert_allclose(found.values, fit.values, atol=1e-7)
    np.testing.assert_allclose(found.draws.std(axis=0), fit.standard_errors, rtol=0.2)
    np.testing.assert_allclose(found.draws.sum(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(found.medians, fit.values, atol=0.5 * float(fit.standard_errors.max()))
    assert ((found.low < found.values) & (found.values < found.high)).all()
    one, other = found.difference(0, 3), fit.difference(0, 3)
    assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.25)  # type: ignore[operator]
    if fit.coefficients is not None:
        assert found.coefficients is not None
        width = found.coefficients.high - found.coefficients.low
        np.testing.assert_allclose(width, fit.coefficients.high - fit.coefficients.low, rtol=0.25)
    if fit.tie is not None:
        assert found.tie is not None and found.tie.value == pytest.approx(fit.tie.value)
        assert found.tie.high - found.tie.low == pytest.approx(fit.tie.high - fit.tie.low, rel=0.25)  # type: ignore[operator]


@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper"])
def test_each_draw_is_its_own_maximum(ties: str) -> None:
    cells = cells_of(checked_rows(FIRST, SECOND, None, HARD, N, np.column_stack([POSITION])))
    model, penalty = MODELS[ties], Penalty(prior=0.5, covariates=0.1)
    point = bt_bootstrap.newton_by(cells, model, penalty, False)
    whole = np.stack([cells.win, cells.tie, cells.loss])
    counts = RANDOM.poisson(np.repeat(whole[:, None], 6, axis=1)).astype(float)
    found = bt_bootstrap._fitted(cells, counts, model, penalty, point, False)
    for place in range(6):
        own = replace(cells, win=counts[0, place], tie=counts[1, place], loss=counts[2, place])
        wanted = bt_bootstrap.newton_by(own, model, penalty, False)
        np.testing.assert_allclose(found[place, :N], wanted.theta - wanted.theta.mean(), atol=1e-6)
        assert found[place, N] == pytest.approx(float(wanted.beta[0]), abs=1e-6)
        if model.size:
            assert found[place, N + 1] == pytest.approx(wanted.tau, abs=1e-6)


def test_the_seed_decides() -> None:
    one, same, other = (bradley_terry_bootstrap(FIRST, SECOND, p=HARD, resamples=20, seed=seed) for seed in (1, 1, 2))
    assert one.draws.tobytes() == same.draws.tobytes() != other.draws.tobytes()


def test_what_draws_cannot_show_is_nan() -> None:
    # One win of four: a quarter of the draws or more have nothing but losses, and their maximum is at infinity.
    few = bradley_terry_bootstrap([0, 0, 0, 1], [1, 1, 1, 0], resamples=300)
    assert few.failed > 60 and np.isnan(few.low).all() and few.difference(0, 1).low is None
    assert few.difference(0, 1).value == pytest.approx(np.log(3))
    # Identical votes are identical in every draw.
    same = bradley_terry_bootstrap(np.zeros(10**5, np.int8), np.ones(10**5, np.int8), resamples=20)
    assert np.isnan(same.high).all() and same.failed == 0 and not same.placed.any()
    ties = bradley_terry_bootstrap([0, 1, 2], [1, 2, 0], p=[0.5, 0.5, 0.5], resamples=20, prior=1)
    assert np.isnan(ties.low).all() and ties.difference(0, 1).low is None
    # Who never lost has no interval; the others have theirs.
    crowned = bradley_terry_bootstrap([0] * 20 + [1, 2] * 40, [1, 2] * 10 + [2, 1] * 40, resamples=50)
    assert np.isnan(crowned.low).tolist() == [True, False, False]
    assert crowned.difference(0, 1).low is None and crowned.difference(1, 2).low is not None


def test_draws_without_a_tie_have_no_tie_parameter() -> None:
    first, second = [0, 1] * 10, [1, 0] * 10
    for ties in ("davidson", "rao-kupper"):
        found = bradley_terry_bootstrap(first, second, p=[0.5] + [1.0] * 19, ties=ties, prior=1, resamples=60)  # type: ignore[arg-type]
        assert found.tie is not None and found.tie.low == 0.0 and found.tie.high > found.tie.value > 0  # type: ignore[operator]


def test_senseless_arguments_are_refused() -> None:
    for arguments, message in (
        ({"winners": [], "losers": [], "n": 2}, "no comparison"),
        ({"winners": [0], "losers": [1], "weights": [0]}, "no comparison"),
        ({"winners": [0], "losers": [1], "resamples": 0}, "resamples"),
        ({"winners": [0], "losers": [1], "prior": 0}, "give a prior"),
        ({"winners": [0], "losers": [1], "confidence": 1.0}, "confidence"),
        ({"winners": [0], "losers": [1], "p": [float("nan")]}, "probability"),
    ):
        with pytest.raises(ValueError, match=message):
            bradley_terry_bootstrap(**arguments)  # type: ignore[arg-type]
