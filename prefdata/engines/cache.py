"""The request cache: every answered request of one user, so that no model call is paid for twice.

One SQLite file, in write-ahead mode, for any number of processes and threads. Its key names everything that can change
an answer and the engine's identity; keys of servers are in neither. Failures are never kept. A refusal or a truncated
answer is kept as what it is, by the `finish_reason` of the reply.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prefdata.engines.base import Reply
from prefdata.errors import DataError

FILE = "requests.sqlite3"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    reply TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    money REAL,
    seconds REAL NOT NULL,
    attempts INTEGER NOT NULL,
    created REAL NOT NULL,
    payer TEXT NOT NULL
) WITHOUT ROWID
"""
_COLUMNS = "reply, prompt_tokens, completion_tokens, money, seconds, attempts, created, payer"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One answered request.

    Attributes:
        reply: what came back.
        money: USD that it cost; None where the engine had no price.
        seconds: that the engine took for it.
        attempts: how often it was sent.
        created: Unix time.
        payer: uid of the dataset whose run paid.
    """

    reply: Reply
    money: float | None
    seconds: float
    attempts: int
    created: float
    payer: str


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

    Where the folder cannot be written, or holds something else, it says so once and keeps replies in memory.

    Args:
        folder: of the cache; `cache_folder()` unless given. It is made readable by its owner only.
        say: is told, in a sentence, when answers cannot be kept.
    """

    def __init__(self, folder: Path | None = None, say: Callable[[str], object] = warnings.warn) -> None:
        self.folder = folder or cache_folder()
        self.persistent = True
        self._say = say
        self._lock = threading.RLock()
        self._said = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = self._open(str(self.folder / FILE))
            (self.folder / FILE).chmod(0o600)
        except (OSError, sqlite3.Error) as error:
            self._complain(
                f"the request cache in {self.folder} cannot be used ({error}); this run keeps its answers "
                "in memory only. Set PREFDATA_CACHE to a folder that can be written"
            )
            self.persistent = False
            self._connection = self._open(":memory:")

    def get(self, key: str) -> CacheEntry | None:
        """The entry of a request, or None."""
        with self._lock:
            row = self._connection.execute(f"SELECT {_COLUMNS} FROM replies WHERE key = ?", (key,)).fetchone()  # noqa: S608
        if row is None:
            return None
        reply, _, _, money, seconds, attempts, created, payer = row
        return CacheEntry(Reply.from_json(reply), money, seconds, attempts, created, payer)

    def put(self, key: str, reply: Reply, *, money: float | None, seconds: float, attempts: int, payer: str) -> None:
        """Keep a reply durably. The first one of a request stays.

        Raises:
            ValueError: the reply is a failure (finish_reason error), which must not be answered again from here.
        """
        if reply.finish_reason == "error":
            raise ValueError("a failure is never kept in the request cache")
        row = (
            key,
            reply.to_json(),
            reply.prompt_tokens,
            reply.completion_tokens,
            money,
            seconds,
            attempts,
            time.time(),
            payer,
        )
        try:
            with self._lock, self._connection:
                self._connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            self._complain(f"an answer could not be kept in the request cache in {self.folder} ({error})")

    def has(self, key: str) -> bool:
        """Whether a request's reply is kept (for a plan's estimate)."""
        with self._lock:
            return self._connection.execute("SELECT 1 FROM replies WHERE key = ?", (key,)).fetchone() is not None

    def stats(self) -> CacheStats:
        """What the cache holds, and what it cost once."""
        query = (
            "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), "
            "coalesce(sum(money), 0.0), min(created), max(created) FROM replies"
        )
        with self._lock:
            count, read, written, money, oldest, newest = self._connection.execute(query).fetchone()
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
            DataError: none of the three was asked, or a limit is negative.
        """
        if older_than_days is None and max_bytes is None and not everything:
            raise DataError("cache prune: say what to forget: an age in days, a size in bytes, or everything")
        if min(older_than_days or 0, max_bytes or 0) < 0:
            raise DataError("cache prune: an age and a size cannot be negative")
        with self._lock:
            before = self._connection.total_changes
            with self._connection:
                if everything:
                    self._connection.execute("DELETE FROM replies")
                if older_than_days is not None:
                    limit = time.time() - older_than_days * 86_400
                    self._connection.execute("DELETE FROM replies WHERE created < ?", (limit,))
                if max_bytes is not None:
                    self._connection.execute(
                        "DELETE FROM replies WHERE key IN (SELECT key FROM (SELECT key, "
                        "sum(length(CAST(reply AS BLOB))) OVER (ORDER BY created DESC, key) AS total FROM replies) "
                        "WHERE total > ?)",
                        (max_bytes,),
                    )
            forgotten = self._connection.total_changes - before
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return forgotten

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _open(self, path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            # In WAL mode NORMAL survives kill -9 of the process; only a power cut can lose the last seconds.
            connection.execute("PRAGMA synchronous=NORMAL")
            with connection:
                connection.execute(_SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _size(self) -> int:
        names = (FILE, f"{FILE}-wal", f"{FILE}-shm")
        return sum((self.folder / name).stat().st_size for name in names if (self.folder / name).is_file())

    def _complain(self, sentence: str) -> None:
        if not self._said:
            self._said = True
            self._say(sentence)
