"""Large copies are made by a process of their own: it takes memory and processors that the server keeps for people.

python -I -m prefdata.ui.copying, with a task as one line of JSON on its standard input
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from prefdata.dataset import Dataset
from prefdata.dataset.log import Snapshot
from prefdata.errors import DataError, PrefdataError

from .edition import SAID, TEXTS, Copy, Seen, Writer, seen, write_said, write_texts

LARGE = 32 * 1024 * 1024
"""Bytes of parts from which on a process of its own is started, which takes about a second."""


def write(name: str, copy: Copy, view: Seen, texts: Copy | None = None) -> None:
    """Fill a copy, here or in a process of its own.

    Args:
        name: `texts`, `said`, or the table that is copied alone.
        copy: is written.
        view: of the dataset.
        texts: the copy that `said` refers to.

    Raises:
        DataError: the dataset is damaged.
        OSError: the disk is full.
    """
    if _bytes(view.snapshot, name) < LARGE:
        _write(name, copy, view, texts)
        return
    task = {
        "dataset": str(view.root),
        "at": view.snapshot.number,
        "name": name,
        "path": str(copy.path),
        "texts": None if texts is None else str(texts.path),
    }
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-I", "-m", __name__],
        input=json.dumps(task) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DataError(done.stderr.strip()[-1000:] or f"copying {name} was ended ({done.returncode})")


def _write(name: str, copy: Copy, view: Seen, texts: Copy | None) -> None:
    import duckdb
    import polars as pl

    try:
        if name == "texts":
            write_texts(copy, view)
        elif name == "said":
            assert texts is not None
            write_said(copy, view, texts)
        else:
            with Writer(copy) as made:
                made.plain(name, view)
    except (duckdb.Error, pl.exceptions.PolarsError) as error:  # of a full disk DuckDB speaks in its own way
        said = str(error).strip().partition("\n")[0]
        raise DataError(f"the live rows could not be copied to {copy.path.parent}: {said}") from error


def _bytes(snapshot: Snapshot, name: str) -> int:
    tables = {"texts": TEXTS, "said": SAID}.get(name, (name,))
    return sum(part.bytes for table in tables for _, part in snapshot.standing.get(table, ()))


def main() -> int:
    """Do one task; the exit status says whether it was done, standard error why not."""
    task = json.loads(sys.stdin.readline())
    os.nice(10)
    view = seen(Dataset(task["dataset"], at=task["at"]))
    texts = None if task["texts"] is None else Copy("texts", Path(task["texts"]))
    try:
        _write(task["name"], Copy(task["name"], Path(task["path"])), view, texts)
    except (PrefdataError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
