"""Flip rates, robust losses and the collective posterior of labels: the reference's numbers, and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.stats.denoise import soft_loss
from prefdata.stats.label_noise import (
    collective_posterior,
    estimate_reliability,
    flip_probability,
    flip_rate_of_audit,
    flip_rate_of_repeats,
    label_posterior,
    next_reliability,
    robust_loss,
)
from prefdata.stats.logistic import sigmoid


def test_rdpo_of_the_reference() -> None:
    """A08: m = .5, eps = .1."""
    assert robust_loss(0.5, 0.1) == pytest.approx(0.411577, abs=1e-6)
    assert robust_loss(-0.5, 0.1) == pytest.approx(1.036577, abs=1e-6)
    assert flip_probability(0.5, 0.1) == pytest.approx(0.063137, abs=1e-6)
    assert flip_probability(-0.5, 0.1) == pytest.approx(0.154828, abs=1e-6)
    assert robust_loss(10.0, 0.3) < 0  # no lower bound
    assert flip_probability(3.0, 0.0) == 0.0 and robust_loss(3.0, 0.0) == pytest.approx(float(soft_loss(3.0, 1.0)))
    with pytest.raises(ValueError, match="labels say nothing"):
        robust_loss(0.5, 0.5)


@given(st.floats(-20, 20), st.floats(0, 0.49))  # beyond, 1 less a posterior has lost its last digits
def test_the_robust_loss_is_unbiased_and_the_two_posteriors_agree(m: float, eps: float) -> None:
    """Appendix 2: A08's flip probability is 1 less A09's posterior with eta = 1 - eps."""
    mean = (1 - eps) * robust_loss(m, eps) + eps * robust_loss(-m, eps)
    assert mean == pytest.approx(float(soft_loss(m, 1.0)), rel=1e-6, abs=1e-9)
    assert flip_probability(m, eps) == pytest.approx(1 - label_posterior(float(sigmoid(m)), 1 - eps), abs=1e-9)


def test_appendix_two() -> None:
    assert flip_probability(0.5, 0.1) == pytest.approx(1 - 0.936863, abs=1e-6)
    assert label_posterior(float(sigmoid(0.5)), 0.9) == pytest.approx(0.936863, abs=1e-6)


def test_lcpo_of_the_reference() -> None:
    """A09: margins 2, 1, -1.5 at two reliabilities."""
    p = sigmoid([2.0, 1.0, -1.5])
    np.testing.assert_allclose(p, [0.880797, 0.731059, 0.182426], atol=1e-6)
    for eta, w, mean, loss in (
        (0.8, [0.967273, 0.915776, 0.471604], 0.784885, 0.499562),
        (0.9, [0.985186, 0.960730, 0.667572], 0.871162, 0.570620),
    ):
        found = label_posterior(p, eta)
        np.testing.assert_allclose(found, w, atol=1e-6)
        assert next_reliability(eta, float(found.mean())) == pytest.approx(mean, abs=1e-6)
        assert soft_loss([2.0, 1.0, -1.5], found).mean() == pytest.approx(loss, abs=1e-6)
    assert next_reliability(0.9, 0.871162, 0.1) == pytest.approx(0.897116, abs=1e-6)
    ipo = [sigmoid(64.0 - 4.0), sigmoid((0.3 + 1.0) ** 2 - (0.3 - 1.0) ** 2)]
    np.testing.assert_allclose(ipo, [1.0, 0.768525], atol=1e-6)


def calibrated(eta: float, n: int = 10_000) -> np.ndarray:
    """Labels right with probability eta, clean ones of probability .9 or .6: the expected counts exactly."""
    rows = []
    for q in (0.9, 0.6):
        said = eta * q + (1 - eta) * (1 - q)
        rows += [q] * round(n * said) + [1 - q] * round(n * (1 - said))
    return np.array(rows)


def test_calibrated_labels_give_the_true_reliability() -> None:
    p = calibrated(0.85)
    found = collective_posterior(p)
    assert found.converged and found.abilities[0] == pytest.approx(0.85, abs=1e-6)
    assert found.abilities[0] == pytest.approx(estimate_reliability(p, start=0.6, tolerance=1e-12), abs=1e-5)
    assert found.ability_low[0] < 0.85 < found.ability_high[0] and found.values.mean() == pytest.approx(0.85, abs=1e-6)


def test_each_annotator_has_a_reliability() -> None:
    p = np.r_[calibrated(0.95), calibrated(0.7)]
    who = ["ann"] * 20_000 + ["ben"] * 20_000
    found = collective_posterior(p, who)
    assert found.annotators == ("ann", "ben")
    np.testing.assert_allclose(found.abilities, [0.95, 0.7], atol=1e-6)
    with_one = collective_posterior(p)
    assert with_one.abilities[0] == pytest.approx(0.825, abs=0.02)
    order = np.random.default_rng(0).permutation(len(p))
    mixed = collective_posterior(p[order], [who[at] for at in order])
    np.testing.assert_allclose(mixed.values, found.values[order], atol=1e-12)


def test_collective_edges() -> None:
    unsure = collective_posterior([0.5, 0.5], ["a", None])
    assert np.isnan(unsure.abilities).all() and np.isnan(unsure.values).all() and unsure.annotators == ("a", None)
    sure = collective_posterior([1.0] * 1_000_000)  # a million labels that the model is certain of
    assert sure.abilities[0] == pytest.approx(0.999) and sure.converged and (sure.values == 1).all()
    against = collective_posterior([0.0, 0.0])
    assert against.abilities[0] == pytest.approx(0.501) and (against.values == 0).all()
    missing = collective_posterior([np.nan, 0.9], ["a", "b"])
    assert np.isnan(missing.values[0]) and np.isnan(missing.abilities[0]) and missing.counts.tolist() == [0, 1]
    empty = collective_posterior([])
    assert empty.converged and empty.values.size == 0
    for wrong in (1.5, np.inf):
        with pytest.raises(ValueError, match="from 0 to 1"):
            collective_posterior([wrong])
    with pytest.raises(ValueError, match="one annotator for each"):
        collective_posterior([0.5], ["a", "b"])


def test_flip_rates_of_audits_and_repeats() -> None:
    """Two passes with eps = .1 differ at .18."""
    repeats = flip_rate_of_repeats(18, 100)
    assert repeats.value == pytest.approx(0.1) and repeats.low < 0.1 < repeats.high  # type: ignore[operator]
    assert flip_rate_of_repeats(50, 100).value is None and flip_rate_of_repeats(0, 0).value is None
    assert flip_rate_of_repeats(0, 10).value == 0
    audit = flip_rate_of_audit(3, 20)
    assert audit.value == 0.15 and audit.n == 20 and flip_rate_of_audit(0, 0).value is None
    with pytest.raises(ValueError, match="successes"):
        flip_rate_of_audit(3, 2)


def test_the_interval_of_a_reliability_covers() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(150):
        clean = rng.choice([0.95, 0.8, 0.7], size=200)
        truth = rng.random(200) < clean
        right = rng.random(200) < 0.8
        found = collective_posterior(np.where(truth == right, clean, 1 - clean))
        hits += found.ability_low[0] <= 0.8 <= found.ability_high[0]
    assert 0.88 <= hits / 150 <= 0.995
