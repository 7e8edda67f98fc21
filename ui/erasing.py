"""What `prefdata erase` takes from the label store, beside what it takes from the dataset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, func, select, text, update

from prefdata.dataset import Dataset
from prefdata.dataset.closure import Target

from .answers.annotations import annotator_of
from .store import Store
from .store.store import ELSEWHERE, FILE
from .store.tables import acknowledgements, flags, invitations, labels, people, questions, sessions, tasks, work

_ABOUT_TASKS = (labels, work, questions)
_OF_PEOPLE = (labels, work, questions, flags, acknowledgements, sessions, invitations)


class Erasing:
    """Erases a person, or the tasks of prompts that are erased.

    Args:
        dataset: whose store.
        target: who or what.
        url: of the store; in the dataset's folder unless given.

    Raises:
        DataError: the labels are kept elsewhere, and no URL says where.
    """

    def __init__(self, dataset: Dataset, target: Target, url: str | None) -> None:
        self.dataset, self.target = dataset, target
        there = url is not None or (dataset.path / FILE).exists() or (dataset.path / ELSEWHERE).exists()
        self.store = Store.open(dataset.path, url) if there else None

    def reach(self) -> str:
        """A sentence on what will go; none where there is no store."""
        if self.store is None:
            return ""
        if self.target.kind != "annotator":
            return f"in the label store {self.store}: the tasks of these prompts, with their labels"
        with self.store.read() as db:
            person = self._person(db)
            if person is None:
                return f"the label store {self.store} has nobody of that name"
            own = select(func.count()).select_from(labels).where(labels.c.person_id == person)
            return f"in the label store {self.store}: the account, and {db.execute(own).scalar_one():,} labels"

    def erase(self) -> str:
        """Erase from the store, and overwrite what its file held; a sentence on what went."""
        if self.store is None:
            return ""
        try:
            with self.store.write() as db:
                count = self._erase_person(db) if self.target.kind == "annotator" else self._erase_tasks(db)
            self._wipe(self.store)
            return f"label store: {count:,} labels erased; back-ups of it are not reached"
        finally:
            self.store.close()

    def _person(self, db: Connection) -> int | None:
        for row in db.execute(select(people.c.person_id, people.c.pseudonym)):
            if annotator_of(row.pseudonym) == self.target.name:
                return int(row.person_id)
        return None

    def _erase_person(self, db: Connection) -> int:
        person = self._person(db)
        if person is None:
            return 0
        held = select(work.c.task_id).where(
            work.c.person_id == person, work.c.state.in_(["leased", "done"]), ~work.c.gold
        )
        db.execute(update(tasks).where(tasks.c.task_id.in_(held)).values(free=tasks.c.free + 1))
        db.execute(update(tasks).where(tasks.c.person_id == person).values(person_id=None))
        count = db.execute(select(func.count()).select_from(labels).where(labels.c.person_id == person)).scalar_one()
        for table in _OF_PEOPLE:
            db.execute(delete(table).where(table.c.person_id == person))
        db.execute(delete(people).where(people.c.person_id == person))
        return int(count)

    def _erase_tasks(self, db: Connection) -> int:
        erased = self.dataset.erased
        gone = {
            row.task_id
            for row in db.execute(select(tasks.c.task_id, tasks.c.group_id, tasks.c.prompt_id, tasks.c.target_ids))
            if erased.holds("prompts", {"group_id": row.group_id, "prompt_id": row.prompt_id})
            or any(erased.holds("responses", {"response_id": one}) for one in row.target_ids)
        }
        count = 0
        for batch in _batches(gone, 500):
            prompts = db.execute(select(tasks.c.prompt_id).where(tasks.c.task_id.in_(batch))).scalars().all()
            db.execute(delete(flags).where(flags.c.prompt_id.in_(prompts)))
            for table in _ABOUT_TASKS:
                done = db.execute(delete(table).where(table.c.task_id.in_(batch)))
                count += done.rowcount if table is labels else 0
            db.execute(delete(tasks).where(tasks.c.task_id.in_(batch)))
        return count

    @staticmethod
    def _wipe(store: Store) -> None:
        """Deleted rows stay in an SQLite file until it is written anew."""
        if store.sqlite:
            with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
                db.exec_driver_sql("COMMIT")
                db.exec_driver_sql("VACUUM")
                db.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))


def _batches(ids: Iterable[Any], size: int) -> Iterable[list[Any]]:
    wanted = sorted(ids)
    return (wanted[start : start + size] for start in range(0, len(wanted), size))
