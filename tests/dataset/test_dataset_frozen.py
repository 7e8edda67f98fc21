"""Datasets that earlier versions made: they open, say the same, run on without a call, and can be added to."""

from __future__ import annotations

import json
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from prefdata.dataset import Dataset
from prefdata.dataset.compact import compact
from prefdata.dataset.verify import verify
from prefdata.pipeline.run import run
from prefdata.pipeline.spec import load
from prefdata.schema import SCHEMA_VERSION, SCHEMAS

FROZEN = Path(__file__).resolve().parent.parent / "frozen"
VERSIONS = sorted(path.name for path in FROZEN.glob("v*"))


def rows_of(dataset: Dataset, at: int) -> dict[str, list[str]]:
    """As the script that froze the dataset saw it."""
    spec = spec_from_file_location("frozen_make", FROZEN / "make.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, list[str]] = module.rows_of(dataset, at)
    return found


@pytest.fixture(params=VERSIONS)
def frozen(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(FROZEN / request.param, tmp_path / request.param))


def test_there_is_one_of_todays_tables() -> None:
    assert f"v{SCHEMA_VERSION}" in VERSIONS
    assert set(Dataset(FROZEN / f"v{SCHEMA_VERSION}" / "dataset").snapshot.standing) == set(SCHEMAS)


def test_the_same_rows_at_every_commit(frozen: Path) -> None:
    ds = Dataset(frozen / "dataset")
    expected = json.loads((frozen / "expected.json").read_text())
    assert len(expected) >= 4
    for at, rows in expected.items():
        assert rows_of(ds, int(at)) == rows, at
    assert verify(ds.path).sound
    compact(ds)
    for at, rows in expected.items():
        assert rows_of(ds, int(at)) == rows, at


def test_its_pipelines_run_on_without_a_call(frozen: Path) -> None:
    ds = Dataset(frozen / "dataset")
    (*_, last) = json.loads((frozen / "expected.json").read_text()).values()
    for name in ("line", "second"):
        assert run(load(str(frozen / f"{name}.yaml")), ds.path).usage.calls == 0  # with an empty request cache
    at = ds.snapshot.number
    for table in ("prompts", "responses", "annotations", "preferences"):
        assert [row.split()[0] for row in rows_of(ds, at)[table]] == [row.split()[0] for row in last[table]], table


def test_something_can_be_added(frozen: Path) -> None:
    ds = Dataset(frozen / "dataset")
    before = ds.counts()
    with (frozen / "prompts.jsonl").open("a") as file:
        file.write('{"prompt": "And what is new?"}\n')
    result = run(load(str(frozen / "line.yaml")), ds.path)
    assert result.usage.calls > 0
    after = ds.counts()
    assert after["prompts"] == before["prompts"] + 1 and after["responses"] > before["responses"]
    ids = ds.responses.collect()["response_id"].to_list()
    ds.label([{"target_ids": ids[-1:], "protocol": "score", "scores": [1.0], "annotator": "human:new"}])
    assert "human:new" in ds.annotations.collect()["annotator"]
    assert "bob" not in ds.rows("prompts").collect()["user_id"]
    assert verify(ds.path).sound
