"""Which tasks come first, by what annotators said already: against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from labelled import answer, person, service, submit

from prefdata.schema import annotation
from prefdata.ui.work.project import project_of
from prefdata.ui.work.routing import priorities

P = {"question 0": (0.9, 0.8), "question 1": (0.5, 0.6), "question 2": (0.7, 0.2)}
"""What two judges give the first response of each prompt."""


def judged(folder: Path) -> Any:
    made = service(folder, prompts=3)
    responses = made.dataset.responses.sort("prompt_id", "model").collect()
    rows = []
    for prompt in made.dataset.prompts.collect().to_dicts():
        targets = responses.filter(responses["prompt_id"] == prompt["prompt_id"])["response_id"].to_list()
        for number, p in enumerate(P[prompt["messages"][0]["content"]]):
            about = {"group_id": prompt["group_id"], "prompt_id": prompt["prompt_id"], "target_ids": targets}
            judge = f"judge:{number}"
            rows.append(annotation(**about, protocol="compare", annotator=judge, source="judge", scores=[p, 1 - p]))
            score = annotation(**about, protocol="score", annotator=judge, source="judge", scores=[10 * p, 10 * p])
            rows.append({**score, "aspect": "clear", "annotation_id": score["annotation_id"][::-1]})
    made.dataset.add_import({"annotations": rows}, source="judges", fields={})
    return made


# uncertain: 1 - |2p - 1| with p the mean: .85, .55, .45. disagreement: 1 - share of the majority: 0, 1/2 (a tie and a
# win), 1/2 (one each way). score: minus the mean: -8.5, -5.5, -4.5.
EXPECTED = {
    "uncertain": {"question 0": 0.3, "question 1": 0.9, "question 2": 0.9},
    "disagreement": {"question 0": 0.0, "question 1": 0.5, "question 2": 0.5},
    "score": {"question 0": -8.5, "question 1": -5.5, "question 2": -4.5},
}


@pytest.mark.parametrize("route", EXPECTED)
def test_priorities(tmp_path: Path, route: str) -> None:
    made = judged(tmp_path)
    aspect = "clear" if route == "score" else "overall"
    found = priorities(made.dataset, project_of({"name": "p", "route": route, "route_aspect": aspect}))
    named = {row["prompt_id"]: row["messages"][0]["content"] for row in made.dataset.prompts.collect().to_dicts()}
    assert {named[key]: value for key, value in found.items() if isinstance(key, str)} == pytest.approx(EXPECTED[route])


def test_the_first_come_first_and_the_budget_ends_it(tmp_path: Path) -> None:
    made = judged(tmp_path)
    who = person(made)
    held, added = made.projects.create({"name": "p", "route": "score", "route_aspect": "clear", "budget": 2})
    assert added == 2
    made.projects.acknowledge(who, held.id, held.guideline)
    seen = []
    while (turn := made.next(who, held.id))["state"] == "task":
        seen.append(turn["task"]["prompt"]["turns"][0]["plain"])
        submit(made, who, turn["task"], f"k{len(seen)}", answer(turn["task"]))
    assert seen == ["question 2", "question 1"]  # the lowest scores first
