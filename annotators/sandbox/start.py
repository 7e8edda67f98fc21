"""Starting the sandbox from outside it, and finding out whether this machine has one."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .limits import Ended, Limits

_BEGIN = """
import sys, types
package = types.ModuleType("sandbox")  # this package without its __init__, whose imports are not needed there
package.__path__ = [sys.argv[1]]
sys.modules["sandbox"] = package
from sandbox.box import start_here
start_here()
"""
_GRACE = 30.0

_PROBE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
made = libc.socket(2, 1, 0)
port = {port}
address = (2).to_bytes(2, "little") + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
reached = made >= 0 and libc.connect(made, address, len(address)) == 0
os.write(3, b"reached" if reached else b"denied")
"""


def interpreter() -> str:
    """The Python that programs are run by: this one's own, outside any virtual environment."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def run_program(
    files: Mapping[str, str],
    main: str,
    *,
    secret: str = "",
    limits: Limits | None = None,
    python: str | None = None,
    without: frozenset[str] = frozenset(),
) -> Ended:
    """Run a Python program that nobody trusts, and wait until it and all that it started are gone.

    It gets its files' folder as its only argument, file 3 to write results to and file 4 with the secret; its standard
    input is empty, its environment too. Blocks: call it in a thread.

    Args:
        files: texts by name; it can read them.
        main: the name of the one to run.
        secret: up to 4 KiB.
        limits: what it may take.
        python: the interpreter; `interpreter()` unless given.
        without: `namespaces`, `landlock`, `seccomp`: do as if the kernel had none.
    """
    bounds = limits or Limits()
    folder = tempfile.mkdtemp(prefix="prefdata-box-")
    task: dict[str, Any] = {
        "parent": os.getpid(),
        "files": dict(files),
        "main": main,
        "secret": secret,
        "limits": asdict(bounds),
        "python": python or interpreter(),
        "folder": folder,
        "without": sorted(without),
    }
    try:
        return _run([task["python"], "-I", "-S", "-c", _BEGIN, str(Path(__file__).parent)], task, bounds)
    finally:
        _remove(folder)


def _run(command: list[str], task: dict[str, Any], limits: Limits) -> Ended:
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"LANG": "C.UTF-8"},
            start_new_session=True,  # Ctrl-C is for the parent: what has begun is finished
        )
    except OSError as error:
        return Ended("sandbox", said=f"{command[0]} cannot be run: {error.strerror}")
    try:
        said, complained = process.communicate(json.dumps(task).encode(), limits.wall_seconds + _GRACE)
    except subprocess.TimeoutExpired:
        return Ended("sandbox", said="the sandbox did not answer and was killed")
    finally:
        process.kill()
        process.communicate()
    return _ended(said, complained)


def _ended(said: bytes, complained: bytes) -> Ended:
    try:
        found = json.loads(said)
    except ValueError:
        lines = complained.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        return Ended("sandbox", said=f"the sandbox could not be set up: {lines[-1][:300]}")
    output = base64.b64decode(found.get("output", "")).decode("utf-8", "replace")
    return Ended(
        found["how"],
        found.get("code", 0),
        found["said"],
        tuple(base64.b64decode(found.get("results", "")).split(b"\n")),
        output,
        tuple(found.get("guards", ())),
        found.get("left", 0),
    )


def _remove(folder: str) -> None:
    """Remove a folder, whatever the program made of it; links are removed, not followed.

    Folders in folders are moved up to the top first: they may be deeper than a path can be long, or a call deep.
    """
    try:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return  # in namespaces nothing was in it, and the sandbox has removed it
    try:
        numbers, mark = itertools.count(), secrets.token_hex(8)  # a name that the program could not take before
        while names := _listed(top):
            for name, is_folder in names:
                if is_folder:
                    _emptied(top, name, lambda: f"{mark}-{next(numbers)}")
                else:
                    os.unlink(name, dir_fd=top)
    except OSError:
        pass  # shutil takes what it can
    finally:
        os.close(top)
    shutil.rmtree(folder, ignore_errors=True)


def _listed(folder: int) -> list[tuple[str, bool]]:
    """The names in an open folder, and which are folders."""
    with os.scandir(folder) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _emptied(top: int, name: str, free: Callable[[], str]) -> None:
    """Remove a folder of an open folder; the folders in it come into the open one, under free names."""
    os.chmod(name, stat.S_IRWXU, dir_fd=top)
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    try:
        for one, is_folder in _listed(inner):
            if is_folder:
                os.chmod(one, stat.S_IRWXU, dir_fd=inner)  # to move a folder, one has to be able to write in it
                os.rename(one, free(), src_dir_fd=inner, dst_dir_fd=top)
            else:
                os.unlink(one, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)


def refusal(python: str | None = None) -> str | None:
    """Why no program can be run here; None where it can.

    A program is run that asks the kernel for a socket by a C call, and for a connection to a server on this machine
    that waits for it. It is done once in a process.
    """
    return _refusal(python or interpreter())


@functools.cache
def _refusal(python: str) -> str | None:
    if not sys.platform.startswith("linux"):
        return f"the sandbox needs Linux, whose kernel can deny a program the network; this is {sys.platform}"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        probe = _PROBE.format(port=server.getsockname()[1])
        ended = run_program({"probe.py": probe}, "probe.py", secret=secrets.token_hex(8), python=python)
    if ended.how != "exit" or ended.code:
        return f"no program can be run in the sandbox here: {ended.said or ended.output[-300:]}"
    if ended.results[0] != b"denied":
        return "the kernel of this machine denies a program neither sockets (seccomp) nor the network (namespaces)"
    return None
