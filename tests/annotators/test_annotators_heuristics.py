"""Heuristics, consistency of views, spread of ratings: by hand, and their laws."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from column_tables import Listener, judged, labels, measures, said
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefdata.annotators import Consistency, Heuristics, Spread
from prefdata.annotators.heuristics import repeated_share, role_tags
from prefdata.annotators.spread import spread
from prefdata.errors import DataError
from prefdata.schema import Row, annotation, preference


def facts(text: str | None, *names: str, **columns: Any) -> dict[str, float | str | None]:
    rows = judged(Heuristics(of=names), responses=[said("r", text, **columns)])
    found: dict[str, float | str | None] = {}
    for name in names:
        found[name] = (labels(rows, name) if name == "language" else measures(rows, name))["r"]
    return found


def test_facts_by_hand() -> None:
    text = "# Plan\n\n- one\n- two\n\n1. first\n\nReady? Yes.\n\n```python\nx = 1\n```\n"
    assert facts(text, "headings", "bullets", "numbered", "questions", "code_blocks", "open_fence") == {
        "headings": 1, "bullets": 2, "numbered": 1, "questions": 1, "code_blocks": 1, "open_fence": 0,
    }  # fmt: skip
    assert facts("Look:\n```\nx", "open_fence", "code_blocks") == {"open_fence": 1, "code_blocks": 0}
    assert facts("One two. Three!", "words", "characters", "sentences") == {
        "words": 3,
        "characters": 15,
        "sentences": 2,
    }
    assert facts("I'm sorry, I can't help with that.", "refusal") == {"refusal": 1}
    assert facts("and so it goes [truncated]", "cut_off") == {"cut_off": 1}
    assert facts("and so it goes", "cut_off", finish_reason="length") == {"cut_off": 1}
    assert facts("and so it goes", "cut_off", finish_reason="stop") == {"cut_off": 0}
    assert facts(None, "words", "language") == {"words": None, "language": None}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The sky is blue because of the way in which the air scatters it.", "english"),
        ("Der Himmel ist blau, weil die Luft das Licht der Sonne streut und nicht schluckt.", "german"),
        ("Небо голубое, потому что воздух рассеивает свет.", "cyrillic"),
        ("空は青い。空気が光を散らすからです。", "kana"),
        ("OK", None),
    ],
)
def test_language(text: str, language: str | None) -> None:
    assert facts(text, "language") == {"language": language}


def test_role_tags_and_repetition() -> None:
    assert role_tags("Fine.\n\n Human: and then?\n### Assistant: well") == 2
    assert role_tags("<|im_start|>user\n[INST] x [/INST]") == 3
    assert role_tags("The human: a history. User-friendly. My assistant is here.") == 0
    block = "one two three four five six seven eight nine ten "
    assert repeated_share(block) == 0 and repeated_share("short") == 0
    assert repeated_share(block * 2) == pytest.approx(1 / 11)
    assert repeated_share(block * 20) > 0.9
    # A hostile text takes no longer than its length says.
    assert role_tags(" " * 200_000 + "#" * 200_000) == 0


def pair(name: str, better: str, worse: str) -> Row:
    made = preference(group_id="p1", prompt_id="p1", response_ids=[better, worse], scores=[1.0, 0.0])
    return {**made, "preference_id": name}


def test_facts_about_pairs() -> None:
    responses = [said("a", "the cat sat"), said("b", "a cat sat down"), said("c", ""), said("d", None)]
    preferences = [pair("x", "a", "b"), pair("y", "a", "c"), pair("z", "a", "d"), pair("w", "c", "c")]
    preferences[3]["response_ids"] = ["c", "e"]
    listener = Listener()
    step = Heuristics(of=(), pairs=("length_ratio", "edit_distance", "edit_share"))
    rows = judged(step, listener, responses=responses, preferences=preferences)
    assert measures(rows, "edit_distance") == {"x": 2, "y": 3, "z": None, "w": None}
    assert measures(rows, "edit_share") == {"x": 0.5, "y": 1.0, "z": None, "w": None}
    assert measures(rows, "length_ratio") == {"x": 0.75, "y": 3.0, "z": None, "w": None}
    assert {row["target"] for row in rows} == {"preference"} and listener.said == []
    with pytest.raises(ValidationError, match="both empty"):
        Heuristics(of=())


def views(**given_: tuple[float, ...]) -> list[Row]:
    """Comparisons of a and b: P(a is better) by each view; a second number is that of the other order."""
    rows = []
    for name, shown in given_.items():
        for place, p in enumerate(shown):
            ids, scores = (["a", "b"], [p, 1 - p]) if place == 0 else (["b", "a"], [1 - p, p])
            rows.append(
                annotation(
                    group_id="p1",
                    prompt_id="p1",
                    target_ids=ids,
                    protocol="compare",
                    annotator=f"judge:{name}",
                    source="judge",
                    scores=scores,
                )
            )
    return rows


def agreed(rows: list[Row], *chosen: str, **fields: Any) -> tuple[float | None, float | None]:
    preferences = [pair("x", *(chosen or ("a", "b")))]
    made = judged(Consistency(**fields), annotations=rows, preferences=preferences)
    return measures(made, "consistency")["x"], measures(made, "consistency_p")["x"]


def test_consistency_by_hand() -> None:
    assert agreed(views(x=(0.7,), y=(0.6,), z=(0.9,))) == (1.0, pytest.approx(2.2 / 3))
    assert agreed(views(x=(0.7,), y=(0.4,), z=(0.9,))) == (pytest.approx(2 / 3), pytest.approx(2.0 / 3))
    assert agreed(views(x=(0.9, 0.3), y=(0.6,))) == (1.0, pytest.approx(0.6))  # the mean of both orders
    assert agreed(views(x=(0.9, 0.1), y=(0.6,)))[0] == 0.5  # a tie stands on neither side
    assert agreed(views(x=(0.9,))) == (None, None)
    assert agreed([]) == (None, None)
    weighted = {"views": {"judge:x": 3, "judge:*": 1}}
    assert agreed(views(x=(0.2,), y=(0.8,)), **weighted) == (0.75, pytest.approx(0.35))
    assert agreed(views(x=(0.2,), y=(0.8,), z=(0.9,)), views=["judge:y", "judge:z"])[0] == 1.0


@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), min_size=2, max_size=4))
@settings(max_examples=30, deadline=None)
def test_swapping_a_pair_leaves_the_decision(numbers: list[float]) -> None:
    rows = views(**{f"v{place}": (p,) for place, p in enumerate(numbers)})
    (share, p), (other, q) = agreed(rows), agreed(rows, "b", "a")
    assert share == other and p == pytest.approx(1 - (q or 0))


def test_who_disagrees_is_told() -> None:
    listener = Listener()
    judged(Consistency(), listener, annotations=views(x=(0.7,), y=(0.4,)), preferences=[pair("x", "a", "b")])
    assert listener.said == ["judge:x and judge:y disagree on 1 of 1 pairs"]


def test_a_fact_is_no_view() -> None:
    longer = [
        annotation(
            group_id="p1",
            prompt_id="p1",
            target_ids=[name],
            protocol="measure",
            annotator="rule:words",
            source="rule",
            aspect="words",
            scores=[value],
        )
        for name, value in (("a", 9.0), ("b", 3.0))
    ]
    assert agreed([*views(x=(0.7,)), *longer]) == (None, None)
    told = agreed([*views(x=(0.7,)), *longer], aspects=["overall", "words"], direction={"words": -1})
    assert told == (0.5, pytest.approx(0.35))
    with pytest.raises(ValidationError, match="weights above 0"):
        Consistency(views={})
    with pytest.raises(ValidationError, match="a direction is 1"):
        Consistency(direction={"words": 2})


def rating(name: str, value: float, person: str) -> Row:
    return annotation(
        group_id="p1", prompt_id="p1", target_ids=[name], protocol="score", annotator=f"human:{person}", source="human",
        aspect="helpfulness", scores=[value],
    )  # fmt: skip


def test_spread_of_ratings() -> None:
    assert spread([0, 3, 4, 4, 3]) == 4
    assert spread([0, 3, 4, 4, 3], 3) == 1
    assert spread([2, 2, 2], 3) == 0 and spread([0, 4], 3) == 4
    rows = [rating("a", value, f"p{place}") for place, value in enumerate([0, 3, 4, 4, 3])] + [rating("b", 2, "p1")]
    assert measures(judged(Spread(), annotations=rows), "helpfulness_spread") == {"a": 4, "b": None}
    assert measures(judged(Spread(agreeing=3), annotations=rows), "helpfulness_spread") == {"a": 1, "b": None}


@given(st.lists(st.integers(0, 4), min_size=3, max_size=6))
def test_those_that_agree_most_are_found(ratings: list[int]) -> None:
    def apart(chosen: tuple[int, ...]) -> int:
        return sum(abs(a - b) for a, b in itertools.combinations(chosen, 2))

    best = min(apart(chosen) for chosen in itertools.combinations(ratings, 3))
    allowed = {max(c) - min(c) for c in itertools.combinations(ratings, 3) if apart(c) == best}
    assert spread(ratings, 3) in allowed


def test_lists_of_three_are_abstained_from() -> None:
    three = preference(group_id="p1", prompt_id="p1", response_ids=["a", "b", "c"], scores=[2.0, 1.0, 0.0])
    rows = judged(Consistency(), annotations=views(x=(0.7,), y=(0.6,)), preferences=[three, pair("x", "a", "b")])
    found = measures(rows, "consistency")
    assert found == {three["preference_id"]: None, "x": 1.0}


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_number_that_is_none_is_refused(value: float) -> None:
    rows = [rating("a", value, "x"), rating("a", 1.0, "y"), rating("b", value, "x")]
    with pytest.raises(DataError, match="finite"):
        judged(Spread(), annotations=rows)
    with pytest.raises(DataError, match="finite"):
        judged(Consistency(), annotations=rows, preferences=[pair("x", "a", "b")])
