"""compact, erase and verify as a shell calls them: what they say, what they ask, and their exit codes."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import prefdata

Command = Callable[..., Any]
STEPS: list[Any] = [
    {"ingest": {"path": "prompts.jsonl"}},
    {"sample": {"engine": "writer", "n": 2}},
    {"judge.compare": {"engine": "judge"}},
    {"pair": {"rule": "best_worst"}},
    {"export": {"format": "trl-pairs", "path": "pairs.parquet"}},
]
ENGINES = {"writer": {"kind": "scripted", "model": "w"}, "judge": {"kind": "scripted", "model": "j"}}


@pytest.fixture
def made(command: Command, tmp_path: Path) -> Path:
    """A dataset of two users' prompts, filled by three runs."""
    rows = [{"prompt": f"Question {n} of {user}?", "user_id": user} for user in ("anna", "ben") for n in range(2)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"engines": ENGINES, "steps": STEPS}, sort_keys=False))
    for limit in (1, 2, 4):
        assert command("run", "mine.yaml", "--limit", limit).code == 0
    return tmp_path / "runs" / "mine"


def test_compact_says_what_it_did_and_then_that_nothing_is_left(command: Command, made: Path) -> None:
    first = command("compact", "runs/mine")
    assert first.code == 0
    assert any(line.startswith("responses: 3 parts (") and ") to 1 part (" in line for line in first.out.splitlines())
    assert "stay for their readers until" in first.out
    second = command("compact", "runs/mine", "--now")
    assert second.out.splitlines()[0] == "runs/mine is compact" and "replaced files removed" in second.out
    assert command("compact", "runs/mine").out == "runs/mine is compact\n"
    again = command("run", "mine.yaml")
    assert "sample: up to date" in again.err and "pair: up to date" in again.err


def test_erase_asks_and_does_nothing_unless_it_is_told_to(
    command: Command, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prefdata.open(made).snapshot.number
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    said = command("erase", "runs/mine", "--user", "anna")
    assert said.code == 1 and "nothing was erased" in said.err
    for words in ("at every commit, and cannot be brought back", "2 prompts, 4 responses", "exports", "not reached"):
        assert words in said.err
    assert prefdata.open(made).snapshot.number == before and (made / "exports/pairs.parquet").exists()


def test_erase_and_run_again(command: Command, made: Path) -> None:
    said = command("erase", "runs/mine", "--user", "anna", "--yes")
    assert said.code == 0 and said.out.startswith("erased: ") and "2 prompts, 4 responses" in said.out
    assert "8 answers in the request cache forgotten" in said.out and not (made / "exports").exists()
    again = command("run", "mine.yaml")
    assert again.code == 0 and prefdata.open(made).prompts.collect()["user_id"].to_list() == ["ben", "ben"]
    assert "calls" not in again.err
    gone = command("erase", "runs/mine", "--user", "anna", "--yes")
    assert gone.code == 1 and "has no prompt of a user 'anna'" in gone.err and "Traceback" not in gone.err
    near = command("erase", "runs/mine", "--user", "bem", "--yes")
    assert "did you mean 'ben'?" in near.err
    prompt_id = prefdata.open(made).prompts.collect()["prompt_id"][0]
    assert command("erase", "runs/mine", "--prompt", prompt_id, "--yes").code == 0
    assert command("run", "mine.yaml").code == 0
    judge = prefdata.open(made).annotations.collect()["annotator"][0]
    assert command("erase", "runs/mine", "--annotator", judge, "--yes").code == 0
    assert command("verify", "runs/mine").code == 0
    counts = prefdata.open(made).counts()
    assert (counts["prompts"], counts["annotations"]) == (1, 0)


def test_erase_needs_one_target(command: Command, made: Path) -> None:
    for arguments in ((), ("--user", "anna", "--prompt", "x")):
        said = command("erase", "runs/mine", *arguments)
        assert said.code == 2 and "one of --user, --annotator, --prompt" in said.err


def test_verify(command: Command, made: Path) -> None:
    sound = command("verify", "runs/mine")
    assert sound.code == 0 and sound.out.startswith("runs/mine is sound: ")
    part = next((made / "parts/responses").glob("*.parquet"))
    content = part.read_bytes()
    part.write_bytes(content[:100])
    broken = command("verify", "runs/mine")
    assert broken.code == 1 and f"wrong: parts/responses/{part.name} has 100 bytes" in broken.out
    assert broken.out.splitlines()[-1].startswith("runs/mine is not sound")
    asked = command("sql", "runs/mine", "select count(*) from responses")
    assert asked.code == 1 and "prefdata verify" in asked.err
    repaired = command("verify", "runs/mine", "--repair")
    assert "and are lost" in repaired.out and "The next run makes those of steps again" in repaired.out
    assert command("run", "mine.yaml").code == 0
    assert command("verify", "runs/mine").code == 0
    assert (made / "lost+found/parts/responses" / part.name).stat().st_size == 100


@pytest.mark.parametrize(
    "arguments", [("compact",), ("erase", "--user", "anna", "--yes"), ("verify", "--repair")], ids=lambda one: one[0]
)
def test_a_folder_that_cannot_be_written_to_is_a_sentence(
    command: Command, made: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "runs/mine/running/.x.tmp")

    monkeypatch.setattr("prefdata.dataset.lease.write_synced", refuse)
    said = command(arguments[0], "runs/mine", *arguments[1:])
    assert said.code == 1 and "Traceback" not in said.err and "Errno" not in said.err
    assert "runs/mine cannot be written to (" in " ".join(said.err.split())


def test_erase_announces_the_answers_of_responses_too(
    command: Command, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    said = " ".join(command("erase", "runs/mine", "--user", "anna").err.split())
    assert "the answers of 8 calls, those that sampled responses included" in said
    assert "that other datasets asked for about the same prompts" in said
