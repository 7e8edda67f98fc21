"""Real training, small: what twenty steps do to held-out accuracy, over seeds, and honestly within which noise.

    python benchmarks/real_training.py --data FOLDER                    # CPU, at most half an hour
    python benchmarks/real_training.py --data FOLDER --full             # six losses, LoRA and all weights: a GPU

SmolLM2-135M-Instruct, LoRA: DPO on pairs of HH-RLHF of up to 256 tokens, Plackett-Luce on lists of OASST of up to 512,
3 seeds each; and a linear reward head on frozen MiniLM embeddings of UKPConvArg1 (benchmarks/reward_head.py), 5 seeds.
FOLDER holds the Parquet files; a pipeline of prefdata reads them, pairs, splits and exports. The seeds share the split
and the reference's log-probabilities. What --keep holds already is not done again: with exports made there before, the
trainings run where torch, transformers, peft and pyarrow are all there is (--head-seeds 0, --model DIR). Needs the
models smollm2-135m-instruct and all-minilm-l6-v2. Writes benchmarks/results/real_training.md (real_training_full.md).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reward_head import head_page, mean_and_spread, verdict

RESULTS = Path(__file__).parent / "results"
PREFDATA = [sys.executable, "-c", "import prefdata.cli; prefdata.cli.main()"]
MODEL = "smollm2-135m-instruct"
SETS: dict[str, dict[str, Any]] = {
    "HH-RLHF": {
        "format": "hh-rlhf",
        "path": "hh_rlhf_helpful.parquet",
        "rule": "all_pairs",
        "export": "trl-pairs-conversational",
        "valid": 0.04,
        "max_length": 256,
    },
    "OASST": {
        "format": "oasst",
        "path": "oasst_en_trees.parquet",
        "rule": "list",
        "export": "lists",
        "valid": 0.25,
        "max_length": 512,
    },
}


@dataclass(frozen=True)
class Training:
    """One loss on one set, over seeds.

    Attributes:
        loss: its name.
        data: a name in SETS.
        lora: the adapters' rank; 0: all weights.
        steps: optimiser steps.
        lists: in each step.
        rate: the peak learning rate.
        more: further fields of TrainConfig.
    """

    loss: str
    data: str
    lora: int = 8
    steps: int = 20
    lists: int = 4
    rate: float = 1e-4
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its folder and row."""
        return f"{self.loss}, {self.data}, {f'LoRA {self.lora}' if self.lora else 'all weights'}"


SMALL = (Training("dpo", "HH-RLHF"), Training("plackett-luce", "OASST", lists=2))
FULL = tuple(
    Training(loss, data, lora=lora, steps=200, lists=16, rate=1e-4 if lora else 1e-6)
    for loss, data in (
        ("dpo", "HH-RLHF"),
        ("ipo", "HH-RLHF"),
        ("simpo", "HH-RLHF"),
        ("orpo", "HH-RLHF"),
        ("kto", "HH-RLHF"),
        ("plackett-luce", "OASST"),
    )
    for lora in (8, 0)
)


def export_set(name: str, data: Path, folder: Path) -> Path:
    """The training file of a set, made by a pipeline."""
    told, dataset = SETS[name], folder / name / "dataset"
    out = dataset / "exports" / "train.parquet"
    if out.exists():
        return out
    import yaml

    dataset.parent.mkdir(parents=True, exist_ok=True)
    steps = [
        {"ingest": {"name": "data", "format": told["format"], "path": str((data / told["path"]).resolve())}},
        {"pair": {"name": "pairs", "rule": told["rule"]}},
        {"split": {"valid": told["valid"]}},
        {"export": {"format": told["export"], "path": out.name}},
    ]
    pipeline = dataset.parent / "pipeline.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": steps}, sort_keys=False))
    subprocess.run([*PREFDATA, "run", str(pipeline), "--dataset", str(dataset)], check=True, stdout=subprocess.PIPE)
    return out


def fetched() -> str:
    """The folder of the model that `prefdata models fetch` made."""
    from prefdata.engines.models import model_folder

    return str(model_folder(MODEL))


def run_seed(one: Training, seed: int, file: Path, folder: Path, model: str, device: str) -> dict[str, Any]:
    """Train with one seed; what it came to, from an earlier run where there is one."""
    from prefdata.train import TrainConfig, train

    home = folder / one.name.replace(" ", "-")
    kept = home / f"seed{seed}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    out, shared = home / f"model{seed}", folder / one.data / "reference.parquet"
    config = TrainConfig(
        data=file,
        model=model,
        out=out,
        loss=one.loss,
        max_steps=one.steps,
        batch_size=one.lists,
        learning_rate=one.rate,
        lora=one.lora,
        max_length=SETS[one.data]["max_length"],
        overlong="drop",
        seed=seed,
        device=device,
        save_every=0,
        reference=str(shared) if shared.exists() and one.loss not in ("simpo", "orpo") else None,
        **one.more,
    )
    result = train(config, say=lambda line: print(line, flush=True))
    if (out / "reference.parquet").exists():
        shared.write_bytes((out / "reference.parquet").read_bytes())
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    made = {"seed": seed, "before": asdict(result.before) if result.before else None}
    made |= {"after": asdict(result.after) if result.after else None, "counts": result.counts}
    made |= {"first_loss": result.first_loss, "losses": [row["loss"] for row in rows], "seconds": result.seconds}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(made))
    (out / "model.safetensors").unlink(missing_ok=True)  # half a gigabyte that nobody reads again
    return made


def training_page(one: Training, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """One training's section."""
    counts, first = runs[0]["counts"], runs[0]
    left = ", ".join(f"{count} x {reason}" for reason, count in counts["left_out"].items()) or "none"
    lines = [f"## {one.name}", ""]
    lines.append(
        f"{one.steps} steps of {one.lists} lists, learning rate {one.rate:g}, up to {SETS[one.data]['max_length']} "
        f"tokens. {counts['training']} lists to train on, {counts['held_out']} held out; left out: {left}. "
        f"{sum(run['seconds'] for run in runs):.0f} s for {len(runs)} seeds."
    )
    head = ("seed", "loss at step 0", "last five, mean", "implicit reward, after", "mean log-prob., before", "after")
    head += ("tau", "NDCG")
    lines += ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for run in runs:
        last = run["losses"][-5:]
        cells = [str(run["seed"]), f"{run['first_loss']:.4f}", f"{sum(last) / len(last):.4f}"]
        cells += [accuracy(run["after"], "reward"), accuracy(run["before"], "mean_logprob")]
        cells += [accuracy(run["after"], "mean_logprob")]
        cells += ["" if run["after"][name] is None else f"{run['after'][name]:.3f}" for name in ("kendall_tau", "ndcg")]
        lines.append("| " + " | ".join(cells) + " |")
    edges = (first["after"]["reward"] or first["after"]["mean_logprob"])["edges"]
    lines += ["", f"Accuracies with 95% intervals over held-out prompts ({edges} pairs of a better and a worse one)."]
    for key, start, said in (
        ("reward", 0.5, "Implicit reward against chance"),
        ("mean_logprob", None, "Mean log-prob."),
    ):
        if first["after"][key] is None:
            continue
        after = [run["after"][key]["value"] for run in runs]
        before = [start if start is not None else run["before"][key]["value"] for run in runs]
        gains = [own - other for own, other in zip(after, before, strict=True)]
        spans = [(run["after"][key]["low"], run["after"][key]["high"]) for run in runs]
        inside = all(low <= base <= high for (low, high), base in zip(spans, before, strict=True))
        where = "inside every seed's interval" if inside else "outside at least one seed's interval"
        lines.append(f"{said}: {mean_and_spread(after)}, {verdict(gains)} The start lies {where}.")
    return lines


def accuracy(found: Mapping[str, Any] | None, name: str) -> str:
    """A share with its interval."""
    one = (found or {}).get(name)
    return f"{one['value']:.3f} [{one['low']:.2f}, {one['high']:.2f}]" if one else ""


def main() -> None:
    """Train all and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("PREFDATA_TEST_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None, help="holds the Parquet files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--head-seeds", type=int, default=5, help="of the reward head; 0: without it")
    parser.add_argument("--steps", type=int, help="instead of each training's own number")
    parser.add_argument("--only", help="only trainings whose name holds this, for example dpo")
    parser.add_argument("--full", action="store_true", help="six losses, LoRA and all weights, 200 steps: a GPU")
    parser.add_argument("--model", help=f"a folder instead of the fetched {MODEL}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--keep", type=Path, help="a folder for what is done, so that a stopped run goes on")
    parser.add_argument("--out", type=Path, help="the page to write")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name --data, the folder that holds the Parquet files")
    began = time.monotonic()
    sections: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        for one in FULL if options.full else SMALL:
            if options.only and options.only not in one.name:
                continue
            if options.steps:
                one = Training(**{**asdict(one), "steps": options.steps})
            file = export_set(one.data, options.data, folder)
            runs = [
                run_seed(one, seed, file, folder, options.model or fetched(), options.device)
                for seed in range(options.seeds)
            ]
            sections += ["", *training_page(one, runs)]
        if options.head_seeds:
            sections += ["", *head_page(options.data, options.head_seeds)]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    command = "python benchmarks/real_training.py --data FOLDER" + (" --full" if options.full else "")
    lines = ["# Real training, small", ""]
    lines.append(
        f"`{command}`, {packages}, Python {platform.python_version()}, {(time.monotonic() - began) / 60:.0f} minutes. "
        "Twenty steps of a small model move little; the rows say what moved and what is within noise."
    )
    page = "\n".join([*lines, *sections]) + "\n"
    print(page)
    name = "real_training_full.md" if options.full else "real_training.md"
    (options.out or RESULTS / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
