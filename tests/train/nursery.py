"""A process that has imported what training needs, and forks whoever asks: the imports take longer than the tests.

Each line of its input is a JSON list, the name of one of `PARTS` and the paths that it is given, and each line of its
output another: the exit status, and what was printed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class Nursery:
    """Its parent's side. It starts when first asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, part: str, *paths: Path) -> str:
        """Run a part; returns what it printed, and fails where it fails."""
        if self._process is None:
            paths_of = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths_of}
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "nursery.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([part, *map(str, paths)]) + "\n")
        self._process.stdin.flush()
        status, said = json.loads(self._process.stdout.readline())
        assert status == 0, said[-8000:]
        return str(said)

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()


def fork(action: Callable[[], Any], log: int, environment: dict[str, str]) -> int:
    """The id of a child that does something, prints to `log`, and ends."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(environment)
        action()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def two_processes(log: int, *paths: Path) -> list[int]:
    """Two that find each other as `torchrun` lets them."""
    import two_processes as ours

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = ({**common, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1"))
    return [fork(lambda: ours.main(*paths), log, one) for one in ranks]


def killed_training(log: int, *paths: Path) -> list[int]:
    """One that forks others of its own."""
    import killed_training as ours

    return [fork(lambda: ours.main(*paths), log, {})]


PARTS = {"two_processes": two_processes, "killed_training": killed_training}


def serve() -> None:
    """Until the input ends."""
    import killed_training
    import peft
    import pyarrow.parquet
    import torch.distributed.fsdp
    import torch.distributed.tensor
    import transformers.models.llama.modeling_llama
    import two_processes

    assert all((killed_training, peft, pyarrow, torch, transformers, two_processes))  # imported for the children
    for line in sys.stdin:
        name, *paths = json.loads(line)
        with tempfile.TemporaryFile("w+") as log:
            children = PARTS[name](log.fileno(), *map(Path, paths))
            status = 0
            while children:
                pid, ended = os.wait()
                children.remove(pid)
                if ended and not status:
                    status = ended
                    for other in children:  # it would wait for the dead one
                        os.kill(other, 9)
            log.seek(0)
            print(json.dumps([status, log.read()]), flush=True)


if __name__ == "__main__":
    serve()
