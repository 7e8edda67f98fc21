"""NDCG, best-of-n, the ideal policy, calibration: hand-computed numbers and laws."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.stats.calibration import calibration
from prefdata.stats.ranking import best_of_n, ideal_gap, loss_to_flip, ndcg

NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=6)


def test_ndcg_by_hand() -> None:
    """Gains 2, 1, 0; ordered 1, 2, 0: (1 + 2 / log2 3) / (2 + 1 / log2 3)."""
    assert ndcg([3, 2, 1], [0.1, 0.2, 0.0]) == pytest.approx((1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)))
    assert ndcg([3, 2, 1], [9, 8, 7]) == 1.0
    assert ndcg([1, 1], [0, 1]) is None


def test_equal_predictions_share_their_gain() -> None:
    discount = 1 + 1 / math.log2(3)
    assert ndcg([1, 0], [5, 5]) == pytest.approx(0.5 * discount)


def test_best_of_n_by_hand() -> None:
    assert best_of_n([1, 5, 3], [0.3, 0.1, 0.2]).tolist() == pytest.approx([3.0, (1 + 1 + 3) / 3, 1.0])


@given(NUMBERS, st.integers(0, 10_000))
def test_best_of_n_is_the_mean_over_all_subsets(gold: list[float], seed: int) -> None:
    predicted = np.random.default_rng(seed).permutation(len(gold)).astype(float)
    for n, found in enumerate(best_of_n(gold, predicted), start=1):
        chosen = [max(subset, key=lambda i: predicted[i]) for subset in combinations(range(len(gold)), n)]
        assert found == pytest.approx(float(np.mean([gold[i] for i in chosen])))


@given(NUMBERS)
def test_the_gold_scores_choose_best(gold: list[float]) -> None:
    found = best_of_n(gold, gold)
    assert found[-1] == pytest.approx(max(gold))
    assert all(first <= second + 1e-9 for first, second in pairwise(found))


def test_ideal_policy_by_hand() -> None:
    """lp_ref_w = -12, lp_ref_l = -10, share .75: -0.901388 at beta 1, 8.986123 at beta 0.1; flips below 0.549306."""
    assert ideal_gap([-2.0], [0.75], 1.0)[0] == pytest.approx(-0.901388, abs=1e-6)
    assert ideal_gap([-2.0], [0.75], 0.1)[0] == pytest.approx(8.986123, abs=1e-6)
    assert ideal_gap([-2.0], [0.75], math.log(3) / 2)[0] == pytest.approx(0.0, abs=1e-9)
    assert loss_to_flip([-2.0], 0.1)[0] == pytest.approx(0.598139, abs=1e-6)
    assert loss_to_flip([-2.0], 1.0)[0] == pytest.approx(0.126928, abs=1e-6)
    assert loss_to_flip([0.0], 1.0)[0] == pytest.approx(math.log(2))


@given(st.floats(-20, 20), st.floats(-20, 20), st.sampled_from([0.01, 0.1, 1.0]))
def test_a_pair_is_ranked_rightly_exactly_below_its_loss(policy_gap: float, ref_gap: float, beta: float) -> None:
    loss = float(np.logaddexp(0, -beta * (policy_gap - ref_gap)))
    flip = float(loss_to_flip([ref_gap], beta)[0])
    if abs(policy_gap) > 1e-6:
        assert (loss < flip) == (policy_gap > 0)


def test_unanimous_votes_stay_finite() -> None:
    assert np.isfinite(ideal_gap([-3.0], [1.0], 0.1)).all()


def test_calibration_by_hand() -> None:
    """Two bins: .25, .25 (one came true) and .75 (came true): errors .25, .25."""
    found = calibration([0.25, 0.25, 0.75], [0, 1, 1], bins=2)
    assert found.value == pytest.approx(0.25)
    assert found.brier == pytest.approx((0.0625 + 0.5625 + 0.0625) / 3)
    assert found.log_loss == pytest.approx(-(math.log(0.75) + math.log(0.25) + math.log(0.75)) / 3)
    assert [(one.count, one.stated, one.observed) for one in found.bins] == [(2, 0.25, 0.5), (1, 0.75, 1.0)]


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_calibration_stays_in_its_range(rows: list[tuple[float, int]]) -> None:
    found = calibration([row[0] for row in rows], [row[1] for row in rows])
    assert found.value is not None and 0 <= found.value <= 1 and 0 <= found.brier <= 1 and found.log_loss >= 0
    assert sum(one.count for one in found.bins) == len(rows)


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        calibration([1.2], [1])
    with pytest.raises(ValueError, match="as many statements"):
        calibration([], [])
    with pytest.raises(ValueError, match="same length"):
        ndcg([1, 2], [1])
