"""Fleiss' kappa and Gwet's AC1: published numbers, missing values, skew, what cannot be said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prefdata.stats import fleiss_kappa, gwet_ac1

TABLE = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
"""Ten units, 14 raters, five categories: the usual worked example of Fleiss' kappa, 0.210."""


def long(table: list[list[int]]) -> tuple[list[int], list[int], list[int]]:
    rows = [
        (unit, rater, value)
        for unit, counts in enumerate(table)
        for rater, value in enumerate(v for v, times in enumerate(counts) for _ in range(times))
    ]
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def test_the_worked_example() -> None:
    found = fleiss_kappa(*long(TABLE))
    assert found.value == pytest.approx(0.2099, abs=1e-4)
    assert (found.n, found.percent) == (10, pytest.approx(0.378022, abs=1e-6))
    assert found.low is not None and found.high is not None and found.low < 0.2099 < found.high
    shares = np.array(TABLE).sum(axis=0) / 140
    chance = (shares * (1 - shares)).sum() / 4
    assert gwet_ac1(*long(TABLE)).value == pytest.approx((0.378022 - chance) / (1 - chance), abs=1e-6)
    assert gwet_ac1(*long(TABLE), categories=9).value > gwet_ac1(*long(TABLE)).value  # type: ignore[operator]


def test_skew_lowers_kappa_and_not_ac1() -> None:
    """Two raters, 118 of 125 alike and nearly all of them yes: the paradox that AC1 was made for."""
    a = [1] * 118 + [0] * 2 + [1] * 5
    b = [1] * 118 + [1] * 2 + [0] * 5
    units, raters = list(range(125)) * 2, [0] * 125 + [1] * 125
    kappa, ac1 = fleiss_kappa(units, raters, a + b), gwet_ac1(units, raters, a + b)
    assert kappa.percent == ac1.percent == pytest.approx(118 / 125)
    assert kappa.value is not None and ac1.value is not None and kappa.value < 0 < 0.9 < ac1.value


def test_missing_values_and_names() -> None:
    units: list[Any] = ["p", "p", "q", "q", "q", "r"]
    raters: list[Any] = ["a", "b", "a", "b", "c", "a"]
    whole = fleiss_kappa(units, raters, ["x", "x", "y", "x", None, "y"])
    # q has two values, r one: shares of x are 1, 1/2, 0, so p_x = 1/2 and chance is 1/2; agreement is (1 + 0)/2.
    assert (whole.n, whole.percent, whole.value) == (2, 0.5, pytest.approx(0.0))


def test_what_cannot_be_said() -> None:
    for measure in (fleiss_kappa, gwet_ac1):
        assert measure([], [], []).value is None
        assert measure([1, 1], [0, 1], ["x", "x"]).value is None
        assert measure([1, 2], [0, 0], ["x", "y"]).value is None
        with pytest.raises(ValueError, match="two values to one unit"):
            measure([1, 1], [0, 0], ["x", "y"])
        with pytest.raises(ValueError, match="two clusters"):
            measure([1, 1, 2], [0, 1, 0], ["x", "y", "y"], clusters=[1, 2, 2])
        many = measure(np.repeat(np.arange(500_000), 2), np.tile([0, 1], 500_000), np.ones(1_000_000, np.int8))
        assert (many.value, many.percent, many.n) == (None, 1.0, 500_000)
    with pytest.raises(ValueError, match="categories"):
        gwet_ac1([1, 1], [0, 1], ["x", "y"], categories=1)
