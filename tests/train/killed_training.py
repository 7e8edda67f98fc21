"""Runs that are killed and run again, for test_failures_state.py: `python killed_training.py DATA MODEL FOLDER`.

Torch is imported once; each run is a child of this process. A child that is to die counts what it does to the disk and
to the weights, and kills itself, as nothing can catch, at one of those places: in the middle of a file, between two
files of a checkpoint, between two renames.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

import numpy as np
import safetensors.torch
import torch

from prefdata.train import TrainConfig, train

STEPS = 7
NOT_THE_SAME = ("seconds", "tokens_per_s", "useful_tokens_per_s", "mfu", "peak_memory")
RUNS: dict[str, dict[str, Any]] = {
    "lora, a loss with a memory": {"loss": "bco", "lora": 2, "save_every": 2},
    "full, a loss with a memory": {"loss": "lcpo", "lora": 0, "save_every": 1, "learning_rate": 1e-3},
    "the best weights": {"loss": "dpo", "lora": 2, "save_every": 3, "eval_every": 1, "early_stopping": STEPS},
}


class Death:
    """Counts places, and kills this process at one of them."""

    def __init__(self, at: int | None) -> None:
        """Die at the place of this number, from 1; never where it is null."""
        self.at, self.seen = at, 0

    def near(self) -> bool:
        self.seen += 1
        return self.seen == self.at

    def now(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def before(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            if self.near():
                self.now()
            return action(*given, **named)

        return wrapped

    def within(self, write: Callable[..., Any]) -> Callable[..., Any]:
        """Writes half of a file first."""

        def wrapped(tensors: Any, path: str, *given: Any, **named: Any) -> Any:
            if self.near():
                Path(path).write_bytes(safetensors.torch.save(tensors)[:-100])
                self.now()
            return write(tensors, path, *given, **named)

        return wrapped

    def lie_in_wait(self) -> None:
        """Take the places of everything that writes, renames and removes, and of the optimiser's step."""
        safetensors.torch.save_file = self.within(safetensors.torch.save_file)
        torch.optim.AdamW.step = self.before(torch.optim.AdamW.step)  # type: ignore[method-assign]
        os.fsync = self.before(os.fsync)
        for name in ("rename", "replace", "unlink", "mkdir", "write_text", "write_bytes"):
            setattr(Path, name, self.before(getattr(Path, name)))
        shutil.rmtree = self.before(shutil.rmtree)  # type: ignore[assignment]
        os.truncate = self.before(os.truncate)


def child(config: TrainConfig, at: int | None) -> tuple[bool, int]:
    """One run in a process of its own; whether it came to its end, and how many places it saw."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            death = Death(at)
            death.lie_in_wait()
            random.seed(os.getpid())  # another process begins with other random states
            np.random.seed(os.getpid() % 2**31)
            train(config, lambda line: None)
            os.write(writes, str(death.seen).encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as told:
        seen = int(told.read() or b"0")
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a run failed")
    return os.WIFEXITED(status), seen


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in NOT_THE_SAME} for line in lines]


def main(data: Path, model: Path, folder: Path) -> None:
    chance = random.Random(int(os.environ.get("KILL_SEED", "0")))
    told = {}
    # What is imported and cached here, no child pays for.
    train(TrainConfig(data, str(model), folder / "first", max_steps=1, batch_size=4, lora=2, device="cpu"), str)
    for name, fields in RUNS.items():
        common = {"data": data, "model": str(model), "max_steps": STEPS, "batch_size": 4, "device": "cpu"}
        common |= {"deterministic": True, "pack_tokens": 60, **fields}
        whole, killed = folder / f"{name}-whole", folder / f"{name}-killed"
        done, places = child(TrainConfig(**common, out=whole), None)
        assert done and len(rows(whole)) == STEPS
        lives, deaths = int(os.environ.get("KILL_LIVES", "1")), []
        for life in range(lives):
            at = chance.randint(1, places)
            deaths.append(at)
            done, _ = child(TrainConfig(**common, out=killed), at)
            if done:  # what was left to do had fewer places
                break
            partial = killed.with_name(f"{killed.name}.partial")
            kept = sorted(path.name for path in partial.glob("checkpoints/step-*"))
            print(f"{name}: life {life}, killed at {at} of {places}, left {kept}")
        if not done:
            done, _ = child(TrainConfig(**common, out=killed), None)
        assert done
        assert rows(killed) == rows(whole), f"{name}: killed at {deaths}: {rows(killed)} {rows(whole)}"
        weights = [(one / "model.safetensors").read_bytes() for one in (whole, killed)]
        assert weights[0] == weights[1], f"{name}: killed at {deaths}: other weights"
        assert sorted(path.name for path in whole.iterdir()) == sorted(path.name for path in killed.iterdir())
        told[name] = [places, deaths]
    print(json.dumps(told))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
