"""A small runtime for judges: scripted answers, and a dataset that is a dict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from prefdata.engines.base import Answer, Reply, Request
from prefdata.pipeline.step import Group
from prefdata.schema import RETRIED_STATUSES, Row, make_id, message, prompt, response

Script = Callable[[Request, int], Reply | str]


@dataclass
class FakeEngine:
    name: str
    model: str
    identity: str
    script: Script
    capabilities: frozenset[str] = frozenset({"generate", "logprobs", "label_probs"})
    max_concurrency: int = 4
    price: None = None


@dataclass
class FakeContext:
    """Answers by script: a Reply, or the status of a call that failed."""

    engines: dict[str, FakeEngine]
    dataset_path: str = ""
    view: str = "main"
    pipeline: str = "test"
    retry: frozenset[str] = RETRIED_STATUSES
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    asked: list[tuple[str, Request, int]] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)

    def engine(self, name: str) -> Any:
        return self.engines[name]

    async def once(self, table: str, row_id: str, make: Callable[[int], Awaitable[Row]]) -> Row:
        held = self.rows.get((table, row_id))
        if held is not None and held.get("status") not in self.retry:
            return held
        row = await make(1 if held is None else held["revision"] + 1)
        self.rows[(table, row_id)] = row
        return row

    async def ask(self, engine: str, request: Request, *, revision: int = 1) -> Answer:
        self.asked.append((engine, request, revision))
        back = self.engines[engine].script(request, revision)
        call_id = make_id("call", engine, request.payload(), revision)
        if isinstance(back, str):
            return Answer(None, back, call_id, error="scripted")  # type: ignore[arg-type]
        return Answer(back, "refused" if back.finish_reason == "refusal" else "ok", call_id)

    def log(self, message: str) -> None:
        self.logged.append(message)


@dataclass
class Bench:
    """One group, and a context whose one engine is called `judge`."""

    group: Group
    context: FakeContext

    @property
    def texts(self) -> list[str]:
        return [request.messages[-1]["content"] for _, request, _ in self.context.asked]


@pytest.fixture
def bench() -> Callable[..., Bench]:
    def make(script: Script, *answers: str, row: Row | None = None, model: str = "llama") -> Bench:
        root = row or prompt([message("user", "Why is the sky blue?")])
        responses = [
            response(root, model=f"secret-policy-{i}", text=text, params={"identity": f"policy-{i}"})
            for i, text in enumerate(answers)
        ]
        group = Group(root["group_id"], [root], sorted(responses, key=lambda one: one["response_id"]))
        engine = FakeEngine("judge", model, f"http://{model}", script)
        return Bench(group, FakeContext({"judge": engine}))

    return make
