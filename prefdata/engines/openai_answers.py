"""What stands in the body of an OpenAI-compatible server's answer.

Bodies are read here and not through the openai package's models: it costs less, and a body that is not what it should
be is kept as it came.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from prefdata.engines.base import Reply, RequestError
from prefdata.schema import storable

_FINISH = {"length": "length", "max_tokens": "length", "tool_calls": "tool", "function_call": "tool"}
_MOST_TOKENS = 2**31 - 1
_BEGINNING_OF_A_BODY = re.compile(r'\s*\{.*?"choices"\s*:\s*\[\s*\{', re.DOTALL)


def parse_body(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        RequestError: it is no JSON, only a part of it, no object, or an error that came with status 200.
    """
    answer = parse_json(body)
    if not isinstance(answer, dict):
        raise unreadable("the server's answer is not JSON, or only a part of it", {}, text_of(body))
    if answer.get("error"):
        raise unreadable(f"the server answered 200 with an error in it: {message_of(answer)}", answer, text_of(body))
    return answer


def parse_json(body: bytes) -> Any:
    """What JSON says; None where it is none, and so is null. Text is valid Unicode in any case."""
    import orjson

    try:
        return orjson.loads(body)
    except ValueError:
        pass
    try:
        # The standard library takes what orjson refuses: NaN, bytes that are no UTF-8, halves of surrogate pairs.
        return json.loads(storable(json.dumps(json.loads(text_of(body)), ensure_ascii=False)))
    except (ValueError, RecursionError):
        return None


def text_of(body: bytes) -> str:
    """A body as text; bytes that are no UTF-8 become replacement characters."""
    return body.decode("utf-8", "replace")


def message_of(answer: Any) -> str:
    """The sentence in an error's body, in the forms that servers have; an empty text where it has none."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    said = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return one_line(str(said)) if said else ""


def one_line(text: str) -> str:
    """What a server says, for a message: one line of at most 300 characters that a terminal can show."""
    return " ".join("".join(one if one.isprintable() else " " for one in text[:2_000]).split())[:300]


def read_completion(body: bytes) -> Reply:
    """The reply in a chat completion's body.

    `raw` holds the body where the text is not all that came back: reasoning, a tool call, a refusal.

    Raises:
        RequestError: the body cannot be read, has no answer in it, or says that the answer was broken off.
    """
    return _reply(parse_body(body), body)


def without_beginning(reply: Reply, body: bytes, prefix: str) -> Reply:
    """The reply without the given beginning of the answer, which llama.cpp repeats and other servers do not.

    It is known by the timings that it alone adds, so that an answer which itself begins alike is left as it is.
    """
    answer = parse_json(body)
    repeats = isinstance(answer, dict) and isinstance(answer.get("timings"), dict)
    if not repeats or reply.text is None or not reply.text.startswith(prefix):
        return reply
    return replace(reply, text=reply.text[len(prefix) :])


def read_body(raw: str) -> Reply:
    """The reply in what `calls.raw` keeps of an answered chat completion.

    That is the whole body where the text was not all that came back, and else the text alone, which may itself be JSON.

    Raises:
        RequestError: the body says that the answer was broken off, or was itself cut off when it was kept.
    """
    body = raw.encode("utf-8", "replace")
    answer = parse_json(body)
    if isinstance(answer, dict) and _is_completion(answer):
        return _reply(answer, body)
    if answer is None and _BEGINNING_OF_A_BODY.match(raw):
        raise RequestError("only the beginning of the server's answer was kept", raw=raw)
    return Reply(text=raw)


def first_choice(answer: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """The first choice of a completion; raises RequestError where there is none."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise unreadable("the server's answer has no choices", answer, text_of(body))
    return choices[0]


def tokens_of(answer: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens read and written, as the body's `usage` has them; 0 where it does not say, or says nonsense."""
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))


def unreadable(message: str, answer: Mapping[str, Any], raw: str) -> RequestError:
    """An answer that came, and may have to be paid, without what was asked for."""
    read, written = tokens_of(answer)
    return RequestError(message, retriable=True, raw=raw, prompt_tokens=read, completion_tokens=written)


def label_shares(pairs: Sequence[tuple[str, float]], labels: Sequence[str]) -> list[float]:
    """Probability of each label: of tokens that are it, or the beginning of it and of no other label.

    Args:
        pairs: next tokens with the natural logarithm of their probability.
        labels: what is wanted.
    """
    shares = [0.0] * len(labels)
    wanted = [label.strip() for label in labels]
    for token, logprob in pairs:
        text = re.sub(r"^[\sĠ▁]+|\s+$", "", token)
        if not text:
            continue
        begun = [place for place, label in enumerate(wanted) if label == text] or [
            place for place, label in enumerate(wanted) if label.startswith(text)
        ]
        if len(begun) == 1:
            shares[begun[0]] += math.exp(logprob)
    return shares


def top_logprobs(choice: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The likeliest first tokens with their log-probabilities, each at most 0; empty where the choice has none."""
    try:
        top = choice["logprobs"]["content"][0]["top_logprobs"]
        pairs = [(str(entry["token"]), float(entry["logprob"])) for entry in top]
    except (KeyError, IndexError, TypeError, ValueError):
        return []
    return [] if any(math.isnan(logprob) for _, logprob in pairs) else [(token, min(0.0, lp)) for token, lp in pairs]


def _is_completion(answer: Mapping[str, Any]) -> bool:
    choices = answer.get("choices")
    return isinstance(choices, list) and bool(choices) and isinstance(choices[0], dict) and "message" in choices[0]


def _reply(answer: Mapping[str, Any], body: bytes) -> Reply:
    choice = first_choice(answer, body)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise unreadable("the server's answer has no message", answer, text_of(body))
    finish, text = _finished(choice, message)
    if finish == "error":
        raise unreadable("the server broke off the answer with an error", answer, text_of(body))
    read, written = tokens_of(answer)
    plain = finish in ("stop", "length") and not message.get("reasoning_content") and not message.get("reasoning")
    return Reply(
        text=text,
        finish_reason=finish,
        prompt_tokens=read,
        completion_tokens=written,
        raw="" if plain else text_of(body),
    )


def _finished(choice: Mapping[str, Any], message: Mapping[str, Any]) -> tuple[str, str | None]:
    """finish_reason in our terms, and the text."""
    said = choice.get("finish_reason")
    if message.get("refusal") or said == "content_filter":
        return "refusal", None
    if said == "error":
        return "error", None
    content = message.get("content")
    if isinstance(content, list):  # some servers answer in parts
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    finish = _FINISH.get(str(said), "stop")
    if finish == "tool" or message.get("tool_calls"):
        return "tool", str(content) if content else None
    return finish, str(content or "")


def _count(value: object) -> int:
    """A number of tokens; a server's nonsense must neither stop a run nor spend its budget."""
    if isinstance(value, float):
        value = int(value) if math.isfinite(value) else 0
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return min(max(0, value), _MOST_TOKENS)
