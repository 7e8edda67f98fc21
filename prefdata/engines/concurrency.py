"""How many requests a server bears at once, found by asking it. Arithmetic only: the time is an argument."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, variance

FIRST = 8
"""How many are in flight before anything is known."""

_LOOKS = (32, 64, 128)
"""After so many latencies a level is judged. Not more often: each look is one more chance to be wrong."""

_LEAST = 8
"""Latencies that the level below needs."""

_CONTRAST, _GAIN = math.log(1.6), math.log(1.15)
"""A level is compared with one of at most 1/1.6 of its concurrency, and is to answer 1.15 times as much a second."""

_PATIENCE, _FIRST_PATIENCE, _LONGEST_PATIENCE = 10.0, 1.0, 600.0
"""The first time it goes back for so many latencies, or seconds at least; each next time for twice as long, up to."""

_RECOVERY, _ROUND_TRIPS = 4.0, 8.0


class Adaptive:
    """A number in flight that grows while that makes the server answer more, and is halved when it asks for less.

    - *Growth.* Each answer admits one request more, if all places were taken while it was under way, so that the
      number doubles with every round trip (slow start).
    - *No gain.* By Little's law a server with n in flight answers n / latency requests a second. Latencies are kept by
      level (the power of two that n lies in); where they say, by more than one standard error, that hardly more is
      answered than one level below, growth is halted, and if requests that start from then on say so too (one bad
      moment makes everything slow that is in flight), the number goes back there for a while. Then twice that is tried.
      So a server whose latency grows more slowly than its load, as one that batches does, is not held back. Geometric
      means are compared: answers differ in length by orders of magnitude.
    - *Cut.* Being turned away (429, 503) halves it, once for all requests that were under way. It recovers along the
      cubic of RFC 9438, W(t) = W (1 + ((t - K) / K)^3 / 2), which starts at W / 2, is level around W, where the server
      turned us away, and gets steep where it does not any more. Until then starts are spread evenly over the latency:
      a burst into a server that counts requests by the second would be turned away again.

    Args:
        most: never more than this.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._window = float(min(FIRST, most))
        self._full_at = -math.inf
        self._ceiling, self._reopened = float(most), math.inf
        self._setbacks, self._patience = 0, _FIRST_PATIENCE
        self._doubt: _Doubt | None = None
        self._cut_at: float | None = None
        self._cut_from = 0.0
        self._cut_number = -1
        self._levels: dict[int, deque[_Timed]] = {}
        self._taken: Counter[int] = Counter()
        self._recent: deque[float] = deque(maxlen=32)
        self._typical: float | None = None

    def limit(self, now: float) -> float:
        """How many may be in flight, at least 1. Not whole while it recovers."""
        if now >= self._reopened:
            self._ceiling = min(float(self.most), 2 * self._ceiling)
            self._reopened = now + self._patience if self._ceiling < self.most else math.inf
            self._taken.clear()
        if self._cut_at is not None:
            k = max(_RECOVERY, _ROUND_TRIPS * (self._typical or 0.0))
            self._window = self._cut_from * (1 + ((now - self._cut_at - k) / k) ** 3 / 2)
            if self._window >= self.most:
                self._cut_at, self._window = None, float(self.most)
        return max(1.0, min(self._window, self._ceiling))

    def places(self, now: float) -> int:
        """The same, whole."""
        limit = self.limit(now)
        # While it recovers, `spacing` keeps the average at the limit, so that the last place may be a part of one.
        return math.ceil(limit) if self._cut_at is not None else int(limit)

    def spacing(self, now: float) -> float:
        """Seconds between two starts, 0 for none."""
        if self._cut_at is None or self._typical is None:
            return 0.0
        return self._typical / self.limit(now)

    def started(self, now: float, in_flight: int) -> None:
        """Take note of a start.

        Args:
            now: the time.
            in_flight: how many are, with it.
        """
        if in_flight >= int(self.limit(now)):
            self._full_at = now

    def answered(self, now: float, started: float, before: int) -> None:
        """Take note of an answer, or of a timeout, which is slow as well.

        Args:
            now: the time.
            started: when it was.
            before: how many others were in flight then.
        """
        latency = now - started
        self._recent.append(latency)
        if self._cut_at is not None:
            self._typical = median(self._recent)
        if self._full_at >= started and self._cut_at is None and self._window < self._ceiling:
            self._window += 1
        timed = _Timed(now, math.log(max(latency, 1e-6)), math.log(before + 1))
        if self._doubt is not None:
            self._confirm(now, started, timed, self._doubt)
        elif before < self._ceiling:  # else it was started before the number went back
            level = before.bit_length()
            self._levels.setdefault(level, deque(maxlen=_LOOKS[-1])).append(timed)
            self._taken[level] += 1
            if self._taken[level] in _LOOKS and level >= FIRST.bit_length():
                self._judge(now, level)

    def turned_away(self, now: float, number: int, latest: int, in_flight: int) -> None:
        """Halve the limit.

        Args:
            now: the time.
            number: of the request that was turned away, in the order of starts.
            latest: number of the last one that was started.
            in_flight: how many are, with it.
        """
        if number <= self._cut_number:
            return
        self._cut_number = latest
        self._cut_from = max(1.0, min(self.limit(now), float(in_flight)))
        self._cut_at = now
        self._typical = median(self._recent) if self._recent else None

    def _judge(self, now: float, level: int) -> None:
        """Compare a level with the one below."""
        gain = self._gain(now, list(self._levels[level]), level - 1)
        if gain is None:
            return
        least, most = gain
        if most < _GAIN:
            self._doubt, self._reopened = _Doubt(level - 1, now), math.inf
            self._ceiling = min(self._ceiling, max(1.0, self._window))
        elif least >= _GAIN:
            self._ceiling, self._reopened, self._setbacks = float(self.most), math.inf, 0

    def _confirm(self, now: float, started: float, timed: _Timed, doubt: _Doubt) -> None:
        """Compare what was started after the doubt arose; go back, or go on."""
        if started < doubt.since or math.exp(timed.in_flight) <= 2**doubt.below:
            return
        doubt.fresh.append(timed)
        if len(doubt.fresh) < _LOOKS[0]:
            return
        gain = self._gain(now, doubt.fresh, doubt.below)
        self._doubt = None
        self._taken.clear()
        if gain is None or gain[1] >= _GAIN:
            self._ceiling, self._reopened = float(self.most), math.inf
            return
        self._ceiling = float(2**doubt.below)
        self._window = min(self._window, self._ceiling)
        latency = math.exp(fmean(one.latency for one in doubt.fresh))
        self._patience = min(_LONGEST_PATIENCE, max(_FIRST_PATIENCE, _PATIENCE * latency) * 2.0**self._setbacks)
        self._reopened = now + self._patience
        self._setbacks += 1
        self._levels = {level: kept for level, kept in self._levels.items() if level <= doubt.below}

    def _gain(self, now: float, above: Sequence[_Timed], level: int) -> tuple[float, float] | None:
        """How much more is answered a second than at a level below, as a logarithm, one standard error either way.

        None where the two cannot be compared.
        """
        # What was measured long ago may have been another kind of request, or another hour of the day.
        oldest = now - 5.0 - 20.0 * math.exp(fmean(one.latency for one in above))
        below = [one for one in self._levels.get(level, ()) if one.ended >= oldest]
        if len(below) < _LEAST:
            return None
        contrast = fmean(one.in_flight for one in above) - fmean(one.in_flight for one in below)
        if contrast < _CONTRAST:
            return None
        slower, error = _difference([one.latency for one in above], [one.latency for one in below])
        return contrast - slower - error, contrast - slower + error


@dataclass(frozen=True, slots=True)
class _Timed:
    """When an answer came, the logarithm of its latency, and that of how many were in flight, with it."""

    ended: float
    latency: float
    in_flight: float


@dataclass(slots=True)
class _Doubt:
    """That more in flight is of use: since when, compared with which level, and what was started from then on."""

    below: int
    since: float
    fresh: list[_Timed] = field(default_factory=list)


def _difference(above: Sequence[float], below: Sequence[float]) -> tuple[float, float]:
    """How much the mean of the first is higher, and the standard error of that (Welch)."""
    error = math.sqrt(variance(above) / len(above) + variance(below) / len(below))
    return fmean(above) - fmean(below), error
