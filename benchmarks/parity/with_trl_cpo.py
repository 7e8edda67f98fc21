"""TRL's CPOTrainer on given token ids: CPO, SimPO, without a reference."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.cpo import CPOConfig, CPOTrainer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "train"))
from with_trl import Clock, of_steps
from worker import run


class OnTokens(CPOTrainer):
    """A trainer whose data are token ids already."""

    losses: ClassVar[list[float]] = []

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """The ids as they are, laid out as the trainer's own function lays them out."""
        row: dict[str, Any] = {"prompt_input_ids": feature["prompt_ids"]}
        row["prompt_attention_mask"] = [1] * len(feature["prompt_ids"])
        for side in ("chosen", "rejected"):
            ids = feature["prompt_ids"] + feature[f"{side}_ids"]
            row[f"{side}_input_ids"] = ids
            row[f"{side}_attention_mask"] = [1] * len(ids)
            row[f"{side}_labels"] = [-100] * len(feature["prompt_ids"]) + feature[f"{side}_ids"]
        return row

    def compute_loss(self, *args: Any, **more: Any) -> Any:
        """TRL's, noted before it is rounded for the log."""
        loss = super().compute_loss(*args, **more)
        OnTokens.losses.append(float(loss.detach()))
        return loss


def main(cell: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Train; `options["trl"]` are fields of CPOConfig."""
    groups = json.loads(Path(cell["tokens"]).read_text())["groups"]
    texts = {"prompt": "a", "chosen": "b", "rejected": "c"}
    rows = [
        {**texts, "prompt_ids": group["prompt"], "chosen_ids": group["responses"][0], "rejected_ids": other}
        for group in groups
        for other in group["responses"][1:]
    ]
    steps, clock = cell["cell"]["steps"], Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = CPOConfig(
            output_dir=folder,
            per_device_train_batch_size=len(rows) // steps,
            max_steps=steps,
            learning_rate=options["lr"],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            train_sampling_strategy="sequential",
            max_length=4096,
            save_strategy="no",
            report_to=[],
            logging_steps=1,
            disable_tqdm=True,
            **options["trl"],
        )
        OnTokens(
            model=AutoModelForCausalLM.from_pretrained(cell["model"]),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(cell["model"]),
            callbacks=[clock],
        ).train()
    return {
        "losses": of_steps(OnTokens.losses, steps),
        "norms": clock.norms,
        "seconds": clock.seconds,
        "reference_seconds": 0.0,
    }


if __name__ == "__main__":
    sys.exit(run(main))
