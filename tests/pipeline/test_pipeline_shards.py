"""Shards, ranges of a shard, and worker processes: whatever the pieces, the rows and the files are the same."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pipeline_line import Line, base_steps, live_rows

from prefdata.dataset import Dataset
from prefdata.errors import PipelineError
from prefdata.pipeline import pieces as pieces_module
from prefdata.pipeline.display import Display
from prefdata.pipeline.executor import Processes
from prefdata.pipeline.pieces import pieces, spans
from prefdata.pipeline.plan import plan
from prefdata.pipeline.registry import STEPS
from prefdata.pipeline.run import Billed
from prefdata.pipeline.run import run as run_spec
from prefdata.pipeline.spec import parse

pytestmark = pytest.mark.slow

PLUGIN = '''
import os
import sys
from pathlib import Path
from typing import ClassVar

import polars as pl

from prefdata.pipeline.registry import step
from prefdata.pipeline.step import TableStep


@step("note.length")
class NoteLength(TableStep):
    """Drops nothing, prints, and does what a file beside it says, in worker processes only."""

    reads: ClassVar[frozenset[str]] = frozenset({"responses"})
    writes: ClassVar[frozenset[str]] = frozenset({"drops"})

    def run(self, tables, context):
        print("a step that prints")
        main = getattr(sys.modules["__main__"].__spec__, "name", "")
        order = Path(__file__).with_name("order.txt")
        groups = tables["responses"]["group_id"]
        if main == "prefdata.pipeline.worker" and order.exists() and order.read_text() in groups.to_list():
            os.kill(os.getpid(), 9)
        if order.with_name("raise.txt").exists():
            raise ValueError("it does not work")
        context.log(f"{main} {len(groups)}")
        long = tables["responses"].filter(pl.col("n_tokens") > 20)
        rows = long.select(table=pl.lit("responses"), id="response_id", group_id="group_id", reason=pl.lit("long"))
        return {"drops": rows.with_columns(view=pl.lit("main"), restore=pl.lit(False))}
'''


def line_of(folder: Path, shards: int, name: str = "ds", prompts: int = 8) -> Line:
    """A pipeline with everything in it, over a dataset of so many shards."""
    folder.mkdir(exist_ok=True)
    line = Line(folder, base_steps(folder / "prompts.jsonl"), dataset_name=name)
    line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(prompts))
    line.steps += [
        {"split": {"valid": 0.25}},
        {"export": {"name": "pairs", "format": "trl-pairs", "path": "pairs.parquet"}},
        {"export": {"name": "lists", "format": "lists", "path": "lists.parquet"}},
        {"export": {"name": "unpaired", "format": "unpaired", "path": "unpaired.parquet", "from_lists": True}},
    ]
    Dataset.create(line.path, shards=shards)
    return line


def exported(line: Line) -> dict[str, pl.DataFrame]:
    return {path.name: pl.read_parquet(path) for path in sorted((line.path / "exports").glob("*.parquet"))}


@pytest.fixture(scope="module")
def one_shard(tmp_path_factory: pytest.TempPathFactory) -> Line:
    line = line_of(tmp_path_factory.mktemp("one"), 1)
    line.run()
    return line


@pytest.fixture(scope="module")
def three_shards(tmp_path_factory: pytest.TempPathFactory) -> Line:
    line = line_of(tmp_path_factory.mktemp("three"), 3)
    line.run()
    return line


def copied(line: Line, folder: Path) -> Line:
    """What a line made, in a folder of its own, to be changed there."""
    shutil.copytree(line.path, folder / line.dataset_name)
    return replace(line, folder=folder, steps=copy.deepcopy(line.steps))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard of a few rows counts as very large."""
    monkeypatch.setattr(pieces_module, "ROWS_AT_ONCE", 16)


@pytest.mark.parametrize("shards", [3, 8])
def test_rows_and_files_do_not_depend_on_shards(
    shards: int, one_shard: Line, three_shards: Line, tmp_path: Path
) -> None:
    line = three_shards if shards == 3 else line_of(tmp_path, shards)
    line.run()
    assert live_rows(line.ds) == live_rows(one_shard.ds)
    assert len({part.shard for table in line.ds.snapshot.standing.values() for _, part in table}) > 1
    for name, rows in exported(one_shard).items():
        assert exported(line)[name].equals(rows), name


@pytest.mark.parametrize("shards", [1, 3])
def test_nor_on_ranges(shards: int, one_shard: Line, tmp_path: Path, small_pieces: None) -> None:
    line = line_of(tmp_path, shards)
    line.run()
    assert len(pieces(line.ds.snapshot)) > 2 * shards
    assert live_rows(line.ds) == live_rows(one_shard.ds)
    for name, rows in exported(one_shard).items():
        assert exported(line)[name].equals(rows), name
    result = line.run()
    assert [(step.name, step.groups) for step in result.steps if step.rows] == []


def test_two_datasets_of_as_many_shards_export_the_same_bytes(three_shards: Line, tmp_path: Path) -> None:
    first, second = three_shards, line_of(tmp_path / "b", 3)
    second.run()
    for name in exported(first):
        assert (first.path / "exports" / name).read_bytes() == (second.path / "exports" / name).read_bytes()


@pytest.mark.parametrize("shards", [1, 3])
def test_pieces_hold_every_row_once(
    shards: int, one_shard: Line, three_shards: Line, tmp_path: Path, small_pieces: None
) -> None:
    ds = copied(one_shard if shards == 1 else three_shards, tmp_path).ds
    ds.drop("responses", [ds.responses.collect()["response_id"][0]], reason="a person says so")
    whole = ds.view()
    for table in ("prompts", "responses", "annotations", "preferences", "drops"):
        parts = pl.concat([piece.of(whole)[table].collect() for piece in pieces(ds.snapshot)])
        assert sorted(map(str, parts.to_dicts())) == sorted(map(str, whole[table].collect().to_dicts())), table


def test_spans_follow_one_another() -> None:
    assert spans(1) == [("", "")]
    assert spans(4) == [("", "40000000"), ("40000000", "80000000"), ("80000000", "c0000000"), ("c0000000", "")]


def test_limit_over_pieces(tmp_path: Path, small_pieces: None) -> None:
    line = line_of(tmp_path, 3)
    line.steps = line.steps[:-3]
    line.run(limit=5)
    assert line.ds.prompts.collect().height == 5
    line.edit("pair", min_gap=0.2)
    line.run(limit=2)
    notes = line.ds.rows("progress").filter(pl.col("step").str.starts_with("pair@")).collect()
    assert sorted(notes.group_by("step").len()["len"]) == [2, 5]


# Rows that reach across groups


def test_a_piece_sees_a_joint_ranking_whole(three_shards: Line, tmp_path: Path) -> None:
    line = copied(three_shards, tmp_path)
    responses = line.ds.responses.collect().unique("group_id", maintain_order=True).head(4)["response_id"].to_list()
    (joint,) = line.ds.label(
        [{"target_ids": responses, "protocol": "rank", "scores": [4.0, 3.0, 2.0, 1.0], "annotator": "human:x"}]
    )

    def seen() -> list[list[str]]:
        whole = line.ds.view()
        views = [whole, *(piece.of(whole) for piece in pieces(line.ds.snapshot))]
        rows = [view["annotations"].filter(pl.col("annotation_id") == joint).collect() for view in views]
        return [list(row["target_ids"][0]) for row in rows if row.height]

    assert seen() == [responses, responses]
    line.ds.drop("responses", [responses[1]], reason="a person says so")
    left = [one for one in responses if one != responses[1]]
    assert seen() == [left, left]


def test_joint_preferences_are_exported_from_pieces(tmp_path: Path, small_pieces: None) -> None:
    line = line_of(tmp_path, 3)
    line.steps = line.steps[:2]  # no step makes preferences: labels are paired
    line.run()
    by_group = line.ds.responses.collect().group_by("group_id", maintain_order=True).agg("response_id")["response_id"]
    task = {"protocol": "compare", "scores": [1.0, 0.0], "annotator": "human:x"}
    across = [[by_group[0][0], by_group[1][0]], [by_group[2][1], by_group[5][1]]]
    within = [by_group[3].to_list()[:2], by_group[4].to_list()[:2]]
    line.ds.label([{**task, "target_ids": ids} for ids in (*across, *within)])
    line.steps += [{"export": {"format": "lists", "path": "lists.parquet"}}]
    line.run()
    rows = exported(line)["lists.parquet"]
    assert sorted(map(sorted, rows["response_ids"].to_list())) == sorted(map(sorted, (*across, *within)))
    assert rows["group"].is_sorted()


# Processes


def test_several_processes_make_what_one_makes(one_shard: Line, tmp_path: Path) -> None:
    line = line_of(tmp_path, 3)
    line.run(processes=2)
    assert live_rows(line.ds) == live_rows(one_shard.ds)
    for name, rows in exported(one_shard).items():
        assert exported(line)[name].equals(rows), name
    assert not any(step.rows for step in line.run(processes=2).steps)


@pytest.fixture
def with_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Line, Any]]:
    """A pipeline with a step of its own, and what runs it in two processes; says what was said."""
    line = line_of(tmp_path, 3)
    (tmp_path / "my_steps.py").write_text(PLUGIN)
    line.steps = [*line.steps[:2], {"note.length": {}}]

    def run(processes: int = 2) -> list[str]:
        said: list[str] = []
        display = Display(quiet=True)
        monkeypatch.setattr(display, "say", said.append)
        text = json.dumps({"plugins": ["my_steps.py"], "engines": line.engines, "steps": line.steps})
        spec = parse(text, file="line.yaml", folder=tmp_path, name="line")
        run_spec(spec, line.path, processes=processes, display=display)
        return said

    yield line, run
    STEPS.pop("note.length", None)  # the next test's file lies elsewhere


def test_a_plugin_s_step_runs_in_workers(with_plugin: tuple[Line, Any]) -> None:
    line, run = with_plugin
    said = [one for one in run() if one.startswith("note.length: shard")]
    assert len(said) == 3
    assert all("prefdata.pipeline.worker" in one for one in said)
    reasons = line.ds.drops.collect()["reason"].unique().to_list()
    assert reasons == ["long"]


def test_a_worker_that_is_killed_is_a_sentence_and_the_next_run_goes_on(with_plugin: tuple[Line, Any]) -> None:
    line, run = with_plugin
    run(1)
    groups = line.ds.prompts.collect()["group_id"].to_list()
    line.steps[-1] = {"note.length": {"name": "again"}}
    (line.folder / "order.txt").write_text(groups[0])
    with pytest.raises(PipelineError, match=r"step 'again', shard \d: its worker process was ended by SIGKILL"):
        run()
    done = line.ds.rows("progress").filter(pl.col("step").str.starts_with("again@")).collect()
    assert 0 < done.height < len(groups)
    assert groups[0] not in done["group_id"].to_list()
    (line.folder / "order.txt").unlink()
    said = run()
    assert len([one for one in said if one.startswith("again: shard")]) == 3 - done["_commit"].n_unique()
    done = line.ds.rows("progress").filter(pl.col("step").str.starts_with("again@")).collect()
    assert sorted(done["group_id"]) == sorted(groups)


def test_a_step_that_fails_says_so_from_a_worker_as_from_here(with_plugin: tuple[Line, Any]) -> None:
    line, run = with_plugin
    (line.folder / "raise.txt").touch()
    for processes in (1, 2):
        with pytest.raises(PipelineError, match=r"step 'note\.length' failed: ValueError: it does not work") as raised:
            run(processes)
        assert "the run's log has the traceback" in str(raised.value)
        (log,) = sorted((line.path / "logs").iterdir())[-1:]
        assert "Traceback" in log.read_text() and "my_steps.py" in log.read_text()


def test_a_worker_ends_with_its_parent() -> None:
    worker = subprocess.Popen([sys.executable, "-m", "prefdata.pipeline.worker"], stdin=subprocess.PIPE)
    assert worker.stdin is not None
    worker.stdin.close()
    assert worker.wait(60) == 0


def test_workers_are_ended(three_shards: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    real = asyncio.create_subprocess_exec

    async def start(*command: Any, **options: Any) -> Any:
        started.append(await real(*command, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    line = copied(three_shards, tmp_path)
    line.edit("pair", min_gap=0.3)
    line.run(processes=8)
    assert len(started) == 3  # no more than there are pieces
    assert all(one.returncode is not None for one in started)


def test_nothing_is_begun_once_a_run_is_told_to_stop(three_shards: Line, tmp_path: Path) -> None:
    line = copied(three_shards, tmp_path)
    line.edit("pair", min_gap=0.3)
    begun: list[str] = []
    real = Processes.run

    async def stopped(self: Processes, errand: Any, todo: Any) -> None:
        if errand.done.name == "pair":
            errand.halt.stop("stopped by SIGINT", 130)
        begun.append(errand.done.name)
        await real(self, errand, todo)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "run", stopped)
        result = line.run(processes=2)
    assert begun[-1] == "pair" and result.exit_code == 130
    assert line.ds.preferences.collect().is_empty()
    assert line.run(processes=2).exit_code == 0
    assert not line.ds.preferences.collect().is_empty()


def test_no_process_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="--processes 0"):
        line_of(tmp_path, 1).run(processes=0)


# What else must not grow with the dataset


def test_billed_calls_are_known_before_and_while_a_run_goes_on(tmp_path: Path) -> None:
    line = line_of(tmp_path, 3)
    billed_before = Billed(Dataset.create(line.path))
    line.run()
    calls = line.ds.calls.filter(~pl.col("cached") & pl.col("error").is_null()).collect()["call_id"].to_list()
    assert calls
    for billed in (billed_before, Billed(line.ds)):
        assert all(billed.states(call) for call in calls)
        assert not billed.states("0" * 32)


def test_a_plan_computes_one_piece_after_the_last_question(
    three_shards: Line, tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = copied(three_shards, tmp_path)
    line.edit("pair", min_gap=0.2)
    committed: list[str] = []
    real = Dataset.commit

    def commit(ds: Dataset, rows: Any, message: str, **options: Any) -> int:
        committed.append(message)
        return real(ds, rows, message, **options)

    monkeypatch.setattr(Dataset, "commit", commit)
    text = json.dumps({"engines": line.engines, "steps": line.steps})
    made = plan(parse(text, file="line.yaml", folder=line.folder, name="line"), line.path)
    assert made.calls == 0
    assert len([message for message in committed if message.startswith("pair: ")]) == 1
    committed.clear()
    line.run()
    assert len([message for message in committed if message.startswith("pair: ")]) > 3
