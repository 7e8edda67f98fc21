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
    if answer is None or not _fits(answer.get(key), project, size):
        raise DataError(f"{where}: the gold answer {gold!r} does not fit; {project.protocol} takes {_TAKES[key]}")
    return answer


_TAKES = {
    "choice": '"a", "b", "tie", "both_bad", or {"choice": -3 to 3}, below 0 where the first is better',
    "ranks": '{"ranks": [...]}, one number for each response, 1 the best',
    "best": '{"best": [...]}, positions counted from 0',
    "thumbs": '{"thumbs": [...]}, 1 or 0 for each response',
    "step": '{"step": N}, counted from 0, or {"step": null}',
    "scores": '{"scores": {"ASPECT": [...]}}, one number for each response',
    "spans": '{"spans": [{"target": 0, "start": 0, "end": 5, "label": "wrong"}]}',
}


def _fits(value: Any, project: Project, size: int) -> bool:
    """Whether a gold answer can be given at all by somebody who answers."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    aligned = isinstance(value, list) and len(value) == size
    if project.protocol == "compare":
        half = project.points // 2
        return (whole and abs(value) <= half and (value != 0 or project.points % 2 == 1)) or (
            value == "both_bad" and project.both_bad
        )
    if project.protocol == "rank":
        return aligned and all(one is None or (isinstance(one, int) and 1 <= one <= size) for one in value)
    if project.protocol == "thumbs":
        return aligned and all(one in (0, 1) for one in value)
    if project.protocol == "best":
        return isinstance(value, list) and all(isinstance(one, int) and 0 <= one < size for one in value)
    if project.protocol == "first_error":
        return value is None or (whole and value >= 0)
    if project.protocol == "rate":
        return isinstance(value, dict) and all(
            isinstance(scores, list) and len(scores) == size and all(isinstance(one, int | float) for one in scores)
            for scores in value.values()
        )
    return isinstance(value, list) and all(
        isinstance(one, dict) and {"start", "end", "label"} <= set(one) for one in value
    )


def is_right(answer: Mapping[str, Any], gold: Mapping[str, Any], project: Project) -> bool:
    """Whether an answer to a gold question counts as right; both have positions in target_ids.

    compare: the same side (how strongly does not matter). rank: no two responses in the opposite of gold's order.
    rate: each score within one point, on scales up to three points equal. best, thumbs, first_error: the same. spans:
    F1 of the characters, with their labels, at least one half. An edit is always right: that cannot be told.
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
        return _overlap(answer["spans"], gold["spans"]) >= 0.5
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


def _overlap(said: list[Mapping[str, Any]], right: list[Mapping[str, Any]]) -> float:
    """F1 of the characters that two markings name, each with its label; 1 where both mark nothing."""
    one, other = (
        {(s.get("target", 0), at, s["label"]) for s in spans for at in range(s["start"], s["end"])}
        for spans in (said, right)
    )
    return 2 * len(one & other) / (len(one) + len(other)) if one or other else 1.0
