"""The training benchmarks start: what they need of other libraries is looked for only where it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.mark.parametrize("script", ["train/compare.py", "parity/compare.py", "real_training.py"])
def test_help_says_how_to_run_it(script: str) -> None:
    told = subprocess.run([sys.executable, BENCHMARKS / script, "--help"], capture_output=True, text=True, check=True)
    assert "--data" in told.stdout
    assert f"python benchmarks/{script}" in told.stdout
