"""Work of our own code on data of others' that may never end: a regular expression, a JSON schema.

Python's `re` cannot be interrupted, and a pattern from a file may need longer than the universe has. So a process
beside this one does it, whose clock ends it; the next task gets a new one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_PROGRAM = Path(__file__).with_name("patterns.py")


class TooLongError(Exception):
    """The work took longer, or more memory, than it may."""


class Patient:
    """Does one task after the other, each within its time.

    Args:
        seconds: of the processor, for each task.
    """

    def __init__(self, seconds: float = 2.0) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        """The answer to a task of `patterns.py`. Blocks: call it in a thread.

        Raises:
            TooLongError: it took too long.
        """
        with self._lock:
            process = self._process if self._process and self._process.poll() is None else self._started()
            assert process.stdin is not None and process.stdout is not None
            clock = threading.Timer(10 + 10 * self._seconds, process.kill)  # the machine may be busy; not the task
            clock.start()
            try:
                process.stdin.write(json.dumps({**task, "seconds": self._seconds}).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = b""
            finally:
                clock.cancel()
            if not line.endswith(b"\n"):
                self._ended()
                raise TooLongError(f"it took longer than {self._seconds:g} s")
            answer: dict[str, Any] = json.loads(line)
            return answer

    def _started(self) -> subprocess.Popen[bytes]:
        self._ended()
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"LANG": "C.UTF-8"},
            start_new_session=True,
        )
        return self._process

    def _ended(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._ended()

    def __del__(self) -> None:
        self.close()
