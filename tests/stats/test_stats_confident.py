"""Confident learning on pairs, and probabilities of labels by heads that never saw them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.stats.confident import confident_pairs, folds_of, out_of_fold
from prefdata.stats.denoise import separation


def test_by_hand() -> None:
    """t = (.9 + .8 + .7 + .1) / 4 = .625: three are confidently right, one is confidently wrong (.9 >= .625)."""
    found = confident_pairs([0.9, 0.8, 0.7, 0.1])
    assert found.threshold == pytest.approx(0.625) and found.wrong.tolist() == [False, False, False, True]
    assert found.value == 0.25 and found.n == 4 and found.rank.tolist() == [3, 2, 1, 0]
    assert found.low is not None and found.high is not None and found.low < 0.25 < found.high


def test_what_is_in_between_counts_for_neither() -> None:
    found = confident_pairs([0.9, 0.5, 0.45, 0.05])  # t = .475; .45 is not wrong with confidence: .55 >= .475 is
    assert found.wrong.tolist() == [False, False, True, True]


@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), max_size=30))
def test_laws(p: list[float]) -> None:
    found = confident_pairs(p)
    known = ~np.isnan(p) if p else np.zeros(0, bool)
    assert not found.wrong[~known].any() and (found.rank[~known] == -1).all()
    assert sorted(found.rank[known].tolist()) == list(range(int(known.sum())))
    assert (np.array(p)[found.wrong] < 0.5).all()
    assert found.value is None or 0 <= found.value <= 1


def test_edges() -> None:
    assert confident_pairs([]).value is None and confident_pairs([np.nan]).threshold is None
    same = confident_pairs([0.7] * 5)
    assert same.value == 0.0 and not same.wrong.any()
    assert confident_pairs([0.5] * 5).value in (None, 0.0)
    with pytest.raises(ValueError, match="from 0 to 1"):
        confident_pairs([1.2])


def planted(rate: float, seed: int = 0, n: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences that a linear taste explains, some labels flipped; three pairs to a prompt."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    x *= np.sign(x @ [1.0, -1.0, 0.5, 0.0])[:, None]
    flipped = rng.random(n) < rate
    x[flipped] *= -1
    return x, np.arange(n) // 3, flipped


def test_planted_flips_are_found() -> None:
    x, prompts, flipped = planted(0.2)
    head = out_of_fold(x, prompts)
    found = confident_pairs(head.values)
    assert head.converged and separation(1 - head.values, flipped).value > 0.9  # type: ignore[operator]
    assert found.value == pytest.approx(0.2, abs=0.06) and flipped[found.wrong].mean() > 0.8


def test_noise_that_nothing_explains_is_not_found() -> None:
    """Negative control: features that say nothing find nothing."""
    rng = np.random.default_rng(3)
    x, flipped = rng.normal(size=(600, 4)), rng.random(600) < 0.3
    area = separation(1 - out_of_fold(x, np.arange(600)).values, flipped)
    assert area.low is not None and area.high is not None and area.low < 0.5 < area.high


def test_a_prompt_lies_in_one_fold_and_orders_do_not_matter() -> None:
    x, prompts, _ = planted(0.1, n=60)
    fold = folds_of(prompts, 5)
    assert all(len(set(fold[prompts == one])) == 1 for one in set(prompts.tolist()))
    one, mirrored = out_of_fold(x, prompts), out_of_fold(-x, prompts)
    np.testing.assert_allclose(mirrored.values, one.values, atol=1e-9)  # all labels the other way round: as sure


def test_out_of_fold_edges() -> None:
    assert np.isnan(out_of_fold(np.ones((3, 1)), ["a", "a", "a"]).values).all()  # one prompt: nobody else to learn from
    assert out_of_fold(np.zeros((4, 2)), [1, 2, 3, 4]).values.tolist() == [0.5] * 4  # all ties: no feature differs
    separated = out_of_fold(np.ones((50, 1)) * 1e6, np.arange(50))
    assert separated.converged and (separated.values > 0.5).all() and np.isfinite(separated.values).all()
    assert out_of_fold(np.zeros((0, 2)), []).values.size == 0
    with pytest.raises(ValueError, match="missing or infinite"):
        out_of_fold([[np.nan]], [1])
    with pytest.raises(ValueError, match="ridge must be above 0"):
        out_of_fold([[1.0]], [1], ridge=0)
    with pytest.raises(ValueError, match="one cluster for each"):
        out_of_fold([[1.0]], [1, 2])
    with pytest.raises(ValueError, match="two folds"):
        folds_of([1, 2], 1)
