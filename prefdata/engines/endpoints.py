"""The addresses of one engine: who is asked next, and who is left aside for a while. No I/O; the clock is injected."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["worked", "failed", "away", "unknown"]
"""How a request to an address ended: it answered; it broke off, was too late or had an internal problem; nobody was
there, or a gateway said so; or nothing was learnt, because whoever asked was cancelled."""

_FIRST_ASIDE, _LONGEST_ASIDE = 1.0, 60.0
_FAILURES_IN_A_ROW = 3
"""One broken connection says little; a server that breaks every one would otherwise look idle, and get them all."""


@dataclass(eq=False)
class Endpoint:
    """One address.

    Attributes:
        url: base_url, without a slash at its end.
        in_flight: requests that it is answering now.
        failures: in a row, of those that do not show at once that it is away.
        episode: how often it was left aside in all.
        times_aside: the same since it last worked.
        aside_until: on the clock; 0 where it is not left aside.
        probing: a request is finding out whether it is back.
    """

    url: str
    in_flight: int = 0
    failures: int = 0
    episode: int = 0
    times_aside: int = 0
    aside_until: float = 0.0
    probing: bool = False


@dataclass(frozen=True, slots=True)
class Visit:
    """One request at one address, and the address's episode when it went there."""

    endpoint: Endpoint
    episode: int


class Endpoints:
    """Spreads requests over addresses: to the one with the fewest in flight; where several have as few, in turn.

    An address that is away is left aside for a second, then two, four, up to a minute. After that one request probes
    it, and only if that works do others follow. Where all are aside, the one whose time is up first is asked: whether
    nobody is left is for the client to say, who sees the errors.

    Args:
        urls: at least one.
        clock: seconds that only grow.
    """

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.all = tuple(Endpoint(url) for url in urls)
        self._clock = clock
        self._turn = 0

    def begin(self, tried: Collection[Endpoint] = ()) -> Visit | None:
        """An address for a request, which counts as in flight there until `end`.

        Args:
            tried: those that this request has been to. None is returned where no other works.
        """
        now = self._clock()
        count = len(self.all)
        order = [self.all[(self._turn + step) % count] for step in range(count)]
        open_ = [one for one in order if one not in tried and _is_open(one, now)]
        if not open_ and tried:
            return None
        chosen = min(open_, key=lambda one: one.in_flight) if open_ else min(order, key=lambda one: one.aside_until)
        self._turn = (self.all.index(chosen) + 1) % count
        chosen.in_flight += 1
        chosen.probing = chosen.times_aside > 0
        return Visit(chosen, chosen.episode)

    def end(self, visit: Visit, outcome: Outcome, wait: float | None = None) -> None:
        """Take note of how a request ended.

        Args:
            visit: as `begin` gave it.
            outcome: see `Outcome`.
            wait: seconds that the server itself asked to be left alone; None where it did not.
        """
        endpoint = visit.endpoint
        endpoint.in_flight -= 1
        if visit.episode != endpoint.episode:
            return  # sent before the address was left aside: that neither prolongs the pause nor ends it
        probed, endpoint.probing = endpoint.times_aside > 0, False
        if outcome == "worked":
            endpoint.failures = endpoint.times_aside = 0
            endpoint.aside_until = 0.0
        elif outcome != "unknown":
            endpoint.failures += 1
            if outcome == "away" or probed or endpoint.failures >= _FAILURES_IN_A_ROW:
                pause = min(_LONGEST_ASIDE, _FIRST_ASIDE * 2 ** min(endpoint.times_aside, 10))
                endpoint.aside_until = self._clock() + max(pause, min(wait or 0.0, _LONGEST_ASIDE))
                endpoint.failures, endpoint.times_aside = 0, endpoint.times_aside + 1
                endpoint.episode += 1


def _is_open(endpoint: Endpoint, now: float) -> bool:
    return not endpoint.times_aside or (now >= endpoint.aside_until and not endpoint.probing)
