"""The SQL box: one query of a user, in a process of its own that can reach nothing but the tables and is ended in time.

The process is `sandboxed.py`. Here it is told what to do, watched, and killed. It gets copies of the live tables and no
path to anything else; the store of labels, with people's passwords, is not among what it can open.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.errors import DataError

PROGRAM = Path(__file__).with_name("sandboxed.py")


@dataclass(frozen=True)
class Tables:
    """What a query may read.

    Attributes:
        attach: DuckDB files, by the name under which the views know them.
        views: statements that make the tables of them that the user sees.
        names: of these tables.
    """

    attach: Mapping[str, Path]
    views: Sequence[str]
    names: Sequence[str]


@dataclass(frozen=True)
class Limits:
    """What a query may take.

    Attributes:
        seconds: of wall time, its process's start among them.
        memory: megabytes that DuckDB may use.
        rows: that it may return; more are cut off.
        characters: of all cells together, likewise.
        threads: processors.
    """

    seconds: float = 10.0
    memory: int = 512
    rows: int = 10_000
    characters: int = 4_000_000
    threads: int = 2


@dataclass(frozen=True)
class Result:
    """What a query gave.

    Attributes:
        columns: their names.
        types: DuckDB's.
        rows: values as JSON has them; times, and numbers that JSON does not know, are texts.
        cut: whether there were more rows than may be shown.
        seconds: it took, its process's start among them.
    """

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    cut: bool
    seconds: float


def started() -> subprocess.Popen[bytes]:
    """A process that waits for its task; it ends by itself when nobody is left to give it one."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"LANG": "C.UTF-8", "TZ": "UTC"},  # nothing of the server's own: no key, no address
    )


def run_apart(query: str, tables: Tables, limits: Limits, process: subprocess.Popen[bytes] | None = None) -> Result:
    """Run one query in a process of its own, and kill that when its time is over.

    Args:
        query: of a user.
        tables: that it may read.
        limits: that hold it.
        process: one that waits; started here unless given.

    Raises:
        DataError: the query is wrong, is not a SELECT, or takes too long or too much.
    """
    task = {
        "attach": {name: str(path) for name, path in tables.attach.items()},
        "views": list(tables.views),
        "query": query,
        "rows": limits.rows,
        "characters": limits.characters,
        "memory": limits.memory,
        "seconds": limits.seconds,
        "threads": limits.threads,
    }
    began = time.monotonic()
    process = process or started()
    assert process.stdout is not None
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    clock = threading.Timer(limits.seconds, end)
    clock.start()
    try:
        said = _exchange(process, json.dumps(task).encode() + b"\n", 8 * limits.characters + 1_000_000)
    finally:
        clock.cancel()
        process.kill()
        process.stdout.close()
        process.wait()
    if late.is_set():
        raise DataError(
            f"the query was ended: it took longer than {limits.seconds:g} s. Ask for less, for example of one "
            "annotator, or with a LIMIT inside"
        )
    return _result(said, time.monotonic() - began, limits)


def _exchange(process: subprocess.Popen[bytes], task: bytes, longest: int) -> bytes:
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(task)
        process.stdin.close()
    except BrokenPipeError:
        return b""
    return process.stdout.read(longest)


def _result(said: bytes, seconds: float, limits: Limits) -> Result:
    try:
        found = json.loads(said)
    except ValueError:  # the process died: of its limits, for it holds nothing else that could end it
        raise DataError(
            f"the query was ended: it took more than the {limits.memory} MB of memory or the "
            f"{limits.seconds * limits.threads:g} s of the processor that it may take"
        ) from None
    if "refused" in found:
        raise DataError(str(found["refused"]))
    return Result(found["columns"], found["types"], found["rows"], bool(found["cut"]), seconds)


class Sandbox:
    """Runs users' queries on a dataset, no more than two at a time.

    Args:
        tables: lends what a query names; `Explorer.tables` is one.
        limits: of each query.
        at_once: how many run beside each other; one more waits for the time that a query may take.
    """

    def __init__(
        self,
        tables: Callable[[str], AbstractContextManager[Tables]],
        limits: Limits | None = None,
        at_once: int = 2,
    ) -> None:
        self.limits = limits or Limits()
        self._tables = tables
        self._free = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()
        self._waiting: subprocess.Popen[bytes] | None = None  # for the next query: a process takes a while to start

    def run(self, query: str, limits: Limits | None = None) -> Result:
        """Run one query.

        Raises:
            DataError: the query is wrong, is not a SELECT, takes too long or too much, or others are running.
        """
        bounds = limits or self.limits
        with self._tables(query) as tables:
            if not self._free.acquire(timeout=bounds.seconds):
                raise DataError("other queries are running: try again in a moment")
            try:
                return run_apart(query, tables, bounds, self._taken())
            except DataError as error:
                if "Table with name" in str(error):
                    raise DataError(f"{error} (tables: {', '.join(tables.names)})") from None
                raise
            finally:
                self._free.release()
                self._prepare()

    def _taken(self) -> subprocess.Popen[bytes] | None:
        """The process that waits, if it still does."""
        with self._lock:
            process, self._waiting = self._waiting, None
        return process if process is not None and process.poll() is None else None

    def _prepare(self) -> None:
        with self._lock:
            if self._waiting is None:
                self._waiting = started()

    def close(self) -> None:
        """End the process that waits."""
        process = self._taken()
        if process is not None:
            assert process.stdin is not None and process.stdout is not None
            process.kill()
            process.stdin.close()
            process.stdout.close()
            process.wait()
