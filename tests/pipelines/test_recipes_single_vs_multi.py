"""single-vs-multi: pairs from one model and from several, over the same prompts."""

from __future__ import annotations

import json

import pytest
from recipe_run import Made, check_whole, run_recipe

pytestmark = pytest.mark.slow

PROMPTS, K = 4, 5
VARIANTS = ("original", "self-rm", "hc-self", "strong-self", "pool-rm")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str], embedder: str) -> Made:
    variables = {"WEAK": models["one"], "STRONG": models["near"], "EMBEDDER": embedder}
    sets = ["self.max_tokens=24", "stronger.max_tokens=24"]
    folder = tmp_path_factory.mktemp("single_vs_multi")
    return run_recipe("single-vs-multi", folder, limit=PROMPTS, variables=variables, sets=sets)


def by_model(made: Made) -> dict[str, str]:
    return {row["response_id"]: row["model"] for row in made.rows("responses")}


def rewards(made: Made, step: str) -> dict[str, float]:
    return {row["target_ids"][0]: row["scores"][0] for row in made.of(step, "annotations")}


def test_it_is_whole(made: Made) -> None:
    check_whole(made, *(f"{name}.parquet" for name in VARIANTS), exact=False)
    assert made.asked == []


def test_five_own_answers_and_one_of_the_stronger_model(made: Made) -> None:
    own, stronger = made.of("self", "responses"), made.of("stronger", "responses")
    assert (len(own), len(stronger)) == (PROMPTS * K, PROMPTS)
    params = [json.loads(row["params"]) for row in [*own, *stronger]]
    assert {(one["temperature"], one["top_p"]) for one in params} == {(0.5, 0.9)}
    assert all(len(row["text"]) >= 5 for row in own)


def test_every_variant_has_the_same_prompts(made: Made) -> None:
    prompts = {name: {row["prompt_id"] for row in made.of(name, "preferences")} for name in VARIANTS}
    assert {frozenset(found) for found in prompts.values()} == {
        frozenset(row["prompt_id"] for row in made.rows("prompts"))
    }
    assert {name: len(made.of(name, "preferences")) for name in VARIANTS} == dict.fromkeys(VARIANTS, PROMPTS)
    assert {name: len(made.export(f"{name}.parquet")) for name in VARIANTS} == dict.fromkeys(VARIANTS, PROMPTS)


def test_both_sides_of_self_rm_are_of_one_generator(made: Made) -> None:
    models = by_model(made)
    sides = {
        name: {tuple(models[one] for one in row["response_ids"]) for row in made.of(name, "preferences")}
        for name in VARIANTS
    }
    assert sides["self-rm"] == {("one", "one")}
    assert sides["original"] == {("author", "author")}
    assert sides["hc-self"] == {("author", "one")}
    assert sides["strong-self"] == {("near", "one")}
    assert {model for pair in sides["pool-rm"] for model in pair} <= {"one", "near"}


def test_with_a_reward_the_best_is_paired_with_the_worst(made: Made) -> None:
    prompt_of = {row["response_id"]: row["prompt_id"] for row in made.rows("responses")}
    for name, step, count in (("self-rm", "reward-self", K), ("pool-rm", "reward-pool", K + 1)):
        found = rewards(made, step)
        assert len(found) == PROMPTS * count
        for row in made.of(name, "preferences"):
            own = {one: score for one, score in found.items() if prompt_of[one] == row["prompt_id"]}
            chosen, rejected = row["response_ids"]
            assert (own[chosen], own[rejected]) == (max(own.values()), min(own.values()))


def test_what_people_chose_is_their_best(made: Made) -> None:
    for row in made.of("hc-self", "preferences"):
        (ranking,) = made.of("people", "annotations", prompt_id=row["prompt_id"])
        given = dict(zip(ranking["target_ids"], ranking["scores"], strict=True))
        assert given[row["response_ids"][0]] == max(given.values())
