"""Labels: given, corrected, skipped, asked about; durable before they are acknowledged, and never overwritten."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, case, func, insert, select, update

from prefdata.errors import DataError

from ..accounts.access import need
from ..accounts.people import Person
from ..store import Store
from ..store.tables import flags, labels, people, questions, tasks, work
from ..work.gold import is_right
from ..work.projects import Held, guideline_by, has_read, project_by
from ..work.queue import give_back, take_place
from ..work.shown import ends_of
from ..work.texts import Texts
from . import limits
from .checks import AnswerError, checked, turned
from .limits import GoneError

__all__ = ["GoneError", "Labels", "last_label"]

_MOST_REASON = 2_000
"""Characters of a reason, a question or a flag."""

_LONGEST = 6 * 3600.0
"""Seconds that one label may take at most."""

_MOST_SEEN = 500
"""Questions that a list shows to a reviewer."""

_NEWEST = 100
"""Questions that a list shows to an annotator."""


class Labels:
    """What people answer.

    Args:
        store: where it goes.
        texts: of the dataset: an answer is checked against what was shown.
        clock: seconds since 1970; tests set it.
    """

    def __init__(self, store: Store, texts: Texts, clock: Callable[[], float] = time.time) -> None:
        self.store, self.texts, self.clock = store, texts, clock

    def submit(
        self, who: Person, task: int, key: str, answer: Mapping[str, Any], seconds: float, guideline: str
    ) -> dict[str, Any]:
        """Take an answer, or a correction of an earlier one.

        Args:
            who: whose.
            task: which.
            key: made by the page: the same answer sent twice is taken once.
            answer: see `answers.py`; positions as shown.
            seconds: active time.
            guideline: the label of the guidelines under which it was shown.

        Returns:
            revision, and feedback {right, explanation} in the qualification round.

        Raises:
            AnswerError: the answer does not fit the task, its key is another task's, or it was corrected too often.
            GoneError: the task is no longer this person's, or they may not work on it at this moment.
        """
        with self.store.read() as db:
            if (known := limits.revision_of(db, who, key, task)) is not None:
                return {"revision": known, "feedback": None}
            row, mine, held = self._mine(db, who, task)
            limits.may_work(db, who, held)
            if not has_read(db, who.person_id, held.id, guideline):
                raise GoneError("the guidelines have changed: please read them; your answer is still here")
            card = guideline_by(db, held.id, guideline).card
        known_texts = self.texts.responses(row.target_ids)
        responses = [known_texts[row.target_ids[place]] for place in mine.shown]
        shown = [response["text"] or "" for response in responses]
        made = turned(checked(answer, held.project, card, shown, len(ends_of(responses[0]))), mine.shown)
        return self._put(who, row, mine.shown, held, key, made, "ok", seconds, guideline)

    def skip(self, who: Person, task: int, key: str, reason: str, seconds: float) -> dict[str, Any]:
        """Leave a task to others, with a reason; it is recorded and held against nobody.

        Raises:
            AnswerError: the project does not allow it, or no reason is given.
            GoneError: the task is no longer this person's, or they may not work on it at this moment.
        """
        with self.store.read() as db:
            if (known := limits.revision_of(db, who, key, task)) is not None:
                return {"revision": known, "feedback": None}
            row, mine, held = self._mine(db, who, task)
            limits.may_work(db, who, held)
        if not held.project.may_skip:
            raise AnswerError("this project has no skipping: ask the lead instead")
        said = {"reason": _said(reason, "the reason for skipping")}
        return self._put(who, row, mine.shown, held, key, said, "skipped", seconds, held.guideline)

    def _put(
        self,
        who: Person,
        task: Row[Any],
        shown: list[int],
        held: Held,
        key: str,
        answer: Mapping[str, Any],
        status: str,
        seconds: float,
        guideline: str,
        kind: str = "label",
    ) -> dict[str, Any]:
        now = self.clock()
        with self.store.write() as db:
            if (known := limits.revision_of(db, who, key, task.task_id)) is not None:
                return {"revision": known, "feedback": None}
            mine = db.execute(_work(task.task_id, who.person_id)).first()
            if kind == "label":
                # Once more, and under the lock: whoever was paused while they wrote has been paused.
                now_held = project_by(db, held.id)
                limits.may_work(db, who, now_held)
                if mine is None or mine.state == "requeued":
                    raise GoneError("this task is no longer yours")
                if status == "ok":
                    limits.within_quota(db, who, now_held, mine, now)
                    self._hold_place(db, task.task_id, who, mine)
            last = db.execute(
                select(func.max(labels.c.revision)).where(
                    labels.c.task_id == task.task_id, labels.c.person_id == who.person_id
                )
            ).scalar()
            limits.may_revise(last or 0)
            revision = (last or 0) + 1
            db.execute(
                insert(labels).values(
                    task_id=task.task_id,
                    person_id=who.person_id,
                    project_id=held.id,
                    revision=revision,
                    kind=kind,
                    status=status,
                    answer=dict(answer),
                    shown=list(shown),
                    guideline=guideline,
                    seconds=min(max(float(seconds), 0.0), _LONGEST),
                    created_at=now,
                    client_key=limits.key_of(who, key),
                    pulled=False,
                )
            )
            if status == "skipped" and mine is not None and mine.state != "skipped":
                give_back(db, task.task_id, who.person_id, "skipped")
            elif status == "ok" and mine is not None and kind == "label":
                mark = update(work).where(work.c.task_id == task.task_id, work.c.person_id == who.person_id)
                db.execute(mark.values(state="done", done_at=now))
            feedback = self._feedback(db, who, task, held, answer) if status == "ok" and revision == 1 else None
        return {"revision": revision, "feedback": feedback}

    def _hold_place(self, db: Connection, task: int, who: Person, mine: Row[Any]) -> None:
        """Make sure that this label is one of those that the task wants."""
        state = db.execute(select(tasks.c.state).where(tasks.c.task_id == task)).scalar()
        if state == "withdrawn":
            raise GoneError("this prompt was reported as bad and taken away: nothing needs to be done for it")
        if mine.state not in ("leased", "done") and not take_place(db, task, who.person_id):
            raise GoneError("the time for this task ran out, and others have done it meanwhile")

    def _feedback(
        self, db: Connection, who: Person, task: Row[Any], held: Held, answer: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Whether a gold question was answered rightly; told in the qualification round only."""
        if task.gold is None or not held.project.qualify:
            return None
        own = (work.c.person_id == who.person_id) & (work.c.project_id == held.id) & work.c.gold
        done = db.execute(select(func.count()).where(own, work.c.state == "done")).scalar_one()
        if done > held.project.qualify:
            return None
        return {
            "right": is_right(answer, task.gold["answer"], held.project),
            "explanation": task.gold.get("explanation") or "",
        }

    def _mine(self, db: Connection, who: Person, task: int) -> tuple[Row[Any], Row[Any], Held]:
        row = db.execute(select(tasks).where(tasks.c.task_id == task)).first()
        mine = None if row is None else db.execute(_work(task, who.person_id)).first()
        if row is None or mine is None:
            raise GoneError("this task is not yours")
        return row, mine, project_by(db, row.project_id)

    def opened(self, who: Person, task: int) -> tuple[Row[Any], list[int], Held, Row[Any] | None]:
        """A task that a person had, with their last label (positions in target_ids): to look at it or to correct it.

        Raises:
            GoneError: they never had it.
        """
        with self.store.read() as db:
            row, mine, held = self._mine(db, who, task)
            return row, mine.shown, held, last_label(db, task, who.person_id)

    def last_task(self, who: Person, project: int) -> int | None:
        """The task that a person answered or skipped last; what was taken back from them is none of theirs."""
        rows = self.mine(who, project, 1)
        return int(rows[0].task_id) if rows else None

    def mine(self, who: Person, project: int, limit: int = 50) -> list[Row[Any]]:
        """A person's own labels, the newest first, each task once: rows of `labels` with prompt_id."""
        own = (labels.c.person_id == who.person_id) & (labels.c.project_id == project) & (labels.c.kind == "label")
        newest = select(func.max(labels.c.label_id)).where(own).group_by(labels.c.task_id)
        found = select(labels, tasks.c.prompt_id).join(tasks, tasks.c.task_id == labels.c.task_id)
        found = found.where(labels.c.label_id.in_(newest), labels.c.status != "deleted")
        with self.store.read() as db:
            return list(db.execute(found.order_by(labels.c.label_id.desc()).limit(min(limit, 500))).all())

    def ask(self, who: Person, task: int, text: str) -> None:
        """Ask the lead about a task; it goes back meanwhile. The answer will be seen by everybody.

        Raises:
            AnswerError: there is no text, or too many questions of theirs wait for an answer.
            GoneError: they never had the task, or may not work on it at this moment.
        """
        said = _said(text, "the question")
        with self.store.write() as db:
            row, mine, held = self._mine(db, who, task)
            limits.may_work(db, who, held)
            limits.may_ask(db, who, held)
            db.execute(
                insert(questions).values(
                    project_id=held.id, task_id=row.task_id, person_id=who.person_id, text=said, created_at=self.clock()
                )
            )
            if mine.state == "leased":
                give_back(db, task, who.person_id, "asked")

    def answer(self, who: Person, question: int, text: str) -> None:
        """Answer a question; whoever asked gets the task again."""
        need(who, "reviewer")
        said = _said(text, "the answer")
        with self.store.write() as db:
            row = db.execute(select(questions).where(questions.c.question_id == question)).first()
            if row is None:
                raise DataError("there is no such question")
            mark = update(questions).where(questions.c.question_id == question)
            db.execute(mark.values(answer=said, answered_at=self.clock()))
            mine = db.execute(_work(row.task_id, row.person_id)).first()
            if mine is not None and mine.state == "asked":
                give_back(db, row.task_id, row.person_id)

    def questions(self, who: Person, project: int) -> list[Row[Any]]:
        """Questions that have an answer, and a person's own; for reviewers all. The newest first.

        There is no drowning a question in others: annotators see the newest, reviewers before all others those that
        are open, whoever has waited longest first.
        """
        found = select(questions).where(questions.c.project_id == project)
        if who.may("reviewer"):
            is_open = questions.c.answer.is_(None)
            oldest = case((is_open, questions.c.question_id), else_=-questions.c.question_id)
            found = found.order_by(is_open.desc(), oldest).limit(_MOST_SEEN)
        else:
            said = questions.c.answer.is_not(None) | (questions.c.person_id == who.person_id)
            found = found.where(said).order_by(questions.c.question_id.desc()).limit(_NEWEST)
        with self.store.read() as db:
            return sorted(db.execute(found).all(), key=lambda row: -row.question_id)

    def flag(self, who: Person, task: int, reason: str) -> None:
        """Report a bad prompt: its tasks are taken away from everybody, until a reviewer has decided.

        Raises:
            AnswerError: no reason is given, a reviewer has refused the same report, or too many are undecided.
            GoneError: they never had the task, or may not work on it at this moment.
        """
        said = _said(reason, "what is wrong")
        with self.store.write() as db:
            row, mine, held = self._mine(db, who, task)
            limits.may_work(db, who, held)
            if mine.state == "leased":
                give_back(db, task, who.person_id)
            if limits.may_flag(db, who, row.prompt_id):
                about = {"project_id": held.id, "prompt_id": row.prompt_id, "person_id": who.person_id}
                db.execute(insert(flags).values(**about, reason=said, state="open", created_at=self.clock()))
            db.execute(
                update(tasks)
                .where(tasks.c.prompt_id == row.prompt_id, tasks.c.state == "open")
                .values(state="withdrawn")
            )

    def flags(self, who: Person | None) -> list[Row[Any]]:
        """What was reported and not yet decided, with pseudonyms; the newest first."""
        need(who, "reviewer")
        found = select(flags, people.c.pseudonym).join(people, people.c.person_id == flags.c.person_id)
        with self.store.read() as db:
            return list(db.execute(found.where(flags.c.state == "open").order_by(flags.c.flag_id.desc())).all())

    def decide_flag(self, who: Person | None, flag: int, *, bad: bool) -> str:
        """Decide on a report: a bad prompt stays away, any other goes back to the queue. Returns its prompt_id."""
        need(who, "reviewer")
        with self.store.write() as db:
            row = db.execute(select(flags).where(flags.c.flag_id == flag)).first()
            if row is None:
                raise DataError("there is no such report")
            same = (flags.c.prompt_id == row.prompt_id) & (flags.c.state == "open")
            db.execute(update(flags).where(same).values(state="upheld" if bad else "refused"))
            if not bad:
                back = (tasks.c.prompt_id == row.prompt_id) & (tasks.c.state == "withdrawn")
                db.execute(update(tasks).where(back).values(state="open"))
            prompt: str = row.prompt_id
            return prompt

    def adjudicate(self, who: Person, task: int, key: str, answer: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Take a reviewer's own verdict on a task that others disagree on. Their labels stay; no place is needed.

        Args:
            who: a reviewer.
            task: which.
            key: see `submit`.
            answer: with positions in target_ids.
            seconds: active time.
        """
        need(who, "reviewer")
        with self.store.read() as db:
            row = db.execute(select(tasks).where(tasks.c.task_id == task)).first()
            if row is None:
                raise GoneError("there is no such task")
            held = project_by(db, row.project_id)
            card = guideline_by(db, held.id, held.guideline).card
        known = self.texts.responses(row.target_ids)
        texts = [known[one]["text"] or "" for one in row.target_ids]
        made = checked(answer, held.project, card, texts, len(ends_of(known[row.target_ids[0]])))
        shown = list(range(len(texts)))
        return self._put(who, row, shown, held, key, made, "ok", seconds, held.guideline, "adjudication")


def last_label(db: Connection, task: int, person: int) -> Row[Any] | None:
    """What a person said last of a task."""
    own = (labels.c.task_id == task) & (labels.c.person_id == person)
    return db.execute(select(labels).where(own).order_by(labels.c.revision.desc()).limit(1)).first()


def _work(task: int, person: int) -> Any:
    return select(work).where(work.c.task_id == task, work.c.person_id == person)


def _said(text: object, what: str) -> str:
    plain = text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8").strip() if isinstance(text, str) else ""
    if not plain:
        raise AnswerError(f"{what} is missing")
    if len(plain) > _MOST_REASON:
        raise AnswerError(f"{what} has {len(plain):,} characters; at most {_MOST_REASON:,} are taken")
    return plain
