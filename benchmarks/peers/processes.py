"""Running one contender with all its children: CPU, memory, and a kill -9 that leaves none of them."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ended:
    """What a run used.

    Attributes:
        code: its exit status; -9 after a kill.
        hung: it had to be killed because it did not end in time.
        cpu: seconds, user and system, of it and all its children, start included.
        wall: seconds.
        peak_mb: the most memory that all its processes held at once, pages that they share counted once (proportional
            set size), looked at four times a second.
        processes: how many processes it had, itself included.
        said: the end of what it wrote.
    """

    code: int
    hung: bool
    cpu: float
    wall: float
    peak_mb: float
    processes: int
    said: str


@dataclass
class _Session:
    """All processes of one session, by what /proc says while they live."""

    leader: int
    ticks: dict[int, int] = field(default_factory=dict)
    peak_kb: int = 0

    def members(self) -> list[int]:
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and (fields := _stat(int(folder.name))) and int(fields[3]) == self.leader:
                found.append(int(folder.name))
        return found

    def look(self) -> None:
        held = 0
        for member in self.members():
            if fields := _stat(member):
                self.ticks[member] = int(fields[11]) + int(fields[12])
            held += _proportional_kb(member)
        self.peak_kb = max(self.peak_kb, held)

    def kill(self) -> None:
        for member in self.members():
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty where the process is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def _proportional_kb(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def run(
    command: Sequence[str],
    folder: Path,
    environment: dict[str, str],
    kill_when: Callable[[], bool] = lambda: False,
    limit: float = 600.0,
) -> Ended:
    """Run a command in a session of its own.

    Args:
        command: program and arguments.
        folder: where it runs; what it writes goes to `output.log` there.
        environment: all of it.
        kill_when: looked at fifty times a second; once it holds, everything in the session gets SIGKILL.
        limit: seconds after which it is taken to hang, and killed.
    """
    log = folder / "output.log"
    with log.open("wb") as output:
        started = time.perf_counter()
        leader = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        session, over = _Session(leader.pid), threading.Event()

        def watch() -> None:
            while not over.wait(0.25):
                session.look()

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            hung = _wait(leader.pid, started + limit, kill_when)
        finally:
            session.kill()  # also a child that outlives its parent: it would go on asking
            over.set()
        _, status, used = os.wait4(leader.pid, 0)
        wall = time.perf_counter() - started
        watching.join()
    leader.returncode = os.waitstatus_to_exitcode(status)
    return Ended(
        code=leader.returncode,
        hung=hung,
        # A child that nobody waited for is missing in the one, the last quarter of a second in the other.
        cpu=max(used.ru_utime + used.ru_stime, sum(session.ticks.values()) / _TICK),
        wall=wall,
        peak_mb=session.peak_kb / 1024,
        processes=len(session.ticks),
        said=log.read_text(errors="replace")[-2000:],
    )


def _wait(process: int, until: float, kill_when: Callable[[], bool]) -> bool:
    """Wait until a process has ended or is to be killed; returns whether its time was over."""
    # Not Popen.poll, which would take what wait4 is to say.
    while not os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) and not kill_when():
        if time.perf_counter() > until:
            return True
        time.sleep(0.02)
    return False
