"""Models that answer by script, and a runtime for one group, for the tests of operators that ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from prefdata.engines.base import Answer, Reply, Request
from prefdata.pipeline.step import Group, GroupStep
from prefdata.schema import Row, Rows, make_id, message, prompt

BECAUSE = Reply("Because.", "stop", completion_tokens=3)

Script = Reply | str | Callable[[Request], Reply | str]
"""A reply, the status of a call that failed, or what gives one of the two for a request."""


class Engine:
    def __init__(self, name: str) -> None:
        self.name, self.model, self.identity = name, f"model-{name}", f"http://{name}"


class Context:
    """Answers each request by `reply`; what was made is kept, but for rows to be asked again."""

    def __init__(self, *names: str, reply: Script = BECAUSE) -> None:
        self.engines: dict[str, Any] = {name: Engine(name) for name in names}
        self.reply = reply
        self.asked: list[tuple[str, Request, int]] = []
        self.rows: dict[str, Row] = {}
        self.logged: list[str] = []

    def engine(self, name: str) -> Any:
        return self.engines[name]

    async def once(self, table: str, row_id: str, make: Callable[[int], Awaitable[Row]]) -> Row:
        assert table == "responses"
        held = self.rows.get(row_id)
        if held is None or held["finish_reason"] == "error":
            self.rows[row_id] = await make(1 if held is None else 2)
        return self.rows[row_id]

    async def ask(self, engine: str, request: Request, *, revision: int = 1) -> Answer:
        self.asked.append((engine, request, revision))
        await asyncio.sleep(0)
        call_id = make_id("call", engine, request.payload(), revision)
        reply = self.reply(request) if callable(self.reply) else self.reply
        if isinstance(reply, str):
            return Answer(None, reply, call_id)  # type: ignore[arg-type]
        return Answer(reply, "refused" if reply.finish_reason == "refusal" else "ok", call_id)

    def log(self, message: str) -> None:
        self.logged.append(message)


def group(*texts: str, **columns: Any) -> Group:
    """One group with a prompt for each text."""
    prompts = [prompt([message("user", text)], **columns) for text in texts or ("Why?",)]
    return Group(prompts[0]["group_id"], prompts)


def run(step: GroupStep, context: Context, given: Group | None = None) -> Rows:
    """All rows that a step makes of a group."""
    return asyncio.run(step.run(given or group(), context))  # type: ignore[arg-type,return-value]


def ids(rows: list[Row]) -> set[str]:
    return {row["response_id"] for row in rows}
