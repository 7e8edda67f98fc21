"""How many requests start, and when: by hand with a clock that is set, and against servers in virtual time."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import clock, simulate

from prefdata.engines.base import Reply, Request, RequestError
from prefdata.engines.client import Client
from prefdata.engines.concurrency import FIRST
from prefdata.engines.limits import Limiter, Rate, Ticket
from prefdata.engines.registry import BaseEngine, EngineConfig
from prefdata.engines.scripted import ScriptedConfig, ScriptedEngine


class Hand:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def fill(limiter: Limiter) -> list[Ticket]:
    """Start as many as may be in flight."""
    started = []
    while limiter.wait() == 0:
        started.append(limiter.start())
    return started


def test_a_fixed_number_is_in_flight_throughout() -> None:
    hand = Hand()
    limiter = Limiter(3, clock=hand)
    first = fill(limiter)
    assert len(first) == 3 and limiter.wait() == math.inf
    limiter.turned_away(first[0])
    limiter.end(first[0])
    assert limiter.in_flight == 2 and limiter.places == 3 and limiter.wait() == 0


def test_it_starts_small_and_doubles_with_each_round_trip() -> None:
    hand = Hand()
    limiter = Limiter(100, adaptive=True, clock=hand)
    seen = []
    for _ in range(6):
        started = fill(limiter)
        seen.append(len(started))
        hand.now += 0.5
        for ticket in started:
            limiter.end(ticket, timed=True)
    assert seen == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST, 100, 100]


def test_it_does_not_grow_while_places_are_free() -> None:
    hand = Hand()
    limiter = Limiter(100, adaptive=True, clock=hand)
    for _ in range(50):
        ticket = limiter.start()
        hand.now += 0.5
        limiter.end(ticket, timed=True)
    assert limiter.places == FIRST


def test_being_turned_away_halves_once_for_all_that_were_under_way() -> None:
    hand = Hand()
    limiter = Limiter(16, adaptive=True, clock=hand)
    for _ in range(2):
        started = fill(limiter)
        hand.now += 1.0
        for ticket in started[:-1]:
            limiter.end(ticket, timed=True)
        limiter.end(started[-1], timed=True)
    assert limiter.places == 16
    hand.now += 1.0
    started = fill(limiter)
    for ticket in started:
        limiter.turned_away(ticket)
        limiter.end(ticket)
    assert limiter.places == 8
    after = limiter.start()
    limiter.turned_away(after)
    limiter.end(after)
    assert limiter.places == 1, "one was in flight, and it was one too many"


def test_it_recovers_along_the_cubic() -> None:
    """W(t) = W (1 + ((t - K) / K)^3 / 2) with W = 16 and K = 8 latencies of 1 second."""
    hand = Hand()
    limiter = Limiter(64, adaptive=True, clock=hand)
    for _ in range(2):
        started = fill(limiter)
        hand.now += 1.0
        for ticket in started:
            limiter.end(ticket, timed=True)
    started = [limiter.start() for _ in range(16)]
    limiter.turned_away(started[0])
    for after, expected in [(0, 8), (4, 15), (8, 16), (12, 17), (16, 24), (20, 43), (22, 59), (24, 64)]:
        hand.now = 2.0 + after
        assert limiter.places == expected, after


def test_after_a_cut_starts_are_spread_over_the_latency() -> None:
    hand = Hand()
    limiter = Limiter(8, adaptive=True, clock=hand)
    started = fill(limiter)
    hand.now += 1.0
    for ticket in started[:-1]:
        limiter.end(ticket, timed=True)
    limiter.turned_away(started[-1])
    limiter.end(started[-1])
    assert limiter.places == 1  # one was in flight when it was turned away
    ticket = limiter.start()
    limiter.end(ticket)
    assert limiter.wait() == pytest.approx(1.0)
    hand.now += 1.0
    assert limiter.wait() == 0


def test_a_pause_holds_for_everyone_and_the_longer_one_stands() -> None:
    hand = Hand()
    limiter = Limiter(4, clock=hand)
    assert limiter.pause(10.0) == 10.0
    assert limiter.pause(4.0) == 0.0
    assert limiter.pause(12.0) == 2.0
    assert limiter.wait() == 12.0
    hand.now = 12.0
    assert limiter.wait() == 0


@given(
    per_minute=st.floats(1, 1e5),
    amounts=st.lists(st.floats(0.1, 50), min_size=2, max_size=60),
    idle=st.lists(st.floats(0, 5), min_size=60, max_size=60),
)
def test_no_minute_holds_more_than_the_rate_and_the_last_start(
    per_minute: float, amounts: list[float], idle: list[float]
) -> None:
    rate, now, starts = Rate(per_minute), 0.0, list[tuple[float, float]]()
    for amount, pause in zip(amounts, idle, strict=False):
        now += pause + rate.wait(now + pause)
        rate.charge(now, amount)
        starts.append((now, amount))
    for place, (begin, _) in enumerate(starts):
        within = [amount for time, amount in starts[place:] if time < begin + 60.0]
        # The last start may be as large as it likes; 50 ms of lateness is forgiven.
        assert sum(within[:-1]) <= per_minute * (60.0 + 0.06) / 60.0 + 1e-6


def test_a_late_timer_costs_nothing_but_idle_time_is_not_saved_up() -> None:
    rate = Rate(60.0)
    for number in range(10):
        assert rate.wait(number + 0.01) == 0.0
        rate.charge(number + 0.01, 1.0)
    rate.charge(100.0, 1.0)
    assert rate.wait(100.0) == 1.0


def test_tokens_are_charged_by_estimate_and_corrected_by_the_answer() -> None:
    hand = Hand()
    limiter = Limiter(100, tpm=6000, clock=hand)  # 100 a second
    first = limiter.start(1000)
    assert limiter.wait() == pytest.approx(10.0)
    hand.now = 1.0
    limiter.end(first, 150, timed=True)
    assert limiter.wait() == pytest.approx(0.5)
    hand.now = 2.0
    second = limiter.start(1000)
    assert second.charged == pytest.approx(150), "how far the estimate is off was learnt"
    limiter.end(second, 500)
    assert limiter.wait() == pytest.approx(5.0)
    third = limiter.start(1000)
    limiter.end(third, 0)
    assert limiter.wait() == pytest.approx(5.0), "what failed before the model saw it costs nothing"
    fourth = limiter.start(1000)
    limiter.end(fourth)
    assert limiter.wait() == pytest.approx(5.0 + fourth.charged / 100), "of what timed out nobody knows"


class Server(BaseEngine):
    """A server in virtual time."""

    capabilities = frozenset({"generate"})
    model = "server"
    adaptive = True

    def __init__(self, behave: Callable[[Server], Awaitable[None]], **fields: object) -> None:
        super().__init__("server", EngineConfig.model_validate(fields))
        self.behave = behave
        self.in_flight = self.most = self.rejected = 0
        self.seen: list[int] = []

    def identify(self) -> str:
        return "server"

    async def ask(self, request: Request) -> Reply:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        self.seen.append(self.in_flight)
        try:
            await self.behave(self)
        except RequestError:
            self.rejected += 1
            raise
        finally:
            self.in_flight -= 1
        return Reply(text="answer", prompt_tokens=1, completion_tokens=1)


def seconds(server: Server, count: int) -> float:
    """How long it takes to have so many requests answered; all of them are."""

    async def ask_all() -> float:
        asking, begun = Client({"server": server}, None, "d1", clock=clock), clock()
        answers = await asyncio.gather(
            *(
                asking.ask("server", Request("generate", ({"role": "user", "content": str(n)},)), step="s")
                for n in range(count)
            )
        )
        assert {answer.status for answer in answers} == {"ok"}
        return clock() - begun

    return simulate(ask_all())


@pytest.mark.parametrize(("latency", "at_once"), [(0.05, 32), (2.0, 64), (0.05, 256)])
def test_the_ramp_costs_a_fast_server_little(latency: float, at_once: int) -> None:
    async def answer(server: Server) -> None:
        await asyncio.sleep(latency)

    count = 40 * at_once
    assert seconds(Server(answer, max_concurrency=at_once), count) <= (40 + 5) * latency


def test_long_and_short_answers_do_not_look_like_a_slow_server() -> None:
    lengths = random.Random(1)

    async def answer(server: Server) -> None:
        await asyncio.sleep(lengths.lognormvariate(0, 1))

    server = Server(answer, max_concurrency=128)
    seconds(server, 4000)
    assert sorted(server.seen)[len(server.seen) // 2] == 128


def test_a_server_that_batches_is_not_held_back() -> None:
    """Its latency grows by 3% with each request in flight, and so does what it answers a second."""

    async def answer(server: Server) -> None:
        await asyncio.sleep(1 + 0.03 * server.in_flight)

    server = Server(answer, max_concurrency=128)
    seconds(server, 3000)
    assert sorted(server.seen)[len(server.seen) // 2] == 128


def test_a_server_that_only_queues_is_not_flooded() -> None:
    """Four at a time, one second each: more than a few in flight make it no faster, and bring timeouts nearer."""

    async def answer(server: Server) -> None:
        async with working:
            await asyncio.sleep(1)

    working = asyncio.Semaphore(4)
    server = Server(answer, max_concurrency=256)
    assert seconds(server, 2000) < 505
    assert sorted(server.seen)[len(server.seen) // 2] <= 32 and server.most <= 128
    working = asyncio.Semaphore(4)
    fixed = Server(answer, max_concurrency=256, adaptive=False)
    seconds(fixed, 2000)
    assert fixed.most == 256, "the control: without it the queue is as long as it may be"


def token_bucket(
    per_second: float, size: float, latency: float, wait: float | None
) -> Callable[[Server], Awaitable[None]]:
    """A server that admits so many a second, and so many at once after a pause; it says 429 to the others."""
    full, last = size, -math.inf

    async def answer(server: Server) -> None:
        nonlocal full, last
        full, last = min(size, full + (clock() - max(last, 0.0)) * per_second), clock()
        if full < 1:
            raise RequestError("429", retriable=True, code=429, retry_after=wait)
        full -= 1
        await asyncio.sleep(latency)

    return answer


@pytest.mark.parametrize(("size", "wait", "slack"), [(50, 1.0, 1.15), (50, None, 1.15), (5, None, 1.3), (5, 1.0, 2.0)])
def test_a_storm_of_429_ends_close_below_the_rate_that_is_admitted(
    size: float, wait: float | None, slack: float
) -> None:
    count, rate = 2000, 50.0
    server = Server(token_bucket(rate, size, 0.05, wait), max_concurrency=64)
    assert seconds(server, count) <= slack * count / rate
    assert server.rejected < count / 20
    fixed = Server(token_bucket(rate, size, 0.05, wait), max_concurrency=64, adaptive=False)
    if size == 5:
        with pytest.raises(AssertionError):  # the control: what is turned away five times has failed
            seconds(fixed, count)


def test_a_server_with_so_many_places_is_kept_nearly_full() -> None:
    async def answer(server: Server) -> None:
        if server.in_flight > 10:
            raise RequestError("503", retriable=True, code=503)
        await asyncio.sleep(1)

    server = Server(answer, max_concurrency=64)
    assert seconds(server, 1000) <= 1.3 * 100
    assert server.rejected < 40


@settings(max_examples=60, deadline=None)
@given(
    most=st.integers(1, 200),
    steps=st.lists(
        st.tuples(st.floats(0, 20), st.sampled_from(["answered", "failed", "turned away", "pause"])), max_size=200
    ),
)
def test_there_are_always_between_one_and_all_places(most: int, steps: list[tuple[float, str]]) -> None:
    hand = Hand()
    limiter = Limiter(most, adaptive=True, clock=hand)
    running: list[Ticket] = []
    for passed, what in steps:
        running += fill(limiter) if len(running) < 300 else []
        assert 1 <= limiter.places <= most and limiter.in_flight == len(running)
        assert limiter.wait() >= 0
        hand.now += passed
        if what == "pause":
            limiter.pause(passed)
        elif running:
            ticket = running.pop(0)
            if what == "turned away":
                limiter.turned_away(ticket)
            limiter.end(ticket, timed=what == "answered")
    for ticket in running:
        limiter.end(ticket)
    hand.now += 1e6
    assert limiter.wait() == 0, "nothing waits for ever"


def test_engines_in_this_process_are_not_throttled_unless_told() -> None:
    assert ScriptedEngine().adaptive is False
    assert BaseEngine("e", EngineConfig(adaptive=True)).adaptive is True
    assert Server(lambda server: asyncio.sleep(0), adaptive=False).adaptive is False


def test_what_only_steers_changes_no_identity() -> None:
    plain = ScriptedEngine().identity
    assert plain == "scripted:scripted@f99d0be78547", "every cache of answers made with it would be asked again"
    assert ScriptedEngine("s", ScriptedConfig(adaptive=True, tpm=100, rpm=5)).identity == plain
