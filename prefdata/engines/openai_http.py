"""The kind `openai`: any OpenAI-compatible server (vLLM, llama.cpp, SGLang, hosted ones), through the openai package.

Answers are read as JSON here, not through the package's models: it costs less, and a body that is not what it should be
is kept as it came.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from prefdata.engines.base import Capability, Reply, Request, RequestError
from prefdata.engines.chat import ChatTokenizer
from prefdata.engines.keys import check_header, check_variable, redact, redact_answer
from prefdata.engines.models import resolve
from prefdata.engines.openai_errors import from_connection, from_status
from prefdata.engines.registry import BaseEngine, EngineConfig, engine
from prefdata.errors import EngineError
from prefdata.schema import canonical_json, make_id

_HOSTED = "https://api.openai.com/v1"
_FINISH = {"length": "length", "max_tokens": "length", "tool_calls": "tool", "function_call": "tool"}
_TOP = 20
"""The most alternatives that servers give for a token."""


class OpenAIConfig(EngineConfig):
    """Fields of the kind `openai`."""

    model: str = Field(min_length=1, description="As the server calls it.")
    base_url: str = Field(_HOSTED, description="The server's address, ending in /v1 as a rule.")
    api_key_env: str = Field(
        "OPENAI_API_KEY",
        description="The environment variable that holds the key. Servers elsewhere than at OpenAI may need none.",
    )
    timeout: float = Field(120.0, gt=0, description="Seconds that one attempt may take.")
    extra_body: dict[str, Any] = Field(
        {}, description="Further fields of every request (top_k, reasoning effort, ...)."
    )
    prefill: bool | None = Field(
        None,
        description="Whether the server goes on with a begun assistant message (continue_final_message). Without it an "
        "answer's given beginning is not sent. Yes, unless the server is OpenAI's own.",
    )
    prompt_logprobs: bool = Field(
        False, description="Whether completions with echo give the prompt's log-probabilities (vLLM, SGLang)."
    )
    tokenizer: str | None = Field(
        None, description="Folder, known name or hub id of the model's tokenizer; prompt_logprobs needs it."
    )

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, name: str) -> str:
        return check_variable(name)

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("this is no address; it begins with http:// or https://")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("an address holds no user, password or query: a key stands in an environment variable")
        return url.rstrip("/")


@engine("openai", config=OpenAIConfig)
class OpenAIEngine(BaseEngine):
    """Speaks the chat completions protocol. Retrying is the client's business: one request is sent once."""

    def __init__(self, name: str, config: OpenAIConfig) -> None:
        """Take the configuration; opens no connection and reads no key."""
        super().__init__(name, config)
        self.model = config.model
        self.capabilities: frozenset[Capability] = frozenset({"generate", "label_probs"})
        if config.prompt_logprobs:
            self.capabilities |= {"logprobs"}
        self._config = config
        self._hosted = config.base_url == _HOSTED
        self._prefill = not self._hosted if config.prefill is None else config.prefill
        self._key: str | None = None
        self._clients: dict[asyncio.AbstractEventLoop, Any] = {}
        self._tokens: ChatTokenizer | None = None

    def identify(self) -> str:
        """Address (or the `identity` that was set), model, and a hash of what every request carries besides."""
        config = self._config
        where = config.identity or config.base_url
        said = f"openai:{where}:{config.model}"
        rest = {"extra_body": config.extra_body, "prefill": self._prefill, "tokenizer": config.tokenizer}
        if config.extra_body or config.prefill is not None or config.tokenizer:
            said += ":" + blake2b(canonical_json(rest).encode(), digest_size=4).hexdigest()
        return said

    async def ask(self, request: Request) -> Reply:
        """Send one request once.

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
        """Close the connections of this event loop; those of a loop that has ended are gone with it."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        self._clients.clear()
        if client is not None:
            await client.close()

    async def _generate(self, request: Request) -> Reply:
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
        if request.schema is not None:
            named = {"name": "answer", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        answer, raw = await self._post("chat", body)
        choice = _first(answer, raw)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise RequestError("the server's answer has no message", retriable=True, raw=raw)
        read, written = _tokens(answer)
        finish, text = _finished(choice, message)
        if finish == "error":
            raise RequestError("the server broke off the answer with an error", retriable=True, raw=raw)
        plain = finish in ("stop", "length") and not message.get("reasoning_content") and not message.get("reasoning")
        return Reply(
            text=None if text is None else redact_answer(text, self._key),
            finish_reason=finish,
            prompt_tokens=read,
            completion_tokens=written,
            raw="" if plain else redact_answer(raw, self._key),
        )

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
        answer, raw = await self._post("chat", body)
        choice = _first(answer, raw)
        try:
            top = choice["logprobs"]["content"][0]["top_logprobs"]
            pairs = [(str(entry["token"]), float(entry["logprob"])) for entry in top]
        except (KeyError, IndexError, TypeError, ValueError):
            raise EngineError(
                f"{self._place} gives no top_logprobs, so label probabilities cannot be had from it; "
                "use judge.compare, or another engine"
            ) from None
        shares = _shares(pairs, request.labels)
        mass = min(1.0, sum(shares))
        values = tuple(share / sum(shares) if mass > 0 else 1 / len(shares) for share in shares)
        read, written = _tokens(answer)
        kept = redact_answer(json.dumps({"top_logprobs": pairs}, ensure_ascii=False), self._key)
        return Reply(values=values, mass=mass, prompt_tokens=read, completion_tokens=written, raw=kept)

    async def _logprobs(self, request: Request) -> Reply:
        """Echo a prompt of token ids: the server must not tokenise it in another way."""
        if self._config.tokenizer is None:
            raise EngineError(
                f"engine {self.name!r}: prompt_logprobs needs the model's tokenizer, whose chat template makes the "
                "prompt; add tokenizer: and a folder or hub id"
            )
        if self._tokens is None:
            self._tokens = await asyncio.to_thread(ChatTokenizer, resolve(self._config.tokenizer))
        prompt, continuation = self._tokens.continued(request)
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
        answer, raw = await self._post("completions", body)
        try:
            found = _first(answer, raw)["logprobs"]["token_logprobs"][len(prompt) : len(prompt) + len(continuation)]
            values = tuple(float(value) for value in found)
        except (KeyError, TypeError, ValueError):
            values = ()
        if len(values) != len(continuation) or not all(map(math.isfinite, values)):
            raise EngineError(
                f"{self._place} gives no log-probability for each token of a prompt (completions with echo); "
                "vLLM and SGLang do, and so does the kind transformers"
            )
        read, written = _tokens(answer)
        return Reply(values=values, prompt_tokens=read, completion_tokens=written)

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "messages": [_turn(turn) for turn in request.messages]}
        if request.prefix and self._prefill:
            body["messages"].append({"role": "assistant", "content": request.prefix})
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        return body

    async def _post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Send a body; returns the answer as JSON and as text."""
        import openai

        client = self._client()
        resource = client.chat.completions if path == "chat" else client.completions
        known = {key: body.pop(key) for key in ("model", "messages", "prompt") if key in body}
        extra = {**body, **self._config.extra_body}
        problem: Exception
        try:
            # The package's timeout is for each read; a server that dribbles would never meet it.
            async with asyncio.timeout(self._config.timeout):
                response = await resource.with_raw_response.create(**known, extra_body=extra)
            raw = str(response.text)
        except (openai.APITimeoutError, TimeoutError):
            problem = RequestError(
                f"no answer from {self._place} within {self._config.timeout:g} seconds", "timeout", retriable=True
            )
        except openai.APIConnectionError as error:
            problem = from_connection(error, self._place, self._redacted)
        except openai.APIStatusError as error:
            text, headers = error.response.text, dict(error.response.headers)
            problem = from_status(error.status_code, text, headers, self._place, self._redacted)
        else:
            return _json(raw), raw
        # Outside of the handler: the package's exception holds the request, whose headers hold the key.
        raise problem

    def _client(self) -> Any:
        """The connections of the running event loop: a pool cannot move to another one."""
        import openai

        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients = {known: client for known, client in self._clients.items() if not known.is_closed()}
            self._clients[loop] = openai.AsyncOpenAI(
                base_url=self._config.base_url, api_key=self._read_key(), max_retries=0, timeout=self._config.timeout
            )
        return self._clients[loop]

    def _read_key(self) -> str:
        variable = self._config.api_key_env
        key = os.environ.get(variable, "")
        if key.strip():
            self._key = check_header(key, variable)
            return self._key
        if self._hosted or "api_key_env" in self._config.model_fields_set:
            raise EngineError(f"engine {self.name!r} needs a key: set the environment variable {variable}")
        return "none"  # a local server asks for none, but the package insists on one

    @property
    def _place(self) -> str:
        return f"{self.model} at {self._config.base_url}"

    def _redacted(self, text: str) -> str:
        return redact(text, self._key)


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in turn.items() if value is not None}
    if kept.get("tool_calls"):
        kept["tool_calls"] = json.loads(kept["tool_calls"])
    return kept


def _json(raw: str) -> dict[str, Any]:
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise RequestError("the server's answer is not JSON, or only a part of it", retriable=True, raw=raw)
    if answer.get("error"):
        raise RequestError("the server answered 200 with an error in it", retriable=True, raw=raw)
    return answer


def _first(answer: Mapping[str, Any], raw: str) -> dict[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise RequestError("the server's answer has no choices", retriable=True, raw=raw)
    return choices[0]


def _tokens(answer: Mapping[str, Any]) -> tuple[int, int]:
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)


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


def _shares(pairs: list[tuple[str, float]], labels: tuple[str, ...]) -> list[float]:
    """Probability of each label: of tokens that are it, or the beginning of it and of no other label."""
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
