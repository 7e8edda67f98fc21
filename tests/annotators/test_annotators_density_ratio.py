"""The laws of a density ratio, and hand-computed numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from annotators_measured import Measured, by_letters, group_of, judged, scores_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefdata.annotators import DensityRatio
from prefdata.annotators.density_ratio import Exemplar, with_principle
from prefdata.engines.base import Reply, Request
from prefdata.errors import PipelineError
from prefdata.schema import message

TEXTS = st.lists(st.text("ab ", min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=4, unique=True)
RATES = st.floats(-3, -0.1)
PER = st.sampled_from(["sum", "token", "byte"])


def two(strong: float = -1.0, weak: float = -2.0) -> Measured:
    return Measured({"strong": ("after", by_letters(strong)), "weak": ("before", by_letters(weak))})


def ratio(**fields: Any) -> DensityRatio:
    return DensityRatio(**{"strong": "strong", "weak": "weak", **fields})


@pytest.mark.parametrize(
    ("fields", "score", "name"),
    [
        ({}, -7.0 - -14.0, "likelihood:after-over-before/density-ratio"),
        ({"per": "token"}, (-7.0 - -14.0) / 2, "likelihood:after-over-before/density-ratio/per-token"),
        ({"per": "byte"}, (-7.0 - -14.0) / 9, "likelihood:after-over-before/density-ratio/per-byte"),
        ({"beta": 0.1}, 0.1 * 7.0, "likelihood:after-over-before/density-ratio/beta-0.1"),
    ],
)
def test_by_hand(fields: dict[str, Any], score: float, name: str) -> None:
    (row,) = judged(ratio(**fields), group_of("für euch"), two())  # 7 letters, 2 words, 9 bytes
    assert row["scores"] == [pytest.approx(score)] and row["annotator"] == name and row["source"] == "likelihood"
    assert json.loads(row["meta"])["tokens"] == 2


@given(TEXTS, RATES, RATES, PER, st.floats(0.01, 10))
def test_swapping_the_models_negates(texts: list[str], one: float, other: float, per: Any, beta: float) -> None:
    group = group_of(*texts)
    there = scores_of(ratio(per=per, beta=beta), group, two(one, other))
    back = scores_of(ratio(strong="weak", weak="strong", per=per, beta=beta), group, two(one, other))
    assert all(there[text] == -back[text] for text in texts)  # type: ignore[operator]


@given(TEXTS, RATES, PER)
def test_a_model_over_itself_is_worth_nothing(texts: list[str], rate: float, per: Any) -> None:
    same = Measured({"strong": ("m", by_letters(rate)), "weak": ("m", by_letters(rate))})
    assert set(scores_of(ratio(per=per), group_of(*texts), same).values()) == {0.0}


@given(TEXTS, TEXTS)
def test_other_candidates_change_nothing(texts: list[str], more: list[str]) -> None:
    alone = scores_of(ratio(), group_of(texts[0]), two())
    among = scores_of(ratio(), group_of(*dict.fromkeys([*texts, *more])), two())
    assert among[texts[0]] == alone[texts[0]]


def test_two_requests_a_response() -> None:
    context = two()
    judged(ratio(), group_of("one", "two", "three"), context)
    assert sorted(name for name, _, _ in context.asked) == ["strong"] * 3 + ["weak"] * 3
    assert all(request.role is None and request.messages[-1]["role"] == "user" for _, request, _ in context.asked)


@pytest.mark.parametrize("text", ["", None])
def test_nothing_said_is_abstained_from(text: str | None) -> None:
    context = two()
    (row,) = judged(ratio(), group_of(text), context)
    assert row["status"] == "abstain" and row["scores"] is None and not context.asked


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("timeout", "timeout"),
        ("refused", "refused"),
        (Reply(values=()), "unparsed"),
        (Reply(values=(float("nan"), -1.0)), "unparsed"),
        (Reply(values=(float("-inf"), -1.0)), "unparsed"),
    ],
)
def test_half_an_answer_is_no_score(reply: Reply | str, status: str) -> None:
    context = Measured({"strong": ("after", by_letters(-1)), "weak": ("before", lambda request: reply)})
    (row,) = judged(ratio(), group_of("two words"), context)
    assert row["status"] == status and row["scores"] is None


def test_a_failed_half_is_asked_again() -> None:
    replies: list[Reply | str] = ["timeout", Reply(values=(-2.0,))]
    context = Measured({"strong": ("after", by_letters(-1)), "weak": ("before", lambda request: replies.pop(0))})
    group = group_of("word")
    assert judged(ratio(), group, context)[0]["status"] == "timeout"
    (row,) = judged(ratio(), group, context)
    assert row["scores"] == [-2.0] and row["revision"] == 2


def test_other_tokenizers_want_bytes() -> None:
    context = Measured({"strong": ("S", by_letters(-1)), "weak": ("G", lambda request: Reply(values=(-1.0,) * 5))})
    for per in ("sum", "token"):
        with pytest.raises(PipelineError, match=r"as 2 and 5 tokens: their tokenizers differ.* set per: byte"):
            judged(ratio(per=per), group_of("two words"), context)
    assert scores_of(ratio(per="byte"), group_of("two words"), context) == {"two words": pytest.approx(-3 / 9)}


def test_one_token_more_may_come_of_the_templates() -> None:
    context = Measured({"strong": ("S", by_letters(-1)), "weak": ("G", lambda request: Reply(values=(-1.0,) * 3))})
    assert scores_of(ratio(), group_of("two words"), context) == {"two words": -8.0 - -3.0}


@pytest.mark.parametrize("who", ["both", "strong"])
def test_a_principle_and_exemplars_stand_before_the_conversation(who: Any) -> None:
    shown = [Exemplar(prompt="2 + 2?", response="4")]
    step = ratio(principle="Be brief.", exemplars=shown, principle_for=who)
    context = two()
    (row,) = judged(step, group_of("Because."), context)
    told = {name: [(turn["role"], turn["content"]) for turn in request.messages] for name, request, _ in context.asked}
    asked = ("user", "Why is the sky blue?")
    assert told["strong"] == [("system", "Be brief."), ("user", "2 + 2?"), ("assistant", "4"), asked]
    assert told["weak"] == (told["strong"] if who == "both" else [asked])
    plain = judged(ratio(), group_of("Because."), two())[0]
    assert row["annotation_id"] != plain["annotation_id"] and row["annotator"].startswith(plain["annotator"] + "@")


def test_a_principle_joins_a_system_turn() -> None:
    messages = [message("system", "You are a poet."), message("user", "Hello")]
    assert with_principle(messages, "", ()) == tuple(messages)
    assert with_principle(messages, "Rhyme.", ())[0] == message("system", "You are a poet.\n\nRhyme.")


def test_the_first_tag_that_has_a_principle_decides() -> None:
    step = ratio(principle="Help.", domains={"code": "Let it run.", "safety": "Do no harm."})
    for tags, text in ((["poem", "code", "safety"], "Let it run."), ([], "Help."), (None, "Help.")):
        context = two()
        judged(step, group_of("x", tags=tags), context)
        assert context.asked[0][1].messages[0]["content"] == text


@pytest.mark.parametrize("fields", [{"beta": 0}, {"per": "word"}, {"principle_for": "weak"}, {"weak": None}])
def test_fields_that_make_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ratio(**fields)


def test_the_models_of_other_beta_or_scale_are_other_annotators() -> None:
    steps = [ratio(), ratio(beta=0.1), ratio(per="byte"), ratio(principle="Be brief.")]
    rows = [judged(step, group_of("word"), two())[0] for step in steps]
    assert len({row["annotator"] for row in rows}) == len({row["annotation_id"] for row in rows}) == len(steps)


def test_every_request_is_a_plain_likelihood() -> None:
    context = two()
    judged(ratio(), group_of("word"), context)
    asked = Request("logprobs", messages=(message("user", "Why is the sky blue?"),), continuation="word")
    assert [request for _, request, _ in context.asked] == [asked, asked]
