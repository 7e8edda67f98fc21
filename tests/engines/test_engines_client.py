"""The client: one call for equal requests, retries, limits, and a bill that is never lost or doubled."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from fake_engine import Fake, ask_many, client, failing, question, run
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.engines.base import Price, Reply, Request, RequestError
from prefdata.engines.cache import RequestCache
from prefdata.engines.calls import RAW_LIMIT
from prefdata.engines.client import call_id_of, revised
from prefdata.errors import EngineError
from prefdata.schema import SCHEMAS, arrow_table, canonical_json, clean


def test_a_call_row_is_a_row_of_the_table() -> None:
    asking = client(Fake(price={"prompt": 1.0, "completion": 2.0}))
    answer = run(asking.ask("fake", question(), step="s@1"))
    assert answer.status == "ok" and answer.reply.text == "answer 1" and not answer.cached
    assert set(answer.call) == set(SCHEMAS["calls"].names) - {"group_id"}  # which the asking step fills in
    assert abs((datetime.now(UTC) - answer.call["created_at"]).total_seconds()) < 60
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
    engine = Fake(failing(*[RequestError("broken", retriable=True)] * 3))
    asking = client(engine)
    answer = run(asking.ask("fake", question(), step="s"))
    assert answer.status == "ok" and answer.call["attempts"] == 4
    assert [round(later - now, 6) for now, later in zip(engine.times, engine.times[1:], strict=False)] == [
        0.5,
        1.0,
        2.0,
    ]
    assert asking.usage.retries == 3


def test_jitter_halves_the_wait_at_most() -> None:
    engine = Fake(failing(RequestError("broken", retriable=True)))
    run(client(engine, jitter=lambda: 0.0).ask("fake", question(), step="s"))
    assert engine.times[1] - engine.times[0] == pytest.approx(0.25)


def test_retry_after_is_honoured_by_everyone() -> None:
    engine = Fake(failing(RequestError("slow down", retriable=True, retry_after=7.0)))
    asking = client(engine, jitter=lambda: 0.0)

    async def ask_two() -> None:
        first = asyncio.create_task(asking.ask("fake", question("a"), step="s"))
        await asyncio.sleep(1.0)
        await asyncio.gather(first, asking.ask("fake", question("b"), step="s"))

    run(ask_two())
    start, *rest = engine.times
    assert [time - start for time in rest] == [pytest.approx(7.0), pytest.approx(7.0)]
    assert engine.asked[1].messages[0]["content"] == "a"  # who was sent before goes first


def test_what_was_sent_before_goes_before_what_waits() -> None:
    engine = Fake(failing(RequestError("broken", retriable=True, code=500)), max_concurrency=1)
    engine.latency = 0.3
    run(ask_many(client(engine), 6))
    assert [request.messages[0]["content"][-1] for request in engine.asked] == ["0", "1", "2", "0", "3", "4", "5"]


def test_rpm_spaces_the_starts() -> None:
    engine = Fake(rpm=60)
    run(ask_many(client(engine), 4))
    assert [round(time - engine.times[0], 3) for time in engine.times] == [0, 1, 2, 3]


def test_tpm_spaces_the_starts_by_what_answers_were() -> None:
    """150 tokens an answer and 9000 a minute: one each second, once it is known how far the estimate is off."""
    engine = Fake(lambda number: Reply(text="x", prompt_tokens=50, completion_tokens=100), tpm=9000, max_concurrency=4)
    engine.latency = 0.1
    run(ask_many(client(engine), 61))
    assert engine.times[-1] - engine.times[0] == pytest.approx(60, rel=0.05)


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
        waiting = asyncio.create_task(asking.ask("fake", question(), step="s", group_id="g1"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled() and cache.stats().replies == 0
        await asking.finish()

    run(ask_and_leave())
    assert cache.stats().replies == 1
    kept = cache.get(call_id_of(engine, question()))
    assert kept is not None and kept.group_id == "g1"


def test_an_answer_is_handed_on_only_once_it_is_durable(tmp_path: Path) -> None:
    engine = Fake(max_concurrency=64)
    asking = client(engine, RequestCache(tmp_path))

    async def ask_and_look(number: int) -> None:
        answer = await asking.ask("fake", question(str(number)), step="s")
        with RequestCacheReader(tmp_path) as other:
            assert other.get(answer.call_id) is not None

    async def ask_all() -> None:
        await asyncio.gather(*(ask_and_look(number) for number in range(64)))

    run(ask_all())


class RequestCacheReader:
    """Another process's view of the cache."""

    def __init__(self, folder: Path) -> None:
        self.cache = RequestCache(folder)

    def __enter__(self) -> RequestCache:
        return self.cache

    def __exit__(self, *error: object) -> None:
        self.cache.close()


def test_what_another_process_answered_meanwhile_stands(tmp_path: Path) -> None:
    cache = RequestCache(tmp_path)

    class Late(Fake):
        async def ask(self, request: Request) -> Reply:
            RequestCache(tmp_path).put(
                call_id_of(self, request), Reply(text="first"), money=None, seconds=1.0, attempts=1, payer="d9"
            )
            return await super().ask(request)

    answer = run(client(Late(price={"prompt": 1.0}), cache).ask("fake", question(), step="s"))
    assert answer.reply.text == "first"
    assert (answer.call["prompt_tokens"], answer.call["money"]) == (10, pytest.approx(1e-5)), "both were paid"


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


requests = st.builds(
    Request,
    capability=st.sampled_from(["generate", "logprobs", "label_probs"]),
    messages=st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "user"]), "content": st.text()},
            optional={"name": st.none() | st.text(), "tool_calls": st.none() | st.text()},
        ),
        max_size=3,
    ).map(tuple),
    temperature=st.floats(0, 2),
    top_p=st.floats(1e-9, 1),
    max_tokens=st.integers(1, 2**70),
    stop=st.lists(st.text(), max_size=2).map(tuple),
    seed=st.none() | st.integers(),
    schema=st.none()
    | st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
            max_leaves=6,
        ),
        max_size=3,
    ),
    continuation=st.text(),
    labels=st.lists(st.text(), max_size=3).map(tuple),
    prefix=st.text(),
    tag=st.text(),
)


@settings(max_examples=300, deadline=None)
@given(requests)
def test_a_call_is_named_as_it_always_was(request: Request) -> None:
    """Byte for byte: else every answer in every cache would be asked, and paid, again."""
    engine = Fake()
    payload = clean(asdict(request))
    text = canonical_json(["call", engine.identity, payload])
    assert call_id_of(engine, request) == blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def test_a_call_id_is_pinned() -> None:
    request = question(schema={"type": "object", "x": [1.5, 1e-7]}, stop=("a",), seed=3)
    assert call_id_of(Fake(), request) == "fd35a1b5a868aea79e6cedb10d9ebb7d"
