"""Duplicates and conflicts: clusters by text and by vector, what counts as a text, ids that name what was read."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

import pytest
from annotators_measured import Measured
from column_tables import Listener, asked, judged, labels, measures, said
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefdata.annotators import Conflicts, Duplicates, Vectors
from prefdata.engines.base import Reply, Request
from prefdata.errors import DataError
from prefdata.operators.vectors import packed, read_vectors
from prefdata.pipeline.step import Group
from prefdata.schema import Row, annotation, check_annotations, preference

LONG = "tell me what the cat did on the mat today"
NEAR = "tell me what the cat did on the mat yesterday"


def test_near_prompts_share_a_label() -> None:
    listener = Listener()
    rows = judged(Duplicates(), listener, prompts=[asked("c", LONG), asked("a", NEAR), asked("b", "something else")])
    assert labels(rows) == {"a": "a", "c": "a", "b": "b"}
    assert measures(rows, "duplicates_similarity") == {"a": pytest.approx(7 / 9), "c": pytest.approx(7 / 9)}
    assert {row["annotator"] for row in rows} == {"rule:duplicates/near"} and {r["source"] for r in rows} == {"rule"}
    assert {(row["target"], row["prompt_id"]) for row in rows} == {("prompt", name) for name in "abc"}
    assert listener.said == ["1 of 3 prompts repeat another one, in 1 clusters, of which the largest holds 2"]
    assert labels(judged(Duplicates(threshold=0.8), prompts=[asked("c", LONG), asked("a", NEAR)])) == {
        "a": "a",
        "c": "c",
    }


def test_exact_is_equality_of_words_or_of_texts() -> None:
    prompts = [asked("a", "What is it?"), asked("b", "what  is it"), asked("c", "What is it, then?"), asked("d", "?!")]
    assert labels(judged(Duplicates(method="exact"), prompts=prompts)) == {"a": "a", "b": "a", "c": "c", "d": "d"}
    raw = labels(judged(Duplicates(method="exact", normalise="raw"), prompts=prompts))
    assert raw == {name: name for name in "abcd"}


def test_only_root_prompts_count_and_turns_are_a_choice() -> None:
    derived = {**asked("x", LONG), "group_id": "a", "parent_id": "a"}
    one, more = asked("a", LONG), asked("b", LONG, "It sat.", "And then what did it do after it had sat down?")
    assert set(labels(judged(Duplicates(), prompts=[one, more, derived]))) == {"a", "b"}
    assert labels(judged(Duplicates(), prompts=[one, more])) == {"a": "a", "b": "b"}
    assert labels(judged(Duplicates(turns="first"), prompts=[one, more])) == {"a": "a", "b": "a"}
    assert labels(judged(Duplicates(turns="last"), prompts=[one, more])) == {"a": "a", "b": "b"}


def test_pictures_are_part_of_a_text() -> None:
    def picture(name: str) -> dict[str, Any]:
        return {"media": [{"uri": name, "sha256": name, "kind": "image", "turn": 0}]}

    same = [asked("a", LONG, **picture("x")), asked("b", LONG, **picture("x"))]
    other = [asked("c", LONG, **picture("y")), asked("d", LONG)]
    for method in ("near", "exact"):
        assert labels(judged(Duplicates(method=method), prompts=same + other)) == {
            "a": "a",
            "b": "a",
            "c": "c",
            "d": "d",
        }


def test_responses_are_compared_within_their_prompt() -> None:
    sorry = "I am sorry, but I cannot help you with that."
    responses = [said("a", sorry), said("b", sorry), said("c", sorry, "p2"), said("d", ""), said("e", None)]
    for method in ("near", "exact"):
        rows = judged(Duplicates(of="responses", method=method), responses=responses)
        assert labels(rows) == {"a": "a", "b": "a", "c": "c", "d": None, "e": None}
        assert {row["status"] for row in rows if row["target_ids"] == ["d"]} == {"abstain"}
        every = judged(Duplicates(of="responses", method=method, within="dataset"), responses=responses)
        assert labels(every) == {"a": "a", "b": "a", "c": "a", "d": None, "e": None}


def pair(name: str, better: str, worse: str, prompt_id: str = "p1", **columns: Any) -> Row:
    scores = columns.pop("scores", [1.0, 0.0])
    row = preference(group_id=prompt_id, prompt_id=prompt_id, response_ids=[better, worse], scores=scores, **columns)
    return {**row, "preference_id": name}


RESPONSES = [
    said("r1", "A fine answer to it."),
    said("r2", "A poor answer to it."),
    said("s1", "a fine answer to it", "p2"),
    said("s2", "A poor answer to it!", "p2"),
]
PROMPTS = [asked("p1", LONG), asked("p2", LONG.upper())]


def test_a_preference_the_other_way_round_is_no_duplicate() -> None:
    preferences = [pair("a", "r1", "r2"), pair("b", "s1", "s2", "p2"), pair("c", "s2", "s1", "p2")]
    tables = {"prompts": PROMPTS, "responses": RESPONSES, "preferences": preferences}
    for method in ("near", "exact"):
        rows = judged(Duplicates(of="preferences", method=method), **tables)
        assert labels(rows) == {"a": "a", "b": "a", "c": "c"}


def test_conflicts_by_hand() -> None:
    preferences = [
        pair("a", "r1", "r2"),
        pair("b", "s1", "s2", "p2"),
        pair("c", "s2", "s1", "p2"),
        pair("d", "s2", "s1", "p2", aspect="style"),
        pair("e", "r1", "r2", scores=[0.5, 0.5]),
    ]
    tables = {"prompts": PROMPTS, "responses": RESPONSES}
    rows = judged(Conflicts(), preferences=preferences, **tables)
    assert measures(rows, "same_order") == {
        "a": pytest.approx(2 / 3),
        "b": pytest.approx(2 / 3),
        "c": pytest.approx(1 / 3),
        "d": 1,
        "e": None,
    }
    assert labels(rows, "conflicts") == {"a": "a", "b": "a", "c": "a"}
    heavy = [preferences[0], pair("c", "s2", "s1", "p2", weight=3.0)]
    assert measures(judged(Conflicts(), preferences=heavy, **tables), "same_order") == {"a": 0.25, "c": 0.75}
    assert judged(Conflicts(), preferences=[], **tables) == []


words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6).map(" ".join)


@given(st.lists(words, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_moves_nothing(texts: list[str], draw: random.Random) -> None:
    prompts = [asked(f"p{place}", text) for place, text in enumerate(texts)]
    shuffled = prompts[:]
    draw.shuffle(shuffled)

    def content(rows: list[Row]) -> list[Any]:
        return [(row["annotation_id"], row["labels"], row["scores"], row["status"]) for row in rows]

    for step in (Duplicates(n=2, threshold=0.4), Duplicates(method="exact"), Duplicates(join="minhash", threshold=0.4)):
        assert content(judged(step, prompts=prompts)) == content(judged(step, prompts=shuffled))


def test_an_id_names_the_whole_cluster() -> None:
    few = judged(Duplicates(), prompts=[asked("b", LONG), asked("c", "quite another thing")])
    more = judged(Duplicates(), prompts=[asked("a", NEAR), asked("b", LONG), asked("c", "quite another thing")])
    ids = [
        {row["target_ids"][0]: row["annotation_id"] for row in rows if row["protocol"] == "label"}
        for rows in (few, more)
    ]
    assert ids[0]["c"] == ids[1]["c"] and ids[0]["b"] != ids[1]["b"]


def test_a_large_cluster_is_told() -> None:
    listener = Listener()
    prompts = [asked(f"p{n:03}", LONG) for n in range(30)]
    judged(Duplicates(), listener, prompts=prompts)
    assert "one cluster holds 30 of 30 prompts (p000 is one): look at it" in listener.said[-1]


def test_fields_that_make_no_sense() -> None:
    with pytest.raises(ValidationError, match="exact compares for equality"):
        Duplicates(method="exact", threshold=0.5)
    with pytest.raises(ValidationError, match="preferences have no vectors"):
        Duplicates(method="embedding", of="preferences")
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Duplicates(threshold=1.5)


def turned(**angles: float) -> Measured:
    def answer(request: Request) -> Reply:
        angle = math.radians(angles[request.texts[0].split()[0]])
        return Reply(values=(3 * math.cos(angle), 3 * math.sin(angle)))

    return Measured({"embedder": ("minilm", answer)})


def vectors(of: str, group: Group, context: Measured) -> list[Row]:
    made = asyncio.run(Vectors(engine="embedder", of=of).run(group, context))  # type: ignore[arg-type]
    check_annotations(made["annotations"], "vectors")
    return made["annotations"]


def test_vectors_are_kept_and_compared() -> None:
    group = Group(
        "p1", prompts=[asked("p1", "zero")], responses=[said("a", "zero"), said("b", "ten"), said("c", "far")]
    )
    context = turned(zero=0, ten=10, far=80)
    kept = vectors("responses", group, context)
    assert {row["aspect"] for row in kept} == {"vector"} and len(context.asked) == 3
    assert vectors("responses", group, context) == kept and len(context.asked) == 3
    ids, found = read_vectors(_frame(kept), "here")
    assert ids == ["a", "b", "c"] and found[1] == pytest.approx(
        [math.cos(math.radians(10)), math.sin(math.radians(10))], abs=1e-3
    )
    rows = judged(Duplicates(of="responses", method="embedding"), responses=group.responses, annotations=kept)
    assert labels(rows) == {"a": "a", "b": "a", "c": "c"}
    assert measures(rows, "duplicates_similarity")["a"] == pytest.approx(math.cos(math.radians(10)), abs=1e-3)
    # Of prompts the other targets' vectors do not count; without any it says what to do.
    with pytest.raises(
        DataError, match=r"no prompt has a vector by '\*'; put judge.vectors with of: prompts before it"
    ):
        judged(Duplicates(method="embedding"), prompts=group.prompts, annotations=kept)
    by_prompt = vectors("prompts", group, context)
    assert labels(judged(Duplicates(method="embedding"), prompts=group.prompts, annotations=by_prompt)) == {"p1": "p1"}


def _frame(rows: list[Row]) -> Any:
    from column_tables import frame

    return frame("annotations", rows)


def test_vectors_that_cannot_be_read() -> None:
    def row(text: str | None, annotator: str = "embedding:m") -> Row:
        return annotation(
            group_id="p1", prompt_id="p1", target_ids=[f"r{text}"[:20]], protocol="label", annotator=annotator,
            source="embedding", aspect="vector", text=text,
        )  # fmt: skip

    good = packed([1.0, 0.0])
    assert packed([0.0]) is None and packed([math.inf]) is None
    for rows, problem in (
        ([row("hello")], "cannot be read"),
        ([row("float16:!!!")], "cannot be read"),
        ([row(good), row(packed([1.0]))], "different lengths"),
        ([row(good), row(packed([0.0, 1.0]), "embedding:other")], "name one of them"),
        ([row("float16:AAAAAA==")], "no length"),
    ):
        with pytest.raises(DataError, match=problem):
            read_vectors(_frame(rows), "here")
    assert read_vectors(_frame([row(None)]), "here")[0] == []
