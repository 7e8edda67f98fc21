"""The limits of Bradley-Terry: what is not identified, a million identical votes, and numbers that are none."""

from __future__ import annotations

import numpy as np
import pytest

from prefdata.stats import bradley_terry
from prefdata.stats import comparisons as comparisons_module

ZEROS, ONES = np.zeros(10**6, np.int8), np.ones(10**6, np.int8)


@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize("method", ["dense", "sparse"])
def test_a_million_identical_votes(robust: bool, method: str) -> None:
    fit = bradley_terry(ZEROS, ONES, robust=robust, method=method)  # type: ignore[arg-type]
    # d solves 10^6 sigma(-d) = tanh(d / 4) / 2; the interval is wide, since nothing but the prior bounds it.
    d = fit.values[0] - fit.values[1]
    assert fit.converged and fit.prior == 1
    assert 1e6 / (1 + np.exp(d)) == pytest.approx(np.tanh(d / 4) / 2)
    assert fit.high[0] - fit.low[0] > 2
    tiny = bradley_terry(ZEROS, ONES, robust=robust, method=method, prior=1e-9)  # type: ignore[arg-type]
    assert tiny.converged and tiny.values[0] > d / 2 and np.isfinite(tiny.low).all()


def test_a_million_votes_but_one() -> None:
    outcomes = np.ones(10**6)
    outcomes[5] = 0
    fit = bradley_terry(ZEROS, ONES, p=outcomes)
    assert fit.prior == 0 and fit.difference(0, 1).value == pytest.approx(np.log(10**6 - 1))
    assert fit.difference_error(0, 1) == pytest.approx(np.sqrt(1 + 1 / (10**6 - 1)))


def test_nothing_but_ties() -> None:
    fit = bradley_terry(ZEROS, ONES, p=np.full(10**6, 0.5))
    assert fit.values.tolist() == [0, 0] and fit.high[0] == pytest.approx(1.96 / 1000, rel=1e-3)
    # Residuals of ties are all zero, which is no certainty.
    robust = bradley_terry(ZEROS, ONES, p=np.full(10**6, 0.5), robust=True)
    assert np.isnan(robust.low).all() and robust.difference(0, 1).low is None
    # Neither is any other outcome that is fitted exactly, up to rounding.
    for method in ("dense", "sparse"):
        soft = bradley_terry([0] * 9, [1] * 9, p=[0.3] * 9, robust=True, method=method)  # type: ignore[arg-type]
        assert np.isnan(soft.low).all() and soft.difference(0, 1).value == pytest.approx(np.log(3 / 7))


@pytest.mark.parametrize("scale", [1e-90, 1e-20, 1e20, 1e90])
def test_weights_of_any_size(scale: float) -> None:
    one = bradley_terry([0, 0, 1, 2, 1], [1, 1, 0, 1, 2])
    fit = bradley_terry([0, 0, 1, 2, 1], [1, 1, 0, 1, 2], np.full(5, scale))
    assert fit.converged
    np.testing.assert_allclose(fit.values, one.values, atol=1e-10)
    np.testing.assert_allclose(fit.standard_errors * np.sqrt(scale), one.standard_errors, rtol=1e-9)
    robust = bradley_terry([0, 0, 1, 2, 1], [1, 1, 0, 1, 2], np.full(5, scale), robust=True)
    plain = bradley_terry([0, 0, 1, 2, 1], [1, 1, 0, 1, 2], robust=True)
    np.testing.assert_allclose(robust.low, plain.low, atol=1e-9)


def test_who_cannot_be_placed_is_said() -> None:
    fit = bradley_terry([0, 1, 2, 3, 3], [1, 0, 3, 2, 4], n=6)
    assert fit.components.tolist() == [0, 0, 1, 1, 2, 3] and fit.existence.islands.tolist() == [0, 0, 1, 1, 1, 2]
    assert fit.existence.unplayed.tolist() == [5] and fit.existence.winless.tolist() == [4]
    assert fit.existence.unbeaten.tolist() == [] and not fit.existence.exists
    assert fit.existence.explain() == (
        "the win graph falls into 4 strongly connected components; contestant 5 played no comparison; "
        "contestant 4 never won; there are 2 groups that never met one another"
    )
    with pytest.raises(ValueError, match="contestant 5 played no comparison; contestant 4 never won"):
        bradley_terry([0, 1, 2, 3, 3], [1, 0, 3, 2, 4], n=6, prior=0)
    many = bradley_terry([], [], n=20)
    assert "contestants 0, 1, 2, 3, 4, 5, 6, 7 and 12 more played no comparison" in many.existence.explain()
    assert bradley_terry([0, 1], [1, 0]).existence.explain() == ""
    # Who never played is as uncertain as the prior says, also by the sandwich.
    for robust in (False, True):
        fit = bradley_terry([0, 1] * 500, [1, 0] * 500, n=3, robust=robust)
        assert fit.high[2] - fit.low[2] > 4 and fit.high[0] - fit.low[0] > 1.5 > fit.difference_error(0, 1) * 10


def test_components_are_those_of_reachability() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        first = random.integers(0, 7, 9)
        second = (first + random.integers(1, 7, 9)) % 7
        reach = np.eye(7, dtype=bool)
        reach[first, second] = True
        for _ in range(7):
            reach = reach @ reach
        same = reach & reach.T
        found = bradley_terry(first, second, n=7).components
        assert ((found[:, None] == found[None, :]) == same).all()
        assert [int(one) for one in dict.fromkeys(found.tolist())] == list(range(int(found.max()) + 1))


def test_ridge_and_prior() -> None:
    # The ridge alone: 2 sigma(-d) = ridge d / 2 with d/2 each.
    fit = bradley_terry([0, 0], [1, 1], ridge=0.5)
    d = fit.values[0] - fit.values[1]
    assert fit.prior == 0 and 2 / (1 + np.exp(d)) == pytest.approx(0.5 * d / 2)
    # FastChat's penalty, 0.25 |r|^2 with strengths ln(10) r, is a ridge of 0.5 / ln(10)^2.
    from scipy.optimize import minimize

    wanted = minimize(lambda r: 2 * np.log1p(np.exp(-np.log(10) * (r[0] - r[1]))) + 0.25 * r @ r, [0.1, 0.0], tol=1e-10)
    fastchat = bradley_terry([0, 0], [1, 1], ridge=0.5 / np.log(10) ** 2)
    np.testing.assert_allclose(fastchat.values / np.log(10), wanted.x, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [np.nan]}, "weights must be finite"),
        ({"weights": [np.inf]}, "weights must be finite"),
        ({"weights": [1e300]}, "square cannot be represented"),
        ({"p": [None]}, "probability"),
        ({"p": [np.inf]}, "probability"),
        ({"p": [1, 1]}, "one entry for each of the 1"),
        ({"prior": np.nan}, "prior must be finite"),
        ({"ridge": -1}, "ridge must be finite"),
        ({"covariate_ridge": np.inf}, "covariate_ridge"),
        ({"ties": "win"}, "half, davidson, rao-kupper"),
        ({"method": "fast"}, "auto, dense, sparse"),
        ({"confidence": 0}, "confidence"),
        ({"n": 1}, r"\[0, 1\)"),
    ],
)
def test_numbers_that_are_none_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bradley_terry([0], [1], **arguments)  # type: ignore[arg-type]


def test_who_is_not_there_is_refused() -> None:
    fit = bradley_terry([0, 1], [1, 0])
    for ask in (fit.difference, fit.probability, fit.tie_probability):
        with pytest.raises(ValueError, match="no contestant 2"):
            ask(0, 2)
    assert fit.difference(1, 1).low is None and fit.difference(1, 1).value == 0
    alone = bradley_terry([], [], n=1)
    assert alone.values.tolist() == [0] and np.isnan(alone.low).all()


def test_integers_of_every_width_and_both_ways_of_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    first = random.integers(0, 100, 5000)
    second = (first + random.integers(1, 100, 5000)) % 100
    p, w = random.choice([0.0, 0.5, 1.0, 0.3], 5000), random.random(5000)
    wanted = bradley_terry(first, second, w, p=p, robust=True)
    for kind in (np.int8, np.uint8, np.int32, np.uint64):
        found = bradley_terry(first.astype(kind), second.astype(kind), w, p=p, robust=True)
        assert found.values.tobytes() == wanted.values.tobytes() and found.low.tobytes() == wanted.low.tobytes()
    monkeypatch.setattr(comparisons_module, "TABLE_LIMIT", 10)
    looked_up = bradley_terry(first, second, w, p=p, robust=True)
    np.testing.assert_allclose(looked_up.values, wanted.values, atol=1e-10)
    np.testing.assert_allclose(looked_up.low, wanted.low, atol=1e-10)


def test_rows_counted_in_blocks_are_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(8)
    first = random.integers(0, 3, 500)
    second = (first + random.integers(1, 3, 500)) % 3
    p = np.where(np.arange(500) > 400, 0.3, 1.0)  # soft outcomes in the last blocks only
    wanted = bradley_terry(first, second, p=p, robust=True)
    monkeypatch.setattr(comparisons_module, "_BLOCK", 64)
    found = bradley_terry(first, second, p=p, robust=True)
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-12)
    np.testing.assert_allclose(found.low, wanted.low, atol=1e-12)


def test_hard_outcomes_are_counted_as_weights_of_one() -> None:
    random = np.random.default_rng(6)
    first = random.integers(0, 6, 200)
    second = (first + random.integers(1, 6, 200)) % 6
    p = random.choice([0.0, 0.5, 1.0], 200)
    for ties in ("half", "davidson", "rao-kupper"):
        one = bradley_terry(first, second, p=p, ties=ties, robust=True)  # type: ignore[arg-type]
        other = bradley_terry(first, second, np.ones(200), p=p, ties=ties, robust=True)  # type: ignore[arg-type]
        np.testing.assert_allclose(one.values, other.values, atol=1e-12)
        np.testing.assert_allclose(one.low, other.low, atol=1e-12)
