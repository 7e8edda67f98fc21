"""CHES, ranking accuracy and the betas that flip, length sensitivity: the reference's numbers, and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.stats.displacement import ches, flipping_beta, ranking_accuracy, summed_states
from prefdata.stats.length_sensitivity import desensitised_logprob, divergence, length_sensitivity
from prefdata.stats.ranking import ideal_gap, loss_to_flip

W, L = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 1.0]])


def test_ches_of_the_reference() -> None:
    """A01."""
    found = ches(W.sum(0), L.sum(0), 2, 2)
    assert found.ches[0] == pytest.approx(1.0) and found.ches_ln[0] == pytest.approx(0.25)
    turned = ches(L.sum(0), W.sum(0), 2, 2)
    assert turned.ches[0] != found.ches[0] and turned.ches_ln[0] != found.ches_ln[0]
    same = ches(W.sum(0), W.sum(0), 2, 2)
    assert same.ches[0] == 0 and same.ches_ln[0] == 0
    scaled = ches(3 * W.sum(0), 3 * L.sum(0), 2, 2)
    assert scaled.ches[0] == pytest.approx(9.0) and scaled.ches_ln[0] == pytest.approx(9 * 0.25)


@given(st.integers(0, 4), st.floats(-1e6, 1e6))
def test_padding_says_nothing(extra: int, filler: float) -> None:
    padded = np.concatenate([W, np.full((extra, 2), filler)])
    mask = np.arange(2 + extra) < 2
    states, count = summed_states(padded[None], mask[None])
    np.testing.assert_array_equal(states[0], W.sum(0))
    assert count.tolist() == [2]


def test_ches_edges() -> None:
    empty = ches(np.zeros((1, 2)), np.ones((1, 2)), 0, 3)
    assert np.isnan(empty.ches[0]) and np.isnan(empty.ches_ln[0])
    assert np.isnan(summed_states(np.full((1, 2, 1), np.nan), [[False, True]])[0]).all()  # its own states count
    with pytest.raises(ValueError, match="missing or infinite"):
        ches([np.nan, 1.0], [1.0, 1.0], 1, 1)
    with pytest.raises(ValueError, match="one shape"):
        ches(np.ones((1, 2)), np.ones((1, 3)), 1, 1)


def test_ideal_ranking_of_the_reference() -> None:
    """C01: lp_ref_w = -12, lp_ref_l = -10, three quarters of the votes."""
    gap = -12.0 - -10.0
    assert ideal_gap([gap], [0.75], 1.0)[0] == pytest.approx(-0.901388, abs=1e-6)
    assert ideal_gap([gap], [0.75], 0.1)[0] == pytest.approx(8.986123, abs=1e-6)
    assert flipping_beta([gap], [0.75])[0] == pytest.approx(0.549306, abs=1e-6)
    assert loss_to_flip([gap], 0.1)[0] == pytest.approx(0.598139, abs=1e-6)
    assert loss_to_flip([gap], 1.0)[0] == pytest.approx(0.126928, abs=1e-6)
    assert np.isinf(flipping_beta([1.0], [0.75])[0]) and np.isnan(flipping_beta([gap], [0.4])[0])
    assert np.isfinite(flipping_beta([gap], [1.0])[0])  # unanimous votes are clamped
    assert loss_to_flip([0.0], 0.7)[0] == pytest.approx(np.log(2))


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0.01, 5))
def test_the_loss_says_whether_the_policy_ranks_rightly(policy_gap: float, reference_gap: float, beta: float) -> None:
    loss = np.logaddexp(0, -beta * (policy_gap - reference_gap))
    if abs(policy_gap) > 1e-6:
        assert (loss < loss_to_flip(reference_gap, beta)) == (policy_gap > 0) or np.isclose(
            loss, loss_to_flip(reference_gap, beta), rtol=1e-9
        )


def test_accuracies_by_sum_and_by_token_differ() -> None:
    found = ranking_accuracy([-10, -4, -3], [-6, -5, -3], [10, 2, 3], [2, 5, 3])
    assert found.summed.value == 0.5 and found.per_token.value == 0.5  # (0 + 1 + .5) / 3 and (1 + 0 + .5) / 3
    votes = ranking_accuracy([-10, -4], [-6, -5], [10, 2], [2, 5], share=[0.5, 0.8])
    assert votes.summed.value == 1.0 and votes.per_token.value == 0.0 and votes.summed.n == 1
    assert ranking_accuracy([], [], [], []).summed.value is None
    assert ranking_accuracy([np.nan], [1.0], [1], [1]).summed.n == 0


def test_length_of_the_reference() -> None:
    """C09."""
    found = length_sensitivity([100, 300, -50, 200], [0.5, 1, -0.2, 0.8])
    assert found.correlation.value == pytest.approx(0.983028, abs=1e-6)
    assert found.slope.value == pytest.approx(0.003458, abs=1e-6)
    assert found.longer.value == 0.75 and found.mean_gap.value == 137.5 and found.median_gap == 150
    chosen, rejected = [-1.0] * 4, [-1.0] * 2
    assert desensitised_logprob(chosen, 2, 0.5) == -3 and desensitised_logprob(rejected, 4, 0.5) == -2
    assert desensitised_logprob(chosen, 2, 1.0) == -4 and desensitised_logprob(chosen, 2, 0.0) == -2
    assert desensitised_logprob(chosen, 4, 0.3) == -4
    kl = divergence([0.1, -0.2, 0.3])
    assert kl.k1 == pytest.approx(0.066667, abs=1e-6) and kl.k2 == pytest.approx(0.023333, abs=1e-6)
    assert kl.k3 == pytest.approx(0.022353, abs=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_k3_is_never_negative(d: list[float]) -> None:
    assert divergence(d).k3 >= 0  # type: ignore[operator]


def test_length_edges() -> None:
    nothing = length_sensitivity([])
    assert nothing.longer.value is None and nothing.mean_gap.value is None and nothing.median_gap is None
    equal = length_sensitivity([0, 0, 0], [1, 2, 3])
    assert equal.longer.value == 0.5 and equal.correlation.value is None and equal.slope.value is None
    flat = length_sensitivity([1, 2, 3], [1, 1, 1])
    assert flat.correlation.value is None and flat.slope.value == 0
    assert length_sensitivity([5.0]).mean_gap.low is None
    with pytest.raises(ValueError, match="infinite"):
        length_sensitivity([np.inf])
    with pytest.raises(ValueError, match="alpha lies from 0 to 1"):
        desensitised_logprob([-1.0], 1, 2.0)
    assert divergence([]).k1 is None
