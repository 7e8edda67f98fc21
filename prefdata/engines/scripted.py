"""The scripted engine: answers like a small language model, without one.

Every answer is a pure function of the request and of the engine's options. It serves tests of pipelines, yours and
ours, and `prefdata run hello`. It knows nothing: its judgements go by length, its likelihoods by shared words.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

from pydantic import Field, field_validator

from prefdata.engines.base import Capability, Price, Reply, Request, RequestError
from prefdata.engines.json_schema import fill
from prefdata.engines.registry import BaseEngine, EngineConfig, engine
from prefdata.engines.scripted_text import quality, sections, words, write
from prefdata.schema import canonical_json

_DIMENSIONS = 64


class ScriptedConfig(EngineConfig):
    """Fields of the kind `scripted`. `every: n` means one request in n on average, chosen by the request's hash."""

    model: str = Field("scripted", description="Its name; engines of different names answer differently.")
    replies: dict[str, str] = Field({}, description="Regular expression on the last message: the text to answer.")
    position_bias: float = Field(0.0, ge=0, le=1, description="How much of a comparison's verdict goes to the first.")
    fail_every: int | None = Field(None, ge=1, description="One request in so many fails.")
    refuse_every: int | None = Field(None, ge=1, description="One request in so many is refused.")
    prose_every: int | None = Field(None, ge=1, description="One answer in so many is prose instead of the schema.")
    latency: float = Field(0.0, ge=0, description="Seconds that an answer takes.")

    @field_validator("replies")
    @classmethod
    def _compiles(cls, replies: dict[str, str]) -> dict[str, str]:
        for pattern in replies:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return replies


@engine("scripted", config=ScriptedConfig)
class ScriptedEngine(BaseEngine):
    """Deterministic answers for every capability. See the module and `ScriptedConfig`."""

    capabilities: frozenset[Capability] = frozenset(
        {"generate", "logprobs", "label_probs", "embed", "reward", "states"}
    )
    free = True

    def __init__(self, name: str = "scripted", config: ScriptedConfig | None = None) -> None:
        """Take the options; loads nothing."""
        config = config or ScriptedConfig()
        super().__init__(name, config)
        self.model = config.model
        self.price = self.price or Price()
        self._config = config

    def identify(self) -> str:
        """Its name, and a hash of the options that change answers."""
        options = self._config.model_dump(exclude={"max_concurrency", "rpm", "price", "identity", "latency", "model"})
        digest = blake2b(canonical_json(options).encode(), digest_size=6).hexdigest()
        return f"scripted:{self._config.identity or f'{self.model}@{digest}'}"

    async def ask(self, request: Request) -> Reply:
        """Answer one request; raises RequestError for those that `fail_every` picks."""
        await asyncio.sleep(self._config.latency)
        return self.answer(request)

    async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """The words of an answer one by one, spread over the latency; then the reply."""
        reply = self.answer(request)
        found = re.findall(r"\s*\S+|\s+$", reply.text or "")
        for word in found:
            await asyncio.sleep(self._config.latency / len(found))
            yield word
        if not found:
            await asyncio.sleep(self._config.latency)
        yield reply

    def answer(self, request: Request) -> Reply:
        """The answer to a request, at once."""
        config = self._config
        if self._picked("fail", request, config.fail_every):
            raise RequestError("the scripted engine lets this request fail (fail_every)")
        if self._picked("refuse", request, config.refuse_every):
            return Reply(finish_reason="refusal", prompt_tokens=_read(request), raw="refused (refuse_every)")
        match request.capability:
            case "generate":
                return self._generate(request)
            case "logprobs":
                return self._logprobs(request)
            case "label_probs":
                return self._label_probs(request)
            case "embed":
                text = request.texts[0] if request.texts else _last(request)
                return Reply(values=_embedding(text), prompt_tokens=_read(request))
            case "reward":
                return self._reward(request)
            case "states":
                return _states(request)
        raise RequestError(f"the scripted engine cannot do {request.capability}")

    def _generate(self, request: Request) -> Reply:
        last = _last(request)
        text = next((said for pattern, said in self._config.replies.items() if re.search(pattern, last)), None)
        if text is None and request.schema and not self._picked("prose", request, self._config.prose_every):
            text = json.dumps(self._filled(request), ensure_ascii=False)
        if text is None:
            text = write(last, self._number("text", request))
        text = text.removeprefix(request.prefix)
        for end in request.stop:
            text = text.partition(end)[0]
        tokens = re.findall(r"\s*\S+", text)
        cut = len(tokens) > request.max_tokens
        return Reply(
            text="".join(tokens[: request.max_tokens]) if cut else text,
            finish_reason="length" if cut else "stop",
            prompt_tokens=_read(request),
            completion_tokens=min(len(tokens), request.max_tokens),
        )

    def _filled(self, request: Request) -> Any:
        """A value for the request's schema: the longer response in a comparison, a better score for better text."""
        last = _last(request)

        def choose(name: str, values: Sequence[Any]) -> Any:
            if len(values) > 1 and all(isinstance(value, str) for value in values):
                return values[self._verdict(request, values)]
            if len(values) > 2 and all(isinstance(value, int | float) for value in values):
                found = sections(last, ("A", "B", "C", "D")) or sections(last, ("Response", "Answer"), least=1)
                text = found.get(name.rsplit("_", 1)[-1].upper()) or next(iter(found.values()), last)
                mood = self._number(f"mood {name}", request) % 1000 / 1000 - 0.5
                return values[min(len(values) - 1, max(0, round(quality(text) * (len(values) - 1) + mood)))]
            return values[self._number(f"choose {name}", request) % len(values)]

        def say(name: str) -> str:
            return write(last, self._number(f"write {name}", request), short=True)

        assert request.schema is not None
        properties = request.schema.get("properties", {})
        about = {name: self._about_each(request, part, say) for name, part in properties.items()}
        about = {name: value for name, value in about.items() if value is not None}
        rest = {name: part for name, part in properties.items() if name not in about}
        if not about:
            return fill(request.schema, choose, say)
        filled = {**fill({**request.schema, "properties": rest}, choose, say), **about}
        return {name: filled[name] for name in properties}

    def _about_each(self, request: Request, part: Mapping[str, Any], say: Callable[[str], str]) -> Any:
        """What a property says of several responses: their order, or an object for each. None where it is neither."""
        items = part.get("items", {})
        letters = (items.get("anyOf") or [items])[0].get("enum", []) if isinstance(items, dict) else []
        objects = {name: one for name, one in part.get("properties", {}).items() if "properties" in one}
        names = list(letters or objects)
        found = sections(_last(request), names, least=len(names)) if names else {}
        if set(found) != set(names) or not names:
            return None
        if letters:
            biased = self._number("bias", request) % 10_000 < self._config.position_bias * 10_000
            return names if biased else sorted(names, key=lambda name: -len(found[name]))

        def choose(letter: str, name: str, values: Sequence[Any]) -> Any:
            mood = self._number(f"mood {letter} {name}", request) % 1000 / 1000 - 0.5
            return values[min(len(values) - 1, max(0, round(quality(found[letter]) * (len(values) - 1) + mood)))]

        return {
            name: fill(one, partial(choose, name), lambda key, name=name: say(f"{name} {key}"))  # type: ignore[misc]
            for name, one in objects.items()
        }

    def _verdict(self, request: Request, labels: Sequence[str]) -> int:
        """Which label wins: the longest section of the last message under such labels; else any."""
        biased = self._number("bias", request) % 10_000 < self._config.position_bias * 10_000
        found = sections(_last(request), labels)
        if not found:
            return 0 if biased else self._number("verdict", request) % len(labels)
        named = [place for place, label in enumerate(labels) if label in found]
        return named[0] if biased else max(named, key=lambda place: len(found[labels[place]]))

    def _label_probs(self, request: Request) -> Reply:
        found = sections(_last(request), request.labels)
        if found:
            lengths = [math.log1p(len(found.get(label, ""))) for label in request.labels]
        else:
            lengths = [self._number(f"label {label}", request) % 1000 / 500 for label in request.labels]
        weights = [math.exp(length) for length in lengths]
        bias = self._config.position_bias
        honest = [weight / sum(weights) for weight in weights]
        values = tuple((1 - bias) * p + (bias if place == 0 else 0.0) for place, p in enumerate(honest))
        mass = 0.9 + self._number("mass", request) % 100 / 1000
        raw = json.dumps({"labels": request.labels, "values": values, "mass": mass})
        return Reply(values=values, mass=mass, prompt_tokens=_read(request), raw=raw)

    def _logprobs(self, request: Request) -> Reply:
        """Words of the prompt and words just said are likelier than others."""
        known = {word for turn in request.messages for word in words(str(turn.get("content") or ""))}
        values: list[float] = []
        before = ""
        for token in re.findall(r"\s*\S+", request.continuation):
            word = next(iter(words(token)), "")
            noise = int.from_bytes(blake2b(f"{self.model} {token}".encode(), digest_size=4).digest()) / 2**32
            values.append(-0.5 - 3.0 * noise - (0.0 if word in known else 1.0) + (0.4 if word == before else 0.0))
            before = word
        return Reply(values=tuple(values), prompt_tokens=_read(request) + len(values))

    def _reward(self, request: Request) -> Reply:
        """The quality of one response, in [-2, 2]; of two, P(the first is better) and the rest."""
        rewards = [4 * quality(text) - 2 for text in request.texts or (_last(request),)]
        if len(rewards) == 2:
            first = 1 / (1 + math.exp(rewards[1] - rewards[0]))
            return Reply(values=(first, 1 - first), prompt_tokens=_read(request))
        return Reply(values=tuple(rewards[:1]), prompt_tokens=_read(request))

    def _number(self, purpose: str, request: Request) -> int:
        """64 bits of the request's hash; a greedy answer does not depend on the seed."""
        payload = request.payload()
        if request.temperature == 0:
            payload.pop("seed", None)
        text = canonical_json([self.model, purpose, payload])
        return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())

    def _picked(self, purpose: str, request: Request, every: int | None) -> bool:
        return every is not None and self._number(purpose, request) % every == 0


def _last(request: Request) -> str:
    return str(request.messages[-1].get("content") or "") if request.messages else ""


def _read(request: Request) -> int:
    said = [*(str(turn.get("content") or "") for turn in request.messages), *request.texts]
    return sum(len(text.split()) for text in said)


def _states(request: Request) -> Reply:
    """A word's state is its own vector: like texts have like sums."""
    tokens = re.findall(r"\S+", request.continuation)
    before = [_last(request).rpartition(" ")[2] or "empty", *tokens]
    vectors = [_embedding(token) for token in before]
    summed = [sum(column) for column in zip(*vectors[:-1], strict=True)] or [0.0] * _DIMENSIONS
    return Reply(values=(float(len(tokens)), *summed, *vectors[-1]), prompt_tokens=_read(request) + len(tokens))


def _embedding(text: str) -> tuple[float, ...]:
    """Words hashed into 64 signed bins, scaled to length 1."""
    bins = [0.0] * _DIMENSIONS
    for word in words(text) or ["empty"]:
        digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4).digest()
        bins[digest[0] % _DIMENSIONS] += 1.0 if digest[1] % 2 else -1.0
    if not any(bins):
        bins[0] = 1.0
    length = math.sqrt(sum(value * value for value in bins))
    return tuple(value / length for value in bins)
