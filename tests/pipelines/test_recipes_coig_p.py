"""coig-p: pool answers scored from 1 to 10, paired where the gap is wide."""

from __future__ import annotations

from collections import Counter

import pytest
from recipe_run import Made, check_whole, run_recipe

from prefdata.operators.pair import Pair
from prefdata.pipeline.spec import load

pytestmark = pytest.mark.slow

PROMPTS, POOL, MOST, GAP = 6, 4, 4, 0.5
"""What these small models write differs by a point at most."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str], embedder: str) -> Made:
    return run_recipe(
        "coig-p",
        tmp_path_factory.mktemp("coig-p"),
        limit=PROMPTS,
        variables={"POLICY": models["one"], "SECOND": models["two"], "ENCODER": embedder},
        sets=[
            "sample.max_tokens=24",
            "judge.duplicates.threshold=1.0",
            "no-repetition.max=1",
            "like-lengths.min=0.01",
            "like-lengths.max=100",
            f"pair.min_gap={GAP}",
        ],
    )


def test_it_is_whole(made: Made) -> None:
    """A fault drops a response before it is scored, so that the plan is an upper bound."""
    check_whole(made, "pairs.parquet", exact=False)


def test_pairs_are_far_apart_and_few_of_each_prompt(made: Made) -> None:
    score = {
        target: value
        for row in made.of("aggregate.mean", "annotations")
        if row["scores"]
        for target, value in zip(row["target_ids"], row["scores"], strict=True)
    }
    rows = made.rows("preferences")
    assert rows
    assert all(score[row["response_ids"][0]] - score[row["response_ids"][1]] >= GAP for row in rows)
    assert max(Counter(row["prompt_id"] for row in rows).values()) <= MOST
    assert len(rows) <= PROMPTS * POOL * (POOL - 1) / 2


def test_the_gap_is_more_than_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are whole: a gap of 2 makes no pair, one of 3 does."""
    for name in ("JUDGE_URL", "JUDGE_MODEL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/v1")
    (step,) = [one for one in load("coig-p").steps if one.kind == "pair"]
    assert isinstance(step, Pair) and 2 < step.min_gap < 3


def test_facts_are_measured_before_they_drop(made: Made) -> None:
    aspects = {row["aspect"] for row in made.rows("annotations", protocol="measure")}
    assert {"words", "repeated", "role_tags", "open_fence", "length_ratio"} <= aspects
    judged = {row["target_ids"][0] for row in made.of("judge.score", "annotations")}
    assert judged <= {row["response_id"] for row in made.rows("responses")}
