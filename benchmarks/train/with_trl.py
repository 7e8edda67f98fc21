"""TRL's DPOTrainer on best-against-rest pairs, with the token ids that prefdata trains on.

Its tokenising is passed over, its sampler is sequential, and a callback notes the seconds of each step; all else is
its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer


class OnTokens(DPOTrainer):
    """A trainer whose data are token ids already."""

    reference_seconds = 0.0
    losses: ClassVar[list[float]] = []

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, *args: Any) -> Any:
        began = time.perf_counter()
        found = super()._precompute_ref_logps(*args)
        OnTokens.reference_seconds += time.perf_counter() - began
        return found

    def compute_loss(self, *args: Any, **more: Any) -> Any:
        """TRL's, noted before it is rounded for the log."""
        loss = super().compute_loss(*args, **more)
        OnTokens.losses.append(float(loss.detach()))
        return loss


class Clock(TrainerCallback):
    """Notes when each optimiser step began and ended, and its gradient's norm."""

    def __init__(self) -> None:
        """Begin with none."""
        self.seconds: list[float] = []
        self.norms: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step begins."""
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """It has ended, the optimiser's step included."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.began)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """A step's gradient, before it is clipped."""
        if logs and "grad_norm" in logs:
            self.norms.append(float(logs["grad_norm"]))


def of_steps(losses: list[float], steps: int) -> list[float]:
    """The means of the micro-batches of each step, which are of equal size."""
    each = len(losses) // steps
    return [sum(losses[start : start + each]) / each for start in range(0, each * steps, each)]


def main(cell: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Train; `options["trl"]` are fields of DPOConfig."""
    groups = json.loads(Path(cell["tokens"]).read_text())["groups"]
    rows = [
        {"prompt_ids": group["prompt"], "chosen_ids": group["responses"][0], "rejected_ids": other}
        for group in groups
        for other in group["responses"][1:]
    ]
    steps, per_device = cell["cell"]["steps"], options["pairs"]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=per_device,
            gradient_accumulation_steps=len(rows) // steps // per_device,
            max_steps=steps,
            learning_rate=options["lr"],
            beta=options["beta"],
            use_cpu=options["device"] == "cpu",
            bf16=options["device"] == "cuda",
            train_sampling_strategy="sequential",
            max_length=None,
            save_strategy="no",
            report_to=[],
            logging_steps=1,
            disable_tqdm=True,
            **options.get("trl", {}),
        )
        trainer = OnTokens(
            model=cell["model"],
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(cell["model"]),
            callbacks=[clock],
        )
        trainer.train()
    return {
        "losses": of_steps(OnTokens.losses, steps),
        "norms": clock.norms,
        "seconds": clock.seconds,
        "reference_seconds": OnTokens.reference_seconds,
    }


if __name__ == "__main__":
    from worker import run

    sys.exit(run(main))
