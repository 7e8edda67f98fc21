"""The command line, in a process that can be stopped inside a commit.

    python tests/killed_run.py --flush 0.3 --pause judge.compare --marker FILE -- run line.yaml --dataset runs/line

With `--pause TEXT` a commit whose message begins so is not finished: when its parts have their names and its entry lies
beside the log under a temporary name, FILE is made, and the process waits to be killed, or for FILE to be taken away.
`--flush` sets how often finished groups are committed, which the command line itself does every 30 seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any


def pause_in_commit(begins: str, marker: Path) -> None:
    """Wait, once, before the entry of such a commit gets its number."""
    link = os.link
    reached: list[str] = []

    def paused(source: Any, target: Any, *rest: Any, **options: Any) -> None:
        entry = re.fullmatch(r"\d+\.json", Path(target).name) and json.loads(Path(source).read_bytes())
        if entry and entry["message"].startswith(begins) and entry.get("parts") and not reached:
            reached.append(entry["message"])
            begun = marker.with_suffix(".tmp")
            begun.write_text(entry["message"])
            begun.rename(marker)  # whoever waits for it reads all of it
            while marker.exists():
                time.sleep(0.01)
        link(source, target, *rest, **options)

    os.link = paused  # type: ignore[assignment]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flush", type=float, help="seconds between two checkpoints")
    parser.add_argument("--pause", help="how the message of the commit to stop in begins")
    parser.add_argument("--marker", type=Path, help="the file that says that it is reached")
    parser.add_argument("arguments", nargs="+", help="of prefdata")
    options = parser.parse_args()
    import prefdata.cli
    from prefdata.pipeline.run import run

    if options.flush is not None:
        assert run.__kwdefaults__ is not None
        run.__kwdefaults__["flush_seconds"] = options.flush
    if options.pause is not None:
        pause_in_commit(options.pause, options.marker)
    sys.argv = ["prefdata", *options.arguments]
    prefdata.cli.main()


if __name__ == "__main__":
    main()
