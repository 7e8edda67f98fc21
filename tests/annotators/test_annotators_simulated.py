"""`judge.simulated`: a crowd that is made up, says so, and answers the same whatever else is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from statistics import mean
from typing import Any

import pytest

from prefdata.annotators import Simulated
from prefdata.annotators.simulated import normal
from prefdata.schema import annotation, check_annotations

Make = Callable[..., Any]
TEXTS = ("It is blue because of scattering.", "Because it is.", "Air scatters blue light more than red, so blue wins.")


def said(bench: Make, texts: tuple[str, ...] = TEXTS, **fields: Any) -> list[dict[str, Any]]:
    made = bench(lambda *_: None, *texts)
    return list(asyncio.run(Simulated(**fields).run(made.group, made.context)).get("annotations", []))


def test_everything_about_them_says_that_they_are_made_up(bench: Make) -> None:
    for protocol in ("score", "compare"):
        rows = said(bench, protocol=protocol)
        check_annotations(rows, "here")
        assert rows and {row["source"] for row in rows} == {"rule"}
        assert all(row["annotator"].startswith("rule:simulated-") for row in rows)


def test_each_response_is_rated_by_different_people_and_each_pair_compared(bench: Make) -> None:
    rated = said(bench, people=4, pool=9)
    assert len(rated) == 3 * 4
    by = {}
    for row in rated:
        by.setdefault(row["target_ids"][0], set()).add(row["annotator"])
        assert row["scores"][0] in range(1, 6)
    assert all(len(names) == 4 for names in by.values())
    compared = said(bench, protocol="compare", people=2)
    assert len(compared) == 3 * 2 and all(sum(row["scores"]) == 1 for row in compared)


def test_answers_do_not_depend_on_who_else_is_asked(bench: Make) -> None:
    few = {row["annotation_id"]: row["scores"] for row in said(bench, people=2)}
    assert few == {row["annotation_id"]: row["scores"] for row in said(bench, people=2)}
    values = {(row["target_ids"][0], row["annotator"]): row["scores"] for row in said(bench, people=2)}
    many = {(row["target_ids"][0], row["annotator"]): row["scores"] for row in said(bench, people=5)}
    assert values.items() <= many.items()
    assert said(bench, people=2, seed=1) != said(bench, people=2)


def test_more_are_asked_where_they_differ(bench: Make) -> None:
    counts = []
    for spread in (0, 4):
        rows = said(bench, card="helpsteer2", people=3, more=2, spread=spread, pool=40)
        helpful = [row["target_ids"][0] for row in rows if row["aspect"] == "helpfulness"]
        counts.append({helpful.count(target) for target in helpful})
    assert 5 in counts[0] and counts[1] == {3}


def test_able_people_hear_the_quality_that_is_named(bench: Make) -> None:
    made = bench(lambda *_: None, *TEXTS)
    worth = dict(zip([row["response_id"] for row in made.group.responses], (0.0, 0.5, 1.0), strict=True))
    made.group.annotations = [
        annotation(
            group_id=made.group.group_id,
            prompt_id=made.group.prompts[0]["prompt_id"],
            target_ids=[one],
            protocol="score",
            annotator="reward:rm",
            source="reward",
            scores=[value],
            key="k",
        )
        for one, value in worth.items()
    ]
    step = Simulated(quality="reward:rm", people=30, pool=30, ability=6.0, length_bias=0)
    rows = asyncio.run(step.run(made.group, made.context))["annotations"]
    heard = {one: mean(row["scores"][0] for row in rows if row["target_ids"] == [one]) for one in worth}
    assert sorted(heard, key=heard.get) == sorted(worth, key=worth.get)  # type: ignore[arg-type]
    deaf = Simulated(quality="reward:nobody")
    assert asyncio.run(deaf.run(made.group, made.context)) == {}
    assert any("judged by nobody" in line for line in made.context.logged)


def test_only_the_pairs_that_are_preferred(bench: Make) -> None:
    made = bench(lambda *_: None, *TEXTS)
    ids = [row["response_id"] for row in made.group.responses]
    made.group.preferences = [{"response_ids": [ids[2], ids[0]]}]
    step = Simulated(protocol="compare", pairs="preferences", people=2)
    assert "preferences" in step.inputs() and "preferences" not in Simulated().inputs()
    rows = asyncio.run(step.run(made.group, made.context))["annotations"]
    assert len(rows) == 2 and all(set(row["target_ids"]) == {ids[0], ids[2]} for row in rows)


def test_qualities_are_normal_and_known_by_their_parts() -> None:
    drawn = [normal("quality", 0, str(number)) for number in range(2000)]
    assert abs(mean(drawn)) < 0.08 and 0.92 < mean(value**2 for value in drawn) < 1.08
    assert drawn[0] == normal("quality", 0, "0") != normal("quality", 1, "0")


def test_what_makes_no_sense_is_refused() -> None:
    for fields, words in (
        ({"people": 5, "pool": 4}, "pool of 4"),
        ({"protocol": "compare", "more": 1}, "no spread"),
        ({"pairs": "preferences"}, "compare"),
        ({"card": "no-such-card"}, "no-such-card"),
    ):
        with pytest.raises(ValueError, match=words):
            Simulated(**fields)  # type: ignore[arg-type]
