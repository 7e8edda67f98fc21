"""Several addresses of one engine: who is asked, who is left aside, and when nobody is left."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from fault_server import FaultServer
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prefdata.engines import Client, UnreachableError, engine_from_config
from prefdata.engines.base import Request, RequestError
from prefdata.engines.endpoints import Endpoint, Endpoints, Visit
from prefdata.engines.openai_http import OpenAIEngine
from prefdata.errors import EngineError, PipelineError


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-0123456789abcdef")


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def went(endpoints: Endpoints, tried: list[Endpoint] | None = None) -> Visit:
    visit = endpoints.begin(tried or [])
    assert visit is not None
    return visit


def names(endpoints: Endpoints, times: int) -> str:
    """Where so many requests go, each answered before the next."""
    said = ""
    for _ in range(times):
        visit = went(endpoints)
        said += visit.endpoint.url
        endpoints.end(visit, "worked")
    return said


def test_the_one_with_the_fewest_in_flight_is_next_and_ties_go_in_turn() -> None:
    endpoints = Endpoints(["a", "b", "c"])
    assert names(endpoints, 6) == "abcabc"
    first = [went(endpoints) for _ in range(5)]
    assert [visit.endpoint.url for visit in first] == ["a", "b", "c", "a", "b"]
    for visit in first:
        if visit.endpoint.url == "a":
            endpoints.end(visit, "worked")
    # In flight: a 0, b 2, c 1.
    assert [went(endpoints).endpoint.url for _ in range(3)] == ["a", "c", "a"]


def test_who_is_away_is_left_aside_for_longer_each_time_and_probed_by_one() -> None:
    clock = Clock()
    endpoints = Endpoints(["a", "b"], clock)
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        visit = went(endpoints)
        assert visit.endpoint.url == "a", "the probe"
        assert names(endpoints, 3) == "bbb", "one probe at a time"
        endpoints.end(visit, "away")
        clock.now += pause - 0.01
        assert names(endpoints, 3) == "bbb"
        clock.now += 0.02
        endpoints._turn = 0
    visit = went(endpoints)
    endpoints.end(visit, "worked")
    assert sorted(names(endpoints, 4)) == ["a", "a", "b", "b"]
    endpoints._turn = 0
    endpoints.end(went(endpoints), "away")
    clock.now += 1.01
    assert "a" in names(endpoints, 2), "it begins with a second again"


def test_what_was_sent_before_the_pause_neither_prolongs_nor_ends_it() -> None:
    clock = Clock()
    endpoints = Endpoints(["a", "b"], clock)
    visits = [went(endpoints) for _ in range(12)]
    mine = [visit for visit in visits if visit.endpoint.url == "a"]
    for visit in mine[:4]:
        endpoints.end(visit, "away")
    assert names(endpoints, 2) == "bb"
    endpoints.end(mine[4], "worked")
    assert names(endpoints, 2) == "bb"
    clock.now += 1.01
    assert went(endpoints).endpoint.url == "a", "32 refusals at once are one"


def test_three_failures_in_a_row_put_aside_and_a_server_may_ask_for_longer() -> None:
    clock = Clock()
    endpoints = Endpoints(["a", "b"], clock)
    a = endpoints.all[0]
    for outcome, aside in (("failed", 0), ("failed", 0), ("worked", 0), ("failed", 0), ("failed", 0), ("failed", 1)):
        endpoints._turn = 0
        endpoints.end(went(endpoints), outcome)  # type: ignore[arg-type]
        assert a.times_aside == aside
    clock.now += 2
    endpoints._turn = 0
    endpoints.end(went(endpoints), "away", wait=30.0)
    assert a.aside_until == clock.now + 30
    clock.now += 31
    endpoints._turn = 0
    endpoints.end(went(endpoints), "away", wait=86_400.0)
    assert a.aside_until == clock.now + 60


def test_where_all_are_aside_the_first_to_come_back_is_asked() -> None:
    clock = Clock()
    endpoints = Endpoints(["a", "b"], clock)
    first = went(endpoints)
    endpoints.end(first, "away")
    clock.now += 0.5
    second = went(endpoints, [first.endpoint])
    assert second.endpoint.url == "b"
    endpoints.end(second, "away")
    assert endpoints.begin([first.endpoint, second.endpoint]) is None
    forced = went(endpoints)
    assert forced.endpoint.url == "a"
    assert endpoints.begin([forced.endpoint]) is None, "b is aside, and this request has been somewhere"
    endpoints.end(forced, "worked")
    assert names(endpoints, 3) == "aaa", "it worked before its time was up"


class Spread(RuleBasedStateMachine):
    """Whatever happens, counts are right, and somebody is always asked."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.endpoints = Endpoints(["a", "b", "c"], self.clock)
        self.open: list[Visit] = []

    @rule(tried=st.sets(st.integers(0, 2), max_size=3))
    def ask(self, tried: set[int]) -> None:
        been = [self.endpoints.all[place] for place in sorted(tried)]
        idle = {one.url: one.in_flight for one in self.endpoints.all if one.times_aside == 0 and one not in been}
        visit = self.endpoints.begin(been)
        if not been:
            assert visit is not None
        if idle:
            assert visit is not None and visit.endpoint not in been
            if visit.endpoint.times_aside == 0:
                assert idle[visit.endpoint.url] == min(idle.values())
        if visit is not None:
            self.open.append(visit)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), outcome=st.sampled_from(["worked", "failed", "away", "unknown"]))
    def answer(self, data: st.DataObject, outcome: Any) -> None:
        visit = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.endpoints.end(visit, outcome)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def all_recover(self) -> None:
        """Nobody is left aside for ever: once all is answered, a minute later everyone is asked again."""
        while self.open:
            self.endpoints.end(self.open.pop(), "unknown")
        self.clock.now += 61
        assert set(names(self.endpoints, 6)) == {"a", "b", "c"}

    @invariant()
    def counts(self) -> None:
        counted = Counter(visit.endpoint.url for visit in self.open)
        assert {one.url: one.in_flight for one in self.endpoints.all if one.in_flight} == dict(counted)


TestSpread = Spread.TestCase


# With servers


def made(urls: list[str], **fields: Any) -> OpenAIEngine:
    config = {"kind": "openai", "model": "m", "base_url": urls, "api_key_env": "TEST_KEY", **fields}
    engine = engine_from_config("judge", config, "test.yaml")
    assert isinstance(engine, OpenAIEngine)
    return engine


def question(text: str) -> Request:
    return Request("generate", ({"role": "user", "content": text},))


async def ask_all(engine: OpenAIEngine, texts: list[str]) -> list[Any]:
    try:
        return await asyncio.gather(*(engine.ask(question(text)) for text in texts), return_exceptions=True)
    finally:
        await engine.close()


def status_server(status: int) -> Any:
    """A server that has one answer."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    return asyncio.start_server(connection, "127.0.0.1", 0)


def test_requests_spread_over_servers() -> None:
    with FaultServer(latency=0.02) as one, FaultServer(latency=0.02) as two:
        replies = asyncio.run(ask_all(made([one.url, two.url]), [str(n) for n in range(40)]))
        assert all(reply.finish_reason == "stop" for reply in replies)
        assert (len(one.log), len(two.log)) == (20, 20)


def test_a_slow_server_gets_less() -> None:
    async def work(urls: list[str]) -> None:
        engine = made(urls)
        left = iter(range(100))

        async def worker() -> None:
            for number in left:
                await engine.ask(question(str(number)))

        await asyncio.gather(*(worker() for _ in range(6)))
        await engine.close()

    with FaultServer(latency=0.1) as slow, FaultServer(latency=0.01) as fast:
        asyncio.run(work([slow.url, fast.url]))
        assert len(slow.log) + len(fast.log) == 100 and len(slow.log) < 40


def test_as_long_as_one_server_works_no_request_fails() -> None:
    with FaultServer() as gone:
        nobody = gone.url

    async def work(url: str) -> tuple[list[Any], OpenAIEngine]:
        async with await status_server(502) as bad, await status_server(503) as busy:
            ports = [server.sockets[0].getsockname()[1] for server in (bad, busy)]
            engine = made([nobody, url, *(f"http://127.0.0.1:{port}/v1" for port in ports)])
            return await ask_all(engine, [str(n) for n in range(40)]), engine

    with FaultServer() as good:
        replies, engine = asyncio.run(work(good.url))
        assert all(getattr(reply, "finish_reason", reply) == "stop" for reply in replies)
        assert good.stats()["requests"] == good.stats()["distinct"] == 40
    assert Counter(one.times_aside for one in engine._endpoints.all) == {1: 3, 0: 1}
    assert not any(one.in_flight for one in engine._endpoints.all)


def test_only_where_all_are_gone_nobody_is_there() -> None:
    with FaultServer() as one, FaultServer() as two:
        urls = [one.url, two.url]
    errors = asyncio.run(ask_all(made(urls), ["a", "b", "c"]))
    for error in errors:
        assert isinstance(error, UnreachableError)
        assert str(error).startswith("none of the 2 addresses can be reached; nobody answers at m at http://127.0.0.1:")

    async def half() -> list[Any]:
        async with await status_server(503) as busy:
            engine = made([urls[0], f"http://127.0.0.1:{busy.sockets[0].getsockname()[1]}/v1"])
            return [*await ask_all(engine, ["a"]), *await ask_all(engine, ["b"])]

    for error in asyncio.run(half()):
        assert isinstance(error, RequestError) and error.retriable
    assert "503" in str(asyncio.run(half())[0]), "who says it is busy is not gone"


def test_a_server_that_comes_back_is_asked_again() -> None:
    with FaultServer() as early, FaultServer() as other:
        port = int(early.url.split(":")[2].removesuffix("/v1"))
        engine = made([early.url, other.url])
        clock = Clock()
        engine._endpoints = Endpoints(engine._config.urls, clock)
        early.stop()
        asyncio.run(ask_all(engine, ["a", "b"]))
        with FaultServer(port=port) as later:
            asyncio.run(ask_all(engine, ["c", "d"]))
            assert later.log == []
            clock.now += 1.1
            asyncio.run(ask_all(engine, ["e"]))
            asyncio.run(ask_all(engine, ["f"]))
            assert len(later.log) == 1 and len(other.log) == 5


def test_a_run_goes_on_when_a_server_dies_in_the_middle() -> None:
    async def work(one: FaultServer, two: FaultServer) -> list[Any]:
        client = Client({"judge": made([one.url, two.url])}, None, "d1", sleep=lambda seconds: asyncio.sleep(0))
        tasks = [asyncio.create_task(client.ask("judge", question(str(n)), step="s")) for n in range(60)]
        while len(one.log) < 5:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(one.stop)
        answers = await asyncio.gather(*tasks)
        await client.close()
        return answers

    with FaultServer(latency=0.02) as one, FaultServer(latency=0.02) as two:
        answers = asyncio.run(work(one, two))
        assert [answer.status for answer in answers] == ["ok"] * 60
        assert len(one.log) < 40 and len(one.log) + len(two.log) >= 60


# Configuration and identity


def test_one_address_is_known_as_ever_and_several_by_their_sorted_list() -> None:
    one, two = "http://h:1/v1", "http://h:2/v1"
    assert made([one + "/"]).identity == "openai:http://h:1/v1:m"
    assert made([two, one]).identity == made([one, two]).identity == "openai:http://h:1/v1,http://h:2/v1:m"
    assert made([one, two], identity="cluster").identity == made([one], identity="cluster").identity
    assert made([one], read_timeout=3, connect_timeout=4, timeout=5).identity == "openai:http://h:1/v1:m"
    azure = {"api_version": "2024-10-21"}
    known = [
        made(["http://h:1"]).identity,
        made(["http://h:1"], **azure).identity,
        made(["http://h:1"], **azure, deployment="d").identity,
        made(["http://h:1"], api_version="2025-01-01").identity,
    ]
    assert len(set(known)) == 4
    assert made([one, two]).adaptive is True and made([one], adaptive=False).adaptive is False


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"base_url": []}, "base_url: it is an address, or a list of addresses"),
        ({"base_url": 7}, "base_url: it is an address, or a list of addresses"),
        ({"base_url": ["http://h/v1", 7]}, "base_url: it is an address, or a list of addresses"),
        ({"base_url": ["http://h/v1", "http://h/v1/"]}, "base_url: an address stands in the list twice"),
        ({"base_url": ["http://h/v1", "h"]}, "base_url: this is no address"),
        ({"base_url": "http://h:99999/v1"}, "base_url: port out of range"),
        ({"base_url": "http://:80/v1"}, "base_url: this is no address"),
        ({"base_url": "http://h/v1", "timeout": 0}, "timeout: input should be greater than 0"),
        ({"base_url": "http://h/v1", "deployment": "d"}, "deployment is for Azure, which needs api_version too"),
        ({"base_url": "http://h", "api_version": "1", "deployment": "../x"}, "deployment: string should match"),
        ({"base_url": "http://h/openai/v1", "api_version": "1"}, "base_url is Azure's endpoint alone"),
        ({"base_url": "http://h/v1", "extra_body": {"x": float("nan")}}, "extra_body: it holds what JSON cannot"),
    ],
)
def test_a_wrong_field_is_a_sentence(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        engine_from_config("judge", {"kind": "openai", "model": "m", **fields}, "test.yaml")
    assert said in str(caught.value)


def test_azure_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    config = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:1", "api_version": "1"}
    engine = engine_from_config("judge", config, "test.yaml")
    with pytest.raises(EngineError, match="set the environment variable OPENAI_API_KEY"):
        asyncio.run(engine.ask(question("a")))
