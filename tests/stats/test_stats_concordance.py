"""Kendall's W."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from prefdata.stats import kendall_w, spearman


def test_by_hand() -> None:
    """Three rankers of four: rank sums 4, 6, 9, 11 about 7.5, S = 29, W = 12 * 29 / (9 * 60)."""
    found = kendall_w([[4, 3, 2, 1], [4, 2, 3, 1], [3, 4, 1, 2]])
    assert found.value == pytest.approx(12 * 29 / (9 * 60))
    np.testing.assert_allclose(found.ranks, np.array([4, 6, 9, 11]) / 3)


def test_it_is_the_mean_of_spearmans_rhos() -> None:
    """mean rho = (m W - 1)/(m - 1), also with ties if each ranker has as many."""
    scores = np.random.default_rng(0).normal(size=(5, 7))
    w = kendall_w(scores).value
    rhos = [spearman(a, b).value for a, b in combinations(scores, 2)]
    assert w is not None and np.mean(rhos) == pytest.approx((5 * w - 1) / 4)  # type: ignore[arg-type]


def test_ends_and_what_is_undefined() -> None:
    same = kendall_w([[3, 2, 1]] * 4)
    assert same.value == 1 and same.p_value == pytest.approx(np.exp(-4))
    assert kendall_w([[1, 2], [2, 1]]).value == 0
    assert kendall_w([[1, 1, 1]] * 3).value is None
    assert kendall_w([[1, 2, 3]]).value is None and kendall_w(np.zeros((0, 3))).value is None
    tied = kendall_w([[2, 1, 1], [2, 1, 1]])
    assert tied.value == pytest.approx(1)
    with pytest.raises(ValueError, match="finite scores"):
        kendall_w([[1, float("nan")]])
