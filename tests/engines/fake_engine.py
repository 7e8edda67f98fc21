"""An engine that answers as it is told, and a client before it, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from virtual_time import clock, simulate

from prefdata.engines.base import Reply, Request
from prefdata.engines.cache import RequestCache
from prefdata.engines.client import Client
from prefdata.engines.registry import BaseEngine, EngineConfig


class Fake(BaseEngine):
    """Calls `behave` with the number of the call."""

    capabilities = frozenset({"generate"})
    model = "fake-1"

    def __init__(self, behave: Callable[[int], Reply] | None = None, **fields: Any) -> None:
        super().__init__("fake", EngineConfig(**fields))
        self.behave = behave or (lambda number: Reply(text=f"answer {number}", prompt_tokens=10, completion_tokens=5))
        self.asked: list[Request] = []
        self.in_flight = self.most = 0
        self.ticks = 1
        self.latency = 0.0
        self.times: list[float] = []

    def identify(self) -> str:
        return "fake:1"

    async def ask(self, request: Request) -> Reply:
        self.asked.append(request)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        number = len(self.asked)
        self.times.append(clock())
        for _ in range(self.ticks):
            await asyncio.sleep(0)
        if self.latency:
            await asyncio.sleep(self.latency)
        self.in_flight -= 1
        return self.behave(number)


def question(text: str = "q", **fields: Any) -> Request:
    return Request("generate", ({"role": "user", "content": text},), **fields)


def client(engine: Fake, cache: RequestCache | None = None, **options: Any) -> Client:
    options.setdefault("jitter", lambda: 1.0)
    options.setdefault("clock", clock)
    return Client({"fake": engine}, cache, options.pop("payer", "d1"), **options)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return simulate(coroutine)


async def ask_many(asking: Client, count: int, start: int = 0) -> list[Any]:
    asked = (asking.ask("fake", question(f"number {start + n}"), step="s") for n in range(count))
    return await asyncio.gather(*asked, return_exceptions=True)


def kinds(outcomes: list[Any]) -> list[str]:
    return [getattr(outcome, "status", type(outcome).__name__) for outcome in outcomes]


def failing(*errors: Exception) -> Callable[[int], Reply]:
    def behave(number: int) -> Reply:
        if number <= len(errors):
            raise errors[number - 1]
        return Reply(text="at last", prompt_tokens=10, completion_tokens=5)

    return behave
