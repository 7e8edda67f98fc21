"""Requests that arrive one by one, answered in batches by one thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from prefdata.engines.base import Reply, Request, RequestError
from prefdata.errors import EngineError

Prepared = TypeVar("Prepared")

_LINGER = 0.01
"""Seconds without a new arrival after which a batch is run: those of one asyncio tick arrive together."""


@dataclass
class _Job(Generic[Prepared]):
    request: Request
    future: Future[Reply]
    prepared: Prepared


class MicroBatcher(Generic[Prepared]):
    """Collects what arrives while the thread is busy, and answers it in batches.

    It belongs to no event loop: several runs, each in its own loop, can share one.

    Args:
        prepare: makes a request ready (in the thread). RequestError fails that request alone.
        choose: of everything that waits, oldest first, the places of those to run now.
        run: answers them, in order.
    """

    def __init__(
        self,
        prepare: Callable[[Request], Prepared],
        choose: Callable[[Sequence[Prepared]], Sequence[int]],
        run: Callable[[Sequence[Prepared]], Sequence[Reply]],
    ) -> None:
        self._prepare, self._choose, self._run = prepare, choose, run
        self._arriving: queue.SimpleQueue[tuple[Request, Future[Reply]] | None] = queue.SimpleQueue()
        self._waiting: list[_Job[Prepared]] = []
        self._open = True
        self._thread = threading.Thread(target=self._work, name="prefdata-batches", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[Reply]:
        """The reply to come. Its exception is RequestError or EngineError."""
        future: Future[Reply] = Future()
        self._arriving.put((request, future))
        return future

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        self._arriving.put(None)
        self._thread.join()

    def _work(self) -> None:
        while self._open or self._waiting:
            self._collect()
            if not self._waiting:
                continue
            places = sorted(self._choose([job.prepared for job in self._waiting]))
            jobs = [self._waiting[place] for place in places]
            self._waiting = [job for place, job in enumerate(self._waiting) if place not in set(places)]
            self._answer([job for job in jobs if job.future.set_running_or_notify_cancel()])

    def _collect(self) -> None:
        """Take what has arrived; wait for it only where nothing else is to be done."""
        try:
            arrived = self._arriving.get() if self._open and not self._waiting else self._arriving.get(timeout=_LINGER)
            while True:
                if arrived is None:
                    self._open = False
                else:
                    self._take(*arrived)
                arrived = self._arriving.get(timeout=_LINGER)
        except queue.Empty:
            return

    def _take(self, request: Request, future: Future[Reply]) -> None:
        try:
            self._waiting.append(_Job(request, future, self._prepare(request)))
        except Exception as error:
            if future.set_running_or_notify_cancel():
                future.set_exception(_known(error))

    def _answer(self, jobs: Sequence[_Job[Prepared]]) -> None:
        """Answer a batch. Where it fails as a whole (memory, mostly), its halves are tried."""
        if not jobs:
            return
        started = time.perf_counter()
        try:
            replies = self._run([job.prepared for job in jobs])
        except Exception as error:
            if len(jobs) == 1 or isinstance(error, EngineError):
                for job in jobs:
                    job.future.set_exception(_known(error))
                return
            self._answer(jobs[: len(jobs) // 2])
            self._answer(jobs[len(jobs) // 2 :])
            return
        share = (time.perf_counter() - started) / len(jobs)
        for job, reply in zip(jobs, replies, strict=True):
            job.future.set_result(replace(reply, seconds=share))


def _known(error: Exception) -> Exception:
    """What a client can handle: other errors become the failure of one request."""
    if isinstance(error, RequestError | EngineError):
        return error
    return RequestError(f"the model failed: {type(error).__name__}: {error}")
