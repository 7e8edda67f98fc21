"""The second level of parity: whole trainings, ours and TRL's, step by step on the same rows in the same order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "train"))
from cell import Cell, prepare  # noqa: E402  (the folder beside this one is no package)


@dataclass(frozen=True)
class Training:
    """One training under both names.

    Attributes:
        name: for the table.
        cell: the model, and how many steps of how many pairs of HH-RLHF's lengths.
        script: TRL's side.
        trl: fields of its configuration.
        ours: fields of TrainConfig.
        rate: the peak learning rate, which falls to 0 along a line.
    """

    name: str
    cell: Cell
    script: Path
    trl: Mapping[str, Any]
    ours: Mapping[str, Any]
    rate: float


_DPO = HERE.parent / "train" / "with_trl.py"
_CPO = HERE / "with_trl_cpo.py"
_OURS = HERE.parent / "train" / "with_prefdata.py"


def trainings(model: Path, steps: int) -> list[Training]:
    """What is trained: DPO and SimPO on a small random model, DPO on the real one."""
    small = Cell("tiny", 2, 0, 48, groups=4, steps=steps)
    real = Cell(str(model), 2, 0, 64, groups=2, steps=min(10, steps))
    simpo = {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 1.0}
    off = {"gradient_checkpointing": False}
    return [
        Training("DPO, 2-layer random Llama", small, _DPO, off, {"loss": "dpo"}, 1e-3),
        Training(
            "SimPO, 2-layer random Llama",
            small,
            _CPO,
            simpo,
            {"loss": "simpo", "beta": 2.0, "loss_options": {"gamma_ratio": 0.5}},
            1e-3,
        ),
        Training("DPO, SmolLM2-135M-Instruct", real, _DPO, off, {"loss": "dpo"}, 1e-5),
    ]


@dataclass(frozen=True)
class Followed:
    """Both sides' losses and gradient norms, step by step.

    Attributes:
        training: which.
        trl: `losses` and `norms`.
        ours: likewise.
        error: why there are none; empty where there are.
    """

    training: Training
    trl: Mapping[str, list[float]] = field(default_factory=dict)
    ours: Mapping[str, list[float]] = field(default_factory=dict)
    error: str = ""

    def gaps(self, what: str) -> list[float]:
        """|ours - TRL| at each step, of `losses`, or relative of `norms`."""
        pairs = zip(self.ours[what], self.trl[what], strict=True)
        return [abs(own - other) / (abs(other) if what == "norms" else 1.0) for own, other in pairs]


def follow(training: Training, folder: Path, tokenizer: Path, data: Path) -> Followed:
    """Train both, each in a process of its own."""
    home = folder / training.name.replace(" ", "-")
    prepare(training.cell, home, tokenizer, data)
    given = {"device": "cpu", "pairs": training.cell.groups, "beta": 0.1, "lr": training.rate}
    given |= {"trl": dict(training.trl), "prefdata": {**training.ours, "max_grad_norm": 1.0}}
    found = []
    for script in (_OURS, training.script):
        out = home / f"{script.stem}.json"
        command = [sys.executable, str(script), str(home / "cell.json"), json.dumps(given), str(out)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if ended.returncode:
            return Followed(training, error=(ended.stderr.strip().splitlines() or ["no message"])[-1])
        found.append(json.loads(out.read_text()))
    return Followed(training, ours=found[0], trl=found[1])
