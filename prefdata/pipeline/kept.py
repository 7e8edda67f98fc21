"""Answers that `calls` keeps, in the place of models: what a judge said once is read again, and nobody is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from prefdata.dataset.erased import stand_in
from prefdata.engines import call_id_of, revised
from prefdata.engines.base import Answer, Capability, Engine, Price, Reply, Request, RequestError
from prefdata.engines.calls import RAW_LIMIT
from prefdata.engines.openai_answers import read_body
from prefdata.errors import EngineError
from prefdata.pipeline.context import NotKeptError
from prefdata.schema import Row


@dataclass
class KeptEngine:
    """Stands where an engine stood, under its identity and model: it needs no weights, no server and no key."""

    identity: str
    model: str
    name: str = "kept"
    capabilities: frozenset[Capability] = frozenset(get_args(Capability))
    max_concurrency: int = 1
    price: Price | None = None

    async def ask(self, request: Request) -> Reply:
        """Refuse: kept answers are read from `calls`, and no other is to be had."""
        raise EngineError(f"{self.model} is not to be asked while its answers are read again")

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class History:
    """A judgement as the dataset holds it.

    Attributes:
        row: its highest revision.
        revisions: all of them.
    """

    row: Row
    revisions: tuple[int, ...]

    @property
    def starts(self) -> list[int]:
        """The revisions at which an asking may have begun that led to the row, the latest first.

        The first asking begins at 1, and each further one above what there was. Within one the revision rises with
        every `reask`.
        """
        begun = {1, *(revision + 1 for revision in self.revisions)}
        return sorted((start for start in begun if start <= self.row["revision"]), reverse=True)


def reply_of(call: Row | None) -> Reply | None:
    """The reply that a row of `calls` keeps whole; None where it keeps none, or perhaps only the beginning."""
    if call is None or call["error"] is not None or not call["raw"] or len(call["raw"]) >= RAW_LIMIT:
        return None
    finish = call["finish_reason"] or "stop"
    if finish == "refusal":
        return Reply(finish_reason=finish, raw=call["raw"])
    try:
        return replace(read_body(call["raw"]), finish_reason=finish)
    except RequestError:
        return None


@dataclass
class KeptContext:
    """The `Context` of a judge that reads again what it was answered in one group.

    Attributes:
        calls: rows of `calls` by id: those of the group.
        known: the group's judgements by id.
        readings: by id, what the step makes of the answer that is kept.
        unkept: ids of judgements whose answer is not kept whole.
    """

    dataset: Path
    folder: Path
    commit: int
    pipeline: str
    engines: Mapping[str, Engine]
    group_id: str
    calls: Mapping[str, Row]
    known: Mapping[str, History]
    readings: dict[str, Row] = field(default_factory=dict)
    unkept: set[str] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)

    @property
    def artifacts(self) -> Path:
        """See `Context`. A judge that reads again writes none."""
        return self.dataset / "artifacts" / "read-again"

    def engine(self, name: str) -> Engine:
        """See `Context`. Steps restored from the log name an engine by its identity."""
        return self.engines[name]

    async def once(self, table: str, row_id: str, make: Callable[[int], Awaitable[Row]]) -> Row:
        """Have a known judgement made from its answer. What is not known is not made, and stood in for."""
        history = self.known.get(row_id) if table == "annotations" else None
        if history is None:
            return stand_in(table, row_id, self.group_id)
        for start in history.starts:
            try:
                reading = await make(start)
            except NotKeptError:
                continue
            if self._counts(reading, history.row):
                self.readings[row_id] = reading
                return history.row
            break
        self.unkept.add(row_id)
        return history.row

    def _counts(self, reading: Row, known: Row) -> bool:
        """Whether a reading may take a row's place: it rests on a whole answer, and not on one before the row's own."""
        if reply_of(self.calls.get(reading.get("call_id") or "")) is None:
            return False
        if known["status"] == "ok" and reply_of(self.calls.get(known["call_id"])) is None:
            return False
        # The row may rest on an asking that the step, as it is, does not get to: one with a higher `reask`.
        return reading["status"] == "ok" or known["call_id"] in self._asked

    async def ask(self, engine: str, request: Request, *, revision: int = 1) -> Answer:
        """The answer that is kept.

        Raises:
            NotKeptError: this was never asked.
        """
        call_id = call_id_of(self.engines[engine], revised(request, revision))
        call = self.calls.get(call_id)
        if call is None:
            raise NotKeptError
        self._asked.add(call_id)
        if call["error"] is not None:
            return Answer(None, "failed", call_id, error=call["error"])
        reply = reply_of(call) or Reply(text="", finish_reason=call["finish_reason"] or "stop")
        return Answer(reply, "refused" if reply.finish_reason == "refusal" else "ok", call_id, cached=True)

    def log(self, message: str) -> None:
        """Nothing: the run said it."""
