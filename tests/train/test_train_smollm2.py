"""Three real steps of the real small model on real pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from prefdata.train import TrainConfig, train

pytestmark = pytest.mark.model


def hh_pairs(folder: Path, count: int) -> list[dict[str, Any]]:
    """Short single-turn rows of HH-RLHF as `trl-pairs` columns; every fourth is held out."""
    rows: list[dict[str, Any]] = []
    for row in pq.read_table(folder / "hh_rlhf_helpful.parquet").to_pylist():
        question = row["prompt"].removeprefix("\n\nHuman: ").removesuffix("\n\nAssistant:")
        chosen, rejected = (row[side].removeprefix(row["prompt"]).strip() for side in ("chosen", "rejected"))
        if row["n_human_turns"] == 1 and len(question) + max(len(chosen), len(rejected)) < 120 and chosen != rejected:
            split = "valid" if len(rows) % 4 == 3 else "train"
            rows.append({"prompt": question, "chosen": chosen, "rejected": rejected, "split": split})
        if len(rows) == count:
            break
    return rows


def test_three_steps(tmp_path: Path, data_folder: Path, smollm2: Path, write_pairs: Callable[..., Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    data = write_pairs(tmp_path / "hh.parquet", hh_pairs(data_folder, 4))
    out = tmp_path / "model"
    result = train(
        TrainConfig(data=data, model=str(smollm2), out=out, max_steps=3, batch_size=1, max_length=128, device="cpu")
    )
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert rows[0]["margin"] == 0.0
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)
    assert rows[2]["chosen_change"] != 0.0
    assert rows[0]["useful_tokens"] > 1.2 * rows[0]["tokens"]  # the prompt of each pair is read once
    assert result.before is not None
    assert result.before.mean_logprob is not None
    assert result.before.mean_logprob.edges == 1
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**asked, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, asked["input_ids"].shape[1] :])
