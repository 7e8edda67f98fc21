"""Whatever is wrong, one sentence says where and what to do, and nothing that was made is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import prefdata
from prefdata.dataset import log as log_module
from prefdata.dataset import parts as parts_module

Command = Callable[..., Any]
STEPS: list[Any] = [
    {"ingest": {"path": "prompts.jsonl"}},
    {"sample": {"engine": "writer", "n": 2}},
    {"judge.compare": {"engine": "judge"}},
    {"pair": {}},
]
ENGINES: dict[str, Any] = {"writer": {"kind": "scripted", "model": "w"}, "judge": {"kind": "scripted", "model": "j"}}


def write(folder: Path, steps: list[Any] = STEPS, **engines: Any) -> None:
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Why {n}?"}) + "\n" for n in range(4)))
    (folder / "mine.yaml").write_text(yaml.safe_dump({"engines": {**ENGINES, **engines}, "steps": steps}))


@pytest.fixture
def made(command: Command, tmp_path: Path) -> Path:
    write(tmp_path)
    assert command("run", "mine.yaml").code == 0
    return tmp_path / "runs" / "mine"


def sentence(said: Any, code: int = 1) -> str:
    """What was said, if it is no traceback."""
    assert said.code == code
    assert "Traceback" not in said.err and "Error:" not in said.err
    return " ".join(said.err.split())


def test_an_unknown_step(command: Command, tmp_path: Path) -> None:
    write(tmp_path, [*STEPS[:2], {"judge.compar": {"engine": "judge"}}])
    said = sentence(command("run", "mine.yaml"))
    assert "mine.yaml, line" in said and "'judge.compar'" in said and "'judge.compare'?" in said
    assert not (tmp_path / "runs").exists()


def test_a_dataset_that_is_a_file_or_cannot_be_made(command: Command, tmp_path: Path) -> None:
    write(tmp_path)
    said = sentence(command("run", "mine.yaml", "--dataset", "prompts.jsonl"))
    assert "prompts.jsonl is a file; a dataset is a folder" in said
    said = sentence(command("run", "mine.yaml", "--dataset", "prompts.jsonl/below"))
    assert "cannot be made" in said


def test_a_model_folder_that_is_not_there(command: Command, tmp_path: Path) -> None:
    write(tmp_path, writer={"kind": "transformers", "model": "./nowhere"})
    said = sentence(command("run", "mine.yaml"))
    assert "./nowhere" in said and "no folder" in said


def test_an_environment_variable_that_is_not_set(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_URL", raising=False)
    write(tmp_path, judge={"kind": "openai", "model": "m", "base_url": "${JUDGE_URL}"})
    said = sentence(command("run", "mine.yaml"))
    assert "mine.yaml, line" in said and "JUDGE_URL is not set" in said


def test_a_key_that_is_not_set(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made before the judge's turn is kept."""
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    judge = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "JUDGE_KEY"}
    write(tmp_path, judge=judge)
    said = sentence(command("run", "mine.yaml"), 3)
    assert "JUDGE_KEY" in said and "judge" in said
    assert prefdata.open("runs/mine").responses.collect().height == 8


@pytest.mark.slow
def test_a_dead_server(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, judge={"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"})
    said = sentence(command("run", "mine.yaml"), 3)
    assert "127.0.0.1:9" in said and "run" in said
    assert prefdata.open("runs/mine").responses.collect().height == 8


def test_a_card_without_a_scale(command: Command, tmp_path: Path) -> None:
    card = {"name": "mine", "instructions": "Judge.", "aspects": [{"name": "overall", "text": "Is it right?"}]}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
    write(tmp_path, [*STEPS[:2], {"judge.score": {"engine": "judge", "card": "./card.yaml"}}])
    said = sentence(command("run", "mine.yaml"))
    assert "mine.yaml, line" in said and "card.yaml" in said and "'overall'" in said and "scale: {" in said
    write(tmp_path, [*STEPS[:2], {"judge.compare": {"engine": "judge", "card": "./card.yaml"}}])
    assert command("run", "mine.yaml").code == 0  # who only compares needs none


def test_a_dataset_of_a_newer_version(command: Command, made: Path) -> None:
    marker = json.loads((made / "prefdata.json").read_text())
    (made / "prefdata.json").write_text(json.dumps({**marker, "schema": 99}))
    for arguments in (("show", made), ("run", "mine.yaml"), ("report", made)):
        said = sentence(command(*arguments))
        assert "version 99" in said and "upgrade prefdata" in said


def part_of(dataset: Path, table: str) -> Path:
    return sorted((dataset / "parts" / table).glob("*.parquet"))[0]


@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_a_part_that_was_damaged(command: Command, made: Path, damage: str) -> None:
    part = part_of(made, "responses")
    whole = part.read_bytes()
    if damage == "truncated":
        part.write_bytes(whole[: len(whole) // 2])
    else:
        part.unlink()
    parts_module._seen.clear()  # as in a new process
    for arguments in (("show", made), ("run", "mine.yaml"), ("sql", made, "select * from responses")):
        said = sentence(command(*arguments))
        assert part.name in said and "8 rows of responses" in said and "prefdata verify" in said
    part.write_bytes(whole)
    assert command("show", made).code == 0


def test_a_part_with_other_bytes(command: Command, made: Path) -> None:
    part = part_of(made, "responses")
    content = bytearray(part.read_bytes())
    content[10:200] = bytes(190)
    part.write_bytes(content)
    said = sentence(command("sql", made, "select text from responses"))
    assert "prefdata verify" in said


class FullDisk:
    """Lets so many bytes through, and then fails as a full disk does."""

    def __init__(self, room: int) -> None:
        self.room = room

    def fsync(self, descriptor: int) -> None:
        self.room -= os.fstat(descriptor).st_size
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("room", [0, 1_000, 6_000, 20_000, 40_000])
def test_a_disk_that_fills(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    write(tmp_path)
    with monkeypatch.context() as patch:
        disk = FullDisk(room)
        patch.setattr(log_module.os, "fsync", disk.fsync)
        said = sentence(command("run", "mine.yaml"))
        assert "No space left" in said and "run the same command again" in said
    assert not list((tmp_path / "runs").rglob("parts/**/.*.tmp"))
    assert command("run", "mine.yaml").code == 0
    assert command("run", "mine.yaml", "--dataset", "fresh").code == 0
    assert ids("runs/mine") == ids("fresh")


def ids(dataset: str) -> list[set[str]]:
    view = prefdata.open(dataset).view()
    keys = {"prompts": "prompt_id", "responses": "response_id", "annotations": "annotation_id"}
    found = [set(view[table].collect()[key]) for table, key in {**keys, "preferences": "preference_id"}.items()]
    assert all(found)
    return found


SLOW = """
import sys
from prefdata.cli import main
sys.argv = ["prefdata", "run", "mine.yaml"]
main()
"""


def test_two_runs_of_one_pipeline(command: Command, tmp_path: Path) -> None:
    """The second is told; a variant beside it is let in; and one that was killed keeps nobody out."""
    write(tmp_path, judge={"kind": "scripted", "model": "j", "latency": 30.0})
    first = subprocess.Popen([sys.executable, "-c", SLOW], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        lease = tmp_path / "runs" / "mine" / "running" / "mine.json"
        deadline = time.monotonic() + 60
        while not lease.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        said = sentence(command("run", "mine.yaml"))
        assert "running on runs/mine already" in said and str(first.pid) in said and "--as" in said
        quick = ["--set", "sample.n=1", "--as", "variant", "--dataset", "runs/mine"]
        assert command("run", "mine.yaml", *quick).code == 0
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    write(tmp_path)
    assert command("run", "mine.yaml").code == 0 and not lease.exists()


def test_the_other_files_are_left_alone(command: Command, made: Path, tmp_path: Path) -> None:
    """A dataset is not made where something else lies."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    assert "not empty" in sentence(command("run", "mine.yaml", "--dataset", "other"))
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]
    shutil.rmtree(made / "parts")
    parts_module._seen.clear()
    assert "is gone" in sentence(command("show", made))
