"""A whole line on a server with every fault at once: each failure is a row, and every sum is the server's own."""

from __future__ import annotations

import asyncio
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from fault_server import FaultServer
from pipeline_line import Line
from served_line import DRAWS, Served, served_engines, served_steps

from prefdata.engines import Client
from prefdata.pipeline.status import status

pytestmark = pytest.mark.slow

ATTEMPTS = 2
PER_PROMPT = 2
"""Judgements: a pair in both orders."""

PASSING = ["429:1", "500:1", "drop:1", "slow:1", "malformed:1", "cut:1", "short:1"]
LASTING = {"400": "failed", "500": "failed", "drop": "failed", "malformed": "failed", "cut": "failed"}
LASTING |= {"short": "failed", "slow": "timeout"}
HEARD = {"prose": "unparsed", "empty": "unparsed", "refusal": "refused", "filter": "refused"}
DECLINED = ["refusal", "filter"]
NO_RESPONSE = ["400", "500", "drop", "slow", "malformed", *DECLINED]

# Of each prompt: what strikes the drawing of its responses, and what its judging; `:1` the first time only that a
# request is sent.
PLAN: list[tuple[str, str]] = [
    ("", ""),
    *((fault, "") for fault in PASSING),
    *(("", fault) for fault in PASSING),
    ("empty", ""),
    *(("", fault) for fault in [*LASTING, *HEARD]),
    *((fault, "") for fault in NO_RESPONSE),
]


VISIBLE = len(PLAN) - 1
"""Prompts whose responses are seen in the end: `select.where` drops empty ones."""


class Faults:
    """Which fault strikes a request: by the prompt it is about and whether it draws or judges; none once `off`."""

    def __init__(self) -> None:
        self.plan, self.off = PLAN, False

    def __call__(self, body: dict[str, Any], seen: int) -> str | None:
        found = re.search(r"prompt number (\d+)", str(body["messages"]))
        assert found
        fault, _, times = self.plan[int(found[1])][body["model"] == "model-judge"].partition(":")
        return None if self.off or not fault or (times and seen > int(times)) else fault


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def served(tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A line whose every wait is cut to a hundredth of a second, two attempts a request."""

    async def nap(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))

    quick = functools.partial(Client, attempts=ATTEMPTS, sleep=nap, jitter=lambda: 0.0)
    monkeypatch.setattr("prefdata.pipeline.run.Client", quick)
    options = {"timeout": 1.0, "price": {"prompt": 3.0, "completion": 5.0}, "max_concurrency": 24}
    with FaultServer(choose=faults, slow_seconds=4.0, retry_after="0.05") as server:
        line = Line(tmp_path, served_steps(tmp_path / "prompts.jsonl"), served_engines(server.url, **options))
        line.edit("select.where", keep="length(text) > 0")
        line.steps.append({"export": {"format": "trl-pairs", "path": "pairs.parquet"}})
        line.write_prompts(f"Say what prompt number {n} says, and why." for n in range(len(PLAN)))
        yield Served(line, server)


def numbered(served: Served) -> dict[str, int]:
    """The number of each prompt by its id."""
    rows = served.line.ds.rows("prompts").collect().to_dicts()
    return {row["prompt_id"]: int(re.findall(r"\d+", row["messages"][-1]["content"])[0]) for row in rows}


def latest(served: Served, table: str, key: str) -> list[dict[str, Any]]:
    """The last row of each id, live or hidden, with the number of its prompt and the call that it came from."""
    numbers = numbered(served)
    rows = served.line.ds.rows(table).collect().unique(key, keep="last", maintain_order=True).to_dicts()
    calls: dict[str, list[dict[str, Any]]] = {}
    for call in served.line.ds.calls.collect().to_dicts():
        calls.setdefault(call["call_id"], []).append(call)
    return [row | {"number": numbers[row["prompt_id"]], "calls": calls.get(row["call_id"], [])} for row in rows]


def check_sums(served: Served, runs: list[Any]) -> None:
    """Requests, completions, tokens and money: in the table of calls, in what the runs said, and in the ledger."""
    ledger = served.server.ledger()
    calls = served.line.ds.calls.filter(~pl.col("cached")).collect()  # the others say who answered, and cost nothing
    paid = calls.filter(calls["error"].is_null())
    assert paid["call_id"].is_unique().all()
    assert calls["attempts"].sum() == ledger["requests"] == len(served.server.log)
    assert paid.height == ledger["completions"] == sum(one.calls for one in runs)
    money = (3 * ledger["prompt_tokens"] + 5 * ledger["completion_tokens"]) / 1e6
    for column in ("prompt_tokens", "completion_tokens"):
        assert calls[column].sum() == ledger[column] == sum(getattr(one, column) for one in runs)
    assert calls["money"].sum() == pytest.approx(money, rel=1e-12)
    assert sum(one.money for one in runs) == pytest.approx(money, rel=1e-12)
    assert sum(one.failed for one in runs) == calls["error"].is_not_null().sum()
    assert sum(one.retries for one in runs) == sum(calls["attempts"] - 1)


def wanted_status(number: int) -> str:
    return {**LASTING, **HEARD}.get(PLAN[number][1], "ok")


def check_rows(served: Served) -> None:
    """After the first run: each failure is a row with its status, and has a call that holds what came back."""
    drawn = latest(served, "responses", "response_id")
    assert len(drawn) == len(PLAN) * DRAWS
    for row in drawn:
        failed = PLAN[row["number"]][0] in NO_RESPONSE
        assert (row["finish_reason"] == "error") is failed and (row["text"] is None) is failed
        check_call(row["calls"], PLAN[row["number"]][0] if failed else "")
    said = [row for row in latest(served, "annotations", "annotation_id") if row["source"] == "judge"]
    assert len(said) == (len(PLAN) - len(NO_RESPONSE)) * PER_PROMPT
    for row in said:
        assert row["status"] == wanted_status(row["number"]), PLAN[row["number"]]
        assert (row["scores"] is None) is (row["status"] != "ok") and row["revision"] == 1
        check_call(row["calls"], PLAN[row["number"]][1] if row["status"] != "ok" else "")


def check_call(calls: list[dict[str, Any]], fault: str) -> None:
    """What the call holds of an answer that was struck by a fault to its end."""
    assert calls
    call, kind = calls[0], fault.partition(":")[0]
    raw = call["raw"] or ""
    if kind in LASTING:
        assert call["error"] and call["finish_reason"] == "error" and not call["money"]
        assert call["attempts"] == (1 if kind == "400" else ATTEMPTS)
        held = {"400": "maximum context length", "500": "internal problem", "malformed": "<html>", "cut": '"choices"'}
        assert held.get(kind, "") in raw
        assert raw or kind in ("drop", "slow", "short")
    else:
        assert call["error"] is None and call["money"] > 0
        assert "refus" in raw or "content_filter" in raw if kind in ("refusal", "filter") else True
        assert raw if kind == "prose" else True


def asked_of(served: Served, entries: list[dict[str, Any]]) -> Counter[tuple[str, int]]:
    """What requests were about: the model, and the number of the prompt."""
    found = [(entry["body"]["model"], re.search(r"prompt number (\d+)", str(entry["body"]))) for entry in entries]
    return Counter((model, int(number[1])) for model, number in found if number)


def judged(served: Served) -> Counter[str]:
    """How many live judgements have which status."""
    rows = served.line.ds.annotations.filter(pl.col("source") == "judge").collect()
    return Counter(rows["status"].to_list())


def test_every_fault_at_once(served: Served, faults: Faults) -> None:
    line, server = served.line, served.server
    usages = []
    served.run()
    assert served.result.exit_code == 0 and not served.result.stopped
    usages.append(served.result.usage)
    check_rows(served)
    check_sums(served, usages)
    struck = Counter(entry["fault"] for entry in server.log)
    assert {fault for pair in PLAN for one in pair if (fault := one.partition(":")[0])} <= set(struck)
    assert all(step.name for step in status(line.ds).steps)
    pairs = pq.read_table(line.path / "exports" / "pairs.parquet").num_rows
    assert pairs > 0

    faults.off = True
    before = len(server.log)
    served.run()
    usages.append(served.result.usage)
    again = asked_of(served, server.log[before:])
    lost = {number for number, (drawn, _) in enumerate(PLAN) if drawn in set(NO_RESPONSE) - set(DECLINED)}
    unheard = {number for number in range(len(PLAN)) if wanted_status(number) in ("failed", "timeout")}
    assert again == Counter(
        {("model-a", number): DRAWS for number in lost}
        | {("model-judge", number): PER_PROMPT for number in lost | unheard}
    )
    check_sums(served, usages)
    declined = {number for number, (drawn, _) in enumerate(PLAN) if drawn in DECLINED}
    unread = {number for number in range(len(PLAN)) if wanted_status(number) in ("unparsed", "refused")}
    assert line.ds.responses.collect().height == (VISIBLE - len(declined)) * DRAWS
    heard = VISIBLE - len(declined) - len(unread)
    assert judged(served) == {"ok": heard * PER_PROMPT, "unparsed": 2 * PER_PROMPT, "refused": 2 * PER_PROMPT}

    before = len(server.log)
    served.run(retry=["unparsed", "refused"])
    usages.append(served.result.usage)
    again = asked_of(served, server.log[before:])
    assert again == Counter(
        {("model-a", number): DRAWS for number in declined}
        | {("model-judge", number): PER_PROMPT for number in declined | unread}
    )
    check_sums(served, usages)
    assert judged(served) == {"ok": VISIBLE * PER_PROMPT}
    assert pq.read_table(line.path / "exports" / "pairs.parquet").num_rows > pairs

    assert not served.run(retry=["unparsed", "refused"]) and not served.run()
    check_sums(served, usages)


def test_answers_that_cannot_be_used_are_paid_for_too(served: Served, faults: Faults) -> None:
    """A body without choices that counts its tokens: once, and then an answer; or each time, and the call failed."""
    faults.plan = [("", ""), ("", "nochoices:1"), ("", "nochoices"), ("nochoices:1", "")]
    served.run(limit=4)
    ledger, used = served.server.ledger(), served.result.usage
    calls = served.line.ds.calls.collect()
    assert ledger["completions"] == ledger["requests"] == calls["attempts"].sum() > calls.height
    assert calls["error"].is_not_null().sum() == PER_PROMPT
    for column in ("prompt_tokens", "completion_tokens"):
        assert calls[column].sum() == ledger[column] == getattr(used, column)
    money = (3 * ledger["prompt_tokens"] + 5 * ledger["completion_tokens"]) / 1e6
    assert calls["money"].sum() == pytest.approx(money, rel=1e-12) == used.money


def test_a_sum_can_be_wrong(served: Served) -> None:
    """One call billed once more, or one answer that the ledger does not know, and the check fails."""
    served.run(limit=2)
    check_sums(served, [served.result.usage])
    kept = served.server.log[-1]["prompt_tokens"]
    served.server.log[-1]["prompt_tokens"] = kept + 1
    with pytest.raises(AssertionError):
        check_sums(served, [served.result.usage])
    served.server.log[-1]["prompt_tokens"] = kept
    calls = served.line.ds.calls.collect()
    served.line.ds.commit({"calls": calls.filter(calls["error"].is_null()).head(1)}, "the same call again")
    with pytest.raises(AssertionError):
        check_sums(served, [served.result.usage])
