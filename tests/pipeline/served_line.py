"""The base pipeline on a loopback server that logs what it is asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_server import FaultServer
from pipeline_line import Line

from prefdata.pipeline.runtime import RunResult

PROMPTS, DRAWS = 6, 2


def loopback_engine(name: str, url: str, **options: Any) -> dict[str, Any]:
    """An engine that is known to the cache by a name of its own: the port is another one in each test."""
    return {"kind": "openai", "model": f"model-{name}", "base_url": url, "identity": "loopback", **options}


def served_engines(url: str, **options: Any) -> dict[str, dict[str, Any]]:
    """Engines `a`, `b` and `judge`."""
    return {name: loopback_engine(name, url, **options) for name in ("a", "b", "judge")}


def served_steps(prompts: Path) -> list[dict[str, Any]]:
    """Two draws, one pair of them, shown in both orders."""
    return [
        {"ingest": {"format": "prompts", "path": str(prompts)}},
        {"sample": {"engine": ["a"], "n": DRAWS, "max_tokens": 32}},
        {"judge.compare": {"engine": "judge", "card": "helpfulness"}},
        {"aggregate.bradley_terry": {}},
        {"select.where": {"table": "responses", "keep": "n_tokens > 3"}},
        {"pair": {"rule": "best_worst", "min_gap": 0.1}},
    ]


@dataclass
class Served:
    """A line and its server; `run` says what the server was asked, by model."""

    line: Line
    server: FaultServer
    result: RunResult = field(init=False)

    def run(self, name: str = "line", **options: Any) -> Counter[str]:
        before = len(self.server.log)
        self.result = self.line.run(name, **options)
        return Counter(entry["body"]["model"] for entry in self.server.log[before:])

    @property
    def groups(self) -> dict[str, int]:
        """How many groups each step of the last run worked on."""
        return {step.name: step.groups for step in self.result.steps}
