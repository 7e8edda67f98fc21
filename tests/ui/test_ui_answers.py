"""What is clicked is what stands in the dataset: every protocol, under both orders of presentation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.cards import Aspect, Card, Scale, load_card
from prefdata.schema import check_annotations
from prefdata.ui.answers.annotations import Said
from prefdata.ui.answers.checks import AnswerError, checked, turned
from prefdata.ui.work.project import Project, project_of

CARD = Card(
    name="c",
    instructions="i",
    aspects=(
        Aspect(name="clear", text="t", scale=Scale(min=1, max=5)),
        Aspect(name="brief", text="t", scale=Scale(min=0, max=4), direction="lower"),
    ),
)
TEXTS = ["first text", "second text", "third text"]


def project(protocol: str, **fields: Any) -> Project:
    return project_of({"name": "p", "protocol": protocol, **fields})


def rows(protocol: str, shown: list[int], answer: dict[str, Any], size: int = 3, **fields: Any) -> list[dict[str, Any]]:
    """The annotations of an answer given as the person saw it; targets r0, r1, r2."""
    made = project(protocol, **fields)
    texts = [TEXTS[place] for place in shown]
    stored = turned(checked(answer, made, CARD, texts, 2), shown)
    label = {"answer": stored, "shown": shown, "status": "ok", "guideline": "c@1", "kind": "label", "revision": 1}
    task = {"target_ids": [f"r{n}" for n in range(size)], "key": "k", "group_id": "g", "prompt_id": "g", "gold": None}
    said = Said({**label, "seconds": 1.0, "created_at": 0.0}, task, "ann", made, CARD, [4, 10])
    found = said.annotations()
    check_annotations(found, "test")
    return found


def by_target(row: dict[str, Any]) -> dict[str, float]:
    return dict(zip(row["target_ids"], row["scores"], strict=True))


@pytest.mark.parametrize("shown", [[0, 1], [1, 0]])
def test_the_one_that_was_clicked_wins_in_either_order(shown: list[int]) -> None:
    (row,) = rows("compare", shown, {"choice": -2}, 2)  # the first shown is clearly better
    assert row["target_ids"] == [f"r{place}" for place in shown]
    assert by_target(row) == {f"r{shown[0]}": 1.0, f"r{shown[1]}": 0.0}
    assert row["strength"] == 2.0


@pytest.mark.parametrize(
    ("points", "choice", "strength"), [(2, 1, 3.0), (3, -1, 3.0), (5, 1, 1.5), (7, 3, 3.0), (9, 1, 0.75)]
)
def test_strength_runs_from_0_to_3_on_every_scale(points: int, choice: int, strength: float) -> None:
    (row,) = rows("compare", [0, 1], {"choice": choice}, 2, points=points)
    assert row["strength"] == strength


def test_a_tie_and_both_bad_order_nothing_and_can_be_told_apart() -> None:
    (tie,) = rows("compare", [1, 0], {"choice": 0}, 2)
    (bad,) = rows("compare", [1, 0], {"choice": "both_bad"}, 2)
    assert tie["scores"] == bad["scores"] == [0.5, 0.5]
    assert tie.get("labels") is None and bad["labels"] == ["both_bad"]


def test_ranks_become_scores_and_ties_stay() -> None:
    (row,) = rows("rank", [2, 0, 1], {"ranks": [1, 3, 1]})
    assert by_target(row) == {"r2": 2.0, "r0": 1.0, "r1": 2.0}


def test_a_partial_ranking_says_nothing_within_the_rest() -> None:
    ranked, chosen = rows("rank", [2, 0, 1], {"ranks": [None, 1, None]}, top=1)
    assert by_target(ranked) == {"r0": 1.0}
    assert chosen["protocol"] == "choose" and by_target(chosen) == {"r2": 0.0, "r0": 1.0, "r1": 0.0}


def test_a_score_is_better_when_higher() -> None:
    clear, brief = rows("rate", [1, 0], {"scores": {"clear": [5, 1], "brief": [4, 1]}}, 2)
    assert (clear["aspect"], by_target(clear)) == ("clear", {"r1": 5.0, "r0": 1.0})
    assert (brief["aspect"], by_target(brief)) == ("brief", {"r1": 0.0, "r0": 3.0})  # 0 + 4 - 4, 0 + 4 - 1
    assert clear["criterion_id"] != brief["criterion_id"]


def test_a_rating_without_direction_is_a_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """People's word on how long a response is must be paired on no more than a judge's."""
    card = load_card("helpsteer2")
    monkeypatch.setitem(globals(), "CARD", card)
    made = rows("rate", [1, 0], {"scores": {aspect.name: [4, 1] for aspect in card.aspects}}, 2)
    assert {row["aspect"] for row in made if row["protocol"] == "measure"} == {"complexity", "verbosity"}
    assert all(by_target(row) == {"r1": 4.0, "r0": 1.0} for row in made)


def test_best_thumbs_steps_and_passages() -> None:
    (best,) = rows("best", [2, 0, 1], {"best": [0]})
    assert by_target(best) == {"r2": 1.0, "r0": 0.0, "r1": 0.0}
    (none,) = rows("best", [2, 0, 1], {"best": []}, none=True)
    assert (none["protocol"], none["labels"], none.get("scores")) == ("label", ["none"], None)
    (thumbs,) = rows("thumbs", [2, 0, 1], {"thumbs": [1, 0, 1]})
    assert by_target(thumbs) == {"r2": 1.0, "r0": 0.0, "r1": 1.0}
    (step,) = rows("first_error", [0], {"step": 1}, 1)
    assert step["labels"] == ["first_error"] and step["parts"] == [1]
    assert [(one["start"], one["end"]) for one in step["spans"]] == [(4, 10)]
    (right,) = rows("first_error", [0], {"step": None}, 1)
    assert right["labels"] == ["correct"] and right.get("parts") is None
    marked, empty = rows("spans", [1, 0], {"spans": [{"target": 0, "start": 0, "end": 6, "label": "good"}]}, 2)
    assert marked["target_ids"] == ["r1"] and marked["labels"] == ["good"] and marked["spans"][0]["end"] == 6
    assert empty["target_ids"] == ["r0"] and empty["labels"] == ["none"] and empty["spans"] == []


def test_an_edit_is_a_new_response_that_beats_the_old_one() -> None:
    (row,) = rows("edit", [0], {"target": 0, "text": "a better text"}, 1)
    assert by_target(row)["r0"] == 0.0 and sorted(row["scores"]) == [0.0, 1.0]


@given(st.permutations([0, 1, 2]), st.lists(st.integers(1, 3), min_size=3, max_size=3), st.data())
def test_turning_there_and_back_changes_nothing(shown: list[int], ranks: list[int], data: st.DataObject) -> None:
    answers: list[dict[str, Any]] = [
        {"ranks": ranks},
        {"best": sorted(data.draw(st.sets(st.integers(0, 2))))},
        {"scores": {"clear": [float(rank) for rank in ranks]}},
        {"spans": [{"target": 2, "start": 0, "end": 1, "label": "wrong"}]},
        {"target": 1, "text": "t"},
    ]
    for answer in answers:
        assert turned(turned(answer, shown), shown, back=True) == answer


@given(st.permutations([0, 1, 2]), st.permutations([0, 1, 2]))
def test_what_is_said_does_not_depend_on_the_order_shown(shown: list[int], ranks: list[int]) -> None:
    """A person who ranks r0, r1, r2 by `ranks` says the same in whatever order they see them."""
    seen = [ranks[place] + 1 for place in shown]
    (row,) = rows("rank", shown, {"ranks": seen})
    assert by_target(row) == {f"r{n}": 3.0 - ranks[n] for n in range(3)}


WRONG = [
    ("compare", {"choice": 4}, {}, "7 points"),
    ("compare", {"choice": True}, {}, "7 points"),
    ("compare", {"choice": 0}, {"points": 4}, "no tie"),
    ("compare", {"choice": "both_bad"}, {"both_bad": False}, "points"),
    ("compare", {"choice": 1}, {"rationale": "required"}, "reason"),
    ("compare", {"choice": 1, "rationale": "x" * 100_001}, {"rationale": "optional"}, "100,001 characters"),
    ("compare", {"choice": 1, "reasons": ["other"]}, {"reasons": ("one",)}, "does not have"),
    ("compare", {"choice": 1, "confidence": 2}, {"confidence": True}, "0 to 1"),
    ("rank", {"ranks": [1, 2, None]}, {}, "rank at least 3"),
    ("rank", {"ranks": [1, 1, 2]}, {"ties": False}, "no ties"),
    ("rank", {"ranks": [0, 1, 2]}, {}, "from 1 to 3"),
    ("rank", {"ranks": [1, 2]}, {}, "each of the 3"),
    ("rank", {"ranks": [False, [], 1]}, {}, "from 1 to 3"),
    ("rank", {"ranks": [1, "2", {}]}, {}, "from 1 to 3"),
    ("rate", {"scores": {"clear": [1, 2, 3]}}, {}, "brief"),
    ("rate", {"scores": {"clear": [1, 2, 9], "brief": [1, 1, 1]}}, {}, "1 to 5"),
    ("rate", {"scores": {"clear": [1, 2, 2.5], "brief": [1, 1, 1]}}, {}, "whole number"),
    ("best", {"best": []}, {}, "choose one"),
    ("best", {"best": [0, 1]}, {}, "at most 1"),
    ("best", {"best": [3]}, {}, "choose one"),
    ("thumbs", {"thumbs": [1, None, 0]}, {}, "every response"),
    ("first_error", {"step": 2}, {}, "2 steps"),
    ("first_error", {}, {}, "first wrong step"),
    ("spans", {"spans": [{"target": 0, "start": 0, "end": 11, "label": "wrong"}]}, {}, "10 characters"),
    ("spans", {"spans": [{"target": 0, "start": False, "end": True, "label": "wrong"}]}, {}, "10 characters"),
    ("spans", {"spans": [{"target": True, "start": 0, "end": 1, "label": "wrong"}]}, {}, "names no response"),
    ("spans", {"spans": [{"target": 0, "start": 0, "end": 1, "label": ["wrong"]}]}, {}, "label is one of"),
    ("spans", {"spans": [{"target": 0, "start": 0, "end": 1, "label": "odd"}]}, {}, "label is one of"),
    ("edit", {"target": 0, "text": "first text "}, {}, "nothing was changed"),
    ("edit", {"target": 0, "text": " "}, {}, "empty"),
]


@pytest.mark.parametrize(("protocol", "answer", "fields", "said"), WRONG)
def test_what_does_not_fit_gets_a_sentence(protocol: str, answer: Any, fields: Any, said: str) -> None:
    with pytest.raises(AnswerError, match=said):
        checked(answer, project(protocol, **fields), CARD, TEXTS, 2)
