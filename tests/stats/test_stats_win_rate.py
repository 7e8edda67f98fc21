"""Win rates, raw and length-controlled: by hand, by laws, and AlpacaEval's published numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats import (
    Gamed,
    LengthControl,
    from_alpaca_eval,
    instruction_difficulty,
    length_controlled_win_rate,
    length_feature,
    two_games,
    verdict_games,
    win_rate,
    win_rate_by,
)
from prefdata.stats.length_controlled import _labels_of


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_raw_by_hand() -> None:
    found = win_rate([1, 1, 0.5, 0, 0.9])
    assert (found.value, found.discrete, found.wins, found.losses, found.ties) == (pytest.approx(0.68), 0.7, 3, 1, 1)
    assert (found.tie_rate, found.n) == (0.2, 5)
    error = np.std([1, 1, 0.5, 0, 0.9], ddof=1) / math.sqrt(5)
    assert found.standard_error == pytest.approx(error, abs=1e-12)
    assert found.low == pytest.approx(0.68 - 2.776445 * error, abs=1e-6) and found.high == 1.0
    assert win_rate([0.5] * 10).value == 0.5  # identical outputs


def test_strong_verdicts_count_three_times() -> None:
    """A>>B with weight 3 is three wins; the interval knows that it is one verdict."""
    outcomes, weights = verdict_games(["A>>B", "B>A", "A=B", "B<A", "B>>A"])
    assert outcomes.tolist() == [1, 0, 0.5, 1, 0] and weights.tolist() == [3, 1, 1, 1, 3]
    strong = win_rate(*verdict_games(["A>>B", "B>A"]))
    repeated = win_rate([1, 1, 1, 0])
    assert strong.value == repeated.value == 0.75
    assert strong.standard_error is not None and repeated.standard_error is not None
    assert strong.standard_error > repeated.standard_error
    with pytest.raises(ValueError, match="verdict 1 is 'A>>>B'"):
        verdict_games(["A>B", "A>>>B"])


def test_two_games_and_clusters() -> None:
    assert two_games([1, 1, 0.2], [1, 0, 0.2]).tolist() == [0.5, 1, 0.5]
    # Twice the same rows in one cluster each are no more knowledge.
    y = np.random.default_rng(0).random(50)
    once, twice = win_rate(y), win_rate(np.tile(y, 2), clusters=[*range(50)] * 2)
    assert twice.standard_error == pytest.approx(once.standard_error, abs=1e-12)
    assert twice.n == 100


def test_by_category() -> None:
    found = win_rate_by([1, 0, 1, 0.5], ["maths", "prose", "maths", "prose"], clusters=[0, 1, 2, 3])
    assert {name: rate.value for name, rate in found.items()} == {"maths": 1.0, "prose": 0.25}
    assert found["maths"].low is not None and found["maths"].low < 0.5  # Wilson's, of two wins
    assert found["maths"].high == 1.0


def test_raw_without_an_answer() -> None:
    assert (win_rate([]).value, win_rate([]).low) == (None, None)
    one = win_rate([1.0])
    assert (one.value, one.low, one.standard_error) == (1.0, None, None)
    million = win_rate(np.ones(1_000_000))
    assert million.low is not None and 0.99999 < million.low < 1 and million.high == 1
    for bad in ([float("nan")], [2.0], [float("inf")]):
        with pytest.raises(ValueError, match="an outcome is P"):
            win_rate(bad)
    with pytest.raises(ValueError, match="finite weight"):
        win_rate([1.0], [float("nan")])
    with pytest.raises(ValueError, match="one cluster for each"):
        win_rate([1.0, 0.0], clusters=[1])
    assert from_alpaca_eval([0, 1, 2, 1.3]).tolist() == pytest.approx([0.5, 0, 1, 0.3])


def test_the_length_feature_by_hand() -> None:
    """Baseline [100, 200, 300], model [200, 200, 600]: sd 152.752523, tanh of [-.654654, 0, -1.963961]."""
    found = length_feature([200, 200, 600], [100, 200, 300])
    np.testing.assert_allclose(found, [-0.574794, 0, -0.961391], atol=1e-6)
    assert length_feature([5, 6], [5, 6]).tolist() == [0, 0]


def test_what_control_does_by_hand() -> None:
    """theta .4 and phi -1: the model one sd longer wins .761622 of the time, .598688 at equal length."""
    assert sigma(0.4 + math.tanh(1)) == pytest.approx(0.761622, abs=1e-6)
    control = LengthControl(length=-1.0, constant=0.4)
    assert control.win_rate() == pytest.approx(0.598688, abs=1e-6)
    assert control.win_rate(against=control) == 0.5
    found = length_controlled_win_rate([0.7, 0.8], [10, 30], [5, 9], weights={"length": -1.0, "constant": 0.4})
    assert found.value == pytest.approx(0.598688, abs=1e-6) and found.low is None
    other = LengthControl(constant=-0.3, difficulty=0.5)
    q = [0.1, -2.0, 1.0]
    assert control.win_rate(q, against=other) + other.win_rate(q, against=control) == pytest.approx(1)


def made(n: int = 400, phi: float = -1.5, theta: float = 0.3, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    ours, theirs = random.integers(50, 900, n), random.integers(50, 900, n)
    t, q = length_feature(ours, theirs), random.normal(size=n)
    y = (random.random(n) < 1 / (1 + np.exp(-(phi * t + q + theta)))).astype(float)
    return y, ours, theirs, q


def test_swapping_sides_mirrors_it() -> None:
    y, ours, theirs, q = made()
    found = length_controlled_win_rate(y, ours, theirs, q)
    turned = length_controlled_win_rate(1 - y, theirs, ours, q)
    assert found.value is not None and turned.value == pytest.approx(1 - found.value, abs=1e-9)
    assert turned.low is not None and found.high is not None and turned.low == pytest.approx(1 - found.high, abs=1e-9)
    assert found.converged and found.coefficients.length == pytest.approx(-1.5, abs=0.5)


def test_without_a_difference_in_length_it_is_the_raw_rate() -> None:
    y, ours, _, _ = made()
    found = length_controlled_win_rate(y, ours, ours)
    assert found.value == pytest.approx(found.raw.value, abs=1e-9) and found.length_ratio == 1
    assert found.coefficients.length == 0 and math.isnan(found.errors.length)
    assert any("as long as the baseline's" in remark for remark in found.remarks)
    same = length_controlled_win_rate([0.5] * 200, ours[:200], ours[:200])
    assert same.value == pytest.approx(0.5) and same.remarks and same.low is not None


def test_soft_labels_are_two_weighted_rows() -> None:
    """y = .3 is a loss of weight .7 and a win of weight .3: ten rows of each say the same."""
    random = np.random.default_rng(2)
    p = random.integers(1, 10, 60) / 10
    ours, theirs = random.integers(50, 900, 60), random.integers(50, 900, 60)
    soft = length_controlled_win_rate(np.repeat(p, 10), np.repeat(ours, 10), np.repeat(theirs, 10))
    hard = np.concatenate([np.r_[np.ones(round(10 * one)), np.zeros(10 - round(10 * one))] for one in p])
    split = length_controlled_win_rate(hard, np.repeat(ours, 10), np.repeat(theirs, 10))
    assert soft.value == pytest.approx(split.value, abs=1e-9)
    assert soft.standard_error is not None and split.standard_error is not None
    assert soft.standard_error < split.standard_error


def test_the_interval_covers() -> None:
    """The rate at equal length of prompts like these: theta .3, q ~ N(0, 1)."""
    truth = float(np.mean(1 / (1 + np.exp(-(0.3 + np.random.default_rng(9).normal(size=400_000))))))
    hits = []
    for seed in range(150):
        found = length_controlled_win_rate(*made(300, seed=seed))
        assert found.low is not None and found.high is not None
        hits.append(found.low <= truth <= found.high)
    assert 0.90 <= np.mean(hits) <= 0.99


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_gamed_rows_by_labels_or_by_sums(seed: int) -> None:
    y, ours, theirs, q = made(120, seed=seed)
    random = np.random.default_rng(seed)
    t, hard, labels = np.tanh(random.normal(size=80)), random.normal(size=80), random.random(80)
    sums = (float(t @ labels), float(hard @ labels))
    by_label = length_controlled_win_rate(y, ours, theirs, q, gamed=Gamed(t, hard, labels))
    by_sums = length_controlled_win_rate(y, ours, theirs, q, gamed=Gamed(t, hard, sums=sums))
    assert by_sums.value == pytest.approx(by_label.value, abs=1e-9)
    assert by_sums.standard_error == pytest.approx(by_label.standard_error, abs=1e-7)
    np.testing.assert_allclose(
        np.column_stack([t, hard]).T @ _labels_of(np.column_stack([t, hard]), np.array(sums)), sums
    )


def test_what_has_no_fit() -> None:
    y, ours, theirs, q = made(150)
    with pytest.raises(ValueError, match="give a ridge"):
        length_controlled_win_rate(np.ones(150), ours, theirs)
    found = length_controlled_win_rate(np.ones(150), ours, theirs, ridge=1.0)
    assert found.value is not None and 0.9 < found.value < 1
    few = length_controlled_win_rate([0.9, 0.2, 0.6], [3, 9, 4], [4, 8, 9])
    assert any("rests on 3 prompts" in remark for remark in few.remarks)
    for change, sentence in (
        ((y[:-1], ours, theirs, q), "each prompt needs an outcome and two lengths"),
        ((y, ours[:-1], theirs, q), "each prompt needs two lengths"),
        ((y, ours, theirs, q[:-1]), "needs a finite difficulty"),
        ((y, ours, theirs, np.where(q > 1, np.nan, q)), "needs a finite difficulty"),
        ((y, np.where(q > 1, np.nan, ours), theirs, q), "length is missing, infinite or negative"),
        ((y, -ours, theirs, q), "negative"),
        ((np.where(q > 1, np.nan, y), ours, theirs, q), "an outcome is P"),
    ):
        with pytest.raises(ValueError, match=sentence):
            length_controlled_win_rate(*change)
    with pytest.raises(ValueError, match="have the sums"):
        length_controlled_win_rate(y, ours, theirs, q, gamed=Gamed(np.ones(3), np.ones(3), sums=(50.0, -50.0)))
    with pytest.raises(ValueError, match="outcomes, or the two sums"):
        length_controlled_win_rate(y, ours, theirs, q, gamed=Gamed(np.ones(3), np.ones(3)))


@pytest.fixture(scope="module")
def alpaca(data_folder: Path) -> Any:
    """Model, its rows in the order of the prompts, and its row of the leaderboard; and the difficulties."""
    rows = pl.read_parquet(data_folder / "alpacaeval2_annotations.parquet").sort("generator_2", "index")
    board = pl.read_parquet(data_folder / "alpacaeval2_leaderboard.parquet").rows_by_key("generator", named=True)
    hard = pl.read_parquet(data_folder / "alpacaeval2_instructions.parquet").sort("index")
    models = [(name, part, board[name][0]) for (name,), part in rows.group_by("generator_2", maintain_order=True)]
    return models, hard["instruction_difficulty"].to_numpy(), rows


def test_alpaca_eval_raw(alpaca: Any) -> None:
    models, _, _ = alpaca
    assert len(models) == 25
    for _, rows, published in models:
        found = win_rate(from_alpaca_eval(rows["preference"]))
        assert found.value is not None and found.standard_error is not None and found.discrete is not None
        assert 100 * found.value == pytest.approx(published["win_rate"], abs=1e-6)
        assert 100 * found.standard_error == pytest.approx(published["standard_error"], abs=1e-6)
        assert 100 * found.discrete == pytest.approx(published["discrete_win_rate"], abs=1e-6)
        counted = [published[name] for name in ("n_wins", "n_wins_base", "n_draws", "n_total")]
        assert [found.wins, found.losses, found.ties, found.n] == counted


def test_alpaca_eval_from_the_published_weights(alpaca: Any) -> None:
    models, hard, _ = alpaca
    for _, rows, published in models:
        names = ("length", "difficulty", "constant")
        columns = ("glm_tanh_std_delta_len", "glm_instruction_difficulty", "glm_not_gamed_baseline")
        weights = {name: published[column] for name, column in zip(names, columns, strict=True)}
        y = from_alpaca_eval(rows["preference"])
        found = length_controlled_win_rate(y, rows["len_2"], rows["len_1"], hard, weights=weights)
        assert found.value is not None
        assert 100 * found.value == pytest.approx(published["length_controlled_winrate"], abs=1e-8)


def test_alpaca_eval_fitted_again(alpaca: Any, data_folder: Path) -> None:
    """Its README: with the gamed sums within 0.12 points (mean 0.045), without these rows 1.3 on average."""
    models, hard, _ = alpaca
    variants = pl.read_parquet(data_folder / "alpacaeval2_gamed_baselines.parquet")
    gamed = Gamed(np.tanh(variants["std_delta_len"].to_numpy()), hard[variants["index"]], sums=(-182.1, 412.2))
    gaps: dict[bool, list[float]] = {True: [], False: []}
    for _, rows, published in models:
        y = from_alpaca_eval(rows["preference"])
        for regularised, column in ((True, "lc_refit_with_gamed_sums"), (False, "lc_refit_without_gamed")):
            found = length_controlled_win_rate(
                y, rows["len_2"], rows["len_1"], hard, gamed=gamed if regularised else None
            )
            assert found.value is not None and found.low is not None and found.high is not None
            assert 100 * found.value == pytest.approx(published[column], abs=1e-3)
            assert found.coefficients.length < 0 and found.converged
            assert 100 * found.low < published["length_controlled_winrate"] < 100 * found.high
            gaps[regularised].append(abs(100 * found.value - published["length_controlled_winrate"]))
    assert max(gaps[True]) < 0.12 and np.mean(gaps[True]) < 0.05
    assert 1.0 < np.mean(gaps[False]) < 1.5


def test_alpaca_eval_with_difficulty_estimated_or_left_out(alpaca: Any) -> None:
    """From 25 models alone: mean gap below 1 point; without difficulty it is more than 6 (statistics: 6.6)."""
    models, hard, rows = alpaca
    t = np.concatenate([length_feature(part["len_2"], part["len_1"]) for _, part, _ in models])
    y = from_alpaca_eval(rows["preference"])
    found = instruction_difficulty(y, rows["generator_2"].to_list(), rows["index"].to_list(), t)
    assert found.converged and found.prompts == list(range(805))
    assert np.corrcoef(found.values, hard)[0, 1] > 0.85
    assert ((found.low < found.values) & (found.values < found.high)).all()
    gaps: list[list[float]] = [[], []]
    for _, part, published in models:
        outcome = from_alpaca_eval(part["preference"])
        for place, difficulty in enumerate((found.values, None)):
            fit = length_controlled_win_rate(outcome, part["len_2"], part["len_1"], difficulty)
            assert fit.value is not None
            gaps[place].append(abs(100 * fit.value - published["length_controlled_winrate"]))
    assert np.mean(gaps[0]) < 1 and np.mean(gaps[1]) > 6


def test_difficulty_without_an_answer() -> None:
    always = instruction_difficulty([1.0] * 4, ["a", "a", "b", "b"], [0, 1, 0, 1])
    assert always.converged and np.isfinite(always.values).all()
    with pytest.raises(ValueError, match="above 0"):
        instruction_difficulty([1.0], ["a"], [0], ridge=0.0)
    with pytest.raises(ValueError, match="each row needs"):
        instruction_difficulty([1.0], ["a"], [0, 1])
