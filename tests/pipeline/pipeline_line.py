"""The base pipeline of the scenarios, as a thing that is edited and run again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from prefdata.dataset import Dataset
from prefdata.pipeline.run import run
from prefdata.pipeline.runtime import RunResult
from prefdata.pipeline.spec import parse

TABLES = ("prompts", "responses", "annotations", "preferences")


def base_steps(prompts: Path) -> list[dict[str, Any]]:
    return [
        {"ingest": {"format": "prompts", "path": str(prompts)}},
        {"sample": {"engine": ["a"], "n": 3, "max_tokens": 32}},
        {"judge.compare": {"engine": "judge", "card": "helpfulness"}},
        {"aggregate.bradley_terry": {}},
        {"select.where": {"table": "responses", "keep": "n_tokens > 3"}},
        {"pair": {"rule": "best_worst", "min_gap": 0.1}},
    ]


def scripted_engines() -> dict[str, dict[str, Any]]:
    return {name: {"kind": "scripted", "model": f"model-{name}"} for name in ("a", "b", "judge")}


@dataclass
class Line:
    """A pipeline over one dataset; `steps` and `engines` are edited, and `run` runs what they say."""

    folder: Path
    steps: list[dict[str, Any]]
    engines: dict[str, Any] = field(default_factory=scripted_engines)
    dataset_name: str = "ds"
    plugins: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / self.dataset_name

    @property
    def ds(self) -> Dataset:
        return Dataset(self.path)

    def edit(self, step_name: str, /, **fields: Any) -> None:
        """Change fields of the step that is called so."""
        for step in self.steps:
            ((kind, old),) = step.items()
            if old.get("name", kind) == step_name:
                old.update(fields)
                return
        raise KeyError(step_name)

    def remove(self, name: str) -> None:
        self.steps = [s for s in self.steps if next(iter(s.values())).get("name", next(iter(s))) != name]

    def write_prompts(self, texts: Iterable[str]) -> None:
        lines = [json.dumps({"prompt": text}) for text in texts]
        (self.folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")

    def run(self, name: str = "line", **options: Any) -> RunResult:
        said = {"plugins": self.plugins, "engines": self.engines, "steps": self.steps}
        text = yaml.safe_dump({key: value for key, value in said.items() if value}, sort_keys=False)
        spec = parse(text, file="line.yaml", folder=self.folder, name=name)
        return run(spec, self.path, **options)

    def live(self, pipeline: str | None = None, timeless: bool = True) -> dict[str, list[str]]:
        """Every live row as text, without the moments and revisions, sorted."""
        return live_rows(self.ds, pipeline)


def live_rows(ds: Dataset, pipeline: str | None = None) -> dict[str, list[str]]:
    view = ds.view(pipeline=pipeline)
    found = {}
    for table in TABLES:
        frame = view[table].collect().drop("created_at", "revision", "seconds", strict=False)
        found[table] = sorted(json.dumps(row, sort_keys=True, default=str) for row in frame.to_dicts())
    return found
