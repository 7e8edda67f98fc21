"""flr: the likelihood of the user's follow-up, best against worst of eight."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from recipe_run import Made, check_whole, run_recipe

pytestmark = pytest.mark.slow

PROMPTS, K = 2, 8
SHORT = ["sample.max_tokens=8"]
OURS = {"positive": ["Thank you, that helps.", "Great."], "negative": ["That is wrong.", "No."]}


def sides(positive: list[str], negative: list[str]) -> list[str]:
    return [f"judge.follow_up.positive={positive}", f"judge.follow_up.negative={negative}"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Callable[..., Made]:
    """Run it with further `--set`; answers that are there are not asked for again."""
    folder = tmp_path_factory.mktemp("flr")

    def go(name: str, *sets: str, limit: int = 1) -> Made:
        variables = {"POLICY": models["one"], "SCORER": models["two"]}
        (folder / name).mkdir()
        return run_recipe("flr", folder / name, limit=limit, variables=variables, sets=[*SHORT, *sets])

    return go


@pytest.fixture(scope="module")
def made(run: Callable[..., Made]) -> Made:
    return run("made", "judge.follow_up.most=1", limit=PROMPTS)


def scores(made: Made) -> dict[str, float]:
    return {row["target_ids"][0]: row["scores"][0] for row in made.rows("annotations", protocol="score")}


def test_it_is_whole(made: Made) -> None:
    check_whole(made, "pairs.parquet")
    assert made.asked == []


def test_it_costs_k_times_the_follow_ups(made: Made) -> None:
    """Six categories, one pleased and one displeased follow-up of each."""
    assert made.calls == {"sample": PROMPTS * K, "judge.follow_up": PROMPTS * K * 6 * (1 + 1)}
    draws = {(json.loads(row["params"])["temperature"], row["sample_index"]) for row in made.rows("responses")}
    assert draws == {(0.7, index) for index in range(8)}


def test_the_best_is_paired_with_the_worst(made: Made) -> None:
    found = scores(made)
    prompt_of = {row["response_id"]: row["prompt_id"] for row in made.rows("responses")}
    for pair in made.rows("preferences"):
        own = {one: score for one, score in found.items() if prompt_of[one] == pair["prompt_id"]}
        assert pair["response_ids"] == [max(own, key=own.__getitem__), min(own, key=own.__getitem__)]
    assert len(made.rows("preferences")) == PROMPTS


def test_swapping_the_two_sides_negates_every_score(run: Callable[..., Made]) -> None:
    # Other batches, other last bits.
    one = run("plain", "sample.n=3", *sides(OURS["positive"], OURS["negative"]))
    other = run("swapped", "sample.n=3", *sides(OURS["negative"], OURS["positive"]))
    assert scores(other) == pytest.approx({target: -score for target, score in scores(one).items()}, abs=1e-4)
    twice = run("twice", "sample.n=3", *sides(OURS["positive"] * 2, OURS["negative"]))
    assert scores(twice) == pytest.approx(scores(one), abs=1e-4)


def test_equal_sides_say_nothing(run: Callable[..., Made]) -> None:
    same = run("same", "sample.n=3", *sides(OURS["positive"], OURS["positive"]), "pair.ties=keep", "export.ties=true")
    assert set(scores(same).values()) == {0.0}
