"""Leases: who is at work on a dataset, so that one pipeline does not run twice at once and nothing is erased under it.

A lease is a small file in the dataset's folder `running/`, made under its own name (which fails where it is there) and
touched every few seconds while its holder lives. A holder that is gone (killed) leaves a lease that the next one takes
over: at once on the same machine, where the process can be seen to be gone; on another one when it has not been touched
for `STALE` seconds. No file system lock is used: they do not work on every network file system.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from prefdata.dataset.log import linked, write_synced
from prefdata.errors import DataError

FOLDER = "running"

COMPACT, ERASE, REPAIR = "care:compact", "care:erase", "care:repair"
"""The leases of those who care for a dataset; every other one is a run's."""

STALE = 90.0
"""Seconds after which a lease that nobody touches is nobody's."""

_TOUCH = 10.0


@dataclass(frozen=True)
class Lease:
    """Who is at work.

    Attributes:
        name: what is done: a pipeline's name, `compact` or `erase`.
        host: the machine's name.
        machine: tells it, since it was started and within its container, from every other.
        pid: the process on it.
        started: when that process began, as far as the system tells: another process may get the same number later.
        age: seconds since it was last touched.
        token: tells this lease from every other.
    """

    name: str
    host: str
    machine: str
    pid: int
    started: str
    age: float
    token: str

    @property
    def alive(self) -> bool:
        """Whether its holder may still be at work."""
        if self.machine == _machine():
            return bool(self.started) and self.started == _started(self.pid)
        return abs(self.age) < STALE

    @property
    def work(self) -> str:
        """What is done, in a word or two."""
        care = self.name.removeprefix("care:")
        return care if self.name in (COMPACT, ERASE, REPAIR) else f"a run of {self.name}"

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, last heard of {max(0.0, self.age):.0f} seconds ago"


class HeldError(Exception):
    """Somebody else is at it.

    Attributes:
        lease: who.
    """

    def __init__(self, lease: Lease) -> None:
        super().__init__(str(lease))
        self.lease = lease


def leases(root: Path) -> list[Lease]:
    """Who is at work on the dataset in `root`; those whose holder is gone are left out."""
    found = (_read(path) for path in sorted((root / FOLDER).glob("*.json")))
    return [lease for lease in found if lease is not None and lease.alive]


def abandoned(root: Path) -> list[str]:
    """Names of the files of leases whose holders are gone."""
    found = ((path, _read(path)) for path in sorted((root / FOLDER).glob("*.json")))
    return [path.name for path, lease in found if lease is None or not lease.alive]


def runs(root: Path) -> list[Lease]:
    """The runs at work."""
    return [lease for lease in leases(root) if lease.name not in (COMPACT, ERASE, REPAIR)]


def caretaker(root: Path) -> Lease | None:
    """Who erases or repairs just now: nothing may run meanwhile."""
    return next((lease for lease in leases(root) if lease.name in (ERASE, REPAIR)), None)


@contextlib.contextmanager
def care(root: Path, name: str) -> Iterator[None]:
    """Hold a lease of those who care for a dataset: one of them at a time, and, but for compact, no run beside.

    Args:
        root: the dataset's folder.
        name: COMPACT, ERASE or REPAIR.

    Raises:
        DataError: somebody is at work; says who.
    """
    try:
        with hold(root, name):
            # Each holds its own lease before it looks for the others': of two that start at once, at least one sees.
            for lease in leases(root):
                caring = lease.name in (COMPACT, ERASE, REPAIR)
                if lease.name != name and (caring or name != COMPACT):
                    raise HeldError(lease)
            yield
    except HeldError as error:
        wanted = name.removeprefix("care:")
        raise DataError(
            f"{root}: {error.lease.work} is at work on it ({error}), and {wanted} cannot be done beside it. Wait for "
            "its end, or stop it, and give this command again"
        ) from None


@contextlib.contextmanager
def run_alone(root: Path, *pipelines: str) -> Iterator[str]:
    """Hold the leases of these pipelines: a second run would ask and pay for what the first one has in flight.

    Yields:
        What tells this run from every other; see `running`.

    Raises:
        DataError: one of them is running already, or somebody erases or repairs just now; says who.
    """
    with contextlib.ExitStack() as held:
        token = ""
        for name in sorted(pipelines):
            try:
                token = held.enter_context(hold(root, name))
            except HeldError as error:
                raise DataError(
                    f"{name} is running on {root} already ({error}). Wait for its end, or stop it; to run a variant "
                    "beside it give that one a name of its own (--as NAME)"
                ) from None
        caring = caretaker(root)
        if caring is not None:
            raise DataError(f"{root}: {caring.work} is at work on it ({caring}); wait for its end, and run again")
        yield token


def running(root: Path, token: str) -> bool:
    """Whether the run that `run_alone` gave this token is still at work."""
    return any(lease.token == token for lease in leases(root))


@contextlib.contextmanager
def hold(root: Path, name: str) -> Iterator[str]:
    """Hold the lease of that name until the block ends.

    Yields:
        The lease's token.

    Raises:
        HeldError: somebody who is alive holds it.
        DataError: the folder cannot be written.
    """
    folder = root / FOLDER
    path = folder / f"{quote(name, safe='')}.json"
    token = uuid.uuid4().hex
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _take(path, name, token)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise DataError(f"{root} cannot be written to ({error.strerror}): make it writable, or use a copy") from error
    done = threading.Event()

    def touch() -> None:
        while not done.wait(_TOUCH):
            held = _read(path)
            if held is not None and held.token != token:
                return  # after a long sleep another one has taken over: it is not ours to keep alive
            with contextlib.suppress(OSError):
                os.utime(path)

    toucher = threading.Thread(target=touch, name="prefdata-lease", daemon=True)
    toucher.start()
    try:
        yield token
    finally:
        done.set()
        toucher.join()
        lease = _read(path)
        if lease is not None and lease.token == token:  # not one that somebody took over meanwhile
            path.unlink(missing_ok=True)


def _take(path: Path, name: str, token: str) -> None:
    pid = os.getpid()
    content = {"name": name, "host": socket.gethostname(), "machine": _machine(), "pid": pid, "started": _started(pid)}
    content["token"] = token
    temporary = path.with_name(f".{token}.tmp")
    old = path.with_name(f".{token}.old")
    write_synced(temporary, json.dumps(content).encode())
    try:
        while not linked(temporary, path):
            held = _read(path)
            if held is not None and held.alive:
                raise HeldError(held)
            with contextlib.suppress(FileNotFoundError):  # given up, or taken away by another one who found it so
                path.rename(old)
                taken = _read(old)
                if taken is not None and (held is None or taken.token != held.token):
                    linked(old, path)  # it is not what we had looked at: somebody was quicker
                with contextlib.suppress(OSError):
                    old.unlink()
    finally:
        temporary.unlink(missing_ok=True)
        old.unlink(missing_ok=True)


def _read(path: Path) -> Lease | None:
    """The lease in a file; None where there is none, or something else (a dataset may come from a stranger)."""
    try:
        said = json.loads(path.read_bytes())
        texts = [said[key] for key in ("name", "host", "machine", "started", "token")]
        if not all(isinstance(text, str) for text in texts):
            return None
        name, host, machine, started, token = texts
        # Another machine's clock, and the file server's, may differ from ours.
        now = time.time() if machine == _machine() else _time_of(path.parent)
        return Lease(name, host, machine, int(said["pid"]), started, now - path.stat().st_mtime, token)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _time_of(folder: Path) -> float:
    """The present moment by the clock of a folder's file system."""
    probe = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:  # it may be read, and not written
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _machine() -> str:
    """The machine, as of its last start; a container, which sees other processes, counts as one of its own."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _started(pid: int) -> str:
    """When a process of this machine began, in the system's own words; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # a zombie is gone, though nobody has taken notice yet
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except (OSError, IndexError):
        return ""
    try:
        os.kill(pid, 0)  # no /proc (macOS): there is a process of that number, or there is none
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return str(pid)
