"""The joint model and its simulator: are intervals right, does it win where it should, what does it cost?

    python benchmarks/joint_model.py [--draws 400] [--seeds 20] [--rows 500000] [--quick]

(a) Coverage (`joint_coverage.py`): how often 95 % intervals hold the known parameter. (b) The joint model beside each
single family (`joint_families.py`), on mixed data and on each family's own. (c) Time and memory beside the
annotator-aware Bradley-Terry on the same votes. Writes benchmarks/results/joint_model.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import joint_coverage
import joint_families
import numpy as np

RESULTS = Path(__file__).parent / "results" / "joint_model.md"
LOW, HIGH = 0.91, 0.985


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--quick", action="store_true", help="10 draws, 3 seeds, 20,000 rows; nothing is written")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.draws, options.seeds, options.rows = 10, 3, 20_000
    begun = time.process_time()
    mixed, lead = mixed_rows(options.seeds)
    parts = [*mixed, *own(options.seeds), *cost(options.rows)]
    for draws in sorted({min(options.draws, 40), options.draws}):  # a first look, which the whole replaces
        spent = f"\n{time.process_time() - begun:.0f} CPU seconds before (a); {lead}.\n"
        text = "\n".join([head(options), *coverage(draws), *parts, spent])
        if not options.quick:
            options.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


def head(options: argparse.Namespace) -> str:
    return (
        "# The joint model\n\n"
        f"`python benchmarks/joint_model.py --draws {options.draws} --seeds {options.seeds} --rows {options.rows}`, "
        f"2 shared cores, Python {platform.python_version()}, NumPy {np.__version__}, one thread.\n"
    )


def coverage(draws: int) -> list[str]:
    rows = joint_coverage.coverage(draws)
    lines = [
        f"## (a) Coverage of 95 % intervals, {draws} draws\n",
        "Share of all parameters of all draws that lie in their interval, with its own 95 % interval over draws; "
        f"wanted is {100 * LOW:.0f}-{100 * HIGH:.1f} %. Strengths and annotators are drawn anew each time from normal "
        "populations; parameters that everybody shares are not looked at, only those of each annotator.\n",
        "| estimator | parameter | covered, % | interval | parameters | |",
        "|---|---|---|---|---|---|",
    ]
    for name, parameter, share, low, high, count in rows:
        verdict = "" if LOW <= share <= HIGH else "**too low**" if share < LOW else "too high"
        lines.append(
            f"| {name} | {parameter} | {100 * share:.1f} | {100 * low:.1f}-{100 * high:.1f} | {count:,} | {verdict} |"
        )
    return [*lines, ""]


def mean(values: list[float], digits: int = 4) -> str:
    found = np.array(values, dtype=float)
    found = found[np.isfinite(found)]
    if not len(found):
        return "-"
    half = 1.96 * found.std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else float("nan")
    return f"{found.mean():.{digits}f} ± {half:.{digits}f}"


def mixed_rows(seeds: int) -> tuple[list[str], str]:
    lines = [
        f"## (b) Mixed data, {seeds} seeds\n",
        "100 prompts of 4 responses, 4 votes on each pair: 12 people (2 of them adversaries, with position and length "
        "biases and tie thresholds of their own) and 3 judges with more bias, ties; and 2 reward models that score all "
        "(which the others are given as votes on pairs). A quarter of the votes is held out. Means with 95 % intervals "
        "over seeds; `worse by`: log-loss less that of the joint model, paired by seed.\n",
    ]
    worst = np.inf
    for title, world in (
        ("people, judges and reward models", joint_families.mixed),
        ("the same, votes alone", joint_families.mixed_votes),
    ):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in joint_families.FAMILIES}
        for seed in range(seeds):
            made = world(seed)
            for name, family in joint_families.FAMILIES.items():
                found[name].append(joint_families.measured(made, family))
        lines += [
            f"{title}:\n",
            "| family | log-loss of held-out votes | worse by | accuracy | right order of pairs | rank correlation |",
            "|---|---|---|---|---|---|",
        ]
        for name, rows in found.items():
            column = {key: [row[key] for row in rows] for key in rows[0]}
            gap = np.array(column["log-loss"]) - [row["log-loss"] for row in found["joint"]]
            if name != "joint":
                worst = min(worst, gap.mean() - 1.96 * gap.std(ddof=1) / np.sqrt(len(gap)))
            lines.append(
                f"| {name} | {mean(column['log-loss'])} | {'' if name == 'joint' else mean(gap.tolist())} | "
                f"{mean(column['accuracy'], 3)} | {mean(column['truth'], 3)} | {mean(column['rank'], 3)} |"
            )
        lines.append("")
    return lines, f"on mixed data the joint model is better than every family by at least {worst:.4f} (lower ends)"


def own(seeds: int) -> list[str]:
    lines = [
        f"## (b) Each family's own data, {seeds} seeds\n",
        "`joint - family`: the difference in log-loss, paired by seed, below 0 where the joint model is better. "
        "`within`: yes where that interval holds 0; `own` where it does not, but the joint model lies within the "
        "interval of the family's own log-loss over seeds; better where the joint model is.\n",
        "| family and data | its log-loss | joint | joint - family | within | right order: it | joint |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, world in joint_families.OWN.items():
        pairs = []
        for seed in range(seeds):
            made = world(seed)
            pairs.append([joint_families.measured(made, joint_families.FAMILIES[which]) for which in (name, "joint")])
        a, b = (np.array([pair[side]["log-loss"] for pair in pairs]) for side in (0, 1))
        gap = b - a
        half, wide = (1.96 * x.std(ddof=1) / np.sqrt(seeds) for x in (gap, a))
        inside = "better" if gap.mean() + half < 0 else "yes" if gap.mean() - half <= 0 else "own"
        if inside == "own" and gap.mean() > wide:
            inside = "**no**"
        truth = [mean([pair[side]["truth"] for pair in pairs], 3) for side in (0, 1)]
        lines.append(
            f"| {name} | {mean(a.tolist())} | {mean(b.tolist())} | {mean(gap.tolist())} | {inside} | "
            f"{truth[0]} | {truth[1]} |"
        )
    return [*lines, ""]


def cost(rows: int) -> list[str]:
    from prefdata.stats import joint, simulate

    contestants, annotators = min(2000, rows // 50), min(1000, rows // 100)
    draw = np.random.default_rng(0)
    theta = draw.normal(0, 1.2, contestants)
    lengths = draw.uniform(-0.5, 0.5, contestants)
    who = simulate.Annotators.drawn(
        annotators, ability=(1.0, 0.3), position=(0.2, 0.3), length=(0.3, 0.3), log_threshold=(-0.9, 0.5)
    )
    i = draw.integers(contestants, size=rows)
    j = (i + draw.integers(1, contestants, size=rows)) % contestants
    votes = simulate.simulate_comparisons(
        who, theta, i, j, draw.integers(annotators, size=rows), lengths=lengths, questions=np.arange(rows)
    )
    module: Any = importlib.import_module("prefdata.stats.annotator_bradley_terry")
    columns = votes.winners, votes.losers, votes.annotators
    runs: dict[str, Callable[[], Any]] = {
        f"annotator BT, {kind}": lambda kind=kind: module.annotator_bradley_terry(
            *columns, p=votes.p, n=contestants, model=kind, **({} if kind == "crowd" else {"position": votes.position})
        )
        for kind in ("crowd", "discrimination")
    }
    runs["joint"] = lambda: joint.joint_model(*columns, p=votes.p, position=votes.position, length=votes.length)
    lines = [
        f"## (c) Cost: {rows:,} votes, {contestants:,} contestants, {annotators:,} annotators, intervals included\n",
        "| model | CPU s | wall s | more peak memory, MB | rank correlation with the truth | converged |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        cpu, wall = time.process_time(), time.perf_counter()
        found = run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        ranks = np.corrcoef(np.argsort(np.argsort(found.values)), np.argsort(np.argsort(theta)))[0, 1]
        lines.append(f"| {name} | {cpu:.1f} | {wall:.1f} | {more:.0f} | {ranks:.4f} | {found.converged} |")
    return [*lines, ""]


if __name__ == "__main__":
    raise SystemExit(main())
