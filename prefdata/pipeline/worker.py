"""A worker process: `python -m prefdata.pipeline.worker` works on pieces of column steps until its input ends.

It reads one JSON object a line (`{"job": ..., "piece": ...}`) and answers with lines: `say` (what the step says), `log`
(for the run's log), and at last `done` or `failed`. JSON over pipes and not the pickles of multiprocessing: nothing of
the parent is imported again, so that a notebook, and a script without a guard around its main part, can have workers.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from prefdata.dataset import Dataset
from prefdata.errors import PrefdataError
from prefdata.pipeline.job import Job
from prefdata.pipeline.pieces import Piece


class _Log(logging.Handler):
    """Hands what is logged to the parent, whose log it belongs in."""

    def __init__(self, channel: TextIO) -> None:
        super().__init__(logging.INFO)
        self.channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        _answer(self.channel, log=self.format(record), level=record.levelno)


def _answer(channel: TextIO, **what: Any) -> None:
    channel.write(json.dumps(what) + "\n")
    channel.flush()


def _listen(source: BinaryIO, lines: queue.SimpleQueue[bytes]) -> None:
    """Pass on what the parent says. When it is gone, so is this process, in the middle of whatever it does.

    What was committed is whole: a commit is one link in the log.
    """
    for line in source:
        lines.put(line)
    os._exit(0)


def main() -> None:
    """Work until the input ends."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a step prints must not stand between the answers
    logger = logging.getLogger("prefdata")
    logger.setLevel(logging.INFO)
    logger.addHandler(_Log(channel))
    logger.propagate = False
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, lines), daemon=True).start()
    datasets: dict[str, Dataset] = {}
    while True:
        asked = json.loads(lines.get())
        job = Job(**asked["job"])
        shard, span = asked["piece"]
        piece = Piece(shard, tuple(span) if span else None)
        try:
            dataset = datasets.setdefault(job.dataset, Dataset(Path(job.dataset)))
            done = job.perform(dataset, piece, lambda message: _answer(channel, say=message))
        except PrefdataError as error:
            _answer(channel, failed=str(error))
        except Exception as error:
            logger.error("%s", job.fingerprint, exc_info=error)
            _answer(channel, failed=f"step {job.fields['name']!r}: {type(error).__name__}: {error}")
        else:
            _answer(channel, done={"groups": done.groups, "rows": done.rows, "unanswered": done.unanswered})


if __name__ == "__main__":
    main()
