"""What a client costs: CPU milliseconds per request, ours beside bare aiohttp + orjson and the openai SDK in one run.

    python benchmarks/client_overhead.py

Every contender runs in a fresh process against `loopback.py`, which has one too, so that only the client's CPU is
counted. Rounds are interleaved, so that whatever else the machine does strikes all of them; the ratio is taken within
a round. Writes benchmarks/results/client_overhead.md.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path
from statistics import median

from contenders import CONTENDERS, Run, contend, load, surroundings
from loopback import loopback

RESULTS = Path(__file__).parent / "results" / "client_overhead.md"
NAMES = ("bare", "engine", "uncached", "client", "openai")


def spread(values: list[float], digits: int = 2) -> str:
    """Median, and the lowest and highest in brackets."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(rounds: list[dict[str, Run]], latency: float) -> list[str]:
    """The rows of one number in flight."""
    first = rounds[0]["bare"]
    ideal = math.ceil(first.requests / first.in_flight) * latency
    lines = [
        f"\n## {first.in_flight} in flight: {first.requests:,} requests, {latency * 1000:.0f} ms each, "
        f"ideal {ideal:.2f} s\n",
        "| client | CPU ms per request | times the bare one | wall over ideal | most in flight | peak RSS, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name in rounds[0]:
        runs = [one[name] for one in rounds]
        cells = [
            CONTENDERS[name][1],
            spread([1000 * run.cpu / run.requests for run in runs]),
            spread([run.cpu / one["bare"].cpu for run, one in zip(runs, rounds, strict=True)]),
            spread([run.wall / ideal for run in runs]),
            str(max(run.server.most_in_flight for run in runs)),
            f"{max(run.peak_mb for run in runs):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
        odd = [run for run in runs if run.answered != run.requests or run.server.repeated or run.server.rejected]
        if odd:
            lines.append(f"| ({name}: {len(odd)} of {len(runs)} rounds had failed or repeated requests) | | | | | |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.05, help="Seconds.")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=NAMES)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    names = ["bare", *(name for name in options.contenders if name != "bare")]
    begun = load()
    taken: dict[int, list[dict[str, Run]]] = defaultdict(list)
    with loopback(latency=options.latency) as server:
        for number in range(options.rounds):
            for in_flight in options.in_flight:
                # Each goes first as often as any other: what came before warms or fills the machine for the next.
                turned = names[number % len(names) :] + names[: number % len(names)]
                runs = {name: contend(name, server, in_flight=in_flight, requests=options.requests) for name in turned}
                taken[in_flight].append({name: runs[name] for name in names})
                print(
                    number + 1, in_flight, {name: f"{1000 * runs[name].cpu / options.requests:.3f}" for name in names}
                )
    told = f"--requests {options.requests} --rounds {options.rounds} --latency {options.latency:g}"
    lines = [
        "# What a client costs\n",
        f"`python benchmarks/client_overhead.py {told}`, {surroundings()}; load {begun} before, {load()} after.",
        f"\nMedian of {options.rounds} interleaved rounds (lowest-highest). CPU is user and system time of the "
        "client's process, without the server's, without imports and without the first request. The ratio is taken "
        "within each round; it, not the milliseconds, carries over to other machines. Each answer was checked against "
        "its question.",
    ]
    for in_flight in options.in_flight:
        lines += table(taken[in_flight], options.latency)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())


if __name__ == "__main__":
    main()
