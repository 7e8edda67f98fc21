"""Landlock: the kernel denies a process all files but some, without namespaces (Linux 5.13 and later)."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Sequence

from .kernel import syscall

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_FLAG = 1

_EXECUTE, _WRITE, _READ, _READ_FOLDER = 1, 2, 4, 8
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
_ALL = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL_OF_5 = (1 << 16) - 1


def version() -> int:
    """Of Landlock in this kernel; 0 where it has none."""
    try:
        return syscall(_CREATE, 0, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Leave this process nothing but these files and folders, and (where the kernel can) no TCP and no signals outside.

    Needs PR_SET_NO_NEW_PRIVS.

    Args:
        readable: to be read and executed; what does not exist is passed over.
        writable: to be read and written.

    Raises:
        OSError: the kernel has no Landlock.
    """
    abi = version()
    every = _ALL.get(abi, _ALL_OF_5)
    attributes = struct.pack("<Q", every)
    if abi >= 4:
        attributes += struct.pack("<Q", 3)  # bind and connect of TCP: no port is allowed
    if abi >= 6:
        attributes += struct.pack("<Q", 3)  # abstract Unix sockets and signals stay inside
    ruleset = syscall(_CREATE, ctypes.c_char_p(attributes), len(attributes), 0)
    try:
        for paths, allowed in ((readable, _EXECUTE | _READ | _READ_FOLDER), (writable, every & ~_EXECUTE)):
            for path in paths:
                _allow(ruleset, path, allowed & every)
        syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, allowed: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            allowed &= _OF_FILES
        rule = struct.pack("<Qi", allowed, opened)
        syscall(_ADD, ruleset, 1, ctypes.c_char_p(rule), 0)
    finally:
        os.close(opened)
