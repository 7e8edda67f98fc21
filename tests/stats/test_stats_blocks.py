"""What is computed in blocks, in few bits or by another way of drawing gives what the plain way gives."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from prefdata.stats import (
    annotator_bradley_terry,
    bradley_terry,
    cohen_kappa,
    dawid_skene,
    krippendorff_alpha,
)
from prefdata.stats.annotator_fit import CLOSE
from prefdata.stats.coding import repeated, small_codes

agreement = importlib.import_module("prefdata.stats.agreement")
alpha = importlib.import_module("prefdata.stats.alpha")
bootstrap = importlib.import_module("prefdata.stats.bt_bootstrap")


def labels(seed: int = 0, items: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    item = np.repeat(np.arange(items), 4).astype(np.int32)
    annotator = np.tile(np.arange(4), items).astype(np.int32) * 3 + draw.integers(0, 3, 4 * items).astype(np.int32)
    truth = draw.integers(0, 3, items)
    given = np.where(draw.random(4 * items) < 0.7, truth[item], draw.integers(0, 3, 4 * items)).astype(np.int8)
    return item, annotator, given


def test_posteriors_in_32_bits_are_those_of_64() -> None:
    plain, single = (dawid_skene(*labels(), intervals=False, single=single) for single in (False, True))
    assert single.values.dtype == np.float32
    assert np.abs(single.values - plain.values).max() < 1e-6
    assert (single.labels == plain.labels).all()
    assert (single.abilities == pytest.approx(plain.abilities, rel=1e-6)) and single.iterations == plain.iterations


def test_items_in_any_order_give_the_same() -> None:
    item, annotator, given = labels()
    order = np.random.default_rng(1).permutation(len(item))
    sorted_, mixed = dawid_skene(item, annotator, given), dawid_skene(item[order], annotator[order], given[order])
    assert np.abs(sorted_.values - mixed.values).max() < 1e-9


def test_a_table_counted_from_whole_numbers_is_that_of_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(2)
    monkeypatch.setattr(agreement, "_ROWS", 64)
    a = draw.integers(-3, 4, 500).astype(np.int8) * 10  # several blocks, gaps between the numbers
    b = np.where(draw.random(len(a)) < 0.6, a, draw.integers(-3, 4, len(a)) * 10).astype(np.int8)
    for weights in (None, "linear"):
        assert cohen_kappa(a, b, weights, resamples=50) == cohen_kappa(a.tolist(), b.tolist(), weights, resamples=50)


def test_verdicts_far_apart_are_still_told_apart() -> None:
    a = np.array([2**62, -(2**62), 2**62, 5])
    assert cohen_kappa(a, a).value == 1.0


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval", "ratio"])
def test_patterns_of_counts_are_those_of_values(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    item, annotator, given = labels(3)
    kept = np.random.default_rng(4).random(len(item)) < 0.6  # units of none to four values
    columns = item[kept], annotator[kept], given[kept]
    found = krippendorff_alpha(*columns, level, resamples=100)  # type: ignore[arg-type]
    monkeypatch.setattr(alpha, "_packable", lambda table: False)
    assert found == krippendorff_alpha(*columns, level, resamples=100)  # type: ignore[arg-type]


def test_a_unit_of_three_hundred_values() -> None:
    units, raters = np.repeat(np.arange(3), 300), np.tile(np.arange(300), 3)
    values = (raters % 5 == 0).astype(np.int64) + (units == 2)
    few = krippendorff_alpha(units, raters, values, resamples=0)
    named = krippendorff_alpha(units.tolist(), raters.tolist(), [f"v{value}" for value in values], resamples=0)
    assert few.value == pytest.approx(named.value, abs=1e-12)


def test_units_in_any_order_are_counted_alike() -> None:
    draw = np.random.default_rng(5)
    units, raters = np.repeat(np.arange(90_000), 2), np.tile([0, 1], 90_000)
    values = draw.integers(0, 4, len(units)).astype(np.int8)
    order = draw.permutation(len(units))
    found = krippendorff_alpha(units, raters, values, resamples=0)
    mixed = krippendorff_alpha(units[order], raters[order], values[order], resamples=0)
    assert found.value == pytest.approx(mixed.value, abs=1e-12) and found.n == mixed.n == 90_000


@pytest.mark.parametrize("place", [1, 3000, 65_535, 65_536, 99_999])
def test_a_repetition_is_found_across_blocks(place: int) -> None:
    first, second = np.arange(100_000) // 4, np.tile(np.arange(4), 25_000)
    assert not repeated(first, second)
    first, second = first.copy(), second.copy()
    first[place], second[place] = first[place - 1], second[place - 1]
    assert repeated(first, second)


def test_narrow_codes_come_back_as_they_are() -> None:
    given = np.array([0, 2, 1], dtype=np.int8)
    made, known = small_codes(given)
    assert made is given and known.tolist() == [0, 1, 2]
    made, known = small_codes(np.array([7, -2, 7], dtype=np.int8))
    assert made.tolist() == [1, 0, 1] and known.tolist() == [-2, 7]


def test_counts_of_comparisons_do_not_depend_on_blocks_or_widths() -> None:
    draw = np.random.default_rng(6)
    first = draw.integers(0, 20, 300_000).astype(np.uint8)
    second = (first + draw.integers(1, 20, len(first))).astype(np.uint8) % 20
    plain = bradley_terry(first, second, robust=True)
    weighted = bradley_terry(first.astype(np.int64), second.astype(np.int64), np.ones(len(first)), robust=True)
    assert np.abs(plain.values - weighted.values).max() < 1e-12
    assert np.abs(plain.covariance - weighted.covariance).max() < 1e-15  # type: ignore[operator]


def test_counts_drawn_by_poisson_are_multinomial() -> None:
    random, share, m = np.random.default_rng(7), np.array([0.7, 0.2, 0.05, 0.05]), 400
    drawn = np.empty((4000, 4))
    for row in drawn:
        row[:] = bootstrap._multinomial(random, m, share)
        row += random.multinomial(int(m - row.sum()), share)
    assert (drawn.sum(axis=1) == m).all()
    assert np.abs(drawn.mean(axis=0) - m * share).max() < 0.6
    expected = m * (np.diag(share) - np.outer(share, share))
    assert np.abs(np.cov(drawn.T) - expected).max() < 0.08 * expected.max()


def test_the_mode_of_everything_is_one_by_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(8)
    first = draw.integers(0, 8, 900)
    second = (first + draw.integers(1, 8, len(first))) % 8
    by = draw.integers(0, 6, len(first))
    newton = annotator_bradley_terry(first, second, by, intervals=False)
    module = importlib.import_module("prefdata.stats.annotator_bradley_terry")
    monkeypatch.setattr(module, "MOST_DENSE", 0)
    climbed = annotator_bradley_terry(first, second, by, intervals=False)
    assert newton.converged and newton.gradient < CLOSE and newton.covariance is None
    assert np.abs(newton.values - climbed.values).max() < 1e-3
    assert np.abs(newton.abilities - climbed.abilities).max() < 1e-3
