"""Consensus: numbers worked out by hand, what is refused, what abstains, what the ids name."""

from __future__ import annotations

import numpy as np
import pytest
from operator_shapes import FakeContext, consensus, copy_of, run, said, scores_by_target
from pydantic import ValidationError

from prefdata.errors import DataError
from prefdata.operators.aggregate.bradley_terry import BradleyTerryConsensus
from prefdata.operators.aggregate.majority import Majority
from prefdata.operators.aggregate.mean import Mean
from prefdata.operators.scales import normalised
from prefdata.pipeline.registry import STEPS
from prefdata.pipeline.step import CONSENSUS
from prefdata.stats import bradley_terry


def one(rows: list[dict[str, object]]) -> dict[str, float]:
    """The scores of the only row."""
    assert len(rows) == 1, rows
    assert rows[0]["status"] == "ok"
    return scores_by_target(rows[0])


def score(target: str, value: float | None, annotator: str = "judge:a", **columns: object) -> dict[str, object]:
    status = {"status": "unparsed"} if value is None else {}
    return said([target], None if value is None else [value], annotator=annotator, **status, **columns)


def test_they_are_registered_and_never_read_consensus() -> None:
    for kind, cls in (("mean", Mean), ("majority", Majority), ("bradley_terry", BradleyTerryConsensus)):
        assert STEPS[f"aggregate.{kind}"] is cls
        assert CONSENSUS not in cls.reads and cls.writes == {CONSENSUS}
    own = said(["a"], [5.0], annotator="consensus:mean", source="consensus")
    assert one(consensus(Mean(), [own, score("a", 1.0)])) == {"a": 1.0}


def test_mean_with_weights_and_single_and_joint_scores() -> None:
    rows = [score("a", 4), score("b", 2), said(["a", "b", "c"], [1, 2, 3], annotator="human:x", source="human")]
    assert one(consensus(Mean(), rows)) == {"a": 2.5, "b": 2.0, "c": 3.0}
    assert one(consensus(Mean(weights={"human:*": 3}), rows)) == {"a": 1.75, "b": 2.0, "c": 3.0}
    assert one(consensus(Mean(annotators=["human:*"]), rows)) == {"a": 1, "b": 2, "c": 3}
    assert one(consensus(Mean(sources=["judge"]), rows)) == {"a": 4, "b": 2}
    assert one(consensus(Mean(weights={"human:*": 0}), rows)) == {"a": 4, "b": 2}
    with pytest.raises(ValidationError, match="not negative"):
        Mean(weights={"x": -1})


def test_the_mean_of_comparisons_is_the_share_of_wins() -> None:
    rows = [said(["a", "b"], [1, 0]), said(["b", "a"], [0.5, 0.5]), said(["a", "c"], [0.3, 0.7])]
    assert one(consensus(Mean(), rows)) == {"a": 0.6, "b": 0.25, "c": 0.7}


def test_equal_means_are_equal_to_the_last_bit() -> None:
    rows = [score("a", v, f"judge:{i}") for i, v in enumerate([0.1, 0.1, 0.4])]
    rows += [score("b", v, f"judge:{i}") for i, v in enumerate([0.2, 0.2, 0.2])]
    found = one(consensus(Mean(), rows))
    assert found["a"] == found["b"]
    assert (0.1 + 0.1 + 0.4) / 3 != 0.2


def test_what_is_missing_is_not_zero_and_abstains_below_min_valid() -> None:
    rows = [score("a", 4, "judge:x"), score("a", None, "judge:y"), score("b", 2, "judge:x"), score("b", 3, "judge:y")]
    rows += [score("c", None)]
    made = consensus(Mean(), rows)
    assert scores_by_target(made[0]) == {"a": 4, "b": 2.5}
    assert (made[1]["status"], made[1]["target_ids"], made[1]["scores"]) == ("abstain", ["c"], None)
    strict = consensus(Mean(min_valid=2), rows)
    assert scores_by_target(strict[0]) == {"b": 2.5}
    assert (strict[1]["status"], strict[1]["target_ids"]) == ("abstain", ["a", "c"])


def test_prompts_and_aspects_are_kept_apart() -> None:
    rows = [
        score("a", 1, aspect="truth"),
        score("a", 2, aspect="style"),
        score("a", 3, aspect="style", prompt_id="p2", group_id="p1"),
        said(["a"], [4], aspect="style", prompt_id=None, group_id="p1"),
    ]
    made = {(row["prompt_id"], row["aspect"]): row["scores"] for row in consensus(Mean(), rows)}
    assert made == {("p1", "truth"): [1], ("p1", "style"): [2], ("p2", "style"): [3], (None, "style"): [4]}
    assert len(consensus(Mean(aspects=["st*"]), rows)) == 3


def test_unlike_scales_are_refused_in_a_sentence() -> None:
    rows = [score("a", 0.2, "rule:r"), score("b", 0.9, "rule:r"), score("a", 3, "judge:j"), score("b", 8, "judge:j")]
    with pytest.raises(
        DataError, match=r"'overall' stand on unlike scales: 'rule:r' gives scores from 0.2 to 0.9.*but "
    ):
        consensus(Mean(), rows)
    with pytest.raises(DataError, match="unlike"):
        consensus(Mean(), [*rows[:2], said(["a", "b"], [1, 0])])
    for how, wanted in (("none", {"a": 1.6, "b": 4.45}), ("minmax", {"a": 0, "b": 1}), ("zscore", {"a": -1, "b": 1})):
        assert one(consensus(Mean(normalise=how), rows)) == wanted
    # One criterion in percent, one from 1 to 5: thirty scores each show it.
    many = [score(f"r{i}", i % 5 + 1, criterion_id="five") for i in range(30)]
    many += [score(f"r{i}", i * 3, criterion_id="percent") for i in range(33)]
    with pytest.raises(DataError, match="criterion 'five'"):
        consensus(Mean(), many)


@pytest.mark.parametrize(
    "rows",
    [
        [score("a", 5, "x"), score("b", 4, "x"), score("a", 2, "y"), score("b", 1, "y")],  # lenient and harsh
        [score("a", 1, "x"), score("b", 0, "x"), score("a", 4, "y"), score("b", 3, "y")],  # on a scale from 0 to 4
        [score("a", 8, "x"), score("b", 8, "x"), score("a", 1, "y"), score("b", 10, "y")],
    ],
)
def test_annotators_who_merely_differ_are_not_refused(rows: list[dict[str, object]]) -> None:
    assert len(consensus(Mean(), rows)) == 1


def test_normalising_within_annotator_and_prompt() -> None:
    unit, target = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 0, 1, 0])
    values = np.array([1.0, 3.0, 3.0, 7.0, 7.0, 9.0])
    np.testing.assert_allclose(normalised(unit, target, values, "rank"), [0, 0.75, 0.75, 0.5, 0.5, np.nan])
    np.testing.assert_allclose(normalised(unit, target, values, "minmax"), [0, 1, 1, 0.5, 0.5, np.nan])
    z = normalised(unit, target, values, "zscore")
    np.testing.assert_allclose(z, [-np.sqrt(2), np.sqrt(0.5), np.sqrt(0.5), 0, 0, np.nan])
    context = FakeContext()
    # The only response that an annotator scored states no order: it is left out, not set to the middle.
    made = consensus(Mean(normalise="zscore"), [score("a", 1), score("b", 3), score("a", 9, "judge:b")], context)
    assert one(made) == {"a": -1, "b": 1}
    assert "1 scores left out" in context.said[0]


def test_a_measure_needs_a_direction() -> None:
    rows = [said(["a", "b"], [10, 20], protocol="measure", aspect="words", annotator="rule:length", source="rule")]
    for step in (Mean(), BradleyTerryConsensus()):
        with pytest.raises(DataError, match=r"'rule:length' the aspect 'words'.*direction: \{words: 1\}"):
            consensus(step, rows)
    assert one(consensus(Mean(direction={"words": -1}), rows)) == {"a": -10, "b": -20}
    found = one(consensus(BradleyTerryConsensus(direction={"words": -1}), rows))
    assert found["a"] > found["b"]


def test_bradley_terry_takes_every_kind_of_order() -> None:
    rows = [
        said(["b", "a"], [0.3, 0.7]),
        said(["c", "a", "b"], [3, 2, 2], protocol="rank", annotator="human:x", source="human"),
        said(["a", "b", "c"], [1, 0, 0], protocol="choose", annotator="human:y", source="human"),
        score("a", 10, "rule:z"),
        score("b", -10, "rule:z"),
        score("a", 3, "rule:other"),  # the only score of its annotator: no comparison
    ]
    found = one(consensus(BradleyTerryConsensus(), rows))
    a, b, c = 0, 1, 2
    first, second = [a, c, c, a, a, a, a], [b, a, b, b, b, c, b]
    wanted = bradley_terry(first, second, p=[0.7, 1, 1, 0.5, 1, 1, 1], prior=1.0)
    np.testing.assert_allclose([found[name] for name in "abc"], wanted.values, atol=1e-9)
    assert sum(found.values()) == pytest.approx(0, abs=2e-9)


def test_scores_meet_only_within_annotator_criterion_and_replicate() -> None:
    apart = [score("a", 1, "x"), score("b", 2, "y")], [score("a", 1, replicate=0), score("b", 2, replicate=1)]
    for rows in (*apart, [score("a", 1, criterion_id="c"), score("b", 2, criterion_id="d")]):
        made = consensus(BradleyTerryConsensus(), rows)
        assert [(row["status"], row["target_ids"]) for row in made] == [("abstain", ["a", "b"])]
    # Scored twice by one annotator: the mean enters.
    twice = [score("a", 1, key=1), score("a", 5, key=2), score("b", 2)]
    found = one(consensus(BradleyTerryConsensus(), twice))
    assert found["a"] > found["b"]


def test_bradley_terry_weights_prior_and_min_valid() -> None:
    rows = [said(["a", "b"], [1, 0], annotator="x"), said(["a", "b"], [0, 1], annotator="y")]
    assert one(consensus(BradleyTerryConsensus(), rows)) == {"a": 0, "b": 0}
    heavy = one(consensus(BradleyTerryConsensus(weights={"x": 2}), rows))
    wanted = bradley_terry([0, 0, 1], [1, 1, 0], prior=1.0).values[0]
    assert heavy["a"] == pytest.approx(wanted, abs=1e-9)
    strong = one(consensus(BradleyTerryConsensus(weights={"x": 2}, prior=5), rows))
    assert 0 < strong["a"] < heavy["a"]
    rows.append(said(["a", "c"], [1, 0], annotator="x"))
    made = consensus(BradleyTerryConsensus(min_valid=2), rows)
    assert [(row["status"], row["target_ids"]) for row in made] == [("ok", ["a", "b"]), ("abstain", ["c"])]
    assert sum(made[0]["scores"]) == pytest.approx(0, abs=2e-9)


def test_confidence_of_bradley_terry_grows_with_votes() -> None:
    def sure(votes: int, p: float = 1.0) -> float:
        rows = [said(["a", "b"], [p, 1 - p], annotator=f"judge:{i}") for i in range(votes)]
        return float(consensus(BradleyTerryConsensus(), rows)[0]["confidence"])

    assert sure(1, 0.5) == 0
    assert 0 < sure(1) < sure(3) < sure(30) <= 1


def test_majority_of_comparisons() -> None:
    rows = [said(["a", "b"], [1, 0], annotator=f"x{i}") for i in range(2)]
    rows += [said(["b", "a"], [0.9, 0.1], annotator="y"), said(["a", "c"], [0.5, 0.5], annotator="y")]
    made = {tuple(row["target_ids"]): row for row in consensus(Majority(), rows)}
    assert made["a", "b"]["scores"] == [1, 0] and made["a", "b"]["confidence"] == pytest.approx(2 / 3)
    assert made["a", "c"]["scores"] == [0.5, 0.5]
    hung = consensus(Majority(), [rows[0], rows[2]])
    assert [(row["status"], row["protocol"], row["confidence"]) for row in hung] == [("abstain", "compare", None)]
    assert [row["status"] for row in consensus(Majority(min_valid=4), rows[:3])] == ["abstain"]


def test_majority_merges_the_two_orders_of_one_annotator() -> None:
    orders = [said(["a", "b"], [1, 0]), said(["b", "a"], [0, 1])]
    # One annotator in both orders is one vote: it does not outvote two others.
    others = [said(["a", "b"], [0, 1], annotator=name) for name in ("x", "y")]
    assert [row["scores"] for row in consensus(Majority(), orders + others)] == [[0, 1]]
    assert [row["scores"] for row in consensus(Majority(), orders)] == [[1, 0]]
    half = [said(["a", "b"], [1, 0]), said(["b", "a"], [0.5, 0.5])]
    assert [row["scores"] for row in consensus(Majority(), half)] == [[0.5, 0.5]]


def test_majority_of_labels() -> None:
    def label(target: list[str], labels: list[str] | None, annotator: str) -> dict[str, object]:
        status = {} if labels is not None else {"status": "refused"}
        return said(target, None, protocol="label", labels=labels, annotator=annotator, **status)

    rows = [
        label(["a"], ["refusal"], "x"),
        label(["a", "b"], ["refusal", "answer"], "y"),
        label(["a"], ["answer"], "z"),
        label(["b"], None, "x"),
        label(["c"], None, "x"),
        label(["d"], ["two", "one"], "x"),
        label(["d"], ["one", "two"], "y"),
        label(["e"], ["one"], "x"),
        label(["e"], ["two"], "y"),
    ]
    context = FakeContext()
    made = {row["target_ids"][0]: row for row in consensus(Majority(), [*rows, score("a", 1)], context)}
    assert made["a"]["labels"] == ["refusal"] and made["a"]["confidence"] == pytest.approx(2 / 3)
    assert made["b"]["labels"] == ["answer"] and made["b"]["confidence"] == 1
    assert made["d"]["labels"] == ["one", "two"]
    assert [made[name]["status"] for name in "ce"] == ["abstain", "abstain"]
    assert "1 annotations are neither labels nor comparisons (score)" in context.said[0]


def test_ids_name_what_was_read() -> None:
    rows = [score("a", 1), score("b", 2), said(["a", "b"], [1, 0], aspect="other")]

    def ids(rows: list[dict[str, object]], step: Mean | None = None) -> dict[str, str]:
        return {row["aspect"]: row["annotation_id"] for row in consensus(step or Mean(), rows)}

    before = ids(rows)
    assert before == ids(rows[::-1])
    for changed in (
        [*rows, score("a", 3, "judge:b")],
        [{**rows[0], "scores": [2.0]}, *rows[1:]],
        [rows[0], {**said(["b"], [2]), "annotation_id": rows[1]["annotation_id"], "target_ids": ["c"]}, rows[2]],
    ):
        after = ids(changed)
        assert after["overall"] != before["overall"] and after["other"] == before["other"]
    assert ids(rows, Mean(min_valid=1, weights={"x": 2}))["overall"] != before["overall"]
    # A label corrected and set back says what it said: its consensus has its old name.
    assert ids([{**rows[0], "revision": 3}, *rows[1:]]) == before
    # The view and the step's name are not what was asked.
    assert ids(rows, Mean(view="easy", name="mine")) == before


def test_annotations_of_other_things_are_not_read() -> None:
    rows = [said(["p"], [1], target="prompt"), {**said(["a"], [1]), "parts": [0]}]
    assert consensus(Mean(), rows) == consensus(BradleyTerryConsensus(), rows) == consensus(Majority(), rows) == []


def test_nothing_in_nothing_out() -> None:
    for step in (Mean(), Majority(), BradleyTerryConsensus()):
        assert run(step, annotations=[])["annotations"] == []


def test_an_equal_vote_stays_a_vote() -> None:
    vote, other = said(["a", "b"], [1, 0]), said(["a", "b"], [0, 1], annotator="y")
    assert consensus(Majority(), [vote, other])[0]["status"] == "abstain"
    assert consensus(Majority(), [vote, copy_of(vote, "1"), other])[0]["scores"] == [1, 0]


def test_an_unnamed_annotator_counts_like_any_other() -> None:
    rows = [{**said(["a", "b"], [1, 0]), "annotator": None}, said(["a", "b"], [1, 0])]
    for step in (Mean(weights={"x": 2}), BradleyTerryConsensus(weights={"x": 2}), Majority(min_valid=2)):
        assert [row["status"] for row in consensus(step, rows)] == ["ok"]
