"""Gold questions: tasks whose answer is known, among the others and not to be told from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdata.errors import DataError

from .project import Project

_NEAR = 1.0
"""A score is right that is at most so far from the gold one, on a scale of four points or more."""


def gold_answer(gold: object, project: Project, size: int, where: str) -> dict[str, Any]:
    """A gold answer in the form of `answers.py`; short forms are understood (a number, `a`, `b`, `tie`, a list).

    Args:
        gold: as a file states it; positions are those of the file.
        project: whose protocol.
        size: how many responses the question has.
        where: for messages.

    Raises:
        DataError: there is none, or it does not fit.
    """
    if gold is None:
        raise DataError(f"{where} has no `gold`: say what the right answer is")
    if size < project.asked:
        raise DataError(f"{where} has {size} responses; {project.protocol} needs {project.asked} or more")
    if isinstance(gold, str) and project.protocol == "compare":
        choices = {"a": -1, "b": 1, "tie": 0, "both_bad": "both_bad"}
        if gold.strip().lower() in choices:
            return {"choice": choices[gold.strip().lower()]}
    names = {"compare": "choice", "rank": "ranks", "best": "best", "thumbs": "thumbs", "first_error": "step"}
    key = names.get(project.protocol, "scores" if project.protocol == "rate" else "spans")
    if isinstance(gold, dict):
        answer = gold if key in gold else {"scores": gold} if project.protocol == "rate" else None
    else:
        answer = {key: [gold] if key == "best" and isinstance(gold, int) else gold}
    if answer is None or (key in ("ranks", "thumbs") and not _is_list(answer[key], size)):
        raise DataError(f"{where}: the gold answer does not fit; {project.protocol} takes {{{key!r}: ...}}")
    return answer


def _is_list(value: object, size: int) -> bool:
    return isinstance(value, list) and len(value) == size


def is_right(answer: Mapping[str, Any], gold: Mapping[str, Any], project: Project) -> bool:
    """Whether an answer to a gold question counts as right; both have positions in target_ids.

    compare: the same side (how strongly does not matter). rank: no two responses in the opposite of gold's order.
    rate: each score within one point, on scales up to three points equal. best, thumbs, first_error: the same. spans:
    each gold span is met by one of its label. An edit is always right: that cannot be told.
    """
    if project.protocol == "compare":
        return _side(answer.get("choice")) == _side(gold.get("choice"))
    if project.protocol == "rank":
        return not any(
            _opposed(answer["ranks"], gold["ranks"], a, b) for a in range(len(gold["ranks"])) for b in range(a)
        )
    if project.protocol == "rate":
        return all(
            abs(said - right) <= (_NEAR if max(values) > 3 or min(values) < 0 else 0)
            for aspect, values in gold["scores"].items()
            for said, right in zip(answer["scores"].get(aspect, ()), values, strict=False)
        )
    if project.protocol == "spans":
        return all(any(_meets(said, right) for said in answer["spans"]) for right in gold["spans"])
    if project.protocol == "edit":
        return True
    key = {"best": "best", "thumbs": "thumbs", "first_error": "step"}[project.protocol]
    return bool(answer.get(key) == gold.get(key))


def _side(choice: object) -> object:
    return (choice > 0) - (choice < 0) if isinstance(choice, int) else choice


def _opposed(said: list[int | None], right: list[int | None], a: int, b: int) -> bool:
    last = len(right) + 1  # not ranked: below all that are
    mine, gold = (said[a] or last) - (said[b] or last), (right[a] or last) - (right[b] or last)
    return gold != 0 and mine * gold <= 0


def _meets(said: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    same = said["target"] == right.get("target", 0) and said["label"] == right["label"]
    return bool(same and said["start"] < right["end"] and right["start"] < said["end"])
