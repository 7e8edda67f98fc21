"""A root folder of the program's own, in namespaces of its own: what it cannot see it cannot touch."""

# Paths are texts here: this runs in a bare interpreter, which should start fast.
# ruff: noqa: PTH101, PTH102, PTH103, PTH110, PTH112, PTH114, PTH115, PTH120, PTH123, PTH211

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

from .kernel import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    pivot_root,
    syscall,
    unshare,
)

BOX, TASK = "/box", "/task"
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")

_INSIDE = 1000
"""An ordinary user's id inside; not 0, so that execve drops the powers that the maker of a namespace has in it."""

_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_READ_ONLY, _NO_SUID = 1, 2


def enter() -> None:
    """Leave the machine's mounts, network, IPC and (for children) processes.

    Raises:
        OSError: the kernel refused.
    """
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    if os.geteuid() == 0:
        unshare(flags)
        return
    user, group = os.geteuid(), os.getegid()
    unshare(flags | CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_INSIDE} {user} 1"),
        ("gid_map", f"{_INSIDE} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def make_root(
    at: str,
    readable: Sequence[str],
    files: dict[str, str],
    *,
    disk_mb: int,
    inodes: int,
    owner: tuple[int, int] | None,
) -> None:
    """Make a root folder at `at` and move into it: `readable` read-only, `/box` writable and limited, no `/proc`.

    Args:
        at: an empty folder.
        readable: paths of the machine that are there too, under the same names.
        files: texts by name, read-only under `/task`.
        disk_mb: of `/box`.
        inodes: of `/box`.
        owner: of `/box`; None: whoever makes it.

    Raises:
        OSError: the kernel refused.
    """
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", at, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=0755")
    for path in readable:
        _show(at, path)
    for device in DEVICES:
        _bind(device, _touched(at + device))
    os.mkdir(at + TASK, 0o755)
    for name, text in files.items():
        with open(f"{at}{TASK}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(file.name, 0o444)
    os.mkdir(at + BOX)
    mount(
        "tmpfs",
        at + BOX,
        "tmpfs",
        MS_NOSUID | MS_NODEV | MS_NOEXEC,
        f"size={disk_mb}m,nr_inodes={inodes + 1},mode=0700",
    )
    if owner is not None:
        os.chown(at + BOX, *owner)
    mount("none", at, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    pivot_root(at)


def _show(at: str, path: str) -> None:
    if os.path.islink(path):  # /lib, where it is a link to usr/lib
        _parents(at + path)
        os.symlink(os.readlink(path), at + path)
    elif os.path.isdir(path):
        os.makedirs(at + path, exist_ok=True)
        _bind(path, at + path)
    elif os.path.exists(path):
        _bind(path, _touched(at + path))


def _bind(path: str, target: str) -> None:
    mount(path, target, None, MS_BIND | MS_REC)
    attributes = struct.pack("<QQQQ", _READ_ONLY | _NO_SUID, 0, 0, 0)
    try:
        syscall(
            _MOUNT_SETATTR,
            _AT_FDCWD,
            ctypes.c_char_p(os.fsencode(target)),
            _AT_RECURSIVE,
            ctypes.c_char_p(attributes),
            len(attributes),
        )
    except OSError:  # before Linux 5.12
        kept = os.statvfs(target).f_flag & 0xFFF
        mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept)


def _parents(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)


def _touched(path: str) -> str:
    _parents(path)
    with open(path, "w"):
        return path
