"""Running a pipeline from Python or the command line: engines, cache, budget, signals, and the event loop."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from prefdata.dataset import Dataset
from prefdata.dataset.lease import run_alone, running, runs
from prefdata.dataset.parts import COMMIT
from prefdata.engines import Budget, Client, RequestCache, engine_from_config
from prefdata.engines.base import Engine
from prefdata.engines.calls import bill_row
from prefdata.errors import EngineError, PipelineError
from prefdata.pipeline.context import Halt
from prefdata.pipeline.display import Display, log_file
from prefdata.pipeline.runtime import Options, RunResult, Runtime
from prefdata.pipeline.spec import Pipeline, engine_names, load
from prefdata.schema import STATUSES

_T = TypeVar("_T")

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""Signals that end a run in good order, and what the command line then exits with."""


def run(
    pipeline: str | Path | Pipeline,
    dataset: str | Path | Dataset | None = None,
    *,
    name: str | None = None,
    sets: Sequence[str] = (),
    limit: int | None = None,
    retry: Sequence[str] = (),
    budget: str | None = None,
    flush_seconds: float = 30.0,
    processes: int = 1,
    shards: int | None = None,
    display: Display | None = None,
) -> RunResult:
    """Run a pipeline. What a former run finished is not done again, and no model call is made twice.

    Works inside a running event loop (a notebook) too.

    Args:
        pipeline: a YAML file, or the name of a recipe.
        dataset: the folder; `runs/<name of the pipeline>` unless given. Made where there is none.
        name: run it under this name, beside others (`--as`).
        sets: `step.key=value`.
        limit: work on the first so many prompts only.
        retry: ask judgements and responses with these statuses again, beside failed and timeout.
        budget: `200000tokens` or `5.00usd`; nothing is asked once it is spent.
        flush_seconds: commit finished work at least this often.
        processes: compute column steps (aggregate, pair, select, ...) in so many processes, each on shards of its own.
        shards: of a dataset that is made now: about one for each million annotations; settled for its life.
        display: where progress is shown; nowhere unless given.

    Returns:
        What was done; `stopped` says why, where the run did not reach its end.

    Raises:
        PrefdataError: a sentence: the pipeline, the data or an engine cannot be used as they are.
    """
    spec = pipeline if isinstance(pipeline, Pipeline) else load(pipeline, name=name, sets=sets)
    for status in retry:
        if status not in STATUSES - {"ok"}:
            raise PipelineError(f"--retry {status}: what may be asked again is {', '.join(sorted(STATUSES - {'ok'}))}")
    if processes < 1:
        raise PipelineError(f"--processes {processes}: it is how many processes compute, 1 or more")
    folder = dataset.path if isinstance(dataset, Dataset) else Path(dataset or Path("runs") / spec.name)
    target = dataset if isinstance(dataset, Dataset) and shards is None else Dataset.create(folder, shards=shards)
    options = Options(limit, tuple(retry), flush_seconds, processes)
    halt, shown = Halt(), display or Display(quiet=True)
    with run_alone(target.path, spec.name) as token, log_file(target.path):
        return run_blocking(
            lambda: _run(spec, target, options, budget, shown, halt, token), lambda: _stop(halt, shown, signal.SIGINT)
        )


class Billed:
    """The calls whose price some row of the dataset states, also those that another process commits meanwhile.

    What was recorded before this run is kept as sorted 64-bit hashes: 8 bytes each, where a text in a set takes 150. Of
    ten million calls a further one is taken for one of them with a chance of 1 in 10^12.

    Attributes:
        calls: those of this run, and those recorded since it began.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.calls, self._read = dataset, set[str](), dataset.snapshot.number
        self._before = np.sort(self._recorded(pl.lit(True)).hash().to_numpy())

    def states(self, call_id: str) -> bool:
        """Whether a call was paid for and recorded; failed calls cost nothing and are not meant."""
        if call_id in self.calls or self._was_recorded(call_id):
            return True
        self._refresh()
        return call_id in self.calls

    def unstated(self, call_ids: Sequence[str]) -> list[str]:
        """Those of them whose price no row states."""
        self._refresh()
        wanted = pl.Series(call_ids, dtype=pl.String).hash().to_numpy()
        places = np.searchsorted(self._before, wanted)
        known = places < len(self._before)
        known[known] = self._before[places[known]] == wanted[known]
        new = np.flatnonzero(~known).tolist()
        return [call_ids[place] for place in new if call_ids[place] not in self.calls]

    def _was_recorded(self, call_id: str) -> bool:
        wanted = pl.Series([call_id]).hash().to_numpy()[0]
        place = np.searchsorted(self._before, wanted)
        return bool(place < len(self._before) and self._before[place] == wanted)

    def _refresh(self) -> None:
        number = self.dataset.snapshot.number
        if number > self._read:
            self.calls.update(self._recorded(pl.col(COMMIT) > self._read))
            self._read = number

    def _recorded(self, which: pl.Expr) -> pl.Series:
        paid = which & ~pl.col("cached") & pl.col("error").is_null()
        return self.dataset.rows("calls").filter(paid).select("call_id").collect()["call_id"]


async def _run(
    pipeline: Pipeline,
    dataset: Dataset,
    options: Options,
    budget: str | None,
    display: Display,
    halt: Halt,
    token: str,
) -> RunResult:
    engines = make_engines(pipeline)
    billed, cache = Billed(dataset), RequestCache()
    client = Client(
        engines,
        cache,
        payer=f"{dataset.uid}/{token}",
        budget=Budget.parse(budget) if budget else None,
        recorded=billed.states,
        abandoned=lambda payer: _abandoned(dataset, payer),
        say=display.say,
    )
    halt.listeners.append(client.stop)
    client.check_prices()  # before anything is asked: no later run would get further
    runtime = Runtime(
        dataset,
        pipeline,
        engines,
        client,
        options=options,
        display=display,
        usage=client.usage,
        halt=halt,
        billed=billed.calls,
    )
    restore = _handle_signals(halt, display)
    try:
        result = await runtime.run()
        client.stop()
        await client.finish()  # what nobody waits for any more is paid all the same
        bill_the_rest(dataset, cache, billed, token)
        result.usage = client.usage
        return result
    finally:
        restore()
        await client.close()


def bill_the_rest(dataset: Dataset, cache: RequestCache, billed: Billed, token: str) -> None:
    """Commit a bill for every answer that was paid for this dataset, and that no row states and nobody asks for.

    A run that was killed leaves such answers in the request cache. Where the next one asks for them again it states
    their price with the row that it makes of them; so this comes after its steps, for what is left: the card was
    edited, or another pipeline has made the same rows. While other runs are at work, one of which may be about to state
    a price, what the killed ones left is left to the last of them.

    Args:
        dataset: where to.
        cache: what was paid for.
        billed: what is stated already; takes what is committed here.
        token: of the present run, which has nothing in flight any more.

    Raises:
        PipelineError: the disk is full, or cannot be written.
    """
    own = f"{dataset.uid}/{token}"
    alone = all(lease.token == token for lease in runs(dataset.path))
    payers = cache.payers(f"{dataset.uid}/") if alone else [own]
    unstated = [call_id for payer in payers for keys in cache.paid_by(payer) for call_id in billed.unstated(keys)]
    found = ((call_id, cache.get(call_id)) for call_id in dict.fromkeys(unstated))
    rows = [bill_row(call_id, entry) for call_id, entry in found if entry is not None]
    rows = [row for row in rows if not dataset.erased.holds("calls", row)]
    if not rows:
        return
    try:
        dataset.commit({"calls": rows}, "bills of a run that was ended")
    except OSError as error:
        raise PipelineError(
            f"{dataset.path} cannot be written to: {error}. What was committed is kept, and so are answers in the "
            "request cache: put it right and run the same command again"
        ) from error
    billed.calls.update(row["call_id"] for row in rows)


def _abandoned(dataset: Dataset, payer: str) -> bool:
    """Whether a run over this dataset that paid for an answer has ended, so that it states its bill no more."""
    uid, _, token = payer.partition("/")
    return uid == dataset.uid and not running(dataset.path, token)


def make_engines(pipeline: Pipeline) -> dict[str, Engine]:
    """The engines that some step names; the others are not made, and need not exist.

    Raises:
        EngineError: one cannot be made; where a recipe's model is not there, it says what the recipe needs.
    """
    used = {name for step in pipeline.steps for name in engine_names(step)}
    engines = {
        name: engine_from_config(name, config, pipeline.where_engine(name))
        for name, config in pipeline.engines.items()
        if name in used
    }
    if pipeline.recipe is not None and pipeline.recipe.needs:
        for name, engine in engines.items():
            try:
                _ = engine.identity  # which a fingerprint needs anyway; here it is known whose recipe asks for it
            except EngineError as error:
                needs = "; ".join(pipeline.recipe.needs)
                raise EngineError(f"{pipeline.where_engine(name)}: {error}\n{pipeline.name} needs: {needs}") from error
    return engines


def _handle_signals(halt: Halt, display: Display) -> Callable[[], None]:
    """Let Ctrl-C and SIGTERM finish what is in flight. Only the main thread gets signals."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if halt.reason:  # a second Ctrl-C: the user means it
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        _stop(halt, display, number)

    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)

    def restore() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    return restore


def _stop(halt: Halt, display: Display, number: signal.Signals) -> None:
    halt.stop(f"stopped by {number.name}", SIGNALS[number])
    display.say("stopping: what is in flight is finished and committed (again to stop at once)")


def run_blocking(work: Callable[[], Coroutine[Any, Any, _T]], stop: Callable[[], None] | None = None) -> _T:
    """Run a coroutine to its end, also from within a running event loop: then in a thread of its own.

    Args:
        work: makes the coroutine.
        stop: asks it to come to its end; called at the first Ctrl-C, which a thread does not get by itself.
    """
    if not _in_event_loop():
        return asyncio.run(work())
    outcome: Future[_T] = Future()

    def target() -> None:
        try:
            outcome.set_result(asyncio.run(work()))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=target, name="prefdata-run")
    thread.start()
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt:
            if stop is None:
                raise
            stop()
            stop = None
    return outcome.result()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
