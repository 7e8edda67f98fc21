"""Answers while they are written: pieces of text from an engine, and the one reply at the end.

An engine that can do it has `stream(request)`, which yields texts and last a `Reply`. `Streamed` stands between an
engine and the client: the client asks it as ever, with its limits, retries, budget, cache and record of calls, and
whoever listens hears the text as it comes. So a streamed answer is kept under the same key as one that was asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from prefdata.engines.base import Engine, Reply, Request, RequestError

LONGEST_LINE = 2**20
"""Bytes of one line of an event stream; a token's has some hundreds."""


Heard = Callable[[str | None], object]
"""Is told each piece of text as it comes, and None where an attempt begins: what came before is void then."""

_listener: ContextVar[Heard | None] = ContextVar("listener", default=None)


@contextmanager
def listening(heard: Heard) -> Iterator[None]:
    """Hear the answer to what is asked in here, through a client whose engines are `Streamed`.

    Ask for one answer only: of several it could not be told which one grows. What somebody else asked before, and what
    the cache holds, is not heard; it comes with the answer alone.

    Args:
        heard: is called in the event loop that asks.
    """
    token = _listener.set(heard)
    try:
        yield
    finally:
        _listener.reset(token)


class Streamed:
    """An engine whose answers can be heard while they are written; everything else is the engine's own.

    Args:
        engine: any one. One without `stream` is heard once, when it is done.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.model, self.capabilities = engine.name, engine.model, engine.capabilities
        self.max_concurrency, self.price = engine.max_concurrency, engine.price

    @property
    def identity(self) -> str:
        """The engine's: an answer is the same, heard or not."""
        return self.engine.identity

    @identity.setter
    def identity(self, identity: str) -> None:
        self.engine.identity = identity

    def __getattr__(self, name: str) -> object:
        """What the client asks for where an engine has it: adaptive, rpm, tpm, free, place."""
        return getattr(self.engine, name)

    async def ask(self, request: Request) -> Reply:
        """Answer one request, and let the text be heard where somebody listens."""
        listener = _listener.get()
        if listener is None or request.capability != "generate":
            return await self.engine.ask(request)
        listener(None)
        reply: Reply | None = None
        async with aclosing(pieces(self.engine, request)) as found:
            async for piece in found:
                if isinstance(piece, Reply):
                    reply = piece
                else:
                    listener(piece)
        if reply is None:
            raise RequestError(f"the engine {self.name!r} streamed no reply")
        return reply

    async def close(self) -> None:
        """Close the engine."""
        await self.engine.close()


async def pieces(engine: Engine, request: Request) -> AsyncGenerator[str | Reply]:
    """The text of an answer as it comes, then the reply. The reply's text counts, should the two differ.

    Args:
        engine: any one. One without `stream` gives one piece when it is done.
        request: of the capability generate.

    Raises:
        RequestError: as `ask` does, also in the middle.
        EngineError: as `ask` does.
    """
    stream = getattr(engine, "stream", None)
    if stream is None:
        reply = await engine.ask(request)
        if reply.text:
            yield reply.text
        yield reply
        return
    made = stream(request)
    try:
        async for piece in made:
            yield piece
    finally:
        if inspect.isasyncgen(made):
            await made.aclose()


@dataclass
class Events:
    """Reads a stream of server-sent events (the WHATWG's HTML standard, section 9.2) as its bytes come.

    Attributes:
        place: model and address, for messages.
    """

    place: str
    _line: bytearray = field(default_factory=bytearray)
    _data: list[bytes] = field(default_factory=list)
    _size: int = 0

    def feed(self, part: bytes) -> Iterator[bytes]:
        """The data of each event that these bytes complete.

        Raises:
            RequestError: a line does not end.
        """
        *lines, rest = part.split(b"\n")
        for line in lines:
            self._line += line
            self._check()
            whole, self._line = bytes(self._line).removesuffix(b"\r"), bytearray()
            yield from self._read(whole)
        self._line += rest
        self._check()

    def end(self) -> Iterator[bytes]:
        """The data of an event that the end of the stream completes: not every server sends the last empty line."""
        whole, self._line = bytes(self._line).removesuffix(b"\r"), bytearray()
        yield from self._read(whole)
        yield from self._read(b"")

    def _read(self, line: bytes) -> Iterator[bytes]:
        if not line:
            if self._data:
                yield b"\n".join(self._data)
            self._data, self._size = [], 0
        elif line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._size += len(line)  # with its name: an event of endless empty lines grows too
            if self._size > LONGEST_LINE:
                raise self._too_long()

    def _check(self) -> None:
        if len(self._line) > LONGEST_LINE:
            raise self._too_long()

    def _too_long(self) -> RequestError:
        return RequestError(f"{self.place} streams an event of more than {LONGEST_LINE // 2**20} MiB; it is not read")
