"""The runtime: it runs the steps of a pipeline over a dataset, and owns concurrency, progress and checkpoints.

A run first commits its plan (which steps are live). Then each step, in order, works on the groups whose input is not
what it was when the step last ran over them; a group's rows and its progress are committed together. Whatever stops a
run, the next one goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from prefdata.dataset import Dataset, Plan, View
from prefdata.dataset.view import WHOLE, Lineage, pipeline_key
from prefdata.engines.base import Engine
from prefdata.engines.budget import Usage
from prefdata.engines.errors import StoppedError
from prefdata.errors import BudgetSpentError, DataError, EngineError, PipelineError, PrefdataError
from prefdata.pipeline import progress
from prefdata.pipeline.context import Asker, Halt, RunContext
from prefdata.pipeline.display import Display, spent_text
from prefdata.pipeline.fingerprint import Resolved, lineage_of, resolve
from prefdata.pipeline.made import Made, checked, fresh, signed, timeless, unanswered, without_copies
from prefdata.pipeline.progress import AskAgain, Work, digests, readable, to_ask_again
from prefdata.pipeline.spec import Pipeline, engine_names
from prefdata.pipeline.step import Group, GroupStep, Sink, SourceStep, Step, TableStep
from prefdata.schema import KEYS, RETRIED_STATUSES, Row, Rows, make_id

logger = logging.getLogger("prefdata.run")

FAILED = 1
"""Exit code of a run that a step's failure stopped."""

STOPPED = 3
"""Exit code of a run that its budget or a dead server stopped; 130 and 143 are Ctrl-C's and SIGTERM's."""

GROUPS_AT_ONCE = 2000
"""How many groups are loaded together; bounds memory."""


@dataclass
class StepResult:
    """What a step did in this run."""

    name: str
    fingerprint: str
    groups: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    unanswered: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By table, how many of the rows hold no answer, by status (responses: `failed`)."""
    seconds: float = 0.0


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
    """

    limit: int | None = None
    retry: tuple[str, ...] = ()
    flush_seconds: float = 30.0


class Runtime:
    """Runs one pipeline over one dataset."""

    log_hint = " (the run's log has the traceback)"
    """What a message about a step's own failure ends with."""

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
        self._slots = {name: asyncio.Semaphore(max(1, engine.max_concurrency)) for name, engine in engines.items()}
        self._described = {
            table: set(dataset.rows(table).select(KEYS[table]).collect().to_series())
            for table in ("criteria", "annotators")
        }

    async def run(self) -> RunResult:
        """Run every step; stops early, with a reason in the result, when told to halt.

        Raises:
            PipelineError: a step failed; what the groups before and beside it made is committed.
        """
        check_capabilities(self.pipeline, self.engines)
        self.resolved = resolve(self.pipeline, self.engines)
        self._commit_plan()
        result = RunResult(self.dataset.path, self.pipeline.name)
        for position, resolved in enumerate(self.resolved):
            if self.halt.reason:
                break
            started = time.monotonic()
            done = StepResult(str(resolved.step.name), resolved.fingerprint)
            try:
                await self._run_step(position, done)
            except (BudgetSpentError, EngineError) as error:
                self.halt.stop(str(error), STOPPED, error)
            except StoppedError:
                pass  # told to stop: halt.reason says why, and the loop ends with it
            done.seconds = time.monotonic() - started
            result.steps.append(done)
            self._report(resolved.step, done)
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

    def _report(self, step: Step, done: StepResult) -> None:
        if isinstance(step, Sink):
            return  # it says itself what it wrote
        parts = []
        for table, count in done.rows.items():
            if count and table in (*KEYS, "drops"):
                unanswered = ", ".join(f"{n:,} {status}" for status, n in sorted(done.unanswered[table].items()))
                parts.append(f"{count:,} {table}" + (f" ({unanswered})" if unanswered else ""))
        if parts:
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
            with self._blamed(step):
                await asyncio.to_thread(step.run, view, self._context(resolved, view.snapshot.number))
            done.groups = 1
        elif step.scope == "dataset":
            await self._run_whole(resolved, lineage, done)
        else:
            shards: Iterable[int | None] = [None] if self.dataset.shards == 1 else range(self.dataset.shards)
            for shard in shards:
                await self._run_groups(resolved, lineage, shard, done)

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
            say=lambda message: self.display.say(f"{resolved.step.name}: {message}"),
            erased=self.dataset.erased,
            slots=self._slots,
            retried=self.retried,
            billed=self.billed,
        )

    # Sources

    def _run_source(self, resolved: Resolved, step: SourceStep, done: StepResult) -> None:
        """Commit the groups whose rows are new or changed, and note those that are gone."""
        with self._blamed(step):
            made = step.run(self._context(resolved, self.dataset.snapshot.number))
            checked(step, made)
        groups: dict[str, Rows] = {}
        erased = self.dataset.erased
        for table, rows in made.items():
            for row in rows:
                if not erased.holds(table, row):
                    groups.setdefault(row["group_id"], {}).setdefault(table, []).append(row)
        current = {group: make_id("source", timeless(rows)) for group, rows in groups.items()}
        order = list(current)[: self.options.limit]
        work = progress.work_for_groups(self.dataset, self.key, resolved.fingerprint, current, order=order)
        merged: Rows = {}
        for group in work.todo:
            for table, rows in groups[group].items():
                merged.setdefault(table, []).extend(rows)
        # A changed judgement of a known id is its next revision: those who had read the old one are to see that.
        merged["annotations"] = self.dataset.revised(merged.get("annotations", []))
        self._commit(resolved, merged, work.todo, work, done)
        if work.notes:
            self._commit_notes(resolved, work.notes)

    # Steps over columns

    async def _run_whole(self, resolved: Resolved, lineage: Lineage, done: StepResult) -> None:
        view = self.dataset.view(lineage=lineage, name=resolved.step.view)
        tables = readable(view, resolved.reads)
        work = progress.work_for_whole(self.dataset, self.key, resolved.fingerprint, digests(tables))
        if work.todo:
            frames = {table: rows.collect() for table, rows in tables.items()}
            made = await self._compute(resolved, frames, view.snapshot.number)
            self._commit(resolved, made, work.todo, work, done)
        elif work.notes:
            self._commit_notes(resolved, work.notes)

    async def _compute(self, resolved: Resolved, frames: Mapping[str, pl.DataFrame], commit: int) -> Made:
        """Run a column step on its input, sorted by id so that sums come out the same bit for bit."""
        assert isinstance(resolved.step, TableStep)
        in_order = {table: frame.sort(KEYS[table]) if table in KEYS else frame for table, frame in frames.items()}
        with self._blamed(resolved.step):
            made = await asyncio.to_thread(resolved.step.run, in_order, self._context(resolved, commit))
            return checked(resolved.step, made)

    # Steps over groups

    async def _run_groups(self, resolved: Resolved, lineage: Lineage, shard: int | None, done: StepResult) -> None:
        step, fingerprint = resolved.step, resolved.fingerprint
        view = self.dataset.view(lineage=lineage, name=step.view, shard=shard)
        tables = readable(view, resolved.reads)
        order = _order(view)
        if self.options.limit is not None:
            whole = view if shard is None else self.dataset.view(lineage=lineage, name=step.view)
            first = set(_order(whole)[: self.options.limit])
            order = [group for group in order if group in first]
        work = progress.work_for_groups(
            self.dataset,
            self.key,
            fingerprint,
            digests(tables),
            again=self._again(resolved, lineage, shard),
            order=order,
            shard=shard,
        )
        if work.notes:
            self._commit_notes(resolved, work.notes)
        if not work.todo:
            return
        commit = view.snapshot.number
        with self.display.step(str(step.name), len(work.todo), self.usage) as advance:
            if isinstance(step, TableStep):
                frames = {table: _of_groups(rows, work.todo) for table, rows in tables.items()}
                self._commit(resolved, await self._compute(resolved, frames, commit), work.todo, work, done)
                advance(len(work.todo))
                return
            assert isinstance(step, GroupStep)
            for start in range(0, len(work.todo), GROUPS_AT_ONCE):
                chunk = work.todo[start : start + GROUPS_AT_ONCE]
                await self._ask_groups(resolved, step, tables, chunk, work, done, advance, commit)

    def _again(self, resolved: Resolved, lineage: Lineage, shard: int | None) -> AskAgain | None:
        if not isinstance(resolved.step, GroupStep):
            return None

        def view(*steps: Resolved) -> View:
            runs = (*lineage.runs, *((self.key, one.fingerprint) for one in steps))
            return self.dataset.view(lineage=Lineage(runs, lineage.free), name=resolved.step.view, shard=shard)

        return to_ask_again(view(resolved), view(*self.resolved), resolved.fingerprint, self.retried)

    async def _ask_groups(
        self,
        resolved: Resolved,
        step: GroupStep,
        tables: Mapping[str, pl.LazyFrame],
        chunk: list[str],
        work: Work,
        done: StepResult,
        advance: Callable[[int], None],
        commit: int,
    ) -> None:
        """Run a chunk of groups at once; commit those that finish, now and then and at the end."""
        groups = _groups(tables, chunk)
        prior = {
            table: progress.prior_rows(self.dataset, table, chunk)
            for table in step.writes
            if table in ("responses", "annotations", "prompts")
        }
        at_once = asyncio.Semaphore(self._groups_in_flight(step))
        finished: list[tuple[str, Rows]] = []

        async def one(group: Group) -> None:
            async with at_once:
                if self.halt.reason:
                    return
                context = self._context(resolved, commit)
                context.prior, context.spared, context.group_id = prior, work.spared, group.group_id
                try:
                    made = checked(step, await step.run(group, context))
                except StoppedError:
                    return
                except (BudgetSpentError, EngineError) as error:
                    self.halt.stop(str(error), STOPPED, error)
                    return
                except Exception as error:  # whatever a step of somebody's raises: keep what the others made
                    self.halt.stop(self._failure(step, group.group_id, error), FAILED, error)
                    return
            rows = {
                table: given.to_dicts() if isinstance(given, pl.DataFrame) else given for table, given in made.items()
            }
            rows["calls"] = without_copies(context.calls, rows.get("responses", []))
            finished.append((group.group_id, rows))
            advance(1)

        async with self._flusher(resolved, finished, work, done), asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(one(group))

    def _groups_in_flight(self, step: GroupStep) -> int:
        """Enough groups to keep every engine busy, whatever one group asks."""
        return max([8, *(self.engines[name].max_concurrency for name in engine_names(step))])

    @asynccontextmanager
    async def _flusher(
        self, resolved: Resolved, finished: list[tuple[str, Rows]], work: Work, done: StepResult
    ) -> AsyncIterator[None]:
        def flush() -> None:
            groups: list[str] = []
            merged: Rows = {}
            for group, made in finished:
                groups.append(group)
                for table, rows in made.items():
                    merged.setdefault(table, []).extend(rows)
            finished.clear()
            if groups:
                self._commit(resolved, merged, groups, work, done)

        async def now_and_then() -> None:
            try:
                while True:
                    await asyncio.sleep(self.options.flush_seconds)
                    flush()
            except Exception as error:  # nothing more is to be paid for what cannot be kept
                self.halt.stop(self._failure(resolved.step, "", error), FAILED, error)

        ticking = asyncio.create_task(now_and_then())
        try:
            yield
        finally:
            ticking.cancel()
            flush()

    @contextmanager
    def _blamed(self, step: Step) -> Iterator[None]:
        """Whatever a step raises becomes a sentence that names it."""
        try:
            yield
        except (BudgetSpentError, EngineError):
            raise
        except Exception as error:
            raise PipelineError(self._failure(step, "", error)) from error

    def _failure(self, step: Step, group_id: str, error: Exception) -> str:
        named, where = f"step {step.name!r}", f" on group {group_id}" if group_id else ""
        if isinstance(error, PrefdataError):
            return str(error) if named in str(error) else f"{named}{where}: {error}"
        logger.error("%s%s", named, where, exc_info=error)
        return f"{named} failed{where}: {type(error).__name__}: {error}{self.log_hint}"

    # Commits

    def _commit(
        self,
        resolved: Resolved,
        made: Made,
        groups: Iterable[str],
        work: Work,
        done: StepResult,
    ) -> None:
        """Commit what was made for these groups together with their progress."""
        notes = [progress.note(self.key, resolved.fingerprint, group, work.digests[group]) for group in groups]
        if not notes:
            return
        rows = {table: signed(table, given, resolved.fingerprint) for table, given in made.items() if len(given)}
        for table in rows.keys() & self._described.keys():
            rows[table] = fresh(table, rows[table], self._described[table])
        counts = {table: len(given) for table, given in rows.items()}
        try:
            self.dataset.commit({**rows, "progress": notes}, f"{resolved.step.name}: {len(notes)} groups")
        except DataError as error:
            raise PipelineError(f"step {resolved.step.name!r}: {error}") from error
        except OSError as error:
            raise PipelineError(
                f"{self.dataset.path} cannot be written to: {error}. What was committed is kept, and so are answers in "
                f"the request cache: put it right and run the same command again"
            ) from error
        done.groups += len(notes) if notes[0]["group_id"] != WHOLE else 1
        for table, count in counts.items():
            done.rows[table] = done.rows.get(table, 0) + count
            done.unanswered[table].update(unanswered(table, rows[table]))

    def _commit_notes(self, resolved: Resolved, notes: list[Row]) -> None:
        self.dataset.commit({"progress": notes}, f"{resolved.step.name}: {len(notes)} groups as they were before")


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


def _order(view: View) -> list[str]:
    """The groups of a view, in the order in which their prompts came in."""
    return view["prompts"].select("group_id").unique(maintain_order=True).collect()["group_id"].to_list()


def _of_groups(rows: pl.LazyFrame, groups: list[str]) -> pl.DataFrame:
    wanted = pl.DataFrame({"group_id": groups}, schema={"group_id": pl.String}).lazy()
    return rows.join(wanted, on="group_id", how="semi", maintain_order="left").collect()


def _groups(tables: Mapping[str, pl.LazyFrame], ids: list[str]) -> list[Group]:
    """The groups of these ids, in order, with their rows sorted by id."""
    groups = {group_id: Group(group_id) for group_id in ids}
    for table, rows in tables.items():
        if hasattr(Group("-"), table):
            for row in _of_groups(rows, ids).sort(KEYS[table]).to_dicts():
                getattr(groups[row["group_id"]], table).append(row)
    return list(groups.values())
