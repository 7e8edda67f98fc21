"""The runtime: it runs the steps of a pipeline over a dataset, and owns concurrency, progress and checkpoints.

A run first commits its plan (which steps are live). Then each step, in order, works on the groups whose input is not
what it was when the step last ran over them; a group's rows and its progress are committed together. Whatever stops a
run, the next one goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from prefdata.dataset import Dataset, Lineage, Plan
from prefdata.dataset.view import pipeline_key
from prefdata.engines.base import Engine
from prefdata.engines.budget import Usage
from prefdata.engines.errors import StoppedError
from prefdata.errors import BudgetSpentError, EngineError, PipelineError
from prefdata.pipeline import progress
from prefdata.pipeline.asking import FAILED, STOPPED, AskingWork
from prefdata.pipeline.columns import ColumnWork, computed, projected
from prefdata.pipeline.commits import Commits, StepResult
from prefdata.pipeline.context import Asker, Halt, RunContext
from prefdata.pipeline.display import Display, asked_text, spent_text
from prefdata.pipeline.executor import Errand, Executor, InProcess, Processes
from prefdata.pipeline.failures import LOG_HINT, blamed
from prefdata.pipeline.fingerprint import Resolved, lineage_of, resolve
from prefdata.pipeline.made import checked, timeless
from prefdata.pipeline.pieces import Piece, pieces
from prefdata.pipeline.progress import AskAgain, digests, order_of, readable
from prefdata.pipeline.spec import Pipeline
from prefdata.pipeline.step import GroupStep, Sink, SourceStep, Step, TableStep
from prefdata.schema import KEYS, RETRIED_STATUSES, Row, Rows, make_id

logger = logging.getLogger("prefdata.run")

GROUPS_AT_A_TIME = 100_000
"""How many groups of a source are committed together."""


@dataclass
class RunResult:
    """What a run did.

    Attributes:
        dataset: the dataset's folder.
        pipeline: the name it ran under.
        steps: what each step did; a step that was up to date has no rows.
        stopped: why the run ended before its end; empty where it did not.
        exit_code: 0, or what the command line exits with.
        usage: what it asked and paid: calls, cached, tokens, money.
    """

    dataset: Path
    pipeline: str
    steps: list[StepResult] = field(default_factory=list)
    stopped: str = ""
    exit_code: int = 0
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes what is made.

    Attributes:
        limit: work on the first so many groups only.
        retry: statuses to ask again beside failed and timeout.
        flush_seconds: commit finished groups at least this often.
        processes: compute column steps in so many processes, each on pieces of its own.
    """

    limit: int | None = None
    retry: tuple[str, ...] = ()
    flush_seconds: float = 30.0
    processes: int = 1


class Runtime:
    """Runs one pipeline over one dataset."""

    log_hint = LOG_HINT

    def __init__(
        self,
        dataset: Dataset,
        pipeline: Pipeline,
        engines: Mapping[str, Engine],
        asker: Asker,
        *,
        options: Options | None = None,
        display: Display | None = None,
        usage: Usage | None = None,
        halt: Halt | None = None,
        billed: set[str] | None = None,
    ) -> None:
        self.dataset, self.pipeline, self.engines, self.asker = dataset, pipeline, engines, asker
        self.options = options or Options()
        self.display = display or Display(quiet=True)
        self.usage = usage
        self.halt = halt or Halt()
        self.billed = set() if billed is None else billed
        self.key = pipeline_key(pipeline.name)
        self.retried = RETRIED_STATUSES | frozenset(self.options.retry)
        self.resolved: list[Resolved] = []
        self._commits = Commits(dataset, self.key)
        self._executor: Executor = Processes(self.options.processes) if self.options.processes > 1 else InProcess()

    async def run(self) -> RunResult:
        """Run every step; stops early, with a reason in the result, when told to halt.

        Raises:
            PipelineError: a step failed; what the groups before and beside it made is committed.
        """
        check_capabilities(self.pipeline, self.engines)
        self.resolved = resolve(self.pipeline, self.engines)
        self._commit_plan()
        result = RunResult(self.dataset.path, self.pipeline.name)
        try:
            for position, resolved in enumerate(self.resolved):
                if self.halt.reason:
                    break
                started, before = time.monotonic(), replace(self.usage) if self.usage else None
                done = StepResult(str(resolved.step.name), resolved.fingerprint)
                try:
                    await self._run_step(position, done)
                except (BudgetSpentError, EngineError) as error:
                    self.halt.stop(str(error), STOPPED, error)
                except StoppedError:
                    pass  # told to stop: halt.reason says why, and the loop ends with it
                done.seconds = time.monotonic() - started
                result.steps.append(done)
                self._report(resolved.step, done, asked_text(before, self.usage))
        finally:
            await self._executor.close()
        if self.halt.exit_code == FAILED:
            raise PipelineError(self.halt.reason) from self.halt.error
        result.stopped, result.exit_code = self.halt.reason, self.halt.exit_code
        return result

    def _commit_plan(self) -> None:
        reads = sorted({other for step in self.pipeline.steps for other in step.reads_})
        steps = tuple(resolved.fingerprint for resolved in self.resolved)
        plan = Plan(self.pipeline.name, steps, reads=tuple(reads), source=self.pipeline.source)
        snapshot = self.dataset.snapshot
        current = snapshot.plans.get((self.pipeline.name, 0))
        if current is None or (current.steps, current.reads) != (plan.steps, plan.reads):
            new = [r.record for r in self.resolved if r.fingerprint not in snapshot.steps]
            self.dataset.commit({}, f"plan of {self.pipeline.name}", steps=new, plan=plan)

    def _report(self, step: Step, done: StepResult, asked: str) -> None:
        if isinstance(step, Sink):
            return  # it says itself what it wrote
        parts = []
        for table, count in done.rows.items():
            if count and table != "calls" and table in (*KEYS, "drops"):
                unanswered = ", ".join(f"{n:,} {status}" for status, n in sorted(done.unanswered[table].items()))
                parts.append(f"{count:,} {table}" + (f" ({unanswered})" if unanswered else ""))
        if parts:
            parts += [asked] if asked else []
            self.display.say(f"{done.name}: {', '.join(parts)} ({done.groups:,} groups, {done.seconds:.1f} s)")
        elif done.groups:
            self.display.say(f"{done.name}: nothing to make ({done.groups:,} groups)")
        elif not self.halt.reason:
            self.display.say(f"{done.name}: up to date")
        logger.info("%s %s so far: %s", self.pipeline.name, done.name, spent_text(self.usage) or "no calls")

    async def _run_step(self, position: int, done: StepResult) -> None:
        resolved = self.resolved[position]
        step = resolved.step
        earlier = [other.fingerprint for other in self.resolved[:position]]
        lineage = lineage_of(
            resolved.record, earlier, self.key, self.dataset.snapshot, step.narrows, self.pipeline.where(step)
        )
        if isinstance(step, SourceStep):
            self._run_source(resolved, step, done)
        elif isinstance(step, Sink):
            view = self.dataset.view(lineage=lineage, name=step.view)
            with blamed(step, self.log_hint):
                await asyncio.to_thread(step.run, view, self._context(resolved, view.snapshot.number))
            done.groups = 1
        elif step.scope == "dataset":
            await self._run_whole(resolved, lineage, done)
        elif isinstance(step, TableStep):
            await self._run_columns(resolved, lineage, done)
        else:
            await self._run_groups(resolved, lineage, done)

    def _context(self, resolved: Resolved, commit: int) -> RunContext:
        return RunContext(
            dataset=self.dataset.path,
            folder=self.pipeline.folder,
            commit=commit,
            pipeline=self.pipeline.name,
            fingerprint=resolved.fingerprint,
            engines=self.engines,
            asker=self.asker,
            halt=self.halt,
            say=self._saying(resolved.step),
            erased=self.dataset.erased,
            retried=self.retried,
            billed=self.billed,
        )

    def _saying(self, step: Step) -> Callable[[str], None]:
        return lambda message: self.display.say(f"{step.name}: {message}")

    # Sources

    def _run_source(self, resolved: Resolved, step: SourceStep, done: StepResult) -> None:
        """Commit the groups whose rows are new or changed, and note those that are gone."""
        with blamed(step, self.log_hint):
            made = step.run(self._context(resolved, self.dataset.snapshot.number))
            checked(step, made)
        groups = _by_group(made, self.dataset)
        del made
        current = {group: make_id("source", timeless(rows)) for group, rows in groups.items()}
        order = list(current)[: self.options.limit]
        work = progress.work_for_groups(
            self.dataset, self.key, resolved.fingerprint, current, again=AskAgain(), order=order
        )
        for start in range(0, len(work.todo), GROUPS_AT_A_TIME):
            todo = work.todo[start : start + GROUPS_AT_A_TIME]
            merged: Rows = {}
            for group in todo:
                for table, rows in groups.pop(group).items():
                    merged.setdefault(table, []).extend(rows)
            # A changed judgement of a known id is its next revision: those who had read the old one are to see that.
            merged["annotations"] = self.dataset.revised(merged.get("annotations", []))
            self._commits.rows(merged, todo, work.digests, done)
        self._commits.notes(work.notes, done)

    # Steps over columns

    async def _run_whole(self, resolved: Resolved, lineage: Lineage, done: StepResult) -> None:
        step = resolved.step
        assert isinstance(step, TableStep)
        view = self.dataset.view(lineage=lineage, name=step.view)
        current: dict[str, str] = {}
        for piece in pieces(view.snapshot):
            current.update(digests(readable(piece.of(view), resolved.reads), everything=True))
        work = progress.work_for_whole(self.dataset, self.key, resolved.fingerprint, current)
        if work.todo:
            tables = projected(readable(view, resolved.reads), step)
            frames = {table: rows.collect() for table, rows in tables.items()}
            context = self._context(resolved, view.snapshot.number)
            made = await asyncio.to_thread(computed, step, frames, context, self.log_hint)
            self._commits.rows(made, work.todo, work.digests, done)
        self._commits.notes(work.notes, done)

    def _pieces(self, resolved: Resolved) -> list[Piece]:
        """What a column step is to work on."""
        return pieces(self.dataset.snapshot)

    async def _run_columns(self, resolved: Resolved, lineage: Lineage, done: StepResult) -> None:
        step, todo = resolved.step, self._pieces(resolved)
        assert isinstance(step, TableStep)
        work = ColumnWork(
            self.dataset,
            step,
            resolved.fingerprint,
            resolved.reads,
            lineage,
            self._first(resolved, lineage),
            self.log_hint,
        )
        with self.display.step(str(step.name), len(todo), self.usage) as advance:
            errand = Errand(
                work,
                folder=self.pipeline.folder,
                pipeline=self.pipeline.name,
                commits=self._commits,
                contexts=lambda commit: self._context(resolved, commit),
                done=done,
                halt=self.halt,
                say=self._saying(step),
                advance=advance,
            )
            await self._executor.run(errand, todo)

    # Steps that ask models

    async def _run_groups(self, resolved: Resolved, lineage: Lineage, done: StepResult) -> None:
        step = resolved.step
        assert isinstance(step, GroupStep)
        runs = tuple((self.key, other.fingerprint) for other in self.resolved)
        work = AskingWork(
            self.dataset,
            step,
            resolved.fingerprint,
            resolved.reads,
            lineage,
            whole=Lineage((*lineage.runs, *runs), lineage.free),
            first=self._first(resolved, lineage),
            engines=self.engines,
            retried=self.retried,
            flush_seconds=self.options.flush_seconds,
            halt=self.halt,
            hint=self.log_hint,
            key=self.key,
        )

        @contextmanager
        def shown(total: int) -> Iterator[Callable[[int], None]]:
            with self.display.step(str(step.name), total, self.usage) as advance:
                yield advance

        for piece in pieces(self.dataset.snapshot):
            if self.halt.reason:
                return
            await work.run(piece, self._commits, lambda commit: self._context(resolved, commit), done, shown)

    def _first(self, resolved: Resolved, lineage: Lineage) -> frozenset[str] | None:
        """The only groups that may be worked on."""
        if self.options.limit is None:
            return None
        view = self.dataset.view(lineage=lineage, name=resolved.step.view)
        return frozenset(order_of(view)[: self.options.limit])


def _by_group(made: Mapping[str, Iterable[Row]], dataset: Dataset) -> dict[str, Rows]:
    """What a source made, by group and table, without what was erased."""
    groups: dict[str, Rows] = {}
    erased = dataset.erased
    for table, rows in made.items():
        for row in rows:
            if not erased.holds(table, row):
                groups.setdefault(row["group_id"], {}).setdefault(table, []).append(row)
    return groups


def check_capabilities(pipeline: Pipeline, engines: Mapping[str, Engine]) -> None:
    """Refuse a pipeline whose steps ask what their engine cannot do.

    Raises:
        PipelineError: with the step, the engine and the capability.
    """
    for step in pipeline.steps:
        for key, capability in step.engine_fields.items():
            value = getattr(step, key)
            for name in [value] if isinstance(value, str) else value or ():
                if capability not in engines[name].capabilities:
                    able = [other for other, engine in engines.items() if capability in engine.capabilities]
                    hint = f"; {', '.join(able)} can" if able else ""
                    raise PipelineError(
                        f"{pipeline.where(step)}: it needs the capability {capability}, which the engine {name!r} "
                        f"does not have{hint}"
                    )
