"""The cosine, R^3's regularised relevance by hand, and its laws."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from annotators_measured import Measured, group_of, judged, scores_of
from hypothesis import given
from hypothesis import strategies as st

from prefdata.annotators import Embedding
from prefdata.annotators.embedding import constrained, length_incentive, repetition_penalty, tokens
from prefdata.engines.base import Reply, Request
from prefdata.engines.scripted import ScriptedEngine

ASKED = "Why is the sky blue?"
WORDS = ["sky", "air", "light", "waves", "short", "long", "why"]
PROSE = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)


def turned(**angles: float) -> Measured:
    """An embedder that turns a text, by its first word, by so many degrees; what was asked is at 0."""

    def answer(request: Request) -> Reply:
        (text,) = request.texts
        angle = math.radians(angles.get(text.split()[0], 0.0))
        return Reply(values=(math.cos(angle), math.sin(angle)))

    return Measured({"embedder": ("minilm", answer)})


def scripted() -> Measured:
    return Measured({"embedder": ("scripted", ScriptedEngine().answer)})


def step(**fields: Any) -> Embedding:
    return Embedding(**{"engine": "embedder", **fields})


def test_the_cosine_of_prompt_and_response() -> None:
    context = turned(near=60, far=120)
    found = scores_of(step(), group_of("near it", "far off", ""), context)
    assert found == {"near it": pytest.approx(0.5), "far off": pytest.approx(-0.5), "": None}
    assert {request.texts for _, request, _ in context.asked} == {("near it",), ("far off",), (ASKED,)}
    (row,) = judged(step(), group_of("near"), turned(near=60))
    assert row["annotator"] == "embedding:minilm/cosine" and row["source"] == "embedding"


def test_the_nearest_reference_counts() -> None:
    group = group_of("said", references=["one", "two", ""])
    (row,) = judged(step(of="references"), group, turned(said=0, one=90, two=60))
    assert row["scores"] == [pytest.approx(0.5)] and row["annotator"] == "embedding:minilm/cosine/references"
    (none,) = judged(step(of="references"), group_of("said"), turned())
    assert none["status"] == "abstain"
    (other,) = judged(step(of="references"), group_of("said", references=["one"]), turned(said=0, one=90))
    assert other["annotation_id"] != row["annotation_id"], "a prompt's id does not cover its references"
    (auto,) = judged(step(of="auto"), group_of("said"), turned(said=60))
    assert auto["scores"] == [pytest.approx(0.5)]


@pytest.mark.parametrize(
    ("reply", "status"),
    [("timeout", "timeout"), (Reply(), "unparsed"), (Reply(values=(float("nan"), 0.0)), "unparsed")],
)
def test_what_is_no_vector_is_no_score(reply: Reply | str, status: str) -> None:
    (row,) = judged(step(), group_of("said"), Measured({"embedder": ("m", lambda request: reply)}))
    assert row["status"] == status and row["scores"] is None


def test_vectors_of_different_lengths_are_no_score() -> None:
    context = Measured({"embedder": ("m", lambda request: Reply(values=(0.1,) * len(request.texts[0])))})
    assert judged(step(), group_of("said"), context)[0]["status"] == "unparsed"


def test_relevance_by_hand() -> None:
    # 7 tokens, 5 trigrams, 4 of them different; cosine 1/2.
    text = "near a b near a b c"
    (row,) = judged(step(form="r3"), group_of(text), turned(near=60))
    assert row["scores"] == [pytest.approx(7 / 100 * 0.5 * 4 / 5)]
    assert json.loads(row["meta"])["cosine"] == pytest.approx(0.5)
    (row,) = judged(step(form="r3", of="auto", longest=200), group_of(text, references=["x"]), turned(near=60))
    assert row["scores"] == [pytest.approx(0.5 * 2.0 * 4 / 5)]


def test_the_entrys_own_range_of_dot_products() -> None:
    assert constrained(3.5, "a b", full=3.5, longest=300) == 3.0
    assert constrained(1.75, "a b", full=3.5, longest=300) == 1.5
    assert (
        constrained(-1.0, "a b", full=3.5, longest=300) == 0.0 and constrained(9.0, "a", full=3.5, longest=300) == 3.0
    )


def test_an_empty_response_is_worth_nothing_and_asks_nothing() -> None:
    context = scripted()
    (row,) = judged(step(form="r3"), group_of(""), context)
    assert row["scores"] == [0.0] and not context.asked
    (row,) = judged(step(form="r3"), group_of(None), scripted())
    assert row["status"] == "abstain"


@given(PROSE)
def test_repetition_lies_in_0_to_1_and_falls_when_the_text_is_repeated(text: str) -> None:
    assert 0 < repetition_penalty(text) <= 1
    if len(text.split()) >= 3:
        assert repetition_penalty(f"{text} {text}") < repetition_penalty(text)
    assert repetition_penalty("") == repetition_penalty("one two") == 1.0


@given(PROSE, st.integers(1, 5))
def test_the_incentive_is_linear_in_tokens(text: str, times: int) -> None:
    assert length_incentive(" ".join([text] * times)) == pytest.approx(times * length_incentive(text))


@given(PROSE, st.floats(-1, 1))
def test_against_a_reference_length_earns_nothing(text: str, cosine: float) -> None:
    whole = constrained(cosine, text, full=1.0, longest=512)
    assert constrained(cosine, f"{text} {text}", full=1.0, longest=512) <= whole


@given(PROSE)
def test_off_the_topic_is_not_worse_for_being_longer(text: str) -> None:
    (row,) = judged(step(form="r3"), group_of(f"far {text}"), turned(far=120))
    assert row["scores"] == [0.0]


def test_another_turn_is_not_counted() -> None:
    assert tokens("Yes, it is.\nUser: And then?") == ["yes", ",", "it", "is", "."]
    assert tokens("\n\nHuman: hi") == [] and tokens("Question: why") == ["question", ":", "why"]


def test_scripted_embeddings_know_the_topic() -> None:
    found = scores_of(step(), group_of("The sky is blue.", "Bake the bread."), scripted())
    assert found["The sky is blue."] > found["Bake the bread."]  # type: ignore[operator]
