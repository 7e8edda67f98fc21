"""The client: one call for equal requests, retries, limits, budgets, and a bill that is never lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from prefdata.engines.base import Price, Reply, Request, RequestError
from prefdata.engines.budget import Budget
from prefdata.engines.cache import RequestCache
from prefdata.engines.client import RAW_LIMIT, Client, call_id_of, revised
from prefdata.engines.errors import UnreachableError
from prefdata.engines.registry import BaseEngine, EngineConfig
from prefdata.errors import BudgetSpentError, EngineError, PipelineError
from prefdata.schema import SCHEMAS, arrow_table


class Fake(BaseEngine):
    """Calls `behave` with the number of the call."""

    capabilities = frozenset({"generate"})
    model = "fake-1"

    def __init__(self, behave: Callable[[int], Reply] | None = None, **fields: Any) -> None:
        super().__init__("fake", EngineConfig(**fields))
        self.behave = behave or (lambda number: Reply(text=f"answer {number}", prompt_tokens=10, completion_tokens=5))
        self.asked: list[Request] = []
        self.in_flight = self.most = 0
        self.ticks = 1

    def identify(self) -> str:
        return "fake:1"

    async def ask(self, request: Request) -> Reply:
        self.asked.append(request)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        number = len(self.asked)
        for _ in range(self.ticks):
            await asyncio.sleep(0)
        self.in_flight -= 1
        return self.behave(number)


class Sleeps:
    """A clock that does not wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def question(text: str = "q", **fields: Any) -> Request:
    return Request("generate", ({"role": "user", "content": text},), **fields)


def client(engine: Fake, cache: RequestCache | None = None, **options: Any) -> Client:
    options.setdefault("sleep", Sleeps())
    options.setdefault("jitter", lambda: 1.0)
    return Client({"fake": engine}, cache, options.pop("payer", "d1"), **options)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def failing(*errors: Exception) -> Callable[[int], Reply]:
    def behave(number: int) -> Reply:
        if number <= len(errors):
            raise errors[number - 1]
        return Reply(text="at last", prompt_tokens=10, completion_tokens=5)

    return behave


def test_a_call_row_is_a_row_of_the_table() -> None:
    asking = client(Fake(price={"prompt": 1.0, "completion": 2.0}))
    answer = run(asking.ask("fake", question(), step="s@1"))
    assert answer.status == "ok" and answer.reply.text == "answer 1" and not answer.cached
    assert set(answer.call) == set(SCHEMAS["calls"].names)
    assert arrow_table("calls", [answer.call]).num_rows == 1
    assert answer.call["money"] == pytest.approx((10 * 1 + 5 * 2) / 1e6)
    assert (answer.call["raw"], answer.call["step"], answer.call["cached"]) == ("answer 1", "s@1", False)
    assert (asking.usage.calls, asking.usage.prompt_tokens, asking.usage.completion_tokens) == (1, 10, 5)
    assert asking.usage_of["fake"].calls == 1


def test_the_second_time_comes_from_the_cache_and_is_free(tmp_path: Path) -> None:
    engine = Fake(price={"prompt": 1.0})
    first = run(client(engine, RequestCache(tmp_path)).ask("fake", question(), step="s"))
    later = client(engine, RequestCache(tmp_path), recorded=lambda call_id: call_id == first.call_id)
    second = run(later.ask("fake", question(), step="s"))
    assert len(engine.asked) == 1
    assert second.cached and second.reply == first.reply and second.call_id == first.call_id
    assert second.call["cached"] is True and second.call["money"] == 0.0
    assert (later.usage.calls, later.usage.cached, later.usage.money) == (0, 1, 0.0)


def test_a_crash_between_answer_and_commit_does_not_lose_the_bill(tmp_path: Path) -> None:
    engine = Fake(failing(RequestError("once", retriable=True)), price={"prompt": 1.0})
    paid = run(client(engine, RequestCache(tmp_path)).ask("fake", question(), step="s"))
    again = run(client(engine, RequestCache(tmp_path)).ask("fake", question(), step="s"))
    assert again.cached and again.call == paid.call
    assert again.call["cached"] is False and again.call["attempts"] == 2
    other = run(client(engine, RequestCache(tmp_path), payer="d2").ask("fake", question(), step="s"))
    assert other.call["cached"] is True and other.call["money"] == 0.0
    assert len(engine.asked) == 2


def test_everything_that_may_change_an_answer_asks_anew(tmp_path: Path) -> None:
    engine = Fake()
    asking = client(engine, RequestCache(tmp_path))
    variants = [
        question(),
        question("r"),
        question(temperature=0.5),
        question(seed=1),
        question(max_tokens=9),
        question(stop=("\n",)),
        question(schema={"type": "object"}),
        question(prefix="I"),
        question(top_p=0.5),
        Request("generate", ({"role": "system", "content": "q"},)),
    ]

    async def ask_all() -> None:
        for _ in range(2):
            for request in variants:
                await asking.ask("fake", request, step="s")
        await asking.ask("fake", question(), step="s", revision=2)
        await asking.ask("fake", question(), step="s", revision=2)
        await asking.ask("fake", question(), step="s", revision=3)

    run(ask_all())
    assert len(engine.asked) == len(variants) + 2
    assert engine.asked[-1].tag != engine.asked[-2].tag != ""
    engine.identity = "fake:2"
    run(client(engine, RequestCache(tmp_path)).ask("fake", question(), step="s"))
    assert len(engine.asked) == len(variants) + 3


def test_equal_requests_in_flight_share_one_call(tmp_path: Path) -> None:
    engine = Fake()
    asking = client(engine, RequestCache(tmp_path))

    async def ask_all() -> list[Any]:
        return await asyncio.gather(*(asking.ask("fake", question(), step=f"s{n}") for n in range(8)))

    answers = run(ask_all())
    assert len(engine.asked) == 1 and {answer.reply.text for answer in answers} == {"answer 1"}
    assert (asking.usage.calls, asking.usage.cached) == (1, 7)
    # Each row states the same bill, so that whichever is written first is right.
    assert len({(a.call["call_id"], a.call["money"], a.call["cached"]) for a in answers}) == 1


def test_concurrency_is_bounded() -> None:
    engine = Fake(max_concurrency=3)
    asking = client(engine)

    async def ask_all() -> None:
        await asyncio.gather(*(asking.ask("fake", question(str(n)), step="s") for n in range(30)))

    run(ask_all())
    assert engine.most == 3 and len(engine.asked) == 30


def test_retries_back_off_exponentially_and_then_succeed() -> None:
    sleeps = Sleeps()
    engine = Fake(failing(*[RequestError("broken", retriable=True)] * 3))
    asking = client(engine, sleep=sleeps)
    answer = run(asking.ask("fake", question(), step="s"))
    assert answer.status == "ok" and answer.call["attempts"] == 4
    assert sleeps.seconds == [0.5, 1.0, 2.0]
    assert asking.usage.retries == 3


def test_retry_after_is_honoured_by_everyone() -> None:
    sleeps = Sleeps()
    engine = Fake(failing(RequestError("slow down", retriable=True, retry_after=7.0)))
    asking = client(engine, sleep=sleeps, jitter=lambda: 0.0)

    async def ask_two() -> None:
        await asking.ask("fake", question("a"), step="s")
        await asking.ask("fake", question("b"), step="s")

    run(ask_two())
    assert len(sleeps.seconds) == 2 and all(6.5 < second <= 7.0 for second in sleeps.seconds)


def test_rpm_spaces_the_starts() -> None:
    sleeps = Sleeps()
    asking = client(Fake(rpm=60), sleep=sleeps)

    async def ask_all() -> None:
        await asyncio.gather(*(asking.ask("fake", question(str(n)), step="s") for n in range(4)))

    run(ask_all())
    assert len(sleeps.seconds) == 3
    assert [round(second) for second in sleeps.seconds] == [1, 2, 3]


def test_a_failed_request_is_an_answer_and_is_not_cached(tmp_path: Path) -> None:
    engine = Fake(failing(*[RequestError("broken", "timeout", retriable=True, raw="x" * (RAW_LIMIT + 9))] * 5))
    asking = client(engine, RequestCache(tmp_path))
    answer = run(asking.ask("fake", question(), step="s"))
    assert (answer.reply, answer.status, answer.error, answer.cached) == (None, "timeout", "broken", False)
    assert len(engine.asked) == 5 and asking.usage.failed == 1 and asking.usage.calls == 0
    row = answer.call
    assert (row["error"], row["attempts"], row["finish_reason"], len(row["raw"])) == ("broken", 5, "error", RAW_LIMIT)
    assert "money" not in row and "prompt_tokens" not in row
    assert arrow_table("calls", [row]).num_rows == 1
    assert run(client(engine, RequestCache(tmp_path)).ask("fake", question(), step="s")).reply.text == "at last"


@pytest.mark.parametrize("retry_after", [None, 3600.0])
def test_what_cannot_succeed_is_sent_once(retry_after: float | None) -> None:
    engine = Fake(failing(RequestError("too long", retriable=retry_after is not None, retry_after=retry_after)))
    assert run(client(engine).ask("fake", question(), step="s")).status == "failed"
    assert len(engine.asked) == 1


def test_a_refusal_is_kept_as_one(tmp_path: Path) -> None:
    engine = Fake(lambda number: Reply(finish_reason="refusal", raw="no"))
    for cached in (False, True):
        answer = run(client(engine, RequestCache(tmp_path)).ask("fake", question(), step="s"))
        assert answer.status == "refused" and answer.cached is cached and answer.reply.finish_reason == "refusal"
    assert len(engine.asked) == 1


def test_an_error_reply_is_a_failure_not_an_entry(tmp_path: Path) -> None:
    engine, cache = Fake(lambda number: Reply(finish_reason="error", raw="oops")), RequestCache(tmp_path)
    answer = run(client(engine, cache).ask("fake", question(), step="s"))
    assert answer.status == "failed" and answer.call["raw"] == "oops" and cache.stats().replies == 0


def test_a_token_budget_stops_new_calls_and_counts_no_cached_ones(tmp_path: Path) -> None:
    engine, cache = Fake(max_concurrency=1), RequestCache(tmp_path)
    budget = Budget.parse("30tokens")
    asking = client(engine, cache, budget=budget)

    async def spend() -> list[Any]:
        return await asyncio.gather(
            *(asking.ask("fake", question(str(n)), step="s") for n in range(5)), return_exceptions=True
        )

    outcomes = run(spend())
    assert [type(outcome).__name__ for outcome in outcomes] == ["Answer", "Answer"] + ["BudgetSpentError"] * 3
    assert budget.spent == 30 and len(engine.asked) == 2
    assert "30 tokens of 30 tokens" in str(outcomes[-1])
    # What is in the cache is still answered, and a new run has its own budget.
    assert run(asking.ask("fake", question("0"), step="s")).cached
    fresh = Budget.parse("30tokens")
    again = client(engine, cache, budget=fresh)
    assert run(again.ask("fake", question("0"), step="s")).cached and fresh.spent == 0


def test_a_money_budget_needs_a_price() -> None:
    with pytest.raises(EngineError, match=r"price: \{prompt"):
        run(client(Fake(), budget=Budget.parse("5.00usd")).ask("fake", question(), step="s"))
    free = Fake()
    free.free = True
    assert run(client(free, budget=Budget.parse("5usd")).ask("fake", question(), step="s")).status == "ok"
    priced = client(Fake(price={"prompt": 1e6}), budget=Budget.parse("10usd"))
    assert run(priced.ask("fake", question(), step="s")).call["money"] == 10.0
    with pytest.raises(BudgetSpentError):
        run(priced.ask("fake", question("b"), step="s"))


@pytest.mark.parametrize(
    ("text", "limit", "unit"),
    [("200000tokens", 200_000, "tokens"), ("5.00usd", 5.0, "usd"), ("1_000 TOKENS", 1000, "tokens")],
)
def test_budgets_are_read(text: str, limit: float, unit: str) -> None:
    budget = Budget.parse(text)
    assert (budget.limit, budget.unit) == (limit, unit)


@pytest.mark.parametrize("text", ["5", "usd", "-5usd", "5eur", "nan usd", "1.2.3usd"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(PipelineError, match="like 200000tokens"):
        Budget.parse(text)


def test_a_server_that_is_gone_stops_the_run() -> None:
    def gone(number: int) -> Reply:
        raise UnreachableError("nobody answers at http://127.0.0.1:1", retriable=True)

    engine = Fake(gone)
    asking = client(engine)

    async def ask_in_turn() -> list[Any]:
        return [await asking.ask("fake", question(str(n)), step="s") for n in range(4)]

    assert [answer.status for answer in run(ask_in_turn())] == ["failed"] * 4
    with pytest.raises(EngineError, match="is gone"):
        run(asking.ask("fake", question("fifth"), step="s"))
    before = len(engine.asked)
    with pytest.raises(EngineError, match="is gone"):
        run(asking.ask("fake", question("sixth"), step="s"))
    assert before == len(engine.asked) == 25


def test_one_answer_in_between_says_that_the_server_is_there() -> None:
    def gone_but_for_the_third(number: int) -> Reply:
        if number == 3:
            return Reply(text="here")
        raise UnreachableError("nobody", retriable=False)

    asking = client(Fake(gone_but_for_the_third))

    async def ask_in_turn() -> list[str]:
        return [(await asking.ask("fake", question(str(n)), step="s")).status for n in range(7)]

    assert run(ask_in_turn()) == ["failed", "failed", "ok", "failed", "failed", "failed", "failed"]


def test_an_unusable_engine_is_not_asked_again() -> None:
    engine = Fake(failing(EngineError("no such model"), EngineError("no such model")))
    asking = client(engine)
    for text in ("a", "b"):
        with pytest.raises(EngineError, match="no such model"):
            run(asking.ask("fake", question(text), step="s"))
    assert len(engine.asked) == 1


def test_unknown_engines_and_capabilities_are_refused() -> None:
    with pytest.raises(EngineError, match="no engine 'judge'"):
        run(client(Fake()).ask("judge", question(), step="s"))
    with pytest.raises(EngineError, match="cannot do logprobs; it can do generate"):
        run(client(Fake()).ask("fake", Request("logprobs"), step="s"))


def test_who_waits_may_be_cancelled_and_the_paid_call_is_kept_all_the_same(tmp_path: Path) -> None:
    engine, cache = Fake(), RequestCache(tmp_path)
    engine.ticks = 20
    asking = client(engine, cache)

    async def ask_and_leave() -> None:
        waiting = asyncio.create_task(asking.ask("fake", question(), step="s"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled() and cache.stats().replies == 0
        await asking.finish()

    run(ask_and_leave())
    assert cache.stats().replies == 1


def test_the_price_is_per_million_tokens() -> None:
    assert Price(0.15, 0.60).money(2_000_000, 1_000_000) == pytest.approx(0.9)


def test_without_a_price_the_cost_is_unknown_not_zero(tmp_path: Path) -> None:
    engine, cache = Fake(), RequestCache(tmp_path)
    assert run(client(engine, cache).ask("fake", question(), step="s")).call["money"] is None
    unbilled = run(client(engine, cache).ask("fake", question(), step="s"))
    assert unbilled.call["money"] is None and unbilled.call["cached"] is False
    entirely_cached = run(client(engine, cache, payer="d2").ask("fake", question(), step="s"))
    assert entirely_cached.call["money"] == 0.0


def test_the_bill_of_a_shared_call_is_stated_once(tmp_path: Path) -> None:
    engine = Fake(price={"prompt": 1.0})
    billed: set[str] = set()
    asking = client(engine, RequestCache(tmp_path), recorded=billed.__contains__)

    async def ask_and_record() -> Any:
        answer = await asking.ask("fake", question(), step="s")
        if not answer.call["cached"]:
            billed.add(answer.call_id)
        return answer

    async def ask_all() -> list[Any]:
        return [*await asyncio.gather(*(ask_and_record() for _ in range(5))), await ask_and_record()]

    answers = run(ask_all())
    assert [answer.call["cached"] for answer in answers] == [False] + [True] * 5
    assert sum(answer.call["money"] for answer in answers) == pytest.approx(10 / 1e6)


def test_a_plan_can_name_a_call_as_the_client_does() -> None:
    engine = Fake()
    answer = run(client(engine).ask("fake", question(tag="replicate 1"), step="s", revision=3))
    assert answer.call_id == call_id_of(engine, revised(question(tag="replicate 1"), 3))
