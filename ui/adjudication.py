"""What people answered differently: which tasks, how far apart, and what a reviewer says of them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, Select, func, select, update

from prefdata.cards import Card
from prefdata.errors import DataError
from prefdata.stats import kendall_tau_b

from .access import need
from .labels import last_label
from .people import NotAllowed, Person
from .projects import Held, guideline_by, project_by
from .store.tables import labels, people, tasks, work

if TYPE_CHECKING:
    from .service import Service

MOST_MORE = 20
"""Labels that one click can ask for beside those of the project."""

WIDE = 2.0
"""HelpSteer2 collects up to two more labels where scores of helpfulness lie further apart than this."""

_AT_ONCE = 500
_WORD = re.compile(r"\S+")

MEANING: dict[str, str] = {
    "compare": "0 is one side for all, 0.5 half against half; a tie against a side counts half as much as the other "
    "side does.",
    "rank": "0 is one order for all, 1 no relation between the orders, 2 the reverse (1 minus the mean of Kendall's "
    "tau-b).",
    "rate": "1 is the whole scale between the lowest and the highest score of the response most apart.",
    "best": "The share of people who chose otherwise than most.",
    "thumbs": "The share of people who voted otherwise than most, on the response most disputed.",
    "first_error": "The share of people who named another step than most.",
    "spans": "0 is the same words with the same labels for all, 1 no word in common (1 minus the mean F1 of words).",
    "edit": "Edited texts are not compared with one another.",
}
"""What the number means, by protocol."""


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
        value: how far apart they are, above 0; see `MEANING`.
        answers: theirs, in the order in which they came.
        verdicts: of those who adjudicated it; empty while nobody has.
        wanted: labels that the task is to get.
        widest: rate: the widest range of the scores of one response under one aspect, in points; else None.
    """

    task_id: int
    prompt_id: str
    value: float
    answers: tuple[Answered, ...]
    verdicts: tuple[Answered, ...]
    wanted: int
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
        rows: dict[int, list[Row[Any]]] = defaultdict(list)
        for row in db.execute(_last_labels(held, task)):
            rows[row.task_id].append(row)
    found = [_disagreement(service, held, card, of_task) for of_task in rows.values()]
    differ = [one for one in found if one is not None and one.value > 1e-12]
    return sorted(differ, key=lambda one: (bool(one.verdicts), -one.value, one.task_id))[:limit]


def _last_labels(held: Held, task: int | None) -> Select[Any]:
    """The last labels of the tasks that two people or more have answered, in the order in which they were given."""
    mine = labels.c.project_id == held.id
    if task is not None:
        mine &= labels.c.task_id == task
    newest = select(func.max(labels.c.label_id)).where(mine).group_by(labels.c.task_id, labels.c.person_id)
    answered = mine & (labels.c.kind == "label") & (labels.c.status == "ok")
    several = (
        select(labels.c.task_id)
        .where(answered, labels.c.label_id.in_(newest))
        .group_by(labels.c.task_id)
        .having(func.count() > 1)
    )
    return (
        select(labels, people.c.pseudonym, tasks.c.prompt_id, tasks.c.target_ids, tasks.c.wanted)
        .join(tasks, tasks.c.task_id == labels.c.task_id)
        .join(people, people.c.person_id == labels.c.person_id)
        .where(labels.c.label_id.in_(newest), labels.c.status == "ok", labels.c.task_id.in_(several))
        .where(tasks.c.state == "open")
        .order_by(labels.c.label_id)
    )


def _disagreement(service: Service, held: Held, card: Card, rows: Sequence[Row[Any]]) -> Disagreement | None:
    given = tuple(_answered(row) for row in rows if row.kind == "label")
    answers = [one.answer for one in given]
    texts: list[str] = []
    if held.project.protocol == "spans":
        if all(answer["spans"] == answers[0]["spans"] for answer in answers):
            return None  # texts are read only where they matter
        try:
            known = service.texts.responses(rows[0].target_ids)
        except DataError:  # erased meanwhile: there is nothing to decide about
            return None
        texts = [known[one]["text"] or "" for one in rows[0].target_ids]
    return Disagreement(
        task_id=rows[0].task_id,
        prompt_id=rows[0].prompt_id,
        value=disagreement(held.project.protocol, answers, card, texts),
        answers=given,
        verdicts=tuple(_answered(row) for row in rows if row.kind == "adjudication"),
        wanted=rows[0].wanted,
        widest=widest(answers) if held.project.protocol == "rate" else None,
    )


def _answered(row: Row[Any]) -> Answered:
    return Answered(row.pseudonym, row.answer, row.guideline, row.seconds, row.created_at, row.revision)


# How far apart


def disagreement(protocol: str, answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str] = ()) -> float:
    """How far answers to one task are apart; 0 where they are alike, or where fewer than two can be compared.

    Args:
        protocol: of the project.
        answers: one of each person, with positions in target_ids.
        card: its aspects state the scales of `rate`.
        texts: [k] of the responses, for `spans`.
    """
    if len(answers) < 2 or protocol == "edit":
        return 0.0
    return _MEASURES[protocol](answers, card, texts)


_Measure = Callable[[Sequence[Mapping[str, Any]], Card, Sequence[str]], float]


def _compare(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    """What would have to change for all to be on one side, for each person; between tie and side: one half."""
    sides = Counter(_side(answer["choice"]) for answer in answers)
    return min(sum(abs(side - to) / 2 * n for side, n in sides.items()) for to in (-1, 0, 1)) / len(answers)


def _side(choice: object) -> int:
    """-1, 0 or 1; both bad is on neither side."""
    return (choice > 0) - (choice < 0) if isinstance(choice, int) else 0


def _rank(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    """Responses that are not ranked share the last place."""
    places = [
        [rank if rank is not None else len(answer["ranks"]) + 1 for rank in answer["ranks"]] for answer in answers
    ]
    taus = [_tau(a, b) for a, b in combinations(places, 2)]
    return 1 - sum(taus) / len(taus)


def _tau(a: Sequence[int], b: Sequence[int]) -> float:
    tau = kendall_tau_b(a, b)
    if tau is None:  # one of them has no order
        return float(len(set(a)) == len(set(b)))
    return tau


def _rate(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    widths = {aspect.name: aspect.scale.max - aspect.scale.min for aspect in card.aspects if aspect.has_scale}
    ranges = _ranges(answers)
    return max((wide / widths[aspect] for aspect, wide in ranges if widths.get(aspect)), default=0.0)


def _ranges(answers: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """(aspect, highest minus lowest score) of each response that two or more people scored."""
    given: dict[tuple[str, int], list[float]] = defaultdict(list)
    for answer in answers:
        for aspect, values in answer["scores"].items():
            for place, value in enumerate(values):
                given[aspect, place].append(value)
    return [(aspect, max(values) - min(values)) for (aspect, _), values in given.items() if len(values) > 1]


def widest(answers: Sequence[Mapping[str, Any]]) -> float:
    """The widest range of scores of one response under one aspect, in points of its scale (HelpSteer2's measure)."""
    return max((wide for _, wide in _ranges(answers)), default=0.0)


def _best(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    return _minority([tuple(answer["best"]) for answer in answers])


def _thumbs(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    return max(_minority(votes) for votes in zip(*(answer["thumbs"] for answer in answers), strict=True))


def _first_error(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    return _minority([answer["step"] for answer in answers])


def _minority(values: Sequence[object]) -> float:
    """The share of those that differ from the most frequent value."""
    return 1 - Counter(values).most_common(1)[0][1] / len(values)


def _spans(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    words = [[match.span() for match in _WORD.finditer(text)] for text in texts]
    marked = [_marked(answer["spans"], words) for answer in answers]
    scores = [_f1(a, b) for a, b in combinations(marked, 2)]
    return 1 - sum(scores) / len(scores)


def _marked(
    spans: Sequence[Mapping[str, Any]], words: Sequence[Sequence[tuple[int, int]]]
) -> set[tuple[int, int, str]]:
    """(response, number of the word, label) of each word that a span touches."""
    return {
        (span["target"], number, span["label"])
        for span in spans
        for number, (start, end) in enumerate(words[span["target"]])
        if start < span["end"] and span["start"] < end
    }


def _f1(a: set[tuple[int, int, str]], b: set[tuple[int, int, str]]) -> float:
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


_MEASURES: dict[str, _Measure] = {
    "compare": _compare,
    "rank": _rank,
    "rate": _rate,
    "best": _best,
    "thumbs": _thumbs,
    "first_error": _first_error,
    "spans": _spans,
}


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
