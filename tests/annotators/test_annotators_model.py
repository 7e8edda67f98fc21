"""The frame of label probabilities on the real small model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from prefdata.annotators import load_card
from prefdata.annotators.frame import label_message
from prefdata.engines.base import Reply, Request
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
