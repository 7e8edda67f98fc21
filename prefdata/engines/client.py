"""The client between steps and engines: cache, one call for equal requests, limits, retries, budget, record.

A step asks; one failed request comes back as an `Answer` with a status. Only what stops the whole run is raised: an
engine that cannot be used (EngineError), a budget that is spent (BudgetSpentError), and `stop` (StoppedError).
"""

from __future__ import annotations

import asyncio
import random
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

from prefdata.engines.base import Answer, Engine, Reply, Request, RequestError
from prefdata.engines.budget import Budget, Usage, estimated_tokens
from prefdata.engines.cache import CacheEntry, CacheLockedError, RequestCache
from prefdata.engines.calls import Spent, answered_row, failed_row, unpaid
from prefdata.engines.circuit import Circuit
from prefdata.engines.errors import StoppedError, UnreachableError
from prefdata.engines.gate import LONGEST_WAIT, Estimate, Gate
from prefdata.engines.group_commit import GroupCommit
from prefdata.engines.limits import Limiter
from prefdata.errors import BudgetSpentError, EngineError
from prefdata.schema import make_id

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 60.0
_MOST_UNREACHED = 20


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
        payer: names the run that pays.
        abandoned: whether a run of that name, of the same dataset, has ended without stating its bill: this one does.
        budget: what this run may spend; None for no limit.
        recorded: whether the dataset holds the `calls` row of that id already.
        say: is told, in a sentence, what the user should know of an engine.
        attempts: how often a request is sent at most; those that found nobody are not counted.
        sleep: waits so many seconds; replaced in tests.
        jitter: a number in [0, 1) that spreads retries; replaced in tests.
        clock: seconds that only grow; replaced in tests, together with `sleep`.

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
        abandoned: Callable[[str], bool] = lambda payer: False,
        say: Callable[[str], object] = warnings.warn,
        *,
        attempts: int = 5,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engines = dict(engines)
        self.usage = Usage()
        self._cache, self._payer, self._budget = cache, payer, budget
        self._recorded, self._abandoned, self._say = recorded, abandoned, say
        self._attempts, self._sleep, self._jitter, self._clock = attempts, sleep, jitter, clock
        self._kept = GroupCommit(cache) if cache is not None else None
        self._gates: dict[str, Gate] = {}
        self._running: dict[str, asyncio.Task[Answer]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

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
            StoppedError: `stop` was called, and nobody has asked this before.
        """
        engine = self._engine(engine_name, request)
        gate = self._gate(engine_name, engine)
        request = revised(request, revision)
        call_id = call_id_of(engine, request)
        entry = await self._look_up(call_id)
        if entry is not None:
            self._count_cached(gate)
            return self._from_cache(engine, entry, call_id, step)
        task = self._running.get(call_id)
        if task is None:
            if self._stopped:
                raise StoppedError
            self._loop = asyncio.get_running_loop()
            task = self._loop.create_task(self._call(gate, request, call_id, step, group_id))
            self._running[call_id] = task
            task.add_done_callback(lambda done: self._finished(call_id, done))
            # The task is shielded: whoever waits may be cancelled, the paid call is finished and kept all the same.
            return await asyncio.shield(task)
        answer = await asyncio.shield(task)
        self._count_cached(gate)
        stated = answer.reply is not None and not self._recorded(call_id)
        row = answer.call if stated else unpaid(answer.call)
        return replace(answer, cached=answer.reply is not None, call={**row, "step": step})

    def stop(self) -> None:
        """Send nothing new: whoever waits for a turn or for another attempt gets StoppedError at once.

        What is in flight finishes, is handed on and kept; what is in the cache is still answered. May be called from
        another thread.
        """
        self._stopped = True
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            self._end_gates()
        else:
            loop.call_soon_threadsafe(self._end_gates)

    async def finish(self) -> None:
        """Wait until everything that was asked is answered and kept, or has failed."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def close(self) -> None:
        """Send nothing new, finish what is in flight, and close the engines and the cache."""
        self.stop()
        await self.finish()
        for engine in self.engines.values():
            await engine.close()
        if self._cache:
            self._cache.close()

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

    def _gate(self, name: str, engine: Engine) -> Gate:
        gate = self._gates.get(name)
        if gate is None:
            limiter = Limiter(
                engine.max_concurrency,
                adaptive=getattr(engine, "adaptive", False),
                rpm=getattr(engine, "rpm", None),
                tpm=getattr(engine, "tpm", None),
                clock=self._clock,
            )
            gate = self._gates[name] = Gate(
                engine,
                limiter,
                Circuit(f"engine {engine.name!r} ({getattr(engine, 'place', engine.model)})", self._clock),
                self._budget,
                sleep=self._sleep,
                settled=self._settled,
                clock=self._clock,
                delay=self._delay,
                jitter=self._jitter,
                say=self._say,
            )
        return gate

    def _settled(self) -> None:
        for gate in self._gates.values():
            gate.pump()

    def _end_gates(self) -> None:
        for gate in self._gates.values():
            gate.end(StoppedError)

    def _delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (failures - 1)) * (0.5 + 0.5 * self._jitter())

    def _finished(self, call_id: str, task: asyncio.Task[Answer]) -> None:
        self._running.pop(call_id, None)
        if not task.cancelled():
            task.exception()  # marks it as seen, where everyone who waited was cancelled

    def _count_cached(self, gate: Gate) -> None:
        self.usage.cached += 1
        gate.usage.cached += 1

    async def _look_up(self, call_id: str) -> CacheEntry | None:
        if self._cache is None:
            return None
        try:
            return self._cache.get(call_id, wait=False)
        except CacheLockedError:
            return await asyncio.to_thread(self._cache.get, call_id)

    def _from_cache(self, engine: Engine, entry: CacheEntry, call_id: str, step: str) -> Answer:
        # Paid but in no table: by this run, or by one that died between answer and commit. One that lives states it.
        ours = entry.payer == self._payer or self._abandoned(entry.payer)
        unbilled = ours and not self._recorded(call_id)
        spent = Spent(entry.attempts, entry.seconds, entry.prompt_tokens, entry.completion_tokens)
        created = entry.created if unbilled else time.time()
        row = answered_row(engine, call_id, step, entry.reply, spent, entry.money, created)
        return Answer(entry.reply, _status(entry.reply), call_id, cached=True, call=row if unbilled else unpaid(row))

    async def _call(self, gate: Gate, request: Request, call_id: str, step: str, group_id: str | None) -> Answer:
        """Send a request, several times if need be, and keep what comes back."""
        self._check_price(gate.engine)
        estimate, spent, unreached = self._estimate(gate, request), Spent(), 0
        failure: RequestError | None = None
        while True:
            try:
                if failure is not None and failure.retry_after is None and gate.circuit.rounds < 2:
                    await gate.rest(self._delay(spent.attempts - unreached or 1))
                reply = await self._attempt(gate, request, estimate, spent)
            except RequestError as error:
                failure = error
                unreached += isinstance(error, UnreachableError)
            except (EngineError, BudgetSpentError, StoppedError):
                if failure is not None and spent.paid:  # the bill of what failed must stand in some row
                    return self._failed(gate, failure, call_id, step, spent)
                raise
            else:
                return await self._paid(gate, reply, call_id, step, spent, group_id)
            too_long = failure.retry_after is not None and failure.retry_after > LONGEST_WAIT
            last = spent.attempts - unreached >= self._attempts or unreached >= _MOST_UNREACHED
            if not failure.retriable or too_long or last:
                return self._failed(gate, failure, call_id, step, spent)
            for usage in (self.usage, gate.usage):
                usage.retries += 1

    async def _attempt(self, gate: Gate, request: Request, estimate: Estimate, spent: Spent) -> Reply:
        """Send a request once, and take note of what it took."""
        turn = await gate.enter(estimate, first=spent.attempts == 0)
        spent.attempts += 1
        started = time.perf_counter()
        try:
            reply = await gate.engine.ask(request)
            if reply.finish_reason == "error":
                raise RequestError(
                    "the model stopped with an error",
                    raw=reply.raw or reply.text or "",
                    prompt_tokens=reply.prompt_tokens,
                    completion_tokens=reply.completion_tokens,
                )
        except RequestError as error:
            spent.seconds += time.perf_counter() - started
            self._pay(gate, spent, error.prompt_tokens, error.completion_tokens)
            gate.failed(turn, error)
            raise
        except EngineError as error:
            gate.end(partial(EngineError, str(error)))
            gate.abandoned(turn, (0, 0))
            raise
        except BaseException:
            gate.abandoned(turn)
            raise
        spent.seconds += time.perf_counter() - started if reply.seconds is None else reply.seconds
        self._pay(gate, spent, reply.prompt_tokens, reply.completion_tokens)
        gate.answered(turn, (reply.prompt_tokens, reply.completion_tokens), unkept=self._kept is not None)
        return reply

    def _estimate(self, gate: Gate, request: Request) -> Estimate:
        if self._budget is None and not gate.limiter.counts_tokens:
            return Estimate()
        read, written = estimated_tokens(request)
        amount = self._budget.amount(read, written, gate.engine.price) if self._budget else 0.0
        return Estimate(read + written, amount)

    def _pay(self, gate: Gate, spent: Spent, prompt_tokens: int, completion_tokens: int) -> None:
        spent.prompt_tokens += prompt_tokens
        spent.completion_tokens += completion_tokens
        price = gate.engine.price
        money = price.money(prompt_tokens, completion_tokens) if price else None
        for usage in (self.usage, gate.usage):
            usage.pay(prompt_tokens, completion_tokens, money)

    async def _paid(
        self, gate: Gate, reply: Reply, call_id: str, step: str, spent: Spent, group_id: str | None
    ) -> Answer:
        """Keep an answer, and hand it on once it is durable."""
        engine, money, created = gate.engine, spent.money(gate.engine.price), time.time()
        for usage in (self.usage, gate.usage):
            usage.calls += 1
        if self._kept is not None:
            read, written = spent.prompt_tokens, spent.completion_tokens
            entry = CacheEntry(
                reply,
                money,
                spent.seconds,
                spent.attempts,
                created,
                self._payer,
                read,
                written,
                group_id,
                step,
                engine.name,
                engine.model,
            )
            # Another process may have asked at the same moment: both go on with the answer that was kept.
            try:
                reply = await self._kept.keep(call_id, entry)
            finally:
                gate.kept()
        row = answered_row(engine, call_id, step, reply, spent, money, created)
        return Answer(reply, _status(reply), call_id, call=row)

    def _failed(self, gate: Gate, failure: RequestError, call_id: str, step: str, spent: Spent) -> Answer:
        for usage in (self.usage, gate.usage):
            usage.failed += 1
        row = failed_row(gate.engine, call_id, step, failure, spent, time.time())
        return Answer(None, failure.status, call_id, error=str(failure), call=row)


def _status(reply: Reply) -> Literal["ok", "refused"]:
    return "refused" if reply.finish_reason == "refusal" else "ok"
