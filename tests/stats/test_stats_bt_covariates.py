"""Covariates and style: the numbers of the reference, logistic regression as the same thing, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from prefdata.stats import bradley_terry, style_features
from prefdata.stats.logistic import logistic

RANDOM = np.random.default_rng(5)
M, N = 400, 6
FIRST = RANDOM.integers(0, N, M)
SECOND = (FIRST + RANDOM.integers(1, N, M)) % N
POSITION = RANDOM.choice([-1.0, 1.0], M)
LENGTH = RANDOM.normal(size=M)
BOTH = np.column_stack([POSITION, LENGTH])
LOGIT = np.linspace(-1, 1, N)[FIRST] - np.linspace(-1, 1, N)[SECOND] + 0.4 * POSITION - 0.3 * LENGTH
OUTCOME = np.where(RANDOM.random(M) < 0.2, 0.5, (RANDOM.random(M) < 1 / (1 + np.exp(-LOGIT))).astype(float))
WEIGHTS = RANDOM.random(M)
PROMPT = RANDOM.integers(0, 50, M)


def design() -> np.ndarray:
    """Strengths of all but the last, which is minus their sum, and the covariates."""
    x = np.zeros((M, N))
    x[np.arange(M), FIRST] += 1
    x[np.arange(M), SECOND] -= 1
    return np.column_stack([x[:, :-1] - x[:, -1:], BOTH])


@pytest.mark.parametrize("method", ["dense", "sparse"])
@pytest.mark.parametrize("clusters", [None, PROMPT])
def test_it_is_a_logistic_regression(method: str, clusters: np.ndarray | None) -> None:
    wanted = logistic(design(), OUTCOME, WEIGHTS, clusters=clusters)
    fit = bradley_terry(
        FIRST,
        SECOND,
        WEIGHTS,
        p=OUTCOME,
        covariates=BOTH,
        robust=True,
        clusters=clusters,
        method=method,  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(fit.values[:-1], wanted.values[: N - 1], atol=1e-8)
    np.testing.assert_allclose(fit.low[:-1], wanted.low[: N - 1], atol=1e-8)
    assert fit.coefficients is not None
    np.testing.assert_allclose(fit.coefficients.values, wanted.values[N - 1 :], atol=1e-8)
    np.testing.assert_allclose(fit.coefficients.low, wanted.low[N - 1 :], atol=1e-8)
    np.testing.assert_allclose(fit.coefficients.high, wanted.high[N - 1 :], atol=1e-8)


def test_swapping_sides_negates_features_and_leaves_all_else() -> None:
    turned = RANDOM.random(M) < 0.5
    first, second = np.where(turned, SECOND, FIRST), np.where(turned, FIRST, SECOND)
    sign = np.where(turned, -1.0, 1.0)
    one = bradley_terry(FIRST, SECOND, p=OUTCOME, covariates=BOTH, robust=True)
    other = bradley_terry(
        first, second, p=np.where(turned, 1 - OUTCOME, OUTCOME), covariates=BOTH * sign[:, None], robust=True
    )
    np.testing.assert_allclose(one.values, other.values, atol=1e-10)
    np.testing.assert_allclose(one.low, other.low, atol=1e-10)
    assert one.coefficients is not None and other.coefficients is not None
    np.testing.assert_allclose(one.coefficients.high, other.coefficients.high, atol=1e-10)


def test_covariates_of_zero_change_nothing_and_have_no_coefficient() -> None:
    plain = bradley_terry(FIRST, SECOND, p=OUTCOME)
    fit = bradley_terry(FIRST, SECOND, p=OUTCOME, covariates=np.zeros(M))
    assert fit.values.tobytes() == plain.values.tobytes() and fit.high.tobytes() == plain.high.tobytes()
    assert fit.coefficients is not None and np.isnan(fit.coefficients.values).all()
    beside = bradley_terry(FIRST, SECOND, p=OUTCOME, covariates=np.column_stack([np.zeros(M), POSITION]))
    alone = bradley_terry(FIRST, SECOND, p=OUTCOME, covariates=POSITION)
    assert beside.coefficients is not None and alone.coefficients is not None
    assert np.isnan(beside.coefficients.low[0]) and beside.coefficients.low[1] == alone.coefficients.low[0]
    # A ridge that holds the coefficients at zero gives the plain strengths again.
    held = bradley_terry(FIRST, SECOND, p=OUTCOME, covariates=BOTH, covariate_ridge=1e12)
    np.testing.assert_allclose(held.values, plain.values, atol=1e-6)


def test_rows_that_repeat_are_counted_into_cells() -> None:
    # A position has two values, a length as many as there are rows: the same estimate either way.
    whole = bradley_terry(FIRST, SECOND, WEIGHTS, p=OUTCOME, covariates=POSITION, robust=True)
    by_rows = bradley_terry(
        FIRST,
        SECOND,
        WEIGHTS,
        p=OUTCOME,
        covariates=np.column_stack([POSITION, LENGTH * 1e-9]),
        robust=True,
        covariate_ridge=1e-12,
    )
    assert whole.coefficients is not None and by_rows.coefficients is not None
    np.testing.assert_allclose(whole.coefficients.low[0], by_rows.coefficients.low[0], atol=1e-6)


def test_what_covariates_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="separate the outcomes"):
        bradley_terry(FIRST, SECOND, p=(LENGTH > 0).astype(float), covariates=LENGTH)
    with pytest.raises(ValueError, match="told apart"):
        bradley_terry(FIRST, SECOND, p=OUTCOME, covariates=(FIRST - SECOND).astype(float))
    with pytest.raises(ValueError, match="told apart"):
        bradley_terry(FIRST, SECOND, p=OUTCOME, covariates=np.column_stack([LENGTH, 2 * LENGTH]))
    fit = bradley_terry(FIRST, SECOND, p=(LENGTH > 0).astype(float), covariates=LENGTH, covariate_ridge=0.1)
    assert fit.converged and fit.coefficients is not None and fit.coefficients.low[0] > 0
    for wrong, message in ((np.where(LENGTH > 2, np.nan, LENGTH), "missing or infinite"), (LENGTH[1:], "one row for")):
        with pytest.raises(ValueError, match=message):
            bradley_terry(FIRST, SECOND, p=OUTCOME, covariates=wrong)


def test_the_effect_of_style_is_not_shrunk() -> None:
    # There is a package whose default makes 0.08 of a coefficient of 0.5: its penalty is on the mean of the loss.
    random = np.random.default_rng(9)
    first = random.integers(0, 20, 20_000)
    second = (first + random.integers(1, 20, 20_000)) % 20
    style = random.normal(size=20_000)
    logit = np.linspace(-1, 1, 20)[first] - np.linspace(-1, 1, 20)[second] + 0.5 * style
    y = (random.random(20_000) < 1 / (1 + np.exp(-logit))).astype(float)
    fit = bradley_terry(first, second, p=y, covariates=style)
    assert fit.coefficients is not None and fit.coefficients.low[0] < 0.5 < fit.coefficients.high[0]
    assert fit.coefficients.values[0] == pytest.approx(0.5, abs=0.06)


def test_style_features() -> None:
    assert style_features([300], [100], scale=False)[0, 0] == pytest.approx(0.498753, abs=1e-6)
    a, b = RANDOM.integers(0, 50, (40, 3)), RANDOM.integers(0, 50, (40, 3))
    found = style_features(a, b)
    np.testing.assert_allclose(found, -style_features(b, a))
    np.testing.assert_allclose((found**2).mean(axis=0), 1)
    assert style_features(a, a).tolist() == np.zeros((40, 3)).tolist()  # equal style is zero, never a constant
    assert style_features([], []).shape == (0, 1)
    for wrong in ([-1], [np.nan]):
        with pytest.raises(ValueError, match="not negative"):
            style_features(wrong, [1])
    with pytest.raises(ValueError, match="one shape"):
        style_features([1, 2], [1])
