"""The laws of follow-up likelihood, and hand-computed numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from annotators_measured import Measured, by_letters, group_of, judged, scores_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefdata.annotators import FollowUp
from prefdata.annotators.follow_up import difference
from prefdata.annotators.follow_ups import CATEGORIES, FollowUps
from prefdata.engines.base import Reply, Request

SAID = st.lists(st.text("abc ", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=4)


def model(answer: Any = None) -> Measured:
    """Its log-probability of a word: minus its letters."""
    return Measured({"judge": ("llama", answer or by_letters(-1.0))})


def follow_up(**fields: Any) -> FollowUp:
    return FollowUp(**{"engine": "judge", **fields})


def own(positive: Any, negative: Any, **fields: Any) -> FollowUp:
    return follow_up(positive=tuple(positive), negative=tuple(negative), **fields)


def test_by_hand() -> None:
    # Means per token: "ab" -2, "a bcd" -2; "abcdef" -6.
    (row,) = judged(own(["ab", "a bcd"], ["abcdef"]), group_of("Because."), model())
    assert row["scores"] == [-2.0 - -6.0] and row["aspect"] == "overall" and row["source"] == "likelihood"
    assert row["annotator"].startswith("likelihood:llama/follow-up@")


@given(SAID, SAID)
def test_swapping_the_sides_negates(positive: list[str], negative: list[str]) -> None:
    (there,) = scores_of(own(positive, negative), group_of("Because."), model()).values()
    (back,) = scores_of(own(negative, positive), group_of("Because."), model()).values()
    assert there is not None and back is not None and there == -back


@given(SAID)
def test_equal_sides_are_worth_nothing(texts: list[str]) -> None:
    assert scores_of(own(texts, texts), group_of("Because."), model()) == {"Because.": 0.0}


@given(SAID, SAID, st.integers(0, 3))
def test_a_follow_up_that_stands_twice_weighs_no_more(positive: list[str], negative: list[str], place: int) -> None:
    once = scores_of(own(positive, negative), group_of("Because."), model())
    twice = own([*positive, positive[place % len(positive)]], [*negative, *negative])
    assert scores_of(twice, group_of("Because."), model()) == once


@given(st.lists(st.floats(-9, 0), min_size=1, max_size=5), st.lists(st.floats(-9, 0), min_size=1, max_size=5))
def test_the_difference_forgets_the_order(positive: list[float], negative: list[float]) -> None:
    assert difference(positive[::-1], negative[::-1]) == difference(positive, negative)
    assert difference(positive, negative) == -difference(negative, positive)


@pytest.mark.parametrize("sides", [([], []), ([], ["no"]), (["yes"], []), (["yes"], [" "])])
def test_a_side_without_follow_ups_is_refused(sides: tuple[list[str], list[str]]) -> None:
    with pytest.raises(ValidationError, match="holds no follow-up, or an empty one"):
        own(*sides)
    with pytest.raises(ValidationError, match="holds no follow-up"):
        follow_up(positive=("yes",))


@pytest.mark.parametrize("fields", [{"most": 0}, {"categories": ()}, {"categories": ("relevance", "relevance")}])
def test_fields_that_make_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        follow_up(**fields)
    with pytest.raises(ValidationError, match="one category"):
        own(["yes"], ["no"], combine="both")
    with pytest.raises(ValidationError, match="one category"):
        own(["yes"], ["no"], categories=("relevance",))


@pytest.mark.parametrize(("fields", "each"), [({}, 120), ({"most": 2}, 24), ({"categories": ("relevance",)}, 20)])
def test_the_cost_is_that_of_the_follow_ups(fields: dict[str, Any], each: int) -> None:
    context = model()
    judged(follow_up(**fields), group_of("one", "two", "three"), context)
    assert len(context.asked) == 3 * each


def test_the_user_says_it_after_the_response() -> None:
    context = model()
    judged(own(["Thanks."], ["No."]), group_of("Because."), context)
    for _, request, _ in context.asked:
        assert request.role == "user" and request.capability == "logprobs"
        assert [turn["role"] for turn in request.messages] == ["user", "assistant"]
        assert request.messages[-1]["content"] == "Because."
    assert [request.continuation for _, request, _ in context.asked] == ["Thanks.", "No."]


def test_each_category_by_itself_and_all_together() -> None:
    context = model()
    rows = judged(follow_up(combine="both", most=3), group_of("Because."), context)
    by_aspect = {row["aspect"]: row for row in rows}
    assert list(by_aspect) == ["overall", *CATEGORIES] and len({row["annotator"] for row in rows}) == 1
    assert len(context.asked) == 36, "the rows share their requests"
    means = [by_aspect[name]["scores"][0] for name in CATEGORIES]
    assert by_aspect["overall"]["scores"] == [pytest.approx(sum(means) / 6)]
    assert list(json.loads(by_aspect["overall"]["meta"]).values()) == pytest.approx(sorted(means), abs=9)
    assert json.loads(by_aspect["overall"]["meta"]) == {name: by_aspect[name]["scores"][0] for name in CATEGORIES}
    apart = judged(follow_up(combine="none", most=3), group_of("Because."), model())
    assert [row["aspect"] for row in apart] == list(CATEGORIES)
    assert {row["annotation_id"] for row in apart} == {by_aspect[name]["annotation_id"] for name in CATEGORIES}


def test_one_failed_follow_up_is_no_score() -> None:
    def answer(request: Request) -> Reply | str:
        first = CATEGORIES["correctness"].positive[0]
        return "timeout" if request.continuation == first else by_letters(-1.0)(request)

    rows = {row["aspect"]: row for row in judged(follow_up(combine="both"), group_of("x"), model(answer))}
    assert rows["overall"]["status"] == rows["correctness"]["status"] == "timeout"
    assert rows["overall"]["scores"] is None and rows["relevance"]["status"] == "ok"
    (row,) = judged(own(["yes"], ["no"]), group_of("x"), model(lambda request: Reply(values=())))
    assert row["status"] == "unparsed" and row["scores"] is None


@pytest.mark.parametrize("text", ["", None])
def test_nothing_said_is_abstained_from(text: str | None) -> None:
    context = model()
    (row,) = judged(follow_up(), group_of(text), context)
    assert row["status"] == "abstain" and not context.asked


def test_the_shipped_follow_ups() -> None:
    sides = [side for each in CATEGORIES.values() for side in (each.positive, each.negative)]
    assert len(CATEGORIES) == 6 and all(len(set(side)) == 10 for side in sides)
    said = [text for side in sides for text in side]
    assert len(set(said)) == len(said), "none stands in two lists"
    assert all(text == text.strip() and text[-1] in ".!?" and len(text) < 60 for text in said)
    for name, each in CATEGORIES.items():
        words = [sum(len(text.split()) for text in side) for side in (each.positive, each.negative)]
        assert abs(words[0] - words[1]) <= 0.2 * sum(words), f"{name}: the two sides are not alike in length"


def test_a_changed_text_is_another_annotator(monkeypatch: pytest.MonkeyPatch) -> None:
    step = follow_up(categories=("relevance",), most=1)
    kept, before = step.resolved(), judged(step, group_of("x"), model())[0]
    monkeypatch.setattr("prefdata.annotators.follow_up.CATEGORIES", {"relevance": FollowUps(("Yes.",), ("No.",))})
    changed = follow_up(categories=("relevance",), most=1)
    after = judged(changed, group_of("x"), model())[0]
    assert changed.resolved() != kept and after["annotation_id"] != before["annotation_id"]
    assert after["annotator"] != before["annotator"]
    restored = FollowUp.restored(kept)
    assert restored.resolved() == kept, "a logged step keeps the texts that it had"
    assert judged(restored, group_of("x"), model())[0]["annotation_id"] == before["annotation_id"]
