"""The last steps before a program begins: from here on it can do less and less, and at the end it is executed."""

# Paths are texts here: this runs in a bare interpreter, which should start fast.
# ruff: noqa: PTH116, PTH123, PTH208

from __future__ import annotations

import fcntl
import os
import random
import resource
import signal
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from . import landlock, seccomp
from .kernel import PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, prctl
from .namespaces import DEVICES

_FAILED = 5

_RANGES = ((1_880_000_000, 1 << 20), (60_000, 5_000))
"""User ids that nobody has: one is drawn for each run, so that the limit on processes counts this run's alone."""


def private_user() -> int | None:
    """A user id for one run; None where we are not root and have to stay who we are.

    Raises:
        PermissionError: root has no such id to give, as in a container with few of them.
    """
    if os.geteuid() != 0:
        return None
    with open("/proc/self/uid_map") as file:
        spans = [[int(number) for number in line.split()] for line in file]
    for first, many in _RANGES:
        if any(start <= first and first + many <= start + count for start, _, count in spans):
            return first + random.SystemRandom().randrange(many)
    raise PermissionError("root has no user id here under which to run a program: its user namespace has too few")


def set_limits(limits: Mapping[str, Any], processes: int) -> None:
    """What the kernel counts for a process. Hard limits, which only root could raise again."""
    cpu, memory, disk = int(limits["cpu_seconds"]), limits["memory_mb"] << 20, limits["disk_mb"] << 20
    for what, soft, hard in (
        (resource.RLIMIT_CPU, cpu, cpu),  # with no warning before, which a program could handle
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_FSIZE, disk, disk),
        (resource.RLIMIT_NPROC, processes, processes),
        (resource.RLIMIT_NOFILE, limits["open_files"], limits["open_files"]),
        (resource.RLIMIT_STACK, 8 << 20, 8 << 20),
        (resource.RLIMIT_CORE, 1, 1),  # at 0 the kernel would still hand a core to a program that asks for them
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
        (resource.RLIMIT_SIGPENDING, 64, 64),
    ):
        ceiling = resource.getrlimit(what)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(what, (soft, hard))


def own_processes() -> int:
    """How many processes and threads of this user there are, where the limit has to stand on top of them."""
    me, count = os.getuid(), 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == me:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count


def execute(
    task: Mapping[str, Any],
    fds: Sequence[int],
    *,
    folder: str,
    command: Sequence[str],
    user: int | None,
    processes: int,
    locked: Sequence[str] | None,
    own_pids: bool,
) -> NoReturn:
    """Give up everything and become the program. Never returns; what fails is said on the last of `fds`.

    Args:
        task: what `start` asked for.
        fds: its output, result channel and secret; and one that is closed when the program begins.
        folder: it begins here, and may write here.
        command: the program.
        user: whose id it takes; None: stays.
        processes: limit.
        locked: what Landlock leaves readable; None: a root of its own holds it.
        own_pids: whether it is in a PID namespace of its own; if not, it may send signals to itself only.
    """
    try:
        os.setsid()
        # Clear of the numbers that are given out below.
        output, results, secret, failed = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in fds)
        nothing = os.open("/dev/null", os.O_RDONLY)
        for number, fd in enumerate((nothing, output, output, results, secret)):
            os.dup2(fd, number, inheritable=True)
        os.dup2(failed, _FAILED, inheritable=False)
        os.closerange(_FAILED + 1, 1 << 16)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.umask(0o077)
        os.chdir(folder)
        set_limits(task["limits"], processes)
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user had cleared it
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        if locked is not None:
            landlock.restrict(locked, [folder, *DEVICES])
        if seccomp.known() and "seccomp" not in task["without"]:
            seccomp.install(None if own_pids else os.getpid(), keep_modes=locked is not None and user is None)
        environment = {
            "HOME": folder,
            "TMPDIR": folder,
            "LANG": "C.UTF-8",
            "PATH": "/usr/bin:/bin",
            "PYTHONHASHSEED": "0",  # what a set prints first is not to change a verdict
            "MALLOC_ARENA_MAX": "2",  # else each thread takes 64 MiB of the address space
        }
        os.execve(command[0], list(command), environment)  # noqa: S606
    except BaseException as error:
        os.write(_FAILED, f"{type(error).__name__}: {error}"[:500].encode("utf-8", "replace"))
    os._exit(1)
