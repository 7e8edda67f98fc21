"""What a program may take, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

How = Literal["exit", "signal", "cpu", "wall", "output", "disk", "processes", "sandbox"]


@dataclass(frozen=True)
class Limits:
    """What a program may take.

    Attributes:
        cpu_seconds: of the processor, for each of its processes.
        wall_seconds: until it is killed with all its processes.
        memory_mb: MiB of address space, for each of its processes.
        disk_mb: MiB that its folder may hold, and each file in it.
        files: how many files and folders it may make.
        processes: how many processes and threads it may have.
        open_files: how many each of its processes may have open.
        output_kb: KiB that it may print, and as many that it may answer its tests with.
    """

    cpu_seconds: int = 5
    wall_seconds: float = 10.0
    memory_mb: int = 512
    disk_mb: int = 16
    files: int = 256
    processes: int = 8
    open_files: int = 64
    output_kb: int = 256


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        how: by itself (`exit`), by a signal, by a limit, or `sandbox`: it was never run.
        code: its exit status, or the signal's number.
        said: why, where it did not end by itself; a few words.
        results: the lines that it wrote to its result channel.
        output: the end of what it printed, stdout and stderr together.
        guards: what held it: namespaces, landlock, seccomp, uid.
        left: how many processes of it were still there at its end, and were killed.
    """

    how: How
    code: int = 0
    said: str = ""
    results: tuple[bytes, ...] = ()
    output: str = ""
    guards: tuple[str, ...] = field(default=())
    left: int = 0
