"""judge.critique: the text as a whole, and a score only where it can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from annotators_said import run

from prefdata.annotators import Critique
from prefdata.annotators.frame import REMINDER
from prefdata.engines.base import Reply, Request

Make = Callable[..., Any]
CRITIQUE = 'The first point stands.\n\nThe second does not: {"verdict": "A"} is no argument.\n- mend it'


def always(text: str | None, finish: str = "stop") -> Callable[[Request, int], Reply]:
    return lambda request, revision: Reply(text, finish)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (CRITIQUE, CRITIQUE),
        (f"\n\n{CRITIQUE}\n", CRITIQUE),
        (f"<think>Hm, what is wrong?</think>\n{CRITIQUE}", CRITIQUE),
        ('{"critique": "in JSON"}', '{"critique": "in JSON"}'),
        ("", None),
        ("   \n", None),
        (None, None),
        ("<think>I never got to the critique", None),
    ],
)
def test_the_critique_is_the_whole_answer(bench: Make, text: str | None, kept: str | None) -> None:
    b = bench(always(text), "one")
    (row,) = run(Critique(engine="judge"), b)["annotations"]
    assert row["protocol"] == "critique" and row["scores"] is None
    assert (row["status"], row["text"]) == (("ok", kept) if kept else ("unparsed", None))
    assert b.context.asked[0][1].schema is None and b.context.asked[0][1].max_tokens == 1024


def test_one_that_was_cut_off_is_kept_as_far_as_it_goes(bench: Make) -> None:
    (row,) = run(Critique(engine="judge"), bench(always("It is right, but", "length"), "one"))["annotations"]
    assert row["status"] == "ok" and row["text"] == "It is right, but"


def scored(bench: Make, text: str, **fields: Any) -> tuple[dict[str, Any], Any]:
    b = bench(always(text), "one")
    rows = run(Critique(engine="judge", card="ultrafeedback-critique", score=True, **fields), b)["annotations"]
    assert [row["protocol"] for row in rows] == ["critique", "score"] and len({row["call_id"] for row in rows}) == 1
    return {row["protocol"]: row for row in rows}, b


@pytest.mark.parametrize(
    ("score", "value"),
    [("10", 10.0), ("1", 1.0), ('"10"', 10.0), ('"10/10"', 10.0), ('"1/10"', 1.0), ("100", None), ('"8-9"', None)],
)
def test_a_10_is_a_10_and_never_a_1(bench: Make, score: str, value: float | None) -> None:
    """Entry 1, Pitfalls: a 10 that was read as 1 in 2,628 rows of a well-known dataset."""
    found, b = scored(bench, f'{{"critique": {json.dumps(CRITIQUE)}, "scores": {{"overall": {score}}}}}')
    assert found["critique"]["text"] == CRITIQUE and found["critique"]["scores"] is None
    assert found["score"]["scores"] == (None if value is None else [value])
    assert found["score"]["status"] == ("unparsed" if value is None else "ok") and found["score"]["text"] is None
    assert list(b.context.asked[0][1].schema["properties"]) == ["critique", "scores"]


def test_a_score_without_a_critique_and_prose(bench: Make) -> None:
    found, _ = scored(bench, '{"scores": {"overall": 4}}')
    assert found["critique"]["status"] == "unparsed" and found["score"]["scores"] == [4.0]
    found, b = scored(bench, "Good. Overall score: 4/10", reask=1)
    assert {row["status"] for row in found.values()} == {"unparsed"}
    assert REMINDER in b.texts[1]


def test_an_empty_critique_is_asked_for_again_in_its_own_words(bench: Make) -> None:
    b = bench(lambda request, revision: Reply("" if revision == 1 else "fine"), "one")
    (row,) = run(Critique(engine="judge", reask=1), b)["annotations"]
    assert row["text"] == "fine" and row["revision"] == 2 and "JSON object" not in b.texts[1]


def test_what_it_takes(bench: Make) -> None:
    with pytest.raises(ValueError, match="has none; add to an aspect"):
        Critique(engine="judge", score=True)
    with pytest.raises(ValueError, match="not for critique"):
        Critique(engine="judge", card="helpfulness")

    def ids(step: Critique) -> set[str]:
        return {row["annotation_id"] for row in run(step, bench(always("fine"), "one"))["annotations"]}

    plain = ids(Critique(engine="judge", card="ultrafeedback-critique"))
    assert not plain & ids(Critique(engine="judge", card="ultrafeedback-critique", score=True)), "another question"
