"""The trainer needs torch, transformers, peft, numpy, pyarrow and its own source: nothing else of prefdata."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefdata.train.__main__ import _parser, configured, json_or_text, main

ROOT = Path(__file__).resolve().parents[2]

BLOCKER = """
import sys

# The first are not there for anybody; transformers itself needs the second, so only prefdata must not ask for them.
NOBODY = {"polars", "pydantic", "openai", "duckdb", "altair", "datasets", "gradio", "vllm"}
NOT_US = {"yaml", "typer", "rich"}
ALLOWED = ("prefdata.train", "prefdata.lm", "prefdata.stats")

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
    """`python -m prefdata.train`, as its module is run, with no typer, rich or yaml to import."""
    code = BLOCKER + (
        "import runpy\n"
        "try:\n"
        "    runpy.run_module('prefdata.train', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "ours = sorted(n for n in sys.modules if n.startswith('prefdata'))\n"
        "assert all(n == 'prefdata' or n.startswith(ALLOWED) for n in ours), ours\n"
    )
    out = tmp_path / "out"
    arguments = ["--data", toy_pairs, "--model", tiny_model, "--loss", "dpo", "--out", out, "--steps", "2"]
    arguments += ["--lora", "4", "--set", "label=hard", "--set", "schedule=cosine", "--set", "device=cpu"]
    assert run(code, *arguments) == f"{out}\n"
    assert (out / "model.safetensors").is_file()
    manifest = json.loads((out / "manifest.json").read_text())
    told = {name: manifest["config"][name] for name in ("loss", "max_steps", "lora", "schedule")}
    assert told == {"loss": "dpo", "max_steps": 2, "lora": 4, "schedule": "cosine"}
    assert manifest["config"]["loss_options"]["label"] == "hard"
    assert manifest["results"]["after"]["reward"]["edges"] == 4


def test_command_line_says_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--data", "nowhere.parquet", "--model", "m", "--out", str(tmp_path / "out")]
    for more, sentence in (
        ([], "nowhere.parquet"),
        (["--set", "beta"], "--set beta: it is written key=value"),
        (["--set", "bta=3"], "there is no key 'bta'; did you mean 'beta'?"),
        ([str(tmp_path / "no.json")], "cannot be read as JSON"),
    ):
        assert main([*given, *more]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert sentence in said
        assert said.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_command_line_reads_what_a_file_says(tmp_path: Path) -> None:
    """A flag comes before the file; values are JSON where they are JSON."""
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"data": "d", "model": "m", "out": "o", "loss": "ipo", "plugins": [], "seed": 3}))
    config = configured(_parser().parse_args([str(file), "--loss", "dpo", "--set", "beta=0.2", "--set", "device=cpu"]))
    assert (config.loss, config.beta, config.device, config.seed) == ("dpo", 0.2, "cpu", 3)
    assert [json_or_text(text) for text in ("1e-4", "true", "cpu", "[1]", "")] == [1e-4, True, "cpu", [1], ""]


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
        "assert {'dpo', 'mine', 'plackett-luce'} <= set(LOSSES)\n"
        "assert not {'torch', 'transformers', 'peft', 'pyarrow', 'numpy'} & set(sys.modules)\n"
    )
    run(code)
