"""Which kinds of engine there are, and how one is made from a pipeline's `engines:` section.

A kind is a class registered with `@engine("kind")`, whose configuration is a small pydantic model; its fields are its
YAML keys. Making an engine loads nothing and reaches nobody: name, model, capabilities and price are known at once.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefdata.engines.base import Capability, Engine, Price, Reply, Request
from prefdata.errors import PipelineError


class PriceConfig(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: float = Field(0.0, ge=0, description="USD per million tokens read.")
    completion: float = Field(0.0, ge=0, description="USD per million tokens written.")


class EngineConfig(BaseModel):
    """The fields that every kind of engine has."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    max_concurrency: int = Field(32, ge=1, description="How many requests are in flight at most.")
    adaptive: bool | None = Field(
        None,
        exclude=True,
        description="Whether the number in flight follows the server: it starts at 8, grows as long as that makes the "
        "server answer more, and is halved where the server says 429 or 503. Otherwise it is max_concurrency "
        "throughout. Servers: yes unless set; models in this process: no.",
    )
    rpm: float | None = Field(None, gt=0, description="How many requests are started in a minute at most.")
    tpm: float | None = Field(
        None, gt=0, exclude=True, description="How many tokens are read and written in a minute at most."
    )
    price: PriceConfig | None = Field(None, description="USD per million tokens.")
    identity: str | None = Field(
        None, min_length=1, description="What the cache knows it by, in place of its address or of its files' hash."
    )


class BaseEngine:
    """What engines have in common. A kind of your own sets `model` and `capabilities` and has `identify` and `ask`.

    Attributes:
        identity: what `identify` says, asked once; may be set instead.
        adaptive: whether the client seeks how many requests the server bears, up to `max_concurrency`.
        rpm: how many requests the client starts in a minute; None for any number.
        tpm: how many tokens it lets them read and write in a minute; None for any number.
        free: nobody is paid for it, so that a budget in USD needs no price.
    """

    model: str = ""
    capabilities: frozenset[Capability] = frozenset()
    free: bool = False
    adaptive: bool = False

    def __init__(self, name: str, config: EngineConfig) -> None:
        """Keep the configuration. Loads nothing."""
        self.name = name
        self.max_concurrency = config.max_concurrency
        self.rpm = config.rpm
        self.tpm = config.tpm
        if config.adaptive is not None:
            self.adaptive = config.adaptive
        self.price = Price(config.price.prompt, config.price.completion) if config.price else None
        self._identity: str | None = None

    @property
    def place(self) -> str:
        """Model and address, for messages."""
        return self.model

    @property
    def identity(self) -> str:
        """What the request cache and the ids go by."""
        if self._identity is None:
            self._identity = self.identify()
        return self._identity

    @identity.setter
    def identity(self, identity: str) -> None:
        self._identity = identity

    def identify(self) -> str:
        """Name whatever can change an answer, and no secret. Called when the identity is first needed."""
        raise NotImplementedError

    async def ask(self, request: Request) -> Reply:
        """Answer one request."""
        raise NotImplementedError

    async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """The text of an answer as it comes, then the reply. Here in one piece, when it is done."""
        reply = await self.ask(request)
        if reply.text:
            yield reply.text
        yield reply

    async def close(self) -> None:
        """Give back connections, threads and memory."""


@dataclass(frozen=True, slots=True)
class EngineKind:
    """A registered kind: how to make it, and what its fields are."""

    make: Callable[[str, Any], Engine]
    config: type[EngineConfig]


ENGINES: dict[str, EngineKind] = {}
"""Every kind that is known, by name."""

_Maker = TypeVar("_Maker", bound=Callable[..., Engine])


def engine(kind: str, *, config: type[EngineConfig] = EngineConfig) -> Callable[[_Maker], _Maker]:
    """Register a class (or function) that makes an engine from its name and its configuration.

    Args:
        kind: what `kind:` says in YAML.
        config: its fields.

    Raises:
        PipelineError: another one has that kind.
    """

    def register(make: _Maker) -> _Maker:
        known = ENGINES.get(kind)
        if known is not None and _origin(known.make) != _origin(make):
            raise PipelineError(f"two engines are of the kind {kind!r}: {_origin(known.make)} and {_origin(make)}")
        ENGINES[kind] = EngineKind(make, config)
        return make

    return register


def engine_from_config(name: str, config: Mapping[str, Any], where: str) -> Engine:
    """Make the engine that a pipeline's `engines: {name: {kind: ..., ...}}` describes.

    Args:
        name: as steps call it.
        config: its mapping, `kind` included.
        where: file, line and name of the engine, for messages.

    Raises:
        PipelineError: no kind or an unknown one, an unknown key, or a value that a field cannot take. The message never
            repeats a value, which may be a secret in the wrong place.
    """
    fields = dict(config)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str):
        raise PipelineError(f"{where} says no kind; add kind: and one of {', '.join(sorted(ENGINES))}")
    known = ENGINES.get(kind)
    if known is None:
        raise PipelineError(f"{where}: there is no kind {kind!r}{_nearest(kind, ENGINES)}")
    try:
        parsed = known.config.model_validate(fields)
    except ValidationError as error:
        raise PipelineError("; ".join(_problems(where, known.config, error))) from None
    return known.make(name, parsed)


def _problems(where: str, config: type[BaseModel], error: ValidationError) -> list[str]:
    """One sentence for each key that is wrong, without the value that was given."""
    sentences = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        path = [str(part) for part in problem["loc"]]
        if problem["type"] == "extra_forbidden":
            owner = PriceConfig if path[0] == "price" else config
            hint = _nearest(path[-1], owner.model_fields)
            if "key" in path[-1].lower() and "api_key_env" in config.model_fields:
                hint = "; a key stands in an environment variable, and api_key_env: says which"
            sentences.append(f"{where}: there is no key {'.'.join(path)!r}{hint}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            sentences.append(f"{where}: {'.'.join(path) or 'it'}: {message[:1].lower()}{message[1:]}")
    return sentences


def _nearest(word: str, known: Mapping[str, object]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else f" (known: {', '.join(sorted(known))})"


def _origin(make: Callable[..., object]) -> str:
    return f"{make.__module__}.{getattr(make, '__qualname__', repr(make))}"
