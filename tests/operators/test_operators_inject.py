"""Attacks on a judge: what `rewrite.inject` makes, and that no judge's message lets one out of its frame."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from operator_shapes import FakeContext
from pipeline.pipeline_line import Line, base_steps

from prefdata.annotators.frame import compare_message, score_message
from prefdata.cards import load_card
from prefdata.operators.rewrite_inject import ATTACKS, Inject, attacked
from prefdata.pipeline.step import Group
from prefdata.schema import message, prompt, response

P = prompt([message("user", "Why is the sky blue?")])
A = response(P, model="writer", text="Because of Rayleigh scattering.", sample_index=0)
B = response(P, model="writer", text="It reflects the sea.", sample_index=1)


def made(step: Inject, *responses: dict[str, object]) -> list[dict[str, object]]:
    rows = asyncio.run(step.run(Group(P["group_id"], [P], list(responses)), FakeContext()))
    return list(rows.get("responses", []))


def test_each_response_gets_a_twin_with_its_lineage() -> None:
    rows = made(Inject(), A, B)
    assert [row["parent_id"] for row in rows] == [A["response_id"], B["response_id"]]
    for row, plain in zip(rows, (A, B), strict=True):
        attack = json.loads(str(row["params"]))["attack"]
        assert row["text"] == f"{plain['text']}\n\n{ATTACKS[attack]}"
        assert row["model"] == plain["model"]
    assert len({row["response_id"] for row in rows} | {A["response_id"], B["response_id"]}) == 4


def test_which_attack_a_response_gets_depends_on_nothing_but_itself() -> None:
    alone = made(Inject(), A)
    assert made(Inject(), A, B)[0] == alone[0]
    every = made(Inject(each=len(ATTACKS)), A)
    assert {json.loads(str(row["params"]))["attack"] for row in every} == set(ATTACKS)


def test_what_was_attacked_is_not_attacked_again() -> None:
    assert made(Inject(), *made(Inject(), A)) == []


@pytest.mark.parametrize("fields", [{"attacks": []}, {"attacks": ["plea", "plea"]}, {"attacks": ["plea"], "each": 2}])
def test_fields_that_make_no_sense_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="attack"):
        Inject.model_validate(fields)


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_a_judge_is_shown_an_attack_within_its_frame(attack: str) -> None:
    card = load_card("helpfulness")
    twin = attacked(P, A, attack)["text"]  # type: ignore[arg-type]
    for text, blocks in ((compare_message(P, twin, B["text"], card), 3), (score_message(P, twin, card), 2)):
        frame = text[text.index("Prompt:\n[") + len("Prompt:\n") :][:10]
        lines = text.split("\n")
        marks = [place for place, line in enumerate(lines) if line == frame]
        assert len(marks) == 2 * blocks
        inside = {number for start, end in zip(marks[::2], marks[1::2], strict=True) for number in range(start, end)}
        for line in ATTACKS[attack].split("\n"):  # type: ignore[index]
            held = [place for place, shown in enumerate(lines) if shown.replace("< |", "<|") == line and line]
            assert all(place in inside for place in held)
        assert "<|im_start|>" not in text
        assert "<|im_end|>" not in text


def test_attacked_responses_are_judged_beside_the_plain_ones(tmp_path: Path) -> None:
    steps = base_steps(tmp_path / "prompts.jsonl")[:2]
    steps[1]["sample"]["n"] = 2
    line = Line(tmp_path, [*steps, {"rewrite.inject": {}}, {"judge.compare": {"engine": "judge"}}])
    line.write_prompts(["Why is the sky blue?", "What is a prime?"])
    line.run()
    responses = line.ds.view()["responses"].collect()
    assert responses.height == 2 * 4
    judged = line.ds.view()["annotations"].collect()
    assert judged.height == 2 * 6 * 2
    assert set(responses["parent_id"].drop_nulls()) <= set(responses["response_id"])
