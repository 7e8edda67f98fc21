"""What the runtime offers to a running step: rows that are already there, and models."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from prefdata.dataset.erased import Erased, stand_in
from prefdata.engines.base import Answer, Engine, Request
from prefdata.engines.errors import StoppedError
from prefdata.pipeline.progress import Prior
from prefdata.schema import Row

logger = logging.getLogger("prefdata.run")


class NotKeptError(Exception):
    """Kept answers are read again, and there is none for this request. Never seen by users."""


class Asker(Protocol):
    """What answers requests: `prefdata.engines.client.Client`, or the plan's stand-in."""

    async def ask(
        self, engine_name: str, request: Request, *, step: str, revision: int = 1, group_id: str | None = None
    ) -> Answer:
        """Answer one request; see `Context.ask`."""
        ...


@dataclass
class Halt:
    """Why nothing new is to be started, once there is a reason."""

    reason: str = ""
    exit_code: int = 0
    error: BaseException | None = None
    listeners: list[Callable[[], None]] = field(default_factory=list)
    """Are called when there is a reason: whoever waits need not wait on."""

    def stop(self, reason: str, exit_code: int, error: BaseException | None = None) -> None:
        """Set the reason; the first one stands."""
        if not self.reason:
            self.reason, self.exit_code, self.error = reason, exit_code, error
            for listener in self.listeners:
                listener()


@dataclass
class RunContext:
    """The `Context` of one group, or of one run of a column step."""

    dataset: Path
    folder: Path
    commit: int
    pipeline: str
    fingerprint: str
    engines: Mapping[str, Engine]
    asker: Asker
    halt: Halt
    say: Callable[[str], None]
    group_id: str | None = None
    """The group that the step is run for; None for a step over columns."""
    erased: Erased = field(default_factory=Erased)
    """What was erased and must not be made again: no model is asked for it."""
    retried: frozenset[str] = frozenset()
    prior: Mapping[str, Mapping[str, Prior]] = field(default_factory=dict)
    spared: frozenset[str] = frozenset()
    """Ids that are not asked again, whatever their status: nobody can see these rows."""
    calls: list[Row] = field(default_factory=list)
    billed: set[str] = field(default_factory=set)
    """Calls whose price some row of `calls` states, or will with this run's next commit: never to be stated twice."""

    @property
    def artifacts(self) -> Path:
        """See `Context`."""
        return self.dataset / "artifacts" / self.fingerprint

    def engine(self, name: str) -> Engine:
        """See `Context`."""
        return self.engines[name]

    async def once(self, table: str, row_id: str, make: Callable[[int], Awaitable[Row]]) -> Row:
        """See `Context`."""
        if row_id in self.erased.ids.get(table, ()):
            return stand_in(table, row_id, self.group_id or "")
        known = self.prior.get(table, {}).get(row_id)
        if known is None:
            return await make(1)
        if row_id in self.spared or not self._to_ask_again(known):
            return known.row
        return await make((known.row.get("revision") or known.times) + 1)

    def _to_ask_again(self, known: Prior) -> bool:
        if known.row.get("finish_reason") == "error":
            return not known.refused or "refused" in self.retried
        return known.row.get("status") in self.retried

    async def ask(self, engine: str, request: Request, *, revision: int = 1) -> Answer:
        """See `Context`."""
        if self.halt.reason:
            raise StoppedError
        answer = await self.asker.ask(engine, request, step=self.fingerprint, revision=revision, group_id=self.group_id)
        if answer.call:
            self.calls.append({**answer.call, "step": self.fingerprint, "group_id": self.group_id})
            if not answer.call["cached"] and not answer.call.get("error"):
                self.billed.add(answer.call_id)
        return answer

    @property
    def bills(self) -> list[Row]:
        """The calls that were paid for, and whose price stands in no other row."""
        paid = [call for call in self.calls if not call["cached"]]
        return [call for call in paid if not call.get("error") or call.get("prompt_tokens")]

    def log(self, message: str) -> None:
        """See `Context`."""
        self.say(message)
