"""Reads the event stream of an OpenAI-compatible server: chunks of a chat completion, of which one reply is made."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from prefdata.engines.base import Reply, RequestError
from prefdata.engines.endpoints import Endpoint, Endpoints, Outcome
from prefdata.engines.errors import UnreachableError
from prefdata.engines.keys import hidden_in_answers, redact_answer
from prefdata.engines.openai_answers import message_of, parse_json, read_completion, text_of, unreadable
from prefdata.engines.openai_errors import AWAY, from_status
from prefdata.engines.streaming import Events
from prefdata.engines.transport import ConnectTimeoutError, DirectTransport, HttpAnswer
from prefdata.errors import EngineError

_REASONING = ("reasoning_content", "reasoning")


@dataclass(frozen=True)
class Hides:
    """What no text and no message may hold.

    Attributes:
        key: the server's, None where it needs none.
        redacted: removes secrets from what a message quotes.
    """

    key: str | None = field(repr=False)
    redacted: Callable[[str], str] = field(repr=False)


async def ask_stream(
    endpoints: Endpoints, transport: DirectTransport, model: str, sent: Mapping[str, Any], hides: Hides
) -> AsyncGenerator[str | Reply]:
    """The stream of the address that is next, or of another one where nobody is there; see `read_stream`."""
    tried: list[Endpoint] = []
    failure: RequestError | None = None
    while (visit := endpoints.begin(tried)) is not None:
        tried.append(visit.endpoint)
        outcome: Outcome = "unknown"
        wait: float | None = None
        place = f"{model} at {visit.endpoint.url}"
        try:
            parts = transport.stream(visit.endpoint.url, "/chat/completions", sent, place)
            async with aclosing(parts), aclosing(read_stream(parts, place, hides)) as found:
                async for piece in found:
                    yield piece
            outcome = "worked"
            return
        except RequestError as error:
            nobody = isinstance(error, UnreachableError | ConnectTimeoutError)
            outcome = "away" if nobody or error.code in AWAY else "failed" if error.code in (None, 500) else "worked"
            wait = error.retry_after if outcome == "away" else None
            error.raw = hides.redacted(error.raw)
            # A server that says it is busy is not gone, even where the others are.
            problem: RequestError | EngineError = failure if nobody and failure is not None else error
        except EngineError as error:
            outcome, problem = "worked", error
        finally:
            endpoints.end(visit, outcome, wait)
        # Outside of the handler, and without its traceback: that holds what came, in which a server may repeat the key.
        problem = problem.with_traceback(None)
        if outcome != "away" or not isinstance(problem, RequestError):
            raise problem
        failure = problem
    assert failure is not None
    raise failure


async def read_stream(
    parts: AsyncIterator[HttpAnswer | bytes], place: str, hides: Hides
) -> AsyncGenerator[str | Reply]:
    """The text in an answer as it comes, then the reply, which is the one that a whole answer would have given.

    Args:
        parts: status and headers, then bytes (see `DirectTransport.stream`).
        place: model and address, for messages.
        hides: the key.

    Raises:
        RequestError: the server refused, sent what cannot be read, or broke off.
        EngineError: it refuses every request (a rejected key, no such model).
    """
    head = await anext(parts)
    assert isinstance(head, HttpAnswer)
    good = 200 <= head.status < 300
    # The key is never a local variable, which a log of an error may show.
    redacted = hides.redacted
    events, written, shown = Events(place), Written(), _Shown(hides)
    start = bytearray()  # a server that knows no streams answers in one body
    begun = whole = not good
    async for part in parts:
        assert isinstance(part, bytes)
        if not begun and part.strip():
            begun, whole = True, part.lstrip().startswith(b"{")
        if whole:
            start += part
            continue
        for data in events.feed(part):
            for text in shown.more(written.take(data, place, redacted)):
                yield text
        if written.done:
            break  # what comes after the end is no part of the answer
    if not good:
        raise from_status(head.status, bytes(start), head.headers, place, redacted)
    if whole:
        reply = _redacted(read_completion(bytes(start)), hides)
        if reply.text:
            yield reply.text
        yield reply
        return
    if not written.done:
        for data in events.end():
            for text in shown.more(written.take(data, place, redacted)):
                yield text
    for text in shown.rest():
        yield text
    yield _redacted(read_completion(written.body()), hides)


@dataclass
class Written:
    """A completion while it is written.

    Attributes:
        done: the server said that this is all.
    """

    done: bool = False
    _texts: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _refusal: list[str] = field(default_factory=list)
    _tools: list[Any] = field(default_factory=list)
    _finish: str | None = None
    _usage: Mapping[str, Any] = field(default_factory=dict)

    def take(self, data: bytes, place: str, redacted: Callable[[str], str]) -> str:
        """Read the data of an event; returns the text that it adds.

        Raises:
            RequestError: it is no chunk, or says that something went wrong.
        """
        if self.done or not data.strip():
            return ""
        if data.strip() == b"[DONE]":
            self.done = True
            return ""
        chunk = parse_json(data)
        if not isinstance(chunk, dict):
            raise self._broken(f"{place} streams what is not JSON", redacted(text_of(data[:2_000])))
        if chunk.get("error"):
            said = redacted(message_of(chunk))
            raise self._broken(f"{place} broke off the answer with an error: {said}", redacted(text_of(data)))
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        if choice.get("finish_reason"):
            self._finish = str(choice["finish_reason"])
        delta = choice.get("delta")
        return self._add(delta) if isinstance(delta, dict) else ""

    def _add(self, delta: Mapping[str, Any]) -> str:
        self._reasoning += [delta[name] for name in _REASONING if isinstance(delta.get(name), str)][:1]
        if isinstance(delta.get("refusal"), str):
            self._refusal.append(delta["refusal"])
        if isinstance(delta.get("tool_calls"), list):
            self._tools += delta["tool_calls"]
        text = delta.get("content")
        if not isinstance(text, str):
            return ""
        self._texts.append(text)
        return text

    def body(self) -> bytes:
        """What the server would have answered without streaming.

        Raises:
            RequestError: the stream ended before the answer did.
        """
        if not self.done and self._finish is None:
            raise self._broken("the connection broke: the server's stream ends in the middle", "".join(self._texts))
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._texts)}
        parts = {"reasoning_content": "".join(self._reasoning), "refusal": "".join(self._refusal)}
        message |= {name: text for name, text in parts.items() if text}
        if self._tools:
            message["tool_calls"] = self._tools
        answer = {"choices": [{"message": message, "finish_reason": self._finish}], "usage": dict(self._usage)}
        return json.dumps(answer).encode()

    def _broken(self, message: str, raw: str) -> RequestError:
        return unreadable(message, {"usage": dict(self._usage)}, raw)


class _Shown:
    """What may be shown of a text that grows: whatever may be the beginning of the key waits for what follows."""

    def __init__(self, hides: Hides) -> None:
        self._forms = hidden_in_answers(hides.key)
        self._hides, self._held = hides, ""

    def more(self, text: str) -> Iterator[str]:
        if not text:
            return
        held = redact_answer(self._held + text, self._hides.key)
        keep = max((_overlap(held, form) for form in self._forms), default=0)
        self._held = held[len(held) - keep :]
        if len(held) > keep:
            yield held[: len(held) - keep]

    def rest(self) -> Iterator[str]:
        if self._held:
            yield self._held
        self._held = ""


def _overlap(text: str, key: str) -> int:
    """How many of the last characters of a text begin the key."""
    return next((n for n in range(min(len(text), len(key) - 1), 0, -1) if text.endswith(key[:n])), 0)


def _redacted(reply: Reply, hides: Hides) -> Reply:
    text = None if reply.text is None else redact_answer(reply.text, hides.key)
    return replace(reply, text=text, raw=redact_answer(reply.raw, hides.key))
