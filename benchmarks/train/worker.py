"""What every contender's process does round its training: read the cell, write what came out and the peak memory."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cell import read_prepared

Main = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


def run(main: Main) -> int:
    """`SCRIPT CELL.json OPTIONS-AS-JSON OUT.json`; `main` returns losses, seconds of each step and of the reference."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    cell, options, out = read_prepared(Path(sys.argv[1])), json.loads(sys.argv[2]), Path(sys.argv[3])
    found = main(cell, options)
    out.write_text(json.dumps({**found, "peak_bytes": peak_bytes(options["device"])}))
    return 0


def peak_bytes(device: str) -> int:
    """What the process held at most: GPU memory, or resident memory on a CPU."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():  # getrusage's number begins, on Linux, with the peak of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
