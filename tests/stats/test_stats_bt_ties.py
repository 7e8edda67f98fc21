"""Ties: derivatives against finite differences, models of two contestants by hand, and when a maximum exists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats import bradley_terry
from prefdata.stats.bt_existence import existence
from prefdata.stats.bt_newton import Dense, Penalty, differences, full_gradient
from prefdata.stats.bt_outcomes import MODELS
from prefdata.stats.bt_sparse import Builder
from prefdata.stats.comparisons import Cells, cells_of, checked_rows

TIES = ("half", "davidson", "rao-kupper")
RANDOM = np.random.default_rng(3)
FIRST = RANDOM.integers(0, 5, 80)
SECOND = (FIRST + RANDOM.integers(1, 5, 80)) % 5
OUTCOME = RANDOM.choice([0.0, 0.5, 1.0], 80)
FEATURES = RANDOM.normal(size=(80, 2))
WEIGHTS = RANDOM.random(80)


def problem(ties: str) -> tuple[Cells, Penalty]:
    outcome = np.where(np.arange(80) % 7 == 0, 0.3, OUTCOME) if ties == "half" else OUTCOME
    rows = checked_rows(FIRST, SECOND, WEIGHTS, outcome, None, FEATURES)
    return cells_of(rows), Penalty(prior=0.7, ridge=0.2, covariates=0.1)


@pytest.mark.parametrize("ties", TIES)
def test_derivatives_are_those_of_finite_differences(ties: str) -> None:
    cells, penalty = problem(ties)
    model = MODELS[ties]
    at = np.append(np.random.default_rng(0).normal(size=7), 0.8)[: 7 + model.size]

    def value(x: np.ndarray) -> float:
        tau = float(x[7]) if model.size else 0.0
        return model.value(cells, differences(cells, x[:5], x[5:7]), tau) + penalty.value(x[:5], x[5:7])

    def gradient(x: np.ndarray) -> np.ndarray:
        slopes = model.slopes(cells, differences(cells, x[:5], x[5:7]), float(x[7]) if model.size else 0.0)
        return full_gradient(cells, slopes, penalty, x[:5], x[5:7], model.size)

    steps = np.eye(len(at)) * 1e-6
    np.testing.assert_allclose(
        gradient(at), [(value(at + h) - value(at - h)) / 2e-6 for h in steps], atol=1e-7, rtol=1e-7
    )
    slopes = model.slopes(cells, differences(cells, at[:5], at[5:7]), float(at[7]) if model.size else 0.0)
    hessian = -np.array([(gradient(at + h) - gradient(at - h)) / 2e-6 for h in steps])
    dense = Dense(cells, slopes, penalty, at[:5], model.size)
    np.testing.assert_allclose(dense.matrix, hessian, atol=1e-7)
    sparse = Builder(cells)(cells, slopes, penalty, at[:5], model.size)
    np.testing.assert_allclose(sparse.times(np.eye(len(at))), hessian, atol=1e-7)
    np.testing.assert_allclose(sparse.solve(np.eye(len(at))), np.linalg.inv(dense.matrix), atol=1e-8)
    np.testing.assert_allclose(sparse.border(), dense.border(), atol=1e-8)


@pytest.mark.parametrize("ties", TIES)
@given(d=st.floats(-30, 30), nu=st.floats(0.01, 5))
@settings(max_examples=25, deadline=None)
def test_chances_sum_to_one_and_scores_have_mean_zero(ties: str, d: float, nu: float) -> None:
    tau = float(np.log(nu)) if ties == "davidson" else nu
    model, at = MODELS[ties], np.array([d])
    chances = np.stack(model.chances(at, tau))
    assert chances.sum() == pytest.approx(1)
    by_d, by_tie = model.scores(at, tau)
    assert (chances * by_d).sum() == pytest.approx(0, abs=1e-12)
    assert (chances * by_tie).sum() == pytest.approx(0, abs=1e-9)
    mirrored = np.stack(model.chances(-at, tau))
    np.testing.assert_allclose(mirrored[::-1], chances, atol=1e-12)


# Of six games of two contestants three are won, two tied, one lost: the models fit these shares exactly.
SIX = {"winners": [0] * 6, "losers": [1] * 6, "p": [1, 1, 1, 0.5, 0.5, 0]}


def test_two_contestants_by_hand() -> None:
    davidson = bradley_terry(**SIX, ties="davidson")
    assert davidson.difference(0, 1).value == pytest.approx(np.log(3))
    assert davidson.tie is not None and davidson.tie.value == pytest.approx(2 / np.sqrt(3))
    assert davidson.probability(0, 1) == pytest.approx(1 / 2)
    assert davidson.tie_probability(1, 0) == pytest.approx(1 / 3)
    kupper = bradley_terry(**SIX, ties="rao-kupper")
    assert kupper.difference(0, 1).value == pytest.approx(np.log(5) / 2)
    assert kupper.tie is not None and kupper.tie.value == pytest.approx(np.log(5) / 2)
    assert kupper.probability(1, 0) == pytest.approx(1 / 6)
    half = bradley_terry(**SIX)
    assert half.difference(0, 1).value == pytest.approx(np.log(4 / 2)) and half.tie is None
    # The multinomial of Davidson's model is saturated: var(log(win/loss)) = 1/3 + 1/1, var(log nu) by the delta method.
    assert davidson.difference_error(0, 1) == pytest.approx(np.sqrt(1 / 3 + 1))
    error = np.sqrt(1 / 2 + (1 / 3 + 1 / 1) / 4)
    assert davidson.tie.low == pytest.approx(2 / np.sqrt(3) * np.exp(-1.959963984540054 * error))
    assert davidson.tie.high == pytest.approx(2 / np.sqrt(3) * np.exp(1.959963984540054 * error))
    for fit, ties in ((davidson, "davidson"), (kupper, "rao-kupper")):
        # Hard outcomes that are fitted exactly: the sandwich agrees with the information.
        robust = bradley_terry(**SIX, ties=ties, robust=True)
        assert robust.difference_error(0, 1) == pytest.approx(fit.difference_error(0, 1))
        assert robust.tie is not None and fit.tie is not None and robust.tie.high == pytest.approx(fit.tie.high)


@pytest.mark.parametrize("ties", ["davidson", "rao-kupper"])
def test_without_ties_it_is_bradley_terry(ties: str) -> None:
    plain = bradley_terry([0, 0, 1, 1, 2, 0], [1, 1, 0, 2, 0, 2])
    fit = bradley_terry([0, 0, 1, 1, 2, 0], [1, 1, 0, 2, 0, 2], ties=ties)  # type: ignore[arg-type]
    assert fit.values.tobytes() == plain.values.tobytes() and fit.low.tobytes() == plain.low.tobytes()
    assert fit.tie is not None and (fit.tie.value, fit.tie.low) == (0.0, None)
    assert fit.tie_probability(0, 1) == 0


@pytest.mark.parametrize("ties", ["davidson", "rao-kupper"])
def test_another_optimiser_finds_the_same(ties: str) -> None:
    from scipy.optimize import minimize

    fit = bradley_terry(FIRST, SECOND, WEIGHTS, p=OUTCOME, ties=ties, covariates=FEATURES)  # type: ignore[arg-type]
    assert fit.converged and fit.prior == 0 and fit.coefficients is not None and fit.tie is not None

    def loss(x: np.ndarray) -> float:
        d, nu = x[FIRST] - x[SECOND] + FEATURES @ x[5:7], np.exp(x[7])
        if ties == "davidson":
            won, tied, lost = np.exp(d / 2), nu + 0 * d, np.exp(-d / 2)
        else:
            won, lost = 1 / (1 + np.exp(nu - d)), 1 / (1 + np.exp(nu + d))
            tied = 1 - won - lost
        chance = np.where(OUTCOME == 1, won, np.where(OUTCOME == 0, lost, tied)) / (won + tied + lost)
        return float(-WEIGHTS @ np.log(chance))

    found = minimize(loss, np.zeros(8), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(fit.values, found[:5] - found[:5].mean(), atol=1e-5)
    np.testing.assert_allclose(fit.coefficients.values, found[5:7], atol=1e-5)
    assert fit.tie.value == pytest.approx(np.exp(found[7]), abs=1e-5)


def test_ties_in_place_of_losses_leave_no_maximum() -> None:
    # Strength and tie parameter rise together for ever: three wins, two ties, and never a loss.
    for ties in ("davidson", "rao-kupper"):
        with pytest.raises(ValueError, match="tie parameter grows without bound"):
            bradley_terry([0] * 5, [1] * 5, p=[1, 1, 1, 0.5, 0.5], ties=ties, prior=0)  # type: ignore[arg-type]
        fit = bradley_terry([0] * 5, [1] * 5, p=[1, 1, 1, 0.5, 0.5], ties=ties)  # type: ignore[arg-type]
        assert fit.converged and fit.prior == 1 and not fit.existence.ties_bounded
        with pytest.raises(ValueError, match="every comparison is a tie"):
            bradley_terry([0, 1], [1, 2], p=[0.5, 0.5], ties=ties)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="soft outcomes"):
            bradley_terry([0, 1], [1, 0], p=[0.5, 0.7], ties=ties)  # type: ignore[arg-type]
    assert bradley_terry([0] * 5, [1] * 5, p=[1, 1, 1, 0.5, 0.5]).prior == 0  # half a win is a win


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from([0.0, 0.5, 1.0])), min_size=3, max_size=9)
)
@settings(max_examples=60, deadline=None)
def test_existence_with_ties_is_what_linear_programming_says(rows: list[tuple[int, int, float]]) -> None:
    from scipy.optimize import linprog

    first, second = [i for i, _, _ in rows], [(i + k) % 4 for i, k, _ in rows]
    outcome = [y for _, _, y in rows]
    if not (0.5 in outcome and (0.0 in outcome or 1.0 in outcome)):
        return
    cells = cells_of(checked_rows(first, second, None, outcome, 4))
    # A direction (s, t) along which no outcome becomes less likely: wins s_i - s_j >= t, ties |s_i - s_j| <= t.
    rows_of = []
    for i, j, y in zip(first, second, outcome, strict=True):
        d = np.zeros(5)
        d[i], d[j] = 1, -1
        d = d if y else -d
        up, down = d.copy(), -d
        up[4], down[4] = -1, -1
        rows_of += [-up] if y != 0.5 else [up, down]
    anchored = ((0, 0), *(((-9, 9),) * 3), (-9, 9))
    rising = any(
        linprog(sign * np.eye(5)[place], A_ub=np.array(rows_of), b_ub=np.zeros(len(rows_of)), bounds=anchored).fun
        < -1e-6
        for place in range(5)
        for sign in (1, -1)
    )
    assert existence(cells, "davidson").exists == (not rising)


def test_a_tie_is_the_same_from_both_sides() -> None:
    cells, _ = problem("davidson")
    rows = checked_rows(SECOND, FIRST, WEIGHTS, 1 - OUTCOME, None)
    one, other = cells_of(checked_rows(FIRST, SECOND, WEIGHTS, OUTCOME, None)), cells_of(rows)
    for name in ("win", "tie", "loss", "squares"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name))
    assert replace(cells, n=5).weight.sum() == pytest.approx(WEIGHTS.sum())
