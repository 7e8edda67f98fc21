"""Where the requests to one engine wait for their turn, and whatever ends their waiting."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from prefdata.engines.base import Engine, RequestError
from prefdata.engines.budget import Budget, Usage
from prefdata.engines.circuit import Circuit
from prefdata.engines.errors import UnreachableError
from prefdata.engines.limits import Limiter, Ticket
from prefdata.engines.transport import ConnectTimeoutError
from prefdata.errors import BudgetSpentError, EngineError

LONGEST_WAIT = 600.0
"""Seconds: a server that asks for more is not waited for."""

_BUSY = frozenset({429, 529})
_TURNED_AWAY = _BUSY | {503}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request is going to cost, before it is known: tokens, and the amount in the budget's unit."""

    tokens: float = 0.0
    amount: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A request that was let in: what it holds until `Gate.leave`, and whether it is a request's first attempt."""

    ticket: Ticket
    estimate: Estimate
    first: bool


@dataclass(slots=True, eq=False)
class _Waiting:
    future: asyncio.Future[Turn]
    estimate: Estimate
    first: bool


@dataclass(eq=False)
class Gate:
    """The queue before one engine. First come, first served, but for those that were sent before.

    Attributes:
        engine: behind it.
        limiter: says when the next one may start.
        circuit: says when there is nobody to send to any more.
        budget: of the run; shared by all gates.
        sleep: waits so many seconds.
        settled: is called when something in flight has ended, which may free room in the budget.
        clock: seconds that only grow; that of the limiter.
        delay: seconds to wait after so many failures.
        jitter: a number in [0, 1) that spreads what would happen at once.
        say: is told, in a sentence and once, where the engine does not say what it used, so that the budget counts
            estimates.
        usage: what the engine was used for.
    """

    engine: Engine
    limiter: Limiter
    circuit: Circuit
    budget: Budget | None
    sleep: Callable[[float], Awaitable[object]]
    settled: Callable[[], None]
    clock: Callable[[], float]
    delay: Callable[[int], float]
    jitter: Callable[[], float]
    say: Callable[[str], object]
    usage: Usage = field(default_factory=Usage)
    _queue: deque[_Waiting] = field(default_factory=deque)
    _resting: set[asyncio.Future[None]] = field(default_factory=set)
    _ended: Callable[[], Exception] | None = None
    _alarm: asyncio.Task[None] | None = None
    _due: float = 0.0
    _said: bool = False

    async def enter(self, estimate: Estimate, *, first: bool) -> Turn:
        """Wait for a turn, which `leave` gives back.

        Args:
            estimate: of the cost of this attempt.
            first: whether the request was not sent before; those that were go before the others.

        Raises:
            EngineError: the engine cannot be used any more.
            BudgetSpentError: the budget is spent.
            StoppedError: the run is stopping.
        """
        if self._ended is not None:
            raise self._ended()
        if not self._queue and (turn := self._admitted(estimate, first)) is not None:
            return turn
        waiting = _Waiting(asyncio.get_running_loop().create_future(), estimate, first)
        if first:
            self._queue.append(waiting)
        else:
            self._queue.appendleft(waiting)
        self.pump()
        try:
            return await waiting.future
        except asyncio.CancelledError:
            if waiting.future.done() and not waiting.future.cancelled() and waiting.future.exception() is None:
                self.leave(waiting.future.result(), (0, 0))
            raise

    def leave(self, turn: Turn, paid: tuple[int, int] | None = None, *, timed: bool = False) -> None:
        """Give a turn back.

        Args:
            turn: as `enter` gave it.
            paid: tokens read and written; None where nobody knows, and the estimate stands: a budget would be no
                limit if what is not known counted as nothing.
            timed: whether its latency says something.
        """
        self.limiter.end(turn.ticket, None if paid is None else sum(paid), timed=timed)
        if self.budget is None:
            self.pump()
            return
        unknown = 0.0 if self._free else turn.estimate.amount
        amount = unknown if paid is None else self.budget.amount(*paid, self.engine.price)
        self.budget.settle(turn.estimate.amount, amount)
        self.settled()

    def answered(self, turn: Turn, paid: tuple[int, int], *, unkept: bool) -> None:
        """The engine answered; the place is free once the answer is kept, if it is to be (`kept`)."""
        self.circuit.reached()
        self.limiter.unkept += unkept
        told = any(paid) or self._free  # no request reads nothing: that is a server that does not say
        if not told and self.budget is not None and not self._said:
            self._said = True
            place = getattr(self.engine, "place", self.engine.model)
            self.say(
                f"engine {self.engine.name!r} ({place}) does not say how many tokens it used: the budget counts "
                "estimates in their place"
            )
        self.leave(turn, paid if told else None, timed=True)

    def kept(self) -> None:
        """An answer is durable, or never will be."""
        self.limiter.unkept -= 1
        self.pump()

    def failed(self, turn: Turn, error: RequestError) -> None:
        """The attempt failed. May be the one that shows that the server is gone; `enter` and `rest` raise then."""
        ticket = turn.ticket
        nobody, timed_out = isinstance(error, UnreachableError), error.status == "timeout"
        if nobody:
            news = self.circuit.nobody(ticket.number, self.limiter.latest, str(error))
            if news and self.circuit.rounds > 1:
                self.limiter.pause(self.delay(self.circuit.rounds - 1))
        elif error.retriable:
            busy = error.code in _BUSY
            self.circuit.troubled(ticket.number, ticket.started, str(error), new=turn.first, busy=busy)
        else:
            self.circuit.reached()
        if error.code in _TURNED_AWAY or error.retry_after is not None:
            self.limiter.turned_away(ticket)
        if error.retry_after is not None and error.retry_after <= LONGEST_WAIT:
            self.circuit.paused(self.limiter.pause(error.retry_after * (1 + 0.1 * self.jitter())))
        if self.circuit.broken is not None:
            self.end(partial(EngineError, str(self.circuit.broken)))
        paid = error.prompt_tokens, error.completion_tokens
        unsent = nobody or isinstance(error, ConnectTimeoutError)
        known = any(paid) or unsent or error.code is not None
        self.leave(turn, paid if known else None, timed=timed_out)

    def abandoned(self, turn: Turn, paid: tuple[int, int] | None = None) -> None:
        """The attempt was broken off; `paid` as `leave` takes it."""
        self.circuit.abandoned(turn.ticket.number, self.limiter.latest)
        self.leave(turn, paid)

    async def rest(self, seconds: float) -> None:
        """Wait before another attempt.

        Raises:
            EngineError: the engine cannot be used any more.
            StoppedError: the run is stopping.
        """
        if self._ended is not None:
            raise self._ended()
        resting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resting.add(resting)
        sleeper = asyncio.ensure_future(self.sleep(seconds))
        sleeper.add_done_callback(lambda _: None if resting.done() else resting.set_result(None))
        try:
            await resting
        finally:
            self._resting.discard(resting)
            sleeper.cancel()

    def end(self, reason: Callable[[], Exception]) -> None:
        """Let nothing in any more; whoever waits is told why at once.

        Args:
            reason: makes the exception, one for each: one that is raised in many places gathers all their tracebacks.
        """
        self._ended = self._ended or reason
        waiting: list[asyncio.Future[Any]] = [one.future for one in self._queue]
        for future in [*waiting, *self._resting]:
            if not future.done():
                future.set_exception(self._ended())
        self._queue.clear()
        self.pump()

    def pump(self) -> None:
        """Let in whom the limits let in now, and see to it that somebody looks again when that changes."""
        try:
            while self._queue:
                head = self._queue[0]
                if not head.future.done():
                    turn = self._admitted(head.estimate, head.first)
                    if turn is None:
                        return
                    head.future.set_result(turn)
                self._queue.popleft()
        except BudgetSpentError as error:
            for waiting in self._queue:
                if not waiting.future.done():
                    waiting.future.set_exception(BudgetSpentError(str(error)))
            self._queue.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    @property
    def _free(self) -> bool:
        return bool(getattr(self.engine, "free", False))

    def _admitted(self, estimate: Estimate, first: bool) -> Turn | None:
        """A turn, if there is one now."""
        if self.budget is not None and not self.budget.admits(estimate.amount):
            return None
        wait = self.limiter.wait()
        if wait > 0:
            self._look_again(wait)
            return None
        if not self.circuit.admits(self.limiter.latest):
            return None
        if self.budget is not None:
            self.budget.reserve(estimate.amount)
        return Turn(self.limiter.start(estimate.tokens), estimate, first)

    def _look_again(self, wait: float) -> None:
        if wait == math.inf:
            return  # whatever ends will look
        due = self.clock() + wait
        if self._alarm is not None and not self._alarm.done():
            if self._due <= due:
                return
            self._alarm.cancel()
        self._due, self._alarm = due, asyncio.create_task(self._wake(wait))

    async def _wake(self, seconds: float) -> None:
        await self.sleep(seconds)
        self._alarm = None
        self.pump()
