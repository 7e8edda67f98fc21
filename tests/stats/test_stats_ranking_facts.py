"""Facts of lists: LiPO's and IRPO's weights, NDCG by grades, best-of-n, and a metric against people's ranks."""

from __future__ import annotations

import numpy as np
import pytest

from prefdata.stats import (
    best_of_n_divergence,
    best_of_n_win_rate,
    kendall_tau,
    metric_correlation,
    ndcg,
    pearson,
    positional_weights,
    spearman,
    swap_weights,
)
from prefdata.stats.logistic import log_sigmoid


def test_lipo_by_hand() -> None:
    """psi [1, .5, 0], s [.2, .5, -.1]: the order is 2, 1, 3."""
    psi, s = np.array([1, 0.5, 0]), np.array([0.2, 0.5, -0.1])
    weights = swap_weights(psi, s)
    assert [weights[0, 1], weights[0, 2], weights[1, 2]] == pytest.approx([0.216196, 0.130930, 0.207107], abs=1e-6)
    np.testing.assert_array_equal(weights, weights.T)
    loss = -sum(weights[i, j] * log_sigmoid(s[i] - s[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert loss == pytest.approx(0.347897, abs=1e-6)
    assert ndcg(psi, s, gain="exponential") == pytest.approx(0.828598, abs=1e-6)
    assert ndcg(psi, psi, gain="exponential") == 1
    assert ndcg([1, 1], [0, 1], gain="exponential") is None
    assert swap_weights([0.5, 0.5], [1, 2]).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="begin at 0"):
        ndcg([-1, 1], [0, 1], gain="exponential")


def test_irpo_by_hand() -> None:
    """y [2, 1, 0] at places 1, 2, 3, r [.3, .4, -.2], beta 1."""
    weights, r = positional_weights([2, 1, 0], [1, 2, 3]), np.array([0.3, 0.4, -0.2])
    np.testing.assert_allclose(weights, [3, 0.630930, 0], atol=1e-6)
    z = np.array([-(np.log(np.exp(np.delete(r, i) - r[i]).sum()) - np.log(2)) for i in range(3)])
    np.testing.assert_allclose(z, [0.155659, 0.319070, -0.551249], atol=1e-6)
    terms = -weights * log_sigmoid(z)
    np.testing.assert_allclose(terms, [1.855030, 0.344667, 0], atol=1e-6)
    assert terms.mean() == pytest.approx(0.733232, abs=1e-6)
    with pytest.raises(ValueError, match="positions at 1"):
        positional_weights([1.0], [0])


def test_list_metrics_by_hand() -> None:
    """gold [1, 2, 3, 4], predicted [1, 3, 2, 4]; a gold tie; a reversal; monotone transforms change nothing."""
    gold, predicted = [1, 2, 3, 4], [1, 3, 2, 4]
    assert kendall_tau(gold, predicted).value == pytest.approx(0.666667, abs=1e-6)
    assert spearman(gold, predicted).value == pytest.approx(0.8, abs=1e-6)
    assert kendall_tau([1, 2, 2, 4], gold).value == pytest.approx(0.912871, abs=1e-6)
    assert kendall_tau(gold, gold[::-1]).value == -1
    assert kendall_tau(gold, np.exp(predicted)).value == kendall_tau(gold, predicted).value


def test_best_of_n() -> None:
    assert [best_of_n_divergence(n) for n in (1, 2, 4, 16)] == pytest.approx(
        [0, 0.193147, 0.636294, 1.835089], abs=1e-6
    )
    assert [best_of_n_win_rate(n) for n in (2, 4, 16)] == pytest.approx([0.666667, 0.8, 0.941176], abs=1e-6)
    with pytest.raises(ValueError, match="one or more"):
        best_of_n_divergence(0)


def test_a_metric_against_ranks() -> None:
    """Ranks 1 to 6 against [.9, .7, .8, .5, .4, .45]."""
    ranks, metric = np.arange(1, 7), np.array([0.9, 0.7, 0.8, 0.5, 0.4, 0.45])
    found = metric_correlation(["one"] * 6, -ranks, metric, systems=list("abcdef"))
    assert found.value == pytest.approx(0.733333, abs=1e-6) and found.low is None
    assert found.systems == pytest.approx(0.733333, abs=1e-6)
    assert found.pooled == pytest.approx(0.902520, abs=1e-6)
    assert metric_correlation(["one"] * 6, -ranks, metric, kind="spearman").value == pytest.approx(0.885714, abs=1e-6)
    assert metric_correlation(["one"] * 6, -ranks, -ranks).value == 1


def test_items_without_an_order_are_counted() -> None:
    items = np.repeat(["a", "b", "c"], 3).tolist()
    found = metric_correlation(items, [1, 2, 3, 1, 1, 1, 3, 1, 2], [1, 2, 3, 4, 5, 6, 3, 2, 1])
    assert (found.n, found.dropped) == (2, 1)
    assert found.value == pytest.approx((1 + 1 / 3) / 2)
    assert np.isnan(found.by_item[1]) and found.low is not None
    nothing = metric_correlation([], [], [])
    assert (nothing.value, nothing.pooled, nothing.n) == (None, None, 0)
    assert pearson([1, 1], [1, 2]) is None
    with pytest.raises(ValueError, match="missing or infinite"):
        metric_correlation(["a"], [float("nan")], [1])
    with pytest.raises(ValueError, match="kendall or spearman"):
        metric_correlation(["a"], [1], [1], kind="pearson")  # type: ignore[arg-type]
