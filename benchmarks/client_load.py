"""How clients fare when the server is not at its best: a storm of 429s, and a slow tail.

    python benchmarks/client_load.py

`storm`: the server admits so many requests a second (a token bucket) and rejects the rest with 429 and Retry-After: 1.
Told: what came through, over what would have been let through; and how many requests were sent for nothing. How much
the bucket holds decides much (with a second's worth, a herd that comes back each second gets nearly all), so two are
tried.

`tail`: one request in twenty takes twenty times as long. Told: the work done over what so many in flight could have
done in that time. Writes benchmarks/results/client_load.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from client_overhead import spread
from contenders import CONTENDERS, Run, contend, load, surroundings
from loopback import loopback

RESULTS = Path(__file__).parent / "results" / "client_load.md"
LATENCY = 0.05
"""Seconds."""


def measured(
    names: list[str], options: argparse.Namespace, in_flight: int, requests: int, **server: float
) -> list[Run]:
    """Interleaved rounds of each contender against one server."""
    runs = []
    with loopback(latency=LATENCY, **server) as address:
        for number in range(options.rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                runs.append(contend(name, address, in_flight=in_flight, requests=requests))
                print(runs[-1])
    return runs


def storm(options: argparse.Namespace) -> list[str]:
    """Useful requests over those that the bucket would have let through, and rejected ones."""
    return [line for seconds in options.bucket for line in _storm(options, options.admit * seconds)]


def _storm(options: argparse.Namespace, burst: float) -> list[str]:
    rate = options.admit
    lines = [
        f"\n## A storm of 429s: {rate:g} requests a second admitted, {options.storm_requests:,} wanted, a bucket of "
        f"{burst:g}\n",
        f"Latency {LATENCY * 1000:.0f} ms, at most {options.storm_in_flight} in flight. No client knows the rate. The "
        "bare one and the SDK send again until they are heard.\n",
        "| client | useful over admitted | rejected per 100 useful | failed | CPU ms per useful request |",
        "|---|---|---|---|---|",
    ]
    runs = measured(
        ["client", "bare", "openai"],
        options,
        options.storm_in_flight,
        options.storm_requests,
        admit=rate,
        burst=burst,
    )
    for name in ("client", "bare", "openai"):
        own = [run for run in runs if run.name == name]
        cells = [
            CONTENDERS[name][1],
            spread([(run.answered - burst) / run.wall / rate for run in own]),
            spread([100 * run.server.rejected / max(1, run.answered) for run in own], 0),
            str(max(run.requests - run.answered for run in own)),
            spread([1000 * run.cpu / max(1, run.answered) for run in own]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def tail(options: argparse.Namespace) -> list[str]:
    """Seconds of the server's work over what the slots could have held in the time taken."""
    lines = [
        f"\n## A slow tail: 5% of {options.tail_requests:,} requests take {20 * LATENCY:g} s, the others "
        f"{LATENCY * 1000:.0f} ms; {options.tail_in_flight} in flight\n",
        "| client | utilisation | seconds | most in flight |",
        "|---|---|---|---|",
    ]
    names = ["client", "bare", "barrier", "openai"]
    runs = measured(names, options, options.tail_in_flight, options.tail_requests, slow_share=0.05, slow_times=20)
    for name in names:
        own = [run for run in runs if run.name == name]
        cells = [
            CONTENDERS[name][1],
            spread([run.server.latency / (run.wall * run.in_flight) for run in own]),
            spread([run.wall for run in own], 1),
            str(max(run.server.most_in_flight for run in own)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["storm", "tail"], help="One of the two.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--admit", type=float, default=50.0, help="Requests a second.")
    parser.add_argument("--bucket", type=float, nargs="+", default=[0.1, 1.0], help="Seconds' worth of requests.")
    parser.add_argument("--storm-requests", type=int, default=500)
    parser.add_argument("--storm-in-flight", type=int, default=256)
    parser.add_argument("--tail-requests", type=int, default=4000)
    parser.add_argument("--tail-in-flight", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    begun = load()
    parts = [part(options) for part in (storm, tail) if options.only in (None, part.__name__)]
    only = f" --only {options.only}" if options.only else ""
    lines = [
        "# A client under load\n",
        f"`python benchmarks/client_load.py{only} --rounds {options.rounds}`, {surroundings()}; load {begun} before, "
        f"{load()} after.",
        f"\nMedian of {options.rounds} interleaved rounds (lowest-highest), each contender in a fresh process. Useful "
        "over admitted and utilisation are ratios, and 1 is the ideal.",
        *(line for part in parts for line in part),
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())


if __name__ == "__main__":
    main()
