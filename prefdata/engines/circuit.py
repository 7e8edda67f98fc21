"""When a server counts as gone, so that the run stops. No I/O, and the clock is injected."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from prefdata.errors import EngineError

_ROUNDS, _ROUNDS_ONCE_THERE = 6, 9
"""Refusals in a row, each of a request that was started after the one before, until a server is gone. One that had
answered in this run gets half a minute to come back; one that never did, a few seconds."""

_NEW_REQUESTS = 5
_WINDOW, _WINDOW_BUSY = 60.0, 300.0


class Circuit:
    """Tells a server that is gone from one that has a bad moment, and from requests that fail by themselves.

    - *Nobody there*: refused or unresolvable, several times in a row. However many requests fail together, they count
      once: what counts next is the failure of a request that was started afterwards. From the second round on only one
      request at a time finds out whether the server is back.
    - *Nothing but errors*: for a minute (five, where they all were 429: a spent quota) every attempt has failed in a
      way that another attempt might not, among them those of five requests that were new after the first such failure.
      That they be new spares a prompt that breaks the server each time, when it and its like are all that is left.

    Any answer, also a refusal of one request (400), says that the server is there, and both begin anew.

    Args:
        server: what it is called in the sentence: engine, model and address.
        clock: seconds that only grow.

    Attributes:
        broken: why the run has to stop; None as long as it need not.
        rounds: of finding nobody, in a row.
    """

    def __init__(self, server: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.broken: EngineError | None = None
        self.rounds = 0
        self._server, self._clock = server, clock
        self._seen = False
        self._counted = 0
        self._since = math.inf
        self._excused = 0.0
        self._attempts = self._new = 0
        self._only_busy = True

    def admits(self, latest: int) -> bool:
        """Whether one more may start.

        Args:
            latest: number of the last start.
        """
        return self.rounds < 2 or latest == self._counted

    def reached(self) -> None:
        """The server answered something that an answer may be."""
        self._seen = True
        self.rounds = 0
        self._since = math.inf

    def nobody(self, number: int, latest: int, message: str) -> bool:
        """Nobody was there.

        Args:
            number: of the request, in the order of starts.
            latest: number of the last start.
            message: what was found, with the address.

        Returns:
            Whether this is news: a round more.
        """
        if number <= self._counted:
            return False
        self._counted = latest
        self.rounds += 1
        if self.rounds >= (_ROUNDS_ONCE_THERE if self._seen else _ROUNDS):
            self.broken = EngineError(
                f"the server of {self._server} is gone: {self.rounds} times in a row nobody was there ({message}). "
                "Nothing is lost: start the server, or correct the address, and run the same command again"
            )
        return True

    def troubled(self, number: int, started: float, message: str, *, new: bool, busy: bool) -> None:
        """An attempt failed in a way that another might not.

        Args:
            number: of the request, in the order of starts.
            started: when it was, on the clock.
            message: what was found.
            new: it was the request's first attempt.
            busy: the server said that it is asked too much (429).
        """
        if number > self._counted:
            self.rounds = 0  # whatever is wrong now, somebody is there
        now = self._clock()
        if self._since == math.inf:
            self._since, self._excused, self._attempts, self._new, self._only_busy = now, 0.0, 0, 0, True
        self._attempts += 1
        self._new += new and started > self._since
        self._only_busy = self._only_busy and busy
        lasted = now - self._since - self._excused
        if self._new >= _NEW_REQUESTS and lasted >= (_WINDOW_BUSY if self._only_busy else _WINDOW):
            self.broken = EngineError(
                f"the server of {self._server} has given nothing but errors for {lasted:.0f} seconds "
                f"({self._attempts} attempts; the last: {message}). What was answered is kept: put the server right "
                "and run the same command again"
            )

    def abandoned(self, number: int, latest: int) -> None:
        """Nothing was learnt from a request: it was broken off. If it was to find out, the next one does."""
        if number > self._counted:
            self._counted = latest

    def paused(self, seconds: float) -> None:
        """The server asked for a pause, or for a longer one, which is no part of the minute."""
        self._excused += seconds
