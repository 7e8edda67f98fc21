"""Juries: weights, the minority veto, versions of a card; numbers worked out by hand and the laws of aggregation."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_shapes import FakeContext, consensus, copy_of, said
from pydantic import ValidationError

from prefdata.errors import DataError
from prefdata.operators.aggregate.bradley_terry import BradleyTerryConsensus
from prefdata.operators.aggregate.majority import Majority
from prefdata.operators.aggregate.mean import Mean
from prefdata.operators.aggregate.veto import Veto
from prefdata.schema import Row

PAIR = ["a", "b"]


def vote(p: float | None, annotator: str, targets: list[str] | None = None, **columns: Any) -> Row:
    status = {"status": "unparsed"} if p is None else {}
    return said(targets or PAIR, None if p is None else [p, 1 - p], annotator=annotator, **status, **columns)


def label(target: str, labels: list[str] | None, annotator: str, **columns: Any) -> Row:
    status = {} if labels is not None else {"status": "refused"}
    return said([target], None, protocol="label", labels=labels, annotator=annotator, **status, **columns)


def score(target: str, value: float | None, annotator: str, **columns: Any) -> Row:
    status = {"status": "unparsed"} if value is None else {}
    return said([target], None if value is None else [value], annotator=annotator, **status, **columns)


def only(rows: list[Row]) -> Row:
    assert len(rows) == 1, rows
    return rows[0]


# --- weights of a majority


def test_a_heavy_member_outvotes_two() -> None:
    rows = [vote(1, "reward:rm"), vote(0, "judge:x"), vote(0, "judge:y")]
    assert only(consensus(Majority(), rows))["scores"] == [0, 1]
    heavy = only(consensus(Majority(weights={"reward:*": 3}), rows))
    assert heavy["scores"] == [1, 0] and heavy["confidence"] == pytest.approx(3 / 5)
    even = only(consensus(Majority(weights={"reward:*": 2}), rows))
    assert (even["status"], even["scores"]) == ("abstain", None)
    without = only(consensus(Majority(weights={"reward:*": 0}), rows))
    assert without["scores"] == [0, 1] and without["confidence"] == 1
    # Weights are not votes: min_valid counts who spoke.
    assert only(consensus(Majority(weights={"reward:*": 9}, min_valid=4), rows))["status"] == "abstain"


def test_weights_that_are_equal_on_paper_are_a_tie() -> None:
    rows = [vote(1, "judge:x"), vote(1, "judge:y"), vote(0, "judge:z")]
    weights = {"judge:x": 0.1, "judge:y": 0.2, "judge:z": 0.3}
    assert 0.1 + 0.2 != 0.3
    assert only(consensus(Majority(weights=weights), rows))["status"] == "abstain"


def test_labels_are_weighed_too() -> None:
    rows = [label("a", ["good"], "human:x"), label("a", ["bad"], "judge:y"), label("a", ["bad"], "judge:z")]
    assert only(consensus(Majority(), rows))["labels"] == ["bad"]
    made = only(consensus(Majority(weights={"human:*": 2.5}), rows))
    assert made["labels"] == ["good"] and made["confidence"] == pytest.approx(2.5 / 4.5)


def test_a_jury_without_weights_keeps_its_names() -> None:
    """The ids of consensus rows from before there were weights and versions of cards."""
    made = [only(consensus(step, [vote(1, "judge:x")]))["annotation_id"] for step in (Majority(), Mean())]
    assert made == ["e94dea10aadf176337b2c32034545c42", "fc5047579c6d1420087c430d39aefad2"]
    assert only(consensus(Majority(weights={"x": 2}), [vote(1, "judge:x")]))["annotation_id"] != made[0]
    assert only(consensus(Majority(card_versions="all"), [vote(1, "judge:x")]))["annotation_id"] == made[0]


# --- the veto


def test_one_objection_rejects_though_most_are_for_it() -> None:
    rows = [label("a", ["good"], f"judge:{i}") for i in range(4)] + [label("a", ["bad"], "judge:z")]
    rows += [label("b", ["good"], f"judge:{i}") for i in range(5)]
    assert {row["target_ids"][0]: row["labels"] for row in consensus(Majority(), rows)} == {
        "a": ["good"],
        "b": ["good"],
    }
    made = {row["target_ids"][0]: row for row in consensus(Veto(objections=["bad"]), rows)}
    assert {name: (row["protocol"], row["scores"]) for name, row in made.items()} == {
        "a": ("score", [0.0]),
        "b": ("score", [1.0]),
    }
    assert made["a"]["confidence"] == pytest.approx(0.2) and made["b"]["confidence"] == 1
    assert made["a"]["annotator"] == "consensus:veto" and made["a"]["source"] == "consensus"


@pytest.mark.parametrize(
    ("limit", "rejected"),
    [
        ({"least": 1}, True),
        ({"least": 2}, True),
        ({"least": 3}, False),
        ({"share": 0.5}, True),
        ({"share": 0.51}, False),
    ],
)
def test_how_many_objections_it_takes(limit: dict[str, float], rejected: bool) -> None:
    rows = [label("a", [name], f"judge:{i}") for i, name in enumerate(["bad", "awful", "good", "fair"])]
    made = only(consensus(Veto(objections=["bad", "awful"], **limit), rows))
    assert made["scores"] == [0.0 if rejected else 1.0] and made["confidence"] == 0.5


def test_shares_are_of_weight_and_thirds_are_thirds() -> None:
    rows = [label("a", [name], f"judge:{name}") for name in ("bad", "good", "fair")]
    assert only(consensus(Veto(objections=["bad"], share=1 / 3), rows))["scores"] == [0]
    heavy = only(consensus(Veto(objections=["bad"], share=0.6, weights={"judge:bad": 3}), rows))
    assert heavy["scores"] == [0] and heavy["confidence"] == pytest.approx(3 / 5)
    assert only(consensus(Veto(objections=["bad"], weights={"judge:bad": 0}), rows))["scores"] == [1]


def test_scores_below_a_limit_object() -> None:
    rows = [score("a", 2, "judge:x"), score("a", 4, "judge:y"), score("b", 3, "judge:x"), score("c", None, "judge:x")]
    made = {row["target_ids"][0]: (row["status"], row["scores"]) for row in consensus(Veto(below=3), rows)}
    assert made == {"a": ("ok", [0]), "b": ("ok", [1]), "c": ("abstain", None)}
    joint = [said(["a", "b"], [2, 5], protocol="score", annotator="judge:x")]
    assert {row["target_ids"][0]: row["scores"] for row in consensus(Veto(below=3), joint)} == {"a": [0], "b": [1]}


def test_members_on_unlike_scales_have_limits_of_their_own() -> None:
    rows = [
        score("a", 0.2, "reward:r"),
        score("b", 0.9, "reward:r"),
        score("a", 4, "judge:j"),
        score("b", 8, "judge:j"),
    ]
    with pytest.raises(DataError, match="unlike scales"):
        consensus(Veto(below=3), rows)
    limits = {"reward:*": 0.5, "judge:*": 5}
    assert {row["target_ids"][0]: row["scores"] for row in consensus(Veto(below=limits), rows)} == {"a": [0], "b": [1]}
    context = FakeContext()
    assert {row["target_ids"][0]: row["scores"] for row in consensus(Veto(below={"judge:*": 2}), rows, context)} == {
        "a": [1],
        "b": [1],
    }
    assert "2 annotations are no votes here (score" in context.said[0]


def test_a_comparison_is_won_where_nobody_objects() -> None:
    unanimous = [vote(1, "judge:x"), vote(1, "judge:y"), vote(0.5, "judge:z")]
    made = only(consensus(Veto(), unanimous))
    assert (made["protocol"], made["target_ids"], made["scores"]) == ("compare", PAIR, [1, 0])
    assert made["confidence"] == pytest.approx(2 / 3)
    divided = only(consensus(Veto(), [*unanimous, vote(0, "judge:w")]))
    assert (divided["status"], divided["scores"]) == ("abstain", None)
    # Two objections are needed: one of four against it does not keep a from winning.
    assert only(consensus(Veto(least=2), [*unanimous, vote(0, "judge:w")]))["scores"] == [1, 0]
    idle = only(consensus(Veto(least=3), unanimous))
    assert idle["scores"] == [0.5, 0.5] and idle["confidence"] == pytest.approx(1 / 3)


def test_what_is_no_vote_is_left_out_and_said() -> None:
    rows = [label("a", ["bad"], "judge:x"), score("a", 1, "judge:x"), said(["a", "b", "c"], [3, 2, 1], protocol="rank")]
    context = FakeContext()
    assert consensus(Veto(), rows, context) == []
    assert "3 annotations are no votes here (label, rank, score" in context.said[0]
    assert only(consensus(Veto(objections=["bad"]), rows))["scores"] == [0]


def test_a_veto_has_one_limit() -> None:
    with pytest.raises(ValidationError, match="not both"):
        Veto(least=1, share=0.5)
    for wrong in ({"least": 0}, {"share": 0}, {"share": 1.5}):
        with pytest.raises(ValidationError):
            Veto(**wrong)


# --- laws

voices = st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0, None]), min_size=1, max_size=6)


def jury(voices_: list[float | None]) -> list[Row]:
    rows = [vote(p, f"judge:{i}") for i, p in enumerate(voices_)]
    for i, p in enumerate(voices_):
        rows.append(label("a", None if p is None else ["bad" if p < 0.5 else "good"], f"judge:{i}"))
        rows.append(score("a", None if p is None else 1 + 4 * p, f"judge:{i}"))
    return rows


STEPS = [
    Majority(),
    Majority(weights={"judge:0": 2}),
    Veto(objections=["bad"], below=3),
    Veto(objections=["bad"], share=0.4, weights={"judge:1": 0.5}),
]


def content(rows: list[Row]) -> list[Any]:
    return sorted(
        (row["protocol"], row["status"], row["target_ids"], row["scores"] or [], row["labels"] or []) for row in rows
    )


@given(voices, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_l8_order_moves_no_bit(voices_: list[float | None], draw: random.Random) -> None:
    rows = jury(voices_)
    shuffled = draw.sample(rows, len(rows))
    for step in STEPS:
        one, other = consensus(step, rows), consensus(step, shuffled)
        keys = ("annotation_id", "scores", "labels", "confidence", "status")
        assert [[row[key] for key in keys] for row in one] == [[row[key] for key in keys] for row in other]


@given(voices)
@settings(max_examples=40, deadline=None)
def test_l8_every_vote_twice_is_the_same_verdict(voices_: list[float | None]) -> None:
    rows = jury(voices_)
    twice = [*rows, *(copy_of(row, "again") for row in rows)]
    for step in (*STEPS[:2], STEPS[3]):  # `least` counts heads
        assert content(consensus(step, rows)) == content(consensus(step, twice))


@given(st.sampled_from([0.0, 0.5, 1.0]))
@settings(deadline=None)
def test_l8_a_jury_of_one_is_its_member(p: float) -> None:
    for step in STEPS:
        found = [row for row in consensus(step, jury([p])) if row["protocol"] == "compare"]
        assert only(found)["scores"] == [p, 1 - p] and only(found)["confidence"] == 1


@given(voices)
@settings(max_examples=30, deadline=None)
def test_l7_failures_are_no_objections_and_no_votes(voices_: list[float | None]) -> None:
    rows = jury(voices_)
    for step in STEPS:
        with_failures = [*rows, vote(None, "judge:broken"), label("a", None, "judge:b"), score("a", None, "judge:b")]
        assert content(consensus(step, rows)) == content(consensus(step, with_failures))


@given(voices, st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_l6_more_objections_needed_never_reject_more(voices_: list[float | None], least: int) -> None:
    def rejected(step: Veto) -> set[str]:
        return {row["target_ids"][0] for row in consensus(step, jury(voices_)) if row["scores"] == [0.0]}

    assert rejected(Veto(objections=["bad"], least=least + 1)) <= rejected(Veto(objections=["bad"], least=least))


@pytest.mark.parametrize("p", [1.0, 0.0, 0.7])
def test_l3_a_jury_by_position_only_ties(p: float) -> None:
    rows = [
        vote(p, f"judge:{i}", pair)
        for i in range(3)
        for one in ("ab", "ac", "bc")
        for pair in (list(one), list(one)[::-1])
    ]
    for step in (Majority(), Majority(weights={"judge:0": 5}), Veto(), Veto(share=0.1)):
        made = consensus(step, rows)
        assert len(made) == 3 and {tuple(row["scores"]) for row in made} == {(0.5, 0.5)}


def test_a_cyclic_jury_stays_a_cycle_and_bradley_terry_a_tie() -> None:
    rows = [vote(1, f"judge:{i}", list(pair)) for i in range(3) for pair in ("ab", "bc", "ca")]
    wins = {tuple(row["target_ids"]): row["scores"] for row in consensus(Veto(), rows)}
    assert wins == {("a", "b"): [1, 0], ("b", "c"): [1, 0], ("a", "c"): [0, 1]}
    assert only(consensus(BradleyTerryConsensus(), rows))["scores"] == [0, 0, 0]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_failing_member_leaves_the_others_verdict(p: float) -> None:
    draw = random.Random(3)
    pairs = [[f"r{i}", f"s{i}"] for i in range(40)]
    honest = [vote(1, "judge:honest", pair) for pair in pairs]
    failing = [vote(None if draw.random() < p else 1.0, "judge:failing", pair) for pair in pairs]
    for step in (Majority(), Veto()):
        assert {tuple(row["scores"]) for row in consensus(step, honest + failing)} == {(1.0, 0.0)}
    silent = sum(row["scores"] is None for row in failing)
    made = consensus(Majority(min_valid=2), honest + failing)
    assert sum(row["status"] == "abstain" for row in made) == silent > 0


# --- versions of a card

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
OLD, NEW = "judge:llama/helpfulness@00000001", "judge:llama/helpfulness@00000002"


def by(annotator: str, value: float | None, day: int, **columns: Any) -> Row:
    return {
        **score(columns.pop("target", "a"), value, annotator, **columns),
        "created_at": MONDAY + timedelta(days=day),
    }


def test_the_newest_version_of_a_card_counts() -> None:
    rows = [by(NEW, 5, 2), by(OLD, 1, 1), by("judge:qwen/helpfulness@00000001", 3, 0)]
    context = FakeContext()
    assert only(consensus(Mean(), rows, context))["scores"] == [4]
    assert "1 annotations left out: their judge has read a newer version of its card" in context.said[0]
    assert only(consensus(Mean(card_versions="all"), rows))["scores"] == [3]
    # Whoever names a version has said which.
    assert only(consensus(Mean(annotators=["*@00000001"]), rows))["scores"] == [2]


def test_newest_is_by_time_and_not_by_hash_and_for_each_group() -> None:
    rows = [by(NEW, 5, 1), by(OLD, 1, 2)]
    rows += [by(NEW, 5, 2, prompt_id="p2"), by(OLD, 1, 1, prompt_id="p2"), by(OLD, 1, 1, prompt_id="p3")]
    assert {row["prompt_id"]: row["scores"] for row in consensus(Mean(), rows)} == {"p1": [1], "p2": [5], "p3": [1]}


def test_an_old_version_does_not_come_back_where_the_new_one_failed() -> None:
    made = consensus(Mean(), [by(OLD, 4, 1), by(NEW, None, 2)])
    assert [(row["status"], row["scores"]) for row in made] == [("abstain", None)]


def test_other_names_are_no_versions() -> None:
    names = [
        "judge:llama/label-probs/helpfulness@00000001",
        "judge:llama/helpfulness@00000001",
        "judge:llama/honesty@00000001",
        "judge:llama@00000002",
        "judge:llama@00000003",
        "rule:x/helpfulness@00000001",
        "rule:x/helpfulness@00000002",
        None,
    ]
    rows = [{**by("judge:a", float(i), i), "annotator": name} for i, name in enumerate(names)]
    for i, row in enumerate(rows):
        row["annotation_id"] = f"id{i}"
    context = FakeContext()
    assert only(consensus(Mean(), rows, context))["scores"] == [3.5] and context.said == []


def test_versions_without_a_time_are_older_and_ties_go_by_name() -> None:
    untimed = {**by(NEW, 5, 1), "created_at": None}
    assert only(consensus(Mean(), [untimed, by(OLD, 1, 1)]))["scores"] == [1]
    assert only(consensus(Mean(), [by(NEW, 5, 1), by(OLD, 1, 1)]))["scores"] == [5]


@given(st.lists(st.tuples(st.sampled_from("1234"), st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_one_version_is_left_and_nothing_depends_on_order(drawn: list[tuple[str, int, int]]) -> None:
    rows = [by(f"judge:m/c@0000000{which}", value, day, key=i) for i, (which, day, value) in enumerate(drawn)]
    last = max((day, which) for which, day, _ in drawn)[1]
    wanted = [value for which, _, value in drawn if which == last]
    made = [only(consensus(Mean(), order))["scores"] for order in (rows, rows[::-1])]
    assert made[0] == made[1] == [pytest.approx(sum(wanted) / len(wanted))]
