"""`condition`: derived prompts, and what a model is shown for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asked_models
import pytest
from asked_models import Context, group
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefdata.operators.condition import ConditionPrompts
from prefdata.operators.sample import Sample
from prefdata.pipeline.step import Group
from prefdata.render import render
from prefdata.schema import Row, message, prompt

TEXTS = ["Be brief.", "Be kind.", "Be exact."]


def run(step: ConditionPrompts, given_group: Group | None = None, context: Context | None = None) -> list[Row]:
    return asked_models.run(step, context or Context(), given_group)["prompts"]


def made(fields: dict[str, Any], folder: Path | None = None) -> ConditionPrompts:
    return ConditionPrompts.model_validate(fields, context={"folder": folder} if folder else None)


def with_step(rows: list[Row], name: str) -> list[Row]:
    return [{**row, "step": name} for row in rows]


def test_each_prompt_gets_each_condition() -> None:
    roots = group("p", "q", source="s", tags=["t"], references=["r"])
    rows = run(made({"texts": TEXTS, "kind": "principle"}), roots)
    assert len({row["prompt_id"] for row in rows}) == len(rows) == 6
    assert {row["group_id"] for row in rows} == {root["group_id"] for root in roots.prompts}
    assert {row["parent_id"] for row in rows} == {root["prompt_id"] for root in roots.prompts}
    assert [row["condition"]["text"] for row in rows[:3]] == TEXTS and rows[0]["condition"]["kind"] == "principle"
    assert all((row["source"], row["tags"], row["references"]) == ("s", ["t"], ["r"]) for row in rows)
    assert render(rows[0]) == [message("system", "Be brief."), message("user", "p")]


def test_the_derived_prompts_are_answered_and_conditions_can_follow_one_another() -> None:
    first = Group("g", with_step(group("p").prompts, "ingest@1"))
    second = Group("g", first.prompts + with_step(run(made({"texts": TEXTS[:2]}), first), "condition@1"))
    rows = run(made({"texts": ["As a poet."], "kind": "persona"}), second)
    assert [row["condition"]["text"] for row in sorted(rows, key=lambda row: row["condition"]["text"])] == [
        "Be brief.\n\nAs a poet.",
        "Be kind.\n\nAs a poet.",
    ]
    third = Group("g", second.prompts + with_step(rows, "condition-2@1"))
    answers = asked_models.run(Sample(engine="a", n=1), Context("a"), third)["responses"]
    assert {row["prompt_id"] for row in answers} == {row["prompt_id"] for row in rows}


def test_drawn_conditions_change_for_nobody_else() -> None:
    roots = [group(f"p{number}") for number in range(60)]
    step = {"mode": "sample", "n": 2}

    def drawn(texts: list[Any], groups: list[Group]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for one in groups:
            for row in run(made({**step, "texts": texts}), one):
                found.setdefault(row["group_id"], set()).add(row["condition"]["text"])
        return found

    before = drawn(TEXTS, roots)
    assert {len(texts) for texts in before.values()} == {2}
    assert drawn(TEXTS[::-1], roots[:30]) == dict(list(before.items())[:30]), "one more prompt changes no other"
    after = drawn([*TEXTS, "Be calm."], roots)
    changed = [group_id for group_id in before if before[group_id] != after[group_id]]
    assert changed and all(after[one] - before[one] == {"Be calm."} for one in changed)
    heavy = drawn([{"text": "Be brief.", "weight": 50}, *TEXTS[1:], {"text": "never", "weight": 0}], roots)
    assert sum("Be brief." in texts for texts in heavy.values()) > 55
    assert not any("never" in texts for texts in heavy.values())


def test_zip_goes_by_name(tmp_path: Path) -> None:
    p, q = group("p"), group("How  are\nyou?")
    rows = [
        {"prompt": "How are you?", "text": "Be kind."},
        {"prompt_id": p.group_id, "text": "Be brief."},
        {"prompt_id": p.group_id, "text": "Be exact."},
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    step = made({"mode": "zip", "path": "c.jsonl"}, tmp_path)
    assert [row["condition"]["text"] for row in run(step, p)] == ["Be brief.", "Be exact."]
    assert [row["condition"]["text"] for row in run(step, q)] == ["Be kind."]
    context = Context()
    assert run(step, group("r"), context) == [] and "stay as they are" in context.logged[0]


def test_a_prompt_named_by_its_id_is_no_other_turn_of_its_conversation() -> None:
    first = prompt([message("user", "p")])
    second = prompt([message("user", "p"), message("assistant", "a"), message("user", "q")], parent=first)
    turns = Group(first["group_id"], with_step([first, second], "ingest@1"))
    step = made({"mode": "zip", "texts": [{"text": "Be brief.", "prompt_id": first["prompt_id"]}]})
    (derived,) = with_step(run(step, turns), "condition@1")
    assert derived["parent_id"] == first["prompt_id"]
    # What a step derived from it goes by its id, also where `from` shows no more than that.
    for seen in ([*turns.prompts, derived], [derived]):
        more = run(step, Group(turns.group_id, seen))
        assert [row["condition"]["text"] for row in more] == ["Be brief.\n\nBe brief."]


def test_passages_stand_before_the_last_user_turn() -> None:
    passages = [{"text": "Blue scatters.", "doc_id": "d1", "label": "Physics"}, {"text": "Rayleigh, 1871."}]
    (row,) = run(made({"kind": "passages", "texts": passages}))
    assert [one["doc_id"] for one in row["context"]] == ["d1", None] and row.get("condition") is None
    assert render(row)[-1]["content"] == "[Physics] Blue scatters.\n\n[2] Rayleigh, 1871.\n\nWhy?"
    root = prompt([message("user", "Why?")], context=[{"text": "Older."}])
    (again,) = run(made({"kind": "passages", "texts": passages[1:]}), Group(root["group_id"], [root]))
    assert [one["text"] for one in again["context"]] == ["Older.", "Rayleigh, 1871."]


def test_the_contents_of_a_file_are_in_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "principles.txt"
    path.write_text("Be brief.\n\nBe kind.\n", encoding="utf-8")
    first = made({"path": str(path)})
    assert first.resolved() == made({"texts": TEXTS[:2]}).resolved() and first == made({"path": str(path)})
    path.write_text("Be brief.\nBe exact.\n", encoding="utf-8")
    assert made({"path": str(path)}).resolved() != first.resolved()
    path.unlink()
    assert run(ConditionPrompts.restored(first.resolved())) == run(first)


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5), st.sampled_from(["cross", "sample"]))
def test_one_derived_prompt_for_each_different_text(texts: list[str], mode: str) -> None:
    rows = run(made({"texts": texts, "mode": mode, **({"n": 9} if mode == "sample" else {})}))
    assert [row["condition"]["text"] for row in rows] == list(dict.fromkeys(texts))
    assert len({row["prompt_id"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "there is no condition"),
        ({"texts": []}, "there is no condition"),
        ({"texts": [" "]}, "text 1: the text is empty"),
        ({"texts": "Be brief."}, "texts is a list"),
        ({"texts": [{"txt": "x"}]}, "text 1: unknown key 'txt'"),
        ({"texts": [3]}, "text 1 is neither a text nor an object"),
        ({"texts": {"Be brief.": -1}}, "weight"),
        ({"texts": {"Be brief.": 0}, "mode": "sample"}, "no condition has a weight above 0"),
        ({"texts": ["x"], "path": "y"}, "not both"),
        ({"texts": ["x"], "mode": "zip"}, "mode zip needs the prompt of each condition"),
        ({"texts": ["x"], "n": 2}, "n needs mode: sample"),
        ({"path": "missing.jsonl"}, "there is no file 'missing.jsonl'"),
        ({"texts": ["x"], "kind": "mood"}, "'system', 'principle'"),
    ],
)
def test_mistakes(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        made(fields)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no condition"),
        ("{", "line 1: this is no JSON object"),
        ('{"text": "x"}\n[]', "line 2 is neither a text nor an object"),
        ('{"text": ""}', "line 1: the text is empty"),
        ('{"text": "x", "colour": 1}', "line 1: unknown key 'colour'"),
        ('{"prompt": "x"}', "line 1: text: Field required"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.jsonl").write_text(text)
    with pytest.raises(ValidationError, match=said):
        made({"path": "c.jsonl"}, tmp_path)
