"""The simulator of annotators: its laws, and that one at a time is the same as all at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats import Annotators, simulate_comparisons, simulate_labels, simulate_scores
from prefdata.stats.simulate import (
    answer_comparison,
    answer_label,
    answer_score,
    assign,
    question_number,
)

MANY = 40_000


def shares(who: Annotators, difference: float, **more: float) -> np.ndarray:
    """Of win, tie, loss among many answers to new questions."""
    position = np.full(MANY, more.get("position", 1.0))
    zeros = np.zeros(MANY, dtype=int)
    rows = simulate_comparisons(
        who, [difference, 0.0], zeros, zeros + 1, zeros, lengths=[more.get("length", 0.0), 0.0], position=position,
        questions=np.arange(MANY),
    )  # fmt: skip
    first = rows.winners == 0
    return np.array([(first & (rows.p == 1)).mean(), (rows.p == 0.5).mean(), (~first).mean()])


def test_comparisons_follow_the_law() -> None:
    who = Annotators.of(1, ability=0.8, position=0.3, length=0.5, threshold=0.4)
    d = 0.8 * 1.1 + 0.3 - 0.5 * 0.6
    win, lose = 1 / (1 + np.exp(0.4 - d)), 1 / (1 + np.exp(0.4 + d))
    np.testing.assert_allclose(shares(who, 1.1, length=-0.6), [win, 1 - win - lose, lose], atol=0.01)
    assert shares(Annotators.of(1, ability=-1.0), 1.0)[0] == pytest.approx(1 / (1 + np.e), abs=0.01)
    np.testing.assert_allclose(shares(Annotators.of(1, guessing=1.0, threshold=1.0), 5.0), [1 / 3] * 3, atol=0.01)
    assert shares(Annotators.of(1), 0.0)[1] == 0


def test_labels_follow_the_law() -> None:
    who = Annotators.of(2, ability=[1.0, 0.0])
    of = np.repeat(np.arange(MANY // 2), 2)
    truth = np.arange(MANY // 2) % 4
    rows = simulate_labels(who, truth, of, np.tile([0, 1], MANY // 2), classes=4, clarity=1.5)
    right = rows.labels == truth[of]
    assert right[rows.annotators == 0].mean() == pytest.approx(np.exp(1.5) / (np.exp(1.5) + 3), abs=0.01)
    assert right[rows.annotators == 1].mean() == pytest.approx(0.25, abs=0.01)
    wrong = ((rows.labels - truth[of]) % 4)[~right]
    np.testing.assert_allclose(np.bincount(wrong, minlength=4)[1:] / len(wrong), [1 / 3] * 3, atol=0.02)


def test_scores_follow_the_law() -> None:
    who = Annotators.of(1, ability=0.5, gain=4.0, centre=10.0, length=1.0)
    values = simulate_scores(who, np.full(MANY, 2.0), np.arange(MANY), np.zeros(MANY, dtype=int),
                             lengths=np.full(MANY, 0.25))  # fmt: skip
    assert values.mean() == pytest.approx(10 + 4 * (1 + 0.25), abs=0.1)
    assert values.std() == pytest.approx(4 * 1.702 / np.sqrt(2), rel=0.02)


def test_laziness_wears_an_ability_out() -> None:
    who = Annotators.of(1, ability=3.0, laziness=0.001)
    zeros = np.zeros(4000, dtype=int)
    rows = simulate_comparisons(who, [1.0, 0.0], zeros, zeros + 1, zeros, questions=np.arange(4000))
    right = rows.winners == 0
    assert right[:500].mean() > 0.9 and right[-500:].mean() == pytest.approx(0.5, abs=0.1)
    k = np.arange(4000)
    assert right.mean() == pytest.approx((1 / (1 + np.exp(-3 * np.exp(-0.001 * k)))).mean(), abs=0.02)


def test_copying_repeats_the_sources_earlier_answer_in_either_order() -> None:
    who = Annotators.of(3, copying=[0, 0.7, 1], source=[-1, 0, 1])
    question, by = np.repeat(np.arange(3000), 3), np.tile([0, 1, 2], 3000)
    i, j = question * 0, question * 0 + 1
    turned = by == 1  # the copier sees the pair the other way round
    rows = simulate_comparisons(who, [0.0, 0.0], np.where(turned, j, i), np.where(turned, i, j), by, questions=question)
    winner = rows.winners.reshape(-1, 3)
    copied = rows.copied.reshape(-1, 3)
    assert not copied[:, 0].any() and copied[:, 2].all()
    assert copied[:, 1].mean() == pytest.approx(0.7, abs=0.03)
    assert (winner[copied[:, 1], 0] == winner[copied[:, 1], 1]).all()
    assert (winner[:, 2] == winner[:, 1]).all()  # a chain
    assert (winner[~copied[:, 1], 0] == winner[~copied[:, 1], 1]).mean() == pytest.approx(0.5, abs=0.06)
    # Who answers before the source has nothing to copy.
    early = simulate_labels(who, [0, 1], [0, 1], [2, 2])
    assert not early.copied.any()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 10**6))
def test_one_at_a_time_is_all_at_once(seed: int, salt: int) -> None:
    who = Annotators.drawn(
        4, seed=salt, position=(0.1, 0.3), length=(0.2, 0.2), log_threshold=(-0.5, 0.3), adversaries=0.25,
        guessing=0.1, laziness=0.1, copying=0.5, source=[-1, 0, 0, 2],
    )  # fmt: skip
    draw = np.random.default_rng(salt)
    theta, lengths = draw.normal(size=5), draw.uniform(-1, 1, 5)
    question, by = assign(10, 3, 4, seed=salt)
    corner = np.array([(a, b) for a in range(5) for b in range(a + 1, 5)])
    i, j = corner[question].T
    position = draw.choice([-1.0, 1.0], size=30)
    rows = simulate_comparisons(who, theta, i, j, by, lengths=lengths, position=position, questions=question, seed=seed)
    labels = simulate_labels(who, np.arange(10) % 3, question, by, classes=3, seed=seed)
    scores = simulate_scores(who, draw.normal(size=10), question, by, seed=seed)
    given_so_far, said = dict.fromkeys(range(4), 0), {}
    for row in range(30):
        w, q = int(by[row]), int(question[row])
        source = int(who.source[w])
        found = answer_comparison(
            who, w, theta[i[row]] - theta[j[row]], question=q, position=position[row],
            length=lengths[i[row]] - lengths[j[row]], given=given_so_far[w], earlier=said.get((source, q)), seed=seed,
        )  # fmt: skip
        said[w, q] = found
        expected = rows.p[row] if rows.winners[row] == i[row] else 0.0
        assert found == expected
        if not rows.copied[row]:
            assert labels.labels[row] == answer_label(who, w, q % 3, 3, question=q, given=given_so_far[w], seed=seed)
        given_so_far[w] += 1
    assert np.isfinite(scores).all()


def test_answers_do_not_depend_on_what_else_is_asked() -> None:
    who = Annotators.drawn(3, log_threshold=(-0.5, 0.3))
    i, j, by = np.array([0, 1, 2, 0]), np.array([1, 2, 0, 2]), np.array([0, 1, 2, 0])
    whole = simulate_comparisons(who, [1.0, 0.0, -1.0], i, j, by, seed=3)
    part = simulate_comparisons(who, [1.0, 0.0, -1.0], i[[3, 1]], j[[3, 1]], by[[3, 1]], seed=3)
    assert part.winners.tolist() == whole.winners[[3, 1]].tolist()
    assert part.position.tolist() == whole.position[[3, 1]].tolist()
    other = simulate_comparisons(who, [0.0, 0.0], [0] * 200, [1] * 200, [0] * 200, questions=np.arange(200), seed=4)
    again = simulate_comparisons(who, [0.0, 0.0], [0] * 200, [1] * 200, [0] * 200, questions=np.arange(200), seed=5)
    assert (other.winners != again.winners).any()
    assert answer_score(who, 0, 1.0, question=7) == simulate_scores(who, np.ones(8), [7], [0])[0]


def test_question_number_and_assignment() -> None:
    assert question_number("prompt-1") == question_number("prompt-1") != question_number("prompt-2")
    assert 0 <= question_number("x") < 2**63
    for annotators, each in ((5, 3), (200, 3)):
        question, by = assign(50, each, annotators, seed=1)
        assert len(set(zip(question.tolist(), by.tolist(), strict=True))) == 50 * each
        assert np.bincount(question).tolist() == [each] * 50
    with pytest.raises(ValueError, match="different annotators"):
        assign(5, 4, 3)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"speed": 1}, "no 'speed'"),
        ({"ability": [1, 2, 3]}, "2 entries"),
        ({"threshold": -1}, "must not be negative"),
        ({"copying": 1.5}, r"lie in \[0, 1\]"),
        ({"source": 2}, "number of an annotator"),
        ({"position": np.nan}, "must be finite"),
    ],
)
def test_annotators_that_cannot_be(parameters: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Annotators.of(2, **parameters)  # type: ignore[arg-type]


def test_rows_that_cannot_be() -> None:
    who = Annotators.of(2)
    with pytest.raises(ValueError, match="one length"):
        simulate_comparisons(who, [0, 0], [0], [1, 1], [0])
    with pytest.raises(ValueError, match="annotators must lie"):
        simulate_comparisons(who, [0, 0], [0], [1], [2])
    with pytest.raises(ValueError, match="contestants must lie"):
        simulate_comparisons(who, [0, 0], [0], [2], [0])
    with pytest.raises(ValueError, match="truth must lie"):
        simulate_labels(who, [3], [0], [0], classes=2)
    with pytest.raises(ValueError, match="at least one"):
        Annotators.of(0)
