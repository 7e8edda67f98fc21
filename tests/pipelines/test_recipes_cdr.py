"""cdr: the density ratio of a strong over a weak model, best against worst."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from recipe_run import Made, check_whole, run_recipe

from prefdata.errors import EngineError
from prefdata.pipeline.plan import plan

pytestmark = pytest.mark.slow

PROMPTS, K = 3, 4
SHORT = ["sample.max_tokens=12"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Made:
    variables = {"POLICY": models["one"], "WEAK": models["one"], "STRONG": models["two"]}
    return run_recipe("cdr", tmp_path_factory.mktemp("cdr"), limit=PROMPTS, variables=variables, sets=SHORT)


def test_it_is_whole(made: Made) -> None:
    check_whole(made, "pairs.parquet")
    assert made.asked == []


def test_it_costs_2k_forward_passes_per_prompt(made: Made) -> None:
    assert made.calls == {"sample": PROMPTS * K, "judge.density_ratio": PROMPTS * 2 * K}


def test_the_best_is_paired_with_the_worst(made: Made) -> None:
    scores = {row["target_ids"][0]: row["scores"][0] for row in made.rows("annotations", protocol="score")}
    assert len(scores) == PROMPTS * K
    prompt_of = {row["response_id"]: row["prompt_id"] for row in made.rows("responses")}
    pairs = made.rows("preferences")
    assert len(pairs) == PROMPTS
    for pair in pairs:
        own = {one: score for one, score in scores.items() if prompt_of[one] == pair["prompt_id"]}
        assert pair["response_ids"] == [max(own, key=own.__getitem__), min(own, key=own.__getitem__)]


def test_the_reward_is_zero_where_strong_is_weak(made: Made, tmp_path: Path, models: dict[str, str]) -> None:
    variables = {"POLICY": models["one"], "WEAK": models["one"], "STRONG": models["one"]}
    same = run_recipe(
        "cdr", tmp_path, limit=1, variables=variables, sets=[*SHORT, "pair.ties=keep", "export.ties=true"]
    )
    assert [row["scores"] for row in same.rows("annotations", protocol="score")] == [[0.0]] * K
    assert Counter(row["status"] for row in made.rows("annotations", protocol="score")) == {"ok": PROMPTS * K}


def test_the_ratio_turns_round_with_the_models(made: Made, tmp_path: Path, models: dict[str, str]) -> None:
    variables = {"POLICY": models["one"], "WEAK": models["two"], "STRONG": models["one"]}
    turned = run_recipe("cdr", tmp_path, limit=PROMPTS, variables=variables, sets=SHORT)

    def scores(run: Made) -> dict[str, float]:
        return {row["target_ids"][0]: row["scores"][0] for row in run.rows("annotations", protocol="score")}

    assert scores(turned) == pytest.approx({one: -score for one, score in scores(made).items()}, abs=1e-3)
    flipped = [row["response_ids"][::-1] for row in turned.rows("preferences")]
    assert sorted(flipped) == sorted(row["response_ids"] for row in made.rows("preferences"))


def test_without_a_strong_model_it_says_how_to_make_one(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("POLICY", "WEAK"):
        monkeypatch.setenv(name, models["one"])
    monkeypatch.delenv("STRONG", raising=False)
    with pytest.raises(EngineError, match="engine 'strong': there is no model 'runs/quickstart/model'") as caught:
        plan("cdr", tmp_path / "ds")
    assert "prefdata run quickstart" in str(caught.value) and "--loss dpo" in str(caught.value)
