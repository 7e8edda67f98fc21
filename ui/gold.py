"""Gold questions: tasks whose answer is known, among the others and not to be told from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefdata.dataset import Dataset
from prefdata.errors import DataError
from prefdata.formats import read

from .project import Project

_NEAR = 1.0
"""A score is right that is at most so far from the gold one, on a scale of four points or more."""


def gold_questions(dataset: Dataset, project: Project) -> dict[str, dict[str, Any]]:
    """Read a file of gold questions; their prompts and responses are added to the dataset, their answers are not.

    Args:
        dataset: gets the prompts.
        project: names the file (format `tasks`, with a column `gold`).

    Returns:
        group_id, target_ids, answer and explanation by prompt_id.

    Raises:
        DataError: the file cannot be read, or a question's gold answer does not fit the protocol.
    """
    path = Path(project.gold).expanduser()
    given = read("tasks", path)
    besides: Mapping[str, Mapping[str, Any]] = getattr(given, "beside", {})
    responses: dict[str, list[str]] = {}
    for row in given.rows.get("responses", []):
        responses.setdefault(row["prompt_id"], []).append(row["response_id"])
    found: dict[str, dict[str, Any]] = {}
    for row in given.rows["prompts"]:
        prompt = row["prompt_id"]
        beside = besides.get(prompt, {})
        if beside.get("gold") is None:
            raise DataError(f"{path}: the question {_excerpt(row)!r} has no `gold`: say what the right answer is")
        answer = _answer(beside["gold"], project, len(responses.get(prompt, [])), path, row)
        found[prompt] = {
            "group_id": row["group_id"],
            "target_ids": responses[prompt],
            "answer": answer,
            "explanation": beside.get("explanation") or "",
        }
    dataset.add_import(given.rows, source="gold", fields={"project": project.name, "path": path.name})
    return found


def _answer(gold: object, project: Project, size: int, path: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """A gold answer in the form of `answers.py`; short forms are understood (a number, `a`, `b`, `tie`, a list)."""
    where = f"{path}: the gold answer of {_excerpt(row)!r}"
    if size < project.asked:
        raise DataError(f"{path}: the question {_excerpt(row)!r} has {size} responses; {project.protocol} needs more")
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
    if answer is None or (isinstance(answer[key], list) and key in ("ranks", "thumbs") and len(answer[key]) != size):
        raise DataError(f"{where} does not fit: {project.protocol} takes {{{key!r}: ...}}, with {size} responses")
    return answer


def _excerpt(row: Mapping[str, Any]) -> str:
    return str(row["messages"][-1]["content"])[:60]


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
