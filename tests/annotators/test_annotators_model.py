"""Label probabilities and likelihoods on the real small model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import prefdata
from prefdata.annotators import load_card
from prefdata.annotators.frame import label_message
from prefdata.engines.base import Reply, Request
from prefdata.pipeline.display import Display
from prefdata.schema import message, prompt


@pytest.mark.model
def test_the_labels_hold_the_mass_in_both_orders(smollm2: Path) -> None:
    from prefdata.engines.registry import engine_from_config

    engine = engine_from_config("judge", {"kind": "transformers", "model": str(smollm2)}, "test")
    row = prompt([message("user", "Why is the sky blue?")])
    answers = ("The air scatters short waves of light more than long ones.", "Bricks are red and the sea is deep.")

    async def ask(first: str, second: str, prefix: str) -> Reply:
        text = label_message(row, first, second, load_card("helpfulness"), ("A", "B"))
        return await engine.ask(
            Request("label_probs", messages=(message("user", text),), labels=("A", "B"), prefix=prefix)
        )

    async def masses() -> list[float | None]:
        begun = "The better response is Response"
        replies = [await ask(*order, prefix) for order in (answers, answers[::-1]) for prefix in (begun, "")]
        await engine.close()
        return [reply.mass for reply in replies]

    found = asyncio.run(masses())
    assert all(mass is not None and mass > 0.9 for mass in found[::2])
    assert all(mass is not None and mass < 0.5 for mass in found[1::2]), "the negative control: the answer not begun"


ANSWERS = {
    "Why is the sky blue?": "The air scatters short waves of light more than it does the long ones.",
    "How do I boil an egg?": "Put the egg into boiling water and take it out after eight minutes.",
    "What is the capital of France?": "The capital of France is Paris, a city on the river Seine.",
    "Why do cats purr?": "Cats purr when they feel safe, and sometimes to calm themselves down.",
    "How can I sleep better?": "Go to bed at the same time every night and leave your phone in another room.",
    "What does a verb do?": "A verb says what somebody does or what happens in a sentence.",
    "How do plants eat?": "Plants make sugar from water and air with the help of sunlight.",
    "Who wrote Hamlet?": "William Shakespeare wrote the play Hamlet around the year 1600.",
}


@pytest.mark.model
def test_likelihoods_tell_answers_from_their_words_sorted(smollm2: Path, tmp_path: Path) -> None:
    """On eight answers; and a model over itself is worth exactly nothing."""
    lines = [{"prompt": q, "chosen": a, "rejected": " ".join(sorted(a.split()))} for q, a in ANSWERS.items()]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    steps: list[dict[str, Any]] = [
        {"ingest": {"format": "trl-pairs", "path": str(tmp_path / "pairs.jsonl")}},
        {"judge.likelihood": {"engine": "small", "mode": "conditional"}},
        {"judge.density_ratio": {"strong": "small", "weak": "again"}},
        {"judge.follow_up": {"engine": "small", "categories": ["relevance"], "most": 1}},
    ]
    small = {"kind": "transformers", "model": str(smollm2)}
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({"engines": {"small": small, "again": small}, "steps": steps}))
    prefdata.run(file, tmp_path / "data", display=Display(quiet=True))
    data = prefdata.open(tmp_path / "data")
    told = dict(data.responses.select("response_id", "text").collect().iter_rows())
    rows = data.annotations.filter(pl.col("source") == "likelihood").collect().to_dicts()
    found = {(row["step"].partition("@")[0], told[row["target_ids"][0]]): row["scores"][0] for row in rows}
    assert len(rows) == 3 * 16
    wins = sum(found["judge.likelihood", one["chosen"]] > found["judge.likelihood", one["rejected"]] for one in lines)
    assert wins >= 7
    assert {score for (step, _), score in found.items() if step == "judge.density_ratio"} == {0.0}
    assert len({score for (step, _), score in found.items() if step == "judge.follow_up"}) == 16
