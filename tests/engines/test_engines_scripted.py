"""The scripted engine: a pure function of the request, and as useful as a fake can be."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.engines.base import Request, RequestError
from prefdata.engines.json_schema import fill
from prefdata.engines.scripted import ScriptedConfig, ScriptedEngine
from prefdata.engines.scripted_text import quality, sections

PAIR = "Which is better?\n\nResponse A:\nShort.\n\nResponse B:\nA much longer answer that says more about it.\n"
VERDICT = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "maxLength": 30},
        "verdict": {"type": "string", "enum": ["A", "B", "tie"]},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["verdict"],
    "additionalProperties": False,
}


def ask(capability: str = "generate", text: str = "Why is the sky blue?", engine: Any = None, **fields: Any) -> Any:
    request = Request(capability, ({"role": "user", "content": text},), **fields)  # type: ignore[arg-type]
    return asyncio.run((engine or ScriptedEngine()).ask(request))


def scripted(**fields: Any) -> ScriptedEngine:
    return ScriptedEngine("s", ScriptedConfig(**fields))


def test_answers_depend_on_the_request_alone() -> None:
    first = [ask(seed=seed, temperature=1.0) for seed in range(20)]
    assert first == [ask(seed=seed, temperature=1.0) for seed in range(20)]
    assert len({reply.text for reply in first}) > 15
    assert len({ask(seed=seed).text for seed in range(5)}) == 1, "greedy decoding has no seed"
    assert ask(engine=scripted(model="other")).text != ask().text


def test_texts_differ_in_length_and_quality_and_speak_of_the_prompt() -> None:
    texts = [ask(seed=seed, temperature=1.0).text for seed in range(40)]
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) < 8 and max(lengths) > 40
    assert sum("sky" in text.lower() or "blue" in text.lower() for text in texts) == 40
    assert min(map(quality, texts)) < 0.6 < max(map(quality, texts))


def test_truncation_stops_and_prefixes() -> None:
    full = ask(text="Tell me about boats and harbours", seed=3, temperature=1.0)
    cut = ask(text="Tell me about boats and harbours", seed=3, temperature=1.0, max_tokens=2)
    assert (full.finish_reason, cut.finish_reason, cut.completion_tokens) == ("stop", "length", 2)
    assert "." not in ask(stop=(".",)).text and ask(stop=(".",)).finish_reason == "stop"
    assert ask(engine=scripted(replies={"sky": "Yes: blue."}), prefix="Yes:").text == " blue."


def test_a_schema_is_satisfied_and_the_longer_response_wins() -> None:
    answer = json.loads(ask(text=PAIR, schema=VERDICT).text)
    assert answer["verdict"] == "B" and 1 <= answer["score"] <= 5 and len(answer["reason"]) <= 30
    swapped = PAIR.replace("A:\nShort.", "A:\nA much longer answer that says more about it than the other one does.")
    assert json.loads(ask(text=swapped, schema=VERDICT).text)["verdict"] == "A"
    assert json.loads(ask(text=PAIR, schema=VERDICT, engine=scripted(position_bias=1.0)).text)["verdict"] == "A"


def test_a_score_is_about_the_response_and_not_about_the_question() -> None:
    def score(response: str) -> float:
        text = f"Score one response. {'Be strict. ' * 40}\n\nResponse:\n[1f]\n{response}\n[1f]\n\nAnswer as JSON."
        return float(json.loads(ask(text=text, schema=VERDICT).text)["score"])

    good = "Light of short wavelengths is scattered far more than the rest, and so it reaches us from all sides. " * 3
    assert score("no") < score(good)


def test_label_probabilities_sum_to_one_and_lean_to_the_longer() -> None:
    reply = ask("label_probs", PAIR, labels=("A", "B"))
    assert sum(reply.values) == pytest.approx(1) and reply.values[1] > 0.5 and 0.5 < reply.mass <= 1
    biased = ask("label_probs", PAIR, labels=("A", "B"), engine=scripted(position_bias=0.9))
    assert biased.values[0] > 0.9
    assert sum(ask("label_probs", "no responses here", labels=("1", "2", "3")).values) == pytest.approx(1)


def test_likelihoods_favour_words_of_the_prompt() -> None:
    on_topic = ask("logprobs", continuation="The sky is blue")
    alone = asyncio.run(ScriptedEngine().ask(Request("logprobs", continuation="The sky is blue")))
    assert len(on_topic.values) == len(alone.values) == 4
    assert all(value < 0 for value in on_topic.values)
    assert sum(on_topic.values) > sum(alone.values)


def test_embeddings_are_unit_vectors_and_rewards_one_number() -> None:
    assert math.hypot(*ask("embed").values) == pytest.approx(1)
    assert math.hypot(*ask("embed", "").values) == pytest.approx(1)
    assert len(ask("reward").values) == 1


def test_faults_strike_by_hash_and_a_tag_may_escape_them() -> None:
    engine = scripted(fail_every=4, refuse_every=4)
    outcomes: Counter[str] = Counter()
    for seed in range(400):
        try:
            outcomes[ask(seed=seed, temperature=1.0, engine=engine).finish_reason] += 1
        except RequestError:
            outcomes["failed"] += 1
    assert 60 < outcomes["failed"] < 140 and 40 < outcomes["refusal"] < 110
    always = scripted(fail_every=1)
    with pytest.raises(RequestError, match="fail_every"):
        ask(engine=always)
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(ask(text=PAIR, schema=VERDICT, engine=scripted(prose_every=1)).text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[A]\nx\n[B]\ny", {"A": "x", "B": "y"}),
        ("### Response A\nx\n\n### Response B\ny z", {"A": "x", "B": "y z"}),
        ("Answer A: x\nAnswer B: y", {"A": "x", "B": "y"}),
        ("<response_a>x</response_a>\n<response_b>y</response_b>", {"A": "x", "B": "y"}),
        ("Response A:\n[1f]\nx\n[1f]\n\nResponse B:\n[1f]\ny\n[1f]\n\nWhich is better?", {"A": "x", "B": "y"}),
        ("A better answer\nB", {}),
        ("nothing", {}),
    ],
)
def test_sections_are_found_under_the_usual_headings(text: str, found: dict[str, str]) -> None:
    assert sections(text, ("A", "B")) == found


@given(st.integers(-50, 50), st.integers(0, 60), st.booleans(), st.integers(0, 10**9))
def test_numbers_stay_within_their_bounds(low: int, width: int, whole: bool, draw: int) -> None:
    schema = {"type": "integer" if whole else "number", "minimum": low, "maximum": low + width}
    value = fill(schema, lambda name, values: values[draw % len(values)], str)
    assert low <= value <= low + width
    strict = {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": low + width + 1}
    assert low < fill(strict, lambda name, values: values[draw % len(values)], str) < low + width + 1


def test_schemas_with_references_branches_and_arrays() -> None:
    schema = {
        "$defs": {"rating": {"type": "integer", "minimum": 3, "maximum": 3}},
        "type": "object",
        "properties": {
            "ratings": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/rating"}},
            "note": {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 9}]},
            "fixed": {"const": 7},
            "maybe": {"type": ["null", "boolean"]},
        },
    }
    value = fill(schema, lambda name, values: values[0], lambda name: "abc")
    assert value == {"ratings": [3, 3], "note": "abc......", "fixed": 7, "maybe": False}
