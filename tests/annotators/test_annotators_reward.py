"""Reward models and models of pairs."""

from __future__ import annotations

from typing import Any

import pytest
from annotators_measured import Measured, group_of, judged, scores_of
from hypothesis import given
from hypothesis import strategies as st

from prefdata.annotators import Reward
from prefdata.engines.base import Reply
from prefdata.engines.scripted import ScriptedEngine


def step(**fields: Any) -> Reward:
    return Reward(**{"engine": "rm", **fields})


def replying(reply: Reply | str) -> Measured:
    return Measured({"rm": ("deberta", lambda request: reply)})


def test_one_number_a_response() -> None:
    context = Measured({"rm": ("deberta", lambda request: Reply(values=(float(len(request.texts[0])),)))})
    assert scores_of(step(), group_of("one", "three", "", None), context) == {"one": 3, "three": 5, "": 0, None: None}
    assert len(context.asked) == 3 and all(request.messages[-1]["role"] == "user" for _, request, _ in context.asked)
    (row,) = judged(step(), group_of("one"), context)
    assert row["protocol"] == "score" and row["source"] == "reward" and row["annotator"] == "reward:deberta"


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("refused", "refused"),
        ("timeout", "timeout"),
        (Reply(), "unparsed"),
        (Reply(values=(1.0, 2.0)), "unparsed"),
        (Reply(values=(float("nan"),)), "unparsed"),
        (Reply(values=(float("inf"),)), "unparsed"),
    ],
)
def test_what_is_no_number_is_no_score(reply: Reply | str, status: str) -> None:
    (row,) = judged(step(), group_of("one"), replying(reply))
    assert row["status"] == status and row["scores"] is None


def test_pairs_in_both_orders() -> None:
    def answer(request: Any) -> Reply:
        first, second = (len(text) for text in request.texts)
        return Reply(values=(first / (first + second), second / (first + second)))

    context = Measured({"rm": ("pairrm", answer)})
    rows = judged(step(form="compare"), group_of("abc", "a"), context)
    assert len(rows) == 2 and rows[0]["target_ids"] == rows[1]["target_ids"][::-1]
    assert sorted(row["scores"] for row in rows) == [[0.25, 0.75], [0.75, 0.25]]
    assert rows[0]["protocol"] == "compare" and rows[0]["annotator"] == "reward:pairrm/pairs"
    assert len(judged(step(form="compare", orders="one"), group_of("abc", "a", "ab"), context)) == 3
    assert len(judged(step(form="compare", pairs=1), group_of("abc", "a", "ab"), context)) == 2


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ((0.25, 0.75), "ok"),
        ((0.2502, 0.7506), "ok"),
        ((0.3, 0.75), "unparsed"),
        ((2.0, -1.0), "unparsed"),
        ((float("nan"), 0.5), "unparsed"),
        ((1.7,), "unparsed"),
        ((), "unparsed"),
        ((0.2, 0.3, 0.5), "unparsed"),
    ],
)
def test_two_probabilities_sum_to_1(values: tuple[float, ...], status: str) -> None:
    for row in judged(step(form="compare"), group_of("a", "b"), replying(Reply(values=values))):
        assert row["status"] == status
        assert row["scores"] is None or (sum(row["scores"]) == 1.0 and row["scores"][0] == pytest.approx(0.25))


def test_a_pair_with_a_missing_text_is_abstained_from() -> None:
    rows = judged(step(form="compare"), group_of("a", None), replying(Reply(values=(0.5, 0.5))))
    assert [row["status"] for row in rows] == ["abstain", "abstain"]


@given(st.text(), st.text())
def test_the_scripted_models_keep_the_law(one: str, other: str) -> None:
    if one != other:
        context = Measured({"rm": ("scripted", ScriptedEngine().answer)})
        rows = judged(step(form="compare"), group_of(one, other), context)
        assert all(row["status"] == "ok" and sum(row["scores"]) == 1.0 for row in rows)
        assert rows[0]["scores"] == pytest.approx(rows[1]["scores"][::-1])
        numbers = scores_of(step(), group_of(one, other), context)
        assert all(number is not None and -2 <= number <= 2 for number in numbers.values())
