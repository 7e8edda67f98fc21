"""`kill -9` at random moments of a run, which then goes on by the same command: what is lost, and what is paid twice.

    python benchmarks/kill9.py [--prompts 1000] [--kills 20] [--latency 0.1] [--seed 4] [--out results/kill9.md]

A loopback server in a process of its own answers as a function of the request. Two judgements a prompt are made,
aggregated, paired and exported, once without a kill and once with all of them, each dataset with a request cache of its
own. Ends with 1 where the two differ but for times, a call is billed twice, or the server was asked again for more than
what was in flight. At last the comparison is tried on doctored copies, where it must see what was done to them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "pipeline")]

from kill_line import (  # noqa: E402
    AT_ONCE,
    Fell,
    bill,
    contents,
    differences,
    doctored,
    random_kills,
    repeats,
    run_killed,
    run_to_the_end,
    served_apart,
    unseen_parts,
    write_line,
)

IN_COMMIT = ("ingest", "judge.compare", "judge.compare", "aggregate", "pair")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds that an answer takes")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--out", type=Path, help="write the block there too")
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["PREFDATA_CACHE"] = str(folder / "cache")
        pipeline = write_line(folder, options.prompts)
        with served_apart(folder, options.latency) as server:
            run_to_the_end(pipeline, folder / "whole", server, cache=folder / "its-own-cache")
            whole, begun = server.asked(), len(server.events())
            moments = random_kills(options.kills, IN_COMMIT, 2 * options.prompts // (options.kills + 2), options.seed)
            kills = []
            for number, kill in enumerate(moments, start=1):
                kills.append(run_killed(pipeline, folder / "killed", server, kill))
                print(f"{number:>3} {kills[-1].where}: {kills[-1].detail}, {kills[-1].open} open", file=sys.stderr)
            run_to_the_end(pipeline, folder / "killed", server)
            again, wrong = repeats(server.events(), kills, begun)
        found, wanted = contents(folder / "killed"), contents(folder / "whole")
        wrong += differences(found, wanted) + unseen_parts(folder / "killed")
        bills = [bill(folder / name) for name in ("killed", "whole")]
        if bills[0] != bills[1] or bills[0]["billed twice"] or bills[0]["calls"] != whole:
            wrong.append(f"the bills differ, or are not what the server saw ({whole}): {bills}")
        for name, check in doctored(folder / "killed", folder / "copy"):
            if not differences(contents(check), wanted):
                wrong.append(f"the comparison does not see it: {name}")
            shutil.rmtree(check)
        rows = {table: count.total() for table, count in found.items() if count}
    block = report(options, kills, again, wrong, rows, bills[0], time.perf_counter() - started)
    print(block)
    if options.out:
        options.out.write_text(block)
    return bool(wrong)


def report(
    options: argparse.Namespace,
    kills: Sequence[Fell],
    again: Sequence[int],
    wrong: Sequence[str],
    rows: dict[str, int],
    paid: dict[str, float],
    seconds: float,
) -> str:
    """The page."""
    where = Counter(kill.where for kill in kills)
    command = f"python benchmarks/kill9.py --prompts {options.prompts} --kills {options.kills}"
    command += f" --latency {options.latency:g} --seed {options.seed}"
    lines = [
        "# kill -9",
        "",
        f"`{command}`, {os.cpu_count()} shared cores, Python {platform.python_version()}, {seconds:.0f} s in all.",
        "",
        f"{2 * options.prompts:,} judgements, {AT_ONCE} at once, answers after {options.latency:g} s. "
        f"{len(kills)} kills: {where['step']} inside a step (requests were open), {where['commit']} inside a commit "
        f"(parts renamed, log not yet linked), {where['between']} between (none were open: it began, or wrote what had "
        "come). After each the same command went on.",
        "",
        "| kill | fell | commits so far | parts without a commit | open | in flight at most | asked again |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, (kill, cost) in enumerate(zip(kills, again, strict=True), start=1):
        cells = [number, f"{kill.where}: {kill.detail}", kill.commits, kill.unnamed]
        cells += [kill.open, kill.in_flight.total(), cost]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    flight = sum(kill.in_flight.total() for kill in kills)
    verdict = "equal but for times" if not wrong else "NOT EQUAL"
    lines += [
        "",
        f"In the end: {verdict} to the run that was not killed; {sum(again)} of {paid['calls']:,} requests asked "
        f"again, of at most {flight} in flight; {paid['billed twice']} calls billed twice. Compared: "
        + ", ".join(f"{count:,} {table}" for table, count in sorted(rows.items()))
        + ". The comparison was tried on doctored copies and saw each: a judgement hidden, calls lost, a call billed "
        "twice, an exported row lost.",
        "",
        *[f"- WRONG: {sentence}" for sentence in wrong],
        "```json",
        json.dumps({"kills": dict(where), "repeats": list(again), "wrong": list(wrong), "bill": paid, "rows": rows}),
        "```",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
