"""Rows about annotators in a dataset: they belong to no prompt, and everybody reads past them or reads them right."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

import prefdata
from prefdata.dataset import Dataset
from prefdata.dataset.closure import Target
from prefdata.dataset.compact import compact
from prefdata.dataset.erase import erase
from prefdata.dataset.verify import verify
from prefdata.pipeline.status import status
from prefdata.schema import Row, Rows, annotation, message, prompt, response

SPEC = """
steps:
  - aggregate.one_coin: {}
  - aggregate.annotator_bradley_terry: {}
  - pair: {from: [aggregate.one_coin]}
"""
PEOPLE = ("human:a", "human:b", "judge:c")


def heap(prompts: int = 6) -> Rows:
    made: Rows = {"prompts": [], "responses": [], "annotations": []}
    for number in range(prompts):
        asked = prompt([message("user", f"Question {number}?")])
        written = [response(asked, model="m", text=f"answer {n} to {number}", key=n) for n in range(2)]
        made["prompts"].append(asked)
        made["responses"] += written
        for place, name in enumerate(PEOPLE):
            wins = [1.0, 0.0] if place < 2 or number % 2 else [0.0, 1.0]
            made["annotations"].append(
                annotation(
                    group_id=asked["group_id"],
                    prompt_id=asked["prompt_id"],
                    target_ids=[row["response_id"] for row in written],
                    protocol="compare",
                    annotator=name,
                    source=name.split(":")[0],
                    scores=wins,
                )
            )
    return made


@pytest.fixture(scope="module", params=[1, 3], ids=["one shard", "three shards"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("line")
    Dataset.create(folder / "ds", shards=request.param).add_import(heap(), source="heap", fields={})
    (folder / "line.yaml").write_text(SPEC)
    assert prefdata.run(folder / "line.yaml", folder / "ds").exit_code == 0
    return folder


@pytest.fixture
def ds(made: Path, tmp_path: Path) -> Dataset:
    shutil.copytree(made, tmp_path / "line")
    return prefdata.open(tmp_path / "line" / "ds")


def about(ds: Dataset) -> list[Row]:
    return ds.annotations.filter(pl.col("target") == "annotator").collect().to_dicts()


def test_they_are_live_and_nothing_waits_for_them(ds: Dataset) -> None:
    rows = about(ds)
    assert {(row["target_ids"][0], row["annotator"]) for row in rows} == {
        (name, f"consensus:{method}") for name in PEOPLE for method in ("one-coin", "annotator-bradley-terry-crowd")
    }
    assert {(row["group_id"], row["prompt_id"]) for row in rows} == {("*", None)}
    found = status(ds)
    assert [step.note for step in found.steps] == [""] * len(found.steps)
    assert ds.preferences.collect().height == 6
    assert verify(ds.path).sound
    before = ds.snapshot.number
    assert prefdata.run(ds.path.parent / "line.yaml", ds.path).exit_code == 0
    assert prefdata.open(ds.path).snapshot.number == before


def test_an_erased_annotator_goes_from_what_is_known_of_annotators(ds: Dataset) -> None:
    for folder in (ds.path / "artifacts").iterdir():
        assert '"human:a"' in (folder / "annotators.json").read_text()
    erase(ds, Target("annotator", "human:a"), lambda calls, groups: 0)
    assert not (ds.path / "artifacts").exists()
    ds = prefdata.open(ds.path)
    assert "human:a" not in {name for row in about(ds) for name in row["target_ids"]}
    assert prefdata.run(ds.path.parent / "line.yaml", ds.path).exit_code == 0
    ds = prefdata.open(ds.path)
    assert {name for row in about(ds) for name in row["target_ids"]} == {"human:b", "judge:c"}
    compact(ds)
    assert verify(ds.path).sound
    for folder in (ds.path / "artifacts").iterdir():
        assert "human:a" not in (folder / "annotators.json").read_text()


def test_an_erased_prompt_leaves_them_to_the_next_run(ds: Dataset) -> None:
    gone = ds.prompts.collect()["prompt_id"][0]
    erase(ds, Target("prompt", gone), lambda calls, groups: 0)
    ds = prefdata.open(ds.path)
    assert len(about(ds)) == 6
    assert prefdata.run(ds.path.parent / "line.yaml", ds.path).exit_code == 0
    ds = prefdata.open(ds.path)
    assert len(about(ds)) == 6 and ds.preferences.collect().height == 5


def test_they_are_exported_with_nothing(ds: Dataset, tmp_path: Path) -> None:
    prefdata.export(ds, format="trl-pairs", out=tmp_path / "pairs.parquet")
    assert pl.read_parquet(tmp_path / "pairs.parquet").height == 6
