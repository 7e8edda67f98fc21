"""The loop on a GPU: bfloat16, FlexAttention, checkpointing, quantised weights."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from whole_runs import config, quiet, rich_rows, rows_of

from prefdata.train import train

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.gpu
Write = Callable[..., Path]


@pytest.mark.parametrize("change", [{}, {"attention": "sdpa"}, {"precision": "fp32"}, {"gradient_checkpointing": True}])
def test_first_loss_is_exact_and_the_loss_falls(
    tmp_path: Path, write_lists: Write, tiny_model: Path, change: dict[str, Any]
) -> None:
    data = write_lists(tmp_path / "l.parquet", rich_rows(6))
    chosen = config(data, tiny_model, tmp_path / "out", loss="plackett-luce", device="cuda", max_steps=6, **change)
    result = train(chosen, quiet)
    rows = rows_of(tmp_path / "out")
    assert result.first_loss == pytest.approx(math.log(6), rel=1e-6)
    assert rows[0]["margin"] == 0.0  # bitwise, in the same packs
    assert result.last_loss < result.first_loss
    assert rows[0]["peak_memory"] > 0
    assert 0.0 <= rows[0]["padding"] < 1.0


def test_deterministic_runs_are_equal(tmp_path: Path, write_lists: Write, tiny_model: Path) -> None:
    data = write_lists(tmp_path / "l.parquet", rich_rows(6))
    losses = []
    for name in ("one", "two"):
        chosen = config(data, tiny_model, tmp_path / name, device="cuda", deterministic=True, lora=0)
        train(chosen, quiet)
        losses.append([(row["loss"], row["grad_norm"]) for row in rows_of(tmp_path / name)])
    assert losses[0] == losses[1]


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_adapters_on_quantised_weights_are_saved_merged(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    chosen = config(toy_pairs, tiny_model, tmp_path / "out", device="cuda", quantize="4bit", max_steps=4)
    result = train(chosen, quiet)
    assert result.first_loss == pytest.approx(math.log(2), rel=1e-6)
    assert result.last_loss < result.first_loss
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert getattr(model.config, "quantization_config", None) is None
    assert model.dtype == torch.float32
