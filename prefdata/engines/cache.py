"""The request cache: every answered request of one user, so that no model call is paid for twice.

One SQLite file for any number of processes and threads. Its key names everything that can change an answer and the
engine's identity; keys of servers are in neither. Failures are never kept. A refusal or a truncated answer is kept as
what it is, by the `finish_reason` of the reply.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.engines.base import Reply
from prefdata.engines.cache_file import FILE, MOUNTS, PATIENCE, connect, make_table, open_file
from prefdata.errors import DataError

_COLUMNS = (
    "reply, prompt_tokens, completion_tokens, money, seconds, attempts, created, payer, group_id, step, engine, model"
)
_INSERT = f"INSERT OR IGNORE INTO replies (key, {_COLUMNS}) VALUES (?{', ?' * 12})"  # noqa: S608
_SELECT = f"SELECT {_COLUMNS} FROM replies WHERE key = ?"  # noqa: S608
_NEXT_PAYER = "SELECT min(payer) FROM replies WHERE payer > ? AND payer < ?"
_PAID = "SELECT key FROM replies WHERE payer = ? AND key > ? ORDER BY key LIMIT ?"
_LISTED_AT_ONCE = 50_000
_FORGOTTEN_AT_ONCE = 500
_LONGEST_WAIT = 20
"""How many times its patience a read waits for a lock before the run ends: what is asked anew would be paid twice."""

_LOOK_AGAIN = 0.05


class CacheLockedError(Exception):
    """Another process has locked the file; who can wait asks again with `wait=True`."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One answered request.

    Attributes:
        reply: what came back.
        money: USD that it cost; None where the engine had no price.
        seconds: that the engine took for it.
        attempts: how often it was sent.
        created: Unix time of the answer.
        payer: names the run that paid.
        prompt_tokens: tokens read, of all attempts that were paid for.
        completion_tokens: tokens written, likewise.
        group_id: for which group of prompts it was asked; None where that was not said.
        step: fingerprint of the step that asked; None in files of earlier versions, which did not keep it.
        engine: its name in the pipeline, likewise.
        model: its model, likewise.
    """

    reply: Reply
    money: float | None
    seconds: float
    attempts: int
    created: float
    payer: str
    prompt_tokens: int
    completion_tokens: int
    group_id: str | None = None
    step: str | None = None
    engine: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What the cache holds. `bytes` is the size of its files; times are Unix times, None where it is empty."""

    path: str
    replies: int
    bytes: int
    prompt_tokens: int
    completion_tokens: int
    money: float
    oldest: float | None
    newest: float | None


def cache_folder() -> Path:
    """The user's cache: `$PREFDATA_CACHE`, else `~/.cache/prefdata/requests`."""
    named = os.environ.get("PREFDATA_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "prefdata" / "requests"


class RequestCache:
    """The replies of one user by request.

    Where the folder cannot be written, or holds something else, it says so once and keeps replies in memory. Where an
    answer cannot be written (a full disk, a file that another process has locked for half a minute), it says so once,
    keeps it in memory and tries again with the next one and in the end.

    Args:
        folder: of the cache; `cache_folder()` unless given. It is made readable by its owner only.
        say: is told, in a sentence, when answers cannot be kept, or not as fast as elsewhere.
        mounts: where the machine says which file systems it has.
        patience: seconds to wait for another process that has locked the file, before anything is said.
    """

    def __init__(
        self,
        folder: Path | None = None,
        say: Callable[[str], object] = warnings.warn,
        *,
        mounts: Path = MOUNTS,
        patience: float = PATIENCE,
    ) -> None:
        self.folder = folder or cache_folder()
        self.persistent = True
        self._say, self._patience = say, patience
        self._said: set[str] = set()
        self._writing, self._reading = threading.RLock(), threading.RLock()
        self._unwritten: dict[str, CacheEntry] = {}
        path = self.folder / FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._writer = open_file(path, say, mounts, patience)
            # Reads have a connection of their own: none waits for a commit of this process.
            self._reader = connect(path, 0.0)
            path.chmod(0o600)
        except (OSError, sqlite3.Error) as error:
            self._complain(
                "folder",
                f"the request cache in {self.folder} cannot be used ({error}); this run keeps its answers "
                "in memory only. Set PREFDATA_CACHE to a folder that can be written",
            )
            self.persistent = False
            self._writer = self._reader = connect(Path(":memory:"), patience)
            self._reading = self._writing
            make_table(self._writer)

    def get(self, key: str, *, wait: bool = True) -> CacheEntry | None:
        """The entry of a request, or None.

        Args:
            key: the id of the call.
            wait: for a lock of another process, which only a rollback journal and a rebuilding of the file have.

        Raises:
            CacheLockedError: it is locked, and `wait` is False.
            DataError: it stayed locked for twenty times the patience.
        """
        rows = self._read(_SELECT, (key,), wait)
        if not rows:
            return self._unwritten.get(key)
        reply, read, written, money, seconds, attempts, created, payer, *asked = rows[0]
        return CacheEntry(Reply.from_json(reply), money, seconds, attempts, created, payer, read, written, *asked)

    def put(
        self,
        key: str,
        reply: Reply,
        *,
        money: float | None,
        seconds: float,
        attempts: int,
        payer: str,
        group_id: str | None = None,
    ) -> None:
        """Keep one reply durably. The first one of a request stays.

        Raises:
            ValueError: the reply is a failure (finish_reason error), which must not be answered again from here.
        """
        read, written = reply.prompt_tokens, reply.completion_tokens
        entry = CacheEntry(reply, money, seconds, attempts, time.time(), payer, read, written, group_id)
        self.put_all([(key, entry)])

    def put_all(self, entries: Sequence[tuple[str, CacheEntry]]) -> list[Reply]:
        """Keep replies durably, in one commit. The first one of a request stays.

        Returns:
            For each the reply that is kept: its own, or the one that stood there already.

        Raises:
            ValueError: a reply is a failure (finish_reason error), which must not be answered again from here.
        """
        for _, entry in entries:
            if entry.reply.finish_reason == "error":
                raise ValueError("a failure is never kept in the request cache")
        replies = [entry.reply for _, entry in entries]
        with self._writing:
            try:
                standing = self._write([*self._unwritten.items(), *entries])
            except sqlite3.Error as error:
                self._unwritten |= {key: entry for key, entry in entries if key not in self._unwritten}
                self._complain(
                    "write",
                    f"an answer could not be kept in the request cache in {self.folder} ({error}). It is kept in "
                    "memory, and it is tried again with the next ones and in the end",
                )
                return replies
            self._unwritten.clear()
        return [standing.get(key, reply) for (key, _), reply in zip(entries, replies, strict=True)]

    def has(self, key: str) -> bool:
        """Whether a request's reply is kept (for a plan's estimate)."""
        return bool(self._read("SELECT 1 FROM replies WHERE key = ?", (key,), wait=True)) or key in self._unwritten

    def payers(self, beginning: str) -> list[str]:
        """Who paid for what is kept, of those whose name begins so, without `beginning` itself.

        Args:
            beginning: of names; not empty.

        Raises:
            DataError: the file stayed locked for twenty times the patience.
        """
        found = {entry.payer for entry in self._unwritten.values() if entry.payer.startswith(beginning)}
        last, end = beginning, beginning[:-1] + chr(ord(beginning[-1]) + 1)
        # One step of the index for each payer, however many answers each has paid for.
        while (last := self._read(_NEXT_PAYER, (last, end), wait=True)[0][0]) is not None:
            found.add(last)
        return sorted(found)

    def paid_by(self, payer: str) -> Iterator[list[str]]:
        """The keys of what one payer paid for, some at a time.

        Raises:
            DataError: the file stayed locked for twenty times the patience.
        """
        if unwritten := [key for key, entry in self._unwritten.items() if entry.payer == payer]:
            yield unwritten
        last = ""
        while rows := self._read(_PAID, (payer, last, _LISTED_AT_ONCE), wait=True):
            last = rows[-1][0]
            yield [key for (key,) in rows]

    def stats(self) -> CacheStats:
        """What the cache holds, and what it cost once."""
        query = (
            "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), "
            "coalesce(sum(money), 0.0), min(created), max(created) FROM replies"
        )
        with self._writing:
            count, read, written, money, oldest, newest = self._writer.execute(query).fetchone()
        return CacheStats(str(self.folder), count, self._size(), read, written, money, oldest, newest)

    def prune(
        self, *, older_than_days: float | None = None, max_bytes: int | None = None, everything: bool = False
    ) -> int:
        """Forget replies, and give their space back to the disk.

        Args:
            older_than_days: those made longer ago.
            max_bytes: the oldest ones, until the texts of the rest fit.
            everything: all.

        Returns:
            How many replies were forgotten.

        Raises:
            DataError: none of the three was asked, a limit is negative, or another process has locked the file.
        """
        if older_than_days is None and max_bytes is None and not everything:
            raise DataError("cache prune: say what to forget: an age in days, a size in bytes, or everything")
        if min(older_than_days or 0, max_bytes or 0) < 0:
            raise DataError("cache prune: an age and a size cannot be negative")
        wanted: list[tuple[str, Sequence[object]]] = []
        if everything:
            wanted.append(("DELETE FROM replies", ()))
        if older_than_days is not None:
            wanted.append(("DELETE FROM replies WHERE created < ?", (time.time() - older_than_days * 86_400,)))
        if max_bytes is not None:
            oldest_first = (
                "DELETE FROM replies WHERE key IN (SELECT key FROM "
                "(SELECT key, sum(length(CAST(reply AS BLOB))) OVER (ORDER BY created DESC, key) AS total "
                "FROM replies) WHERE total > ?)"
            )
            wanted.append((oldest_first, (max_bytes,)))
        return self._delete(wanted)

    def forget(self, keys: Iterable[str], groups: Iterable[str] = ()) -> int:
        """Remove replies for good: afterwards no byte of them is left in the cache's files.

        Args:
            keys: of calls.
            groups: of prompts: whatever was asked for them.

        Returns:
            How many replies were removed.

        Raises:
            DataError: another process has the file locked, or reads what is to be removed. What was removed so far
                stays removed; try again.
        """
        wanted: list[tuple[str, Sequence[object]]] = []
        named = {"key": list(dict.fromkeys(keys)), "group_id": list(dict.fromkeys(groups))}
        for column, values in named.items():
            for start in range(0, len(values), _FORGOTTEN_AT_ONCE):
                some = values[start : start + _FORGOTTEN_AT_ONCE]
                marks = ", ".join("?" * len(some))
                wanted.append((f"DELETE FROM replies WHERE {column} IN ({marks})", some))  # noqa: S608
        with self._writing:
            gone, lost = set(named["key"]), set(named["group_id"])
            for key, entry in list(self._unwritten.items()):
                if key in gone or entry.group_id in lost:
                    del self._unwritten[key]
            return self._delete(wanted) if wanted else 0

    def close(self) -> None:
        """Write what could not be written so far, and close the file."""
        with self._writing:
            if self._unwritten:
                self.put_all([])
            if self._unwritten:
                self._say(
                    f"{len(self._unwritten)} answers could not be kept in the request cache in {self.folder}: what the "
                    "dataset does not hold of them is asked again"
                )
            self._writer.close()
        with self._reading:
            self._reader.close()

    def _read(self, query: str, values: Sequence[object], wait: bool) -> list[Any]:
        started = time.monotonic()
        while True:
            try:
                with self._reading:
                    return self._reader.execute(query, values).fetchall()
            except sqlite3.OperationalError as error:
                if not _locked(error):
                    raise
                if not wait:
                    raise CacheLockedError from None
                waited = time.monotonic() - started
                if waited > _LONGEST_WAIT * self._patience:
                    raise DataError(f"{self._locked_for(waited)}: end that process and run again") from None
                if waited > self._patience:
                    self._complain("read", f"{self._locked_for(waited)}; this run waits for it")
            time.sleep(_LOOK_AGAIN)

    def _write(self, entries: Sequence[tuple[str, CacheEntry]]) -> dict[str, Reply]:
        """Write in one commit; returns the replies of keys that were taken."""
        standing: dict[str, Reply] = {}
        if not entries:
            return standing
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            for key, entry in entries:
                if not self._writer.execute(_INSERT, _values(key, entry)).rowcount:
                    standing[key] = Reply.from_json(self._writer.execute(_SELECT, (key,)).fetchone()[0])
            self._writer.execute("COMMIT")
        except sqlite3.Error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        return standing

    def _delete(self, wanted: Sequence[tuple[str, Sequence[object]]]) -> int:
        """Delete, with zeros in the place of what was there, and rebuild the file without the room that it took."""
        deadline = time.monotonic() + self._patience
        try:
            with self._writing:
                before = self._writer.total_changes
                for statement, values in wanted:
                    self._writer.execute(statement, values)
                gone = self._writer.total_changes - before
                self._writer.execute("VACUUM")
                # Whoever reads an old state at this moment keeps it in the write-ahead log.
                while self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    if time.monotonic() > deadline:
                        raise DataError(f"{self._locked_for(self._patience)}: end that process and do this again")
                    time.sleep(_LOOK_AGAIN)
        except sqlite3.OperationalError as error:
            if not _locked(error):
                raise DataError(f"the request cache in {self.folder} could not be rebuilt ({error})") from None
            raise DataError(f"{self._locked_for(self._patience)}: end that process and do this again") from None
        return gone

    def _locked_for(self, seconds: float) -> str:
        return f"another process has had the request cache in {self.folder} locked for {seconds:.0f} seconds"

    def _size(self) -> int:
        names = (FILE, f"{FILE}-wal", f"{FILE}-shm")
        return sum((self.folder / name).stat().st_size for name in names if (self.folder / name).is_file())

    def _complain(self, kind: str, sentence: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._say(sentence)


def _values(key: str, entry: CacheEntry) -> tuple[object, ...]:
    return (
        key,
        entry.reply.to_json(),
        entry.prompt_tokens,
        entry.completion_tokens,
        entry.money,
        entry.seconds,
        entry.attempts,
        entry.created,
        entry.payer,
        entry.group_id,
        entry.step,
        entry.engine,
        entry.model,
    )


def _locked(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
