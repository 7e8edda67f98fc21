"""Filters that go by what was measured: duplicates, conflicts, consistency, budgets, chance. And their laws."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_shapes import FakeContext, response, run, said
from pydantic import ValidationError

from prefdata.errors import DataError
from prefdata.operators.select.budget import Budget
from prefdata.operators.select.conflicts import Conflicts
from prefdata.operators.select.consistent import Consistent
from prefdata.operators.select.duplicates import Duplicates
from prefdata.operators.select.sample import Sample
from prefdata.operators.select.threshold import Threshold
from prefdata.operators.vectors import packed
from prefdata.pipeline.step import TableStep
from prefdata.schema import Row, preference


def label(name: str, cluster: str | None, target: str = "response", **columns: Any) -> Row:
    columns = {"annotator": "rule:duplicates/near", "aspect": "duplicates", "group_id": "p1", **columns}
    status = {} if cluster is not None else {"status": "abstain"}
    return said(
        [name], None, target=target, protocol="label", source="rule", labels=[cluster] if cluster else None,
        **status, **columns,
    )  # fmt: skip


def measure(name: str, value: float, aspect: str, target: str = "preference", **columns: Any) -> Row:
    columns = {"annotator": f"rule:{aspect}", **columns}
    return said([name], [value], target=target, protocol="measure", source="rule", aspect=aspect, **columns)


def pair(name: str, *, scores: tuple[float, float] = (1.0, 0.0), prompt_id: str = "p1", **columns: Any) -> Row:
    ids = [f"{name}1", f"{name}2"]
    row = preference(group_id=prompt_id, prompt_id=prompt_id, response_ids=ids, scores=list(scores), **columns)
    return {**row, "preference_id": name}


def asked(name: str, **columns: Any) -> Row:
    return {"prompt_id": name, "group_id": name, "messages": [], **columns}


def dropped(step: TableStep, context: FakeContext | None = None, **tables: list[Row]) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in run(step, context, **tables).get("drops", [])}


# Duplicates


def test_one_of_each_cluster_stays_and_names_itself() -> None:
    labels = [label("b", "b"), label("c", "b"), label("d", "d"), label("e", None)]
    responses = [response(name) for name in "abcde"]
    context = FakeContext()
    step = Duplicates(table="responses")
    assert dropped(step, context, responses=responses, annotations=labels) == {"c": "duplicate of b"}
    assert context.said == ["1 of 5 responses dropped as duplicates"]
    # What people have judged goes before what comes first.
    judged = [*labels, said(["c"], [1.0], annotator="human:x", source="human")]
    assert dropped(step, responses=responses, annotations=judged) == {"b": "duplicate of c"}
    failed = [*labels, said(["c"], None, annotator="human:x", source="human", status="abstain")]
    assert dropped(step, responses=responses, annotations=failed) == {"c": "duplicate of b"}


def test_of_preferences_the_larger_margin_stays() -> None:
    preferences = [pair("a", scores=(1, 0)), pair("b", scores=(3, 0)), pair("c", scores=(2, 0))]
    labels = [label(name, "a", "preference") for name in "abc"]
    step = Duplicates(table="preferences")
    assert dropped(step, preferences=preferences, annotations=labels) == dict.fromkeys("ac", "duplicate of b")
    vote = said(["c1", "c2"], [1, 0], annotator="human:x", source="human")
    people = [preferences[0], preferences[1], pair("c", annotation_ids=[vote["annotation_id"]])]
    assert dropped(step, preferences=people, annotations=[*labels, vote]) == dict.fromkeys("ab", "duplicate of c")
    nobody = [pair("a", scores=(float("nan"), 0.0)), pair("b")]
    assert dropped(step, preferences=nobody, annotations=labels[:2]) == {"a": "duplicate of b"}


def test_no_annotators_rows_are_lost_with_a_prompt() -> None:
    """Three prompts of one text, for three users: those that other people judged are data, not duplicates."""
    prompts = [asked(name) for name in "abc"]
    labels = [label(name, "a", "prompt", group_id=name, prompt_id=name) for name in "abc"]

    def votes(**people: str) -> list[Row]:
        return [
            said([f"{name}1"], [1.0], annotator=f"human:{person}", source="human", prompt_id=name)
            for name, listed in people.items()
            for person in listed
        ]

    step, context = Duplicates(), FakeContext()
    assert dropped(step, prompts=prompts, annotations=labels) == dict.fromkeys("bc", "duplicate of a")
    assert dropped(step, prompts=prompts, annotations=labels + votes(b="x")) == dict.fromkeys("ac", "duplicate of b")
    mixed = labels + votes(a="xy", b="y", c="z")
    assert dropped(step, context, prompts=prompts, annotations=mixed) == {"b": "duplicate of a"}
    assert "1 are kept because people judged under them" in context.said[0]


def test_labels_that_are_missing_or_of_several() -> None:
    responses = [response("a"), response("b")]
    with pytest.raises(DataError, match=r"no response has a label under the aspect 'duplicates'; put judge\.dup"):
        dropped(Duplicates(table="responses"), responses=responses)
    two = [label("a", "a"), label("b", "a"), label("b", "b", annotator="rule:duplicates/exact")]
    with pytest.raises(DataError, match="name one of them"):
        dropped(Duplicates(table="responses"), responses=responses, annotations=two)
    named = Duplicates(table="responses", annotator="*/near")
    assert dropped(named, responses=responses, annotations=two) == {"b": "duplicate of a"}
    # Labels of prompts say nothing of responses.
    with pytest.raises(DataError, match="no response"):
        dropped(Duplicates(table="responses"), responses=responses, annotations=[label("a", "a", "prompt")])


clusters = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("xyz"), min_size=1)


@given(clusters, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_l10_duplicates_once_is_duplicates_twice(given_: dict[str, str], draw: random.Random) -> None:
    responses = [response(name) for name in given_]
    labels = [label(name, cluster) for name, cluster in given_.items()]
    step = Duplicates(table="responses")
    gone = dropped(step, responses=responses, annotations=labels)
    assert len(given_) - len(gone) == len(set(given_.values())), "kept and dropped are all there was"
    draw.shuffle(labels)
    assert dropped(step, responses=responses[::-1], annotations=labels) == gone
    left = [row for row in responses if row["response_id"] not in gone]
    still = [row for row in labels if row["target_ids"][0] not in gone]
    assert dropped(step, responses=left, annotations=still) == {}


# Conflicts and consistency


def test_conflicts_are_resolved_by_majority_or_not_at_all() -> None:
    shares = {"a": 2 / 3, "b": 2 / 3, "c": 1 / 3, "d": 0.5, "e": 0.5, "f": 1.0}
    rows = [measure(name, value, "same_order", annotator="rule:conflicts") for name, value in shares.items()]
    tables = {"preferences": [pair(name) for name in "abcdefg"], "annotations": rows}
    assert dropped(Conflicts(), **tables) == {
        "c": "in conflict: 33 % say the same",
        **dict.fromkeys("de", "in conflict: 50 % say the same"),
    }
    assert set(dropped(Conflicts(resolve="both"), **tables)) == set("abcde")
    context = FakeContext()
    assert dropped(Conflicts(resolve="report"), context, **tables) == {}
    assert context.said == ["5 of 7 preferences are in conflict, 0 dropped"]
    with pytest.raises(DataError, match="no preference has a score or measure under the aspect 'same_order'"):
        dropped(Conflicts(), preferences=[pair("a")])
    assert dropped(Conflicts()) == {}


def test_consistent_views() -> None:
    said_ = {"a": (1.0, 0.73), "b": (2 / 3, 0.67), "c": (2 / 3, 0.55), "d": (1.0, 0.2), "e": (0.5, 0.5)}
    rows = [
        measure(name, value, aspect, annotator="rule:consistency")
        for name, values in said_.items()
        for aspect, value in zip(("consistency", "consistency_p"), values, strict=True)
    ]
    tables = {"preferences": [pair(name) for name in "abcdef"], "annotations": rows}
    assert dropped(Consistent(), **tables) == dict.fromkeys("bce", "the views disagree")
    assert dropped(Consistent(mode="majority"), **tables) == dict.fromkeys("ce", "the views disagree")
    assert set(dropped(Consistent(mode="majority", margin=0.2), **tables)) == set("bce")
    assert dropped(Consistent(with_label=True), **tables)["d"] == "the views contradict the label"
    assert dropped(Consistent(unscored="drop"), **tables)["f"] == "fewer than two views"


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 100), min_size=1), st.integers(0, 49))
@settings(max_examples=40, deadline=None)
def test_l6_a_wider_margin_adds_no_pair(means: dict[str, int], margin: int) -> None:
    rows = [
        measure(name, value / 100, aspect, annotator="rule:consistency")
        for name, value in means.items()
        for aspect in ("consistency", "consistency_p")
    ]
    tables = {"preferences": [pair(name) for name in means], "annotations": rows}
    small, wide = (Consistent(mode="majority", margin=each / 100) for each in (margin, margin + 1))
    assert set(dropped(small, **tables)) <= set(dropped(wide, **tables))


# Budgets


def values(given_: dict[str, float], target: str = "preference") -> list[Row]:
    return [measure(name, value, "gain", target) for name, value in given_.items()]


def test_the_budget_goes_to_the_top() -> None:
    tables = {
        "preferences": [pair(name) for name in "abcd"],
        "annotations": values({"a": 0.3, "b": 0.9, "c": 0.9}),
    }
    reason = "beyond the budget: top n 1 by gain"
    unscored = {"d": "gain by *: no score"}
    assert dropped(Budget(aspect="gain", n=1), **tables) == {"a": reason, "c": reason, **unscored}
    assert set(dropped(Budget(aspect="gain", n=1, unscored="keep"), **tables)) == {"a", "c"}
    assert set(dropped(Budget(aspect="gain", n=1, keep="bottom"), **tables)) == {"b", "c", "d"}
    assert set(dropped(Budget(aspect="gain", share=0.66), **tables)) == {"a", "d"}
    assert set(dropped(Budget(aspect="gain", n=0), **tables)) == set("abcd")
    assert dropped(Budget(aspect="gain", n=9), **tables) == unscored
    made = run(Budget(aspect="gain", n=1, view="people"), **tables)["drops"]
    assert {row["view"] for row in made} == {"people"}


def test_a_budget_for_each_prompt() -> None:
    preferences = [pair(name, prompt_id=place) for name, place in zip("abcd", ["p1", "p1", "p2", "p2"], strict=True)]
    tables = {"preferences": preferences, "annotations": values({"a": 1, "b": 2, "c": 9, "d": 8})}
    assert set(dropped(Budget(aspect="gain", n=1, per="prompt"), **tables)) == {"a", "d"}


def test_a_budget_over_clusters() -> None:
    responses = [response(name) for name in "abcde"]
    rows = values({"a": 9, "b": 8, "c": 7, "d": 2, "e": 1}, "response")
    labels = [label(name, cluster) for name, cluster in {"a": "a", "b": "a", "c": "a", "d": "d"}.items()]
    step = Budget(table="responses", aspect="gain", n=3, clusters="duplicates")
    assert set(dropped(step, responses=responses, annotations=rows + labels)) == {"b", "c"}
    four = step.model_copy(update={"n": 4})
    assert set(dropped(four, responses=responses, annotations=rows + labels)) == {"c"}


def test_a_budget_for_what_is_unlike() -> None:
    """The numbers of maximal marginal relevance: after the first, -0.075 and 0.200."""
    responses = [response(name) for name in "abc"]
    y = -0.095 / (1 - 0.95**2) ** 0.5
    spread = {"a": [1, 0, 0], "b": [0.95, (1 - 0.95**2) ** 0.5, 0], "c": [0.1, y, (0.99 - y * y) ** 0.5]}
    vectors = [
        said([name], None, protocol="label", aspect="vector", annotator="embedding:m", text=packed(vector))
        for name, vector in spread.items()
    ]
    rows = values({"a": 0.9, "b": 0.8, "c": 0.5}, "response")
    step = Budget(table="responses", aspect="gain", n=2, balance=0.5)
    assert set(dropped(step, responses=responses, annotations=rows + vectors)) == {"b"}
    alone = step.model_copy(update={"balance": 1.0})
    assert set(dropped(alone, responses=responses, annotations=rows + vectors)) == {"c"}
    with pytest.raises(DataError, match="1 responses have no vector by '\\*', for example c"):
        dropped(step, responses=responses, annotations=rows + vectors[:2])


def test_budgets_that_make_no_sense() -> None:
    for fields, problem in (
        ({}, "give n or share"),
        ({"n": 1, "share": 0.5}, "give n or share"),
        ({"n": 1, "table": "prompts", "per": "prompt"}, "there is but one"),
        ({"n": 1, "balance": 0.5}, "preferences have not"),
        ({"n": 1, "table": "responses", "balance": 0.5, "clusters": "x"}, "give one of them"),
    ):
        with pytest.raises(ValidationError, match=problem):
            Budget(aspect="gain", **fields)
    preferences = [pair("a")]
    twice = [*values({"a": 1}), measure("a", 2, "gain", replicate=1)]
    with pytest.raises(DataError, match="gave a several numbers under 'gain'; aggregate them first"):
        dropped(Budget(aspect="gain", n=1), preferences=preferences, annotations=twice)
    two = [*values({"a": 1}), measure("a", 2, "gain", annotator="judge:x")]
    with pytest.raises(DataError, match="judge:x, rule:gain scored under 'gain'; name one"):
        dropped(Budget(aspect="gain", n=1), preferences=preferences, annotations=two)
    bad = values({"a": 1})
    bad[0]["scores"] = [float("nan")]
    with pytest.raises(DataError, match="not finite"):
        dropped(Budget(aspect="gain", n=1), preferences=preferences, annotations=bad)


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 3), min_size=1), st.integers(0, 8))
@settings(max_examples=40, deadline=None)
def test_l6_l10_budgets(given_: dict[str, int], n: int) -> None:
    tables = {"preferences": [pair(name) for name in given_], "annotations": values(dict(given_))}
    step = Budget(aspect="gain", n=n)
    gone = set(dropped(step, **tables))
    assert len(given_) - len(gone) == min(n, len(given_))
    assert set(dropped(step.model_copy(update={"n": n + 1}), **tables)) <= gone
    left = [row for row in tables["preferences"] if row["preference_id"] not in gone]
    still = [row for row in tables["annotations"] if row["target_ids"][0] not in gone]
    assert dropped(step, preferences=left, annotations=still) == {}


# Chance


def test_a_sample_is_exact_and_steady() -> None:
    prompts = [asked(f"p{n:03}", source="a" if n % 2 else "b") for n in range(100)]
    kept = {share: 100 - len(dropped(Sample(share=share), prompts=prompts)) for share in (0.0, 0.29, 0.3, 1.0)}
    assert kept == {0.0: 0, 0.29: 29, 0.3: 30, 1.0: 100}
    small, wide = dropped(Sample(n=20), prompts=prompts), dropped(Sample(n=40), prompts=prompts)
    assert wide.keys() < small.keys() and len(wide) == 60
    assert set(small.values()) == {"not drawn: n 20, seed 0"}
    assert dropped(Sample(n=20, seed=1), prompts=prompts).keys() != small.keys()
    one_more = dropped(Sample(n=20), prompts=[*prompts, asked("q")])
    assert len(small.keys() - one_more.keys()) == 0 and len(one_more.keys() - small.keys()) == 1
    of_a = dropped(Sample(share=0.5, where="source = 'a'"), prompts=prompts)
    assert len(of_a) == 25 and all(int(name[1:]) % 2 for name in of_a)
    responses = [response(f"{place}{n}", prompt_id=place) for place in ("p1", "p2") for n in range(3)]
    rest = dropped(Sample(table="responses", n=1, per="prompt"), responses=responses)
    assert sorted(name[:2] for name in rest) == ["p1", "p1", "p2", "p2"]


def test_samples_that_make_no_sense() -> None:
    with pytest.raises(ValidationError, match="give n or share"):
        Sample()
    with pytest.raises(ValidationError, match="there is but one"):
        Sample(n=1, per="prompt")
    with pytest.raises(ValidationError, match="cannot query other tables"):
        Sample(n=1, where="source in (select 1)")


def test_threshold_of_prompts() -> None:
    prompts = [asked("a"), asked("b"), asked("c")]
    rows = [measure("a", 0.9, "contamination", "prompt"), measure("b", 0.1, "contamination", "prompt")]
    step = Threshold(table="prompts", aspect="contamination", annotator="rule:contamination", max=0.49)
    assert dropped(step, prompts=prompts, annotations=rows) == {"a": "contamination by rule:contamination > 0.49"}
    with pytest.raises(ValidationError, match="prompts have no consensus: name the annotator"):
        Threshold(table="prompts", aspect="contamination", max=0.49)


def test_what_was_abstained_from_is_kept() -> None:
    """All ties, lists of three: there is a verdict on none of them, and nothing is dropped or refused."""
    preferences = [pair("a", scores=(1, 1)), {**pair("b"), "response_ids": ["x", "y", "z"]}]
    for step, aspects in ((Conflicts(), ["same_order"]), (Consistent(), ["consistency", "consistency_p"])):
        rows = [
            {**measure(name, 0, aspect, annotator=step.annotator), "scores": None, "status": "abstain"}
            for name in "ab"
            for aspect in aspects
        ]
        assert dropped(step, preferences=preferences, annotations=rows) == {}


def test_where_nothing_repeats_nobody_has_a_similarity_and_that_is_no_mistake() -> None:
    prompts, labels = [asked("a"), asked("b")], [label(name, name, "prompt", aspect="topic") for name in "ab"]
    step = Budget(table="prompts", aspect="topic_similarity", keep="bottom", share=0.5, clusters="topic",
                  unscored="keep")  # fmt: skip
    assert dropped(step, prompts=prompts, annotations=labels) == {}
    with pytest.raises(DataError, match="no prompt has a score or measure under the aspect 'topik_similarity'"):
        dropped(step.model_copy(update={"aspect": "topik_similarity"}), prompts=prompts, annotations=labels)
