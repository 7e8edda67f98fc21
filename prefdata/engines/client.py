"""The client between steps and engines: cache, one call for equal requests, limits, retries, budget, record.

A step asks; one failed request comes back as an `Answer` with a status. Only what stops the whole run is raised: an
engine that cannot be used (EngineError) and a budget that is spent (BudgetSpentError).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from prefdata.engines.base import Answer, Engine, Reply, Request, RequestError
from prefdata.engines.budget import Budget, Usage
from prefdata.engines.cache import CacheEntry, RequestCache
from prefdata.engines.errors import UnreachableError
from prefdata.errors import EngineError
from prefdata.schema import Row, make_id

RAW_LIMIT = 64 * 1024
"""Characters of a raw answer that `calls.raw` keeps."""

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 60.0
_LONGEST_WAIT = 600.0
_GONE_AFTER = 5


@dataclass
class _Gate:
    """Where the requests to one engine queue: concurrency, rate, and a pause that the server asked for."""

    slots: asyncio.Semaphore
    interval: float
    not_before: float = 0.0
    next_start: float = 0.0
    unreachable: int = 0
    broken: EngineError | None = None
    usage: Usage = field(default_factory=Usage)


def revised(request: Request, revision: int) -> Request:
    """A request as it is sent for a revision: above 1, its tag asks again what was asked before."""
    return replace(request, tag=f"{request.tag}#{revision}") if revision > 1 else request


def call_id_of(engine: Engine, request: Request) -> str:
    """The id of a call, which is the cache's key: the engine's identity and everything in the request."""
    return make_id("call", engine.identity, request.payload())


class Client:
    """Asks engines on behalf of one run.

    Args:
        engines: by the name that steps use.
        cache: where answers are kept; None to ask always.
        payer: uid of the dataset whose run pays.
        budget: what this run may spend; None for no limit.
        recorded: whether the dataset holds the `calls` row of that id already.
        attempts: how often a request is sent at most.
        sleep: waits so many seconds; replaced in tests.
        jitter: a number in [0, 1) that spreads retries; replaced in tests.

    Attributes:
        usage: what this run used so far.
        usage_of: the same by engine name.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        cache: RequestCache | None,
        payer: str,
        budget: Budget | None = None,
        recorded: Callable[[str], bool] = lambda call_id: False,
        *,
        attempts: int = 5,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.engines = dict(engines)
        self.usage = Usage()
        self._cache, self._payer, self._budget, self._recorded = cache, payer, budget, recorded
        self._attempts, self._sleep, self._jitter = attempts, sleep, jitter
        self._gates: dict[str, _Gate] = {}
        self._running: dict[str, asyncio.Task[Answer]] = {}

    @property
    def usage_of(self) -> dict[str, Usage]:
        """What each engine was used for, by its name; only engines that were asked."""
        return {name: gate.usage for name, gate in self._gates.items()}

    async def ask(
        self, engine_name: str, request: Request, *, step: str, revision: int = 1, group_id: str | None = None
    ) -> Answer:
        """Answer a request: from the cache, from an equal request in flight, or from the engine.

        `Answer.call` is the row of `calls`. It states the bill until `recorded` says that another row does; after that
        it is marked as cached and costs nothing.

        Args:
            engine_name: a key of `engines`.
            request: what to ask.
            step: fingerprint of the asking step, for the row.
            revision: above 1, asks again what was asked before.
            group_id: for which group of prompts.

        Raises:
            EngineError: no such engine, it lacks the capability, it cannot be used, or its server is gone.
            BudgetSpentError: the budget is spent. What is in flight finishes, and is kept.
        """
        engine = self._engine(engine_name, request)
        gate = self._gate(engine_name, engine)
        request = revised(request, revision)
        call_id = call_id_of(engine, request)
        task = self._running.get(call_id)
        if task is None:
            entry = self._cache.get(call_id) if self._cache else None
            if entry is not None:
                self._count_cached(gate)
                return self._from_cache(engine, entry, call_id, step)
            task = asyncio.create_task(self._call(engine, gate, request, call_id, step))
            self._running[call_id] = task
            task.add_done_callback(lambda done: self._finished(call_id, done))
            # The task is shielded: whoever waits may be cancelled, the paid call is finished and kept all the same.
            return await asyncio.shield(task)
        answer = await asyncio.shield(task)
        self._count_cached(gate)
        stated = {"cached": True, "money": 0.0} if answer.reply and self._recorded(call_id) else {}
        return replace(answer, cached=answer.reply is not None, call={**answer.call, "step": step, **stated})

    async def finish(self) -> None:
        """Wait until everything in flight is answered and kept."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def close(self) -> None:
        """Finish what is in flight and close the engines and the cache."""
        await self.finish()
        for engine in self.engines.values():
            await engine.close()
        if self._cache:
            self._cache.close()

    def _engine(self, name: str, request: Request) -> Engine:
        engine = self.engines.get(name)
        if engine is None:
            raise EngineError(f"there is no engine {name!r} (there are: {', '.join(sorted(self.engines)) or 'none'})")
        if request.capability not in engine.capabilities:
            raise EngineError(
                f"engine {name!r} ({engine.model}) cannot do {request.capability}; it can do "
                f"{', '.join(sorted(engine.capabilities))}"
            )
        return engine

    def _gate(self, name: str, engine: Engine) -> _Gate:
        gate = self._gates.get(name)
        if gate is None:
            rpm = getattr(engine, "rpm", None)
            gate = _Gate(asyncio.Semaphore(max(1, engine.max_concurrency)), 60.0 / rpm if rpm else 0.0)
            self._gates[name] = gate
        return gate

    def check_prices(self) -> None:
        """Refuse a budget in USD where an engine has no price and is not free.

        Raises:
            EngineError: with the engine and what to add.
        """
        for engine in self.engines.values():
            self._check_price(engine)

    def _check_price(self, engine: Engine) -> None:
        priced = engine.price is not None or getattr(engine, "free", False)
        if self._budget is not None and self._budget.unit == "usd" and not priced:
            raise EngineError(
                f"a budget in USD needs the price of engine {engine.name!r}; add to it, in USD per million tokens: "
                "price: {prompt: ..., completion: ...}, or give the budget in tokens"
            )

    def _check_budget(self, engine: Engine) -> None:
        self._check_price(engine)
        if self._budget is not None:
            self._budget.check()

    def _finished(self, call_id: str, task: asyncio.Task[Answer]) -> None:
        self._running.pop(call_id, None)
        if not task.cancelled():
            task.exception()  # marks it as seen, where everyone who waited was cancelled

    def _count_cached(self, gate: _Gate) -> None:
        self.usage.cached += 1
        gate.usage.cached += 1

    def _from_cache(self, engine: Engine, entry: CacheEntry, call_id: str, step: str) -> Answer:
        # Paid by this dataset but not in its table: the run that paid died between answer and commit.
        unbilled = entry.payer == self._payer and not self._recorded(call_id)
        call = _call_row(
            engine, call_id, step, entry.reply, entry.money if unbilled else 0.0, entry.seconds, entry.attempts
        )
        return Answer(entry.reply, _status(entry.reply), call_id, cached=True, call={**call, "cached": not unbilled})

    async def _call(self, engine: Engine, gate: _Gate, request: Request, call_id: str, step: str) -> Answer:
        """Send a request, several times if need be, and keep what comes back."""
        seconds = 0.0
        for attempt in range(1, self._attempts + 1):
            async with gate.slots:
                await self._turn(gate)
                if gate.broken is not None:
                    raise gate.broken
                # Not before the slot: while this request queued, others may have spent the rest.
                self._check_budget(engine)
                started = time.perf_counter()
                try:
                    reply = await engine.ask(request)
                    if reply.finish_reason == "error":
                        raise RequestError("the model stopped with an error", raw=reply.raw or reply.text or "")
                except RequestError as error:
                    seconds += time.perf_counter() - started
                    failure = error
                    if not isinstance(error, UnreachableError):
                        gate.unreachable = 0
                except EngineError as error:
                    gate.broken = error
                    raise
                else:
                    seconds += time.perf_counter() - started if reply.seconds is None else reply.seconds
                    gate.unreachable = 0
                    return self._paid(engine, gate, reply, call_id, step, seconds, attempt)
            too_long = failure.retry_after is not None and failure.retry_after > _LONGEST_WAIT
            if not failure.retriable or too_long or attempt == self._attempts:
                break
            for usage in (self.usage, gate.usage):
                usage.retries += 1
            await self._back_off(gate, attempt, failure.retry_after)
        return self._failed(engine, gate, failure, call_id, step, seconds, attempt)

    async def _turn(self, gate: _Gate) -> None:
        """Wait for the rate limit and for the pause that the server asked of everyone."""
        now = time.monotonic()
        pause = max(0.0, gate.not_before - now) * (1 + 0.1 * self._jitter())
        start = max(now + pause, gate.next_start)
        gate.next_start = start + gate.interval
        if start > now:
            await self._sleep(start - now)

    async def _back_off(self, gate: _Gate, attempt: int, retry_after: float | None) -> None:
        """Wait before the next attempt; what the server asked for holds for every request to it."""
        if retry_after is not None:
            gate.not_before = max(gate.not_before, time.monotonic() + retry_after)
        else:
            longest = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** (attempt - 1))
            await self._sleep(longest * (0.5 + 0.5 * self._jitter()))

    def _paid(
        self, engine: Engine, gate: _Gate, reply: Reply, call_id: str, step: str, seconds: float, attempts: int
    ) -> Answer:
        money = engine.price.money(reply.prompt_tokens, reply.completion_tokens) if engine.price else None
        if self._cache:
            self._cache.put(call_id, reply, money=money, seconds=seconds, attempts=attempts, payer=self._payer)
            # Another process may have asked at the same moment: both go on with the answer that was kept.
            standing = self._cache.get(call_id)
            answer = standing.reply if standing else reply
        else:
            answer = reply
        for usage in (self.usage, gate.usage):
            usage.pay(reply.prompt_tokens, reply.completion_tokens, money)
        if self._budget:
            self._budget.pay(reply.prompt_tokens, reply.completion_tokens, money)
        call = _call_row(engine, call_id, step, answer, money, seconds, attempts)
        return Answer(answer, _status(answer), call_id, call=call)

    def _failed(
        self, engine: Engine, gate: _Gate, failure: RequestError, call_id: str, step: str, seconds: float, attempts: int
    ) -> Answer:
        if isinstance(failure, UnreachableError):
            gate.unreachable += 1
            if gate.unreachable >= _GONE_AFTER:
                gate.broken = EngineError(
                    f"the server of engine {engine.name!r} is gone: {gate.unreachable} requests in a row found nobody "
                    f"({failure}). Nothing is lost: start the server and run again"
                )
                raise gate.broken
        for usage in (self.usage, gate.usage):
            usage.failed += 1
        call = {
            "call_id": call_id,
            "step": step,
            "engine": engine.name,
            "model": engine.model,
            "raw": failure.raw[:RAW_LIMIT] or None,
            "finish_reason": "error",
            "seconds": seconds,
            "cached": False,
            "attempts": attempts,
            "error": str(failure),
        }
        return Answer(None, failure.status, call_id, error=str(failure), call=call)


def _status(reply: Reply) -> Literal["ok", "refused"]:
    return "refused" if reply.finish_reason == "refusal" else "ok"


def _call_row(
    engine: Engine, call_id: str, step: str, reply: Reply, money: float | None, seconds: float, attempts: int
) -> Row:
    """The row of `calls` for an answered request. A judge's prose is held by no other row, so the text is kept here."""
    return {
        "call_id": call_id,
        "step": step,
        "engine": engine.name,
        "model": engine.model,
        "raw": (reply.raw or reply.text or "")[:RAW_LIMIT] or None,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "money": money,
        "seconds": seconds,
        "cached": False,
        "attempts": attempts,
        "error": None,
    }
