"""Runs the cells of the statistics benchmark and writes its table."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = (
    *("choix", "evalica", "crowd-kit", "arena-rank", "krippendorff", "datasketch", "rensa"),
    *("numba", "scipy", "polars"),
)


LONG = 5.0
"""What takes more CPU seconds than this runs once: so much is not noise."""


@dataclass(frozen=True)
class Cell:
    """One contender in one table.

    Attributes:
        name: as it is shown.
        run: `ours:...`, `floor:...` or `peer:...`, see the `with_` modules.
        known: how many times the floor's CPU time it took when the floor was first measured; None where it was not.
        part: what part of the work it does (a sweep of many): its ratio stands apart.
    """

    name: str
    run: str
    known: float | None = None
    part: str = ""


@dataclass(frozen=True)
class Table:
    """An estimate, and who makes it."""

    title: str
    exact: str
    cells: list[Cell] = field(default_factory=list)


TABLES = [
    Table(
        "Bradley-Terry: 1 M comparisons of 100 models, the maximum and its sandwich",
        "largest distance to the exact maximum, in logits",
        [
            Cell("ours", "ours:bradley_terry"),
            Cell("floor", "floor:bradley_terry", 1.0),
            Cell("choix I-LSR, dense (no errors)", "peer:choix_ilsr", 0.022 / 0.032),
            Cell("scikit-learn on cells (no errors)", "peer:sklearn_cells", 0.36 / 0.032),
            Cell("evalica (no errors)", "peer:evalica_newman", 0.66 / 0.032),
            Cell("arena-rank, second call", "peer:arena_rank", 3.8 / 0.032),
            Cell("crowd-kit", "peer:crowdkit_bradley_terry", 0.24 / 0.032),
            Cell("choix MM", "peer:choix_mm_sweep", 0.73 / 0.032, "one sweep of about 110"),
        ],
    ),
    Table(
        "The same, 1,000 bootstrap resamples",
        "standard error of the first model",
        [
            Cell("ours", "ours:bootstrap"),
            Cell("floor", "floor:bootstrap", 1.0),
            Cell("evalica", "peer:evalica_bootstrap", 24.5 / 2.1, "20 resamples"),
        ],
    ),
    Table(
        "Bradley-Terry: 200,000 comparisons of 20,000 items, with a ridge or prior",
        "Spearman's correlation with the truth, Newton's steps",
        [
            Cell("ours, the fit alone", "ours:sparse_bradley_terry"),
            Cell("floor", "floor:sparse_bradley_terry", 1.0),
            Cell("scikit-learn, sparse rows", "peer:sklearn_rows", 2.6 / 1.2),
            Cell("choix MM", "peer:choix_mm_sparse_sweep", 0.14 / 1.2, "one sweep of hundreds"),
            Cell("ours, with standard errors", "ours:sparse_intervals"),
            Cell("ours, with the sandwich", "ours:sparse_robust"),
        ],
    ),
    Table(
        "Dawid-Skene: 1 M labels, 200,000 items, 1,000 annotators, 5 classes",
        "share of items labelled right",
        [
            Cell("ours, without intervals of items", "ours:dawid_skene_alone"),
            Cell("floor (compiled)", "floor:dawid_skene", 1.0),
            Cell("crowd-kit Dawid-Skene", "peer:crowdkit_dawid_skene", 8.2 / 0.28),
            Cell("crowd-kit one-coin", "peer:crowdkit_one_coin", 10.7 / 0.28),
            Cell("ours, with all intervals", "ours:dawid_skene"),
            Cell("ours, one-coin", "ours:one_coin"),
            Cell("crowd-kit MACE, one start", "peer:crowdkit_mace", 32.5 / 0.28),
            Cell("ours, MACE, one start", "ours:mace"),
            Cell("ours, majority", "ours:majority"),
        ],
    ),
    Table(
        "Annotator-aware Bradley-Terry: 500,000 votes, 2,000 items, 1,000 annotators, a tenth adversaries",
        "correlation with the truth: items, annotators",
        [
            Cell("ours, without intervals", "ours:annotator_bradley_terry"),
            Cell("floor", "floor:annotator_bradley_terry", 1.0),
            Cell("crowd-kit Noisy BT", "peer:crowdkit_noisy_bradley_terry", 46.9 / 2.2, "20,000 votes"),
            Cell("ours, annotators integrated out, with intervals", "ours:annotator_intervals"),
            Cell("ours, plain Bradley-Terry", "ours:plain_bradley_terry"),
        ],
    ),
    Table(
        "Near-duplicates: 100,000 texts of 30 to 80 words, word 3-grams, Jaccard 0.7",
        "recall, precision",
        [
            Cell("ours", "ours:near_duplicates"),
            Cell("floor", "floor:near_duplicates", 1.0),
            Cell("ours, MinHash, verified", "ours:minhash"),
            Cell("rensa, 16 bands", "peer:rensa_lsh", 3.5 / 8.7),
            Cell("datasketch, 128 permutations", "peer:datasketch_lsh", 25.1 / 8.7),
        ],
    ),
    Table(
        "Krippendorff's alpha, nominal and ordinal: 1 M ratings, 200,000 units of 5, 1,000 raters",
        "alpha",
        [
            Cell("ours, without the interval", "ours:alpha"),
            Cell("floor", "floor:alpha", 1.0),
            Cell("evalica", "peer:evalica_alpha", 0.053 / 0.022),
            Cell("krippendorff, from counts", "peer:krippendorff_counts", 0.093 / 0.022),
            Cell("crowd-kit (nominal alone)", "peer:crowdkit_alpha", 4.3 / (2 * 0.022)),
            Cell("ours, with its interval (nominal)", "ours:alpha_interval"),
        ],
    ),
]


def main() -> None:
    """Parse the command line, run, write."""
    parser = argparse.ArgumentParser(description="Our estimators beside their peers and beside the floor.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of rows; the tables are of scale 1")
    parser.add_argument("--only", default="", help="only the tables whose title holds this text")
    parser.add_argument("--data", type=Path, help="where the data lie or are put; a temporary folder unless given")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "prefdata-peers-statistics")
    parser.add_argument("--install", action="store_true", help="make the peers' environment where there is none")
    parser.add_argument("--limit", type=float, default=240, help="seconds for one cell")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    python = given.peers / "bin" / "python"
    if not python.exists() and given.install:
        venv.create(given.peers, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
    if not python.exists():
        sys.exit(f"there is no environment with the peers at {given.peers}: run with --install")
    with tempfile.TemporaryDirectory() as folder:
        data = (given.data or Path(folder)) / f"scale-{given.scale:g}"
        subprocess.run([python, HERE / "data.py", data, str(given.scale)], check=True)
        tables = [table for table in TABLES if given.only.lower() in table.title.lower()]
        found = measured(tables, data, python, given.rounds, given.limit)
    text = "\n".join(lines(tables, found, given, python))
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


def measured(tables: list[Table], data: Path, python: Path, rounds: int, limit: float) -> dict[str, list[Any]]:
    """What every cell gave in every round: a dictionary, or a text that says why not."""
    found: dict[str, list[Any]] = {}
    for _ in range(rounds):
        for cell in (cell for table in tables for cell in table.cells):
            if found.get(cell.run) and isinstance(found[cell.run][-1], str):
                continue  # it failed or ran past the limit: once is enough
            if found.get(cell.run) and found[cell.run][-1]["cpu"] > LONG:
                continue
            with_what = sys.executable if cell.run.startswith("ours") else python
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2", "JAX_PLATFORMS": "cpu"}
            try:
                ran = subprocess.run(
                    [with_what, HERE / "worker.py", cell.run, data],
                    capture_output=True,
                    text=True,
                    timeout=limit,
                    env=environment,
                )
            except subprocess.TimeoutExpired:
                said: Any = f"not done within {limit:g} s"
            else:
                said = json.loads(ran.stdout.splitlines()[-1]) if ran.returncode == 0 else failure(ran.stderr)
            found.setdefault(cell.run, []).append(said)
            print(cell.run, said if isinstance(said, str) else f"{said['cpu']:.4f} s", file=sys.stderr, flush=True)
    return found


def failure(stderr: str) -> str:
    """The last line of what it said."""
    return "fails: " + (stderr.strip().splitlines() or ["no reason given"])[-1][:120]


def lines(tables: list[Table], found: dict[str, list[Any]], given: Any, python: Path) -> list[str]:
    """The page."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True)
    versions = {entry["name"]: entry["version"] for entry in json.loads(listed.stdout)}
    with_what = ", ".join(f"{name} {versions[name]}" for name in PEERS if name in versions)
    arguments = " ".join(word for word in sys.argv[1:] if not word.startswith("/"))
    made = [
        "# Estimators beside their peers and beside the floor",
        "",
        f"`python benchmarks/statistics.py {arguments}`, {os.cpu_count()} shared cores, Python "
        f"{platform.python_version()}, {with_what}.",
        "",
        f"CPU seconds (user, system, children): the least of {given.rounds} rounds, of five calls each where one takes "
        f"less than half a second; what takes more than {LONG:g} runs once. The floor is the shortest program for the "
        "same numbers (benchmarks/estimators/floor.py), run in the same rounds. `over floor when first measured` is "
        "the ratio in the measurements that the floor comes from; `the floor is one` says whether the floor of this "
        "run stands to the peer at most 1.5 times worse than there.",
    ]
    for table in tables:
        made += ["", f"## {table.title}", ""]
        made += [
            f"| | CPU s | over the floor | over ours | memory, MB | {table.exact} | over floor when first measured | "
            "the floor is one |"
        ]
        made += ["|---|---|---|---|---|---|---|---|"]
        best = {cell.run: least(found.get(cell.run, [])) for cell in table.cells}
        floor = next((best[cell.run] for cell in table.cells if cell.run.startswith("floor")), None)
        ours = best[table.cells[0].run]
        exact = reference(found, table)
        made += [row(cell, best[cell.run], floor, ours, exact, found) for cell in table.cells]
    return made


def least(runs: list[Any]) -> dict[str, Any] | None:
    """The round with the least CPU time."""
    done = [run for run in runs if isinstance(run, dict)]
    return min(done, key=lambda run: run["cpu"]) if done else None


def reference(found: dict[str, list[Any]], table: Table) -> list[float] | None:
    """The strengths of the floor, whose last Newton step is below 1e-11."""
    best = least(found.get(table.cells[1].run, []))
    return best.get("strengths") if best else None


def row(
    cell: Cell,
    run: dict[str, Any] | None,
    floor: dict[str, Any] | None,
    ours: dict[str, Any] | None,
    exact: list[float] | None,
    found: dict[str, list[Any]],
) -> str:
    """One line of a table."""
    name = f"{cell.name}{f' ({cell.part})' if cell.part else ''}"
    if run is None:
        return f"| {name} | {found.get(cell.run, ['not run'])[-1]} | | | | | | |"
    over = run["cpu"] / floor["cpu"] if floor else math.nan
    against = run["cpu"] / ours["cpu"] if ours else math.nan
    known, holds = "", ""
    if cell.known is not None and not cell.run.startswith("floor"):
        known, holds = f"{cell.known:.1f}", "yes" if over >= cell.known / 1.5 else "no"
    return (
        f"| {name} | {run['cpu']:.4f} | {over:.2f} | {against:.2f} | {run['memory']:.0f} | {said(run, exact)} "
        f"| {known} | {holds} |"
    )


def said(run: dict[str, Any], exact: list[float] | None) -> str:
    """How exact the answer is."""
    if "strengths" in run and exact is not None:
        return f"{max(abs(a - b) for a, b in zip(run['strengths'], exact, strict=True)):.1e}"
    names = ("right", "truth", "annotators", "recall", "precision", "nominal", "ordinal", "first_error", "steps")
    return ", ".join(
        f"{run[name]:.5f}" if isinstance(run[name], float) else f"{run[name]} {name}" for name in names if name in run
    )
