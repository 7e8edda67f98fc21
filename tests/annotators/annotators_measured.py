"""Judges that do not write, in a runtime of a dict and scripted engines; no fixture, for tests of properties."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefdata.engines.base import Answer, Reply, Request
from prefdata.pipeline.step import Group
from prefdata.schema import RETRIED_STATUSES, Row, check_annotations, make_id, message, prompt, response

Script = Callable[[Request], Reply | str]


@dataclass
class Measured:
    """Engines by name, each (model, script); its identity is its model."""

    engines: Mapping[str, tuple[str, Script]]
    asked: list[tuple[str, Request, int]] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)

    def engine(self, name: str) -> Any:
        model = self.engines[name][0]
        return type("Named", (), {"name": name, "model": model, "identity": f"scripted:{model}"})()

    async def once(self, table: str, row_id: str, make: Callable[[int], Awaitable[Row]]) -> Row:
        held = self.rows.get(row_id)
        if held is not None and held["status"] not in RETRIED_STATUSES:
            return held
        self.rows[row_id] = await make(1 if held is None else held["revision"] + 1)
        return self.rows[row_id]

    async def ask(self, engine: str, request: Request, *, revision: int = 1) -> Answer:
        self.asked.append((engine, request, revision))
        await asyncio.sleep(0)
        back = self.engines[engine][1](request)
        call_id = make_id("call", self.engines[engine][0], request.payload(), revision)
        if isinstance(back, str):
            return Answer(None, back, call_id, error="scripted")  # type: ignore[arg-type]
        return Answer(back, "ok", call_id)

    def log(self, message: str) -> None:
        """Nobody reads it."""


def group_of(*texts: str | None, asked: str = "Why is the sky blue?", **columns: Any) -> Group:
    """One prompt and its responses, in the order given."""
    row = prompt([message("user", asked)], **columns)
    responses = [response(row, model=f"policy-{n}", text=text or "") for n, text in enumerate(texts)]
    return Group(row["group_id"], [row], [{**one, "text": text} for one, text in zip(responses, texts, strict=True)])


def judged(step: Any, group: Group, context: Measured) -> list[Row]:
    """The annotations that a step makes; they are valid."""
    rows: list[Row] = asyncio.run(step.run(group, context)).get("annotations", [])
    check_annotations(rows, "test")
    return rows


def scores_of(step: Any, group: Group, context: Measured) -> dict[str, float | None]:
    """By text of the response; None where there is no score."""
    texts = {one["response_id"]: one["text"] for one in group.responses}
    return {texts[row["target_ids"][0]]: row["scores"] and row["scores"][0] for row in judged(step, group, context)}


def by_letters(rate: float) -> Script:
    """A model whose log-probability of a word is `rate` times its letters."""

    def answer(request: Request) -> Reply:
        return Reply(values=tuple(rate * len(word) for word in request.continuation.split()))

    return answer
