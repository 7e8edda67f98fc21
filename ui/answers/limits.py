"""Who may still say something, and how much: nobody's mistake or malice may cost the others their project."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Row, func, select

from prefdata.errors import PrefdataError

from ..accounts.people import Person
from ..store.tables import flags, labels, people, questions
from ..work.making import is_meant
from ..work.projects import Held, label_count
from .checks import AnswerError

MOST_QUESTIONS = 20
"""Questions of one person to one project that nobody has answered yet."""

MOST_FLAGS = 10
"""Reports of one person that nobody has decided yet: each takes a prompt away from everybody."""

MOST_REVISIONS = 50
"""Of one label: each is kept for good."""

_KEY = re.compile(r"[ -~]{1,40}")  # ASCII that can be seen: it is the same text to every database


class GoneError(PrefdataError):
    """A task that is no longer this person's; the message is a sentence for them."""


def key_of(who: Person, key: object) -> str:
    """A key that the page made, as the store holds it: looked up and stored in one and the same spelling.

    Raises:
        AnswerError: it is none.
    """
    plain = key.strip() if isinstance(key, str) else ""
    if not _KEY.fullmatch(plain):
        raise AnswerError("the answer's key is 1 to 40 characters of plain ASCII")
    return f"{who.person_id}:{plain}"


def revision_of(db: Connection, who: Person, key: str, task: int) -> int | None:
    """The revision that was stored under a key; None where none was.

    Raises:
        AnswerError: the key is that of another task, of which nothing must be said to be stored.
    """
    found = select(labels.c.revision, labels.c.task_id).where(labels.c.client_key == key_of(who, key))
    known = db.execute(found).first()
    if known is not None and known.task_id != task:
        raise AnswerError("this key was used for another task: load the page again and send the answer once more")
    return None if known is None else int(known.revision)


def may_work(db: Connection, who: Person, held: Held) -> None:
    """Whether a person may say anything in a project at this moment, by what the store says of both.

    Raises:
        GoneError: they are paused or stopped, the project is not open, or it is not, or no longer, for them.
    """
    now = db.execute(select(people).where(people.c.person_id == who.person_id)).first()
    if now is None or now.state == "stopped":
        raise GoneError("your work on this project has ended; nothing was changed")
    if now.state != "active":
        raise GoneError("the lead has paused your work: nothing was changed; ask them when it goes on")
    if held.state != "open":
        raise GoneError(f"the project is {held.state} at the moment: nothing was changed")
    if not is_meant(held.project, now.pseudonym, now.groups, now.skills):
        raise GoneError("this project is for other people now: nothing was changed")


def within_quota(db: Connection, who: Person, held: Held, mine: Row[Any], now: float) -> None:
    """Whether a person may take one more place of a project; corrections take none, and gold is not told apart.

    Raises:
        GoneError: they have done all that were meant for them, in all or on this day (UTC).
    """
    if mine.state == "done":
        return
    for quota, since in ((held.project.quota, 0.0), (held.project.quota_day, now // 86400 * 86400)):
        if quota and label_count(db, held.id, who.person_id, since) >= quota:
            day = " today" if since else ""
            raise GoneError(f"you have done all {quota} tasks that were meant for you{day}: this one is for others")


def may_revise(last: int) -> None:
    """Whether a label that has so many revisions may get one more.

    Raises:
        AnswerError: it has too many.
    """
    if last >= MOST_REVISIONS:
        raise AnswerError(f"this task was answered {last} times already: ask the lead if the last answer is not right")


def may_ask(db: Connection, who: Person, held: Held) -> None:
    """Whether a person may ask one more question.

    Raises:
        AnswerError: too many wait for an answer.
    """
    own = (questions.c.person_id == who.person_id) & (questions.c.project_id == held.id)
    found = select(func.count()).select_from(questions).where(own, questions.c.answer.is_(None))
    if db.execute(found).scalar_one() >= MOST_QUESTIONS:
        raise AnswerError(
            f"{MOST_QUESTIONS} of your questions wait for an answer: ask again when the lead has answered"
        )


def may_flag(db: Connection, who: Person, prompt: str) -> bool:
    """Whether a person may report a prompt; False where their report of it is there already.

    Raises:
        AnswerError: a reviewer has refused their report, or too many of theirs are undecided.
    """
    own = flags.c.person_id == who.person_id
    states = set(db.execute(select(flags.c.state).where(own, flags.c.prompt_id == prompt)).scalars())
    if states & {"open", "upheld"}:
        return False
    if "refused" in states:
        raise AnswerError("a reviewer has refused your report of this prompt: answer it, or skip it")
    found = select(func.count()).select_from(flags).where(own, flags.c.state == "open")
    if db.execute(found).scalar_one() >= MOST_FLAGS:
        raise AnswerError(f"{MOST_FLAGS} of your reports wait for a reviewer: skip this task, or report it later")
    return True
