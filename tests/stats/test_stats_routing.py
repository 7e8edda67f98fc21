"""Routing between people and models under a budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.stats.routing import binned_features, given_model, performance_model, quantile_bins, within_budget


def test_gain_of_the_reference() -> None:
    """D06: coefficients .02, -.01, .005 and the first two features."""
    model = given_model({"a": 0.02, "b": -0.01, "c": 0.005})
    assert model.gain([[1, 1, 0]])[0] == pytest.approx(0.01) and np.isnan(model.low).all()
    with pytest.raises(ValueError, match="not finite"):
        given_model({"a": float("nan")})


@given(st.lists(st.floats(-5, 5), max_size=30), st.floats(0, 1))
def test_budget_laws(gain: list[float], budget: float) -> None:
    chosen = within_budget(gain, budget)
    assert chosen.sum() == int(len(gain) * budget + 1e-9)
    assert not within_budget(gain, 0).any() and within_budget(gain, 1).all()
    if chosen.any() and not chosen.all():
        assert np.array(gain)[chosen].min() >= np.array(gain)[~chosen].max()


def test_budget_edges() -> None:
    assert within_budget([1.0, np.nan, 2.0], 1.0).tolist() == [True, False, True]
    assert within_budget([1.0, 1.0], 0.5).tolist() == [True, False]  # equal gains in their order
    with pytest.raises(ValueError, match="share from 0 to 1"):
        within_budget([1.0], 1.5)


def test_bins_hold_every_number() -> None:
    assert quantile_bins([5, 1, 3, 2, 6, 4]).tolist() == [2, 0, 1, 0, 2, 1]
    assert quantile_bins([1, 1, 1]).tolist() == [1, 1, 1]  # equal numbers lie in one bin, in the middle
    assert quantile_bins([1, np.nan, 2], 2).tolist() == [0, -1, 1] and quantile_bins([]).size == 0
    names, active = binned_features({"length": [1, 2, 3], "cosine": [3, np.nan, 1]})
    assert names == ("length:low", "length:middle", "length:high", "cosine:low", "cosine:middle", "cosine:high")
    assert active.sum(axis=1).tolist() == [2, 1, 2]
    with pytest.raises(ValueError, match="infinite"):
        quantile_bins([np.inf])
    with pytest.raises(ValueError, match="at least one bin"):
        quantile_bins([1.0], 0)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40))
def test_bins_follow_the_order(values: list[int]) -> None:
    found = quantile_bins(values)
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0).all() and found.min() >= 0 and found.max() <= 2


def test_coefficients_are_recovered() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 100, size=(300, 3)).astype(float)
    worth = 0.6 + counts @ [0.002, -0.001, 0.0005] + rng.normal(0, 0.002, 300)
    model = performance_model(counts, worth, ["a", "b", "c"])
    np.testing.assert_allclose(model.values, [0.002, -0.001, 0.0005], atol=2e-5)
    assert ((model.low < [0.002, -0.001, 0.0005]) & (model.high > [0.002, -0.001, 0.0005])).all()
    assert model.intercept == pytest.approx(0.6, abs=0.002) and model.held_out.value > 0.99  # type: ignore[operator]
    gain = model.gain(np.eye(3))
    np.testing.assert_allclose(gain, model.predict(np.eye(3)) - model.predict(np.zeros((1, 3))), atol=1e-12)
    assert np.array_equal(model.gain(np.eye(3)[:1]), gain[:1])  # linear: whatever else is routed


def test_quadratic_gains_are_predictions_less_nothing() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 20, size=(200, 2)).astype(float)
    worth = 0.5 + 0.01 * counts[:, 0] - 0.0004 * counts[:, 0] ** 2 + 0.0002 * counts[:, 0] * counts[:, 1]
    model = performance_model(counts, worth, ["a", "b"], form="quadratic", held_out=0.2)
    assert model.held_out.value == pytest.approx(1.0, abs=1e-6)
    one = np.array([[1.0, 1.0]])
    assert model.gain(one)[0] == pytest.approx(float(model.predict(one)[0] - model.predict(0 * one)[0]))
    assert model.gain(one)[0] == pytest.approx(0.01 - 0.0004 + 0.0002, abs=1e-6)


def test_model_edges() -> None:
    same = performance_model(np.ones((4, 2)), [0.5, 0.5, 0.5, 0.5], ["a", "b"])
    assert same.values.tolist() == [0.0, 0.0] and same.held_out.value is None
    with pytest.raises(ValueError, match="at least two mixes"):
        performance_model(np.ones((1, 1)), [0.5], ["a"])
    with pytest.raises(ValueError, match="missing or infinite"):
        performance_model([[1.0], [np.nan]], [0.5, 0.6], ["a"])
    with pytest.raises(ValueError, match="ridge is above 0"):
        performance_model([[1.0], [2.0]], [0.5, 0.6], ["a"], ridge=0)
