"""What every engine is: a model behind one method, `ask`, and the capabilities it has.

An engine answers one `Request` with one `Reply`. Caching, retries, rate limits, budgets and the record of each call are
the business of `prefdata.engines.client.Client`, which stands between steps and engines.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, runtime_checkable

from prefdata.schema import Row, clean

Capability = Literal["generate", "logprobs", "label_probs", "embed", "reward", "states"]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model. Every field may change the answer, so every field is part of the cache's key.

    Attributes:
        capability: what is asked.
        messages: the conversation, as `prefdata.render.render` makes it. Empty for the likelihood of a text under
            nothing but its beginning-of-sequence token (logprobs only).
        temperature: 0 is greedy.
        top_p: nucleus, in (0, 1].
        max_tokens: at most so many new tokens (generate).
        stop: texts that end the answer.
        seed: of the draw; derived from prompt, model and index, so that nothing else moves it.
        schema: a JSON schema that the answer must satisfy, where the engine supports it (generate).
        continuation: the text whose tokens are scored after the messages (logprobs, states).
        role: whose turn the continuation is (logprobs); None for the assistant's.
        texts: what is embedded (embed: one), or the responses to the messages that are rewarded (reward: one; two for
            a model of pairs).
        labels: the texts whose first-token probabilities are asked for (label_probs).
        prefix: how the assistant's turn begins (label_probs, generate).
        tag: tells a deliberate second asking of the same question from the first (a retry, a replicate).
    """

    capability: Capability
    messages: tuple[Row, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int | None = None
    schema: dict[str, Any] | None = None
    continuation: str = ""
    role: str | None = None
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    prefix: str = ""
    tag: str = ""

    def payload(self) -> dict[str, Any]:
        """Everything that can change the answer, as JSON holds it."""
        cleaned = clean({name: getattr(self, name) for name in _REQUEST_FIELDS})
        assert isinstance(cleaned, dict)
        return cleaned


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        text: the answer (generate); None where there is none.
        finish_reason: stop, length, tool, refusal (the server's content filter), or error.
        values: generate: log-probability of each generated token, where the engine gives them. logprobs: of each token
            of the continuation, natural logarithm. label_probs: of each label, renormalised to sum to 1. embed: the
            unit vector. reward: one number; of two texts, P(the first is better) and P(the second is), which sum to 1.
            states: how many tokens the continuation has; the sum, over these, of the last layer's states that predict
            them (the first is that of the last token before it); and the state at its last token: 1 + 2 D numbers.
        mass: label_probs: the probability of all labels together, in [0, 1]. Under one half the template or the
            tokenisation is wrong, and the verdict is `unparsed`.
        prompt_tokens: tokens read, as the engine counts them.
        completion_tokens: tokens written (0 for a scoring request).
        raw: what came back, as text, for `calls.raw`; empty where `text` holds it all.
        seconds: of the model's work on this request, where the engine knows it (a share of its batch); None: the
            client measures the wait.
    """

    text: str | None = None
    finish_reason: str = "stop"
    values: tuple[float, ...] = ()
    mass: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    raw: str = ""
    seconds: float | None = None

    def to_json(self) -> str:
        """For the request cache."""
        values = {name: getattr(self, name) for name in _REPLY_FIELDS}
        text = json.dumps(values, ensure_ascii=False)
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which a cut answer may end with
            return json.dumps(values)
        return text

    @classmethod
    def from_json(cls, text: str) -> Reply:
        """The inverse of `to_json`."""
        values = json.loads(text)
        return cls(**{**values, "values": tuple(values["values"])})


_REQUEST_FIELDS = tuple(one.name for one in fields(Request))
_REPLY_FIELDS = tuple(one.name for one in fields(Reply))


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def money(self, prompt_tokens: int, completion_tokens: int) -> float:
        """USD."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


@runtime_checkable
class Engine(Protocol):
    """A model that answers requests.

    One that can tell a text while it is written has `stream(request)` too (see `prefdata.engines.streaming`).

    Attributes:
        name: as the pipeline calls it (for messages and the calls table).
        model: the model's name, for `responses.model` and annotators' names.
        identity: what the request cache and the ids go by: whatever can change an answer, and never a key or secret.
        capabilities: what it can be asked.
        max_concurrency: how many requests are worth having in flight.
        price: None where unknown or free.
    """

    name: str
    model: str
    identity: str
    capabilities: frozenset[Capability]
    max_concurrency: int
    price: Price | None

    async def ask(self, request: Request) -> Reply:
        """Answer one request.

        Raises:
            RequestError: this request failed (see its subclasses); others may succeed.
            prefdata.errors.EngineError: nothing can succeed (no such model, a rejected key): the run stops.
        """
        ...

    async def close(self) -> None:
        """Give back connections, threads and memory."""
        ...


@dataclass(eq=False)
class RequestError(Exception):
    """One request failed. `status` is what an annotation made from it says.

    Attributes:
        message: a sentence without secrets.
        status: failed, timeout or refused.
        retriable: whether the same request may succeed if it is sent again.
        retry_after: seconds the server asked to wait, None where it did not say.
        raw: what came back, for `calls.raw`.
        prompt_tokens: tokens read and paid for all the same, where the failed answer says so.
        completion_tokens: tokens written, likewise.
        code: HTTP status of the answer, None where there was none. 429, 503 and 529 say that too much is asked.
    """

    message: str
    status: Literal["failed", "timeout", "refused"] = "failed"
    retriable: bool = False
    retry_after: float | None = None
    raw: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    code: int | None = None

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Answer:
    """What a step gets for a request: the reply, or why there is none. Never an exception for one failed request.

    Attributes:
        reply: None unless status is ok or refused.
        status: ok, refused, timeout or failed.
        call_id: the row of `calls` that records it.
        error: why, for a status other than ok.
        cached: the reply came from the request cache.
    """

    reply: Reply | None
    status: Literal["ok", "refused", "timeout", "failed"]
    call_id: str
    error: str = ""
    cached: bool = False
    call: Row = field(default_factory=dict)
