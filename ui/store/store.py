"""The label store: one SQLite file (or a PostgreSQL database) that acknowledges nothing before it is durable."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from prefdata.errors import DataError

from .tables import metadata, settings

FILE = "labels.sqlite"
"""The store of a dataset, in its folder, unless a URL is given."""

ELSEWHERE = "labels.store"
"""The file in a dataset's folder that says that its labels are kept elsewhere: the URL without its password."""

_BUSY = 30.0
"""Seconds that a writer waits for another one."""

_LOCK = 0x70726566
"""Names our lock among those of a PostgreSQL server: the letters `pref`."""


class Store:
    """Where the application keeps people, projects, tasks and labels.

    A write transaction excludes all others, on SQLite by BEGIN IMMEDIATE and on PostgreSQL by an advisory lock, so that
    overlap counts are exact on both. When `write` has been left, its rows survive a power cut (SQLite: WAL with
    synchronous=FULL; PostgreSQL: its default, synchronous_commit).

    Args:
        url: an SQLAlchemy URL: `sqlite:///PATH` or `postgresql+psycopg://...`. Tables that are missing are made, those
            of an older version are brought up to this one.

    Raises:
        DataError: the URL is of another kind, the server cannot be reached, or a newer prefdata made the store.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.sqlite = self.engine.dialect.name == "sqlite"
        self._turn = threading.Lock()
        try:
            self._prepare()
        except (DBAPIError, sqlite3.Error) as error:
            self.engine.dispose()
            raise DataError(f"the label store {self} cannot be opened: {getattr(error, 'orig', error)}") from error

    @classmethod
    def open(cls, dataset: Path, url: str | None = None) -> Store:
        """The store of a dataset: `labels.sqlite` in its folder, or the one at `url`.

        Raises:
            DataError: the labels of this dataset are kept elsewhere, and no URL says where; or as for `Store`.
        """
        note = dataset / ELSEWHERE
        if url is None and note.exists() and not (dataset / FILE).exists():
            kept = note.read_text(encoding="utf-8").strip()
            raise DataError(f"the labels of {dataset} are kept in {kept}: name it with --store (and its password)")
        store = cls(url or f"sqlite:///{(dataset / FILE).absolute()}")
        if url is not None:
            note.write_text(f"{store}\n", encoding="utf-8")
        return store

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection whose queries see one state of the store."""
        with self.engine.connect().execution_options(**self._snapshot) as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection that excludes other writers; all of it is durable when this is left, or none of it."""
        # Threads of one process wait here for their turn: SQLite lets those who wait sleep and try again, and whoever
        # has slept longest tries least often. Waiting here holds no connection either.
        mine = self._turn.acquire(timeout=_BUSY)
        try:
            with self.engine.connect().execution_options(write=True) as connection, connection.begin():
                if not self.sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
                yield connection
        finally:
            if mine:
                self._turn.release()

    @property
    def _snapshot(self) -> dict[str, str]:
        return {} if self.sqlite else {"isolation_level": "REPEATABLE READ"}

    def setting(self, key: str) -> Any:
        """What is set for the whole store; None where it is not."""
        with self.read() as db:
            return db.execute(select(settings.c.value).where(settings.c.key == key)).scalar()

    def set(self, key: str, value: Any) -> None:
        """Set something for the whole store."""
        with self.write() as db:
            db.execute(settings.delete().where(settings.c.key == key))
            db.execute(insert(settings).values(key=key, value=value))

    def backup(self, out: str) -> dict[str, int]:
        """Copy the whole store, as it is at one moment, while it is in use.

        Args:
            out: a file that is not there yet, or the URL of an empty database: a copy may change its kind.

        Returns:
            How many rows each table has.

        Raises:
            DataError: the file is there already, its folder is not there, or the database is not empty.
        """
        url = out if "://" in out else f"sqlite:///{Path(out).absolute()}"
        path = make_url(url).database if url.startswith("sqlite") else None
        if path and Path(path).exists():
            raise DataError(f"{path} is there already: name a new file for the copy")
        if path and not Path(path).parent.is_dir():
            raise DataError(f"there is no folder {Path(path).parent} for the copy: make it first, or name another file")
        copy = Store(url)
        try:
            with self.read() as source, copy.write() as target:
                if any(target.execute(select(table).limit(1)).first() for table in metadata.sorted_tables):
                    raise DataError(f"{copy} is not empty: name an empty database for the copy")
                return {table.name: _copied(source, target, table) for table in metadata.sorted_tables}
        finally:
            copy.close()

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()

    def __str__(self) -> str:
        return self.engine.url.render_as_string(hide_password=True)

    def _prepare(self) -> None:
        from .versions import NEWEST, bring_up, stamp, version_of

        with self.write() as db:
            if not inspect(db).has_table(settings.name):
                metadata.create_all(db)
                stamp(db)
            found = version_of(db)
            if found is None or found > NEWEST:
                raise DataError(
                    f"the label store {self} was made by a newer prefdata (version {found}; this one knows them up to "
                    f"{NEWEST}): upgrade prefdata to open it"
                )
            if found < NEWEST:
                bring_up(db)


def _copied(source: Connection, target: Connection, table: Any) -> int:
    count = 0
    rows = source.execution_options(yield_per=10_000).execute(select(table)).mappings()
    for batch in rows.partitions(10_000):
        target.execute(insert(table), [dict(row) for row in batch])
        count += len(batch)
    keys: Sequence[Any] = list(table.primary_key.columns)
    if target.dialect.name == "postgresql" and len(keys) == 1 and keys[0].name.endswith("_id") and count:
        # Rows came with their own ids: the next one made there must be higher.
        name, key = table.name, keys[0].name
        target.execute(
            text(f"SELECT setval(pg_get_serial_sequence('{name}', '{key}'), (SELECT max({key}) FROM {name}))")  # noqa: S608
        )
    return count


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
        if kind not in ("sqlite", "postgresql"):
            raise DataError(f"a label store is sqlite:///PATH or postgresql+psycopg://..., not {kind}")
        if kind == "postgresql":
            return create_engine(parsed, pool_size=10, max_overflow=30, pool_pre_ping=True, hide_parameters=True)
    except ArgumentError as error:
        raise DataError(
            f"{url!r} is no address of a store: write sqlite:///PATH or postgresql+psycopg://..."
        ) from error
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise DataError(
            f"the driver of {url.split('://')[0]} is not installed: pip install 'psycopg[binary]'"
        ) from error
    # Mistakes go into the log, and the parameters of a statement are what people wrote: hide_parameters.
    # Threads come and go with requests; connections are kept, so that pragmas and files are set up once.
    _make_private(parsed.database)
    waits = {"timeout": _BUSY}
    engine = create_engine(parsed, pool_size=10, max_overflow=40, connect_args=waits, hide_parameters=True)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _make_private(path: str | None) -> None:
    """Make the file of a new store, for the eyes of its owner: sign-in names, password hashes and gold answers.

    SQLite gives the files that it puts beside it (-wal, -shm) the same permissions. One that is there keeps its own.
    """
    if path and path != ":memory:" and not path.startswith("file:"):
        with contextlib.suppress(OSError):  # SQLite says what is wrong
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _set_up(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves; the driver would say it too late
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        for attempt in range(100):
            try:
                connection.execute(f"PRAGMA {pragma}")
                break
            except sqlite3.OperationalError:  # switching to WAL is not covered by the busy timeout
                if attempt == 99:
                    raise
                time.sleep(0.05)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN")
