"""`sample`: members of a pool, ladders, anchors, weighted system texts, and several answers in one call."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import asked_models
import pytest
from asked_models import Context, group, ids
from hypothesis import given, settings
from hypothesis import strategies as st

import prefdata
from prefdata.dataset import Dataset
from prefdata.engines.base import Reply, Request
from prefdata.errors import PipelineError
from prefdata.operators.drawing import drawn
from prefdata.operators.sample import Sample
from prefdata.operators.sample_joint import parse_answers
from prefdata.pipeline.step import Group
from prefdata.schema import Row

MEMBERS: list[dict[str, Any]] = [
    {"engine": "a", "temperature": 0.7},
    {"engine": "a", "temperature": 1.1},
    {"engine": "a", "temperature": 0.7, "system": "Be brief."},
    {"engine": "b"},
    {"engine": "b", "top_p": 0.5},
    {"engine": "c", "max_tokens": 9, "stop": ["\n"]},
]
PROMPTS = [f"Question {number}?" for number in range(40)]


def run(step: Sample, context: Context, given_group: Group | None = None) -> list[Row]:
    return asked_models.run(step, context, given_group)["responses"]


def drawn_by(members: list[dict[str, Any]], m: int | None = None, **fields: Any) -> dict[str, tuple[str, int | None]]:
    """Prompt and seed of each response that a pool of these members makes, by id."""
    context = Context("a", "b", "c")
    rows = run(Sample(members=members, mode="pool", m=m, n=1, **fields), context, group(*PROMPTS[:12]))
    seeds = [request.seed for _, request, _ in context.asked]
    return {row["response_id"]: (row["prompt_id"], seed) for row, seed in zip(rows, seeds, strict=True)}


def test_every_prompt_gets_four_different_members() -> None:
    """UltraFeedback: exactly four distinct (model, parameters) for each prompt."""
    rows = run(Sample(members=MEMBERS, mode="pool", m=4, n=1), Context("a", "b", "c"), group(*PROMPTS))
    by_prompt: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt_id"], set()).add((row["model"], row["params"]))
    assert len(rows) == 160 and [len(made) for made in by_prompt.values()] == [4] * 40


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_member_more_redraws_nothing(data: st.DataObject) -> None:
    """Only where the new member enters does one other leave; ids and seeds of all others stay."""
    chosen = data.draw(st.lists(st.sampled_from(range(len(MEMBERS))), min_size=2, max_size=6, unique=True))
    members = [MEMBERS[place] for place in chosen]
    m = data.draw(st.integers(1, len(members) - 1))
    before, after = drawn_by(members[1:], m), drawn_by(members, m)
    assert {row: before[row] for row in before.keys() & after.keys()}.items() <= after.items()
    gone = Counter(before[row][0] for row in before.keys() - after.keys())
    new = Counter(after[row][0] for row in after.keys() - before.keys())
    assert gone == new and set(new.values()) <= {1}
    assert set(drawn_by(members[::-1], m)) == set(after), "the order of the list means nothing"


def test_a_member_without_parameters_is_its_engine() -> None:
    plain, as_member = Context("a", "b"), Context("a", "b")
    first = run(Sample(engine=("a", "b"), n=2), plain)
    second = run(Sample(members=[{"engine": "a"}, {"engine": "b"}], n=2), as_member)
    assert first == second and plain.asked == as_member.asked


def test_two_temperatures_of_one_model_draw_by_different_seeds() -> None:
    context = Context("a")
    rows = run(Sample(members=MEMBERS[:2], n=2), context)
    assert len(ids(rows)) == 4 and len({request.seed for _, request, _ in context.asked}) == 4
    assert [request.temperature for _, request, _ in context.asked] == [0.7, 0.7, 1.1, 1.1]


def test_equal_members_are_refused() -> None:
    step = Sample(members=[{"engine": "a"}, {"engine": "a", "temperature": 0.7}], temperature=0.7)
    with pytest.raises(PipelineError, match="two members ask the engine 'a' with the same parameters"):
        run(step, Context("a"))


def test_a_member_under_a_text_of_systems_is_refused() -> None:
    """Both would draw the same ids, and some of the responses that were paid for would be lost."""
    members = [{"engine": "a"}, {"engine": "a", "system": "Be brief."}]
    with pytest.raises(PipelineError, match=r"stands in systems as well \('Be brief\.'\)"):
        run(Sample(members=members, systems=["Be brief.", "Be kind."]), Context("a"))
    assert len(run(Sample(members=members, systems=["Be kind."], n=2), Context("a"))) == 4


def test_a_fingerprint_knows_members_by_identity_and_old_steps_by_their_old_fields() -> None:
    assert set(Sample(engine="a").resolved()) == {
        *("engine", "n", "mode", "m", "temperature", "top_p", "max_tokens", "stop", "system", "view")
    }
    step = Sample(members=MEMBERS[:2])
    assert step.resolved()["members"] == [{"temperature": 0.7}, {"temperature": 1.1}]
    assert step.member_engines == ("a", "a") and "engine" not in step.resolved()
    kept = {**step.resolved(), "member_engines": ["a", "a"]}  # as the log keeps them, identities for names
    assert Sample.restored(kept) == step


def test_a_ladder_is_one_greedy_answer_each() -> None:
    context = Context("a", "b")
    rows = run(Sample(engine=("a", "b"), mode="ladder"), context)
    assert [(row["model"], row["sample_index"]) for row in rows] == [("model-a", 0), ("model-b", 0)]
    assert [request.temperature for _, request, _ in context.asked] == [0, 0] and context.logged[1:] == []
    assert Sample(engine=("a", "b"), mode="ladder", temperature=0.5).temperature == 0.5


def test_an_anchor_is_one_answer_of_the_teacher() -> None:
    """PU anchor: one teacher call for each prompt, P * (k + 1) calls in all."""
    context = Context("t", "s")
    rows = run(Sample(engine=("t", "s"), mode="anchor", n=3), context, group("p", "q"))
    assert Counter(row["model"] for row in rows) == {"model-t": 2, "model-s": 6} and len(context.asked) == 2 * (3 + 1)
    assert ids(rows) < ids(run(Sample(engine=("t", "s"), n=3), Context("t", "s"), group("p", "q")))


# System texts

SYSTEMS: dict[str, Any] = {
    "helpful": {"weight": 6, "texts": ["Help.", "Be of help."]},
    "honest": {"weight": 3, "texts": ["Say only what you know."]},
    "Be calm.": 1,
}


def test_one_system_text_is_drawn_for_each_draw() -> None:
    context = Context("a")
    rows = run(Sample(engine="a", n=10, systems=SYSTEMS), context, group(*PROMPTS))
    drawn_names = Counter(json.loads(row["meta"])["principle"] for row in rows)
    assert 200 < drawn_names["helpful"] < 280 and 90 < drawn_names["honest"] < 150 and 20 < drawn_names["Be calm."] < 60
    texts = Counter(json.loads(row["params"])["system"] for row in rows)
    assert set(texts) == {"Help.", "Be of help.", "Say only what you know.", "Be calm."} and texts["Help."] > 80
    for row, (_, request, _) in zip(rows, context.asked, strict=True):
        assert request.messages[0] == {"role": "system", "content": json.loads(row["params"])["system"]}
    again = run(Sample(engine="a", n=10, systems=SYSTEMS), Context("a"), group(*PROMPTS))
    assert again == rows, "nothing is left to chance"


def test_one_principle_more_redraws_only_its_share() -> None:
    before = run(Sample(engine="a", n=4, systems=SYSTEMS), Context("a"), group(*PROMPTS))
    after = run(Sample(engine="a", n=4, systems={**SYSTEMS, "Be kind.": 1}), Context("a"), group(*PROMPTS))
    new = [row for row in after if row["response_id"] not in ids(before)]
    assert 0 < len(new) < 40 and {json.loads(row["params"])["system"] for row in new} == {"Be kind."}


def test_weights_may_go_by_source() -> None:
    step = Sample(engine="a", n=3, systems=SYSTEMS, systems_by_source={"evol": {"honest": 1}})
    rows = run(step, Context("a"), group(*PROMPTS, source="evol"))
    assert {json.loads(row["params"])["system"] for row in rows} == {"Say only what you know."}
    others = run(step, Context("a"), group(*PROMPTS, source="flan"))
    assert len({json.loads(row["params"])["system"] for row in others}) == 4


def test_a_member_keeps_its_own_system_text() -> None:
    context = Context("a")
    run(Sample(members=[{"engine": "a", "system": "Mine."}], n=2, systems=["Other."]), context)
    assert {request.messages[0]["content"] for _, request, _ in context.asked} == {"Mine."}


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 9), min_size=1, max_size=6), st.integers(1, 4), st.text())
def test_draws_by_weight(weights: dict[str, float], n: int, key: str) -> None:
    made = drawn(weights, n, key)
    possible = [name for name, weight in weights.items() if weight > 0]
    assert len(made) == len(set(made)) == min(n, len(possible)) and set(made) <= set(possible)
    assert drawn(dict(reversed(weights.items())), n, key) == made
    assert drawn({name: 3 * weight for name, weight in weights.items()}, n, key)[:1] == made[:1]


# Short groups


def test_a_short_group_is_kept_and_said() -> None:
    texts = iter(["one  two", "one two", "three"])
    context = Context("a", reply=lambda request: Reply(next(texts), "stop", completion_tokens=2))
    rows = run(Sample(engine="a", n=3), context)
    assert [row["text"] for row in rows] == ["one  two", "one two", "three"]
    assert {row["meta"] for row in rows} == {'{"short_group":{"asked":3,"different":2}}'}
    assert context.logged == ["a prompt has 2 different responses of 3 (short_group in their meta)"]


def test_what_failed_makes_no_short_group() -> None:
    replies = iter(["timeout", Reply("one"), Reply("two")])
    context = Context("a", reply=lambda request: next(replies))
    rows = run(Sample(engine="a", n=3), context)
    assert [row["meta"] for row in rows] == [None] * 3 and not context.logged


# Several answers in one call


def joint(texts: list[str] | str, **fields: Any) -> tuple[list[Row], Context]:
    said = texts if isinstance(texts, str) else json.dumps({"answers": texts})
    context = Context("a", reply=Reply(said, "stop", completion_tokens=9))
    return run(Sample(engine="a", mode="joint", **{"n": 3, **fields}), context), context


def test_one_call_makes_all_answers() -> None:
    rows, context = joint(["one", "two", "three"], max_tokens=10, system="Be brief.")
    assert [(row["text"], row["sample_index"], row["finish_reason"]) for row in rows] == [
        ("one", 0, "stop"),
        ("two", 1, "stop"),
        ("three", 2, "stop"),
    ]
    assert len(context.asked) == 1 and len({row["call_id"] for row in rows}) == 1 and len(ids(rows)) == 3
    request = context.asked[0][1]
    assert request.max_tokens == 30 and request.messages[0]["content"] == "Be brief."
    assert request.messages[-1]["content"].startswith("Why?\n\nWrite 3 answers")
    assert request.schema is not None and request.schema["properties"]["answers"]["minItems"] == 3
    assert not ids(rows) & ids(run(Sample(engine="a", n=3), Context("a")))


def test_fewer_answers_than_asked_for_are_kept() -> None:
    rows, context = joint(["one", " one ", "two"])
    assert [row["text"] for row in rows] == ["one", "two"] and "2 different responses of 3" in context.logged[0]
    assert all("short_group" in row["meta"] for row in rows)


def test_what_a_joint_answer_did_not_hold_is_not_asked_for_again() -> None:
    """Its group is worked on again, for another prompt's sake, where no cache remembers the call."""
    _, context = joint(["one", "two"], n=4)
    again = run(Sample(engine="a", mode="joint", n=4), context)
    assert [row["text"] for row in again] == ["one", "two"] and len(context.asked) == 1


def test_an_answer_that_cannot_be_read_is_asked_again_by_the_next_run() -> None:
    rows, context = joint("Here are three answers: one, two and three.")
    assert [(row["text"], row["finish_reason"]) for row in rows] == [(None, "error")] * 3 and not context.logged
    context.reply = Reply('{"answers": ["one", "two", "three"]}')
    again = run(Sample(engine="a", mode="joint", n=3), context)
    assert ids(again) == ids(rows) and [row["text"] for row in again] == ["one", "two", "three"]
    assert [revision for _, _, revision in context.asked] == [1, 2]


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ('{"answers": ["a", "b"]}', ["a", "b"]),
        ('\n\n```json\n{"answers": ["a", "b"]}\n```\n', ["a", "b"]),
        ('<think>{"answers": ["x", "y"]}</think>\n{"answers": ["a", "b"]}', ["a", "b"]),
        ('{"answers": ["a", "b", "c"]}', ["a", "b"]),
        ('{"answers": ["a", "", " "]}', ["a"]),
        ('{"answers": ["a\\n b", "a b"]}', ["a\n b"]),
        (
            '{"answers": ["half \\ud83d", "whole \\ud83d\\ude00"]}',
            ["half \N{REPLACEMENT CHARACTER}", "whole \N{GRINNING FACE}"],
        ),
        ('{"answers": []}', None),
        ('{"answers": ["a", 1]}', None),
        ('{"answers": "a"}', None),
        ('{"answers": ["a"], "note": "x"}', None),
        ('{"answers": ["a", "b"', None),
        ('["a", "b"]', None),
        ('Sure! {"answers": ["a", "b"]}', None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_reading_a_joint_answer(text: str, answers: list[str] | None) -> None:
    assert parse_answers(text, 2) == answers


@pytest.mark.parametrize("reply", ["failed", Reply(None, "refusal"), Reply(None, "tool")])
def test_a_joint_call_that_fails(reply: Reply | str) -> None:
    context = Context("a", reply=reply)
    rows = run(Sample(engine="a", mode="joint", n=2), context)
    assert [row["finish_reason"] for row in rows] == ["error", "error"] and len(context.asked) == 1


def test_the_seed_of_a_joint_call_is_the_members() -> None:
    asked: list[Request] = []

    def script(request: Request) -> Reply:
        asked.append(request)
        return Reply('{"answers": ["one", "two"]}')

    run(Sample(members=MEMBERS[:2], mode="joint", n=2), Context("a", reply=script))
    assert len(asked) == 2 and len({request.seed for request in asked}) == 2


@pytest.mark.model
def test_the_small_model_at_two_temperatures_is_two_members(smollm2: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "Name a colour."}, {"prompt": "Name two animals."}]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "line.yaml").write_text(
        f"engines: {{small: {{kind: transformers, model: '{smollm2}'}}}}\n"
        "steps:\n"
        "  - ingest: {path: prompts.jsonl}\n"
        "  - sample: {members: [{engine: small, temperature: 0.3}, {engine: small, temperature: 1.2}], n: 1, "
        "max_tokens: 8, systems: [Be brief., Be exact.]}\n"
    )
    assert prefdata.run(tmp_path / "line.yaml", tmp_path / "dataset").exit_code == 0
    made = Dataset(tmp_path / "dataset").responses.collect().to_dicts()
    assert len({row["response_id"] for row in made}) == 4 and len({row["model"] for row in made}) == 1
    assert Counter(json.loads(row["params"])["temperature"] for row in made) == {0.3: 2, 1.2: 2}
    assert all(row["text"] and row["n_tokens"] and row["finish_reason"] in ("stop", "length") for row in made)
    assert len({row["text"] for row in made}) > 2
