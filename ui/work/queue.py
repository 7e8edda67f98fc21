"""Which task a person gets next: leases, overlap, gold questions, quotas.

For every task that is not gold, `free` is the number of labels wanted minus those given and those being worked on; a
task is handed out only while it is above 0, and all that changes it is one write transaction. So no task is ever
labelled by more people than the project asks for, however many ask at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, exists, func, insert, or_, select, update

from prefdata.schema import make_id

from ..accounts.access import need
from ..accounts.people import Person
from ..store import Store
from ..store.tables import OPEN, flags, labels, people, projects, settings, tasks, work
from .gold import is_right
from .making import is_meant
from .project import Project
from .projects import Held, has_read, label_count, project_by

_SWEPT = 200
"""Leases that are taken back at once; more wait for the next one who asks."""


@dataclass(frozen=True)
class Turn:
    """What a person gets when they ask for a task.

    Attributes:
        state: task, acknowledge (the guidelines first), empty, paused, stopped, quota or unqualified.
        say: a sentence for the person; empty with a task.
        task: the row of `tasks`.
        shown: positions in target_ids, in the order to show.
        waiting: empty, but others hold leases: something may come back.
        qualifying: (questions answered, of how many) during the qualification round.
    """

    state: str
    say: str = ""
    task: Row[Any] | None = None
    shown: list[int] = field(default_factory=list)
    waiting: bool = False
    qualifying: tuple[int, int] | None = None


@dataclass(frozen=True)
class Test:
    """How somebody stands in a qualification round.

    Attributes:
        right: answers that were right.
        answered: questions that were answered.
        wanted: questions to answer.
        passed: all are answered, and enough of them rightly.
        let_on: the lead lets them go on anyway.
    """

    right: int
    answered: int
    wanted: int
    passed: bool
    let_on: bool


class Queue:
    """Hands out tasks.

    Args:
        store: where they stand.
        clock: seconds since 1970; tests set it.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.store, self.clock = store, clock

    def next(self, who: Person, project: int) -> Turn:
        """The next task of a project for this person, leased to them; the one they have, if they have one.

        Raises:
            DataError: there is no such project.
        """
        with self.store.read() as db:  # most of what can be said needs no lock
            held = project_by(db, project)
            refused = self._refused(db, who, held)
        if refused is not None:
            return refused
        with self.store.write() as db:
            held = project_by(db, project)
            self._sweep(db)
            return self._own_lease(db, who, held) or self._hand_out(db, who, held)

    def has_task(self, who: Person, held: Held) -> bool:
        """Whether a project has an open task for a person; nothing is handed out."""
        with self.store.read() as db:
            refused = self._refused(db, who, held)
            return (refused is None or refused.state == "acknowledge") and self._open(db, who, held) is not None

    def _refused(self, db: Connection, who: Person, held: Held) -> Turn | None:
        if who.state == "stopped":
            return Turn("stopped", "Your work on this project has ended. Thank you.")
        if who.state == "paused":
            return Turn("paused", "The lead has paused your work; ask them when it goes on.")
        if held.state != "open":
            return Turn("paused", f"The project is {held.state} at the moment.")
        if not is_meant(held.project, who.pseudonym, who.groups, who.skills):
            return Turn("empty", "This project is for other people.")
        if not has_read(db, who.person_id, held.id, held.guideline):
            return Turn("acknowledge", "Please read the guidelines first.")
        return self._over_quota(db, who, held)

    def _over_quota(self, db: Connection, who: Person, held: Held) -> Turn | None:
        project = held.project
        if project.quota and label_count(db, held.id, who.person_id) >= project.quota:
            return Turn("quota", f"You have done all {project.quota} tasks that were meant for you. Thank you.")
        midnight = self.clock() // 86400 * 86400
        if project.quota_day and label_count(db, held.id, who.person_id, midnight) >= project.quota_day:
            return Turn("quota", f"You have done today's {project.quota_day} tasks; there are more tomorrow (UTC).")
        return None

    def _sweep(self, db: Connection) -> None:
        """Take back leases that have run out, of whomever and of whichever project."""
        late = (work.c.state == "leased") & (work.c.expires_at < self.clock())
        for row in db.execute(select(work).where(late).limit(_SWEPT)).all():
            give_back(db, row.task_id, row.person_id)

    def _own_lease(self, db: Connection, who: Person, held: Held) -> Turn | None:
        own = (work.c.person_id == who.person_id) & (work.c.project_id == held.id) & (work.c.state == "leased")
        row = db.execute(select(work).where(own).limit(1)).first()
        if row is None:
            return None
        self.renew(db, who, row.task_id, held.project)
        task = db.execute(select(tasks).where(tasks.c.task_id == row.task_id)).one()
        return Turn("task", task=task, shown=row.shown, qualifying=self._qualifying(db, who, held))

    def _hand_out(self, db: Connection, who: Person, held: Held) -> Turn:
        project, test = held.project, self._test(db, who.person_id, held)
        if test is not None and not test.passed and not test.let_on:
            if test.answered >= test.wanted:
                passed = (
                    f"Fewer than {project.pass_mark:.0%} of the test questions were right; ask the lead how to go on."
                )
                return Turn("unqualified", passed)
            task = self._gold(db, who, held)
            if task is None:  # skipped, or asked about: nobody gets past the questions that way
                return Turn("unqualified", "You have left out test questions; ask the lead how to go on.")
            return self._lease(db, who, held, task, (test.answered, test.wanted))
        if project.gold_share and self._gold_is_due(db, who, held):
            task = self._gold(db, who, held)
            if task is not None:
                return self._lease(db, who, held, task, None)
        task = self._open(db, who, held)
        if task is not None:
            return self._lease(db, who, held, task, None)
        others = exists().where(work.c.project_id == held.id, work.c.state == "leased")
        waiting = bool(db.execute(select(others)).scalar())
        return Turn("empty", "There is nothing left to do for you here. Thank you.", waiting=waiting)

    def _open(self, db: Connection, who: Person, held: Held) -> Row[Any] | None:
        mine = exists().where(
            work.c.task_id == tasks.c.task_id, work.c.person_id == who.person_id, work.c.state != "returned"
        )
        decided = exists().where(  # as an adjudicator: a label of theirs would take the verdict's place
            labels.c.task_id == tasks.c.task_id, labels.c.person_id == who.person_id, labels.c.kind == "adjudication"
        )
        found = (
            select(tasks)
            .where(tasks.c.project_id == held.id, tasks.c.state == "open", OPEN)
            .where(or_(tasks.c.person_id.is_(None), tasks.c.person_id == who.person_id))
            .where(or_(tasks.c.requires.is_(None), tasks.c.requires.in_(who.skills)))
            .where(~mine, ~decided)
            .order_by(tasks.c.priority.desc(), tasks.c.task_id)
            .limit(1)
        )
        return db.execute(found).first()

    def _gold(self, db: Connection, who: Person, held: Held) -> Row[Any] | None:
        mine = exists().where(
            work.c.task_id == tasks.c.task_id, work.c.person_id == who.person_id, work.c.state != "returned"
        )
        reported = exists().where(flags.c.prompt_id == tasks.c.prompt_id, flags.c.state.in_(["open", "upheld"]))
        found = select(tasks).where(tasks.c.project_id == held.id, tasks.c.state == "gold", ~mine, ~reported)
        left = db.execute(found.order_by(tasks.c.task_id)).all()
        draw = random.Random(f"{held.id}/{who.person_id}/{len(left)}")  # nobody can tell by its place
        return draw.choice(left) if left else None

    def _gold_is_due(self, db: Connection, who: Person, held: Held) -> bool:
        own = (work.c.person_id == who.person_id) & (work.c.project_id == held.id) & (work.c.state != "returned")
        count = db.execute(select(func.count()).where(own)).scalar_one()
        return random.Random(f"gold/{held.id}/{who.person_id}/{count}").random() < held.project.gold_share

    def _qualifying(self, db: Connection, who: Person, held: Held) -> tuple[int, int] | None:
        """(answered, of how many) during the qualification round."""
        test = self._test(db, who.person_id, held)
        return None if test is None or test.answered >= test.wanted else (test.answered, test.wanted)

    def _test(self, db: Connection, person: int, held: Held) -> Test | None:
        """How somebody stands in the qualification round; None where a project has none.

        What counts is the first answer to each of the first gold questions: neither a correction nor a skip helps.
        """
        project = held.project
        if not project.qualify:
            return None
        there = select(func.count()).where(tasks.c.project_id == held.id, tasks.c.state == "gold")
        wanted = min(project.qualify, db.execute(there).scalar_one())
        own = and_(labels.c.person_id == person, labels.c.project_id == held.id, labels.c.status == "ok")
        first = (
            select(func.min(labels.c.label_id))
            .join(tasks, tasks.c.task_id == labels.c.task_id)
            .where(own, tasks.c.state == "gold", labels.c.kind == "label")
            .group_by(labels.c.task_id)
            .order_by(func.min(labels.c.label_id))
            .limit(wanted)
        )
        ids = db.execute(first).scalars().all()
        said = select(labels.c.answer, tasks.c.gold).join(tasks, tasks.c.task_id == labels.c.task_id)
        rows = db.execute(said.where(labels.c.label_id.in_(ids))).all()
        right = sum(is_right(row.answer, row.gold["answer"], project) for row in rows)
        let_on = db.execute(select(settings.c.key).where(settings.c.key == _let_on(held.id, person))).first()
        return Test(right, len(rows), wanted, right >= project.pass_mark * wanted and len(rows) >= wanted, bool(let_on))

    def standing(self, project: int) -> list[tuple[int, str, int, int, int, bool, bool]]:
        """Who has begun the qualification round of a project: (person_id, pseudonym, right, answered, wanted, passed,
        let_on), in the order of people.
        """
        with self.store.read() as db:
            held = project_by(db, project)
            begun = exists().where(work.c.person_id == people.c.person_id, work.c.project_id == held.id)
            found = db.execute(select(people.c.person_id, people.c.pseudonym).where(begun)).all()
            tests = [(row, self._test(db, row.person_id, held)) for row in found]
        return [
            (row.person_id, row.pseudonym, test.right, test.answered, test.wanted, test.passed, test.let_on)
            for row, test in tests
            if test is not None
        ]

    def let_on(self, who: Person | None, project: int, person_id: int) -> None:
        """Let somebody go on who has not passed the qualification round.

        Args:
            who: an admin.
            project: its number.
            person_id: whom.
        """
        need(who, "admin")
        with self.store.write() as db:
            key = _let_on(project_by(db, project).id, person_id)
            if db.execute(select(settings.c.key).where(settings.c.key == key)).first() is None:
                db.execute(insert(settings).values(key=key, value=True))

    def _lease(
        self, db: Connection, who: Person, held: Held, task: Row[Any], qualifying: tuple[int, int] | None
    ) -> Turn:
        now, gold = self.clock(), task.state == "gold"
        row = {"state": "leased", "leased_at": now, "expires_at": now + 60 * held.project.lease}
        before = db.execute(_mine(select(work), task.task_id, who.person_id)).first()
        if before is not None:  # they had it before: it is shown as it was
            shown = before.shown
            db.execute(_mine(update(work), task.task_id, who.person_id).values(**row))
        else:
            shown = order_of(held.project, task, who)
            ids = {"task_id": task.task_id, "person_id": who.person_id, "project_id": held.id}
            db.execute(insert(work).values(**ids, gold=gold, shown=shown, **row))
        if not gold:
            db.execute(update(tasks).where(tasks.c.task_id == task.task_id).values(free=tasks.c.free - 1))
        return Turn("task", task=task, shown=shown, qualifying=qualifying)

    def renew(self, db: Connection, who: Person, task: int, project: Project) -> bool:
        """Let a lease begin anew; whether the person still has it."""
        until = self.clock() + 60 * project.lease
        mine = _mine(update(work), task, who.person_id).where(work.c.state == "leased")
        return bool(db.execute(mine.values(expires_at=until)).rowcount)

    def alive(self, who: Person, task: int) -> bool:
        """Note that somebody is at work on a task; whether it is still theirs."""
        with self.store.write() as db:
            found = select(projects.c.name).join(tasks, tasks.c.project_id == projects.c.project_id)
            name = db.execute(found.where(tasks.c.task_id == task)).scalar()
            return name is not None and self.renew(db, who, task, project_by(db, name).project)

    def release(self, who: Person, task: int) -> None:
        """Give a task back that was not answered."""
        with self.store.write() as db:
            mine = _mine(select(work), task, who.person_id).where(work.c.state == "leased")
            if db.execute(mine).first() is not None:
                give_back(db, task, who.person_id)


def order_of(project: Project, task: Row[Any], who: Person) -> list[int]:
    """The order in which a person sees a task's responses: drawn for each person and task, the same at every look."""
    places = list(range(len(task.target_ids)))
    if project.order == "random":
        random.Random(make_id("order", task.key, who.pseudonym)).shuffle(places)
    return places


def give_back(db: Connection, task: int, person: int, state: str = "returned") -> None:
    """End a lease or a label of a person on a task, and let somebody else have the place.

    Args:
        db: a write transaction.
        task: which task.
        person: whose.
        state: what the work is then: returned (they may get it again), skipped, asked or requeued.
    """
    row = db.execute(_mine(select(work), task, person)).one()
    db.execute(_mine(update(work), task, person).values(state=state))
    if row.state in ("leased", "done") and not row.gold:
        db.execute(update(tasks).where(tasks.c.task_id == task).values(free=tasks.c.free + 1))


def take_place(db: Connection, task: int, person: int) -> bool:
    """Take a place of a task again for somebody whose own was given back; whether there was one."""
    row = db.execute(_mine(select(work), task, person)).one()
    if not row.gold:
        free = (tasks.c.task_id == task) & (tasks.c.free > 0) & (tasks.c.state == "open")
        if not db.execute(update(tasks).where(free).values(free=tasks.c.free - 1)).rowcount:
            return False
    db.execute(_mine(update(work), task, person).values(state="leased"))
    return True


def _let_on(project: int, person: int) -> str:
    """The setting that lets somebody go on."""
    return f"let_on:{project}:{person}"


def _mine(statement: Any, task: int, person: int) -> Any:
    return statement.where(work.c.task_id == task, work.c.person_id == person)
