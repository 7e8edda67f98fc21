"""Intervals of alpha and kappa: against draws made the slow way, and against what they must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata import stats
from prefdata.stats import Agreement, bootstrap_interval, mean_agreement
from prefdata.stats.coding import repeated

LEVELS = ["nominal", "ordinal", "interval", "ratio"]


def long(rows: list[list[Any]]) -> tuple[list[int], list[int], list[Any]]:
    flat = [(unit, rater, value) for unit, row in enumerate(rows) for rater, value in enumerate(row)]
    return [u for u, _, _ in flat], [r for _, r, _ in flat], [v for _, _, v in flat]


def krippendorff_alpha(*given: Any, **options: Any) -> float | None:
    return stats.krippendorff_alpha(*given, **options, resamples=0).value


def alpha_interval(*given: Any, **options: Any) -> tuple[float, float] | None:
    return ends_of(stats.krippendorff_alpha(*given, **options))


def cohen_kappa(*given: Any, **options: Any) -> float | None:
    return stats.cohen_kappa(*given, **options, resamples=0).value


def kappa_interval(*given: Any, **options: Any) -> tuple[float, float] | None:
    return ends_of(stats.cohen_kappa(*given, **options))


def ends_of(found: Agreement) -> tuple[float, float] | None:
    return None if found.low is None or found.high is None else (found.low, found.high)


def noisy(units: int, raters: int, seed: int, values: int = 5) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    truth = draw.integers(1, values + 1, units)
    said = np.where(draw.random((units, raters)) < 0.6, truth[:, None], draw.integers(1, values + 1, (units, raters)))
    return [[int(value) for value in row] for row in said]


@pytest.mark.parametrize("level", LEVELS)
def test_interval_is_that_of_alpha_computed_anew_for_each_draw(level: Any) -> None:
    """The slow way: whole units are copied, and alpha is computed from its definition for each draw."""
    rows = noisy(40, 3, seed=1)
    units, raters, values = long(rows)
    found = alpha_interval(units, raters, values, level)

    def anew(places: Any) -> float | None:
        chosen = [rows[int(u)] for u in places]
        return krippendorff_alpha(*long(chosen), level)

    slow = bootstrap_interval(anew, np.arange(40), resamples=400, seed=3)
    assert found is not None and slow is not None
    point = krippendorff_alpha(units, raters, values, level)
    assert point is not None and found[0] < point < found[1]
    # Two independent sets of draws: their quantiles differ by noise, a third of the width is far beyond it.
    width = found[1] - found[0]
    assert abs(found[0] - slow[0]) < width / 6 and abs(found[1] - slow[1]) < width / 6


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=2, max_size=6),
    st.sampled_from(LEVELS),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_the_same_draws_by_copies_and_by_counts(rows: list[list[int]], level: Any, seed: int) -> None:
    """One draw at a time: its only value is both ends, and equals alpha of the copied units."""
    units, raters, values = long(rows)
    paired = [row for row in rows if len(row) > 1]
    point = krippendorff_alpha(units, raters, values, level)
    if point is None or len(paired) < 2:
        assert alpha_interval(units, raters, values, level) is None
        return
    clusters = [f"c{unit}" for unit in units]  # each unit a cluster: then the draws are integers, which we can repeat
    found = alpha_interval(units, raters, values, level, clusters=clusters, resamples=1, seed=seed)
    drawn = np.random.default_rng(seed).integers(len(paired), size=len(paired))
    wanted = krippendorff_alpha(*long([paired[place] for place in drawn]), level)
    if wanted is None:
        assert found is None
    elif point == 1:  # no draw differs, and that is no certainty
        assert found is not None and found[0] < 1 == found[1]
    else:
        assert found == pytest.approx((wanted, wanted), abs=1e-9)


def test_interval_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    data = long(noisy(60, 4, seed=2))
    assert alpha_interval(*data, "ordinal") == alpha_interval(*data, "ordinal")
    assert alpha_interval(*data, "ordinal") != alpha_interval(*data, "ordinal", seed=1)


def test_interval_narrows_with_the_root_of_the_units() -> None:
    few, many = alpha_interval(*long(noisy(100, 3, seed=5))), alpha_interval(*long(noisy(1600, 3, seed=5)))
    assert few is not None and many is not None
    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(4, rel=0.3)


def test_clusters_are_drawn_together() -> None:
    """A unit copied ten times says no more than once; drawn one by one the copies look like more evidence."""
    once = noisy(50, 3, seed=6)
    copies = [row for row in once for _ in range(10)]
    units, raters, values = long(copies)
    together = alpha_interval(units, raters, values, clusters=[unit // 10 for unit in units])
    apart, single = alpha_interval(units, raters, values), alpha_interval(*long(once))
    assert together is not None and apart is not None and single is not None
    assert together[1] - together[0] == pytest.approx(single[1] - single[0], rel=0.15)
    assert apart[1] - apart[0] < (together[1] - together[0]) / 2
    with pytest.raises(ValueError, match="two clusters"):
        alpha_interval([1, 1], ["a", "b"], [0, 1], clusters=["x", "y"])


def test_interval_where_nothing_can_be_said() -> None:
    assert alpha_interval([], [], []) is None
    assert alpha_interval(*long([[1, 1], [1, 1]])) is None  # all values alike: alpha is undefined
    assert alpha_interval(*long([[1, 2, 1]])) is None  # one unit: nothing to draw from
    assert alpha_interval(*long([["a", "a"], ["b", "b"], ["a", "a"], ["b", "b"]])) == pytest.approx((0.02021833, 1.0))
    with pytest.raises(ValueError, match="confidence"):
        alpha_interval(*long([[1, 2], [2, 1]]), confidence=1.0)


def test_one_reading_says_it_all() -> None:
    data = long([[1, 2, None], [3, 3, 4], [2, 2, 2], [4, 4, 3], [5, None, None]])
    for level in LEVELS:
        found = stats.krippendorff_alpha(*data, level)  # type: ignore[arg-type]
        point = stats.krippendorff_alpha(*data, level, resamples=0)  # type: ignore[arg-type]
        assert found.value == pytest.approx(point.value)
        assert (found.n, found.percent) == (4, pytest.approx(mean_agreement(*data)))
        assert (point.low, point.high, point.n) == (None, None, 4)
    assert stats.krippendorff_alpha([], [], []) == Agreement(None, None, None, 0, None)


@given(
    st.lists(st.lists(st.integers(0, 5), max_size=5), max_size=8),
    st.sampled_from(LEVELS),
    st.sampled_from([np.int8, np.int32, np.float64]),
)
@settings(max_examples=80, deadline=None)
def test_counting_and_patterns_give_one_alpha(rows: list[list[int]], level: Any, kind: Any) -> None:
    units, raters, values = long(rows)
    columns = [np.asarray(units, np.int32), np.asarray(raters, np.int32), np.asarray(values, kind)]
    counted = stats.krippendorff_alpha(*columns, level, resamples=0)
    patterns = stats.krippendorff_alpha(units, raters, values, level, resamples=2)
    assert counted.n == patterns.n
    assert counted.value == pytest.approx(patterns.value, abs=1e-9)
    assert counted.percent == pytest.approx(patterns.percent)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30))
def test_a_repeated_pair_is_found(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array([pair[place] for pair in pairs], dtype=np.int32) for place in (0, 1))
    assert repeated(first, second) == (len(set(pairs)) < len(pairs))


def test_a_repeated_pair_is_found_among_many() -> None:
    first = np.repeat(np.arange(200_000, dtype=np.int32), 5)
    second = np.tile(np.arange(5, dtype=np.int32), 200_000)
    assert not repeated(first, second)
    second[777_001] = second[777_000]
    assert repeated(first, second)


def test_infinite_values_are_refused_where_distances_count() -> None:
    rows = [[1.0, np.inf], [2.0, 3.0]]
    for level in ("ordinal", "interval", "ratio"):
        with pytest.raises(ValueError, match="infinite"):
            stats.krippendorff_alpha(*long(rows), level)
    assert stats.krippendorff_alpha(*long([[1.0, np.nan], [2.0, 2.0], [3.0, 3.0]])).value == 1


def test_a_million_equal_votes_say_nothing() -> None:
    units = np.repeat(np.arange(500_000), 2)
    found = stats.krippendorff_alpha(units, np.tile([0, 1], 500_000), np.ones(1_000_000), resamples=0)
    assert (found.value, found.n, found.percent) == (None, 500_000, 1.0)
    kappa = stats.cohen_kappa(np.ones(1_000_000), np.ones(1_000_000))
    assert (kappa.value, kappa.low, kappa.n, kappa.percent) == (None, None, 1_000_000, 1.0)


def test_mean_agreement_by_hand() -> None:
    # Unit 1: 3 of 3 couples agree; unit 2: 1 of 3; unit 3: none of 1; unit 4 has one value and says nothing.
    rows = [["a", "a", "a"], ["a", "a", "b"], ["a", "b", None], ["a", None, None]]
    assert mean_agreement(*long(rows)) == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert mean_agreement(*long([["a", None]])) is None


def test_arrays_and_lists_are_alike() -> None:
    units, raters, values = long(noisy(30, 3, seed=8))
    arrays = [np.asarray(column) for column in (units, raters, values)]
    assert krippendorff_alpha(*arrays, "interval") == pytest.approx(
        krippendorff_alpha(units, raters, values, "interval")
    )
    assert mean_agreement(*arrays) == mean_agreement(units, raters, values)


def test_kappa_interval_of_copies_and_draws() -> None:
    rows = noisy(300, 2, seed=9)
    a, b = [row[0] for row in rows], [row[1] for row in rows]
    for weights in (None, "linear", "quadratic"):
        found, point = kappa_interval(a, b, weights), cohen_kappa(a, b, weights)  # type: ignore[arg-type]
        assert found is not None and point is not None and found[0] < point < found[1]

        def anew(places: Any, weights: Any = weights) -> float | None:
            return cohen_kappa([a[i] for i in places], [b[i] for i in places], weights, categories=range(1, 6))

        slow = bootstrap_interval(anew, np.arange(300), resamples=300, seed=2)
        assert slow is not None
        width = found[1] - found[0]
        assert abs(found[0] - slow[0]) < width / 6 and abs(found[1] - slow[1]) < width / 6
    assert kappa_interval(a, b) == kappa_interval(a, b)
    whole = kappa_interval(a * 5, b * 5, units=[*range(300)] * 5)
    assert whole == pytest.approx(kappa_interval(a, b))


def test_kappa_interval_where_nothing_can_be_said() -> None:
    assert kappa_interval([], []) is None
    assert kappa_interval(["x", "x"], ["x", "x"]) is None
    assert kappa_interval(["x", "y"], ["x", "y"], units=[1, 1]) is None
    assert kappa_interval(["x", "y", None] * 9, ["x", "y", "x"] * 9) == pytest.approx((0.6482416, 1.0))
    with pytest.raises(ValueError, match="2 verdicts"):
        kappa_interval([1, 2], [1, 2], units=[1])


def test_votes_of_a_crowd_and_their_interval(data_folder: Path) -> None:
    """UKPConvArg1: its README gives nominal alpha 0.324 and mean pairwise agreement 0.569."""
    votes = pl.read_parquet(data_folder / "ukpconvarg1_votes.parquet")
    units = votes.select(pl.concat_str("topic", "pair_id", separator="/")).to_series().to_list()
    given = (units, votes["worker"].to_list(), votes["value"].to_list())
    point, found = krippendorff_alpha(*given), alpha_interval(*given)
    assert point == pytest.approx(0.324, abs=5e-4)
    assert mean_agreement(*given) == pytest.approx(0.569, abs=5e-4)
    assert found is not None and found[0] < point < found[1] and found[1] - found[0] < 0.03
    topics = alpha_interval(*given, clusters=votes["topic"].to_list())
    assert (
        topics is not None and topics[1] - topics[0] > found[1] - found[0]
    )  # topics differ: pairs are not independent
