"""Watching a program from outside: its time, its output, its folder; and the end of all that it started."""

# Paths are texts here: this runs in a bare interpreter, which should start fast.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

_TICK = 0.02
_SHOWN = 4096
_PATIENCE = 10.0


class Watch:
    """One program.

    Args:
        child: its process.
        output: the end of the pipe that it prints to.
        results: the end of its result channel.
        limits: what it may take.
        folder: where it writes, if its size has to be looked after; None where the file system does that.
        count: whether its processes have to be counted, too; only with `folder`.
    """

    def __init__(
        self,
        child: int,
        output: int,
        results: int,
        limits: Mapping[str, Any],
        folder: str | None,
        *,
        count: bool = False,
    ) -> None:
        self.how, self.code, self.said = "exit", 0, ""
        self.output, self.results = bytearray(), bytearray()
        self._child, self._limits, self._folder, self._count = child, limits, folder, count
        self._fds, self._results, self._printed = {output, results}, results, 0
        self._most = int(limits["output_kb"]) << 10
        self._parent = os.getppid()
        for fd in self._fds:
            os.set_blocking(fd, False)

    def until_it_ends(self) -> None:
        """Wait; kill the program where it goes over a limit."""
        deadline = time.monotonic() + float(self._limits["wall_seconds"])
        looked = 0.0
        while True:
            ready = select.select(list(self._fds), [], [], _TICK)[0]
            if not self._fds:
                time.sleep(_TICK / 4)
            over = self._over_output(ready)
            moment = time.monotonic()
            if not over and moment >= deadline:
                over = ("wall", f"it was killed after {self._limits['wall_seconds']:g} s")
            if not over and os.getppid() != self._parent:
                over = ("wall", "whoever asked for it is gone")
            if not over and self._folder is not None and moment - looked > 5 * _TICK:
                over, looked = self._over_disk(self._folder) or self._over_processes(), moment
            ended = self._ended(kill=bool(over))
            if over:
                self.how, self.said = over
            if ended:
                return

    def _ended(self, *, kill: bool) -> bool:
        if kill:
            os.kill(self._child, signal.SIGKILL)  # it is not reaped yet, so the number is still its own
        found, status, usage = os.wait4(self._child, 0 if kill else os.WNOHANG)
        if found == 0:
            return False
        self.code = os.waitstatus_to_exitcode(status)
        spent = usage.ru_utime + usage.ru_stime
        if self.code < 0:
            self.how, self.code = "signal", -self.code
            self.said = f"it was ended by {_signal(self.code)}"
            if self.code == signal.SIGXCPU or spent > self._limits["cpu_seconds"] - 0.1:
                self.how, self.said = "cpu", f"it used more than {self._limits['cpu_seconds']} s of the processor"
        return True

    def _over_output(self, ready: list[int]) -> tuple[str, str] | None:
        for fd in ready:
            with suppress(BlockingIOError):
                data = os.read(fd, 1 << 16)
                if not data:
                    self._fds.discard(fd)
                self._take(fd, data)
        if max(self._printed, len(self.results)) <= self._most:
            return None
        return "output", f"it wrote more than {self._limits['output_kb']} KiB"

    def _take(self, fd: int, data: bytes) -> None:
        if fd == self._results:
            self.results += data[: max(0, self._most + 1 - len(self.results))]
        else:
            self._printed += len(data)
            self.output += data
            del self.output[:-_SHOWN]

    def drain(self) -> None:
        """Read what still lies in the pipes; nobody writes any more."""
        for fd in self._fds:
            with suppress(BlockingIOError):
                while data := os.read(fd, 1 << 16):
                    self._take(fd, data)

    def _over_disk(self, folder: str) -> tuple[str, str] | None:
        """Look at all that lies in the folder, following no link."""
        size, count, folders = 0, 0, [folder]
        most = self._limits["disk_mb"] << 20
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        found = entry.stat(follow_symlinks=False)
                        size, count = size + found.st_blocks * 512, count + 1
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        if size > most or count > self._limits["files"]:
                            return "disk", _disk(self._limits)
            except FileNotFoundError:
                continue  # it was removed meanwhile
            except OSError:
                return "disk", "it made a folder that cannot be looked into"
        return None

    def _over_processes(self) -> tuple[str, str] | None:
        if not self._count or len(_descendants()) <= self._limits["processes"]:
            return None
        return "processes", f"it started more than {self._limits['processes']} processes"


def _disk(limits: Mapping[str, Any]) -> str:
    return f"its folder held more than {limits['disk_mb']} MiB or {limits['files']} files"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def end_everything(*, inside: bool, user: int | None) -> int:
    """Kill all that the program left and wait until it is gone; how many that were.

    Args:
        inside: whether this is process 1 of a PID namespace: then everything else in it belongs to the program.
        user: whose processes belong to the program; None: those that descend from this one.
    """
    reaped, until = 0, time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if inside:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        elif user is not None:
            _kill_all_of(user)
        else:
            for process in _descendants():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                reaped += 1
        except ChildProcessError:
            return reaped
        time.sleep(_TICK / 10)
    return reaped


def _kill_all_of(user: int) -> None:
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(user, user, user)
            os.kill(-1, signal.SIGKILL)  # all that this user may: its own; not the caller
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _descendants() -> set[int]:
    """Those whose chain of parents leads here; orphans have this process for a parent."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    found, before = {os.getpid()}, 0
    while len(found) > before:
        before = len(found)
        found |= {process for process, parent in parents.items() if parent in found}
    return found - {os.getpid()}
