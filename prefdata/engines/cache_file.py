"""How the request cache's SQLite file is opened: the journal that its file system bears, and its one table.

SQLite's write-ahead log needs memory that all processes share, which those of two machines do not: on a network file
system it can lose answers or damage the file (https://www.sqlite.org/wal.html). There the file gets a rollback journal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

FILE = "requests.sqlite3"

MOUNTS = Path("/proc/self/mountinfo")
"""Where Linux says which file systems there are (proc(5))."""

PATIENCE = 30.0
"""Seconds to wait for another process that has locked the file."""

_NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"}
    | {"nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "quobyte", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs"}
)
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.gocryptfs", "fuse.encfs", "fuseblk"})
_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    reply TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    money REAL,
    seconds REAL NOT NULL,
    attempts INTEGER NOT NULL,
    created REAL NOT NULL,
    payer TEXT NOT NULL,
    group_id TEXT,
    step TEXT,
    engine TEXT,
    model TEXT
) WITHOUT ROWID
"""
_ADDED = ("group_id", "step", "engine", "model")
"""Columns that files of earlier versions lack."""
_INDEX = "CREATE INDEX IF NOT EXISTS replies_by_payer ON replies (payer, key)"
_said: set[str] = set()


def filesystem_of(folder: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a folder lies on, as Linux calls it (ext4, nfs4); empty where nobody says.

    Args:
        folder: need not exist.
        mounts: in the form of /proc/self/mountinfo.
    """
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    target, longest, found = folder.resolve(), -1, ""
    for line in lines:
        place, _, rest = line.partition(" - ")
        fields, kind = place.split(" "), rest.split(" ", 1)[0]
        if len(fields) < 5 or not kind:
            continue
        point = Path(_unescaped(fields[4]))
        # A later mount on the same point covers the earlier one.
        if target.is_relative_to(point) and len(point.parts) >= longest:
            longest, found = len(point.parts), kind
    return found


def is_shared(kind: str) -> bool:
    """Whether several machines may have files of such a file system open."""
    return kind in _NETWORK or (kind.startswith("fuse") and kind not in _LOCAL_FUSE)


def open_file(
    path: Path, say: Callable[[str], object], mounts: Path = MOUNTS, patience: float = PATIENCE
) -> sqlite3.Connection:
    """The connection that writes, in autocommit mode; the table is made where there is none.

    Args:
        path: of the file.
        say: is told, once per process, where the file cannot have a write-ahead log.
        mounts: see `filesystem_of`.
        patience: seconds to wait for a lock.

    Raises:
        sqlite3.Error: it cannot be opened, or is something else.
    """
    kind = filesystem_of(path.parent, mounts)
    if is_shared(kind):
        _leave_wal(path, patience)
        connection = connect(path, patience)
        try:
            _roll_back(connection, f"lies on a file system that other machines may share ({kind})", path, say)
        except sqlite3.Error:
            connection.close()
            raise
        return connection
    connection = connect(path, patience)
    try:
        if _pragma(connection, "journal_mode=WAL") != "wal":
            _roll_back(connection, "lies where SQLite cannot have a write-ahead log", path, say)
        else:
            # Here NORMAL survives kill -9 of the process; only a power cut can lose the last seconds.
            _pragma(connection, "synchronous=NORMAL")
            make_table(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """A connection in autocommit mode for any thread; it waits so many seconds for a lock."""
    return sqlite3.connect(path, timeout=patience, check_same_thread=False, isolation_level=None)


def make_table(connection: sqlite3.Connection) -> None:
    """Make the table, or give that of an earlier version the columns that it lacks."""
    _pragma(connection, "secure_delete=ON")
    connection.execute(_TABLE)
    there = _columns(connection)
    for column in _ADDED:
        if column in there:
            continue
        try:
            connection.execute(f"ALTER TABLE replies ADD COLUMN {column} TEXT")
        except sqlite3.OperationalError:
            if column not in _columns(connection):  # else another process has just done the same
                raise
    connection.execute(_INDEX)


def _roll_back(connection: sqlite3.Connection, why: str, path: Path, say: Callable[[str], object]) -> None:
    mode = _pragma(connection, "journal_mode=DELETE")
    if mode != "delete":
        raise sqlite3.OperationalError(f"its journal is of the kind {mode!r} and cannot be changed")
    _pragma(connection, "synchronous=FULL")
    make_table(connection)
    if why not in _said:
        _said.add(why)
        say(
            f"the request cache in {path.parent} {why}: it is kept with a rollback journal, which is safe there and "
            "slower. Set PREFDATA_CACHE to a folder on a disk of this machine if no other machine needs it"
        )


def _leave_wal(path: Path, patience: float) -> None:
    """Give a file that has a write-ahead log a rollback journal, without the shared memory that may not work here."""
    try:
        with path.open("rb") as file:
            versions = file.read(20)[18:20]  # https://www.sqlite.org/fileformat.html: 2 is WAL
    except FileNotFoundError:
        return
    if versions != b"\x02\x02":
        return
    connection = connect(path, patience)
    try:
        _pragma(connection, "locking_mode=EXCLUSIVE")
        _pragma(connection, "journal_mode=DELETE")
    finally:
        connection.close()


def _pragma(connection: sqlite3.Connection, pragma: str) -> object:
    row = connection.execute(f"PRAGMA {pragma}").fetchone()
    return row[0] if row else None


def _columns(connection: sqlite3.Connection) -> set[str]:
    return {row[1] for row in connection.execute("PRAGMA table_info(replies)")}


def _unescaped(field: str) -> str:
    r"""A path in which mountinfo has written space, tab, newline and backslash as \040 and so on."""
    for code in ("040", "011", "012", "134"):
        field = field.replace(f"\\{code}", chr(int(code, 8)))
    return field
