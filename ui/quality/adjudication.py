"""What people answered differently: which tasks, how far apart, and what a reviewer says of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, Text, cast, select, update

from prefdata.cards import Card
from prefdata.errors import DataError
from prefdata.schema import canonical_json

from ..accounts.access import need
from ..accounts.people import NotAllowed, Person
from ..answers.labels import last_label
from ..store.tables import labels, people, tasks, work
from ..work.projects import Held, guideline_by, project_by
from .apart import disagreement, widest

if TYPE_CHECKING:
    from ..service import Service

MOST_MORE = 20
"""Labels that one click can ask for beside those of the project."""

WIDE = 2.0
"""HelpSteer2 collects up to two more labels where scores of helpfulness lie further apart than this."""

_AT_ONCE = 500


@dataclass(frozen=True)
class Answered:
    """What one person says of a task now.

    Attributes:
        person: their pseudonym.
        answer: with positions in the task's target_ids.
        guideline: name@hash under which it was given.
        seconds: active time.
        at: when, in seconds since 1970.
        revision: 1, or more where it was corrected.
    """

    person: str
    answer: Mapping[str, Any]
    guideline: str
    seconds: float
    at: float
    revision: int


@dataclass(frozen=True)
class Disagreement:
    """A task on which people differ.

    Attributes:
        task_id: which.
        prompt_id: of its prompt.
        value: how far apart they are, above 0; see `apart.MEANING`.
        answers: theirs, in the order in which they came.
        verdicts: of those who adjudicated it; empty while nobody has.
        widest: rate: the widest range of the scores of one response under one aspect, in points; else None.
    """

    task_id: int
    prompt_id: str
    value: float
    answers: tuple[Answered, ...]
    verdicts: tuple[Answered, ...]
    widest: float | None


def disagreements(
    service: Service, project: str | int, limit: int = 100, *, task: int | None = None
) -> list[Disagreement]:
    """The tasks of a project whose labels differ: the most disputed first, those that were adjudicated last.

    A person's last label counts. Gold questions and prompts that were reported as bad are left out.

    Args:
        service: the application.
        project: name or number.
        limit: so many at most.
        task: only this one.

    Raises:
        DataError: there is no such project.
    """
    with service.store.read() as db:
        held = project_by(db, project)
        if held.project.protocol == "edit":
            return []
        card = guideline_by(db, held.id, held.guideline).card
        apart = _Apart(service, held, card)
        found = []
        for number, (answers, decided) in _said_of(db, held, task).items():
            if len(answers) > 1 and (value := apart(number, answers)) > 1e-12:
                found.append((decided, -value, number))
        # Only now all that is known of a task: of most tasks nobody asks.
        chosen = {number: -value for _, value, number in sorted(found)[:limit]}
        return [_disagreement(held, value, rows) for value, rows in _rows_of(db, chosen)]


_Said = dict[int, tuple[list[str], bool]]
"""By task: the answers of its people as JSON, and whether somebody has adjudicated it."""


def place_of(one: Disagreement) -> tuple[bool, float, int]:
    """Where a task stands among the others: the order of `disagreements`."""
    return bool(one.verdicts), -one.value, one.task_id


def _said_of(db: Connection, held: Held, task: int | None) -> _Said:
    mine = (labels.c.project_id == held.id) & (tasks.c.state == "open")
    if task is not None:
        mine &= labels.c.task_id == task
    query = (
        select(labels.c.task_id, labels.c.person_id, labels.c.kind, labels.c.status, cast(labels.c.answer, Text))
        .join(tasks, tasks.c.task_id == labels.c.task_id)
        .where(mine)
        .order_by(labels.c.label_id)  # of one person's the last one stays
    )
    last = {(number, person): row for number, person, *row in db.execute(query)}
    made: _Said = {}
    for (number, _), (kind, status, answer) in last.items():
        if status == "ok":
            answers, decided = made.get(number, ([], False))
            made[number] = (answers, True) if kind == "adjudication" else ([*answers, answer], decided)
    return made


class _Apart:
    """How far the answers to a task are apart. Many tasks have the same answers: those are looked at once."""

    def __init__(self, service: Service, held: Held, card: Card) -> None:
        self.service, self.held, self.card = service, held, card
        self._known: dict[tuple[str, ...], float] = {}

    def __call__(self, task: int, answers: Sequence[str]) -> float:
        if len(set(answers)) == 1:
            return 0.0
        given = [json.loads(answer) for answer in answers]
        protocol = self.held.project.protocol
        if protocol == "spans":
            return disagreement(protocol, given, self.card, self._texts(task))
        key = tuple(sorted(canonical_json(answer[_KEY[protocol]]) for answer in given))
        if key not in self._known:
            self._known[key] = disagreement(protocol, given, self.card)
        return self._known[key]

    def _texts(self, task: int) -> list[str]:
        with self.service.store.read() as db:
            ids = db.execute(select(tasks.c.target_ids).where(tasks.c.task_id == task)).scalar_one()
        try:
            known = self.service.texts.responses(ids)
        except DataError:  # erased meanwhile: then no word is known, and passages are alike
            return [""] * len(ids)
        return [known[one]["text"] or "" for one in ids]


_KEY = {
    "compare": "choice",
    "rank": "ranks",
    "rate": "scores",
    "best": "best",
    "thumbs": "thumbs",
    "first_error": "step",
    "spans": "spans",
}
"""Where the answer of each protocol stands; reasons and confidence stand beside."""


def _rows_of(db: Connection, chosen: Mapping[int, float]) -> Iterator[tuple[float, list[Row[Any]]]]:
    """The value and the last labels of each task, in the order of `chosen`."""
    ids = list(chosen)
    rows: dict[int, dict[int, Row[Any]]] = defaultdict(dict)
    for start in range(0, len(ids), _AT_ONCE):
        query = (
            select(labels, people.c.pseudonym, tasks.c.prompt_id)
            .join(tasks, tasks.c.task_id == labels.c.task_id)
            .join(people, people.c.person_id == labels.c.person_id)
            .where(labels.c.task_id.in_(ids[start : start + _AT_ONCE]))
            .order_by(labels.c.label_id)
        )
        for row in db.execute(query):
            rows[row.task_id][row.person_id] = row
    for number, value in chosen.items():
        yield value, sorted(rows[number].values(), key=lambda row: row.label_id)


def _disagreement(held: Held, value: float, rows: Sequence[Row[Any]]) -> Disagreement:
    said = [row for row in rows if row.status == "ok"]
    given = tuple([_answered(row) for row in said if row.kind == "label"])
    return Disagreement(
        task_id=rows[0].task_id,
        prompt_id=rows[0].prompt_id,
        value=value,
        answers=given,
        verdicts=tuple([_answered(row) for row in said if row.kind == "adjudication"]),
        widest=widest([one.answer for one in given]) if held.project.protocol == "rate" else None,
    )


def _answered(row: Row[Any]) -> Answered:
    return Answered(row.pseudonym, row.answer, row.guideline, row.seconds, row.created_at, row.revision)


# What a reviewer does about it


def refusal(service: Service, who: Person, task: int) -> str | None:
    """Why this reviewer cannot adjudicate a task, in a sentence; None where they can."""
    with service.store.read() as db:
        return _refusal(db, who, task)


def _refusal(db: Connection, who: Person, task: int) -> str | None:
    last = last_label(db, task, who.person_id)
    if last is not None and last.kind == "label" and last.status == "ok":
        return "You have labelled this task yourself: another reviewer has to decide it."
    mine = select(work.c.state).where(work.c.task_id == task, work.c.person_id == who.person_id)
    if db.execute(mine).scalar() == "leased":
        return "You have this task open on the label page: give it back there first, or let another reviewer decide it."
    return None


def adjudicate(
    service: Service, who: Person, task: int, key: str, answer: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Take a reviewer's verdict on a task; a second one of the same reviewer is a correction. All labels stay.

    Args:
        service: the application.
        who: a reviewer who has not labelled the task.
        task: which.
        key: made by the page: the same verdict sent twice is taken once.
        answer: with positions in target_ids.
        seconds: active time.

    Returns:
        revision: 1, or more for a correction.

    Raises:
        NotAllowed: no reviewer, or they have labelled the task themselves.
        AnswerError: the answer does not fit the task.
        GoneError: there is no such task.
    """
    need(who, "reviewer")
    why = refusal(service, who, task)
    if why is not None:
        raise NotAllowed(why)
    return service.labels.adjudicate(who, task, key, answer, seconds)


def collect_more(
    service: Service, who: Person | None, task_ids: Sequence[int], n: int, *, most: int | None = None
) -> int:
    """Ask for n labels more on each of these tasks, by people who have not labelled them.

    Gold questions, tasks of prompts that were reported, and tasks that are meant for one person alone stay as they are.

    Args:
        service: the application.
        who: a reviewer; None: the command line.
        task_ids: which tasks.
        n: how many labels more, 1 to `MOST_MORE`.
        most: leave out tasks that would want more labels than this in all: the same wish twice then counts once.

    Returns:
        How many tasks were opened again.

    Raises:
        DataError: n is out of range.
    """
    need(who, "reviewer")
    if not 1 <= n <= MOST_MORE:
        raise DataError(f"1 to {MOST_MORE} more labels can be asked for at once, not {n}")
    ids, opened = sorted(set(task_ids)), 0
    fitting = (tasks.c.state == "open") & tasks.c.person_id.is_(None)
    if most is not None:
        fitting &= tasks.c.wanted + n <= most
    with service.store.write() as db:
        for start in range(0, len(ids), _AT_ONCE):
            these = tasks.c.task_id.in_(ids[start : start + _AT_ONCE])
            # Both rise by the same number, whatever is being worked on: free == wanted - taken holds as before.
            more = update(tasks).where(these, fitting).values(wanted=tasks.c.wanted + n, free=tasks.c.free + n)
            opened += db.execute(more).rowcount
    return opened
