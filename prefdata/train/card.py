"""What a run leaves behind to be read: `manifest.json`, and the model card that says what the model was made of."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdata.train.config import TrainConfig
from prefdata.train.folder import MADE_BY, MANIFEST
from prefdata.train.losses import LossSpec
from prefdata.train.screen import visible

if TYPE_CHECKING:
    from prefdata.train.data import PreferenceData
    from prefdata.train.model import Policy
    from prefdata.train.run import Result

LONGEST = 400
"""Characters of a text in the card; a footer may hold any number."""
_PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "numpy", "pyarrow", "prefdata")


def write_manifest(
    folder: Path,
    config: TrainConfig,
    loss: LossSpec,
    options: Mapping[str, Any],
    data: PreferenceData,
    digest: str,
    result: Result,
    policy: Policy,
) -> dict[str, Any]:
    """Write what was done with what, as JSON; returns it."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    results = {key: value for key, value in asdict(result).items() if key not in ("out", "counts")}
    manifest = {
        "made_by": MADE_BY,
        "config": {**config.as_dict(), "loss_options": dict(options)},
        "loss": {"name": loss.name, "paper": loss.paper, "output": loss.output, "outputs": loss.outputs(options)},
        "data": {"path": str(data.path), "sha256": digest, "format": data.format, "metadata": data.metadata},
        "reference": str(config.reference or config.model) if "reference" in loss.needed(options) else None,
        "counts": result.counts,
        "device": {
            "name": str(policy.devices.device),
            "processes": policy.devices.world,
            "layout": policy.devices.layout,
            "precision": policy.scorer.dtype,
            "attention": policy.scorer.attention,
        },
        "versions": versions,
        "results": results,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False, default=str) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def model_card(manifest: Mapping[str, Any]) -> str:
    """README.md of the model's folder, of what `manifest.json` says.

    File names, model names and metadata come from elsewhere: in the front matter they are JSON texts, which YAML reads
    as texts, and below they stand in code.
    """
    config, data, loss, counts = (manifest[name] for name in ("config", "data", "loss", "counts"))
    outputs = loss["outputs"]
    head = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification" if outputs else "text-generation",
        "tags": ["prefdata", "reward-model" if outputs else "preference-tuned", loss["name"]],
    }
    if not Path(config["model"]).exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", config["model"], re.ASCII):
        head["base_model"] = config["model"]
    front = "".join(f"{key}: {json.dumps(value, ensure_ascii=True)}\n" for key, value in head.items())
    kind = f"A reward model (outputs: {', '.join(map(code, outputs))})" if outputs else "A language model"
    options = ", ".join(f"{name} {_value(value)}" for name, value in config["loss_options"].items())
    how = f"LoRA of rank {config['lora']}, merged" if config["lora"] else "all weights"
    rows = [
        ("Base model", code(_named(config["model"]))),
        ("Loss", f"{code(loss['name'])} ({plain(loss['paper'])})" if loss["paper"] else code(loss["name"])),
        ("Options of the loss", code(options) if options else "none"),
        ("Trained", f"{how}; {_steps(manifest['results'])} of {config['batch_size']} lists"),
        ("Learning rate", f"{config['learning_rate']:g}, {config['schedule']}, warm-up {config['warmup']:g}"),
        ("Precision", f"{manifest['device']['precision']}, seed {config['seed']}"),
        ("Data", f"{code(Path(data['path']).name)}, format {code(data['format'])}"),
        ("SHA-256 of the data", code(data["sha256"])),
    ]
    if manifest["reference"]:
        rows.insert(3, ("Reference", code(_named(manifest["reference"]))))
    rows += [(f"Data: {plain(key)}", code(value)) for key, value in sorted(data["metadata"].items())]
    rows += [
        ("Lists trained on", str(counts["training"])),
        ("Lists held out", str(counts["held_out"])),
        ("Lists left out", "; ".join(f"{count} x {plain(why)}" for why, count in counts["left_out"].items()) or "none"),
        ("Lists truncated", str(counts["truncated"])),
    ]
    table = "".join(f"| {name} | {value} |\n" for name, value in rows)
    return (
        f"---\n{front}---\n\n# {plain(Path(config['out']).name)}\n\n{kind}, trained with prefdata on preferences.\n\n"
        f"| | |\n|---|---|\n{table}\n{_results(manifest['results'])}"
        "Everything else that was set, and the versions of what it ran on, stand in `manifest.json`; every step in "
        "`metrics.jsonl`.\n"
    )


def _results(results: Mapping[str, Any]) -> str:
    """The held-out results as a table; a sentence where nothing was held out."""
    before, after = results["before"], results["after"]
    if after is None:
        return "Nothing was held out, so nothing is known of what it does on other data.\n\n"
    lines = []
    names = {"reward": "Accuracy of the reward", "mean_logprob": "Accuracy of the mean log-probability"}
    for key, name in names.items():
        if after[key] is not None:
            cells = [_interval(one[key]) for one in (before, after)]
            lines.append(f"| {name} ({after[key]['edges']} edges) | {cells[0]} | {cells[1]} |\n")
    for key, name in {"kendall_tau": "Kendall's tau", "ndcg": "NDCG"}.items():
        if after[key] is not None:
            lines.append(f"| {name} ({after['lists']} lists) | {before[key]:.3f} | {after[key]:.3f} |\n")
    if after["auc"] is not None:
        name = f"AUC of wanted against unwanted responses ({after['singles']} responses)"
        lines.append(f"| {name} | {before['auc']:.3f} | {after['auc']:.3f} |\n")
    if not lines:
        return "The lists that were held out have no better and worse response to be told apart.\n\n"
    return (
        "On held-out lists, with 95% intervals over prompts:\n\n"
        f"| | before training | after |\n|---|---|---|\n{''.join(lines)}\n"
    )


def _steps(results: Mapping[str, Any]) -> str:
    taken, kept = results["steps"], results["kept_step"]
    return f"{taken} steps" if kept == taken else f"{kept} steps (of {taken}: the best on held-out lists)"


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _named(model: str) -> str:
    """A hub id as it is; of a folder its name, since the path says nothing to others."""
    return Path(model).name if Path(model).exists() else model


def _value(value: Any) -> str:
    """An option as YAML has it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _line(text: Any) -> str:
    """A text on one line of at most LONGEST characters, with what steers a screen (ESC, right-to-left) spelt out."""
    line = visible(" ".join(str(text).split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def plain(text: Any) -> str:
    """A text on one line in which nothing is markup."""
    return re.sub(r"([\\`*_\[\]<>|#!~&])", r"\\\1", _line(text))


def code(text: Any) -> str:
    """A text on one line as code in a table's cell."""
    line = _line(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest else f"`{line or ' '}`"
