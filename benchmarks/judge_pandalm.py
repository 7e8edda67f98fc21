"""What a small local judge is worth: SmolLM2-135M by label probabilities on PandaLM's pairs, against three people.

    python benchmarks/judge_pandalm.py [--data ../shared/data] [--rows 100] [--model smollm2-135m-instruct]

Takes the first pair of each of the first so many prompts of the test set (Wang et al., ICLR 2024), since pairs of one
prompt are no independent ones; lets the model judge each in both orders; and holds it, with the two judges whose
verdicts are stored in the set, against the majority of the three people, beside "the longer one wins" and "the first
shown wins". Everything is what `prefdata report` gives. Writes benchmarks/results/judge_pandalm.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.dataset import Dataset
from prefdata.report import write_report

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "judge_pandalm.md"
PREFDATA = [sys.executable, "-c", "import prefdata.cli; prefdata.cli.main()"]
FILE = "pandalm_testset.parquet"

PIPELINE = """\
engines:
  small: {{kind: transformers, model: {model}}}
steps:
  - ingest: {{name: pairs, format: pandalm, path: {path}}}
  - judge.label_probs: {{name: judge, engine: small}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help=f"holds {FILE}")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a model of `prefdata models`, or a folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = first_pairs(arguments.data / FILE, arguments.rows)
        seconds = judged(Path(folder), pairs, arguments.model)
        found = write_report(Dataset(Path(folder) / "run"), Path(folder))
    RESULTS.write_text(page(found["judges"], arguments, pairs.height, seconds), encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))
    return 0


def first_pairs(path: Path, rows: int) -> pl.DataFrame:
    """The first pair of each of the first prompts."""
    taken = pl.read_parquet(path)
    first = taken.unique(["instruction", "input"], keep="first", maintain_order=True)
    return first.head(rows)


def judged(folder: Path, pairs: pl.DataFrame, model: str) -> float:
    """Run the pipeline in a process of its own, with an empty cache; gives its seconds."""
    pairs.write_parquet(folder / FILE)
    (folder / "judge.yaml").write_text(PIPELINE.format(model=model, path=folder / FILE), encoding="utf-8")
    started = time.perf_counter()
    environment = os.environ | {"PREFDATA_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [*PREFDATA, "run", str(folder / "judge.yaml"), "--dataset", str(folder / "run")]
    subprocess.run(command, env=environment, cwd=folder, check=True)
    return time.perf_counter() - started


def page(found: dict[str, Any], arguments: argparse.Namespace, rows: int, seconds: float) -> str:
    """The results as Markdown."""
    ordered = sorted(found["by"], key=lambda one: -(one["accuracy"]["value"] or 0))
    table = "\n".join(
        f"| {one['name']} | {share(one['accuracy'])} | {share(one['averaged'])} | {share(one['decided'])} of "
        f"{one['decided']['n']} | {points(one)} | {number(one['kappa'])} | {orders(one['position'])} | "
        f"{share(one['ties'])} |"
        for one in ordered
    )
    (small,) = [one for one in found["by"] if "label-probs" in one["name"]]
    first, second = small["position"]["first_both"], small["position"]["second_both"]
    side = f"takes the first shown both times in {first} of {small['position']['n']} pairs, the second in {second}"
    spent = small["costs"]["seconds_per_judgement"]
    advice = "\n>\n".join(f"> {sentence}" for one in found["advice"] for sentence in one["sentences"])
    rule = next(one["accuracy"]["value"] for one in ordered if one["name"] == "the longer one wins")
    more = "more" if small["averaged"]["low"] > rule else "not clearly more"
    threads = os.environ.get("OMP_NUM_THREADS", "")
    paragraphs = [
        "# A small judge on PandaLM's pairs",
        f"`OMP_NUM_THREADS={threads} python benchmarks/judge_pandalm.py --rows {arguments.rows} "
        f"--model {arguments.model}`, {os.cpu_count()} shared cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the end.",
        f"{rows} pairs, one of each prompt, {small['judgements']} judgements by the small model ({seconds:.0f} s in "
        f"all, {spent:.2f} s each). Agreement is with the majority of three people on the {small['shared']} pairs that "
        "they order; a tie, and two orders that contradict each other, count one half, so chance is 50% for everybody. "
        'Averaged: by the mean of the probabilities over both orders. "Where it decides" leaves ties out. Intervals '
        "are 95%, from 1,000 resamples of prompts. Each of the people is held against the other two.",
        '| annotator | agreement | averaged | where it decides | over "the longer one wins", points | kappa '
        f"| two orders agree | ties |\n|---|---|---|---|---|---|---|---|\n{table}",
        "What the report says of them:",
        advice,
        f"The small model {side}. Its averaged probabilities know {more} than the lengths of the responses do, which "
        "cost nothing. It shows that the line works, not that such a judge does.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def share(found: dict[str, Any]) -> str:
    """`82% (78-86)`."""
    if found["value"] is None:
        return "–"
    ends = "" if found["low"] is None else f" ({100 * found['low']:.0f}–{100 * found['high']:.0f})"
    return f"{100 * found['value']:.0f}%{ends}"


def points(one: dict[str, Any]) -> str:
    """`+14 (7 to 23)`."""
    found = one["over_longer"]
    if found["low"] is None or one["kind"] == "rule":
        return "–"
    return f"{100 * found['value']:+.0f} ({100 * found['low']:+.0f} to {100 * found['high']:+.0f})"


def number(found: dict[str, Any]) -> str:
    """`0.52 (0.44 to 0.60)`."""
    return "–" if found["low"] is None else f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def orders(found: dict[str, Any]) -> str:
    """`12% of 100`; a dash where it was asked in one order."""
    return "–" if found["share"] is None else f"{100 * found['share']:.0f}% of {found['n']}"


if __name__ == "__main__":
    sys.exit(main())
