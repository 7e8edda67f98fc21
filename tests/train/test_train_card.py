"""What people read of a run: the model card and the screen, whatever names and metadata hold."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prefdata.train import TrainConfig, TrainError, train
from prefdata.train.__main__ import main
from prefdata.train.card import LONGEST, code, model_card, plain
from prefdata.train.screen import INTERRUPTED, Screen, visible

HOSTILE = "[red]x[/] \x1b[31m <script>alert(1)</script> | `a`\n# h \u202e [l](javascript:1)"


def manifest(**changes: Any) -> dict[str, Any]:
    config = TrainConfig(data=Path("d.parquet"), model=HOSTILE, out=Path("o")).as_dict()
    return {
        "config": {**config, "loss_options": {"beta": 0.1, "even": True, "name": HOSTILE}, **changes},
        "data": {"path": f"/a/{HOSTILE}", "sha256": "ab", "format": "lists", "metadata": {HOSTILE: HOSTILE * 99}},
        "loss": {"name": "dpo", "paper": HOSTILE, "outputs": []},
        "counts": {"training": 1, "held_out": 0, "left_out": {HOSTILE: 2}, "truncated": 0},
        "reference": HOSTILE,
        "device": {"precision": "fp32"},
        "results": {"before": None, "after": None, "steps": 1, "kept_step": 1},
    }


def test_a_card_holds_no_markup_of_others() -> None:
    card = model_card(manifest())
    assert "\x1b" not in card and "\u202e" not in card
    body = card.split("---\n", 2)[2]
    assert sum(line.startswith("#") for line in body.splitlines()) == 1
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == 3 for line in rows)
    assert "beta 0.1, even true" in card
    assert max(map(len, rows)) < 3 * LONGEST
    outside = "".join(plain_parts(body))
    assert "<script>" not in outside.replace("\\<", "") and "[l](" not in outside.replace("\\[", "")


def plain_parts(text: str) -> list[str]:
    """What stands outside code (a fence is closed by as many backticks)."""
    return re.split(r"(?<!\\)(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", text, flags=re.DOTALL)[::2]


@pytest.mark.parametrize("write", [code, plain])
def test_long_and_empty_texts(write: Callable[[Any], str]) -> None:
    assert len(write("x" * 9999)) < LONGEST + 10
    assert write("") in ("", "` `")


def test_a_folder_is_no_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert 'base_model: "runs/model"' in model_card(manifest(model="runs/model"))
    (tmp_path / "runs" / "model").mkdir(parents=True)
    for name in ("runs/model", str(tmp_path / "runs" / "model")):
        card = model_card(manifest(model=name))
        assert "base_model:" not in card and "| Base model | `model` |" in card
        assert str(tmp_path) not in card


def test_the_screen_is_not_steered() -> None:
    lines: list[str] = []
    Screen(lines.append)(HOSTILE)
    assert lines == [visible(HOSTILE)] and lines[0].isprintable()


def test_ctrl_c_is_a_sentence(
    toy_pairs: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prefdata.train.loop.optimise", interrupted)
    flags = ["--data", str(toy_pairs), "--model", str(tiny_model), "--loss", "sft", "--out", str(tmp_path / "o")]
    assert main(flags) == 130
    assert capsys.readouterr().err.splitlines()[-1] == INTERRUPTED


def test_a_folder_that_cannot_be_made_is_a_sentence(
    toy_pairs: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    out = str(tmp_path / "file" / "o")
    assert main(["--data", str(toy_pairs), "--model", str(tiny_model), "--loss", "dpo", "--out", out]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_steps_of_one_prompt_are_refused_or_said(toy_pairs: Path, tiny_model: Path, tmp_path: Path) -> None:
    """KTO's reference point is made of other prompts' responses: a step of one prompt has none."""
    config = TrainConfig(data=toy_pairs, model=str(tiny_model), out=tmp_path / "o", loss="kto", batch_size=1)
    with pytest.raises(TrainError, match="with batch_size 1 a step has one prompt"):
        train(config, lambda _: None)
    said: list[str] = []
    train(replace(config, batch_size=11), said.append)  # 12 lists: 11, and one alone
    warned = [line for line in said if "1 of 2 steps lack" in line]
    assert len(warned) == 1
    said.clear()
    train(replace(config, batch_size=6), said.append)
    assert not any("lack" in line for line in said)


def test_without_peft_it_says_so(
    toy_pairs: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    config = TrainConfig(data=toy_pairs, model=str(tiny_model), out=tmp_path / "o", max_steps=1)
    with pytest.raises(TrainError, match="LoRA needs the package peft"):
        train(config, lambda _: None)
    train(replace(config, lora=0), lambda _: None)
