"""What stops a run: a server that is gone, and `Client.stop`. Hours pass at once: the time is virtual."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from fake_engine import Fake, ask_many, client, failing, kinds, question, run
from virtual_time import clock

from prefdata.engines.base import Reply, Request, RequestError
from prefdata.engines.cache import RequestCache
from prefdata.engines.client import Client
from prefdata.engines.errors import StoppedError, UnreachableError
from prefdata.engines.gate import Estimate
from prefdata.errors import EngineError


def gone(number: int) -> Reply:
    raise UnreachableError("nobody answers at http://127.0.0.1:1", retriable=True)


@pytest.mark.parametrize("at_once", [1, 64])
def test_a_server_that_is_gone_stops_the_run_within_seconds(at_once: int) -> None:
    engine = Fake(gone, max_concurrency=at_once)
    asking = client(engine)

    async def ask_all() -> tuple[list[Any], float]:
        return await ask_many(asking, 200), clock() - engine.times[0]

    outcomes, seconds = run(ask_all())
    assert set(kinds(outcomes)) == {"EngineError"}, "no row says failed of what nobody saw"
    assert 5 < seconds < 10
    # From the second failure on one request at a time asks whether somebody is back.
    assert len(engine.asked) <= 2 * at_once + 5
    sentence = str(outcomes[0])
    assert "engine 'fake' (fake-1) is gone" in sentence and "127.0.0.1:1" in sentence
    assert "Nothing is lost" in sentence and "run the same command again" in sentence
    before = len(engine.asked)
    with pytest.raises(EngineError, match="is gone"):
        run(asking.ask("fake", question("another"), step="s"))
    assert before == len(engine.asked)


def test_a_server_that_was_there_gets_half_a_minute_to_come_back() -> None:
    down = {"from": 1.0, "to": 21.0}

    class Restarts(Fake):
        async def ask(self, request: Request) -> Reply:
            self.asked.append(request)
            now = clock() - 1000.0
            if down["from"] <= now < down["to"]:
                gone(0)
            await asyncio.sleep(0.2)
            return Reply(text="here")

    engine = Restarts(max_concurrency=8)
    assert set(kinds(run(ask_many(client(engine), 400)))) == {"ok"}
    assert 400 < len(engine.asked) < 450
    down["to"] = 1e9
    assert set(kinds(run(ask_many(client(Restarts(max_concurrency=8)), 400)))) == {"ok", "EngineError"}


def test_one_answer_in_between_says_that_the_server_is_there() -> None:
    def gone_but_for_the_third(number: int) -> Reply:
        if number % 3 == 0:
            return Reply(text="here")
        return gone(number)

    asking = client(Fake(gone_but_for_the_third))
    assert set(kinds(run(ask_many(asking, 40)))) == {"ok"}


def server_error(number: int = 0) -> Reply:
    raise RequestError("the server answered 502: bad gateway", retriable=True, code=502)


@pytest.mark.parametrize("at_once", [1, 64])
def test_a_server_that_gives_nothing_but_errors_stops_the_run_after_a_minute(at_once: int) -> None:
    engine = Fake(server_error, max_concurrency=at_once)
    engine.latency = 0.05

    async def ask_all() -> tuple[list[Any], float]:
        asking, begun = client(engine), clock()
        outcomes: list[Any] = []
        waiting = list(range(2000))

        async def worker() -> None:
            while waiting and not any(isinstance(outcome, Exception) for outcome in outcomes):
                outcomes.extend(await ask_many(asking, 1, waiting.pop()))

        await asyncio.gather(*(worker() for _ in range(at_once)))
        return outcomes, clock() - begun

    outcomes, seconds = run(ask_all())
    assert 60 <= seconds < 75
    stopped = [str(outcome) for outcome in outcomes if isinstance(outcome, EngineError)]
    assert stopped and "nothing but errors for 6" in stopped[0] and "502: bad gateway" in stopped[0]


def test_a_burst_of_errors_while_others_succeed_stops_nothing() -> None:
    engine = Fake(lambda number: server_error() if number % 20 else Reply(text="one in twenty"))
    engine.latency = 0.5
    outcomes = run(ask_many(client(engine, attempts=3), 1000))
    assert set(kinds(outcomes)) == {"ok", "failed"}


def test_prompts_that_break_the_server_each_time_stop_nothing_when_only_they_are_left() -> None:
    """A run that asks again what failed in the last one: thirty prompts that always give a 500, all at once."""
    engine = Fake(server_error, max_concurrency=32)
    engine.latency = 10.0
    assert kinds(run(ask_many(client(engine), 30))) == ["failed"] * 30

    class Poisoned(Fake):
        async def ask(self, request: Request) -> Reply:
            await super().ask(request)
            number = int(request.messages[0]["content"].split()[-1])
            return server_error() if number % 9 == 0 else Reply(text="fine")

    tail = Poisoned(max_concurrency=32)
    tail.latency = 20.0  # those that fail are left over for minutes after the last answer
    outcomes = kinds(run(ask_many(client(tail), 100)))
    assert outcomes == ["failed" if n % 9 == 0 else "ok" for n in range(100)]


def test_an_answer_to_one_request_alone_says_that_the_server_is_there() -> None:
    """Half of the prompts are too long, the other half break the server, for minutes."""

    def behave(number: int) -> Reply:
        if number % 2:
            raise RequestError("the server answered 400: too long", code=400)
        return server_error()

    engine = Fake(behave, max_concurrency=2)
    engine.latency = 2.0
    assert set(kinds(run(ask_many(client(engine), 100)))) == {"failed"}


def test_a_pause_that_the_server_asks_for_is_no_sign_that_it_is_gone() -> None:
    class Loading(Fake):
        async def ask(self, request: Request) -> Reply:
            await super().ask(request)
            if clock() < 1130.0:
                raise RequestError("503", retriable=True, code=503, retry_after=40.0)
            return Reply(text="loaded")

    async def ask_all() -> list[Any]:
        first = asyncio.create_task(ask_many(asking, 3))
        await asyncio.sleep(1.0)
        return [*await ask_many(asking, 20, 3), *await first]

    engine = Loading(max_concurrency=64)
    engine.latency = 0.1
    asking = client(engine)
    assert set(kinds(run(ask_all()))) == {"ok"}


def test_who_should_find_out_whether_the_server_is_back_may_be_broken_off() -> None:
    def behave(number: int) -> Reply:
        if number <= 2:
            return gone(number)
        if number == 3:
            raise ValueError("a mistake in the engine")
        return Reply(text="here")

    engine = Fake(behave, max_concurrency=1)
    outcomes = run(asyncio.wait_for(ask_many(client(engine), 6), 100))
    assert sorted(kinds(outcomes)) == ["ValueError"] + ["ok"] * 5


def test_a_turn_that_comes_to_somebody_who_has_left_goes_to_the_next() -> None:
    async def leave_at_the_last_moment() -> int:
        gate = client(engine)._gate("fake", engine)
        turn = await gate.enter(Estimate(), first=True)
        waiting = asyncio.create_task(gate.enter(Estimate(), first=True))
        await asyncio.sleep(0)
        gate.leave(turn)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return gate.limiter.in_flight

    engine = Fake(max_concurrency=1)
    assert run(leave_at_the_last_moment()) == 0


def test_a_spent_quota_stops_the_run_after_five_minutes() -> None:
    def busy(number: int) -> Reply:
        raise RequestError("the server answered 429: quota", retriable=True, code=429, retry_after=None)

    engine = Fake(busy, max_concurrency=4)

    async def ask_all() -> float:
        asking, begun = client(engine, attempts=4), clock()
        for number in range(10_000):
            outcomes = await ask_many(asking, 4, 4 * number)
            if "EngineError" in kinds(outcomes):
                break
        return clock() - begun

    assert 300 <= run(ask_all()) < 330


def test_stop_ends_every_wait_at_once_and_keeps_what_is_in_flight(tmp_path: Path) -> None:
    class Kinds(Fake):
        async def ask(self, request: Request) -> Reply:
            name = request.messages[0]["content"]
            self.asked.append(request)
            if name.startswith("fails"):
                raise RequestError("broken", retriable=True, code=500)
            await asyncio.sleep(5)
            return Reply(text="in time")

    engine, cache = Kinds(max_concurrency=3), RequestCache(tmp_path)
    asking = client(engine, cache, attempts=50)

    async def ask_and_stop() -> tuple[list[Any], float, float]:
        names = ["fails", *(f"works {n}" for n in range(9))]
        tasks = [asyncio.create_task(asking.ask("fake", question(name), step="s")) for name in names]
        await asyncio.sleep(4)
        begun = clock()
        asking.stop()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        at_once = clock() - begun
        return await asyncio.gather(*tasks, return_exceptions=True), at_once, clock() - begun

    outcomes, at_once, in_all = run(ask_and_stop())
    assert at_once < 0.01 and 1.0 <= in_all < 1.2
    found = kinds(outcomes)
    assert found[0] == "StoppedError" and found.count("ok") == 3 and found.count("StoppedError") == 7
    assert cache.stats().replies == 3
    with pytest.raises(StoppedError):
        run(asking.ask("fake", question("another"), step="s"))
    answered = next(n for n, status in enumerate(found) if status == "ok")
    assert run(asking.ask("fake", question(f"works {answered - 1}"), step="s")).cached


@pytest.mark.parametrize("wait", ["Retry-After", "rpm", "queue"])
def test_stop_cuts_long_waits_short(wait: str) -> None:
    behave = failing(RequestError("slow down", retriable=True, retry_after=500.0)) if wait == "Retry-After" else None
    engine = Fake(behave, max_concurrency=1, rpm=0.1 if wait == "rpm" else None)
    engine.latency = 400.0 if wait == "queue" else 0.0
    asking = client(engine)

    async def ask_and_stop() -> float:
        tasks = [asyncio.create_task(asking.ask("fake", question(str(n)), step="s")) for n in range(3)]
        await asyncio.sleep(1)
        asking.stop()
        begun = clock()
        outcomes = await asyncio.gather(*tasks[1:], return_exceptions=True)
        assert kinds(outcomes) == ["StoppedError"] * 2
        return clock() - begun

    assert run(ask_and_stop()) == 0


def test_stop_may_come_from_another_thread() -> None:
    def stopped_while_in_flight(number: int) -> Reply:
        elsewhere = threading.Thread(target=asking.stop)
        elsewhere.start()
        elsewhere.join()
        return Reply(text="in time")

    asking = Client({"fake": Fake(stopped_while_in_flight, max_concurrency=1, rpm=1)}, None, "d1")
    assert kinds(asyncio.run(ask_many(asking, 4))) == ["ok"] + ["StoppedError"] * 3


def test_closing_sends_nothing_new() -> None:
    engine = Fake(max_concurrency=1)
    engine.latency = 1.0
    asking = client(engine)

    async def leave() -> None:
        tasks = [asyncio.create_task(asking.ask("fake", question(str(n)), step="s")) for n in range(5)]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asking.close()

    run(leave())
    assert len(engine.asked) == 1 and asking.usage.calls == 1


def test_a_cancelled_call_gives_its_place_back() -> None:
    engine = Fake(max_concurrency=1)
    engine.latency = 1.0
    asking = client(engine)

    async def cancel_and_ask() -> Any:
        first = asyncio.create_task(asking.ask("fake", question("a"), step="s"))
        await asyncio.sleep(0.5)
        next(iter(asking._running.values())).cancel()
        await asyncio.gather(first, return_exceptions=True)
        return await asking.ask("fake", question("b"), step="s")

    assert run(cancel_and_ask()).status == "ok"
