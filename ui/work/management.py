"""What a lead does to people and labels in mid-flight: stop somebody, take labels back, ask for them anew.

Nothing leaves the store. A label that is taken back gets one more revision, `deleted`, which says who took it back; the
next pull hides its annotations. Should the person label the task again, that is a further revision, and shows.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, and_, case, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from prefdata.errors import DataError

from ..accounts.access import need
from ..accounts.people import Person
from ..store.tables import acknowledgements, guidelines, labels, people, tasks, work
from .projects import project_by
from .queue import give_back

if TYPE_CHECKING:
    from ..service import Service

FATES = ("keep", "exclude", "requeue")
"""What becomes of somebody's labels: they stay; they leave the dataset; they leave it and others label the tasks."""

BACKUPS = "backups"
"""Copies of the store, in the dataset's folder."""


@dataclass(frozen=True)
class Taken:
    """What was taken back.

    Attributes:
        labels: labels that the dataset loses at the next pull.
        places: places of tasks that are open again, for whomever.
    """

    labels: int = 0
    places: int = 0


@dataclass(frozen=True)
class Version:
    """One version of a project's guidelines, and what was done under it.

    Attributes:
        label: name@hash.
        created_at: seconds since 1970.
        holds: whether it is the present one.
        labels: labels, gold questions and adjudications left out, that hold and were made under it.
        people: pseudonyms of those who made them.
        read_by: pseudonyms of those who have acknowledged it.
    """

    label: str
    created_at: float
    holds: bool
    labels: int
    people: tuple[str, ...]
    read_by: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """How much one person has labelled, in all projects.

    Attributes:
        labels: tasks that they have answered, gold questions among them; what was taken back was work as well.
        today: those of them that they answered today (UTC).
        last: when they answered last, in seconds since 1970.
    """

    labels: int
    today: int
    last: float


def done_by(service: Service, who: Person | None) -> dict[int, Done]:
    """How much everybody has labelled, by person_id; who has not labelled yet is missing."""
    need(who, "admin")
    midnight = time.time() // 86400 * 86400
    today = case((labels.c.created_at >= midnight, labels.c.task_id))
    query = select(
        labels.c.person_id,
        func.count(labels.c.task_id.distinct()).label("labels"),
        func.count(today.distinct()).label("today"),
        func.max(labels.c.created_at).label("last"),
    ).where(labels.c.kind == "label", labels.c.status == "ok")
    with service.store.read() as db:
        rows = db.execute(query.group_by(labels.c.person_id)).all()
    return {row.person_id: Done(row.labels, row.today, row.last) for row in rows}


def back_up(service: Service, who: Person | None) -> tuple[Path, dict[str, int]]:
    """Copy the store into the folder `backups` of the dataset, while it is in use.

    Args:
        service: the application.
        who: an admin; None: the command line.

    Returns:
        Where the copy lies, and how many rows each table has.

    Raises:
        DataError: it cannot be written there.
    """
    need(who, "admin")
    folder = (service.dataset.path / BACKUPS).absolute()
    path = folder / f"labels-{datetime.now(UTC):%Y%m%d-%H%M%S}.sqlite"
    made = path.exists()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)  # it holds who the people are
        return path, service.store.backup(str(path))
    except (OSError, SQLAlchemyError) as error:
        if not made:  # half a copy would be taken for one
            for ending in ("", "-wal", "-shm"):
                path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)
        raise DataError(f"the store cannot be copied to {path}: {error}; is there room on the disk?") from error


def stop_person(service: Service, who: Person | None, person_id: int, labels: str = "keep") -> Taken:
    """End somebody's work for good: they can no longer sign in, and the tasks that they hold go to others.

    Tasks that were meant for them alone (`split`) and are not done are for everybody from then on. It can be done again
    with another `labels`: who was stopped with keep can be excluded later, and then re-queued.

    Args:
        service: the application.
        who: an admin; None: the command line.
        person_id: whom.
        labels: keep; exclude: their labels, answers to gold questions and adjudications leave the dataset, and the
            tasks count as done; requeue: the labels leave it, and other people label those tasks.

    Raises:
        DataError: there is no such person, they are the only admin, or `labels` is none of the three.
    """
    need(who, "admin")
    if labels not in FATES:
        raise DataError(f"labels of a person who is stopped: {', '.join(FATES)}, not {labels!r}")
    service.people.set(person_id, state="stopped", by=who)
    with service.store.write() as db:
        places = _give_leases_back(db, person_id)
        found = [] if labels == "keep" else _holding(db, person_id=person_id)
        _take_back(service, db, found, "excluded" if labels == "exclude" else "re-queued", who)
        if labels == "requeue":
            places += _reopen(db, _work(db, person_id, "done"), "requeued")
        _share(db, person_id)
    return Taken(len(found), places)


def pause_person(service: Service, who: Person | None, person_id: int) -> Taken:
    """Give somebody no tasks for now; those that they hold go to others, their labels stay.

    Raises:
        DataError: there is no such person.
    """
    need(who, "admin")
    service.people.set(person_id, state="paused", by=who)
    with service.store.write() as db:
        return Taken(0, _give_leases_back(db, person_id))


def requeue(
    service: Service,
    who: Person | None,
    project: str | int,
    *,
    guideline: str | None = None,
    person_id: int | None = None,
    tasks: Collection[int] | None = None,
    again: bool | None = None,
) -> Taken:
    """Take labels back and open their places: those that fit all of what is given.

    Answers to gold questions, adjudications and skipped tasks stay as they are.

    Args:
        service: the application.
        who: an admin; None: the command line.
        project: its name or number.
        guideline: those made under this version (name@hash).
        person_id: those of this person.
        tasks: those on these tasks.
        again: whether the same people may label them again; if not, only others. Unless given: if `guideline` is.

    Raises:
        DataError: there is no such project or version, or nothing says which labels.
    """
    need(who, "admin")
    again = guideline is not None if again is None else again
    with service.store.write() as db:
        found = _chosen(db, project, guideline, person_id, tasks)
        _take_back(service, db, found, "re-queued", who)
        places = _reopen(db, found, "returned" if again else "requeued")
        if not again:
            for person in {row.person_id for row in found}:
                _share(db, person, [row.task_id for row in found if row.person_id == person])
    return Taken(len(found), places)


def count(
    service: Service,
    who: Person | None,
    project: str | int,
    *,
    guideline: str | None = None,
    person_id: int | None = None,
    tasks: Collection[int] | None = None,
) -> int:
    """How many labels `requeue` would take back."""
    need(who, "admin")
    with service.store.read() as db:
        return len(_chosen(db, project, guideline, person_id, tasks))


def labels_of(service: Service, who: Person | None, person_id: int) -> int:
    """How many labels of a person, of whatever kind and project, stand."""
    need(who, "admin")
    with service.store.read() as db:
        return len(_holding(db, person_id=person_id))


def overview(service: Service, who: Person | None, project: str | int) -> tuple[Version, ...]:
    """Every version of a project's guidelines, the oldest first, with what was labelled under it and who has read it.

    Raises:
        DataError: there is no such project.
    """
    need(who, "admin")
    with service.store.read() as db:
        held = project_by(db, project)
        names = {row.person_id: row.pseudonym for row in db.execute(select(people.c.person_id, people.c.pseudonym))}
        made: dict[str, list[str]] = {}
        for row in _plain(_holding(db, project_id=held.id)):
            made.setdefault(row.guideline, []).append(names[row.person_id])
        read: dict[str, list[str]] = {}
        for row in db.execute(select(acknowledgements).where(acknowledgements.c.project_id == held.id)):
            read.setdefault(row.label, []).append(names[row.person_id])
        own = select(guidelines).where(guidelines.c.project_id == held.id).order_by(guidelines.c.guideline_id)
        return tuple(
            [
                Version(
                    row.label,
                    row.created_at,
                    row.label == held.guideline,
                    len(made.get(row.label, [])),
                    tuple(sorted(set(made.get(row.label, [])))),
                    tuple(sorted(read.get(row.label, []))),
                )
                for row in db.execute(own)
            ]
        )


# Which labels


def _holding(db: Connection, **where: int) -> list[Row[Any]]:
    """The labels that hold, each the last of its task and person, with `gold`; those that were taken back left out."""
    own = [labels.c[name] == value for name, value in where.items()]
    newest = (
        select(labels.c.task_id, labels.c.person_id, func.max(labels.c.revision).label("revision"))
        .where(*own)
        .group_by(labels.c.task_id, labels.c.person_id)
        .subquery()
    )
    same = and_(*(labels.c[name] == newest.c[name] for name in ("task_id", "person_id", "revision")))
    found = (
        select(labels, (tasks.c.state == "gold").label("gold"))
        .join(newest, same)
        .join(tasks, tasks.c.task_id == labels.c.task_id)
        .where(labels.c.status != "deleted")
        .order_by(labels.c.label_id)
    )
    return list(db.execute(found).all())


def _plain(rows: Iterable[Row[Any]]) -> list[Row[Any]]:
    """Those that a task counts: no gold question, no adjudication, not skipped."""
    return [row for row in rows if row.status == "ok" and row.kind == "label" and not row.gold]


def _chosen(
    db: Connection, project: str | int, guideline: str | None, person_id: int | None, only: Collection[int] | None
) -> list[Row[Any]]:
    if guideline is None and person_id is None and only is None:
        raise DataError("say which labels: those under a version of the guidelines, of a person, or on tasks")
    held = project_by(db, project)
    known = select(guidelines.c.label).where(guidelines.c.project_id == held.id)
    if guideline is not None and guideline not in set(db.execute(known).scalars()):
        raise DataError(f"this project has no guidelines {guideline!r}")
    own = {"project_id": held.id} | ({} if person_id is None else {"person_id": person_id})
    wanted = None if only is None else set(only)
    return [
        row
        for row in _plain(_holding(db, **own))
        if guideline in (None, row.guideline) and (wanted is None or row.task_id in wanted)
    ]


# What becomes of them, all within a write transaction


def _take_back(service: Service, db: Connection, found: Sequence[Row[Any]], why: str, who: Person | None) -> None:
    """Give each label one more revision, which says that it holds no more, and why."""
    same = ("task_id", "person_id", "project_id", "kind", "shown", "guideline")
    rows = [
        {
            **{name: getattr(row, name) for name in same},
            "revision": row.revision + 1,
            "status": "deleted",
            "answer": {"reason": why, "by": who.pseudonym if who else "the command line"},
            "seconds": 0.0,
            "created_at": service.labels.clock(),
            "client_key": f"lead:{uuid.uuid4().hex}",  # no person's: theirs begin with their number
            "pulled": False,
        }
        for row in found
    ]
    if rows:
        db.execute(insert(labels), rows)


def _reopen(db: Connection, found: Iterable[Row[Any]], state: str) -> int:
    """Open the places of these labels, or of this work; how many."""
    opened = 0
    for row in found:
        mine = (work.c.task_id == row.task_id) & (work.c.person_id == row.person_id) & (work.c.state == "done")
        held = db.execute(select(work.c.gold).where(mine)).first()
        if held is not None:  # a skipped task has no place, an adjudication never had one
            give_back(db, row.task_id, row.person_id, state)
            opened += not held.gold
    return opened


def _work(db: Connection, person_id: int, state: str) -> list[Row[Any]]:
    return list(db.execute(select(work).where(work.c.person_id == person_id, work.c.state == state)).all())


def _give_leases_back(db: Connection, person_id: int) -> int:
    leased = _work(db, person_id, "leased")
    for row in leased:
        give_back(db, row.task_id, person_id)
    return sum(not row.gold for row in leased)


def _share(db: Connection, person_id: int, only: Collection[int] | None = None) -> None:
    """Let everybody have the tasks that were meant for one person alone (`split`) and are open."""
    theirs = update(tasks).where(tasks.c.person_id == person_id, tasks.c.free > 0)
    if only is None:
        db.execute(theirs.values(person_id=None))
    for task in only or ():
        db.execute(theirs.where(tasks.c.task_id == task).values(person_id=None))
