"""The base pipeline of the scenarios, as a fixture."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline_line import Line, base_steps


@pytest.fixture
def line(tmp_path: Path) -> Line:
    made = Line(tmp_path, base_steps(tmp_path / "prompts.jsonl"))
    made.write_prompts(f"What is {n} plus {n}, and why?" for n in range(8))
    return made
