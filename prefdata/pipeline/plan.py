"""The plan: what a run would ask and cost, found by running it for real on a fork of the dataset, with no model behind.

Ids are named by what is asked, so responses that do not exist yet have their ids already, and what is asked about them
can be counted. Where an answer decides what comes next (a filter drops what was written), nothing is dropped, and the
count is an upper bound that the run never exceeds.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefdata.dataset import Dataset
from prefdata.dataset.dataset import MARKER
from prefdata.engines import RequestCache, call_id_of, revised
from prefdata.engines.base import Answer, Engine, Reply, Request
from prefdata.pipeline.commits import Commits, StepResult
from prefdata.pipeline.display import Display
from prefdata.pipeline.fingerprint import Resolved
from prefdata.pipeline.made import Made
from prefdata.pipeline.pieces import Piece
from prefdata.pipeline.progress import GONE, last_runs, note
from prefdata.pipeline.run import make_engines, run_blocking
from prefdata.pipeline.runtime import Options, Runtime
from prefdata.pipeline.spec import Pipeline, engine_names, load
from prefdata.pipeline.step import Sink, TableStep

CHARACTERS_PER_TOKEN = 4
"""Rough, for English; the plan says that its tokens are an estimate."""

_stood_in: ContextVar[int] = ContextVar("stood_in")
"""The revision of the last request of this task that was answered by a stand-in."""


@dataclass
class StepPlan:
    """What one step would ask.

    Attributes:
        name: of the step.
        engines: the engines it asks.
        calls: model calls to be paid for.
        cached: answers that the request cache holds.
        exact: whether `calls` is exact; otherwise it is an upper bound.
        prompt_tokens: estimate.
        completion_tokens: upper bound: what the step allows.
        money: upper bound in USD; None where no engine has a price.
    """

    name: str
    engines: list[str]
    calls: int = 0
    cached: int = 0
    exact: bool = True
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float | None = None


@dataclass
class PipelinePlan:
    """What a run would ask, step by step."""

    pipeline: str
    dataset: str
    steps: list[StepPlan] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Of all steps."""
        return sum(step.calls for step in self.steps)

    @property
    def exact(self) -> bool:
        """Whether every step's number is exact."""
        return all(step.exact for step in self.steps)


def plan(
    pipeline: str | Path | Pipeline,
    dataset: str | Path | None = None,
    *,
    name: str | None = None,
    sets: Sequence[str] = (),
    limit: int | None = None,
    retry: Sequence[str] = (),
) -> PipelinePlan:
    """Count the model calls that a run would still make. Asks no model and changes nothing.

    Args:
        pipeline: a YAML file, or the name of a recipe.
        dataset: as for `run`; it need not exist yet.
        name: as for `run`.
        sets: as for `run`.
        limit: as for `run`.
        retry: as for `run`.

    Raises:
        PrefdataError: as `run`; also where an engine lacks a capability.
    """
    spec = pipeline if isinstance(pipeline, Pipeline) else load(pipeline, name=name, sets=sets)
    folder = Path(dataset or Path("runs") / spec.name)
    with tempfile.TemporaryDirectory(prefix="prefdata-plan-") as scratch:
        fork = _fork(folder, Path(scratch) / "fork")
        engines = make_engines(spec)
        counter = _Counter(
            engines,
            RequestCache(),
            {str(step.name): StepPlan(str(step.name), list(dict.fromkeys(engine_names(step)))) for step in spec.steps},
        )
        runtime = _DryRuntime(
            fork, spec, engines, counter, options=Options(limit=limit, retry=tuple(retry)), display=Display(quiet=True)
        )
        run_blocking(runtime.run)
        if runtime.halt.error is not None:
            raise runtime.halt.error
        return PipelinePlan(spec.name, str(folder), list(counter.plans.values()))


def _fork(folder: Path, scratch: Path) -> Dataset:
    """A dataset that begins as the one in `folder` is, and whose commits touch nothing of it."""
    fork = Dataset.create(scratch)
    if not (folder / MARKER).exists():
        return fork
    source = Dataset(folder)
    marker = json.loads((scratch / MARKER).read_text())
    (scratch / MARKER).write_text(json.dumps({**marker, "uid": source.uid, "shards": source.shards}))
    snapshot = source.snapshot
    for commit in snapshot.commits:
        name = f"{commit.number:08d}.json"
        (scratch / "log" / name).write_bytes((folder / "log" / name).read_bytes())
    for parts in snapshot.standing.values():
        for _, part in parts:
            link = scratch / part.path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((folder / part.path).resolve())
    return Dataset(scratch)


class _Counter:
    """Stands where the client stands: counts what would be asked, and answers with a stand-in."""

    def __init__(self, engines: Mapping[str, Engine], cache: RequestCache, plans: dict[str, StepPlan]) -> None:
        self.engines, self.cache, self.plans = engines, cache, plans
        self.inexact = False
        self.several = False
        """A call was to write several texts, of which it may write fewer."""
        self.each = False
        """Each request counts, whatever was asked before: which of two responses is preferred is made up here."""
        self._seen: set[str] = set()

    async def ask(
        self, engine_name: str, request: Request, *, step: str, revision: int = 1, group_id: str | None = None
    ) -> Answer:
        """Count a request once; a cached one is answered from the cache."""
        engine = self.engines[engine_name]
        call_id = call_id_of(engine, revised(request, revision))
        counted = self.plans[step.rpartition("@")[0]]
        # Asked again in one go: whether that will be needed is for the answer to say, and here there is none.
        reasked = revision > _stood_in.get(revision)
        counted.exact = counted.exact and not self.inexact and not reasked
        entry = None if self.each else self.cache.get(call_id)
        if entry is not None:
            counted.cached += call_id not in self._seen
            self._seen.add(call_id)
            return Answer(entry.reply, "refused" if entry.reply.finish_reason == "refusal" else "ok", call_id)
        if self.each or call_id not in self._seen:
            self._seen.add(call_id)
            self._count(counted, engine, request)
        _stood_in.set(revision)
        properties: Mapping[str, Any] = (request.schema or {}).get("properties") or {}
        self.several = self.several or any(_several(one) for one in properties.values())
        return Answer(_stand_in(request, call_id), "ok", call_id)

    def _count(self, counted: StepPlan, engine: Engine, request: Request) -> None:
        asked = sum(len(str(turn.get("content") or "")) for turn in request.messages) + len(request.continuation)
        asked += sum(map(len, request.texts))
        written = request.max_tokens if request.capability == "generate" else 0
        counted.calls += 1
        counted.prompt_tokens += asked // CHARACTERS_PER_TOKEN
        counted.completion_tokens += written
        if engine.price is not None:
            paid = engine.price.money(asked // CHARACTERS_PER_TOKEN, written)
            counted.money = (counted.money or 0.0) + paid


def _stand_in(request: Request, call_id: str) -> Reply:
    labels = len(request.labels)
    if request.capability == "label_probs":
        return Reply(values=(1 / labels,) * labels, mass=1.0)
    if request.capability == "generate":
        # As long as it may become, so that what is asked about it is not estimated too low.
        # First what tells it from others: of a text that is cut off later the beginning stays.
        text = f"{call_id[:8]} (not written yet)".ljust(CHARACTERS_PER_TOKEN * request.max_tokens, ".")
        text = _texts_for(request.schema, text) or text
        return Reply(text=text, completion_tokens=request.max_tokens)
    return Reply(values=(-1.0,))


def _texts_for(schema: Mapping[str, Any] | None, text: str) -> str | None:
    """What a schema asks for as far as it can be stood in for, as JSON: texts and lists of texts. None: nothing.

    A verdict or a score is left out: how often one that cannot be read is asked for again, a plan has to count. So an
    answer that is one text alone is not stood in for either, since only as plain text is it counted like that.
    """
    asked: Mapping[str, Any] = (schema or {}).get("properties") or {}
    counts = {name: int(one.get("minItems", 1)) for name, one in asked.items() if _several(one)}
    alone = [name for name, one in asked.items() if one == {"type": "string"}]
    if not counts and len(alone) == len(asked):
        return None
    size = len(text) // max(1, sum(counts.values()) + len(alone))
    made: dict[str, Any] = {name: [f"{n} {text[:size]}" for n in range(count)] for name, count in counts.items()}
    return json.dumps({**made, **dict.fromkeys(alone, text[:size])}) if made or alone else None


def _several(asked: Mapping[str, Any]) -> bool:
    """Whether a schema's property is a list of texts."""
    return asked.get("items") == {"type": "string"}


class _WithoutDrops(Commits):
    """Commits all but what a step drops of its own rows, while these are only stood in for."""

    def __init__(self, dataset: Dataset, key: str, unknown: Callable[[], bool]) -> None:
        super().__init__(dataset, key)
        self._unknown = unknown

    def rows(self, made: Made, groups: Sequence[str], digests: Mapping[str, str], done: StepResult) -> None:
        """See `Commits`."""
        if self._unknown():
            made = {table: given for table, given in made.items() if table != "drops"}
        super().rows(made, groups, digests, done)


class _DryRuntime(Runtime):
    """Runs every step but sinks, and lets no filter act on what is only stood in for."""

    asker: _Counter
    log_hint = ""

    def __init__(self, dataset: Dataset, *given: Any, **options: Any) -> None:
        super().__init__(dataset, *given, **options)
        self._commits = _WithoutDrops(dataset, self.key, self._unknown)

    async def _run_step(self, position: int, done: StepResult) -> None:
        step = self.resolved[position].step
        if isinstance(step, Sink):
            return
        if self._unknown() and step.writes == {"drops"}:
            self.asker.inexact = True
            self._undrop(self.resolved[position].fingerprint)
            return
        if self._unknown() and isinstance(step, TableStep) and (planned := step.planned()) is not step:
            self.asker.inexact = True
            self.resolved[position] = replace(self.resolved[position], step=planned)
        self.asker.each = self._unknown() and "preferences" in step.reads
        await super()._run_step(position, done)
        if self._unknown() and ("drops" in step.writes or self.asker.several):
            self.asker.inexact = True

    def _unknown(self) -> bool:
        """Whether some answer is only stood in for."""
        return any(plan.calls for plan in self.asker.plans.values())

    def _pieces(self, resolved: Resolved) -> list[Piece]:
        """Where nothing is asked any more, one piece shows whether the step works; there is nothing to count."""
        place = self.resolved.index(resolved)
        asks = any(engine_names(later.step) for later in self.resolved[place:])
        return super()._pieces(resolved)[: None if asks else 1]

    def _undrop(self, fingerprint: str) -> None:
        """Take back what a filter dropped in earlier runs: with other rows before it, it might drop none of it."""
        groups = last_runs(self.dataset, self.key, fingerprint)
        gone = [note(self.key, fingerprint, group, GONE) for group in groups]
        if gone:
            self.dataset.commit({"progress": gone}, "nothing is dropped")
