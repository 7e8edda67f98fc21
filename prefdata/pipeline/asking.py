"""A step that asks models, on its groups, piece by piece: many groups at once, committed now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field

import polars as pl

from prefdata.dataset import Dataset, Lineage
from prefdata.engines.base import Engine
from prefdata.engines.errors import StoppedError
from prefdata.errors import BudgetSpentError, EngineError
from prefdata.pipeline import progress
from prefdata.pipeline.columns import Contexts
from prefdata.pipeline.commits import Commits, StepResult
from prefdata.pipeline.context import Halt, RunContext
from prefdata.pipeline.failures import failure
from prefdata.pipeline.made import Made, checked, without_copies
from prefdata.pipeline.pieces import Piece
from prefdata.pipeline.progress import (
    AskAgain,
    Prior,
    Work,
    digests,
    order_of,
    partners_of,
    prior_rows,
    readable,
    to_ask_again,
    with_partners,
)
from prefdata.pipeline.spec import engine_names
from prefdata.pipeline.step import Group, GroupStep
from prefdata.schema import KEYS, Rows

FAILED = 1
"""Exit code of a run that a step's failure stopped."""

STOPPED = 3
"""Exit code of a run that its budget or a dead server stopped; 130 and 143 are Ctrl-C's and SIGTERM's."""

GROUPS_AT_ONCE = 2000
"""How many groups are in Python's hands together: their rows as dicts, and a task each."""

_COPIED = ("responses", "annotations", "prompts")
"""The tables whose rows `Context.once` looks up."""

_PLACE = "_place"

Shown = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""Shows progress over so many groups while its block runs; what it yields is told how many more are done."""


@dataclass(frozen=True)
class AskingWork:
    """One step that asks models, over one dataset.

    Attributes:
        dataset: which.
        step: the step.
        fingerprint: its fingerprint.
        reads: the tables whose rows are its input.
        lineage: whose rows it reads.
        whole: whose rows the pipeline makes: what later steps dropped is not asked again.
        first: the only groups that may be worked on (`--limit`); None: all.
        engines: by name.
        retried: the statuses that are asked again.
        flush_seconds: commit finished groups at least this often.
        halt: why nothing new is to be started, once there is a reason.
        hint: what the message about a failure of the step ends with.
        key: the pipeline's key in `progress`.
    """

    dataset: Dataset
    step: GroupStep
    fingerprint: str
    reads: frozenset[str]
    lineage: Lineage
    whole: Lineage
    first: frozenset[str] | None
    engines: Mapping[str, Engine]
    retried: frozenset[str]
    flush_seconds: float
    halt: Halt
    hint: str
    key: str

    async def run(self, piece: Piece, commits: Commits, contexts: Contexts, done: StepResult, shown: Shown) -> None:
        """Run the groups of a piece whose input is not what the step had read of it, or that are to be asked again."""
        view = piece.of(self.dataset.view(lineage=self.lineage, name=self.step.view))
        tables = readable(view, self.reads)
        order = [group for group in order_of(view) if self.first is None or group in self.first]
        current = digests(tables)
        partner = partners_of(current) if self.step.partners else {}
        work = progress.work_for_groups(
            self.dataset,
            self.key,
            self.fingerprint,
            with_partners(current) if self.step.partners else current,
            again=self._again(piece),
            order=order,
            piece=piece,
        )
        commits.notes(work.notes, done)
        if not work.todo:
            return
        loaded = _Loaded(self.dataset, piece, tables, work.todo, [name for name in self.step.writes if name in _COPIED])
        met = _Loaded(self.dataset, piece, tables, [partner[group] for group in work.todo], []) if partner else None
        with shown(len(work.todo)) as advance:
            for start in range(0, len(work.todo), GROUPS_AT_ONCE):
                groups, prior = loaded.between(start, start + GROUPS_AT_ONCE)
                if met is not None:
                    others, _ = met.between(start, start + GROUPS_AT_ONCE)
                    for group, other in zip(groups, others, strict=True):
                        group.partner = other

                def context(group_id: str, prior: Mapping[str, Mapping[str, Prior]] = prior) -> RunContext:
                    made = contexts(view.snapshot.number)
                    made.prior, made.spared, made.group_id = prior, work.spared, group_id
                    return made

                await _Chunk(self, commits, work, done, advance, context).run(groups)

    def _again(self, piece: Piece) -> AskAgain:
        own = Lineage((*self.lineage.runs, (self.key, self.fingerprint)), self.lineage.free)
        own_view, whole_view = (
            piece.of(self.dataset.view(lineage=lineage, name=self.step.view)) for lineage in (own, self.whole)
        )
        return to_ask_again(self.dataset, piece, own_view, whole_view, self.fingerprint, self.retried)

    @property
    def groups_in_flight(self) -> int:
        """Enough groups to keep every engine busy, whatever one group asks."""
        return max([8, *(self.engines[name].max_concurrency for name in engine_names(self.step))])


@dataclass
class _Chunk:
    """Some groups that are run at once; those that finish are committed now and then, and at the end."""

    work: AskingWork
    commits: Commits
    todo: Work
    done: StepResult
    advance: Callable[[int], None]
    context: Callable[[str], RunContext]
    finished: list[tuple[str, Rows]] = field(default_factory=list)

    async def run(self, groups: Iterable[Group]) -> None:
        at_once = asyncio.Semaphore(self.work.groups_in_flight)
        async with self._flusher(), asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(self._one(group, at_once))

    async def _one(self, group: Group, at_once: asyncio.Semaphore) -> None:
        step, halt = self.work.step, self.work.halt
        async with at_once:
            if halt.reason:
                return
            context = self.context(group.group_id)
            made: Made | None = None
            try:
                made = checked(step, await step.run(group, context))
            except StoppedError:
                pass
            except (BudgetSpentError, EngineError) as error:
                halt.stop(str(error), STOPPED, error)
            except Exception as error:  # whatever a step of somebody's raises: keep what the others made
                halt.stop(failure(step, error, group_id=group.group_id, hint=self.work.hint), FAILED, error)
        if made is None:
            self.finished.append(("", {"calls": context.bills}))  # what they cost is committed all the same
            return
        rows = {table: given.to_dicts() if isinstance(given, pl.DataFrame) else given for table, given in made.items()}
        rows["calls"] = without_copies(context.calls, rows.get("responses", []))
        self.finished.append((group.group_id, rows))
        self.advance(1)

    @asynccontextmanager
    async def _flusher(self) -> AsyncIterator[None]:
        async def now_and_then() -> None:
            try:
                while True:
                    await asyncio.sleep(self.work.flush_seconds)
                    self._flush()
            except Exception as error:  # nothing more is to be paid for what cannot be kept
                self.work.halt.stop(failure(self.work.step, error, hint=self.work.hint), FAILED, error)

        ticking = asyncio.create_task(now_and_then())
        try:
            yield
        finally:
            ticking.cancel()
            self._flush()

    def _flush(self) -> None:
        groups: list[str] = []
        merged: Rows = {}
        for group, made in self.finished:
            groups += [group] if group else []
            for table, rows in made.items():
                merged.setdefault(table, []).extend(rows)
        self.finished.clear()
        self.commits.rows(merged, groups, self.todo.digests, self.done)


class _Loaded:
    """What a step reads of the groups of a piece, and the rows that are there already, in the order of the groups.

    Read once: to pick every few groups out of all parts again takes as long as reading all of them.
    """

    def __init__(
        self, dataset: Dataset, piece: Piece, tables: Mapping[str, pl.LazyFrame], ids: list[str], written: list[str]
    ) -> None:
        self._ids = ids
        places = pl.DataFrame({"group_id": ids, _PLACE: range(len(ids))}, schema_overrides={"group_id": pl.String})
        self._tables = {
            table: rows.join(places.lazy(), on="group_id", how="inner").sort(_PLACE, KEYS[table]).collect()
            for table, rows in tables.items()
            if hasattr(Group("-"), table)
        }
        self._prior = {
            table: prior_rows(dataset, table, piece, places).sort(_PLACE, maintain_order=True) for table in written
        }

    def between(self, start: int, stop: int) -> tuple[list[Group], dict[str, dict[str, Prior]]]:
        """The groups at these places, with their rows sorted by id; and what there is already, by table and id."""
        groups = {group_id: Group(group_id) for group_id in self._ids[start:stop]}
        for table, rows in self._tables.items():
            for row in _at(rows, start, stop).to_dicts():
                getattr(groups[row["group_id"]], table).append(row)
        prior = {
            table: {
                row[KEYS[table]]: Prior(row, row.pop("_times"), row.pop("_refused"))
                for row in _at(rows, start, stop).to_dicts()
            }
            for table, rows in self._prior.items()
        }
        return list(groups.values()), prior


def _at(rows: pl.DataFrame, start: int, stop: int) -> pl.DataFrame:
    """The rows of the groups at these places; `rows` are sorted by them."""
    first, last = (rows[_PLACE].search_sorted(place, "left") for place in (start, stop))
    return rows.slice(first, last - first).drop(_PLACE)
