"""Many annotators at once, and `kill -9` of the server meanwhile: what is lost, what is there twice, how long it takes.

    python benchmarks/people.py [--people 50] [--seconds 180] [--kills 3] [--think 0.2 1] [--postgres]

Simulated annotators (tests/ui/crowd.py) sign in by invitation and label through the requests and cookies that the
browser uses, against `prefdata ui` in a process of its own, which is killed while labels are on their way and started
again. Then the store and, after `prefdata labels pull`, the dataset are compared with what each of them was told; what
was begun is finished on a copy of the store; and the comparison is tried on doctored copies, where it must see what was
done to them. Once on SQLite, with --postgres on PostgreSQL too (Debian's package, loopback). Ends with 1 where
something is wrong. Writes benchmarks/results/people.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "ui")]

import postgres  # noqa: E402
from crowd import Call, Ledger, Pace  # noqa: E402
from crowd_check import differences, faults, unfinished, unseen  # noqa: E402
from crowd_scene import OVERLAPS, Outage, Scene, Server, set_up, work  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "people.md"
PREFDATA = [sys.executable, "-c", "import prefdata.cli; prefdata.cli.main()"]
ROUTES = ("/api/submit", "/api/next", "/api/skip", "/api/undo", "/api/mine")
QUANTILES = (0.5, 0.95, 0.99)


@dataclass
class Result:
    """One store's run."""

    name: str
    ledgers: list[Ledger]
    outages: list[Outage]
    begun: float
    finished: int = 0
    load: tuple[float, float] = (0.0, 0.0)
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=180.0, help="from when all have signed in")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=1500, help="and as many tasks in each of three projects")
    parser.add_argument("--think", type=float, nargs=2, default=(0.2, 1.0), help="seconds before an answer")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL too")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    results = [measured("SQLite", None, options)]
    options.out.write_text(report(options, results), encoding="utf-8")
    if options.postgres:
        found = postgres.binaries()
        if found is None:
            print("PostgreSQL is not installed (Debian: apt install postgresql)", file=sys.stderr)
            return 2
        with postgres.running(found) as url:
            results.append(measured("PostgreSQL", postgres.fresh(url), options))
        options.out.write_text(report(options, results), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))
    return any(result.wrong for result in results)


def measured(name: str, store: str | None, options: argparse.Namespace) -> Result:
    """One run, and what the checks say of it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        scene = set_up(folder / "data", store, options.people, options.prompts)
        port, at = postgres.free_port(), ["--store", store] if store else []
        command = [*PREFDATA, "ui", str(scene.folder), "--port", str(port), "--pull-every", "5", *at]
        server, load = Server(command, port, folder / "log"), os.getloadavg()[0]
        pace = Pace(think=tuple(options.think), nap=0.01)
        began = time.monotonic()
        try:
            outages = asyncio.run(
                work(scene, server, pace, options.seconds, options.kills, seed=options.seed, say=_say(name))
            )
        finally:
            with contextlib.suppress(AssertionError):
                server.stop()
        result = Result(name, scene.ledgers, outages, began, load=(load, os.getloadavg()[0]))
        result.wrong += [f"the server's log has {error}" for error in raised(server.log)]
        subprocess.run([*PREFDATA, "labels", "pull", str(scene.folder), *at], check=True, stdout=subprocess.DEVNULL)
        _check(scene, folder, result)
    for sentence in result.wrong:
        print(f"{name}: WRONG: {sentence}", file=sys.stderr)
    return result


def raised(log: Path) -> list[str]:
    """The exceptions whose tracebacks a log holds, each once."""
    lines = iter(log.read_text(encoding="utf-8", errors="replace").splitlines())
    return sorted(
        {next((end for end in lines if not end.startswith(" ")), "") for line in lines if "Traceback" in line}
    )


def _say(name: str) -> Callable[[str], None]:
    def say(line: str) -> None:
        print(f"{name}: {line}", file=sys.stderr, flush=True)

    return say


def _check(scene: Scene, folder: Path, result: Result) -> None:
    service = scene.service()
    try:
        result.wrong += faults(service.store, scene.ledgers)
        left, result.finished = unfinished(service.store, folder / "copy.sqlite")
        result.wrong += left + differences(service, scene.ledgers)
        result.wrong += unseen(service.store, scene.ledgers, folder)
    finally:
        service.close()


# The page


def report(options: argparse.Namespace, results: Sequence[Result]) -> str:
    """The page."""
    command = f"python benchmarks/people.py --people {options.people} --seconds {options.seconds:g}"
    command += f" --kills {options.kills}" + (" --postgres" if len(results) > 1 else "")
    low, high = options.think
    if (low, high) != (0.2, 1.0):
        command += f" --think {low:g} {high:g}"
    overlaps = ", ".join(f"{name} by {count} people" for name, count in OVERLAPS.items())
    lines = [
        "# People",
        "",
        f"`{command}`, {os.cpu_count()} shared cores, Python {platform.python_version()}; load "
        + ", ".join(f"{one.load[0]:.1f} before and {one.load[1]:.1f} after ({one.name})" for one in results)
        + ".",
        "",
        f"{options.people} simulated annotators, who think {low:g}-{high:g} s a task, on the same two cores as the "
        f"server. {options.prompts:,} tasks in each of three projects ({overlaps}). One submit in twenty is not "
        "heard of: the connection breaks, or the answer is lost after the label was stored. One laptop in a hundred "
        "is closed for longer than the lease.",
        "",
        *_table(results),
        *(line for result in results for line in _killed(result)),
        *_verdict(options, results),
    ]
    return "\n".join([*lines, ""])


def _table(results: Sequence[Result]) -> Iterable[str]:
    yield "Milliseconds of a request, but for those during which the server was down:"
    yield ""
    yield "| store | request | count | p50 | p95 | p99 | longest |"
    yield "|---|---|---|---|---|---|---|"
    for result in results:
        for route in ROUTES:
            seconds = sorted(call.ended - call.began for call in _up(result) if call.route == route)
            cells = [f"{1000 * quantile(seconds, q):.0f}" for q in (*QUANTILES, 1.0)]
            yield f"| {result.name} | {route} | {len(seconds):,} | {' | '.join(cells)} |"
    yield ""
    yield "Seconds from an answer given to its acknowledgement, with all tries and the server's absences:"
    yield ""
    yield "| store | acknowledged | a second | tried again | p50 | p95 | p99 | longest |"
    yield "|---|---|---|---|---|---|---|---|"
    for result in results:
        said = [one for ledger in result.ledgers for one in ledger.acknowledged]
        waited = sorted(one.waited for one in said)
        cells = [f"{quantile(waited, q):.2f}" for q in (*QUANTILES, 1.0)]
        ends = [call for ledger in result.ledgers for call in ledger.calls]
        spent = max(call.ended for call in ends) - min(call.began for call in ends)
        again = sum(one.tries > 1 for one in said)
        cells = [f"{len(said):,}", f"{len(said) / spent:.1f}", f"{again:,}", *cells]
        yield f"| {result.name} | {' | '.join(cells)} |"
    yield ""


def _killed(result: Result) -> Iterable[str]:
    told = [f"{one.on_the_way} labels on their way, back after {one.back - one.killed:.1f} s" for one in result.outages]
    yield f"{result.name}: {len(told)} kills: {'; '.join(told)}."
    yield ""


def _verdict(options: argparse.Namespace, results: Sequence[Result]) -> Iterable[str]:
    for result in results:
        said = [one for ledger in result.ledgers for one in ledger.said]
        refused = [one for one in said if one.revision is None]
        corrected = sum((one.revision or 0) > 1 for one in said)
        skipped = sum(one.status == "skipped" and one.revision is not None for one in said)
        yield (
            f"{result.name}: {'nothing is wrong' if not result.wrong else 'SOMETHING IS WRONG'}. "
            f"{len(said) - len(refused):,} answers acknowledged ({corrected:,} corrections, {skipped:,} skips), each "
            f"there once as it was sent, in the store and, by the texts that were seen, in the dataset; "
            f"{len(refused):,} refused with a sentence (the lease had run out, the prompt was flagged), none of them "
            f"there; nobody signed in again; no task has more labels than it wants; all that was begun was finished "
            f"by new people ({result.finished:,} labels) once the lease time was over."
        )
        yield from (f"- WRONG: {sentence}" for sentence in result.wrong)
        yield ""
    yield (
        "The checks were tried on doctored copies and saw each: a label lost, an answer altered, a label too many, a "
        "label twice, a place miscounted, a session lost, a lease that never ends."
    )
    yield ""
    yield "```json"
    yield json.dumps({result.name: {"wrong": result.wrong, "requests": _statuses(result)} for result in results})
    yield "```"


def _statuses(result: Result) -> dict[str, int]:
    found: dict[str, int] = {}
    for ledger in result.ledgers:
        for call in ledger.calls:
            name = str(call.status or "no answer")
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def _up(result: Result) -> list[Call]:
    """Requests that were answered, and during which the server was not down."""
    calls = [call for ledger in result.ledgers for call in ledger.calls if call.status]
    return [
        call for call in calls if not any(call.began < one.back and one.killed < call.ended for one in result.outages)
    ]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so many of them do not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


if __name__ == "__main__":
    raise SystemExit(main())
