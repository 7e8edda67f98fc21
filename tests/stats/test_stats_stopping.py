"""How many more labels, hours and how much money: by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.stats import Remaining, remaining, units_needed


def test_half_the_width_takes_four_times_the_units() -> None:
    assert units_needed(0.10, 100, 0.05) == 300  # 400 in all
    assert units_needed(0.05, 100, 0.05) == 0
    assert units_needed(0.04, 100, 0.05) == 0
    assert units_needed(0.06, 100, 0.05) == 44  # (1.2^2 - 1) 100
    assert units_needed(0.3, 10, 0.1) == 80  # and not 81: 0.3/0.1 is a little more than 3
    assert units_needed(0.0, 5, 0.1) == 0


@given(st.floats(0.001, 1), st.integers(1, 10**6), st.floats(0.001, 1))
def test_so_many_units_are_enough_and_one_fewer_is_not(half: float, n: int, target: float) -> None:
    more = units_needed(half, n, target)

    def width(units: int) -> float:
        return half * math.sqrt(n / units)

    assert width(n + more) <= target * (1 + 1e-8)
    if more:
        assert width(n + more - 1) > target * (1 - 1e-8)


def test_hours_and_money_by_hand() -> None:
    # 300 units by 2 people: 600 labels; at 40 an hour 15 hours; at 90 s each 15 hours of work; at 20 an hour 0.50 each.
    found = remaining(300, labels_a_unit=2, labels_an_hour=40, seconds_a_label=90, pay_an_hour=20)
    assert found == Remaining(300, 600, 15.0, 15.0, 0.5, 300.0)
    assert remaining(10, labels_a_unit=1.5).labels == 15
    assert remaining(10, labels_a_unit=1.25).labels == 13


def test_what_is_not_known_is_none_and_what_is_done_is_nothing() -> None:
    assert remaining(7) == Remaining(7, 7, None, None, None, None)
    assert remaining(7, labels_an_hour=0.0).hours is None  # nobody is labelling
    assert remaining(0, labels_an_hour=0.0, seconds_a_label=60, pay_an_hour=12) == Remaining(0, 0, 0.0, 0.0, 0.2, 0.0)
    assert remaining(7, seconds_a_label=60).cost is None
    assert remaining(7, pay_an_hour=12).label_cost is None


@pytest.mark.parametrize(
    ("half", "n", "target"), [(-0.1, 10, 0.1), (math.nan, 10, 0.1), (0.1, 0, 0.1), (0.1, 10, 0.0), (0.1, 10, math.inf)]
)
def test_senseless_intervals_are_refused(half: float, n: int, target: float) -> None:
    with pytest.raises(ValueError, match=r"half width|at least one unit|target"):
        units_needed(half, n, target)


def test_senseless_paces_are_refused() -> None:
    with pytest.raises(ValueError, match="pace"):
        remaining(1, labels_an_hour=-1)
    with pytest.raises(ValueError, match="pay"):
        remaining(1, pay_an_hour=math.nan)
    with pytest.raises(ValueError, match="labels a unit"):
        remaining(1, labels_a_unit=0)
    with pytest.raises(ValueError, match="fewer than none"):
        remaining(-1)
