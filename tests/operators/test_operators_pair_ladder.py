"""Pairs that nobody judged: a ladder of models (`pair.ladder`), and versions of a response (`pair.refined`)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_shapes import FakeContext, response, run
from pydantic import ValidationError

from prefdata.operators.pair_models import Ladder
from prefdata.operators.pair_refined import Refined
from prefdata.pipeline.step import TableStep
from prefdata.schema import Row, preference


class Engines(FakeContext):
    """Engines whose models and identities derive from their names."""

    def engine(self, name: str) -> Any:
        return type("Engine", (), {"model": f"model-{name}", "identity": f"http://{name}"})


def by(name: str, prompt: str = "p1", text: str | None = None, index: int = 0, **columns: Any) -> Row:
    """A response that an engine wrote."""
    return response(
        f"{name}-{prompt}-{index}",
        f"{name} on {prompt}, {index}" if text is None else text,
        prompt,
        **{
            "model": f"model-{name}",
            "sample_index": index,
            "params": json.dumps({"identity": f"http://{name}", "temperature": 0.0}),
            **columns,
        },
    )


def pairs(step: TableStep, rows: Sequence[Row], context: FakeContext | None = None) -> list[tuple[str, ...]]:
    made = run(step, context or Engines(), responses=rows)["preferences"]
    return [tuple(row["response_ids"]) for row in made]


POOL = [by(name, prompt) for prompt in ("p1", "p2") for name in "abc"]


def test_the_stronger_models_response_is_chosen() -> None:
    """Delta learning: exactly one row for each prompt, no judge, chosen the stronger model's."""
    made = run(Ladder(engines=("a", "b")), Engines(), responses=POOL)["preferences"]
    assert [row["response_ids"] for row in made] == [["a-p1-0", "b-p1-0"], ["a-p2-0", "b-p2-0"]]
    row = made[0]
    assert (row["scores"], row["weight"], row["kind"], row["aspect"]) == ([2.0, 1.0], 1.0, "conditional", "overall")
    assert (row["annotation_ids"], row["prompt_id"], row["group_id"]) == ([], "p1", "p1")


def test_swapping_the_models_turns_every_pair_round() -> None:
    there, back = pairs(Ladder(engines=("a", "b")), POOL), pairs(Ladder(engines=("b", "a")), POOL)
    assert [pair[::-1] for pair in back] == there


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("ends", ["ac"]),
        ("adjacent", ["ab", "bc"]),
        ("all", ["ab", "ac", "bc"]),
        ("list", ["abc"]),
    ],
)
def test_who_is_paired_with_whom(which: str, expected: list[str]) -> None:
    made = pairs(Ladder(engines=("a", "b", "c"), which=which), POOL[:3])
    assert ["".join(name[0] for name in pair) for pair in made] == expected
    by_name = pairs(Ladder(models=("model-a", "model-b", "model-c"), which=which), POOL[:3])
    assert by_name == made


def test_equal_texts_are_dropped_with_a_reason() -> None:
    context = Engines()
    rows = [by("a", text="Same \n text."), by("b", text="Same text."), by("c", text="Other."), by("a", "p2")]
    assert pairs(Ladder(engines=("a", "b")), rows, context) == []
    assert context.said == ["no pair from: 1 missing, 1 same text"]
    assert pairs(Ladder(engines=("a", "b", "c"), which="list"), rows) == [("a-p1-0", "c-p1-0")]


def test_only_what_says_something_is_paired() -> None:
    failed = {"text": None, "finish_reason": "error"}
    rows = [by("a"), {**by("b"), **failed}, by("b", index=1), by("b", index=2)]
    assert pairs(Ladder(engines=("a", "b")), rows) == [("a-p1-0", "b-p1-1")]
    assert pairs(Ladder(engines=("a", "b"), draws="all"), rows) == [("a-p1-0", "b-p1-1"), ("a-p1-0", "b-p1-2")]


def test_an_anchor_is_never_rejected() -> None:
    rows = [by("t"), *(by("s", index=index) for index in range(4))]
    made = pairs(Ladder(engines=("t", "s"), draws="all"), rows)
    assert made == [("t-p1-0", f"s-p1-{index}") for index in range(4)]


def test_a_rung_may_be_a_model_with_parameters() -> None:
    hot = by("a", index=1, params=json.dumps({"identity": "http://a", "temperature": 1.1}))
    step = Ladder(models=({"model": "model-a", "temperature": 0}, {"model": "model-a", "temperature": 1.1}))
    assert pairs(step, [hot, by("a")]) == [("a-p1-0", "a-p1-1")]
    assert pairs(step, [by("a"), by("a", index=2, params="not JSON")]) == []


def test_a_rung_may_be_a_step() -> None:
    rows = [by("a", step="people@1"), by("a", index=1, step="sample@2"), by("a", index=2, step="other@3")]
    assert pairs(Ladder(steps=("people", "sample")), rows) == [("a-p1-0", "a-p1-1")]


def test_rewritten_responses_are_left_out_unless_they_are_named() -> None:
    rows = [by("a"), by("b"), by("b", index=1, parent_id="b-p1-0")]
    assert pairs(Ladder(engines=("a", "b"), draws="all"), rows) == [("a-p1-0", "b-p1-0")]
    step = Ladder.model_validate({"engines": ["a", "b"], "from": ["sample", "rewrite.refine"], "draws": "all"})
    assert len(pairs(step, rows)) == 2


texts = st.lists(st.sampled_from(["one", "two", " one\n", "three"]), min_size=3, max_size=3)
rules = st.sampled_from(["ends", "adjacent", "all", "list"])


@given(texts, rules, st.permutations("abc"))
@settings(deadline=None, max_examples=60)
def test_l2_l4_a_ladder_shares_a_prompt_and_pairs_no_equals(said: list[str], which: str, order: list[str]) -> None:
    rows = [by(name, prompt, text) for prompt in ("p1", "p2") for name, text in zip("abc", said, strict=True)]
    of = {row["response_id"]: row for row in rows}
    for row in run(Ladder(engines=tuple(order), which=which), Engines(), responses=rows)["preferences"]:
        members = [of[name] for name in row["response_ids"]]
        assert {one["prompt_id"] for one in members} == {row["prompt_id"]}
        assert len({" ".join(one["text"].split()) for one in members}) == len(members) >= 2
        assert row["scores"] == sorted(row["scores"], reverse=True) and len(set(row["scores"])) == len(members)
        places = [order.index(one["model"][-1]) for one in members]
        assert places == sorted(places)


@given(texts, st.permutations("abc"))
@settings(deadline=None, max_examples=40)
def test_l6_a_longer_rule_never_loses_a_pair(said: list[str], order: list[str]) -> None:
    rows = [by(name, "p1", text) for name, text in zip("abc", said, strict=True)]
    made = {which: set(pairs(Ladder(engines=tuple(order), which=which), rows)) for which in ("ends", "adjacent", "all")}
    assert made["ends"] | made["adjacent"] == made["all"]


def test_ids_are_those_of_one_row() -> None:
    for row in run(Ladder(engines=("a", "b", "c"), which="list"), Engines(), responses=POOL)["preferences"]:
        named = {name: row[name] for name in ("group_id", "prompt_id", "response_ids", "scores", "annotation_ids")}
        assert preference(**named, key="ladder")["preference_id"] == row["preference_id"]


def test_l1_the_order_of_rows_and_other_prompts_change_no_id() -> None:
    def made(rows: Sequence[Row]) -> set[str]:
        step = Ladder(engines=("a", "b", "c"), which="all")
        return {row["preference_id"] for row in run(step, Engines(), responses=rows)["preferences"]}

    assert made(POOL[::-1]) == made(POOL) > made(POOL[:3])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "the strongest first"),
        ({"engines": ["a", "b"], "models": ["a", "b"]}, "the strongest first"),
        ({"engines": ["a", "b"], "steps": ["a", "b"]}, "one of the three"),
        ({"models": ["a"]}, "at least two rungs"),
        ({"models": ["a", "a"]}, "one rung twice"),
        ({"models": ["a", {"temperature": 0}]}, "a rung is a model's name"),
        ({"models": ["a", "b"], "which": "list", "draws": "all"}, "draws: all needs pairs"),
        ({"models": ["a", "b"], "which": "best"}, "'ends', 'adjacent'"),
    ],
)
def test_mistakes(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Ladder.model_validate(fields)


# Versions


def version(name: str, parent: str | None = None, how: str = "refine", text: str | None = None, **columns: Any) -> Row:
    params = json.dumps({"rewrite": how} if parent else {})
    return response(name, text or f"text of {name}", columns.pop("prompt", "p1"), parent_id=parent, params=params)


CHAIN = [version("v0"), version("v1", "v0"), version("v2", "v1"), version("w1", "v0")]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("first_last", ["v2>v0", "w1>v0"]),
        ("adjacent", ["v1>v0", "v2>v1", "w1>v0"]),
        ("all", ["v1>v0", "v2>v0", "v2>v1", "w1>v0"]),
    ],
)
def test_later_versions_are_chosen(rule: str, expected: list[str]) -> None:
    assert sorted(">".join(pair) for pair in pairs(Refined(rule=rule), CHAIN)) == expected
    back = pairs(Refined(rule=rule, better="parent", kinds=("refine",)), CHAIN)
    assert sorted(">".join(pair[::-1]) for pair in back) == expected


def test_what_was_made_worse_is_rejected() -> None:
    rows = [
        version("v0"),
        version("c", "v0", "corrupt"),
        version("t", "v0", "truncate"),
        version("r", "v0", "rephrase"),
    ]
    assert sorted(pairs(Refined(better="parent"), rows)) == [("v0", "c"), ("v0", "t")]
    assert pairs(Refined(), rows) == [], "nothing that was made worse is ever chosen by mistake"
    assert pairs(Refined(kinds=("rephrase",)), rows) == [("r", "v0")]


def test_versions_that_are_not_there_or_say_the_same_give_no_pair() -> None:
    context = FakeContext()
    rows = [
        version("v0"),
        version("v1", "v0", text="text  of v0"),
        version("x1", "x0"),
        version("q", "v0", prompt="p2"),
    ]
    assert pairs(Refined(), rows, context) == []
    assert context.said == ["no pair from: 1 missing parent, 1 other prompt, 1 same text"]


def test_a_circle_of_an_import_ends() -> None:
    circle = [version("a", "b"), version("b", "a")]
    assert pairs(Refined(), circle) == [] and len(pairs(Refined(rule="all"), circle)) == 2


@given(st.lists(st.integers(0, 5), max_size=6), st.sampled_from(["first_last", "adjacent", "all"]), st.booleans())
@settings(deadline=None, max_examples=80)
def test_l2_l4_versions(parents: list[int], rule: str, child: bool) -> None:
    """Any forest: every pair is of one chain, no response is paired with itself, and no pair comes twice."""
    rows = [version("n0")]
    for number, parent in enumerate(parents, start=1):
        rows.append(version(f"n{number}", f"n{min(parent, number - 1)}", text=f"t{number % 3}"))
    parent_of = {row["response_id"]: row["parent_id"] for row in rows}
    of = {row["response_id"]: row for row in rows}
    step = Refined(rule=rule, better="child" if child else "parent", kinds=("refine",))
    made = pairs(step, rows)
    assert len(made) == len(set(made))
    for pair in made:
        new, old = pair if child else pair[::-1]
        before = list(itertools.takewhile(lambda one: one is not None, _chain(new, parent_of)))
        assert old in before and of[new]["text"] != of[old]["text"]


def _chain(name: str, parent_of: dict[str, str | None]) -> Any:
    found: str | None = name
    while found is not None:
        found = parent_of[found]
        yield found
