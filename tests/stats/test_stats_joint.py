"""The joint model: what it equals, what must not change it, what it finds, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats import Annotators, JointModel, joint_model, simulate_comparisons, simulate_scores
from prefdata.stats.joint import length_difference
from prefdata.stats.simulate import Comparisons

CROWD = {"ability": (1.0, 0.3), "position": (0.2, 0.4), "length": (0.3, 0.4), "log_threshold": (-0.9, 0.4)}


def votes(seed: int = 0, m: int = 600, n: int = 12, annotators: int = 6) -> tuple[Comparisons, np.ndarray, Annotators]:
    draw = np.random.default_rng(seed)
    theta, lengths = draw.normal(0, 1.2, n), draw.uniform(-1, 1, n)
    who = Annotators.drawn(annotators, seed=seed, **CROWD)  # type: ignore[arg-type]
    i = draw.integers(n, size=m)
    j = (i + draw.integers(1, n, size=m)) % n
    by = draw.integers(annotators, size=m)
    rows = simulate_comparisons(who, theta, i, j, by, lengths=lengths, questions=np.arange(m), seed=seed)
    return rows, theta, who


def fitted(rows: Comparisons, **more: Any) -> JointModel:
    columns: dict[str, Any] = {"p": rows.p, "position": rows.position, "length": rows.length} | more
    return joint_model(rows.winners, rows.losers, columns.pop("annotators", rows.annotators), **columns)


def test_one_annotator_without_bias_is_bradley_terry_with_a_normal_prior() -> None:
    rows, _, _ = votes(1)
    model = joint_model(rows.winners, rows.losers, ["a"] * len(rows.p), n=12)
    assert model.converged and model.abilities.tolist() == [1.0] and np.isnan(model.ability_low).all()
    games = np.zeros((12, 12))
    np.add.at(games, (rows.winners, rows.losers), 1.0)
    # Gradient of sum log sigma - |theta|^2 / 2 tau^2 at what was found; the quadrature moves it by a little.
    expected = 1 / (1 + np.exp(model.values[None, :] - model.values[:, None]))
    gradient = (games - (games + games.T) * expected).sum(axis=1) - model.values / model.scale**2
    assert np.abs(gradient).max() < 0.05 * games.sum(axis=1).min()
    weights = (games + games.T) * expected * (1 - expected)
    information = np.diag(weights.sum(axis=1)) - weights + np.eye(12) / model.scale**2
    covariance = np.linalg.inv(information) - model.scale**2 / 12
    found = (model.high - model.low) / (2 * 1.959964)
    np.testing.assert_allclose(found, np.sqrt(np.diag(covariance)), rtol=0.02)
    assert model.difference(0, 1).value == pytest.approx(model.values[0] - model.values[1])


def test_turning_rows_round_changes_nothing() -> None:
    rows, _, _ = votes(2)
    turned = np.random.default_rng(0).random(len(rows.p)) < 0.5
    sign = np.where(turned, -1, 1)
    a = fitted(rows)
    b = joint_model(
        np.where(turned, rows.losers, rows.winners), np.where(turned, rows.winners, rows.losers), rows.annotators,
        p=np.where(turned, 1 - rows.p, rows.p), position=sign * rows.position, length=sign * rows.length,
    )  # fmt: skip
    same(a, b)


def same(a: JointModel, b: JointModel, tolerance: float = 1e-6) -> None:
    for name in ("values", "low", "high", "abilities", "ability_low", "positions", "lengths", "thresholds",
                 "position_high", "length_low", "threshold_high"):  # fmt: skip
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=tolerance, err_msg=name)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10_000))
def test_order_of_rows_names_and_numbers_do_not_matter(seed: int) -> None:
    rows, _, _ = votes(3, m=200, n=6, annotators=3)
    draw = np.random.default_rng(seed)
    order, renamed = draw.permutation(len(rows.p)), draw.permutation(6)
    a = fitted(rows)
    part = rows.part(order)
    b = joint_model(
        renamed[part.winners], renamed[part.losers], [f"annotator {w}" for w in part.annotators], p=part.p,
        position=part.position, length=part.length,
    )  # fmt: skip
    np.testing.assert_allclose(a.values, b.values[renamed], atol=1e-6)
    place = [b.annotators.index(f"annotator {w}") for w in a.annotators]
    np.testing.assert_allclose(a.abilities, b.abilities[place], atol=1e-6)
    np.testing.assert_allclose(a.threshold_high, b.threshold_high[place], atol=1e-6)


def test_weights_are_repetitions() -> None:
    rows, _, _ = votes(4, m=150)
    times = np.random.default_rng(0).integers(1, 4, size=150)
    same(fitted(rows, weights=times), fitted(rows.part(np.repeat(np.arange(150), times))))


def test_known_parameters_are_found() -> None:
    rows, theta, who = votes(5, m=6000, n=20, annotators=10)
    model = fitted(rows)
    scale = np.abs(who.ability).mean()
    assert model.converged and model.exact and model.gradient < 1e-3
    assert np.abs(model.abilities).mean() == pytest.approx(1)
    held = [
        (model.low <= scale * (theta - theta.mean())) & (scale * (theta - theta.mean()) <= model.high),
        (model.ability_low <= who.ability / scale) & (who.ability / scale <= model.ability_high),
        (model.position_low <= who.position) & (who.position <= model.position_high),
        (model.length_low <= who.length) & (who.length <= model.length_high),
        (model.threshold_low <= who.threshold) & (who.threshold <= model.threshold_high),
    ]
    assert np.concatenate(held).mean() > 0.85 and min(each.mean() for each in held) >= 0.7
    assert np.corrcoef(model.values, theta)[0, 1] > 0.98 and np.corrcoef(model.positions, who.position)[0, 1] > 0.9


def test_coverage_in_small() -> None:
    """95 % intervals over 6 draws; the whole of it is benchmarks/joint_model.py."""
    held: list[np.ndarray] = []
    for seed in range(6):
        rows, theta, who = votes(100 + seed, m=400, n=10, annotators=6)
        model = fitted(rows, n=10)
        scale = np.abs(who.ability).mean()
        held.append((model.ability_low <= who.ability / scale) & (who.ability / scale <= model.ability_high))
        held.append((model.position_low <= who.position) & (who.position <= model.position_high))
        for i in range(1, 10):
            found, truth = model.difference(0, i), scale * (theta[0] - theta[i])
            assert found.low is not None and found.high is not None
            held.append(np.array([found.low <= truth <= found.high]))
    assert 0.90 < np.concatenate(held).mean() < 0.99


def test_an_adversary_is_heard_backwards() -> None:
    draw = np.random.default_rng(6)
    theta = draw.normal(0, 1.2, 15)
    who = Annotators.of(5, ability=[1, 1, 1, 1, -1.2])
    i = draw.integers(15, size=1500)
    j = (i + draw.integers(1, 15, size=1500)) % 15
    rows = simulate_comparisons(who, theta, i, j, draw.integers(5, size=1500), questions=np.arange(1500))
    model = joint_model(rows.winners, rows.losers, rows.annotators, n=15)
    assert model.ability_high[4] < 0 and (model.ability_low[:4] > 0).all()
    assert np.corrcoef(model.values, theta)[0, 1] > 0.95
    best, worst = int(theta.argmax()), int(theta.argmin())
    assert model.predict(best, worst, annotator=4)[0] < 0.2 < 0.8 < model.predict(best, worst, annotator=0)[0]


def test_scores_and_comparisons_share_strengths_whatever_the_scale_of_scores() -> None:
    draw = np.random.default_rng(7)
    n, groups = 240, np.repeat(np.arange(60), 4)
    theta = draw.normal(0, 1, n)
    who = Annotators.of(3, ability=[1.0, 1.5, 0.4], gain=[1, 10, 0.1], centre=[0, 5, -3])
    i, j = (np.arange(n) // 4 * 4 + draw.permuted(np.tile(np.arange(4), (n, 1)), axis=1)[:, :2].T).astype(int)
    rows = simulate_comparisons(who, theta, i, j, np.zeros(n, dtype=int), seed=1)
    of, by = np.tile(np.arange(n), 2), np.repeat([1, 2], n)
    values = simulate_scores(who, theta, of, by, seed=1)

    def fit(values: np.ndarray) -> JointModel:
        return joint_model(rows.winners, rows.losers, rows.annotators, scores=(of, by, values), groups=groups, n=n,
                           kinds={1: "reward", 2: "reward"})  # fmt: skip

    model = fit(values)
    assert model.converged and model.kind_of == ("annotator", "reward", "reward")
    assert model.abilities[1] > model.abilities[2] and np.isnan(model.positions).all()
    assert np.isnan(model.thresholds[1:]).all() and model.thresholds[0] == 0
    alone = joint_model(rows.winners, rows.losers, rows.annotators, n=n)
    centred = theta - np.repeat(theta.reshape(-1, 4).mean(axis=1), 4)
    assert np.corrcoef(model.values, centred)[0, 1] > np.corrcoef(np.nan_to_num(alone.values), centred)[0, 1] + 0.1
    shifted = values * np.where(by == 1, 3.0, 0.5) + np.repeat(draw.normal(size=60), 4)[of] * 7
    same(model, fit(shifted), 1e-5)  # an intercept of each group and a scale of each annotator are nobody's business


def test_predictions_add_up_and_are_no_bolder_than_the_data() -> None:
    rows, _, _ = votes(8, m=300)
    model = fitted(rows)
    for annotator in (None, 2, [0, 1, 2]):
        p = model.predict([0, 1, 2], [3, 4, 5], annotator, position=[1, -1, 0], length=0.2)
        turned = model.predict([3, 4, 5], [0, 1, 2], annotator, position=[-1, 1, 0], length=-0.2)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_allclose(p, turned[:, ::-1], atol=1e-12)
    few = joint_model([0, 0], [1, 1], ["a", "b"])
    plain = 1 / (1 + np.exp(few.values[1] - few.values[0]))
    assert 0.5 < few.probability(0, 1) < plain
    assert few.certainty(0, 1) > 0.5 and few.certainty(1, 1) == 0.5
    first = model.predict(0, 1, kind="annotator", position=1)[0]
    assert first > model.predict(0, 1, kind="annotator", position=-1)[0]
    with pytest.raises(ValueError, match="no annotator 'x'"):
        model.predict(0, 1, "x")
    with pytest.raises(ValueError, match="no annotators of kind 'human'"):
        model.predict(0, 1, kind="human")
    with pytest.raises(ValueError, match="integers in"):
        model.predict(0, 99)


def test_disconnected_parts_are_not_compared() -> None:
    model = joint_model([0, 1, 0, 2, 3, 2], [1, 0, 1, 3, 2, 3], ["a", "b"] * 3, n=5)
    assert model.components.tolist() == [0, 0, 1, 1, 2]
    assert np.isnan(model.values[4]) and model.values[0] + model.values[1] == pytest.approx(0)
    assert model.difference(0, 2).value is None and model.difference(0, 1).value is not None
    assert model.probability(0, 2) == pytest.approx(0.5, abs=0.2)
    grouped = joint_model([0, 2], [1, 3], ["a", "b"], groups=[0, 0, 1, 1])
    with pytest.raises(ValueError, match="two groups"):
        grouped.predict(0, 2)


def test_hard_data() -> None:
    ties = joint_model([0, 0, 1], [1, 2, 2], ["a", "b", "c"], p=[0.5, 0.5, 0.5])
    assert ties.converged and np.abs(ties.values).max() < 1e-6 and (ties.thresholds > 1).all()
    separated = joint_model([0] * 50 + [1] * 50, [1] * 50 + [2] * 50, list(range(5)) * 20)
    assert separated.converged and (np.diff(separated.values) < 0).all() and separated.values[0] < 15
    million = joint_model(np.zeros(1_000_000, dtype=int), np.ones(1_000_000, dtype=int), np.arange(1_000_000) % 2)
    assert million.converged and 5 < million.values[0] - million.values[1] < 30
    weighted = joint_model([0, 0], [1, 1], [0, 1], weights=[5e5, 5e5])
    np.testing.assert_allclose(weighted.values, million.values, atol=1e-4)
    at_odds = joint_model([0] * 30 + [1] * 30, [1] * 30 + [0] * 30, ["a"] * 30 + ["b"] * 30)
    # Two who contradict each other throughout: either may be right, so there is no interval.
    assert not at_odds.converged and np.isnan(at_odds.low).all()
    assert at_odds.probability(0, 1) == pytest.approx(0.5)
    constant = joint_model([], [], [], scores=([0, 1, 2], ["a"] * 3, [4.0, 4.0, 4.0]))
    assert np.isnan(constant.values).all() and np.isnan(constant.abilities).all()
    nothing = joint_model([], [], [], n=2)
    assert np.isnan(nothing.values).all() and nothing.abilities.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "more", "words"),
    [
        (([], [], []), {}, "no contestant"),
        (([0], [0], ["a"]), {}, "with itself"),
        (([0.5], [1], ["a"]), {}, "must be integers"),
        (([0], [-1], ["a"]), {}, r"lie in \[0"),
        (([0], [1], []), {}, "needs an annotator"),
        (([0], [1], [None]), {}, "annotator 0 is missing"),
        (([0], [1], ["a"]), {"p": [np.nan]}, "p must lie"),
        (([0], [1], ["a"]), {"weights": [np.inf]}, "weights must be finite"),
        (([0], [1], ["a"]), {"position": [np.nan]}, "position of row 0"),
        (([0], [1], ["a"]), {"length": [1, 2]}, "length must have one entry"),
        (([0], [1], ["a"]), {"scores": ([0, 1], ["r", "r"], [1, np.inf])}, "score 1 is missing or infinite"),
        (([0], [1], ["a"]), {"scores": ([0, 1], ["r"], [1, 2])}, "three lists of one length"),
        (([0], [1], ["a"]), {"groups": ["x", "y"]}, "two groups"),
        (([0], [1], ["a"]), {"groups": ["x"]}, "groups must name"),
        (([0], [1], ["a"]), {"confidence": 1.0}, "confidence"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(arguments: Any, more: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        joint_model(*arguments, **more)


def test_a_large_part_is_solved_by_conjugate_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _, _ = votes(9, m=4000, n=60, annotators=6)
    dense = fitted(rows)
    monkeypatch.setattr("prefdata.stats.joint_data.DENSE", 20)
    sparse = fitted(rows)
    assert sparse.converged and not sparse.exact
    assert np.corrcoef(sparse.values, dense.values)[0, 1] > 0.999
    np.testing.assert_allclose(sparse.abilities, dense.abilities, atol=0.05)
    assert np.median((sparse.high - sparse.low) / (dense.high - dense.low)) == pytest.approx(1, abs=0.25)


def test_length_difference() -> None:
    # Differences 10, -10, 20, 0: mean 5, deviation sqrt(500/3).
    found = length_difference([20, 10, 40, 7], [10, 20, 20, 7])
    np.testing.assert_allclose(found, np.tanh(np.array([10, -10, 20, 0]) / np.sqrt(500 / 3)))
    assert length_difference([5], [5]).tolist() == [0.0]
    with pytest.raises(ValueError, match="missing"):
        length_difference([np.nan], [1])


def test_large_sheets_of_scores_are_as_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(10)
    theta = draw.normal(size=30)
    who = Annotators.of(3, ability=[0.8, 1.0, 1.2], length=0.4)
    lengths = draw.uniform(-1, 1, 30)
    of, by = np.tile(np.arange(30), 3), np.repeat([0, 1, 2], 30)
    values = simulate_scores(who, theta, of, by, lengths=lengths)
    small = joint_model([], [], [], scores=(of, by, values), score_length=lengths[of])
    assert small.converged and np.isfinite(small.lengths).all() and np.corrcoef(small.values, theta)[0, 1] > 0.5
    monkeypatch.setattr("prefdata.stats.joint_prepare.LARGE_SHEET", 10)
    same(small, joint_model([], [], [], scores=(of, by, values), score_length=lengths[of]))


def test_better_than_each_single_family_on_mixed_data() -> None:
    """One seed of benchmarks/joint_model.py."""
    import sys

    folder = Path(__file__).parents[2] / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        import joint_families as families
    finally:
        sys.path.remove(str(folder))
    world = families.mixed(1)
    ours = families.measured(world, families.by_joint)
    for name in ("one-coin", "Bradley-Terry", "annotator BT, crowd"):
        theirs = families.measured(world, families.FAMILIES[name])
        assert ours["log-loss"] < theirs["log-loss"] - 0.01, name
        assert ours["truth"] > theirs["truth"], name


def test_numbers_beyond_all_sense_are_said() -> None:
    votes = ([0, 1, 0], [1, 0, 1], ["a", "a", "b"])
    for options, words in (
        ({"weights": [1e200, 1, 1]}, "weight is 1e\\+200"),
        ({"length": [1e200, 1, 1]}, "length of row 0"),
        ({"position": [1, 2, 0]}, "position of row 1 is 2"),
        ({"n": 2.5}, "whole number"),
    ):
        with pytest.raises(ValueError, match=words):
            joint_model(*votes, **options)  # type: ignore[arg-type]
