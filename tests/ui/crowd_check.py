"""Whether the store and the dataset hold what the crowd was told, and no more."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crowd import Ledger, Said
from sqlalchemy import Row, func, insert, select, update

from prefdata.dataset import Dataset
from prefdata.ui.accounts.people import Person
from prefdata.ui.answers.checks import turned
from prefdata.ui.service import Service
from prefdata.ui.store import Store
from prefdata.ui.store.tables import labels, people, projects, sessions, tasks, work

_TOLD = 5
"""Faults of one kind that are told; the others are counted."""


def faults(store: Store, ledgers: Sequence[Ledger]) -> list[str]:
    """What is wrong in a store after the crowd has gone home, as sentences."""
    with store.read() as db:
        names = {row.person_id: row.pseudonym for row in db.execute(select(people))}
        given = db.execute(select(labels).order_by(labels.c.label_id)).all()
        places = db.execute(select(work)).all()
        wanted = db.execute(select(tasks)).all()
        signed_in = Counter(db.execute(select(sessions.c.person_id)).scalars())
    kinds = (
        (fault for ledger in ledgers for fault in ledger.wrong),
        _acknowledged(names, given, ledgers),
        _revisions(given),
        _overlap(names, given, places, wanted),
        (
            f"{ledger.pseudonym} has no session any more"
            for number, name in names.items()
            for ledger in ledgers
            if ledger.pseudonym == name and not signed_in[number]
        ),
    )
    return [fault for kind in kinds for fault in _shortened(list(kind))]


def _shortened(found: list[str]) -> list[str]:
    more = [f"... and {len(found) - _TOLD} of this kind"] if len(found) > _TOLD else []
    return found[:_TOLD] + more


def _acknowledged(names: Mapping[int, str], given: Sequence[Row[Any]], ledgers: Sequence[Ledger]) -> Iterator[str]:
    """Each acknowledged label is there as it was sent, once; none that was refused is."""
    stored: dict[tuple[str, str], Row[Any]] = {}
    for row in given:
        person, _, key = row.client_key.partition(":")
        if (names[int(person)], key) in stored or int(person) != row.person_id:
            yield f"the key {row.client_key} is there twice, or not that person's"
        stored[names[row.person_id], key] = row
    for ledger in ledgers:
        for said in ledger.said:
            row = stored.pop((ledger.pseudonym, said.key), None)
            if said.revision is None:
                if row is not None:
                    yield f"a label of {ledger.pseudonym} that was refused ({said.refused}) is there"
            elif row is None:
                yield f"a label of {ledger.pseudonym} on task {said.task} that was acknowledged is lost"
            else:
                yield from _differences(said, row, ledger.pseudonym)
    yield from (f"nobody was told that this label is there: {row}" for row in stored.values())


def _differences(said: Said, row: Row[Any], pseudonym: str) -> Iterator[str]:
    answer = turned(row.answer, row.shown, back=True) if row.status == "ok" else row.answer
    found = (row.task_id, row.revision, row.status, answer, row.guideline if said.status == "ok" else said.guideline)
    wanted = (said.task, said.revision, said.status, said.answer, said.guideline)
    if found != wanted or abs(row.seconds - said.seconds) > 1e-6:
        yield f"a label of {pseudonym} is {found}, acknowledged was {wanted}"


def _revisions(given: Sequence[Row[Any]]) -> Iterator[str]:
    """The revisions of each person's label are 1, 2, 3, ... in the order in which they came."""
    ordered = sorted(given, key=lambda row: (row.task_id, row.person_id, row.label_id))
    for one, rows in itertools.groupby(ordered, key=lambda row: (row.task_id, row.person_id)):
        found = [row.revision for row in rows]
        if found != list(range(1, len(found) + 1)):
            yield f"the revisions of (task, person) {one} are {found}"


def _overlap(
    names: Mapping[int, str], given: Sequence[Row[Any]], places: Sequence[Row[Any]], wanted: Sequence[Row[Any]]
) -> Iterator[str]:
    """No task has more labels than it should, and `free` says how many it still wants."""
    last = {(row.task_id, row.person_id): row.status for row in sorted(given, key=lambda row: row.revision)}
    stands = {(row.task_id, row.person_id): row.state for row in places}
    for one, status in last.items():
        if (status == "ok") != (stands.get(one) == "done"):
            yield f"the last word of {names[one[1]]} on task {one[0]} is {status}, their work there {stands.get(one)}"
    yield from (
        f"{one} is done without a label" for one, state in stands.items() if state == "done" and one not in last
    )
    said = Counter(task for (task, _), status in last.items() if status == "ok")
    taken = Counter(row.task_id for row in places if row.state in ("leased", "done"))
    for task in wanted:
        if said[task.task_id] > task.wanted:
            yield f"task {task.task_id} has {said[task.task_id]} labels and wants {task.wanted}"
        if task.free != task.wanted - taken[task.task_id] or task.free < 0:
            left = f"{taken[task.task_id]} places are taken, free says {task.free}"
            yield f"task {task.task_id} wants {task.wanted}, {left}"


# Leases


def unfinished(store: Store, copy: Path) -> tuple[list[str], int]:
    """Whether all that was begun can be finished when everybody has gone home, tried on a copy of the store.

    The lease time goes by; then as many new people as a task wants labels ask for tasks and answer them. Tasks that
    nobody had in hand are put aside: they are open in any case.

    Args:
        store: where the crowd has worked.
        copy: a new file.

    Returns:
        What is wrong, and how many labels the new people gave.
    """
    store.backup(str(copy))
    copied = Store(f"sqlite:///{copy}")
    try:
        with copied.write() as db:
            begun = select(work.c.task_id)
            db.execute(update(tasks).where(tasks.c.task_id.not_in(begun)).values(state="withdrawn"))
            longest = db.execute(select(func.max(tasks.c.wanted))).scalar_one()
            held = {row.project_id: row.guideline for row in db.execute(select(projects))}
        given = _finish(copied, longest, held)
        with copied.read() as db:
            finished = select(work.c.task_id).where(work.c.state == "done")
            done = Counter(db.execute(finished).scalars())
            open_ = db.execute(select(tasks).where(tasks.c.state == "open")).all()
        left = [
            f"task {task.task_id} cannot be finished: {done[task.task_id]} of {task.wanted} labels"
            for task in open_
            if done[task.task_id] != task.wanted
        ]
        return _shortened(left), given
    finally:
        copied.close()


def _finish(store: Store, fresh: int, held: Mapping[int, str]) -> int:
    """New people take all that they get; how many labels they gave."""
    from prefdata.ui.work.projects import Projects
    from prefdata.ui.work.queue import Queue

    now = time.time() + 24 * 3600
    queue, given = Queue(store, clock=lambda: now), 0
    with store.write() as db:
        made = [
            db.execute(insert(people).values(pseudonym=f"fresh-{n}", role="annotator", state="active", created_at=now))
            for n in range(fresh)
        ]
        ids = [int((one.inserted_primary_key or [0])[0]) for one in made]
    folk = [Person(one, None, f"fresh-{n}", "annotator", "active", (), (), None) for n, one in enumerate(ids)]
    for who, (project, label) in itertools.product(folk, held.items()):
        Projects.acknowledge(_Only(store), who, project, label)  # type: ignore[arg-type]
        while (turn := queue.next(who, project)).task is not None:
            mine = (work.c.task_id == turn.task.task_id) & (work.c.person_id == who.person_id)
            with store.write() as db:  # the label itself has been tried enough
                db.execute(update(work).where(mine).values(state="done"))
            given += 1
    return given


class _Only:
    """All of `Projects` that acknowledging takes."""

    def __init__(self, store: Store) -> None:
        self.store = store


# The dataset


def differences(service: Service, ledgers: Sequence[Ledger]) -> list[str]:
    """Whether the dataset says what people said last, once the labels have been pulled: by the texts they saw."""
    with service.store.read() as db:
        names = {row.project_id: row.name for row in db.execute(select(projects))}
        prompts = {row.task_id: row.prompt_id for row in db.execute(select(tasks))}
        waiting = db.execute(select(func.count()).where(labels.c.pulled.is_(False))).scalar_one()
    found = _said_in(service.dataset)
    wrong = [f"{waiting} labels were not pulled"] if waiting else []
    for ledger in ledgers:
        for said in ledger.last.values():
            key = (names[said.project], prompts[said.task], f"human:{ledger.pseudonym}")
            row = found.pop(key, None)
            if row != (expected := _expected(names[said.project], said)):
                wrong.append(f"the dataset says {row} for {key}, acknowledged was {expected}")
    wrong += [f"the dataset has what nobody said: {key} {row}" for key, row in found.items()]
    return _shortened(wrong)


def _said_in(dataset: Dataset) -> dict[tuple[str, str, str], Any]:
    view = Dataset.create(dataset.path).view()
    texts = dict(view["responses"].select("response_id", "text").collect().iter_rows())
    found: dict[tuple[str, str, str], Any] = {}
    for row in view["annotations"].collect().iter_rows(named=True):
        project = json.loads(row["meta"])["project"]
        key, shown = (project, row["prompt_id"], row["annotator"]), [texts[one] for one in row["target_ids"]]
        scores = None if row["scores"] is None else tuple(row["scores"])
        if key in found:
            raise AssertionError(f"{key} is there twice")
        found[key] = (row["status"], row["revision"], shown, scores, row["strength"], row["labels"] or None)
        if row["status"] == "skipped":
            found[key] = ("skipped", row["revision"], shown, row["text"])
    return found


def _expected(protocol: str, said: Said) -> tuple[Any, ...]:
    if said.status == "skipped":
        return ("skipped", said.revision, said.texts, said.answer["reason"])
    strength, marks = None, None
    if protocol == "compare":
        choice = said.answer["choice"]
        marks = ["both_bad"] if choice == "both_bad" else None
        number = choice if isinstance(choice, int) else 0
        scores, strength = ((0.5, 0.5) if not number else (float(number < 0), float(number > 0))), float(abs(number))
    elif protocol == "rank":
        ranks = said.answer["ranks"]
        scores = tuple(float(max(ranks) + 1 - rank) for rank in ranks)
    else:
        (values,) = said.answer["scores"].values()
        scores = tuple(map(float, values))
    return ("ok", said.revision, said.texts, scores, strength, marks)


# What the checks must see


def unseen(store: Store, ledgers: Sequence[Ledger], folder: Path) -> list[str]:
    """What the checks do not see, of all that is done to copies of a store; they must see everything.

    Args:
        store: a sound one.
        ledgers: of the crowd that worked on it.
        folder: for the copies.
    """
    missed = []
    for number, (name, (harm, words)) in enumerate(_HARMS.items()):
        path = folder / f"doctored-{number}.sqlite"
        store.backup(str(path))
        copy = Store(f"sqlite:///{path}")
        try:
            with copy.write() as db:
                harm(db)
            seen = faults(copy, ledgers) + unfinished(copy, folder / f"finished-{number}.sqlite")[0]
        finally:
            copy.close()
        if not any(words in fault for fault in seen):
            missed.append(f"the checks do not see {name}; they say {seen}")
    return missed


def _lose(db: Any) -> None:
    newest = db.execute(select(func.max(labels.c.label_id)).where(labels.c.status == "ok")).scalar_one()
    db.execute(labels.delete().where(labels.c.label_id == newest))


def _alter(db: Any) -> None:
    row = db.execute(select(labels).where(labels.c.status == "ok").limit(1)).one()
    other = {**row.answer, "rationale": "I did not say this"}
    db.execute(update(labels).where(labels.c.label_id == row.label_id).values(answer=other))


def _full(db: Any) -> Row[Any]:
    """A task that has all its labels, and one of them."""
    row: Row[Any] = db.execute(
        select(labels)
        .join(tasks, tasks.c.task_id == labels.c.task_id)
        .join(work, (work.c.task_id == labels.c.task_id) & (work.c.person_id == labels.c.person_id))
        .where(tasks.c.free == 0, labels.c.revision == 1, labels.c.status == "ok", work.c.state == "done")
        .limit(1)
    ).one()
    return row


def _one_too_many(db: Any) -> None:
    row = _full(db)
    was = select(work.c.person_id).where(work.c.task_id == row.task_id)
    other = db.execute(select(func.max(people.c.person_id)).where(people.c.person_id.not_in(was))).scalar_one()
    place = db.execute(select(work).where(work.c.task_id == row.task_id, work.c.person_id == row.person_id)).one()
    db.execute(insert(work).values({**place._mapping, "person_id": other}))
    made = {**row._mapping, "label_id": None, "person_id": other, "client_key": f"{other}:{'0' * 32}"}
    del made["label_id"]
    db.execute(insert(labels).values(made))


def _twice(db: Any) -> None:
    row = db.execute(select(labels).order_by(labels.c.label_id.desc()).limit(1)).one()
    last = select(func.max(labels.c.revision)).where(
        labels.c.task_id == row.task_id, labels.c.person_id == row.person_id
    )
    made = {**row._mapping, "revision": db.execute(last).scalar_one() + 1, "client_key": f"{row.person_id}:again"}
    del made["label_id"]
    db.execute(insert(labels).values(made))


def _miscount(db: Any) -> None:
    task = db.execute(select(func.min(tasks.c.task_id)).where(tasks.c.free == 0)).scalar_one()
    db.execute(update(tasks).where(tasks.c.task_id == task).values(free=1))


def _sign_out(db: Any) -> None:
    db.execute(
        sessions.delete().where(sessions.c.person_id == db.execute(select(sessions.c.person_id)).scalars().first())
    )


def _stick(db: Any) -> None:
    task = db.execute(select(tasks).where(tasks.c.free > 0, tasks.c.state == "open").limit(1)).one()
    was = select(work.c.person_id).where(work.c.task_id == task.task_id)
    somebody = db.execute(select(func.min(people.c.person_id)).where(people.c.person_id.not_in(was))).scalar_one()
    ids = {"task_id": task.task_id, "person_id": somebody, "project_id": task.project_id}
    shown = list(range(len(task.target_ids)))
    db.execute(insert(work).values(**ids, state="leased", gold=False, shown=shown, leased_at=0.0, expires_at=1e12))
    db.execute(update(tasks).where(tasks.c.task_id == task.task_id).values(free=tasks.c.free - 1))


_HARMS: dict[str, tuple[Callable[[Any], None], str]] = {
    "a label lost": (_lose, "is lost"),
    "an answer altered": (_alter, "acknowledged was"),
    "a task with one label too many": (_one_too_many, "labels and wants"),
    "a label stored twice": (_twice, "nobody was told"),
    "a place miscounted": (_miscount, "free says"),
    "a session lost": (_sign_out, "has no session"),
    "a lease that never ends": (_stick, "cannot be finished"),
}
