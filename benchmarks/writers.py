"""Processes that commit labels and judgements to one dataset at once, for a minute, while another one reads it all.

    python benchmarks/writers.py [--writers 8] [--seconds 60] [--out benchmarks/results/writers.md]

Every writer keeps its own account outside of the dataset. Each commit of judgements is rows of two tables under one
stamp, each commit of labels several rows. Ends with 1 where a commit is lost, half of one was ever seen, or a number of
the log is left out. At last the check is tried on the dataset with commits taken away, where it must see that.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "pipeline")]

from writers_line import Ledger, doctored, problems, run_writers  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, help="write the block there too")
    options = parser.parse_args()
    loads: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "ds"
        ledgers = run_writers(path, Path(scratch) / "ledgers", options.writers, options.seconds)
        loads.append(os.getloadavg()[0])
        wrong = problems(path, ledgers)
        wrong += [f"the check does not see it: {what}" for what in doctored(path) if not problems(path, ledgers)]
    block = report(options, ledgers, wrong, loads[0])
    print(block)
    if options.out:
        options.out.write_text(block)
    return bool(wrong)


def report(options: argparse.Namespace, ledgers: Sequence[Ledger], wrong: Sequence[str], load: float) -> str:
    """The page."""
    *writers, reader = ledgers
    commits = sum(len(one.moments) for one in writers)
    moments = sorted(moment for one in writers for moment in one.moments)
    fifth = options.seconds / 5
    lines = [
        "# Writers",
        "",
        f"`python benchmarks/writers.py --writers {options.writers} --seconds {options.seconds:g}`, {os.cpu_count()} "
        f"shared cores (load {load:.1f}), Python {platform.python_version()}.",
        "",
        f"{options.writers} processes made {commits:,} commits in {options.seconds:g} s: "
        f"{sum(len(one.commits) for one in writers):,} of judgements, {sum(one.label_commits for one in writers):,} of "
        f"labels, {commits / options.seconds:.1f} a second, "
        f"{sum(one.seconds for one in writers) / commits * 1e3:.0f} ms each. "
        f"Meanwhile a reader read everything {reader.reads} times. "
        + (
            "Lost: none. Seen by halves: none. Numbers left out: none. The check saw a commit that was taken away at "
            "the end, one in the middle, and half of one."
            if not wrong
            else f"WRONG in {len(wrong)} ways."
        ),
        "",
        "| seconds | commits a second |",
        "|---|---|",
    ]
    for n in range(5):
        count = sum(n * fifth <= moment < (n + 1) * fifth for moment in moments)
        lines.append(f"| {n * fifth:g} to {(n + 1) * fifth:g} | {count / fifth:.1f} |")
    return "\n".join([*lines, "", *[f"- WRONG: {sentence}" for sentence in wrong]])


if __name__ == "__main__":
    raise SystemExit(main())
