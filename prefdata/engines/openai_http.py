"""The kind `openai`: any OpenAI-compatible server (vLLM, llama.cpp, SGLang, hosted ones), or a deployment on Azure.

Several addresses of one model may be given as a list: each request goes to the one with the fewest in flight. One that
refuses connections or answers 502, 503 or 504 is left aside for a second, then two, four, up to a minute, as long as
another works. The request cache knows the answers by the list of addresses; where these change from job to job, as on a
cluster, `identity:` gives the servers a name that stays.

Requests go where `base_url` says. Of the environment count the key's variable, the usual ones for proxies (HTTP_PROXY,
HTTPS_PROXY, ALL_PROXY, NO_PROXY; never for this machine's own addresses) and SSL_CERT_FILE; those of the openai package
(OPENAI_BASE_URL, OPENAI_ORG_ID, ...) do not. Redirects are not followed, and of one answer at most 64 MiB are read.

With `api_version` the model is a deployment on Azure: `base_url` is then the resource's endpoint
(https://NAME.openai.azure.com), and requests go through the openai package. Azure's newer interface, whose address ends
in /openai/v1, needs none of this.

A schema goes along as `response_format`. Where a server refuses it (400, naming the field), the request is sent once
more without, and that schema not again: the answer is then read by the parser alone, which the log says once.

With `prompt_logprobs: true` and a `tokenizer` continuations are scored, on servers that say what each token of a prompt
was worth: vLLM and SGLang. Others stop the run with a sentence; none is believed without a number for every token.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from prefdata.engines.azure import AzureTransport
from prefdata.engines.base import Capability, Reply, Request, RequestError
from prefdata.engines.chat import ChatTokenizer
from prefdata.engines.endpoints import Endpoint, Endpoints, Outcome, Visit
from prefdata.engines.errors import UnreachableError
from prefdata.engines.keys import check_header, redact, redact_answer
from prefdata.engines.models import LOADING, resolve
from prefdata.engines.openai_answers import (
    first_choice,
    label_shares,
    parse_body,
    read_completion,
    tokens_of,
    top_logprobs,
    without_beginning,
)
from prefdata.engines.openai_config import HOSTED, OpenAIConfig
from prefdata.engines.openai_errors import AWAY, about_a_schema, from_status, retry_after
from prefdata.engines.openai_stream import Hides, ask_stream
from prefdata.engines.registry import BaseEngine, engine
from prefdata.engines.transport import ConnectTimeoutError, DirectTransport, HttpAnswer, Timeouts, Transport
from prefdata.errors import EngineError
from prefdata.schema import canonical_json, make_id

logger = logging.getLogger("prefdata.run")
_TOP = 20
"""The most alternatives that servers give for a token."""


@engine("openai", config=OpenAIConfig)
class OpenAIEngine(BaseEngine):
    """Speaks the chat completions protocol. Retrying is the client's business: a server gets one request once."""

    adaptive = True

    def __init__(self, name: str, config: OpenAIConfig) -> None:
        """Take the configuration; opens no connection and reads no key."""
        super().__init__(name, config)
        self.model = config.model
        self.capabilities: frozenset[Capability] = frozenset({"generate", "label_probs"})
        if config.prompt_logprobs:
            self.capabilities |= {"logprobs"}
        self._config = config
        self._hosted = HOSTED in config.urls or config.api_version is not None
        self._prefill = not self._hosted if config.prefill is None else config.prefill
        self._key: str | None = None
        self._endpoints = Endpoints(config.urls)
        self._transports: dict[asyncio.AbstractEventLoop, Transport] = {}
        self._tokens: ChatTokenizer | None = None
        self._counts_streams = True
        self._refused_schemas: set[str] = set()

    @property
    def place(self) -> str:
        """Model and addresses, for messages."""
        return f"{self.model} at {', '.join(self._config.urls)}"

    def identify(self) -> str:
        """Addresses (or the `identity` that was set), model, and a hash of what every request carries besides."""
        config = self._config
        where = config.identity or ",".join(config.urls)
        said = f"openai:{where}:{config.model}"
        rest: dict[str, Any] = {
            "extra_body": config.extra_body, "prefill": self._prefill, "tokenizer": config.tokenizer
        }  # fmt: skip
        if config.api_version:
            rest |= {"api_version": config.api_version, "deployment": config.deployment}
        if config.extra_body or config.prefill is not None or config.tokenizer or config.api_version:
            said += ":" + blake2b(canonical_json(rest).encode(), digest_size=4).hexdigest()
        return said

    async def ask(self, request: Request) -> Reply:
        """Send one request: to one server, or from one that is away to the next.

        Raises:
            RequestError: see `prefdata.engines.openai_errors`, or an answer that cannot be read.
            EngineError: no key, a rejected key, no such model, or log-probabilities that the server does not give.
        """
        try:
            match request.capability:
                case "generate":
                    return await self._generate(request)
                case "label_probs":
                    return await self._label_probs(request)
                case _:
                    return await self._logprobs(request)
        except RequestError as error:
            error.raw = redact(error.raw, self._key)
            raise

    async def close(self) -> None:
        """Close the connections of this event loop, and what is left of loops that have ended."""
        running = asyncio.get_running_loop()
        for loop in [loop for loop in self._transports if loop is running or loop.is_closed()]:
            await self._transports.pop(loop).close()

    async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """Send one request, and give the text of its answer as it comes; then the reply that `ask` would give.

        Azure's answers come in one piece.

        Raises:
            RequestError: as `ask` does, also in the middle.
            EngineError: as `ask` does.
        """
        transport = await self._transport()
        if not isinstance(transport, DirectTransport) or (request.prefix and self._prefill):
            async for piece in super().stream(request):
                yield piece
            return
        sent = {**self._completion(request), **self._config.extra_body, "stream": True}
        if self._counts_streams:
            sent["stream_options"] = {"include_usage": True}
        hides = Hides(self._key, self._redacted)
        try:
            async with aclosing(ask_stream(self._endpoints, transport, self.model, sent, hides)) as found:
                async for piece in found:
                    yield piece
        except RequestError as error:
            if self._may_do_without(request, error):
                async for piece in super().stream(request):
                    yield piece
                return
            error.raw = redact(error.raw, self._key)
            if error.code in (400, 422) and self._counts_streams and "stream_options" in error.raw:
                # An older server: it is asked again without, and does not say what the answer took.
                self._counts_streams, error.retriable = False, True
            raise

    async def _generate(self, request: Request) -> Reply:
        try:
            content, place = await self._post("/chat/completions", self._completion(request))
        except RequestError as error:
            if not self._may_do_without(request, error):
                raise
            content, place = await self._post("/chat/completions", self._completion(replace(request, schema=None)))
            # Only now is it known that the schema was the reason.
            self._refused_schemas.add(canonical_json(request.schema))
            logger.warning("%s takes no JSON schema here; answers are read without one", place)
        reply = read_completion(content)
        if request.prefix and self._prefill:
            reply = without_beginning(reply, content, request.prefix)
        text = None if reply.text is None else redact_answer(reply.text, self._key)
        return replace(reply, text=text, raw=redact_answer(reply.raw, self._key))

    def _may_do_without(self, request: Request, error: RequestError) -> bool:
        """Whether a refused request is worth sending once more without its schema."""
        sent = request.schema is not None and canonical_json(request.schema) not in self._refused_schemas
        return sent and about_a_schema(error)

    def _completion(self, request: Request) -> dict[str, Any]:
        body = self._body(request)
        body["max_completion_tokens" if self._hosted else "max_tokens"] = request.max_tokens
        body["temperature"] = request.temperature
        if request.top_p < 1:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop"] = list(request.stop)
        if request.seed is not None:
            # A tag asks anew; servers take 32-bit seeds, some of them signed.
            seed = int(make_id("seed", request.seed, request.tag)[:8], 16) if request.tag else request.seed
            body["seed"] = seed % 2**31
        if request.schema is not None and canonical_json(request.schema) not in self._refused_schemas:
            named = {"name": "answer", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return body

    async def _label_probs(self, request: Request) -> Reply:
        """Probabilities of the labels among the 20 likeliest next tokens; a label that is not there counts as 0."""
        for label in request.labels:
            longer = [other for other in request.labels if other != label and other.strip().startswith(label.strip())]
            if longer:
                raise RequestError(f"the labels {label!r} and {longer[0]!r} cannot be told apart by their first token")
        body = self._body(request)
        body["max_completion_tokens" if self._hosted else "max_tokens"] = 1
        # At temperature 1 the reported probabilities are the model's own on every server, whichever token is drawn.
        body |= {"temperature": 1.0, "seed": 0, "logprobs": True, "top_logprobs": _TOP}
        content, place = await self._post("/chat/completions", body)
        answer = parse_body(content)
        pairs = top_logprobs(first_choice(answer, content))
        if not pairs:
            raise EngineError(
                f"{place} gives no top_logprobs, so label probabilities cannot be had from it; "
                "use judge.compare, or another engine"
            )
        shares = label_shares(pairs, request.labels)
        mass = min(1.0, sum(shares))
        values = tuple(share / sum(shares) if mass > 0 else 1 / len(shares) for share in shares)
        read, written = tokens_of(answer)
        kept = redact_answer(json.dumps({"top_logprobs": pairs}, ensure_ascii=False), self._key)
        return Reply(values=values, mass=mass, prompt_tokens=read, completion_tokens=written, raw=kept)

    async def _logprobs(self, request: Request) -> Reply:
        """Echo a prompt of token ids: the server must not tokenise it in another way."""
        if self._config.tokenizer is None:
            raise EngineError(
                f"engine {self.name!r}: prompt_logprobs needs the model's tokenizer, whose chat template makes the "
                "prompt; add tokenizer: and a folder or hub id"
            )
        tokens = await asyncio.to_thread(self._tokenizer, self._config.tokenizer)
        prompt, continuation = tokens.continued(request)
        if not continuation:
            return Reply(prompt_tokens=len(prompt))
        body = {
            "model": self.model,
            "prompt": prompt + continuation,
            "max_tokens": 1,
            "temperature": 0.0,
            "echo": True,
            "logprobs": 1,
        }
        content, place = await self._post("/completions", body)
        answer = parse_body(content)
        try:
            found = first_choice(answer, content)["logprobs"]["token_logprobs"]
            values = tuple(float(value) for value in found[len(prompt) : len(prompt) + len(continuation)])
        except (KeyError, TypeError, ValueError):
            values = ()
        if len(values) != len(continuation) or not all(map(math.isfinite, values)):
            raise EngineError(
                f"{place} gives no log-probability for each token of a prompt (completions with echo); "
                "vLLM and SGLang do, and so does the kind transformers"
            )
        read, written = tokens_of(answer)
        return Reply(values=values, prompt_tokens=read, completion_tokens=written)

    def _tokenizer(self, named: str) -> ChatTokenizer:
        """The tokenizer, loaded by the first of the requests that come together."""
        if self._tokens is None:
            with LOADING:
                self._tokens = self._tokens or ChatTokenizer(resolve(named))
        return self._tokens

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "messages": [_turn(turn) for turn in request.messages]}
        if request.prefix and self._prefill:
            body["messages"].append({"role": "assistant", "content": request.prefix})
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        return body

    async def _post(self, path: str, body: dict[str, Any]) -> tuple[bytes, str]:
        """Send a body to the address that is next; from one that is away to another, as long as there is one.

        Returns:
            The answer's body, and who gave it.
        """
        sent = {**body, **self._config.extra_body}
        transport = await self._transport()
        tried: list[Endpoint] = []
        nobody: RequestError | None = None
        busy: RequestError | EngineError | None = None
        while (visit := self._endpoints.begin(tried)) is not None:
            tried.append(visit.endpoint)
            place = f"{self.model} at {visit.endpoint.url}"
            try:
                answer = await self._visit(visit, transport, path, sent, place)
            except (UnreachableError, ConnectTimeoutError) as error:
                nobody = error
                continue
            if 200 <= answer.status < 300:
                return answer.body, place
            problem = from_status(answer.status, answer.body, answer.headers, place, self._redacted)
            if answer.status not in AWAY:
                raise problem
            busy = problem
        # A server that says it is busy is not gone, even where the others are.
        if busy is not None:
            raise busy
        assert nobody is not None
        if len(self._endpoints.all) > 1:
            nobody.message = f"none of the {len(self._endpoints.all)} addresses can be reached; {nobody.message}"
        raise nobody

    async def _visit(
        self, visit: Visit, transport: Transport, path: str, sent: dict[str, Any], place: str
    ) -> HttpAnswer:
        """Send a body to one address, and take note of how that went."""
        outcome: Outcome = "unknown"
        wait: float | None = None
        try:
            answer = await transport.post(visit.endpoint.url, path, sent, place)
            outcome = "away" if answer.status in AWAY else "failed" if answer.status == 500 else "worked"
            wait = retry_after(answer.headers) if outcome == "away" else None
            return answer
        except RequestError as error:
            outcome = "away" if isinstance(error, UnreachableError | ConnectTimeoutError) else "failed"
            raise
        finally:
            self._endpoints.end(visit, outcome, wait)

    async def _transport(self) -> Transport:
        """The connections of the running event loop: they cannot move to another one."""
        loop = asyncio.get_running_loop()
        known = self._transports.get(loop)
        if known is None:
            for ended in [other for other in self._transports if other.is_closed()]:
                await self._transports.pop(ended).close()
            # What runs between the look and the next lines does not give way, so that no second one is made.
            known = self._transports.get(loop) or self._connected()
            self._transports[loop] = known
        return known

    def _connected(self) -> Transport:
        config, key = self._config, self._read_key()
        timeouts = Timeouts(config.timeout, config.connect_timeout, config.read_timeout)
        if config.api_version is not None:
            assert key is not None
            deployment = config.deployment or config.model
            return AzureTransport(timeouts, key, config.api_version, deployment, self._redacted)
        return DirectTransport(timeouts, {"Authorization": f"Bearer {key}"} if key else {}, self._redacted)

    def _read_key(self) -> str | None:
        variable = self._config.api_key_env
        key = os.environ.get(variable, "")
        if key.strip():
            self._key = check_header(key, variable)
            return self._key
        if self._hosted or "api_key_env" in self._config.model_fields_set:
            raise EngineError(f"engine {self.name!r} needs a key: set the environment variable {variable}")
        return None

    def _redacted(self, text: str) -> str:
        return redact(text, self._key)


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in turn.items() if value is not None}
    if kept.get("tool_calls"):
        kept["tool_calls"] = json.loads(kept["tool_calls"])
    return kept
