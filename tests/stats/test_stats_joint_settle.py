"""The joint model settles where its hyperparameters creep, and answers or refuses whatever little it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats import Annotators, joint_model, simulate_comparisons
from prefdata.stats.joint_settle import Settling


def rounds(rates: list[float], start: list[float], count: int) -> tuple[int, np.ndarray, float]:
    """Rounds of x -> rate x with leaps: when it is said to be within 1e-3, where it is then, and how far it said."""
    x, settling, left = np.array(start), Settling(), np.inf
    for number in range(1, count + 1):
        change = x * np.array(rates) - x
        x = x + change
        left = settling.heard(x, change)
        if left < 1e-3:
            return number, x, left
        leap = settling.leap()
        x = x if leap is None else x + leap
    return count, x, left


def test_what_creeps_is_led_to_its_end() -> None:
    taken, x, _ = rounds([0.97, 0.5, -0.3], [0.8, 1.0, 1.0], 60)
    assert taken < 30 and np.abs(x).max() < 1.5e-3  # plain rounds take 220
    assert rounds([0.97], [0.8], 3)[2] > 0.5  # a change of 0.02 does not pass for settled


def test_what_runs_away_is_not_called_back() -> None:
    assert (rounds([1.1], [0.01], 20)[1] > 0.01 * 1.1**20).all()


def test_people_who_nearly_agree() -> None:
    """The strengths' scale and what is not known of them feed each other."""
    draw = np.random.default_rng(3)
    theta = draw.normal(0, 5, 240)
    group = np.repeat(np.arange(60), 4)
    i, j = (np.concatenate([4 * np.arange(60) + end for end in ends]) for ends in zip(*PAIRS, strict=True))
    first, second, by = np.tile(i, 3), np.tile(j, 3), np.repeat(np.arange(3), len(i))
    rows = simulate_comparisons(Annotators.of(3, threshold=1.0), theta, first, second, by, seed=3)
    given = {"p": rows.p, "position": rows.position, "groups": group}
    found = joint_model(rows.winners, rows.losers, rows.annotators, **given)
    assert found.converged and found.iterations < 80 and 3 < found.scale < 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefdata.stats.joint_fit._SETTLED", 1e-6)
        patch.setattr("prefdata.stats.joint_fit._OUTER", 600)
        exact = joint_model(rows.winners, rows.losers, rows.annotators, **given)
    assert exact.converged and found.scale == pytest.approx(exact.scale, rel=0.01)
    np.testing.assert_allclose(found.abilities, exact.abilities, rtol=0.01)


PAIRS = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


@st.composite
def little(draw: st.DrawFn) -> tuple[Any, ...]:
    """A few comparisons and scores of one to four contestants, by up to three annotators."""
    n = draw(st.integers(1, 4))
    m = draw(st.integers(0, 4)) if n > 1 else 0
    r = draw(st.integers(0, 4))
    few = st.sampled_from("abc")
    pairs = [draw(st.permutations(range(n)))[:2] for _ in range(m)]
    column = {
        "p": st.sampled_from([0.0, 0.5, 0.7, 1.0]), "weights": st.sampled_from([0.0, 1.0, 1e-3, 1e6]),
        "position": st.sampled_from([-1.0, 0.0, 1.0]), "length": st.sampled_from([-0.5, 0.0, 1.0]),
    }  # fmt: skip
    more: dict[str, Any] = {
        name: draw(st.lists(values, min_size=m, max_size=m)) for name, values in column.items() if draw(st.booleans())
    }
    values = st.sampled_from([0.0, 1.0, 2.5, 1e9])
    of = draw(st.lists(st.integers(0, n - 1), min_size=r, max_size=r))
    more["scores"] = (of, [draw(few) for _ in of], [draw(values) for _ in of])
    if draw(st.booleans()):
        more["score_length"] = [draw(column["length"]) for _ in of]
    return [x for x, _ in pairs], [y for _, y in pairs], [draw(few) for _ in pairs], {**more, "n": n}


@given(little())
@settings(max_examples=25, deadline=None)
def test_little_is_answered(rows: tuple[Any, ...]) -> None:
    winners, losers, annotators, more = rows
    found = joint_model(winners, losers, annotators, **more)
    alone = np.bincount(found.components)[found.components] == 1
    assert (np.isnan(found.values) == alone).all()
    if found.converged:
        assert (found.low[~alone] < found.values[~alone]).all() and np.isfinite(found.high[~alone]).all()
    if not found.annotators:
        with pytest.raises(ValueError, match="no annotator"):
            found.predict(0, 0)
    for name in found.annotators:
        assert found.predict(0, more["n"] - 1, name).sum() == pytest.approx(1)


def test_one_response_says_nothing_whoever_scores_it() -> None:
    for values, names in (([1.0, 2.0], ["a", "b"]), ([1.0, 1.0], ["a", "b"]), ([1.0, 3.0], ["a", "a"])):
        found = joint_model([], [], [], scores=([0, 0], names, values), score_length=[0.2, 0.2])
        assert np.isnan(found.values).all() and found.converged and found.difference(0, 0).value == 0
