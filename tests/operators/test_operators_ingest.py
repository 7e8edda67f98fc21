"""`ingest` of files with bad rows: the run goes on, and what was left out is said, kept, and gone once it is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import prefdata
from prefdata.errors import PipelineError
from prefdata.pipeline.display import Display

GOOD = [json.dumps({"prompt": f"What is {n}?"}) for n in range(20)]


def pipeline(folder: Path, **fields: object) -> Path:
    path = folder / "line.yaml"
    step = {"ingest": {"path": str(folder / "prompts.jsonl"), **fields}}
    path.write_text(yaml.safe_dump({"steps": [step]}))
    return path


def write(folder: Path, *bad: tuple[int, str]) -> None:
    lines = list(GOOD)
    for place, line in bad:
        lines[place - 1] = line
    (folder / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def live(folder: Path) -> set[str]:
    return {row["messages"][0]["content"] for row in prefdata.open(folder / "ds").prompts.collect().to_dicts()}


def kept(folder: Path) -> list[dict[str, object]]:
    files = list((folder / "ds" / "quarantine").glob("*"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_broken_line_17_and_its_repair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, (17, '{"prompt": "What'))
    spec, ds = pipeline(tmp_path), tmp_path / "ds"
    for _ in range(2):
        assert prefdata.run(spec, ds, display=Display()).exit_code == 0
        said = " ".join(capsys.readouterr().err.split())
        assert "WARNING: 1 row of prompts.jsonl could not be read and is kept in" in said
        assert "row 17: it is not valid JSON" in said
        assert [(row["row"], row["raw"]) for row in kept(tmp_path)] == [(17, '{"prompt": "What')]
    assert len(live(tmp_path)) == 19
    first = prefdata.open(ds).prompts.collect()
    # One more row goes bad, and its prompt is no longer live; put right, all are, and the first rows are those of then.
    write(tmp_path, (17, '{"prompt": "What'), (3, '{"prompt": null}'))
    prefdata.run(spec, ds)
    assert live(tmp_path) == {f"What is {n}?" for n in range(20)} - {"What is 2?", "What is 16?"}
    assert [row["row"] for row in kept(tmp_path)] == [3, 17]
    write(tmp_path)
    prefdata.run(spec, ds)
    assert len(live(tmp_path)) == 20 and kept(tmp_path) == []
    assert not (ds / "quarantine").exists()
    assert set(first["prompt_id"]) < set(prefdata.open(ds).prompts.collect()["prompt_id"])
    prefdata.run(spec, ds, display=Display())
    assert "could not be read" not in capsys.readouterr().err


def test_strict_takes_nothing_and_names_no_other_step(tmp_path: Path) -> None:
    write(tmp_path)
    prefdata.run(pipeline(tmp_path), tmp_path / "ds")
    (before,) = prefdata.open(tmp_path / "ds").prompts.collect()["step"].unique()
    write(tmp_path, (5, "[]"))
    with pytest.raises(PipelineError, match=r"step 'ingest': .*prompts\.jsonl, row 5: it should be a JSON object"):
        prefdata.run(pipeline(tmp_path, strict=True), tmp_path / "ds")
    assert len(live(tmp_path)) == 20 and kept(tmp_path) == []
    write(tmp_path)
    prefdata.run(pipeline(tmp_path, strict=True), tmp_path / "ds")
    assert prefdata.open(tmp_path / "ds").prompts.collect()["step"].unique().to_list() == [before]


@pytest.mark.parametrize("content", ["", "{\n" * 5, "PK\x03\x04"])
def test_a_file_of_which_nothing_can_be_read_takes_nothing_away(tmp_path: Path, content: str) -> None:
    write(tmp_path)
    prefdata.run(pipeline(tmp_path), tmp_path / "ds")
    (tmp_path / "prompts.jsonl").write_text(content)
    with pytest.raises(PipelineError, match=r"prompts\.jsonl"):
        prefdata.run(pipeline(tmp_path), tmp_path / "ds")
    assert len(live(tmp_path)) == 20


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    write(tmp_path, (17, "{"))
    prefdata.plan(pipeline(tmp_path), tmp_path / "ds")
    assert not (tmp_path / "ds").exists()
    prefdata.run(pipeline(tmp_path), tmp_path / "ds")
    write(tmp_path, (17, "{"), (18, "{"))
    before = {path: path.read_bytes() for path in (tmp_path / "ds").rglob("*") if path.is_file()}
    prefdata.plan(pipeline(tmp_path), tmp_path / "ds")
    assert {path: path.read_bytes() for path in (tmp_path / "ds").rglob("*") if path.is_file()} == before


def test_two_pipelines_keep_what_each_left_out(tmp_path: Path) -> None:
    write(tmp_path, (17, "{"))
    prefdata.run(pipeline(tmp_path), tmp_path / "ds")
    write(tmp_path, (3, "["))
    prefdata.run(pipeline(tmp_path), tmp_path / "ds", name="other")
    assert sorted(row["row"] for row in kept(tmp_path)) == [3, 17]  # type: ignore[type-var]
