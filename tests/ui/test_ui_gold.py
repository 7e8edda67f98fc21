"""Gold questions, qualification and warnings: from a file, hidden among the rest, never in the dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from labelled import person, project, service, submit
from sqlalchemy import select

from prefdata.errors import DataError
from prefdata.ui.store.tables import labels, tasks
from prefdata.ui.work.gold import gold_answer, is_right
from prefdata.ui.work.project import project_of


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def questions(path: Path, count: int, **more: Any) -> str:
    """Gold questions whose first response, `right N`, is better."""
    rows = [
        {"prompt": f"gold {n}", "responses": [f"right {n}", f"wrong {n}"], "gold": {"choice": -1}, **more}
        for n in range(count)
    ]
    return write(path, rows)


def right(task: dict[str, Any]) -> dict[str, Any]:
    return {"choice": -1 if task["targets"][0]["plain"].startswith("right") else 1}


def wrong(task: dict[str, Any]) -> dict[str, Any]:
    return {"choice": -right(task)["choice"]}


def is_gold(task: dict[str, Any]) -> bool:
    return bool(task["prompt"]["turns"][0]["plain"].startswith("gold"))


def test_qualification_comes_first_with_feedback_and_lets_in_who_passes(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=2)
    gold = questions(tmp_path / "gold.jsonl", 3, explanation="*Right* is right.")
    able, careless = person(made), person(made)
    at = project(made, able, careless, gold=gold, qualify=2, pass_mark=1, gold_share=0, overlap=2)
    for n in range(2):
        task = made.next(able, at)["task"]
        assert is_gold(task) and task["progress"]["qualifying"] == {"n": n, "of": 2}
        feedback = submit(made, able, task, f"a{n}", right(task))["feedback"]
        assert feedback["right"] and "<em>Right</em>" in feedback["html"]
    task = made.next(able, at)["task"]
    assert not is_gold(task) and task["progress"]["qualifying"] is None
    assert submit(made, able, task, "a9", {"choice": 1})["feedback"] is None
    for n in range(2):
        task = made.next(careless, at)["task"]
        assert not submit(made, careless, task, f"c{n}", wrong(task))["feedback"]["right"]
    assert made.next(careless, at)["state"] == "unqualified"
    # To correct the answers after the feedback does not help.
    undone = made.undo(careless, at)["task"]
    submit(made, careless, undone, "c9", right(undone))
    assert made.next(careless, at)["state"] == "unqualified"
    lead = person(made, "admin")
    assert [(row[1:]) for row in made.queue.standing(at)] == [
        (able.pseudonym, 2, 2, 2, True, False),
        (careless.pseudonym, 0, 2, 2, False, False),
    ]
    made.queue.let_on(lead, at, careless.person_id)
    assert not is_gold(made.next(careless, at)["task"])


@pytest.mark.parametrize("way", ["skip", "ask", "flag"])
def test_nobody_gets_past_the_questions_by_leaving_them_out(tmp_path: Path, way: str) -> None:
    made = service(tmp_path / "data", prompts=2)
    who = person(made)
    at = project(made, who, gold=questions(tmp_path / "gold.jsonl", 3), qualify=2, gold_share=0)
    for n in range(3):
        task = made.next(who, at)["task"]
        assert is_gold(task)
        if way == "skip":
            made.labels.skip(who, task["id"], f"s{n}", "unclear", 1.0)
        else:
            getattr(made.labels, way)(who, task["id"], "what?")
    assert made.next(who, at)["state"] == "unqualified"


def test_a_gold_answer_is_put_right(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=1)
    gold = questions(tmp_path / "gold.jsonl", 2)
    project(made, gold=gold)
    rows = [json.loads(line) for line in Path(gold).read_text().splitlines()]
    write(Path(gold), [{**row, "gold": {"choice": 1}} for row in rows])
    made.projects.create({"name": "p", "gold": gold})
    with made.store.read() as db:
        held = db.execute(select(tasks.c.gold).where(tasks.c.state == "gold")).scalars().all()
    assert [one["answer"] for one in held] == [{"choice": 1}] * 2


def test_gold_is_mixed_in_at_its_share_and_cannot_be_told_apart(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=60)
    who = person(made)
    at = project(made, who, gold=questions(tmp_path / "gold.jsonl", 40), gold_share=0.3)
    seen = []
    while (turn := made.next(who, at))["state"] == "task" and len(seen) < 60:
        seen.append(turn["task"])
        submit(made, who, turn["task"], f"k{turn['task']['id']}", {"choice": 1})
    share = sum(map(is_gold, seen)) / len(seen)
    assert 0.15 < share < 0.45
    shapes = {is_gold(task): (set(task), set(task["options"]), task["warning"]) for task in seen}
    assert shapes[True] == shapes[False] and "gold" not in json.dumps([task["options"] for task in seen])


def test_gold_answers_are_not_in_the_dataset_and_their_labels_say_so(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=1)
    gold = questions(tmp_path / "gold.jsonl", 1, explanation="a secret explanation")
    who = person(made)
    at = project(made, who, gold=gold, qualify=1)
    task = made.next(who, at)["task"]
    submit(made, who, task, "k1", right(task))
    made.pull()
    written = made.dataset.rows("annotations").collect().to_dicts()
    parts = b"".join(path.read_bytes() for path in (tmp_path / "data" / "parts").rglob("*.parquet"))
    assert b"a secret explanation" not in parts
    assert [json.loads(row["meta"])["gold"] for row in written] == [True]
    # The label is kept, and no pipeline, export or agreement sees the question.
    assert made.dataset.annotations.collect().is_empty()
    assert made.dataset.prompts.collect().height == 1
    assert made.dataset.drops.collect()["reason"].to_list() == ["gold question"]
    # Gold questions are nobody's ordinary task, in no project.
    assert made.projects.create({"name": "other", "protocol": "thumbs"})[1] == 1


def test_a_prompt_has_its_own_warning(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=1)
    path = write(
        tmp_path / "tasks.jsonl",
        [
            {"prompt": "one", "responses": ["a", "b"], "warning": "contains violence"},
            {"prompt": "two", "responses": ["a", "b"]},
        ],
    )
    told = made.projects.upload(Path(path))
    assert "new are 2 prompts and 4 responses" in told
    who = person(made)
    at = project(made, who, file="tasks.jsonl", warning="this set may be unpleasant", order="fixed")
    found = {}
    while (turn := made.next(who, at))["state"] == "task":
        found[turn["task"]["prompt"]["turns"][0]["plain"]] = turn["task"]["warning"]
        submit(made, who, turn["task"], f"k{turn['task']['id']}", {"choice": 1})
    # Only the prompts of the file, in its order.
    assert list(found.items()) == [("one", "contains violence"), ("two", "this set may be unpleasant")]


def test_what_is_wrong_with_a_gold_file_is_said(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=1)
    without = write(tmp_path / "a.jsonl", [{"prompt": "q", "responses": ["a", "b"]}])
    with pytest.raises(DataError, match="has no `gold`"):
        project(made, gold=without)
    for bad in ({"choice": "c"}, {"choice": 9}, "response_b"):
        odd = write(tmp_path / "o.jsonl", [{"prompt": "q", "responses": ["a", "b"], "gold": bad}])
        with pytest.raises(DataError):
            project(made, gold=odd)
    with pytest.raises(DataError, match="asks 5 gold questions first, but has 1"):
        project(made, gold=questions(tmp_path / "one.jsonl", 1), qualify=5)
    with pytest.raises(DataError, match="nobody is called ann-99"):
        project(made, people=("ann-99",))
    single = write(tmp_path / "b.jsonl", [{"prompt": "q", "responses": ["a"], "gold": {"choice": 1}}])
    with pytest.raises(DataError, match="compare needs 2"):
        project(made, gold=single)
    with pytest.raises(DataError, match=r"no file 'c.jsonl' was uploaded"):
        project(made, file="c.jsonl")
    with made.store.read() as db:
        assert db.execute(select(tasks)).all() == db.execute(select(labels)).all() == []


RIGHT = [
    ("compare", {"choice": -3}, {"choice": -1}, True),
    ("compare", {"choice": 1}, {"choice": -1}, False),
    ("compare", {"choice": 0}, {"choice": 0}, True),
    ("compare", {"choice": "both_bad"}, {"choice": 0}, False),
    ("rank", {"ranks": [1, 2, 3]}, {"ranks": [1, 2, 2]}, True),
    ("rank", {"ranks": [2, 1, 3]}, {"ranks": [1, 2, 3]}, False),
    ("rank", {"ranks": [1, 1, 2]}, {"ranks": [1, 2, 3]}, False),
    ("rank", {"ranks": [1, None, None]}, {"ranks": [1, 2, 2]}, True),
    ("rate", {"scores": {"a": [4.0]}}, {"scores": {"a": [5]}}, True),
    ("rate", {"scores": {"a": [3.0]}}, {"scores": {"a": [5]}}, False),
    ("best", {"best": [1]}, {"best": [1]}, True),
    ("thumbs", {"thumbs": [1, 0]}, {"thumbs": [1, 1]}, False),
    ("first_error", {"step": None}, {"step": None}, True),
    ("first_error", {"step": 1}, {"step": None}, False),
    (
        "spans",
        {"spans": [{"target": 0, "start": 2, "end": 9, "label": "wrong"}]},
        {"spans": [{"target": 0, "start": 3, "end": 9, "label": "wrong"}]},
        True,
    ),
    ("spans", {"spans": []}, {"spans": [{"target": 0, "start": 5, "end": 6, "label": "wrong"}]}, False),
    ("spans", {"spans": []}, {"spans": []}, True),
    (  # the whole text with every label is no answer
        "spans",
        {"spans": [{"target": 0, "start": 0, "end": 99, "label": one} for one in ("wrong", "good")]},
        {"spans": [{"target": 0, "start": 5, "end": 9, "label": "wrong"}]},
        False,
    ),
]


@pytest.mark.parametrize(("protocol", "said", "gold", "expected"), RIGHT)
def test_what_counts_as_right(protocol: str, said: Any, gold: Any, expected: bool) -> None:
    assert is_right(said, gold, project_of({"name": "p", "protocol": protocol})) is expected


@pytest.mark.parametrize(
    ("protocol", "short", "long"),
    [
        ("compare", "A", {"choice": -1}),
        ("compare", 2, {"choice": 2}),
        ("best", 1, {"best": [1]}),
        ("rank", [1, 2], {"ranks": [1, 2]}),
        ("rate", {"overall": [5, 1]}, {"scores": {"overall": [5, 1]}}),
    ],
)
def test_short_forms(protocol: str, short: Any, long: Any) -> None:
    assert gold_answer(short, project_of({"name": "p", "protocol": protocol}), 2, "here") == long
