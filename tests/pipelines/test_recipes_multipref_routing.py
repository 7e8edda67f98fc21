"""multipref-routing: pairs routed to people or to a judge, under a budget."""

from __future__ import annotations

from collections import defaultdict

import pytest
from recipe_run import Made, check_whole, run_recipe

pytestmark = pytest.mark.slow

PROMPTS, PEOPLE = 10, 4


def made_with(budget: str, folder: pytest.TempPathFactory, models: dict[str, str], prompts: int = PROMPTS) -> Made:
    return run_recipe(
        "multipref-routing",
        folder.mktemp("multipref-routing"),
        limit=prompts,
        variables={"POLICY": models["one"], "BUDGET": budget},
        sets=["sample.max_tokens=24", "people.ties=0"],
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Made:
    return made_with("0.4", tmp_path_factory, models)


def routed(made: Made) -> tuple[set[frozenset[str]], set[frozenset[str]]]:
    """The pairs that people were asked about, and those that keep the judge's verdict."""
    asked = {frozenset(row["target_ids"]) for row in made.of("people", "annotations")}
    kept = {
        frozenset(row["response_ids"]) for row in made.rows("preferences") if str(row["step"]).startswith("judged@")
    }
    return asked, kept


def test_it_is_whole(made: Made) -> None:
    check_whole(made, "pairs.parquet")


def test_every_pair_goes_one_way_and_the_budget_is_kept(made: Made) -> None:
    judged = {frozenset(row["response_ids"]) for row in made.of("judged", "preferences")}
    asked, kept = routed(made)
    assert asked | kept == judged and not asked & kept
    assert len(asked) == round(0.4 * len(judged))


def test_people_are_four_and_said_to_be_rules(made: Made) -> None:
    by = defaultdict(set)
    for row in made.of("people", "annotations"):
        assert row["source"] == "rule" and sum(row["scores"]) == 1
        by[frozenset(row["target_ids"])].add(row["annotator"])
    assert by and all(len(names) == PEOPLE for names in by.values())
    assert not made.rows("annotations", source="human")


def test_the_highest_gains_go_to_people(made: Made) -> None:
    gain = {row["target_ids"][0]: row["scores"][0] for row in made.rows("annotations", aspect="routing_gain")}
    if not gain:  # measures of pairs that were dropped are hidden with them
        gain = {row["target_ids"][0]: row["scores"][0] for row in made.of("judge.routing_gain", "annotations")}
    asked, kept = routed(made)
    of = {row["preference_id"]: frozenset(row["response_ids"]) for row in made.of("judged", "preferences")}
    gains = {of[one]: value for one, value in gain.items()}
    known = [gains[pair] for pair in asked if pair in gains], [gains[pair] for pair in kept if pair in gains]
    assert not known[0] or not known[1] or min(known[0]) >= max(known[1])


def test_no_budget_is_all_judge_and_the_whole_is_all_people(
    tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]
) -> None:
    asked, kept = routed(made_with("0", tmp_path_factory, models, 3))
    assert not asked and kept
    asked, kept = routed(made_with("1", tmp_path_factory, models, 3))
    assert asked and not kept
