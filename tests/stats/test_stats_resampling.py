"""Bootstrap draws that several numbers share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.stats import Draws, kappas, paired_difference, wilson_interval
from prefdata.stats.resampling import MOST_UNITS


def test_sums_and_ratios_by_hand() -> None:
    draws = Draws(["p", "q", "p"], resamples=50)
    whole, drawn = draws.sums([1.0, 2.0, 3.0])
    assert whole.tolist() == [6.0]
    # A draw of two prompts holds p twice (8), each once (6), or q twice (4): rows of p always come together.
    assert set(drawn[:, 0]) <= {8.0, 6.0, 4.0}
    value, ratios = draws.ratio([1, 0, 1], [1, 1, 1])
    assert value == pytest.approx(2 / 3)
    assert {round(one, 6) for one in ratios} <= {1.0, round(2 / 3, 6), 0.0}


def test_a_ratio_over_nothing_is_unknown() -> None:
    draws = Draws(["p", "q"], resamples=20)
    value, drawn = draws.ratio([0, 0], [0, 0])
    assert np.isnan(value)
    assert draws.interval(drawn) is None
    assert Draws(["p", "p"]).interval(np.ones(1000)) is None
    assert Draws([]).n_units == 0


def test_some_rows_of_all() -> None:
    draws = Draws(list("pqrs"), resamples=100)
    value, drawn = draws.ratio([1, 0], [1, 1], np.array([1, 3]))
    assert value == 0.5
    assert 0 < np.isnan(drawn).sum() < 100  # a draw may hold neither q nor s


def test_the_same_seed_gives_the_same_draws() -> None:
    units = list(range(30))
    first, second, other = (Draws(units, seed=seed).ratio(units, np.ones(30))[1] for seed in (3, 3, 4))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_share_without_variation_is_not_certain() -> None:
    draws = Draws(list(range(12)))
    for share in (1.0, 0.0):
        value, drawn = draws.ratio(np.full(12, share), np.ones(12))
        assert draws.interval(drawn) == (share, share)
        assert draws.share_interval(value, drawn, 12) == pytest.approx(wilson_interval(12 * share, 12))
    value, drawn = draws.ratio(np.full(12, 0.5), np.ones(12))  # a judge that always calls a tie earns just that
    assert draws.share_interval(value, drawn, 12) == (0.5, 0.5)


def test_many_units_are_drawn_in_blocks() -> None:
    n = 6 * MOST_UNITS
    values = np.random.default_rng(0).random(n) < 0.3
    draws = Draws(np.arange(n), resamples=200)
    assert (draws.n_units, draws.times.shape) == (MOST_UNITS, (200, MOST_UNITS))
    value, drawn = draws.ratio(values, np.ones(n))
    low, high = draws.interval(drawn) or (0, 0)
    expected = 1.96 * np.sqrt(0.3 * 0.7 / n)
    assert low < value < high
    assert (high - low) / 2 == pytest.approx(expected, rel=0.25)


def test_prompts_that_are_hard_as_a_whole_widen_the_interval() -> None:
    """Five pairs of one prompt that stand and fall together are one observation, not five."""
    right = np.repeat(np.arange(40) % 2 == 0, 5)
    widths = []
    for units in (np.repeat(np.arange(40), 5), np.arange(200)):
        draws = Draws(units)
        low, high = draws.interval(draws.ratio(right, np.ones(200))[1]) or (0, 0)
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(5), rel=0.15)


def test_nine_in_ten_intervals_hold_the_truth() -> None:
    """40 prompts of 4 pairs, each prompt with an accuracy of its own, mean 0.7: 95%, a little less at this n."""
    random = np.random.default_rng(5)
    units, ones, held = np.repeat(np.arange(40), 4), np.ones(160), 0
    for seed in range(200):
        ease = random.beta(7, 3, size=40)
        right = random.random(160) < np.repeat(ease, 4)
        draws = Draws(units, resamples=300, seed=seed)
        low, high = draws.interval(draws.ratio(right, ones)[1]) or (0, 0)
        held += low <= 0.7 <= high
    assert 178 <= held <= 199


def test_the_difference_of_two_judges_is_paired() -> None:
    hard = np.arange(60) % 3 == 0  # both fail on the same pairs, and the second on one more kind
    a, b = np.where(hard, 0.0, 1.0), np.where(hard | (np.arange(60) % 10 == 1), 0.0, 1.0)
    value, low, high = paired_difference(a, b, np.arange(60)) or (0, 0, 0)
    assert value == pytest.approx((a - b).mean())
    assert 0 < low < value < high
    # Each by itself overlaps with the other: the pairing tells them apart.
    alone = [
        draws.interval(draws.ratio(one, np.ones(60))[1]) for one in (a, b) for draws in [Draws(np.arange(60), seed=1)]
    ]
    assert alone[1] is not None and alone[0] is not None and alone[1][1] > alone[0][0]


def test_a_judge_differs_from_itself_by_nothing() -> None:
    values = [1.0, 0.5, 0.0, float("nan")]
    assert paired_difference(values, values, list("pqrs")) == (0.0, 0.0, 0.0)
    assert paired_difference([1.0, float("nan")], [float("nan"), 1.0], ["p", "q"]) is None
    with pytest.raises(ValueError, match="two values and a unit"):
        paired_difference([1.0], [1.0, 0.0], ["p", "q"])


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), min_size=2, max_size=12))
def test_the_difference_turns_with_the_judges(pairs: list[tuple[float, float]]) -> None:
    a, b = [one for one, _ in pairs], [one for _, one in pairs]
    there, back = (paired_difference(*given, range(len(pairs)), resamples=40) for given in ((a, b), (b, a)))
    assert there is not None and back is not None
    assert there == pytest.approx((-back[0], -back[2], -back[1]))
    assert there[1] <= there[0] + 1e-9 or len(set(pairs)) > 1
    assert -1 <= there[1] <= there[2] <= 1


def test_kappas_of_several_tables() -> None:
    same, chance = np.diag([3.0, 2.0, 1.0]), np.ones((3, 3))
    found = kappas(np.stack([same, chance, np.zeros((3, 3))]))
    assert found[:2] == pytest.approx([1.0, 0.0])
    assert np.isnan(found[2])
