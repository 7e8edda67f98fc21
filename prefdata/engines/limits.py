"""When the next request to an engine may start. No I/O, and the clock is injected: it is tested without waiting."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from prefdata.engines.concurrency import Adaptive

_LATE = 0.05
"""Seconds by which a start may miss its time and count as on time: timers are no more exact than that."""

_LOOK_AGAIN = 1.0
_FORGET = 0.98


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One request that was let in.

    Attributes:
        number: of the start, from 1.
        started: on the limiter's clock.
        before: how many others were in flight.
        estimate: tokens, as the caller estimates them.
        charged: tokens that the rate was charged with.
    """

    number: int
    started: float
    before: int
    estimate: float
    charged: float


class Rate:
    """So much in a minute, spread evenly: a provider that counts by the second sees no burst.

    Args:
        per_minute: how much may be started in a minute.
    """

    def __init__(self, per_minute: float) -> None:
        self._seconds = 60.0 / per_minute
        self._next = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until the next start."""
        return max(0.0, self._next - now)

    def charge(self, now: float, amount: float) -> None:
        """Count a start. Idle time is not saved up, but a timer that fires late costs nothing."""
        since = self._next if 0 <= now - self._next < _LATE else max(now, self._next)
        self._next = since + amount * self._seconds

    def correct(self, amount: float) -> None:
        """Charge more, or less, than was thought."""
        self._next += amount * self._seconds


class Limiter:
    """Concurrency, requests and tokens per minute, and the pauses that a server asks for, of one engine.

    Args:
        max_concurrency: how many are in flight at most.
        adaptive: whether to seek how many the server bears; else it is `max_concurrency` throughout.
        rpm: requests started in a minute; None for any number.
        tpm: tokens read and written in a minute; None for any number. A start is charged with an estimate, corrected
            when the answer says what it was; how far estimates are off is learnt, so that a generous `max_tokens` does
            not hold back what comes after.
        clock: seconds that only grow.

    Attributes:
        in_flight: how many are.
        unkept: answers that are not durable yet. They hold their places: a crash loses no more than what may be in
            flight.
        latest: number of the last start.
    """

    def __init__(
        self,
        max_concurrency: int,
        *,
        adaptive: bool = False,
        rpm: float | None = None,
        tpm: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.in_flight = self.unkept = self.latest = 0
        self._most = max(1, max_concurrency)
        self._adaptive = Adaptive(self._most) if adaptive else None
        self._requests = Rate(rpm) if rpm else None
        self._tokens = Rate(tpm) if tpm else None
        self._clock = clock
        self._not_before = self._last_start = -math.inf
        self._used = self._estimated = 0.0

    @property
    def counts_tokens(self) -> bool:
        """Whether estimates of tokens are of any use to it."""
        return self._tokens is not None

    @property
    def places(self) -> int:
        """How many may be in flight now."""
        return self._adaptive.places(self._clock()) if self._adaptive else self._most

    def wait(self) -> float:
        """Seconds until a request may start: 0 at once, infinity once one that holds a place has given it back."""
        if self.in_flight + self.unkept >= self.places:
            return math.inf
        now = self._clock()
        wait = self._not_before - now
        for rate in (self._requests, self._tokens):
            if rate is not None:
                wait = max(wait, rate.wait(now))
        if self._adaptive is not None and (spacing := self._adaptive.spacing(now)):
            wait = max(wait, min(_LOOK_AGAIN, self._last_start + spacing - now))
        return max(0.0, wait)

    def start(self, tokens: float = 0.0) -> Ticket:
        """Let a request in.

        Args:
            tokens: that it is going to read and write, as an estimate.
        """
        now = self._clock()
        charged = tokens * (self._used / self._estimated if self._estimated else 1.0)
        if self._requests is not None:
            self._requests.charge(now, 1.0)
        if self._tokens is not None:
            self._tokens.charge(now, charged)
        self.latest += 1
        ticket = Ticket(self.latest, now, self.in_flight, tokens, charged)
        self.in_flight += 1
        self._last_start = now
        if self._adaptive is not None:
            self._adaptive.started(now, self.in_flight)
        return ticket

    def end(self, ticket: Ticket, tokens: float | None = None, *, timed: bool = False) -> None:
        """Take note of an end, whatever it was.

        Args:
            ticket: of the start.
            tokens: read and written; None where that is not known, and the estimate stands.
            timed: whether its latency says something: it was answered, or timed out.
        """
        now = self._clock()
        if timed and self._adaptive is not None:
            self._adaptive.answered(now, ticket.started, ticket.before)
        self.in_flight -= 1
        if self._tokens is not None and tokens is not None:
            self._tokens.correct(tokens - ticket.charged)
            if tokens > 0 < ticket.estimate:
                self._used = _FORGET * self._used + tokens
                self._estimated = _FORGET * self._estimated + ticket.estimate

    def turned_away(self, ticket: Ticket) -> None:
        """The server says that it is asked too much; to be called before `end`."""
        if self._adaptive is not None:
            self._adaptive.turned_away(self._clock(), ticket.number, self.latest, self.in_flight)

    def pause(self, seconds: float) -> float:
        """Start nothing for so long; returns by how much that prolongs the pause that there is."""
        now = self._clock()
        before = max(now, self._not_before)
        self._not_before = max(before, now + seconds)
        return self._not_before - before
