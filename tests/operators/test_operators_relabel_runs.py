"""Denoising in a pipeline: measured, flipped, softened, exported; and undone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from prefdata.dataset import Dataset
from prefdata.pipeline.plan import plan
from prefdata.pipeline.run import run as run_pipeline
from prefdata.pipeline.spec import parse

ENGINES = {
    "policy": {"kind": "scripted", "model": "policy"},
    "judge": {"kind": "scripted", "model": "judge", "position_bias": 0.8},
    "embedder": {"kind": "scripted", "model": "mini"},
    "model-a": {"kind": "scripted", "model": "model-a"},
}
MEASURE: list[dict[str, Any]] = [
    {"sample": {"engine": "policy", "n": 3, "max_tokens": 24}},
    {"judge.compare": {"engine": "judge", "orders": "one"}},
    {"aggregate.majority": {}},
    {"pair": {"rule": "all_pairs"}},
    {"judge.reward": {"engine": "model-a"}},
    {"judge.likelihood": {"engine": "model-a", "mode": "conditional", "per": "sum"}},
    {"judge.vectors": {"engine": "embedder", "of": "responses"}},
    {"judge.reward_votes": {"members": ["reward:*", "likelihood:*"]}},
    {"judge.displacement": {"engine": "model-a"}},
    {"judge.difficulty": {}},
    {"judge.confident": {"ridge": 1.0}},
    {"judge.selfie": {}},
    {"judge.label_noise": {}},
    {"judge.routing_gain": {"coefficients": {"length_difference:low": 1.0}}},
]
FLIP: dict[str, Any] = {"relabel.flip": {"lowest": 0.3}}
SOFTEN: dict[str, Any] = {"relabel.soften": {"right": "alpha", "alpha": 0.1, "aspect": "strength"}}
EXPORT: dict[str, Any] = {"export": {"format": "lists", "path": "lists.parquet"}}


def spec_of(folder: Path, steps: list[dict[str, Any]]) -> Any:
    prompts = folder / "prompts.jsonl"
    if not prompts.exists():
        prompts.write_text("".join(json.dumps({"prompt": f"What is {n} plus {n}, and why?"}) + "\n" for n in range(4)))
    document = {"engines": ENGINES, "steps": [{"ingest": {"format": "prompts", "path": str(prompts)}}, *steps]}
    return parse(yaml.safe_dump(document, sort_keys=False), file="line.yaml", folder=folder, name="line")


def live(folder: Path) -> pl.DataFrame:
    return Dataset(folder).view()["preferences"].sort("preference_id").collect()


@pytest.mark.slow
def test_measured_flipped_softened_exported_and_undone(tmp_path: Path) -> None:
    folder = tmp_path / "ds"
    planned = plan(spec_of(tmp_path, [*MEASURE, FLIP, SOFTEN, EXPORT]), folder)
    assert {step.name: step.calls for step in planned.steps}["judge.displacement"] <= 4 * 3 * 2
    run_pipeline(spec_of(tmp_path, MEASURE), folder)
    before = live(folder)
    said = Dataset(folder).view()["annotations"].filter(pl.col("target") == "preference").collect()
    aspects = said.group_by("aspect").agg(pl.len(), ok=(pl.col("status") == "ok").sum())
    of = {aspect: (total, ok) for aspect, total, ok in aspects.iter_rows()}
    wanted = "strength strength_std strength_agree ches ches_ln last_state difficulty loss_to_flip"
    wanted += " label_probability label_error sure label_posterior routing_gain"
    assert {aspect: total for aspect, (total, _) in of.items()} == dict.fromkeys(wanted.split(), before.height)
    assert all(ok for aspect, (_, ok) in of.items())

    steps = [*MEASURE, FLIP, SOFTEN, EXPORT]
    result = run_pipeline(spec_of(tmp_path, steps), folder)
    assert result.usage.calls == 0, "nothing is asked to relabel"
    after = live(folder)
    assert after.height == before.height and set(after["preference_id"]).isdisjoint(before["preference_id"])
    flips = after.filter(pl.col("values").list.eval(pl.element().struct.field("name") == "flipped").list.any())
    assert flips.height >= 1
    softened = after["edges"].list.first().struct.field("p").drop_nulls()
    lists = pl.read_parquet(folder / "exports" / "lists.parquet")
    assert set(lists["id"]) == set(after["preference_id"])
    assert softened.is_between(0.1, 0.9).all()

    run_pipeline(spec_of(tmp_path, MEASURE), folder)
    assert live(folder).equals(before), "undone, the originals are back"


def test_the_second_step_sees_what_the_first_one_stated(tmp_path: Path) -> None:
    """Soften without a measure, after a flip: the chain of parents leads to the original."""
    folder = tmp_path / "ds"
    smooth = {"relabel.soften": {"right": "alpha", "alpha": 0.2}}
    steps = [*MEASURE[:8], FLIP, smooth]
    run_pipeline(spec_of(tmp_path, steps), folder)
    rows = live(folder)
    assert (rows["edges"].list.first().struct.field("p") == 0.8).all()
    assert rows["parent_id"].null_count() == 0
    again = run_pipeline(spec_of(tmp_path, steps), folder)
    assert again.usage.calls == 0 and live(folder).equals(rows)
