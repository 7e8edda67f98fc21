"""The log: atomic commits, two writers and a reader at once, and what a crash leaves behind."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from prefdata.dataset import Dataset
from prefdata.dataset.log import Log, Plan, StepRecord
from prefdata.errors import DataError
from prefdata.schema import message, prompt, response

COMMITS = 40


def write(path: str, writer: str) -> None:
    ds = Dataset(path)
    record = StepRecord(f"import:{writer}@1", writer, "import")
    for n in range(COMMITS):
        asked = {**prompt([message("user", f"{writer} {n}")]), "step": record.step}
        answer = {**response(asked, model="m", text="x", key=n), "step": record.step}
        ds.commit({"prompts": [asked], "responses": [answer]}, f"{writer} {n}", steps=[record])


def test_two_writers_and_a_reader(tmp_path: Path) -> None:
    ds = Dataset.create(tmp_path / "ds")
    spawn = multiprocessing.get_context("spawn")  # a fork after polars has started would deadlock
    writers = [spawn.Process(target=write, args=(str(ds.path), name)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        view = ds.view()
        prompts, responses = view["prompts"].collect(), view["responses"].collect()
        assert prompts.height == responses.height == view.snapshot.number >= seen
        seen = view.snapshot.number
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert ds.snapshot.number == 2 * COMMITS
    assert ds.counts()["prompts"] == 2 * COMMITS
    assert not [path for path in (ds.path / "log").iterdir() if path.suffix != ".json"]


def test_a_writer_that_loses_the_race_takes_the_next_number(tmp_path: Path) -> None:
    ours, theirs = Log(tmp_path / "log"), Log(tmp_path / "log")
    assert ours.append("first") == 1
    theirs.snapshot()
    assert ours.append("second") == 2
    assert theirs.append("third") == 3
    assert [commit.message for commit in ours.snapshot().commits] == ["first", "second", "third"]


def test_a_part_without_a_commit_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = Dataset.create(tmp_path / "ds")
    asked = {**prompt([message("user", "x")]), "step": "import:a@1"}
    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", lambda *_, **__: 1 / 0)  # the machine stops between the part and the log
        with pytest.raises(ZeroDivisionError):
            ds.commit({"prompts": [asked]}, "never")
    assert list((ds.path / "parts" / "prompts").glob("*.parquet"))
    assert ds.snapshot.number == 0 and ds.counts()["prompts"] == 0


def test_a_damaged_commit_is_named(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.append("first")
    (tmp_path / "log" / "00000001.json").write_text("{")
    with pytest.raises(DataError, match=r"00000001\.json is not a commit"):
        Log(tmp_path / "log").snapshot()


def test_what_a_plan_says_comes_back(tmp_path: Path) -> None:
    plan = Plan("line", ("a@1", "b@2"), reads=("other",), source="steps: []")
    Log(tmp_path / "log").append("plan", steps=(StepRecord("a@1", "a", "sample", fields={"n": 3}),), plan=plan)
    snapshot = Log(tmp_path / "log").snapshot()
    assert snapshot.plans == {("line", 0): plan}
    assert snapshot.steps["a@1"].fields == {"n": 3}
    assert snapshot.named(["line/b"]) == {"b@2"}
    with pytest.raises(DataError, match="no live step is called 'c'"):
        snapshot.named(["c"])


def test_fields_of_a_later_version_are_left_alone(tmp_path: Path) -> None:
    """Additions within a schema version must not break older readers of the log's JSON."""
    log = Log(tmp_path / "log")
    log.append("first")
    path = tmp_path / "log" / "00000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "note": "new"}))
    assert Log(tmp_path / "log").snapshot().number == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"replaces": ["../victim.txt"]},
        {"replaces": ["/etc/hostname"]},
        {"replaces": ["prefdata.json"]},
        {"parts": [{"table": "prompts", "path": "../other/parts/prompts/a.parquet", "rows": 1, "steps": []}]},
        {"parts": [{"table": "prompts", "path": "parts/prompts/../../../a.parquet", "rows": 1, "steps": []}]},
        {"parts": [{"table": "prompts", "path": "parts/responses/a.parquet", "rows": 1, "steps": []}]},
        {"parts": [{"table": "prompts", "path": "parts/prompts/a.parquet", "rows": 1}]},
        {"schema": "9"},
        {"time": "nonsense"},
        {"time": "2026-01-01T00:00:00"},
        {"plan": {"pipeline": "p"}},
    ],
)
def test_a_strangers_entry_reaches_no_file_but_its_own(tmp_path: Path, entry: dict[str, object]) -> None:
    """Neither to read nor to remove: compact unlinks what was replaced, and repair moves what is damaged."""
    ds = Dataset.create(tmp_path / "ds")
    said = {"schema": 1, "time": "2026-01-01T00:00:00+00:00", "message": "x", **entry}
    (ds.path / "log" / "00000001.json").write_text(json.dumps(said))
    with pytest.raises(DataError, match=r"00000001\.json is not a commit: .* The log is damaged"):
        Dataset(ds.path)
