"""delta-learning: a stronger model's answer over a weaker one's, without a judge."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from recipe_run import Made, check_whole, run_recipe

pytestmark = pytest.mark.slow

PROMPTS = 5
SHORT = ["sample.max_tokens=12"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Made:
    variables = {"STRONG": models["one"], "WEAK": models["two"]}
    return run_recipe(
        "delta-learning", tmp_path_factory.mktemp("delta"), limit=PROMPTS, variables=variables, sets=SHORT
    )


def sides(made: Made) -> dict[str, tuple[str, str]]:
    """Texts of chosen and rejected by prompt."""
    texts = {row["response_id"]: row["text"] for row in made.rows("responses")}
    found = {}
    for row in made.rows("preferences"):
        chosen, rejected = row["response_ids"]
        found[row["prompt_id"]] = (texts[chosen], texts[rejected])
    return found


def test_it_is_whole(made: Made) -> None:
    check_whole(made, "pairs.parquet")


def test_nobody_is_asked_for_a_judgement(made: Made) -> None:
    assert made.asked == []
    assert made.calls == {"sample": 2 * PROMPTS}
    assert {row["source"] for row in made.rows("annotations")} == {"rule"}
    assert all(not row["annotation_ids"] and row["annotator"] is None for row in made.rows("preferences"))


def test_one_row_for_each_prompt_and_the_same_model_on_each_side(made: Made) -> None:
    models = {row["response_id"]: row["model"] for row in made.rows("responses")}
    pairs = made.rows("preferences")
    assert Counter(row["prompt_id"] for row in pairs) == {row["prompt_id"]: 1 for row in made.rows("prompts")}
    assert {tuple(models[one] for one in row["response_ids"]) for row in pairs} == {("one", "two")}
    assert len(made.export()) == PROMPTS


def test_the_answers_are_greedy(made: Made) -> None:
    params = [json.loads(row["params"]) for row in made.rows("responses")]
    assert {one["temperature"] for one in params} == {0.0}
    assert {row["sample_index"] for row in made.rows("responses")} == {0}


def test_swapping_the_models_flips_every_row(made: Made, tmp_path: Path, models: dict[str, str]) -> None:
    variables = {"STRONG": models["two"], "WEAK": models["one"]}
    swapped = run_recipe("delta-learning", tmp_path, limit=PROMPTS, variables=variables, sets=SHORT)
    assert sides(swapped) == {prompt: pair[::-1] for prompt, pair in sides(made).items()}
    assert len(sides(made)) == PROMPTS


def test_equal_answers_are_dropped(tmp_path: Path, models: dict[str, str]) -> None:
    """Both models write one token; where it is the same one, there is no row."""
    variables = {"STRONG": models["one"], "WEAK": models["near"]}
    short = run_recipe("delta-learning", tmp_path, limit=24, variables=variables, sets=["sample.max_tokens=1"])
    texts: dict[str, list[str]] = {}
    for row in short.rows("responses"):
        texts.setdefault(row["prompt_id"], []).append(" ".join(row["text"].split()))
    different = {prompt for prompt, found in texts.items() if len(set(found)) == 2}
    assert 0 < len(different) < 24
    assert {row["prompt_id"] for row in short.rows("preferences")} == different


@pytest.mark.model
def test_it_runs_on_the_models_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefdata.engines.models import model_folder
    from prefdata.errors import EngineError

    names = ("smollm2-135m-instruct", "gemma3-270m")
    for name in names:
        try:
            model_folder(name)
        except EngineError as error:
            pytest.skip(str(error))
    for variable in ("STRONG", "WEAK", "PROMPTS"):
        monkeypatch.delenv(variable, raising=False)
    made = run_recipe("delta-learning", tmp_path, limit=1, sets=["sample.max_tokens=6"])
    check_whole(made, "pairs.parquet")
    models = {row["response_id"]: row["model"] for row in made.rows("responses")}
    assert [tuple(models[one] for one in row["response_ids"]) for row in made.rows("preferences")] == [names]
