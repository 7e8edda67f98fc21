"""dove: preferences between responses to different prompts, beside those under one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from recipe_run import Made, check_whole, run_recipe

pytestmark = pytest.mark.slow

PROMPTS = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Made:
    return run_recipe(
        "dove",
        tmp_path_factory.mktemp("dove"),
        limit=PROMPTS,
        variables={"POLICY": models["one"]},
        sets=["sample.max_tokens=40", "split.valid=0.34"],
    )


def test_it_is_whole(made: Made) -> None:
    check_whole(made, "lists.parquet")


def test_each_prompt_meets_one_partner_in_both_orders(made: Made) -> None:
    """A ring: every prompt is compared with one other, and is that other's for one more."""
    group = {row["response_id"]: row["group_id"] for row in made.rows("responses")}
    shown = made.of("joint", "annotations")
    assert len(shown) == 2 * PROMPTS and all(row["prompt_id"] is None for row in shown)
    couples = Counter(tuple(sorted(row["target_ids"])) for row in shown)
    assert set(couples.values()) == {2}
    assert len({tuple(row["target_ids"]) for row in shown}) == 2 * PROMPTS
    for row in shown:
        first, second = (group[target] for target in row["target_ids"])
        assert first != second and row["group_id"] in (first, second)
    met = Counter(group[target] for couple in couples for target in couple)
    assert met == dict.fromkeys(group.values(), 2)


def test_the_judge_sees_both_prompts_and_no_names(made: Made) -> None:
    texts = {row["prompt_id"]: row["messages"][-1]["content"] for row in made.rows("prompts")}
    joint = [one["body"]["messages"][-1]["content"] for one in made.asked if "Prompt B:" in str(one["body"])]
    assert len(joint) == 2 * PROMPTS
    for question in joint:
        assert sum(text in question for text in texts.values()) >= 2
        assert "Prompt A:" in question and "Response A:" in question and "Response B:" in question


def test_joint_rows_hold_two_prompts_and_never_cross_the_split(made: Made) -> None:
    rows = made.rows("preferences", kind="joint")
    assert rows and all(len(set(row["prompt_ids"])) == 2 and row["prompt_id"] is None for row in rows)
    split = {row["group_id"]: row["labels"][0] for row in made.rows("annotations", aspect="split")}
    group = {row["prompt_id"]: row["group_id"] for row in made.rows("prompts")}
    inside = [row for row in rows if len({split[group[one]] for one in row["prompt_ids"]}) == 1]
    assert len(inside) < len(rows)  # a third is held out, so some cross
    exported = [row for row in made.export("lists.parquet") if row["kind"] == "joint"]
    assert {row["id"] for row in exported} == {row["preference_id"] for row in inside}
    assert all(len(row["other_prompts"]) == 1 and row["prompt_of"] == [0, 1] for row in exported)
    conditional = [row for row in made.export("lists.parquet") if row["kind"] == "conditional"]
    assert len(conditional) == len(made.rows("preferences", kind="conditional"))


def test_its_loss_reads_the_file(made: Made, models: dict[str, str], tmp_path: Path) -> None:
    """One step of `dove` on the export, with a model of random weights."""
    from prefdata.train import TrainConfig, train

    data = made.path / "exports" / "lists.parquet"
    assert pq.read_table(data).num_rows > 2
    config = TrainConfig(data=str(data), model=models["one"], out=str(tmp_path / "out"), loss="dove", max_steps=1)
    train(config)
    assert (tmp_path / "out" / "metrics.jsonl").exists()
