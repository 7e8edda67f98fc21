"""One task as a reviewer sees it: what was shown, what everybody said, and in which words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from prefdata.errors import DataError

from ..accounts.person import Person
from ..answers.labels import last_label
from ..quality.adjudication import Answered, Disagreement, refusal
from ..rendering.markup import excerpt
from ..store.tables import tasks
from ..work.project import Project
from ..work.projects import Held, guideline_by
from ..work.shown import task_shown

if TYPE_CHECKING:
    from ..service import Service

_STRENGTH = {
    1: ("",),
    2: ("slightly", "clearly"),
    3: ("slightly", "clearly", "much"),
    4: ("slightly", "clearly", "much", "far"),
}
"""As the label page calls the points of the scale, from the tie outwards."""

_QUOTED = 60
"""Characters of a marked passage that are quoted."""


def looked_at(service: Service, held: Held, task: int) -> dict[str, Any]:
    """A task as annotators see it, in the dataset's order.

    Raises:
        DataError: there is no such task in this project, or its texts are no longer in the dataset.
    """
    with service.store.read() as db:
        row = db.execute(select(tasks).where(tasks.c.task_id == task, tasks.c.project_id == held.id)).first()
        guideline = guideline_by(db, held.id, held.guideline)
    if row is None:
        raise DataError("this project has no such task")
    return task_shown(row, range(len(row.target_ids)), held, guideline, service.texts)


def to_decide(service: Service, who: Person, held: Held, found: Disagreement) -> dict[str, Any]:
    """What the page needs for a task on which people differ: the task, their answers, whether this one may decide."""
    task = looked_at(service, held, found.task_id)
    why = refusal(service, who, found.task_id)
    with service.store.read() as db:
        last = last_label(db, found.task_id, who.person_id)
    own = last if last is not None and last.kind == "adjudication" and last.status == "ok" else None
    plains = [target["plain"] for target in task["targets"]]
    said = [_said(one, held, plains) for one in found.answers]
    verdicts = [_said(one, held, plains) for one in found.verdicts]
    return {
        "task": {**task, "answer": None if own is None else own.answer, "revision": 0 if own is None else own.revision},
        "said": said,
        "verdicts": verdicts,
        "refusal": why,
    }


def _said(one: Answered, held: Held, plains: Sequence[str]) -> dict[str, Any]:
    beside = []
    if one.answer.get("confidence") is not None:
        beside.append(f"{one.answer['confidence']:.0%} sure")
    beside.append(f"{one.seconds:.0f} s")
    if one.revision > 1:
        beside.append("corrected")
    if one.guideline != held.guideline:
        beside.append(f"under {one.guideline}")
    return {
        "who": one.person,
        "lines": described(one.answer, held.project, plains),
        "why": one.answer.get("rationale") or "",
        "reasons": list(one.answer.get("reasons") or ()),
        "beside": beside,
    }


def described(answer: Mapping[str, Any], project: Project, plains: Sequence[str]) -> list[str]:
    """An answer in words, a line each; responses are called A, B, ... in the dataset's order.

    Args:
        answer: with positions in target_ids.
        project: its protocol and scale.
        plains: [k] texts of the responses, for `spans`.
    """
    return _WORDS[project.protocol](answer, project, plains)


def letter(place: int) -> str:
    """What the response at this place is called."""
    return chr(ord("A") + place)


def _compare(answer: Mapping[str, Any], project: Project, plains: Sequence[str]) -> list[str]:
    choice = answer["choice"]
    if not isinstance(choice, int):
        return ["both bad"]
    if choice == 0:
        return ["tie"]
    words = _STRENGTH[project.points // 2]
    strength = words[min(abs(choice), len(words)) - 1]  # an old label may be of a longer scale
    return [f"{letter(0 if choice < 0 else 1)} {strength} better".replace("  ", " ")]


def _rank(answer: Mapping[str, Any], project: Project, plains: Sequence[str]) -> list[str]:
    ranks = answer["ranks"]
    order = []
    for rank in sorted({rank for rank in ranks if rank is not None}):
        order.append(" = ".join(letter(place) for place, one in enumerate(ranks) if one == rank))
    rest = [letter(place) for place, one in enumerate(ranks) if one is None]
    return [" > ".join(order) + (f" > the rest ({', '.join(rest)})" if rest else "")]


def _rate(answer: Mapping[str, Any], project: Project, plains: Sequence[str]) -> list[str]:
    return [
        f"{aspect}: " + ", ".join(f"{letter(place)}\N{NO-BREAK SPACE}{value:g}" for place, value in enumerate(values))
        for aspect, values in answer["scores"].items()
    ]


def _best(answer: Mapping[str, Any], project: Project, plains: Sequence[str]) -> list[str]:
    return [", ".join(letter(place) for place in answer["best"]) or "none of them"]


def _thumbs(answer: Mapping[str, Any], project: Project, plains: Sequence[str]) -> list[str]:
    return [", ".join(f"{letter(place)} {'up' if one else 'down'}" for place, one in enumerate(answer["thumbs"]))]


def _first_error(answer: Mapping[str, Any], project: Project, plains: Sequence[str]) -> list[str]:
    return ["no step is wrong" if answer["step"] is None else f"step {answer['step'] + 1} is wrong"]


def _spans(answer: Mapping[str, Any], project: Project, plains: Sequence[str]) -> list[str]:
    made = []
    for span in answer["spans"]:
        text = excerpt(plains[span["target"]][span["start"] : span["end"]], _QUOTED)
        where = f"{letter(span['target'])}: " if len(plains) > 1 else ""
        made.append(f"{where}“{text}” {span['label']}")
    return made or ["nothing marked"]


def _edit(answer: Mapping[str, Any], project: Project, plains: Sequence[str]) -> list[str]:
    return [f"made {letter(answer['target'])} better"]


_WORDS: dict[str, Callable[[Mapping[str, Any], Project, Sequence[str]], list[str]]] = {
    "compare": _compare,
    "rank": _rank,
    "rate": _rate,
    "best": _best,
    "thumbs": _thumbs,
    "first_error": _first_error,
    "spans": _spans,
    "edit": _edit,
}


# The queue


def excerpts(service: Service, found: Sequence[Disagreement]) -> dict[int, str]:
    """How the prompt of each task begins; tasks whose prompt is no longer in the dataset are left out."""
    made = {}
    for one in found:
        with contextlib.suppress(DataError):  # erased meanwhile
            made[one.task_id] = excerpt(str(service.texts.prompt(one.prompt_id)["messages"][-1]["content"] or ""), 60)
    return made


def choices(found: Sequence[Disagreement], words: Mapping[int, str]) -> list[tuple[str, int]]:
    """The tasks for a list to choose from, each with how far people are apart and how its prompt begins."""
    return [
        (
            f"{one.value:.2f} · {'decided, ' if one.verdicts else ''}{len(one.answers)} people · {words[one.task_id]}",
            one.task_id,
        )
        for one in found
    ]


def after(found: Sequence[Disagreement], task: int | None) -> int | None:
    """The task to look at after this one: the next that nobody has decided, then the first of those; else none.

    Args:
        found: as `disagreements` orders them.
        task: the one that is shown; it may have been decided, or be gone.
    """
    undecided = [one for one in found if not one.verdicts and one.task_id != task]
    now = next((one for one in found if one.task_id == task), None)
    if now is not None:
        later = [one for one in undecided if (-one.value, one.task_id) > (-now.value, now.task_id)]
        undecided = later or undecided
    return undecided[0].task_id if undecided else None
