"""The trainer needs torch, transformers, peft, numpy, pyarrow and its own source: nothing else of prefdata."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BLOCKER = """
import sys

# The first are not there for anybody; transformers itself needs the second, so only prefdata must not ask for them.
NOBODY = {"polars", "pydantic", "openai", "duckdb", "altair", "datasets", "gradio", "vllm"}
NOT_US = {"yaml", "typer", "rich"}
ALLOWED = ("prefdata.train", "prefdata.lm")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        asker = sys._getframe(1)
        while asker and asker.f_globals.get("__name__", "").startswith("importlib"):
            asker = asker.f_back
        ours = bool(asker) and asker.f_globals.get("__name__", "").startswith("prefdata")
        if top in NOBODY or (top in NOT_US and ours):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
        if top == "prefdata" and name != "prefdata" and not name.startswith(ALLOWED):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run(code: str, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_trains_where_nothing_else_is(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    code = BLOCKER + (
        "from prefdata.train import TrainConfig, train\n"
        "data, model, out = sys.argv[1:]\n"
        "result = train(TrainConfig(data=data, model=model, out=out, max_steps=2, batch_size=4, device='cpu'))\n"
        "assert result.steps == 2 and result.after.reward.edges == 4\n"
        "ours = sorted(n for n in sys.modules if n.startswith('prefdata'))\n"
        "assert all(n == 'prefdata' or n.startswith(ALLOWED) for n in ours), ours\n"
    )
    assert "step 2/2" in run(code, toy_pairs, tiny_model, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_the_blocker_blocks() -> None:
    """Negative control."""
    for module in ("polars", "prefdata.schema"):
        code = BLOCKER + f"try:\n    import {module}\nexcept ModuleNotFoundError:\n    print('blocked')\n"
        assert run(code) == "blocked\n"


def test_plugins_and_configurations_do_without_torch() -> None:
    code = (
        "import sys\n"
        "from prefdata.train import LOSSES, Batch, TrainConfig, TrainError, loss\n"
        "@loss('mine')\n"
        "def mine(lp, ref, batch): ...\n"
        "TrainConfig(data='d', model='m', out='o')\n"
        "assert sorted(LOSSES) == ['dpo', 'mine', 'plackett-luce']\n"
        "assert not {'torch', 'transformers', 'peft', 'pyarrow', 'numpy'} & set(sys.modules)\n"
    )
    run(code)
