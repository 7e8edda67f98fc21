"""Labels become annotations: each once, corrections as revisions, what was taken back hidden."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from labelled import answer, person, project, service, submit
from sqlalchemy import update

import prefdata
from prefdata.errors import DataError
from prefdata.ui.answers.pull import Pull, Pulled
from prefdata.ui.store.tables import labels


def said(made: Any) -> list[dict[str, Any]]:
    rows = made.dataset.annotations.filter(pl.col("source") == "human").sort(
        "annotator", "prompt_id", "protocol", "aspect", "annotation_id"
    )
    found: list[dict[str, Any]] = rows.collect().to_dicts()
    return found


def label_all(made: Any, who: Any, at: int, choice: int = 0) -> list[dict[str, Any]]:
    done = []
    while (turn := made.next(who, at))["state"] == "task":
        submit(made, who, turn["task"], f"k{turn['task']['id']}", answer(turn["task"], choice))
        done.append(turn["task"])
    return done


PROTOCOLS = ["compare", "rank", "rate", "best", "thumbs", "first_error", "spans", "edit"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pulling_twice_adds_nothing(tmp_path: Path, protocol: str) -> None:
    made = service(tmp_path)
    who = person(made)
    at = project(made, who, protocol=protocol)
    label_all(made, who, at)
    assert made.pull().annotations > 0
    commit, rows = made.dataset.snapshot.number, said(made)
    assert made.pull().labels == 0
    with made.store.write() as db:  # as if a pull had died between its commit and its mark
        db.execute(update(labels).values(pulled=False))
    assert made.pull().labels > 0
    assert said(made) == rows and made.dataset.snapshot.number == commit


def test_a_correction_is_a_higher_revision_and_history_stays(tmp_path: Path) -> None:
    made = service(tmp_path, prompts=1)
    who = person(made)
    at = project(made, who)
    label_all(made, who, at, 0)
    made.pull()
    before = made.dataset.snapshot.number
    opened = made.undo(who, at)["task"]
    assert opened["answer"] == {"choice": -1} and opened["revision"] == 1
    assert submit(made, who, opened, "k-again", {"choice": 1})["revision"] == 2
    made.pull()
    (row,) = said(made)
    assert row["revision"] == 2 and row["scores"] == [0.0, 1.0]
    (old,) = prefdata.open(tmp_path, at=before).annotations.collect().to_dicts()
    assert old["annotation_id"] == row["annotation_id"] and old["scores"] == [1.0, 0.0]


def test_a_partial_ranking_that_is_made_whole_leaves_nothing_behind(tmp_path: Path) -> None:
    made = service(tmp_path, prompts=1, responses=3)
    who = person(made)
    at = project(made, who, protocol="rank", top=1)
    task = made.next(who, at)["task"]
    submit(made, who, task, "k1", {"ranks": [1, None, None]})
    made.pull()
    assert {row["protocol"] for row in said(made)} == {"rank", "choose"}
    submit(made, who, task, "k2", {"ranks": [1, 2, 3]})
    assert made.pull().withdrawn == 1
    assert [row["protocol"] for row in said(made)] == ["rank"]


def test_an_edit_that_is_edited_again_leaves_one_response(tmp_path: Path) -> None:
    made = service(tmp_path, prompts=1, responses=1)
    who = person(made)
    at = project(made, who, protocol="edit")
    task = made.next(who, at)["task"]
    for key in ("first try", "second try"):
        submit(made, who, task, key.replace(" ", "-"), {"target": 0, "text": key})
        made.pull()
    written = made.dataset.responses.filter(pl.col("parent_id").is_not_null()).collect().to_dicts()
    assert [row["text"] for row in written] == ["second try"]
    (row,) = said(made)
    assert dict(zip(row["target_ids"], row["scores"], strict=True)) == {
        written[0]["response_id"]: 1.0,
        written[0]["parent_id"]: 0.0,
    }
    # What a person wrote is not given to others to label.
    assert made.projects.create({"name": "later", "protocol": "thumbs"})[1] == 1


def test_an_edit_that_is_set_back_is_seen_again(tmp_path: Path) -> None:
    made = service(tmp_path, prompts=1, responses=1)
    who = person(made)
    at = project(made, who, protocol="edit")
    task = made.next(who, at)["task"]
    for key, text in (("k1", "one"), ("k2", "other"), ("k3", "one")):
        submit(made, who, task, key, {"target": 0, "text": text})
        made.pull()
    written = made.dataset.responses.filter(pl.col("parent_id").is_not_null()).collect()
    assert written["text"].to_list() == ["one"] and len(said(made)) == 1
    commit = made.dataset.snapshot.number
    made.pull()
    assert made.dataset.snapshot.number == commit


def test_a_skip_is_a_row_without_a_score(tmp_path: Path) -> None:
    made = service(tmp_path, prompts=1)
    who = person(made)
    at = project(made, who, protocol="rate")
    task = made.next(who, at)["task"]
    made.labels.skip(who, task["id"], "k1", "not my field", 3.0)
    made.pull()
    rows = said(made)
    assert [(row["status"], row["scores"], row["text"]) for row in rows] == [("skipped", None, "not my field")] * len(
        rows
    )
    submit(made, who, task, "k2")  # they changed their mind
    made.pull()
    assert {(row["status"], row["revision"]) for row in said(made)} == {("ok", 2)}


BAD = {"spans": [{"target": 0, "start": False, "end": True, "label": "wrong"}]}


def one_bad_of(tmp_path: Path, count: int) -> tuple[Any, Any, int]:
    """Labels of which the one on the first prompt should never have been stored."""
    made = service(tmp_path, prompts=count)
    who = person(made)
    at = project(made, who, protocol="spans")
    bad = label_all(made, who, at)[0]["id"]
    with made.store.write() as db:
        db.execute(update(labels).where(labels.c.task_id == bad).values(answer=BAD))
    return made, who, bad


def test_a_label_that_cannot_be_committed_stands_aside_until_the_next_start(tmp_path: Path) -> None:
    made, who, bad = one_bad_of(tmp_path, 5)
    done = made.pull()
    assert (done.labels, made.pull.waiting(), len(done.aside)) == (4, 1, 1)
    assert done.aside[0] == made.pull.failed and f"(task {bad}, person {who.person_id})" in done.aside[0]
    assert len({row["prompt_id"] for row in said(made)}) == 4
    assert made.pull() == Pulled() and made.pull.failed == done.aside[0]  # it is not tried all the time
    again = Pull(made.dataset, made.store, made.texts)
    assert len(again().aside) == 1 and again.waiting() == 1
    task = made.task(who, bad)["task"]
    submit(made, who, task, "better", {"spans": []})
    assert made.pull().labels == 2 and made.pull.waiting() == 0 and made.pull.failed == ""


def test_a_label_whose_text_is_gone_stands_aside_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = service(tmp_path, prompts=3)
    who = person(made)
    gone = label_all(made, who, project(made, who))[1]["id"]
    history = made.pull._history

    def erased(db: Any, task: int, person: int) -> Any:
        if task == gone:
            raise DataError("there is no such response")
        return history(db, task, person)

    monkeypatch.setattr(made.pull, "_history", erased)
    assert made.pull().labels == 2 and "no such response" in made.pull.failed


def test_where_nothing_can_be_committed_no_label_is_to_blame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = service(tmp_path)
    who = person(made)
    label_all(made, who, project(made, who))

    def broken(*given: Any, **more: Any) -> None:
        raise DataError("the dataset is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(made.dataset, "label", broken)
        with pytest.raises(DataError, match="damaged"):
            made.pull()
    assert made.pull().labels == 3 and made.pull.failed == ""


def test_labels_reach_pairs_and_an_export(tmp_path: Path) -> None:
    made = service(tmp_path, prompts=4)
    who = person(made)
    at = project(made, who)
    label_all(made, who, at, 0)
    made.pull()
    written = prefdata.export(tmp_path, tmp_path / "pairs.parquet", format="trl-pairs")
    assert written.rows == 4
    chosen = set(pl.read_parquet(tmp_path / "pairs.parquet")["chosen"])
    assert len(chosen) == 4


def test_the_recipe_makes_one_pair_of_what_people_disagree_on(tmp_path: Path) -> None:
    made = service(tmp_path, prompts=4)
    who = [person(made) for _ in range(3)]
    at = project(made, *who, overlap=3, order="fixed")
    for one, choice in zip(who, (0, 0, 1), strict=True):
        label_all(made, one, at, choice)
    made.pull()
    prefdata.run("people", tmp_path)
    pairs = pl.read_parquet(tmp_path / "exports" / "pairs.parquet")
    assert pairs.height == 4
    winners = {answer["content"] for row in pairs["chosen"].to_list() for answer in row}
    assert winners == {f"answer {n}/0\nsecond line" for n in range(4)}


@pytest.mark.slow
def test_a_run_that_is_going_on_is_not_disturbed(tmp_path: Path) -> None:
    """Labels are pulled while a pipeline runs: both end well, and the next run follows what was said."""
    slow = tmp_path / "slow.yaml"
    slow.write_text(
        "engines:\n  m: {kind: scripted, latency: 0.05, max_concurrency: 2}\n"
        "steps:\n  - sample: {engine: m, n: 3}\n  - judge.compare: {engine: m, card: helpfulness}\n"
        "  - aggregate.bradley_terry: {}\n  - pair: {rule: best_worst}\n",
        encoding="utf-8",
    )
    folder = tmp_path / "data"
    made = service(folder, prompts=6)
    who = person(made)
    at = project(made, who)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            prefdata.run(slow, folder)
        except BaseException as error:
            failures.append(error)

    working = threading.Thread(target=run)
    working.start()
    while (turn := made.next(who, at))["state"] == "task":
        submit(made, who, turn["task"], f"k{turn['task']['id']}", answer(turn["task"], 0))
        made.pull()
    during = working.is_alive()
    working.join(timeout=120)
    assert during and not working.is_alive() and failures == []
    assert len(said(made)) == 6
    prefdata.run(slow, folder)
    consensus = prefdata.open(folder).annotations.filter(pl.col("source") == "consensus").collect()
    assert consensus.height == 6
