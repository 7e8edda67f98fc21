"""Majority, Dawid-Skene and one-coin: numbers by hand, laws, known parameters found again, and what must be refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats import dawid_skene, majority_vote, one_coin, wilson_interval
from prefdata.stats.crowd import Crowd


def drawn(
    items: int, workers: int, classes: int, each: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, three columns of labels, and the confusions they were drawn with."""
    random = np.random.default_rng(seed)
    truth = random.integers(classes, size=items)
    item = np.repeat(np.arange(items), each)
    worker = random.integers(workers, size=items * each)
    right = random.beta(8, 3, size=(workers, 1, 1))
    off = random.dirichlet(np.ones(classes), size=(workers, classes))
    pi = right * np.eye(classes) + (1 - right) * off
    label = (random.random((items * each, 1)) > pi.cumsum(axis=2)[worker, truth[item]]).sum(axis=1)
    return truth, item, worker, label.clip(0, classes - 1), pi


def test_posterior_of_known_coins() -> None:
    """B09: accuracies 0.9, 0.8, 0.6 and votes 1, 1, 0: 0.9 * 0.8 * 0.4 / (0.288 + 0.1 * 0.2 * 0.6) = 0.96."""
    found = one_coin(
        ["x"] * 3, ["a", "b", "c"], [1, 1, 0], classes=[0, 1],
        abilities={"a": 0.9, "b": 0.8, "c": 0.6}, class_prior=[0.5, 0.5],
    )  # fmt: skip
    assert found.values[0, 1] == pytest.approx(0.96, abs=1e-12)
    assert found.low[0, 1] == pytest.approx(0.96) and found.high[0, 1] == pytest.approx(0.96)  # nothing is open
    assert found.abilities.tolist() == [0.9, 0.8, 0.6] and found.labels[0] == 1


def test_majority_by_hand() -> None:
    found = majority_vote(["x", "x", "x", "y", "y"], ["a", "b", "c", "a", "b"], ["p", "p", "q", "p", "q"])
    assert found.values.tolist() == [[2 / 3, 1 / 3], [0.5, 0.5]]
    assert found.codes.tolist() == [0, -1] and found.labels[1] is None
    assert (found.low[0, 0], found.high[0, 0]) == pytest.approx(wilson_interval(2, 3))
    # c said q against two others; a and b each have one other voice against, or a tie of the others, of x.
    assert found.abilities[2] == 0.0
    assert found.abilities[0] == 0.0  # x: b and c are tied; y: b says q
    alone = majority_vote(["x", "y"], ["a", "b"], ["p", "q"])
    assert np.isnan(alone.abilities).all() and np.isnan(alone.ability_low).all()


@pytest.mark.parametrize("method", [dawid_skene, one_coin])
def test_objective_never_falls_and_the_rows_are_probabilities(method) -> None:  # type: ignore[no-untyped-def]
    _, item, worker, label, _ = drawn(300, 20, 4, 5)
    found = method(item, worker, label)
    assert np.diff(found.objective).min() >= -1e-9 and found.converged
    np.testing.assert_allclose(found.values.sum(axis=1), 1)
    np.testing.assert_allclose(found.confusions.sum(axis=2), 1)
    assert (found.low <= found.values + 1e-12).all() and (found.values <= found.high + 1e-12).all()
    assert (found.ability_low < found.abilities).all() and (found.abilities < found.ability_high).all()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_order_and_names_do_not_matter(seed: int) -> None:
    _, item, worker, label, _ = drawn(40, 6, 3, 4, seed)
    found = dawid_skene(item, worker, label, classes=[0, 1, 2])
    shuffle = np.random.default_rng(seed).permutation(len(item))
    names = ["c", "a", "b"]
    other = dawid_skene(
        [f"i{i}" for i in item[shuffle]], worker[shuffle], [names[k] for k in label[shuffle]], classes=["c", "a", "b"]
    )
    back = [other.items.index(f"i{i}") for i in found.items]
    np.testing.assert_allclose(other.values[back], found.values, atol=1e-6)
    np.testing.assert_allclose(other.abilities, found.abilities, atol=1e-6)
    turned = dawid_skene(item, worker, label, classes=[2, 0, 1])
    np.testing.assert_allclose(turned.values[:, [1, 2, 0]], found.values, atol=1e-6)


def test_likelihood_is_that_of_the_labels() -> None:
    """Summed over both classes of each item by hand, at the parameters that were found."""
    item, worker, label = [0, 0, 1, 1, 2, 2], ["a", "b"] * 3, [0, 0, 0, 1, 1, 1]
    found = dawid_skene(item, worker, label, tolerance=1e-14, most=5000)
    pi, rho = found.confusions, found.class_prior
    by_hand = sum(
        np.log(sum(rho[k] * pi[0, k, label[2 * i]] * pi[1, k, label[2 * i + 1]] for k in range(2))) for i in range(3)
    )
    assert found.log_likelihood == pytest.approx(by_hand, abs=1e-6)


def test_known_parameters_are_found_and_better_than_by_majority() -> None:
    truth, item, worker, label, pi = drawn(4000, 60, 3, 4)
    found, voted = dawid_skene(item, worker, label), majority_vote(item, worker, label)
    assert (found.codes == truth).mean() > (voted.codes == truth).mean() + 0.01
    ability = np.einsum("wkk->w", pi) / 3
    inside = (found.ability_low <= ability) & (ability <= found.ability_high)
    assert inside.mean() > 0.85 and np.abs(found.abilities - ability).max() < 0.1
    coin = one_coin(item, worker, label)
    assert ((coin.ability_low <= ability) & (ability <= coin.ability_high)).mean() > 0.8


def test_small_coverage_of_one_ability() -> None:
    """100 draws of one-coin labels: the intervals hold the ability in 95 of them, but for chance (85 to 100)."""
    held = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        truth = random.integers(2, size=200)
        q = np.array([0.6, 0.75, 0.8, 0.7, 0.9])
        label = np.where(random.random((200, 5)) < q, truth[:, None], 1 - truth[:, None])
        found = one_coin(np.repeat(np.arange(200), 5), np.tile(np.arange(5), 200), label.ravel())
        held += int(found.ability_low[1] <= 0.75 <= found.ability_high[1])
    assert 85 <= held <= 100


def test_gold_questions_tell_a_liar_from_the_rest() -> None:
    """Two against one, but the two are wrong wherever the truth is known."""
    item = np.repeat(np.arange(40), 3)
    worker = np.tile(["a", "b", "honest"], 40)
    truth = np.arange(40) % 2
    label = np.where(worker == "honest", truth[item], 1 - truth[item])
    without = dawid_skene(item, worker, label)
    assert (without.codes == 1 - truth).all()
    found = dawid_skene(item, worker, label, known={i: int(truth[i]) for i in range(20)})
    assert (found.codes == truth).all()
    assert found.abilities[found.annotators.index("honest")] > 0.9 and found.abilities[0] < 0.2
    assert found.values[:20].max(axis=1).tolist() == [1.0] * 20 and found.low[3].tolist() == found.values[3].tolist()


def test_experience_is_a_prior_of_one_annotator() -> None:
    """One item, one label for each class: the annotator with a record is believed."""
    table = [[95, 5], [5, 95]]
    found = dawid_skene(["x", "x"], ["veteran", "novice"], [1, 0], experience={"veteran": table, "absent": table})
    assert found.values[0, 1] > 0.8 and found.abilities[0] > found.abilities[1]


def test_two_classes_with_even_confusions_are_one_coin() -> None:
    """A heavy symmetric prior on everybody makes both models the same known table."""
    _, item, worker, label, _ = drawn(100, 5, 2, 3)
    heavy = 1e9
    matrix = dawid_skene(item, worker, label, prior=[[0.8 * heavy, 0.2 * heavy], [0.2 * heavy, 0.8 * heavy]])
    coin = one_coin(item, worker, label, prior=(0.8 * heavy, 0.2 * heavy))
    np.testing.assert_allclose(matrix.values, coin.values, atol=1e-5)


@pytest.mark.parametrize("method", [majority_vote, dawid_skene, one_coin])
class TestEdges:
    """What is degenerate has a right answer or a sentence."""

    def test_one_class(self, method) -> None:  # type: ignore[no-untyped-def]
        found: Crowd = method(["x", "y"], ["a", "a"], ["p", "p"])
        assert found.values.tolist() == [[1.0], [1.0]] and found.codes.tolist() == [0, 0]
        assert np.isnan(found.abilities).all()

    def test_one_annotator(self, method) -> None:  # type: ignore[no-untyped-def]
        found: Crowd = method([0, 1, 2], ["a"] * 3, [0, 1, 1])
        assert found.codes.tolist() == [0, 1, 1] and np.isfinite(found.values).all()

    def test_a_million_times_the_same(self, method) -> None:  # type: ignore[no-untyped-def]
        size = 1_000_000
        found: Crowd = method(
            np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.int8), classes=[0, 1]
        )
        assert found.codes.tolist() == [0] and found.values[0, 0] > 0.999

    def test_all_tied(self, method) -> None:  # type: ignore[no-untyped-def]
        found: Crowd = method([0, 0, 1, 1], ["a", "b"] * 2, [0, 1, 1, 0])
        np.testing.assert_allclose(found.values, 0.5)
        assert found.codes.tolist() == [-1, -1]

    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            (([], [], []), "no labels"),
            (([1], ["a"], [0, 1]), "as long as"),
            (([1, 2], ["a", "a"], [0, None]), "label 1 is missing"),
            (([1, 2], ["a", "a"], np.array([0, np.nan])), "label 1 is missing"),
            (([1, 2], ["a", "a"], np.array([np.inf, 1])), "label 0 is missing or infinite"),
            (([1, 2], ["a", float("nan")], [0, 1]), "annotator 1 is missing"),
        ],
    )
    def test_refused(self, method, columns, words: str) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(ValueError, match=words):
            method(*columns)

    def test_a_label_that_is_no_class(self, method) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(ValueError, match="label 1 is 7"):
            method([1, 2], ["a", "a"], [0, 7], classes=[0, 1])


def test_arguments_out_of_range() -> None:
    columns = [0, 1], ["a", "a"], [0, 1]
    for wrong in ({"prior": [[1, 0], [1, 1]]}, {"class_prior": [0.5, 0.6]}, {"known": {9: 0}}, {"known": {0: 9}},
                  {"experience": {"a": [[1]]}}, {"confidence": 1.0}):  # fmt: skip
        with pytest.raises(ValueError):
            dawid_skene(*columns, **wrong)
    with pytest.raises(ValueError, match="ability"):
        one_coin(*columns, abilities={"a": 1.0})
    with pytest.raises(ValueError, match="two positive"):
        one_coin(*columns, prior=(1, 0))
