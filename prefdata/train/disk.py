"""Files and folders that outlive a power cut, and are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import zlib
from pathlib import Path


def sync(path: Path) -> None:
    """Onto the disk before what relies on it: a rename would otherwise outlive the contents in a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(path: Path) -> None:
    """Remove a folder that is at no moment there in part, under its own name."""
    leaving = path.with_name(f".leaving-{path.name}")
    shutil.rmtree(leaving, ignore_errors=True)
    path.rename(leaving)
    shutil.rmtree(leaving)


def checksum(path: Path) -> list[int]:
    """A file's length and CRC-32: enough against what disks do, and as fast as they are."""
    length, code = 0, 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            length += len(block)
            code = zlib.crc32(block, code)
    return [length, code]
