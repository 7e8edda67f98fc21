"""What judges that read off log-probabilities are worth with a small model: on contrasts, and on people's labels.

    python benchmarks/judges_likelihood.py [--pairs 80] [--contrasts 40] [--steps 60] [--keep FOLDER]

SmolLM2-135M-Instruct before, and after a short DPO run (LoRA of rank 8) on pairs of HH-RLHF that are not judged later.
Judged are answers against their own words shuffled, against an answer to another prompt, and pairs that people compared
(PandaLM, HH-RLHF held out), through the steps of a pipeline. An annotator is right where it gives the better response
the higher score; a tie counts half. Beside them the cosine of MiniLM. What --keep holds already is not done again: a
run that was stopped goes on there. Needs the models smollm2-135m-instruct, gemma3-270m and all-minilm-l6-v2. Writes
benchmarks/results/judges_likelihood.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl
import yaml

import prefdata
from prefdata.engines.models import model_folder
from prefdata.stats.intervals import wilson_interval

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "judges_likelihood.md"
PREFDATA = [sys.executable, "-c", "import prefdata.cli; prefdata.cli.main()"]
MODEL, OTHER, EMBEDDER = "smollm2-135m-instruct", "gemma3-270m", "all-minilm-l6-v2"
LONGEST = 600
"""Characters of a response; longer ones are left out, for time."""

SETS = {
    "shuffled": "its words shuffled",
    "other": "answer to another prompt",
    "PandaLM": "PandaLM",
    "HH-RLHF": "HH-RLHF",
}
STEPS: Sequence[tuple[str, dict[str, Any]]] = (
    ("judge.likelihood", {"name": "conditional", "engine": "before", "mode": "conditional"}),
    ("judge.density_ratio", {"name": "ratio-sum", "strong": "after", "weak": "before"}),
    ("judge.density_ratio", {"name": "ratio-token", "strong": "after", "weak": "before", "per": "token"}),
    ("judge.embedding", {"name": "cosine", "engine": "embedder"}),
    ("judge.embedding", {"name": "r3", "engine": "embedder", "form": "r3"}),
    ("judge.follow_up", {"name": "follow-up", "engine": "before", "most": 2, "combine": "both"}),
    ("judge.likelihood", {"name": "cond-minus-uncond", "engine": "before"}),
    ("judge.density_ratio", {"name": "ratio-other", "strong": "before", "weak": "other", "per": "byte"}),
)
SAID = {
    "conditional": "conditional likelihood, mean over tokens",
    "cond-minus-uncond": "the same, minus that without the prompt",
    "ratio-sum": "density ratio after DPO / before, sum",
    "ratio-token": "the same, mean over tokens",
    "ratio-other": "density ratio SmolLM2 / Gemma-3-270M, per byte",
    "follow-up": "follow-up likelihood, 6 x (2 + 2)",
    "cosine": "cosine of MiniLM, prompt and response",
    "r3": "R^3: cosine x length x repetition",
}


@dataclass(frozen=True)
class Pair:
    """Two responses, of which the first is the better one."""

    kind: str
    prompt: str
    better: str
    worse: str


def main() -> int:
    """Judge the pairs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=80, help="of PandaLM, and of HH-RLHF")
    parser.add_argument("--contrasts", type=int, default=40, help="of each kind")
    parser.add_argument("--steps", type=int, default=60, help="of the DPO run, 4 pairs each")
    parser.add_argument("--keep", type=Path, help="where the trained model and the judgements are kept")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="where the data lie")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    models = {"before": model_folder(MODEL), "other": model_folder(OTHER), "embedder": model_folder(EMBEDDER)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.keep or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        trained, held = hh_rlhf(options.data)
        after = models["after"] = folder / "after"
        if not (after / "manifest.json").exists():
            train(trained[: 4 * options.steps], models["before"], after, options.steps, folder)
        os.environ["PREFDATA_CACHE"] = str(folder / "cache")
        pairs = judged(held, pandalm(options.data), options)
        for scores in judge(pairs, models, folder):
            options.out.write_text(report(options, pairs, scores, metrics(after)), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))
    return 0


def hh_rlhf(data: Path) -> tuple[list[Pair], list[Pair]]:
    """Pairs of one turn, of short responses: those to train on, and those of 100 prompts that are held out."""
    found = []
    frame = pl.read_parquet(data / "hh_rlhf_helpful.parquet").filter(pl.col("n_human_turns") == 1)
    for row in frame.iter_rows(named=True):
        asked = row["prompt"].removeprefix("\n\nHuman: ").removesuffix("\n\nAssistant:").strip()
        better, worse = (row[side][len(row["prompt"]) :].strip() for side in ("chosen", "rejected"))
        if usable(better, worse) and "\n\nHuman:" not in asked + better + worse and len(asked) < LONGEST / 2:
            found.append(Pair("HH-RLHF", asked, better, worse))
    found.sort(key=place)
    held = set(sorted({place(pair)[0] for pair in found})[:100])
    return [pair for pair in found if place(pair)[0] not in held], [pair for pair in found if place(pair)[0] in held]


def pandalm(data: Path) -> list[Pair]:
    """Pairs whose three people's majority names a winner."""
    found = []
    for row in pl.read_parquet(data / "pandalm_testset.parquet").iter_rows(named=True):
        votes = [row[f"annotator{number}"] for number in (1, 2, 3)]
        winner = max(set(votes), key=votes.count)
        texts = (row["response1"].strip(), row["response2"].strip())
        if winner and votes.count(winner) > 1 and usable(*texts):
            asked = row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "")
            found.append(Pair("PandaLM", asked, texts[winner - 1], texts[2 - winner]))
    return sorted(found, key=place)


def usable(one: str, other: str) -> bool:
    """Whether two answers differ and are short enough."""
    return bool(one) and bool(other) and one != other and max(len(one), len(other)) < LONGEST


def place(pair: Pair) -> tuple[str, str, str]:
    """By a hash of the prompt: an order that knows nothing of it."""
    return blake2b(pair.prompt.encode(), digest_size=8).hexdigest(), pair.better, pair.worse


def judged(held: Sequence[Pair], panda: Sequence[Pair], options: argparse.Namespace) -> list[Pair]:
    """All pairs, each prompt of HH-RLHF and PandaLM once; contrasts are made of the chosen answers of HH-RLHF."""
    once = list({pair.prompt: pair for pair in held}.values())[: options.pairs]
    good = [pair for pair in once if len(pair.better.split()) > 7][: options.contrasts]
    draw, contrasts = random.Random(0), []
    for number, pair in enumerate(good):
        words = pair.better.split()
        while words == pair.better.split():
            draw.shuffle(words)
        contrasts.append(Pair("shuffled", pair.prompt, pair.better, " ".join(words)))
        contrasts.append(Pair("other", pair.prompt, pair.better, good[(number + 1) % len(good)].better))
    return [*contrasts, *list({pair.prompt: pair for pair in panda}.values())[: options.pairs], *once]


def turns(role: str, text: str) -> list[dict[str, str]]:
    """A text as one message."""
    return [{"role": role, "content": text}]


def write_pairs(pairs: Sequence[Pair], path: Path) -> None:
    """Write the pairs as a file that both the import and the trainer read."""
    rows = [
        {
            "prompt": turns("user", pair.prompt),
            "chosen": turns("assistant", pair.better),
            "rejected": turns("assistant", pair.worse),
        }
        for pair in pairs
    ]
    pl.DataFrame(rows).write_parquet(path)


def train(pairs: Sequence[Pair], model: Path, out: Path, steps: int, folder: Path) -> None:
    """A short DPO run, by the command line."""
    write_pairs(pairs, folder / "train.parquet")
    fixed = {"batch_size": 4, "learning_rate": 2e-4, "max_length": 384}
    subprocess.run(
        [*PREFDATA, "train", "--data", str(folder / "train.parquet"), "--model", str(model), "--loss", "dpo"]
        + ["--out", str(out), "--steps", str(steps), "--lora", "8"]
        + [part for key, value in fixed.items() for part in ("--set", f"{key}={value}")],
        check=True,
    )


def metrics(after: Path) -> list[dict[str, Any]]:
    """What the run wrote, a row a step."""
    lines = (after / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


Scores = Mapping[str, Mapping[tuple[str, str], float]]
"""By annotator, by prompt and response."""


def judge(pairs: Sequence[Pair], models: Mapping[str, Path], folder: Path) -> Iterator[Scores]:
    """Every response's scores so far, after each step."""
    write_pairs(pairs, folder / "pairs.parquet")
    engines = {
        name: {"kind": "sentence-transformers" if name == "embedder" else "transformers", "model": str(path)}
        for name, path in models.items()
    }
    for count in range(1, len(STEPS) + 1):
        steps: list[dict[str, Any]] = [{"ingest": {"format": "trl-pairs", "path": str(folder / "pairs.parquet")}}]
        steps += [{kind: fields} for kind, fields in STEPS[:count]]
        asked = {str(step[key]) for _, step in STEPS[:count] for key in ("engine", "strong", "weak") if key in step}
        path = folder / "judges.yaml"
        written = {"engines": {name: engines[name] for name in asked}, "steps": steps}
        path.write_text(yaml.safe_dump(written), encoding="utf-8")
        stopped = prefdata.run(path, folder / "data").stopped
        yield read_scores(prefdata.open(folder / "data"))
        if stopped:
            raise SystemExit(stopped)


def read_scores(dataset: Any) -> Scores:
    """What the judges have said so far, and the length of each answer."""
    prompts = {row["prompt_id"]: row["messages"][-1]["content"] for row in dataset.prompts.collect().to_dicts()}
    told = {
        row["response_id"]: (prompts[row["prompt_id"]], row["text"]) for row in dataset.responses.collect().to_dicts()
    }
    found: dict[str, dict[tuple[str, str], float]] = {}
    sources = pl.col("source").is_in(["likelihood", "embedding"])
    made = dataset.annotations.filter(sources & (pl.col("status") == "ok")).collect()
    for row in made.to_dicts():
        step = row["step"].rpartition("@")[0]
        name = step if row["aspect"] == "overall" else f"{step}: {row['aspect']}"
        found.setdefault(name, {})[told[row["target_ids"][0]]] = row["scores"][0]
    found["the longer one"] = {where: float(len(where[1])) for where in told.values()}
    return found


def report(
    options: argparse.Namespace,
    pairs: Sequence[Pair],
    scores: Scores,
    steps: Sequence[Mapping[str, Any]],
) -> str:
    """The page: how often each judge is right, by kind of pair."""
    accuracies = [row["accuracy"] for row in steps if row.get("accuracy") is not None]
    last = accuracies[-10:]
    counts = {kind: sum(pair.kind == kind for pair in pairs) for kind in SETS}
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    lines = [
        "# Judges by log-probabilities",
        "",
        f"`python benchmarks/judges_likelihood.py --pairs {options.pairs} --contrasts {options.contrasts} --steps "
        f"{options.steps}`, {os.cpu_count()} shared cores, OMP_NUM_THREADS={threads}, "
        f"Python {platform.python_version()}; load {os.getloadavg()[0]:.1f} at the end.",
        "",
        f"SmolLM2-135M-Instruct before and after {len(accuracies)} steps of DPO (LoRA of rank 8, 4 pairs of HH-RLHF a "
        f"step, each seen once; in the last {len(last)} steps {sum(last) / max(1, len(last)):.2f} of the pairs were on "
        "the right side before they were trained on). The share of pairs in which the better response has the higher "
        "score (a tie counts half), with Wilson's 95 % interval; one half is chance. Its answer against "
        f"{SETS['shuffled']} ({counts['shuffled']} pairs) or an {SETS['other']} ({counts['other']}), and pairs that "
        f"people compared: PandaLM ({counts['PandaLM']}, majority of three) and HH-RLHF, held out "
        f"({counts['HH-RLHF']}, one person each). Bold: the interval leaves out one half; "
        "`of n`: the run was stopped when so many pairs were judged, and what would have come after has no row.",
        "",
        "| annotator | shuffled | other prompt | PandaLM | HH-RLHF |",
        "|---|---|---|---|---|",
    ]
    names = [*(name for name in SAID if name in scores), "the longer one", *(name for name in scores if ": " in name)]
    for name in names:
        cells = [cell(pairs, kind, scores[name]) for kind in SETS]
        lines.append(f"| {SAID.get(name, name)} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def cell(pairs: Sequence[Pair], kind: str, scores: Mapping[tuple[str, str], float]) -> str:
    """How many pairs of a kind are judged rightly, ties one half, with an interval."""
    right, known = 0.0, 0
    for pair in pairs:
        better, worse = scores.get((pair.prompt, pair.better)), scores.get((pair.prompt, pair.worse))
        if pair.kind == kind and better is not None and worse is not None:
            known += 1
            right += 1.0 if better > worse else 0.5 if better == worse else 0.0
    if not known:
        return "-"
    low, high = wilson_interval(right, known)
    wanted = sum(pair.kind == kind for pair in pairs)
    text = f"{right / known:.2f} [{low:.2f}, {high:.2f}]" + (f" of {known}" if known < wanted else "")
    return f"**{text}**" if low > 0.5 or high < 0.5 else text


if __name__ == "__main__":
    raise SystemExit(main())
