"""Argilla 2: records as JSON, and the settings that recreate their dataset, written."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from prefdata.formats.answers import TIE, Answers, Control, answers_of
from prefdata.formats.argilla_settings import settings_of, settings_path, shows
from prefdata.formats.asked import Asked, asked_of
from prefdata.formats.carried import KEY, Entry, named, pack
from prefdata.formats.labelling import Task
from prefdata.formats.parquet import whole_file
from prefdata.schema import Row, make_id

PEOPLE = UUID("6f0e3c1e-7c0b-5d0f-9a53-2f3c7b1a5e10")
"""The namespace of the users that stand for annotators who are no users of Argilla's."""
NOT_IN_AGENT = re.compile(r"[^a-zA-Z0-9_:./ -]")


def write_argilla(tasks: Sequence[Task], out: Path) -> int:
    """Write records that Argilla 2 reads, and the settings of their dataset beside them.

    What people said becomes the responses of users, what others said suggestions. A question takes one answer of a
    user, and one suggestion: what finds its place taken, or has none (a score that is not whole, or not from 0 to 10),
    rides along unseen.

    Args:
        tasks: at least one.
        out: the JSON file; the settings get its name with `.settings.json`.
    """
    asked = asked_of(tasks)
    asked.controls = {control: values for control, values in asked.controls.items() if shows(control, values)}
    if not asked.controls:
        asked.controls = asked_of([Task(task.prompt, task.responses) for task in tasks]).controls
    answered = Counter(control for task in tasks for said in _by_user(task).values() for control in said)
    shown = [control for control in asked.in_order() if control in answered] or asked.in_order()
    required = max(shown, key=lambda control: answered[control])
    with whole_file(out) as file:
        for number, task in enumerate(tasks):
            file.write(b",\n" if number else b"[\n")
            file.write(json.dumps(_record(task, asked, required), ensure_ascii=False).encode())
        file.write(b"\n]\n")
    with whole_file(settings_path(out)) as file:
        file.write((json.dumps(settings_of(asked, required), ensure_ascii=False, indent=2) + "\n").encode())
    return len(tasks)


def _user(annotator: str) -> str:
    """The id of the user that stands for an annotator: Argilla's own where it came from there."""
    name = annotator.removeprefix("human:")
    try:
        return str(UUID(name))
    except ValueError:
        return str(uuid5(PEOPLE, annotator))


def _by_user(task: Task) -> dict[str, Answers]:
    said: dict[str, Answers] = {}
    for row in task.annotations:
        if row["source"] == "human":
            said.setdefault(_user(row["annotator"]), {}).update(answers_of(row, task.places))
    return said


def _record(task: Task, asked: Asked, required: Control) -> Row:
    responses: dict[str, list[Row]] = {}
    suggestions: Row = {}
    entries = []
    for row in task.annotations:
        entry = Entry(row)
        entries.append(entry)
        said = {control: one for control, one in answers_of(row, task.places).items() if control in asked.controls}
        human = row["source"] == "human"
        by = _user(row["annotator"]) if human else NOT_IN_AGENT.sub("-", row["annotator"])[:200]
        taken = [
            any(one["user_id"] == by for one in responses.get(control.name, ()))
            if human
            else control.name in suggestions
            for control in said
        ]
        if not said or any(taken):
            continue
        entry.answers, entry.by = named(said), by
        sure = row.get("confidence")
        for control, held in _values(said, asked):
            if human:
                responses.setdefault(control.name, []).append({"value": held, "user_id": by})
            else:
                score = sure if sure is not None and 0 <= sure <= 1 else None
                suggestions[control.name] = {"value": held, "score": score, "agent": by}
    # Argilla takes a submitted response only where the required question is answered.
    complete = {one["user_id"] for one in responses.get(required.name, ())}
    for one in (one for each in responses.values() for one in each):
        one["status"] = "submitted" if one["user_id"] in complete else "draft"
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in task.prompt["messages"]]
    texts = {f"response_{place}": response["text"] for place, response in enumerate(task.responses, start=1)}
    rode = json.dumps(pack(task.prompt, task.responses, entries), ensure_ascii=False)
    return {
        "id": make_id("task", task.prompt["prompt_id"], [response["response_id"] for response in task.responses]),
        "fields": {"prompt": turns, **texts},
        "metadata": {KEY: rode},
        "suggestions": suggestions,
        "responses": responses,
        "vectors": {},
        "_server_id": None,
    }


def _values(said: Answers, asked: Asked) -> Iterator[tuple[Control, Any]]:
    for control, value in said.items():
        if control.kind == "compare":
            yield control, TIE if value == TIE else f"response_{value + 1}"
        elif control.kind == "rank":
            absent = [place for place in range(asked.responses) if place not in value]
            yield control, [f"response_{place + 1}" for place in [*value, *absent]]
        elif control.kind == "score":
            yield control, int(value)
        else:
            yield control, value
