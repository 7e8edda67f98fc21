"""Writes NEWEST.sql: a store of today's version with one label, as SQL. Run it before the version is raised."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "ui"))

from labelled import person, project, service, submit  # noqa: E402

from prefdata.ui.store.versions import NEWEST  # noqa: E402


def main() -> None:
    """See the module."""
    with tempfile.TemporaryDirectory() as folder:
        made = service(Path(folder), prompts=1)
        who = person(made)
        task = made.next(who, project(made, who))["task"]
        submit(made, who, task, "k1", {"choice": -1})
        made.close()
        with sqlite3.connect(Path(folder) / "labels.sqlite") as file:
            (HERE / f"{NEWEST}.sql").write_text("\n".join(file.iterdump()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
