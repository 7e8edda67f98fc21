"""Agreement, correlation and intervals against numbers worked out by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats import (
    bootstrap_interval,
    cohen_kappa,
    kendall_tau,
    krippendorff_alpha,
    midranks,
    order_agreement,
    spearman,
    wilson_interval,
)


def spread(table: list[list[int]]) -> tuple[list[int], list[int]]:
    """Two annotators' verdicts that make this table."""
    size = range(len(table))
    pairs = [(i, j) for i in size for j in size for _ in range(table[i][j])]
    return [i for i, _ in pairs], [j for _, j in pairs]


def alpha(rows: list[list[Any]], level: str = "nominal") -> float | None:
    flat = [(unit, rater, value) for unit, row in enumerate(rows) for rater, value in enumerate(row)]
    return krippendorff_alpha(*zip(*flat, strict=True), level=level, resamples=0).value  # type: ignore[arg-type]


def test_kappa_of_known_tables() -> None:
    assert cohen_kappa(*spread([[20, 5], [10, 15]])).value == pytest.approx(0.4, abs=1e-12)
    wide = spread([[10, 3, 1], [2, 8, 4], [0, 3, 9]])
    assert cohen_kappa(*wide).value == pytest.approx(0.513109, abs=1e-6)
    assert cohen_kappa(*wide, "quadratic").value == pytest.approx(0.693487, abs=1e-6)


def test_kappa_of_words_missing_values_and_nothing() -> None:
    assert cohen_kappa(["yes", "no", "no"], ["yes", "no", "no"]).value == 1
    assert cohen_kappa(["yes", "no"], ["no", "yes"]).value == -1
    assert cohen_kappa(["yes", None, "no"], ["yes", "no", "no"]).value == 1
    assert cohen_kappa(["yes", "yes"], ["yes", "yes"]).value is None
    assert cohen_kappa([], []).value is None
    # One says always yes: no more than chance, but chance does not explain everything.
    assert cohen_kappa(["yes", "yes"], ["yes", "no"]).value == 0
    with pytest.raises(ValueError, match="3 and 2"):
        cohen_kappa([1, 2, 3], [1, 2])


def test_kappa_weights_go_by_position_in_the_scale() -> None:
    a, b = [1, 5, 1, 5], [1, 5, 5, 1]
    assert cohen_kappa(a, b, "linear").value == cohen_kappa(a, b).value
    a, b = [1, 3, 1, 3, 2], [1, 3, 2, 3, 2]
    # Categories 1, 2, 3: distances 0, .5, 1; observed .5 of 5; expected (1*.5*2 + ...)/5 from the margins below.
    table = np.zeros((3, 3))
    for u, v in zip(a, b, strict=True):
        table[u - 1, v - 1] += 1
    distance = np.abs(np.subtract.outer(range(3), range(3))) / 2
    expected = (np.outer(table.sum(1), table.sum(0)) * distance).sum() / 25
    assert cohen_kappa(a, b, "linear").value == pytest.approx(1 - (table * distance).sum() / 5 / expected)
    # A middle category that nobody used counts only if it is named: 3 is one step from 4, and two from 1.
    assert cohen_kappa([1, 3], [1, 4], "linear", categories=[1, 2, 3, 4]).value == pytest.approx(2 / 3)
    assert cohen_kappa([1, 3], [1, 4], "linear").value == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="9"):
        cohen_kappa([1], [9], categories=[1, 2])


def test_alpha_of_known_tables() -> None:
    assert alpha([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]) == pytest.approx(0.388889, abs=1e-6)
    rows = [[1, 2, None], [3, 3, 4], [2, 2, 2], [4, 4, 3]]
    assert alpha(rows) == pytest.approx(0.302326, abs=1e-6)
    assert alpha(rows, "ordinal") == pytest.approx(0.781728, abs=1e-6)
    assert alpha(rows, "interval") == pytest.approx(0.732143, abs=1e-6)


def test_alpha_where_nothing_can_be_said() -> None:
    assert alpha([[1, 1], [1, 1]]) is None
    assert alpha([[1, None], [None, 2]]) is None
    assert krippendorff_alpha([], [], []).value is None
    assert alpha([["a", "a"], ["b", "b"]]) == 1
    with pytest.raises(ValueError, match="one rater gave two values"):
        krippendorff_alpha([1, 1], ["x", "x"], [0, 1])
    with pytest.raises(ValueError, match="numbers"):
        alpha([["a", "b"]], "interval")
    with pytest.raises(ValueError, match="level"):
        alpha([[1, 2]], "metric")


def direct_alpha(rows: list[list[float]], level: str) -> float | None:
    """The definition, pair by pair."""
    units = [row for row in rows if len(row) > 1]
    values = sorted(value for row in units for value in row)
    n = len(values)

    def distance(k: float, m: float) -> float:
        if level == "nominal":
            return float(k != m)
        if level == "interval":
            return (k - m) ** 2
        if level == "ratio":
            return 0.0 if k + m == 0 else ((k - m) / (k + m)) ** 2
        low, high = min(k, m), max(k, m)
        between = sum(low <= value <= high for value in values)
        return float(between - (values.count(k) + values.count(m)) / 2) ** 2 if k != m else 0.0

    observed = sum(distance(a, b) / (len(row) - 1) for row in units for a, b in itertools.permutations(row, 2))
    expected = sum(distance(a, b) for a, b in itertools.permutations(values, 2)) / (n - 1) if n > 1 else 0
    return None if expected == 0 else 1 - observed / expected


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=6),
    st.sampled_from(["nominal", "ordinal", "interval", "ratio"]),
)
@settings(max_examples=150, deadline=None)
def test_alpha_is_its_definition(rows: list[list[int]], level: str) -> None:
    found, wanted = alpha(rows, level), direct_alpha([[float(v) for v in row] for row in rows], level)
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert found == pytest.approx(wanted, abs=1e-9)


def test_correlations_of_known_ranks() -> None:
    ranks, metric = [-1, -2, -3, -4, -5, -6], [0.9, 0.7, 0.8, 0.5, 0.4, 0.45]
    assert kendall_tau(ranks, metric).value == pytest.approx(0.733333, abs=1e-6)
    assert spearman(ranks, metric).value == pytest.approx(0.885714, abs=1e-6)
    assert kendall_tau(ranks, ranks).value == 1
    assert spearman([1, 2, 3], [5, 5, 5]).value is None
    assert kendall_tau([1, 2, 3], [5, 5, 5]).value is None
    assert kendall_tau([1], [1]).value is None and spearman([], []).value is None
    assert midranks([30, 10, 10, 20]).tolist() == [4, 1.5, 1.5, 3]
    with pytest.raises(ValueError, match="missing"):
        spearman([1, float("nan")], [1, 2])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
@settings(max_examples=200, deadline=None)
def test_tau_b_is_its_definition(points: list[tuple[int, int]]) -> None:
    pairs = list(itertools.combinations(points, 2))
    signs = [(np.sign(a[0] - b[0]), np.sign(a[1] - b[1])) for a, b in pairs]
    x, y = sum(u != 0 for u, _ in signs), sum(v != 0 for _, v in signs)
    found = kendall_tau([p for p, _ in points], [q for _, q in points]).value if points else None
    if not x or not y:
        assert found is None
    else:
        assert found == pytest.approx(sum(u * v for u, v in signs) / math.sqrt(x * y))


def test_wilson_interval() -> None:
    low, high = wilson_interval(8, 10)
    assert (low, high) == (pytest.approx(0.490162, abs=1e-6), pytest.approx(0.943318, abs=1e-6))
    assert wilson_interval(0, 0) == (0.0, 1.0)
    low, high = wilson_interval(0, 10)
    assert low == 0 and high == pytest.approx(0.277533, abs=1e-6)
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(11, 10)


def test_bootstrap_draws_whole_units() -> None:
    values = np.array([0.0] * 50 + [1.0] * 50)
    each = bootstrap_interval(lambda rows: float(values[rows].mean()), np.arange(100), seed=1)
    halves = bootstrap_interval(lambda rows: float(values[rows].mean()), np.repeat([0, 1], 50), seed=1)
    assert each is not None and 0.38 < each[0] < 0.44 and 0.56 < each[1] < 0.62
    assert halves == (0.0, 1.0)
    assert each == bootstrap_interval(lambda rows: float(values[rows].mean()), np.arange(100), seed=1)
    assert bootstrap_interval(lambda rows: 1.0, [7, 7, 7]) is None
    assert bootstrap_interval(lambda rows: None, [1, 2, 3]) is None


def test_order_agreement() -> None:
    same = order_agreement([1, -1, 0, 2], [3, -0.1, 0, 1])
    assert (same.n, same.percent, same.value) == (4, 1.0, 1.0)
    assert order_agreement([], []).percent is None
    # Three of four verdicts agree; each pair counts both ways round: 6 of 8, half of each by chance.
    found = order_agreement([1, 1, 1, 1], [1, 1, 1, -1])
    assert found.percent == 0.75 and found.value == pytest.approx(0.5)
    turned = order_agreement([-1, 1, -1, 1], [-1, 1, -1, -1])
    assert turned.value == found.value


def test_order_agreement_has_wider_intervals_for_fewer_units() -> None:
    draw = np.random.default_rng(0)
    a = draw.choice([-1, 1], 400)
    b = np.where(draw.random(400) < 0.8, a, -a)
    pairs, prompts = order_agreement(a, b), order_agreement(a, b, np.repeat(np.arange(10), 40))
    copies = order_agreement(np.repeat(a, 5), np.repeat(b, 5), np.repeat(np.arange(400), 5))
    assert pairs.low is not None and pairs.high is not None and pairs.value is not None
    assert pairs.low < pairs.value < pairs.high
    assert pairs == order_agreement(a, b)
    assert prompts.low is not None and prompts.high is not None
    assert copies.low == pytest.approx(pairs.low) and copies.high == pytest.approx(pairs.high)
