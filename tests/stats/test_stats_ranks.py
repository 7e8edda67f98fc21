"""Rank sets and the simultaneous band of differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats import bradley_terry, rank_sets


def test_two_contestants_need_no_more_than_the_plain_interval() -> None:
    found = rank_sets([1.0, 0.0], np.eye(2), draws=200_000)
    assert found.critical == pytest.approx(1.96, abs=0.02)
    assert (found.low.tolist(), found.high.tolist(), found.values.tolist()) == ([1, 1], [2, 2], [1, 2])
    sure = rank_sets([5.0, 0.0], np.eye(2))
    assert (sure.low.tolist(), sure.high.tolist()) == ([1, 2], [1, 2]) and sure.certain.tolist()[0] == [False, True]


def test_independent_equal_errors_are_the_studentised_range() -> None:
    # The largest difference of ten normals over its error sqrt(2): Tukey's q(10, infinity) at 95 % is 4.474.
    assert rank_sets(np.zeros(10), np.eye(10), draws=40_000).critical == pytest.approx(4.474 / np.sqrt(2), abs=0.04)


def test_coverage_is_of_all_ranks_together() -> None:
    random = np.random.default_rng(1)
    truth, errors = np.array([2.0, 1.0, 0.5, 0.4, 0.0]), np.array([0.3, 0.3, 0.5, 0.2, 0.4])
    right = 0
    for _ in range(200):
        found = rank_sets(truth + errors * random.normal(size=5), np.diag(errors**2), draws=400)
        ranks = np.arange(1, 6)
        right += bool(((found.low <= ranks) & (ranks <= found.high)).all())
    assert right >= 0.93 * 200


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_laws(values: list[float], seed: int) -> None:
    n = len(values)
    root = np.random.default_rng(seed).normal(size=(n, n))
    found = rank_sets(values, root @ root.T, draws=300)
    assert ((found.low <= found.values) & (found.values <= found.high)).all()
    assert not (found.certain & found.certain.T).any()
    shifted = rank_sets(np.array(values) + 1.0, root @ root.T, draws=300)
    assert shifted.critical == found.critical


def test_equal_values_share_their_rank_and_contradictions_are_refused() -> None:
    assert rank_sets([1.0, 1.0, 0.0], np.eye(3)).values.tolist() == [1.5, 1.5, 3]
    assert rank_sets([1.0], [[0.0]]).high.tolist() == [1]
    # Without any error whatever differs is certain.
    assert rank_sets([3.0, 2.0, 2.0], np.zeros((3, 3))).low.tolist() == [1, 2, 2]
    for values, covariance in (([1.0, np.nan], np.eye(2)), ([1.0, 2.0], np.full((2, 2), np.inf)), ([1.0], np.eye(2))):
        with pytest.raises(ValueError, match=r"needed|missing or infinite"):
            rank_sets(values, covariance)


def test_ranks_of_a_fit() -> None:
    # 0 and 1 are close and both far above 2, who plays them often.
    fit = bradley_terry([0, 1] * 30 + [2] * 4 + [0, 1] * 5, [2, 2] * 30 + [0, 1] * 2 + [1, 0] * 5)
    found = fit.ranks()
    assert (found.low.tolist(), found.high.tolist()) == ([1, 1, 3], [2, 2, 3])
    assert found.critical > 1.96
    # What is known from ties alone is not known: the sandwich is empty there.
    with pytest.raises(ValueError, match="fits exactly"):
        bradley_terry([0] * 8, [1] * 8, p=[0.5] * 8, robust=True).ranks()
