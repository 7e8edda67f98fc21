"""What stands in the body of an answer, and in what `calls.raw` keeps of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.engines.base import Reply, RequestError
from prefdata.engines.openai_answers import read_body, read_completion, tokens_of, top_logprobs
from prefdata.engines.openai_errors import from_status

USAGE = {"prompt_tokens": 11, "completion_tokens": 5}


def body(finish: str | None = "stop", *, usage: Any = USAGE, **message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize(
    ("given_", "text", "finish", "kept"),
    [
        (body(content="yes"), "yes", "stop", False),
        (body("length", content="ye"), "ye", "length", False),
        (body("eos", content="yes"), "yes", "stop", False),
        (body(None, content=None), "", "stop", False),
        (body(content="yes", reasoning_content="since"), "yes", "stop", True),
        (body(content="yes", reasoning="since"), "yes", "stop", True),
        (body("tool_calls", content=None, tool_calls=[{"id": "1"}]), None, "tool", True),
        (body("content_filter", content=None), None, "refusal", True),
        (body(content=None, refusal="I cannot"), None, "refusal", True),
        (body(content=[{"type": "text", "text": "y"}, {"text": "es"}]), "yes", "stop", False),
    ],
)
def test_an_answer_is_read_alike_from_the_wire_and_from_what_was_kept(
    given_: bytes, text: str | None, finish: str, kept: bool
) -> None:
    reply = read_completion(given_)
    assert (reply.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == (text, finish, 11, 5)
    assert (reply.raw == given_.decode()) is kept and bool(reply.raw) is kept
    if kept:
        assert read_body(reply.raw) == reply
    else:
        assert read_body(reply.text or "").text == reply.text


@given(st.text())
def test_a_text_that_was_kept_alone_is_the_text(text: str) -> None:
    assert read_body(text) == Reply(text=text)


@pytest.mark.parametrize(
    "text",
    ['{"verdict": "A"}', '{"error": "none"}', '{"choices": ["A", "B"]}', "null", "[1]", '{"choices": [{"a": 1}]}'],
)
def test_a_judge_that_answers_in_json_is_not_taken_for_a_server(text: str) -> None:
    assert read_body(text).text == text


def test_what_was_cut_off_when_it_was_kept_is_not_taken_for_a_text() -> None:
    whole = body(content="yes", reasoning_content="since " * 100).decode()
    for end in (len(whole) // 2, len(whole) - 1):
        with pytest.raises(RequestError, match="only the beginning"):
            read_body(whole[:end])


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (body("error", content="ye"), "broke off the answer"),
        (json.dumps({"choices": [], "usage": USAGE}).encode(), "no choices"),
        (json.dumps({"choices": [{"text": "x"}], "usage": USAGE}).encode(), "no message"),
        (json.dumps({"choices": [{"message": "x"}], "usage": USAGE}).encode(), "no message"),
        (json.dumps({"error": {"message": "no room"}, "usage": USAGE}).encode(), "200 with an error in it: no room"),
    ],
)
def test_an_answer_without_an_answer_is_paid_all_the_same(given_: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        read_completion(given_)
    error = caught.value
    assert (error.prompt_tokens, error.completion_tokens, error.retriable) == (11, 5, True)
    assert error.raw == given_.decode()


def test_an_error_status_may_say_what_it_cost() -> None:
    said = json.dumps({"error": {"message": "later"}, "usage": USAGE}).encode()
    error = from_status(503, said, {"Retry-After": "2"}, "m at u", str)
    assert isinstance(error, RequestError)
    assert (error.prompt_tokens, error.completion_tokens, error.retry_after, error.code) == (11, 5, 2.0, 503)


@pytest.mark.parametrize(
    "nonsense", [None, "12", -3, True, [], {}, float("nan"), float("inf"), 10**400, 10**18, 2**31, 1e300]
)
def test_nonsense_in_usage_stops_nothing(nonsense: Any) -> None:
    read, written = tokens_of({"usage": {"prompt_tokens": nonsense, "completion_tokens": 5}})
    assert 0 <= read < 2**31 and written == 5
    assert tokens_of({"usage": nonsense}) == (0, 0)
    assert read_completion(body(content="yes", usage=nonsense)).text == "yes"


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_an_error(given_: bytes) -> None:
    try:
        read_completion(given_)
    except RequestError as error:
        assert error.raw == given_.decode("utf-8", "replace")


@given(st.data())
def test_a_spliced_body_is_an_answer_or_an_error_that_can_be_stored(data: st.DataObject) -> None:
    whole = body(content="yes \ud83d", reasoning="x")
    place = data.draw(st.integers(0, len(whole)))
    spliced = whole[:place] + data.draw(st.binary(max_size=8)) + whole[data.draw(st.integers(place, len(whole))) :]
    try:
        reply = read_completion(spliced)
    except RequestError as error:
        error.raw.encode("utf-8")
    else:
        reply.to_json().encode("utf-8")
        assert Reply.from_json(reply.to_json()) == reply


def test_log_probabilities_are_probabilities() -> None:
    def choice(*values: Any) -> dict[str, Any]:
        return {"logprobs": {"content": [{"top_logprobs": [{"token": "A", "logprob": value} for value in values]}]}}

    assert top_logprobs(choice(-0.5, 0.25, float("-inf"), 1e308)) == [
        ("A", -0.5), ("A", 0.0), ("A", float("-inf")), ("A", 0.0)
    ]  # fmt: skip
    for wrong in (
        choice(float("nan")),
        choice("x"),
        choice(None),
        {},
        {"logprobs": None},
        {"logprobs": {"content": []}},
    ):
        assert top_logprobs(wrong) == []
