"""Whether the stronger side of delta-learning's pairs is the better one, by scores that no pair was made from.

    python benchmarks/delta.py [--prompts 96] [--tokens 48] [--data FOLDER] [--work build/delta]

Runs the recipe `delta-learning` (SmolLM2-135M-Instruct over Gemma-3-270M, a base model; greedy) on our sample prompts
and on short instructions of AlpacaEval 2, as many as are asked for. Then scores both sides: by each of the plain rules,
by their mean, and by the cosine of prompt and answer in MiniLM's embedding. Written down are the mean difference strong
minus weak with a bootstrap interval over prompts, and in how many rows the strong side wins. Writes
benchmarks/results/delta.md. Run again it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

import prefdata
from prefdata.pipeline.spec import parse
from prefdata.stats.intervals import bootstrap_interval, wilson_interval

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "delta.md"
SAMPLE = ROOT / "sample_data" / "prompts.jsonl"
LONGEST = 160
"""Characters of an instruction; longer ones are left out, for time."""

SCORES = """
engines:
  embedder: {kind: sentence-transformers, model: all-minilm-l6-v2}
steps:
  - judge.rules: {name: rules, reads: [delta-learning]}
  - judge.rules: {name: each, reads: [delta-learning], combine: none}
  - judge.embedding: {engine: embedder, reads: [delta-learning]}
"""
NAMES = {
    "rule:length+language+repetition+format": "mean of four rules",
    "rule:length+language+format": "the same without repetition",
    "rule:length": "rule: length (10 to 400 words)",
    "rule:language": "rule: the prompt's language",
    "rule:repetition": "rule: share of new 3-grams",
    "rule:format": "rule: ends as a text does",
    "embedding:all-minilm-l6-v2/cosine": "cosine of prompt and answer (MiniLM)",
}


def write_prompts(out: Path, data: Path, count: int) -> None:
    """Our sample prompts, then instructions of AlpacaEval 2 in their order, each once."""
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    told = pl.read_parquet(data / "alpacaeval2_instructions.parquet")["instruction"].to_list()
    rows += [{"prompt": text, "source": "alpacaeval2"} for text in dict.fromkeys(told) if len(text) <= LONGEST]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(json.dumps(row) + "\n" for row in rows[:count]), encoding="utf-8")


def scores_of(dataset: prefdata.Dataset) -> dict[str, dict[str, float]]:
    """Score by annotator and response."""
    found: dict[str, dict[str, float]] = {}
    for row in dataset.rows("annotations").filter(pl.col("status") == "ok").collect().to_dicts():
        if row["annotator"] in NAMES:
            found.setdefault(row["annotator"], {})[row["target_ids"][0]] = row["scores"][0]
    parts = [found[f"rule:{rule}"] for rule in ("length", "language", "format")]
    found["rule:length+language+format"] = {
        one: float(np.mean([part[one] for part in parts if one in part])) for one in parts[0]
    }
    return found


def line(name: str, pairs: list[list[str]], score: Mapping[str, float]) -> str:
    """One row of the table: pairs scored on both sides, their difference, who wins."""
    both = [(score[a], score[b]) for a, b in pairs if a in score and b in score]
    strong, weak = (np.array(side) for side in zip(*both, strict=True))
    gap = strong - weak
    low, high = bootstrap_interval(lambda rows: float(gap[rows].mean()), np.arange(len(gap))) or (np.nan, np.nan)
    wins, losses = int((gap > 1e-9).sum()), int((gap < -1e-9).sum())
    decided = wins + losses
    share = wilson_interval(wins, decided)
    right = f"{wins / decided:.2f} [{share[0]:.2f}, {share[1]:.2f}]" if decided else "-"
    return (
        f"| {NAMES[name]} | {len(gap)} | {strong.mean():.3f} | {weak.mean():.3f} | {gap.mean():+.3f} [{low:+.3f}, "
        f"{high:+.3f}] | {wins} / {len(gap) - decided} / {losses} | {right} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("PREFDATA_TEST_DATA", ROOT.parent / "shared/data"))
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "delta")
    options = parser.parse_args()
    write_prompts(options.work / "prompts.jsonl", options.data, options.prompts)
    os.environ["PROMPTS"] = str(options.work / "prompts.jsonl")
    folder = options.work / "dataset"
    result = prefdata.run("delta-learning", folder, sets=[f"sample.max_tokens={options.tokens}"])
    assert not result.stopped, result.stopped
    prefdata.run(parse(SCORES, file="scores", folder=options.work, name="scores"), folder)
    dataset = prefdata.open(folder)
    pairs = [row["response_ids"] for row in dataset.preferences.collect().to_dicts()]
    models = {row["response_id"]: row for row in dataset.responses.collect().to_dicts()}
    ends = {
        name: sum(row["finish_reason"] == "stop" for row in models.values() if row["model"] == name)
        for name in sorted({row["model"] for row in models.values()})
    }
    scores = scores_of(dataset)
    print(text := report(options, pairs, ends, [line(name, pairs, scores[name]) for name in NAMES if name in scores]))
    RESULTS.write_text(text, encoding="utf-8")
    return 0


def report(options: argparse.Namespace, pairs: list[list[str]], ends: Mapping[str, int], lines: list[str]) -> str:
    """The page of results."""
    stopped = ", ".join(f"{name} {count}" for name, count in ends.items())
    return f"""# Delta learning: is the stronger side the better one?

`python benchmarks/delta.py --prompts {options.prompts} --tokens {options.tokens}`, \
{os.cpu_count()} shared cores, Python {platform.python_version()}.

{len(pairs)} pairs from {options.prompts} prompts, SmolLM2-135M-Instruct (chosen) over Gemma-3-270M (rejected), \
greedy, at most {options.tokens} tokens; answers that came to their end: {stopped}. \
No pair was made from any of these scores. In brackets 95% intervals: bootstrap over prompts of the mean difference, \
Wilson of the share of rows that are right among those that are decided.

| score | pairs | strong | weak | strong - weak | won / tied / lost | right |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}

The direction holds on the average and not in each row, as the paper says. Both models are tiny. Weak is a base model
that repeats itself, and most of the difference is that: such pairs can be told apart by style, and hardly by content.
"""


if __name__ == "__main__":
    raise SystemExit(main())
