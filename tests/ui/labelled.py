"""A small dataset, a store, people and projects, made anew for each test."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from prefdata.dataset import Dataset
from prefdata.schema import message, prompt, response
from prefdata.ui.accounts.people import People, Person
from prefdata.ui.service import Service
from prefdata.ui.store import Store

PASSWORD = "a long password"
_numbers = itertools.count()


class FastHasher:
    """Argon2 takes its time, on purpose; tests that are about something else do not."""

    def hash(self, password: str) -> str:
        return f"plain:{password}"

    def verify(self, hash: str, password: str) -> bool:
        return hash == f"plain:{password}"

    def check_needs_rehash(self, hash: str) -> bool:
        return False


def dataset(folder: Path, prompts: int = 3, responses: int = 2, **columns: Any) -> Dataset:
    """Prompts `question N` with responses `answer N/K`."""
    made = Dataset.create(folder)
    asked = [prompt([message("user", f"question {n}")], **columns) for n in range(prompts)]
    given = [
        response(row, model=f"model-{k}", text=f"answer {n}/{k}\nsecond line")
        for n, row in enumerate(asked)
        for k in range(responses)
    ]
    made.add_import({"prompts": asked, "responses": given}, source="test", fields={})
    return made


def service(folder: Path, prompts: int = 3, responses: int = 2, **columns: Any) -> Service:
    made = Service(dataset(folder, prompts, responses, **columns), Store.open(folder))
    made.people = People(made.store, hasher=FastHasher())
    return made


def person(made: Service, role: str = "annotator", **fields: Any) -> Person:
    added = made.people.add(role=role, **fields)
    return made.people.accept(made.people.invite(added.person_id), f"login-{next(_numbers)}", PASSWORD)


def project(made: Service, *readers: Person, name: str = "p", **fields: Any) -> int:
    """A project whose guidelines these people have read."""
    held, _ = made.projects.create({"name": name, **fields})
    for who in readers:
        made.projects.acknowledge(who, held.id, held.guideline)
    return held.id


def answer(task: dict[str, Any], choice: int = 0) -> dict[str, Any]:
    """Some answer that fits a task of any protocol."""
    size = len(task["targets"])
    return {
        "compare": {"choice": (-1, 1, 0, "both_bad")[choice % 4]},
        "rank": {"ranks": [1 + (place + choice) % size for place in range(size)]},
        "rate": {
            "scores": {
                aspect["name"]: [1 + (choice + p) % 5 for p in range(size)] for aspect in task["options"]["aspects"]
            }
        },
        "best": {"best": [choice % size]},
        "thumbs": {"thumbs": [(choice + place) % 2 for place in range(size)]},
        "first_error": {"step": None if choice % 2 else 0},
        "spans": {"spans": [{"target": choice % size, "start": 0, "end": 3, "label": "wrong"}]},
        "edit": {"target": 0, "text": f"better {choice}"},
    }[task["protocol"]]


def submit(
    made: Service, who: Person, task: dict[str, Any], key: str, said: dict[str, Any] | None = None, **rest: Any
) -> dict[str, Any]:
    body = {"task": task["id"], "key": key, "answer": answer(task) if said is None else said, "seconds": 2.5}
    return made.submit(who, {**body, "guideline": task["guideline"], **rest})
