"""Calibration, temperature and the isotonic curve: hand-computed numbers, laws, what cannot be said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.stats import calibration, isotonic, temperature
from prefdata.stats.calibration import tempered_loss
from prefdata.stats.logistic import sigmoid

MARGINS = [1.2, 0.3, -0.4, 2.0]


def test_errors_by_hand() -> None:
    found = calibration([0.9, 0.8, 0.6, 0.3], [1, 0, 1, 0], bins=5)
    assert (found.value, found.average, found.largest) == (pytest.approx(0.4), pytest.approx(0.4), pytest.approx(0.8))
    assert [(one.low, one.count) for one in found.bins] == [
        (pytest.approx(0.2), 1),
        (pytest.approx(0.4), 1),
        (pytest.approx(0.6), 1),
        (pytest.approx(0.8), 1),
    ]


def test_margins_in_both_orders_and_in_one() -> None:
    stated = sigmoid(MARGINS)
    both = calibration(stated, np.ones(4), bins=5, both_orders=True)
    assert both.value == pytest.approx(0.087670, abs=1e-6)
    assert both.average == pytest.approx(0.140271, abs=1e-6)
    assert both.largest == pytest.approx(0.231475, abs=1e-6)
    one = calibration(stated, np.ones(4), bins=5)
    assert (one.value, one.average) == (pytest.approx(0.343731, abs=1e-6), pytest.approx(0.287600, abs=1e-6))
    assert one.largest == pytest.approx(0.512123, abs=1e-6)
    assert one.log_loss == pytest.approx(0.464395, abs=1e-6) == tempered_loss(MARGINS, np.ones(4), 1.0)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_both_orders_do_not_care_which_is_first(rows: list[tuple[float, bool, bool]]) -> None:
    stated, came = np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])
    turned = np.array([row[2] for row in rows])
    there = calibration(stated, came, both_orders=True, resamples=0)
    back = calibration(
        np.where(turned, 1 - stated, stated), np.where(turned, 1 - came, came), both_orders=True, resamples=0
    )
    # Statements beside an edge may fall to either side by rounding when they are turned.
    if (np.abs(stated * 10 - np.round(stated * 10)) > 1e-9).all():
        assert back.value == pytest.approx(there.value, abs=1e-9)
    assert back.brier == pytest.approx(there.brier, abs=1e-12)


def test_what_is_calibrated_has_nothing_left_but_noise() -> None:
    draw = np.random.default_rng(0)
    stated = draw.random(4000)
    came = draw.random(4000) < stated
    found = calibration(stated, came, equal="mass")
    assert found.low is not None and found.high is not None and found.low <= found.high
    assert found.value is not None and found.value < 0.03 and found.debiased < 0.02
    off = calibration(np.clip(stated * 1.4 - 0.2, 0, 1), came)
    assert off.debiased > 0.05 and off.low is not None and off.low > found.value
    assert calibration([0.5] * 4, [1, 0, 1, 0]).value == 0


def test_a_temperature_is_found_again() -> None:
    draw = np.random.default_rng(1)
    logits = draw.normal(size=5000) * 2
    came = draw.random(5000) < sigmoid(logits)
    found = temperature(logits * 2.5, came)
    assert found.low is not None and found.high is not None and found.value == pytest.approx(2.5, rel=0.1)
    assert found.low < 2.5 < found.high
    assert tempered_loss(logits * 2.5, came, found.value) < tempered_loss(logits * 2.5, came, 1.0)
    against = temperature(-logits, came)
    assert (against.value, against.low, against.high) == (None, None, None)
    with pytest.raises(ValueError, match="separate"):
        temperature([1.0, 2.0, -1.0], [1, 1, 0])
    with pytest.raises(ValueError, match="infinite"):
        temperature([1.0, float("inf")], [1, 0])


def test_the_isotonic_curve_rises_and_keeps_complements() -> None:
    curve = isotonic([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1])
    assert curve.values.tolist() == [0, 0.5, 0.5, 1]
    both = isotonic([0.9, 0.8, 0.6, 0.3, 0.7], [1, 0, 1, 0, 1], both_orders=True)
    at = np.linspace(0, 1, 21)
    assert (np.diff(both(at)) >= -1e-12).all()
    np.testing.assert_allclose(both(at) + both(1 - at), 1.0, atol=1e-12)
    with pytest.raises(ValueError, match="infinite"):
        isotonic([np.nan, 1.0], [0, 1])


def test_what_cannot_be_compared_is_said() -> None:
    for stated, came in (([], []), ([0.5], [0.5, 1]), ([1.5], [1]), ([0.5], [np.nan])):
        with pytest.raises(ValueError, match=r"compared|from 0 to 1"):
            calibration(stated, came)
    alone = calibration([0.7], [1])
    assert (alone.low, alone.high, alone.n) == (None, None, 1)
    with pytest.raises(ValueError, match="unit"):
        calibration([0.5, 0.5], [1, 0], units=[1])
