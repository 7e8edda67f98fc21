"""Budgets: hard limits, also with many requests in flight, retries, and answers that failed after they were paid."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fake_engine import Fake, ask_many, client, failing, kinds, question, run
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import clock

from prefdata.engines.base import Reply, Request, RequestError
from prefdata.engines.budget import Budget, estimated_tokens
from prefdata.engines.cache import RequestCache
from prefdata.engines.client import Client
from prefdata.engines.errors import UnreachableError
from prefdata.engines.transport import ConnectTimeoutError
from prefdata.errors import BudgetSpentError, EngineError, PipelineError


def test_a_token_budget_stops_new_calls_and_counts_no_cached_ones(tmp_path: Path) -> None:
    engine, cache = Fake(), RequestCache(tmp_path)
    budget = Budget.parse("30tokens")
    asking = client(engine, cache, budget=budget)
    outcomes = run(ask_many(asking, 5))
    assert kinds(outcomes) == ["ok", "ok"] + ["BudgetSpentError"] * 3
    assert budget.spent == 30 and len(engine.asked) == 2
    # An estimate of 517 tokens leaves no room for a second one in flight.
    assert engine.most == 1
    assert "30 tokens of 30 tokens" in str(outcomes[-1])
    # What is in the cache is still answered, and a new run has its own budget.
    assert run(asking.ask("fake", question("number 0"), step="s")).cached
    fresh = Budget.parse("30tokens")
    again = client(engine, cache, budget=fresh)
    assert run(again.ask("fake", question("number 0"), step="s")).cached and fresh.spent == 0


def test_a_budget_with_room_is_no_brake() -> None:
    engine = Fake(max_concurrency=8)
    assert set(kinds(run(ask_many(client(engine, budget=Budget.parse("1000000tokens")), 40)))) == {"ok"}
    assert engine.most == 8


def test_what_an_answer_did_not_need_is_free_for_the_next() -> None:
    """Room for eight estimates of 517 tokens, and for what sixty answers of 15 really cost."""
    engine = Fake(max_concurrency=8)
    engine.latency = 1.0
    asking = client(engine, budget=Budget.parse(f"{8 * 520 + 60 * 15}tokens"))
    assert set(kinds(run(ask_many(asking, 60)))) == {"ok"}
    assert engine.times[-1] - engine.times[0] < 8


def test_what_failed_after_it_was_paid_for_is_billed(tmp_path: Path) -> None:
    paid = RequestError("cut off", retriable=True, prompt_tokens=7, completion_tokens=3)
    engine, cache = Fake(failing(paid, paid), price={"prompt": 1e6, "completion": 1e6}), RequestCache(tmp_path)
    budget = Budget.parse("1000usd")
    asking = client(engine, cache, budget=budget)
    answer = run(asking.ask("fake", question(), step="s"))
    row = answer.call
    assert (row["prompt_tokens"], row["completion_tokens"], row["money"]) == (2 * 7 + 10, 2 * 3 + 5, 35.0)
    assert budget.spent == asking.usage.money == 35.0 and asking.usage.calls == 1
    # A run that died before it committed the row states the same bill.
    assert run(client(engine, cache).ask("fake", question(), step="s")).call == row
    lost = client(Fake(failing(*[paid] * 5), price={"prompt": 1e6}), budget=Budget.parse("1000usd"))
    row = run(lost.ask("fake", question(), step="s")).call
    assert (row["prompt_tokens"], row["completion_tokens"], row["money"], row["error"]) == (35, 15, 35.0, "cut off")


def test_the_bill_of_a_failed_attempt_stands_in_a_row_also_where_the_budget_ends_the_rest() -> None:
    paid = RequestError("cut off", retriable=True, prompt_tokens=30)
    answer = run(client(Fake(failing(paid)), budget=Budget.parse("20tokens")).ask("fake", question(), step="s"))
    assert answer.status == "failed" and answer.call["prompt_tokens"] == 30


def test_where_no_reply_says_what_it_cost_the_budget_counts_estimates() -> None:
    """An estimate is 4 tokens of a template, 2 of "number 0", and 100 to be written: 106. Ten of them reach 1000."""
    said: list[str] = []
    engine, budget = Fake(lambda number: Reply(text="x"), max_concurrency=4), Budget.parse("1000tokens")
    asking = client(engine, budget=budget, say=said.append)

    async def ask_all(asking: Client) -> list[Any]:
        asked = (asking.ask("fake", question(f"number {n}", max_tokens=100), step="s") for n in range(10, 50))
        return await asyncio.gather(*asked, return_exceptions=True)

    outcomes = run(ask_all(asking))
    assert sum(kind == "ok" for kind in kinds(outcomes)) == len(engine.asked) == 10
    assert budget.spent == 10 * 107 and budget.in_flight == 0
    assert len(said) == 1 and "engine 'fake' (fake-1) does not say" in said[0]
    # The rows say what is known, and what costs nothing at all is not reckoned.
    assert outcomes[0].call["prompt_tokens"] == 0 and asking.usage.prompt_tokens == 0
    free, unspent = Fake(lambda number: Reply(text="x")), Budget.parse("1000tokens")
    free.free = True
    assert set(kinds(run(ask_all(client(free, budget=unspent, say=said.append))))) == {"ok"}
    assert unspent.spent == 0 and len(said) == 1


@pytest.mark.parametrize(
    ("error", "attempts_paid"),
    [
        (RequestError("silent", "timeout", retriable=True), 2),
        (RequestError("the connection broke", retriable=True), 2),
        (ConnectTimeoutError("no connection", "timeout", retriable=True), 0),
        (UnreachableError("refused", retriable=True), 0),
        (RequestError("overloaded", retriable=True, code=503), 0),
    ],
)
def test_an_attempt_that_went_out_and_said_nothing_counts_as_its_estimate(
    error: RequestError, attempts_paid: int
) -> None:
    budget = Budget.parse("10000tokens")
    row = run(client(Fake(failing(error, error)), budget=budget).ask("fake", question(max_tokens=100), step="s")).call
    assert budget.spent == attempts_paid * (4 + 1 + 100) + 15
    assert (row["prompt_tokens"], row["completion_tokens"]) == (10, 5)


def test_timeouts_end_a_run_at_its_budget() -> None:
    def lost(number: int) -> Reply:
        raise RequestError("silent", "timeout", retriable=True)

    engine, budget = Fake(lost, max_concurrency=4), Budget.parse("1000tokens")
    assert set(kinds(run(ask_many(client(engine, budget=budget), 20)))) == {"BudgetSpentError"}
    assert len(engine.asked) == 2 and budget.spent == 2 * (4 + 2 + 512)


@settings(max_examples=150, deadline=None)
@given(
    limit=st.integers(1, 5000),
    costs=st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 300), st.sampled_from(["ok", "lost", "lost twice", "dear"])),
        min_size=1,
        max_size=40,
    ),
    at_once=st.integers(1, 12),
    twice=st.booleans(),
)
def test_a_budget_is_exceeded_by_no_more_than_what_is_in_flight(
    limit: int, costs: list[tuple[int, int, str]], at_once: int, twice: bool
) -> None:
    """Over two engines, with retries that were paid for, equal requests, and answers dearer than their estimate."""
    spent = 0.0
    in_flight: dict[str, float] = {}
    seen: dict[str, int] = {}

    class Paid(Fake):
        async def ask(self, request: Request) -> Reply:
            nonlocal spent
            number = int(request.messages[0]["content"].split()[-1])
            read, written, kind = costs[number]
            if kind == "dear":  # more than anybody could know
                read += 1000
            estimates_hold = all(kind != "dear" for _, _, kind in costs)
            assert spent < limit or not estimates_hold, "nothing is started once the budget is spent"
            key = f"{self.name} {number}"
            seen[key] = seen.get(key, 0) + 1
            estimate = sum(estimated_tokens(request))
            alone = not in_flight
            if estimates_hold:
                assert alone or spent + sum(in_flight.values()) + estimate <= limit, "started without room"
            assert key not in in_flight, "equal requests share one call"
            in_flight[key] = estimate
            await asyncio.sleep(0.01 * (1 + number % 5))
            del in_flight[key]
            spent += read + written
            if (kind == "lost" and seen[key] == 1) or (kind == "lost twice" and seen[key] <= 2):
                raise RequestError("lost", retriable=True, prompt_tokens=read, completion_tokens=written, code=500)
            return Reply(text="x", prompt_tokens=read, completion_tokens=written)

    one, other = Paid(max_concurrency=at_once), Paid(max_concurrency=at_once)
    other.name = "other"
    budget = Budget(limit, "tokens")
    asking = Client({"one": one, "other": other}, None, "d1", budget, clock=clock, jitter=lambda: 0.5)

    async def ask_all() -> list[Any]:
        asked = [(n, name) for n in range(len(costs)) for name in ("one", "other")] * (1 + twice)
        return await asyncio.gather(
            *(
                asking.ask(
                    name, Request("generate", ({"role": "user", "content": f"n {n}"},), max_tokens=300), step="s"
                )
                for n, name in asked
            ),
            return_exceptions=True,
        )

    outcomes = run(ask_all())
    assert {type(outcome).__name__ for outcome in outcomes} <= {"Answer", "BudgetSpentError"}
    assert budget.spent == spent == asking.usage.prompt_tokens + asking.usage.completion_tokens
    assert (budget.reserved, budget.in_flight) == (0.0, 0)
    if "dear" not in {kind for _, _, kind in costs}:
        # No estimate was too low: only one request that was started alone can lie above the limit.
        assert spent <= limit + 305
    else:
        assert spent <= limit + 2 * at_once * 1305
    if spent < limit:
        assert set(kinds(outcomes)) == {"ok"}
    rows = {outcome.call_id: outcome.call for outcome in reversed(outcomes) if not isinstance(outcome, Exception)}
    assert sum((row.get("prompt_tokens") or 0) + (row.get("completion_tokens") or 0) for row in rows.values()) == spent


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
