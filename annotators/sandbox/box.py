"""The sandbox's own process: `start` runs it with a bare interpreter, one for each program.

Four processes, each the child of the one before: this one; one that enters the namespaces; the watcher, which is
process 1 of the PID namespace, so that at its end the kernel kills what is in there; the program.
"""

# Paths are texts here: this runs in a bare interpreter, which should start fast.
# ruff: noqa: PTH101, PTH102, PTH106, PTH110, PTH111, PTH123

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from typing import Any, NoReturn

from . import landlock, seccomp
from .drop import execute, own_processes, private_user
from .kernel import MACHINE, PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl
from .namespaces import BOX, TASK, enter, make_root
from .watch import Watch, end_everything

_NO_NAMESPACES = 75
_SLACK = 64
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/nix/store", "/etc/ld.so.cache")


def main() -> None:
    """Run the program of the task on standard input; write how it ended to standard output, as JSON."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    task = json.loads(sys.stdin.buffer.read())
    if os.getppid() != task["parent"]:
        return
    if "namespaces" not in task["without"]:
        ready = os.pipe()
        if _forked(lambda: _enter_and_watch(task, ready[1]), lambda: _forget(task["folder"], *ready)) != _NO_NAMESPACES:
            return
    _forked(lambda: _watch(task, inside=False))


def _forget(folder: str, ready: int, told: int) -> None:
    """Remove the empty folder once the program's root, made upon it, stands by itself: nothing is left to remove later.

    Later there may be nobody: prefdata may be killed.
    """
    os.close(told)
    if os.read(ready, 1):
        os.rmdir(folder)
    os.close(ready)


def _forked(run: Any, meanwhile: Any = None) -> int:
    """The exit status of a child that runs this."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            status = run() or 0
        except BaseException as error:
            _refuse(f"{type(error).__name__}: {error}")
        finally:
            os._exit(status)
    if meanwhile is not None:
        meanwhile()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _enter_and_watch(task: dict[str, Any], ready: int) -> int:
    try:
        enter()
    except OSError:
        return _NO_NAMESPACES
    return _forked(lambda: _watch(task, inside=True, ready=ready))


def _watch(task: dict[str, Any], *, inside: bool, ready: int = -1) -> int:
    """Prepare the folders, begin the program, watch it, end all that it started, and say what happened."""
    user = private_user()
    readable, folder, place = _readable(task["python"]), task["folder"], TASK
    guards = (["namespaces"] if inside else []) + (["uid"] if user is not None else [])
    filtered = seccomp.known() and "seccomp" not in task["without"]
    locked: list[str] | None = None
    if inside:
        owner = None if user is None else (user, user)
        limits = task["limits"]
        try:
            make_root(folder, readable, task["files"], disk_mb=limits["disk_mb"], inodes=limits["files"], owner=owner)
        except OSError:
            return _NO_NAMESPACES
        os.write(ready, b"1")
        box = BOX
    else:
        if landlock.version() == 0 or "landlock" in task["without"]:
            return _refuse(
                "this machine's kernel gives neither namespaces nor Landlock, so that nothing would keep the program "
                "from reading files"
            )
        if not filtered:  # Landlock knows TCP alone, and lets signals out
            return _refuse("without namespaces the network is denied by seccomp alone, and there is none here")
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_PDEATHSIG, 0)  # it outlives prefdata, to end what no namespace ends
        box, place = _plain_folders(folder, task["files"], user)
        locked = [*readable, place]
        guards.append("landlock")
    guards += ["seccomp"] if filtered else []
    prctl(PR_SET_DUMPABLE, 0)
    _run(task, guards, user=user, box=box, place=place, locked=locked, inside=inside)
    return 0


def _run(
    task: dict[str, Any],
    guards: list[str],
    *,
    user: int | None,
    box: str,
    place: str,
    locked: list[str] | None,
    inside: bool,
) -> None:
    output, results, secret, failed = os.pipe(), os.pipe(), os.pipe(), os.pipe()
    processes = int(task["limits"]["processes"])
    if user is None:
        # The kernel counts all processes of a user: two of these are ours. Without a user namespace it counts those
        # outside as well, of which more may come meanwhile, so that there the watcher counts besides.
        processes += 2 if inside else own_processes() + _SLACK
    os.write(secret[1], task["secret"].encode())
    child = os.fork()
    if child == 0:
        execute(
            task,
            (output[1], results[1], secret[0], failed[1]),
            folder=box,
            command=[task["python"], "-s", "-S", "-B", f"{place}/{task['main']}", place],
            user=user,
            processes=processes,
            locked=locked,
            own_pids=inside,
        )
    for fd in (output[1], results[1], failed[1], *secret):
        os.close(fd)
    watch = Watch(child, output[0], results[0], task["limits"], None if inside else box, count=user is None)
    watch.until_it_ends()
    left = end_everything(inside=inside, user=user)
    watch.drain()
    if why := os.read(failed[0], 1000):  # written before the program began, and closed then: it cannot say this itself
        _refuse(f"the program could not be begun: {why.decode('utf-8', 'replace')}")
        return
    _say(
        {
            "how": watch.how,
            "code": watch.code,
            "said": watch.said,
            "results": base64.b64encode(bytes(watch.results)).decode(),
            "output": base64.b64encode(bytes(watch.output)).decode(),
            "guards": guards,
            "left": left,
        }
    )


def _readable(python: str) -> list[str]:
    """What a Python needs to run: the system's libraries, its own folder, and the libraries that it has loaded."""
    found = [path for path in _SYSTEM if os.path.lexists(path)]
    real = os.path.realpath(python)
    home = os.path.realpath(os.path.expanduser("~"))
    for path in (sys.base_prefix, sys.base_exec_prefix):
        if path not in _SYSTEM and f"{home}/".startswith(os.path.realpath(path).rstrip("/") + "/"):
            raise PermissionError(f"{python} has {path} for its own folder, and your home lies in it; give another one")
    for path in (sys.base_prefix, sys.base_exec_prefix, python, real, *_loaded()):
        if not any(path == held or path.startswith(held.rstrip("/") + "/") for held in found):
            found.append(path)
    return found


def _loaded() -> list[str]:
    with open("/proc/self/maps") as file:
        named = {line.split(maxsplit=5)[5].strip() for line in file if line.count("/")}
    return sorted(path for path in named if path.startswith("/") and ".so" in path and os.path.exists(path))


def _plain_folders(folder: str, files: dict[str, str], user: int | None) -> tuple[str, str]:
    """The folder to write in and that of the task's files, where there is no root of the program's own."""
    os.chmod(folder, 0o755)  # noqa: S103  # another user must be able to pass through
    box, place = f"{folder}/box", f"{folder}/task"
    os.mkdir(box, 0o700)
    os.mkdir(place, 0o755)
    for name, text in files.items():
        with open(f"{place}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(file.name, 0o444)
    if user is not None:
        os.chown(box, user, user)
    return box, place


def _refuse(why: str) -> int:
    _say({"how": "sandbox", "said": f"{why} ({MACHINE})" if not seccomp.known() else why})
    return 0


def _say(report: dict[str, Any]) -> None:
    data = json.dumps(report).encode()
    while data:
        data = data[os.write(1, data) :]


def start_here() -> NoReturn:
    """What the command line of `start` calls."""
    main()
    sys.exit(0)
