"""`prefdata erase` reaches the label store: rows, files, and what would come back."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from labelled import person, project, service, submit
from sqlalchemy import select
from typer.testing import CliRunner

from prefdata.cli.app import app
from prefdata.errors import DataError
from prefdata.ui.service import Service
from prefdata.ui.store import Store
from prefdata.ui.store.tables import labels, people, tasks, work


def erase(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["erase", str(folder), *arguments, "--yes"])
    assert done.exit_code == 0, done.output
    return done.output


def held(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("labels.sqlite*"))


def labelled(folder: Path) -> tuple[str, str]:
    """Two people who both edited the same response; their annotator names."""
    made = service(folder, prompts=1, responses=1)
    who = [person(made) for _ in range(2)]
    at = project(made, *who, protocol="edit", overlap=2, rationale="optional")
    for one in who:
        task = made.next(one, at)["task"]
        said = {"target": 0, "text": f"written by {one.pseudonym} alone", "rationale": f"thought by {one.pseudonym}"}
        submit(made, one, task, "k1", said)
    made.pull()
    made.close()
    return f"human:{who[0].pseudonym}", f"human:{who[1].pseudonym}"


def test_a_person_goes_whole(tmp_path: Path) -> None:
    first, second = labelled(tmp_path)
    name = first.removeprefix("human:").encode()
    assert b"written by " + name in held(tmp_path) and name in held(tmp_path)
    assert "1 labels erased" in erase(tmp_path, "--annotator", first)
    assert name not in held(tmp_path)
    again = Service.open(tmp_path)
    again.pull()
    said = again.dataset.annotations.filter(pl.col("source") == "human").collect()
    assert said["annotator"].to_list() == [second]
    texts = again.dataset.responses.collect()["text"].to_list()
    assert not any(f"written by {name.decode()}" in text for text in texts)
    assert any("written by" in text for text in texts)
    with again.store.read() as db:
        assert db.execute(select(tasks.c.free)).scalars().all() == [1]  # somebody else may label it now
        assert len(db.execute(select(people)).all()) == 1


def test_the_tasks_of_an_erased_prompt_go(tmp_path: Path) -> None:
    made = service(tmp_path, prompts=2)
    who = person(made)
    at = project(made, who, rationale="optional")
    task = made.next(who, at)["task"]
    submit(made, who, task, "k1", {"choice": 1, "rationale": "a secret thought"})
    with made.store.read() as db:
        prompt = db.execute(select(tasks.c.prompt_id).where(tasks.c.task_id == task["id"])).scalar_one()
    made.close()
    assert b"a secret thought" in held(tmp_path)
    erase(tmp_path, "--prompt", prompt)
    assert b"a secret thought" not in held(tmp_path) and prompt.encode() not in held(tmp_path)
    with Store.open(tmp_path).read() as db:
        assert len(db.execute(select(tasks)).all()) == 1
        assert db.execute(select(labels)).all() == db.execute(select(work)).all() == []


def test_labels_kept_elsewhere_are_not_forgotten(tmp_path: Path) -> None:
    service(tmp_path / "data").close()
    (tmp_path / "data" / "labels.sqlite").unlink()
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    Store.open(tmp_path / "data", elsewhere).close()
    with pytest.raises(DataError, match="--store"):
        Store.open(tmp_path / "data")
    done = CliRunner().invoke(app, ["erase", str(tmp_path / "data"), "--prompt", "0" * 32, "--yes"])
    assert isinstance(done.exception, DataError)
