"""Our trainer on the lists themselves: one prompt computed once, its edges best against rest."""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from prefdata.train import TrainConfig, run, train


def main(cell: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Train; `options["prefdata"]` are further fields of TrainConfig."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            data=Path(cell["lists"]),
            model=cell["model"],
            out=Path(folder) / "model",
            batch_size=cell["cell"]["groups"],
            max_steps=cell["cell"]["steps"],
            learning_rate=options["lr"],
            warmup=0.0,
            lora=0,
            max_length=4096,
            save_every=0,
            device=options["device"],
            **{"beta": options["beta"], **options.get("prefdata", {})},
        )
        if options["device"] == "cuda":
            train(replace(config, out=Path(folder) / "first", max_steps=1), say=print)  # compiles
            gc.collect()
            torch.cuda.reset_peak_memory_stats()
        seconds = _clocked_reference()
        train(config, say=lambda line: print(line, flush=True))
        rows = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    return {
        "losses": [row["loss"] for row in rows],
        "norms": [row["grad_norm"] for row in rows],
        "seconds": [row["seconds"] for row in rows],
        "reference_seconds": sum(seconds),
    }


def _clocked_reference() -> list[float]:
    """From now on, the seconds of each making of a reference: weights hashed, log-probabilities computed and kept."""
    seconds: list[float] = []
    make = run._with_reference

    def clocked(*given: Any) -> Any:
        began = time.perf_counter()
        made = make(*given)
        seconds.append(time.perf_counter() - began)
        return made

    run._with_reference = clocked
    return seconds


if __name__ == "__main__":
    import worker

    sys.exit(worker.run(main))
