"""One cell of the statistics benchmark, in a process of its own.

    python benchmarks/estimators/worker.py CELL FOLDER

reads the data in FOLDER, runs the cell and prints one line of JSON: seconds of CPU (user and system, children too) and
of wall, megabytes of memory beyond what was there before the call, and what shows how exact the answer is. What takes
less than half a second is run five times, and the least counts.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the cell and print what it took."""
    side, cell = sys.argv[1].split(":")
    sys.path.insert(0, str(Path(__file__).parent))
    module = __import__({"ours": "with_ours", "floor": "with_floor"}.get(side, "with_peers"))
    work: Callable[[], Callable[[], dict[str, Any]]] = getattr(module, cell)
    run = work()  # reads the data, imports and compiles: none of it counts
    with Watch() as watch:
        cpu, wall, said = timed(run)
    for _ in range(4 if cpu < 0.5 else 0):
        again, other, _ = timed(run)
        cpu, wall = min(cpu, again), min(wall, other)
    print(json.dumps({"cpu": cpu, "wall": wall, "memory": watch.beyond, **said}))


def timed(run: Callable[[], dict[str, Any]]) -> tuple[float, float, dict[str, Any]]:
    """CPU and wall seconds of one call, and what it returns."""
    before, start = spent(), time.perf_counter()
    said = run()
    return spent() - before, time.perf_counter() - start, said


def spent() -> float:
    """CPU seconds of this process and its children."""
    of = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in of)


class Watch:
    """Looks at the resident memory every few milliseconds."""

    def __enter__(self) -> Watch:
        self.before = self.peak = resident()
        self._on = True
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while self._on:
            self.peak = max(self.peak, resident())
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()

    @property
    def beyond(self) -> float:
        """Megabytes above what was resident before."""
        return (self.peak - self.before) / 1e6


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
