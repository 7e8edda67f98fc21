"""Executors: where the pieces of a column step are worked on. In this process, or in several beside it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from prefdata.errors import PipelineError
from prefdata.pipeline.columns import ColumnWork, Contexts
from prefdata.pipeline.commits import Commits, StepResult
from prefdata.pipeline.context import Halt, RunContext
from prefdata.pipeline.job import Job
from prefdata.pipeline.pieces import Piece

logger = logging.getLogger("prefdata.run")

_LINE = 1 << 24
"""Bytes of the longest answer of a worker: a traceback, at most."""

_PATIENCE = 5.0
"""Seconds that a worker has to end by itself."""


@dataclass(frozen=True)
class Errand:
    """A column step that is to be worked on, piece by piece, and whom to tell.

    Attributes:
        work: the step.
        folder: the pipeline file's.
        pipeline: the running pipeline's name.
        commits: takes what is made in this process.
        contexts: makes the step's context in this process.
        done: is counted up.
        halt: why no further piece is to be begun, once there is a reason.
        say: is told what the step says.
        advance: is told how many more pieces are done.
    """

    work: ColumnWork
    folder: Path
    pipeline: str
    commits: Commits
    contexts: Contexts
    done: StepResult
    halt: Halt
    say: Callable[[str], None]
    advance: Callable[[int], None]


class Executor(Protocol):
    """Works on the pieces of column steps; each piece is committed by whoever worked on it."""

    async def run(self, errand: Errand, pieces: Sequence[Piece]) -> None:
        """Work on all pieces, or on none any more once `errand.halt` has a reason.

        Raises:
            PipelineError: a sentence; what was committed is kept.
        """
        ...

    async def close(self) -> None:
        """Let go of what was opened."""
        ...


class InProcess:
    """One piece after the other, in a thread of this process: signals are heard meanwhile."""

    async def run(self, errand: Errand, pieces: Sequence[Piece]) -> None:
        """See `Executor`."""
        for piece in pieces:
            if errand.halt.reason:
                return
            await asyncio.to_thread(self._perform, errand, piece)
            errand.advance(1)

    def _perform(self, errand: Errand, piece: Piece) -> None:
        def context(commit: int) -> RunContext:
            return replace(errand.contexts(commit), say=_told(errand, piece))

        errand.work.run(piece, errand.commits, context, errand.done)

    async def close(self) -> None:
        """Nothing is open."""


class Processes:
    """Several pieces at once, in worker processes that are started when there is work for two.

    A worker reads, computes and commits by itself; the log is made for many writers.

    Args:
        count: how many workers at most.
    """

    def __init__(self, count: int) -> None:
        self._count, self._alone = count, InProcess()
        self._workers: list[_Worker] = []

    async def run(self, errand: Errand, pieces: Sequence[Piece]) -> None:
        """See `Executor`."""
        job = Job.of(errand.work, folder=errand.folder, pipeline=errand.pipeline, key=errand.commits.key)
        count = min(self._count, len(pieces))
        if job is None or count < 2:
            await self._alone.run(errand, pieces)
            return
        while len(self._workers) < count:
            self._workers.append(await _Worker.start(self._count))
        waiting = deque(pieces)
        failures: list[PipelineError] = []

        async def keep_busy(worker: _Worker) -> None:
            while waiting and not failures and not errand.halt.reason:
                piece = waiting.popleft()
                try:
                    worker_did = await worker.perform(job, piece, _told(errand, piece))
                except PipelineError as error:
                    failures.append(error)
                    return
                errand.done.add(**worker_did)
                errand.advance(1)

        # What the others have begun they finish and commit, also when one fails.
        await asyncio.gather(*(keep_busy(worker) for worker in self._workers[:count]))
        if failures:
            self._workers = [worker for worker in self._workers if worker.alive]
            raise failures[0]

    async def close(self) -> None:
        """End the workers."""
        workers, self._workers = self._workers, []
        await asyncio.gather(*(worker.end() for worker in workers))


def _told(errand: Errand, piece: Piece) -> Callable[[str], None]:
    return lambda message: errand.say(f"{piece.name}: {message}" if piece.name else message)


class _Worker:
    """One worker process; see `prefdata.pipeline.worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, beside: int) -> _Worker:
        """Start one of so many: they share the processors."""
        threads = max(1, (os.cpu_count() or 1) // beside)
        environment = {
            "POLARS_MAX_THREADS": str(threads),
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "prefdata.pipeline.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent: what a worker has begun it finishes
            limit=_LINE,
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def perform(self, job: Job, piece: Piece, say: Callable[[str], None]) -> dict[str, Any]:
        """Have a piece worked on; what was committed, as `StepResult.add` takes it.

        Raises:
            PipelineError: the step failed, or the process is gone.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = {"job": job.as_json(), "piece": [piece.shard, piece.span]}
        with suppress(ConnectionError):  # a worker that is gone is noticed below
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            await self._process.stdin.drain()
        while line := await self._process.stdout.readline():
            if not line.endswith(b"\n"):
                break
            answer = json.loads(line)
            if "say" in answer:
                say(answer["say"])
            elif "log" in answer:
                logger.log(answer["level"], "%s", answer["log"])
            elif "failed" in answer:
                raise PipelineError(answer["failed"])
            else:
                done = answer["done"]
                return {"groups": done["groups"], "rows": done["rows"], "without": done["unanswered"]}
        raise PipelineError(_gone(job, piece, await self._process.wait()))

    async def end(self) -> None:
        """End the process: its input ends, and if that does not help it is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _PATIENCE)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


def _gone(job: Job, piece: Piece, code: int) -> str:
    how = f"ended with exit code {code}"
    if code < 0:
        with suppress(ValueError):
            how = f"was ended by {signal.Signals(-code).name}"
    memory = ", as the system does where memory runs out" if code == -signal.SIGKILL else ""
    where = f", {piece.name}" if piece.name else ""
    return (
        f"step {job.fields['name']!r}{where}: its worker process {how}{memory}. What was committed is kept: run the "
        "same command again, with a smaller --processes if memory is short"
    )
