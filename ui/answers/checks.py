"""What people may answer, protocol by protocol: checked, stored, and turned into annotations.

An answer comes from the page with positions as the person saw them. It is stored with positions in the task's own
`target_ids`, so that it can be read without knowing in which order it was shown; the order is recorded beside it.

| protocol    | answer                                      | annotation                                               |
|-------------|---------------------------------------------|----------------------------------------------------------|
| compare     | choice -m..m (below 0: the first), both_bad | compare, scores P(wins), strength 0..3, label `both_bad` |
| rank        | ranks, 1 the best, null not ranked          | rank of the ranked ones; choose: they stand above others |
| rate        | scores by aspect, one for each response     | score, one annotation for each aspect                    |
| best        | best: chosen positions                      | choose, scores 1 and 0; `none` is a label                |
| thumbs      | thumbs: 1 up, 0 down, null                  | score 1 or 0                                             |
| first_error | step: the first wrong one, or null          | label first_error or correct, parts, spans               |
| spans       | spans of texts with labels                  | label, one annotation for each response, spans           |
| edit        | target and its better text                  | compare of the new response with the old one             |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from prefdata.cards import Card
from prefdata.errors import PrefdataError

from ..work.project import Project

Answer = dict[str, Any]

MOST_TEXT = 100_000
"""Characters of a rationale or an edited response."""


class AnswerError(PrefdataError):
    """An answer that does not fit its task; the message is a sentence for the person."""


def checked(answer: Mapping[str, Any], project: Project, card: Card, texts: Sequence[str], steps: int) -> Answer:
    """An answer as it came from the page, with nothing in it that the task does not ask for.

    Args:
        answer: what the page sent; positions are those shown.
        project: says what may be answered.
        card: says which aspects there are, and their scales.
        texts: [k] of the responses, in the order shown.
        steps: how many segments the first response has (first_error).

    Raises:
        AnswerError: something is missing or out of range.
    """
    made = _CHECKS[project.protocol](answer, project, card, texts, steps)
    rationale = _text(answer.get("rationale"), "the reason").strip()
    if project.rationale == "required" and not rationale:
        raise AnswerError("please give a reason for your answer")
    if rationale and project.rationale != "none":
        made["rationale"] = rationale
    if project.confidence and answer.get("confidence") is not None:
        made["confidence"] = _number(answer["confidence"], 0, 1, "how sure you are")
    ticked = answer.get("reasons") or []
    if ticked:
        if not isinstance(ticked, list) or any(one not in project.reasons for one in ticked):
            raise AnswerError("a reason was ticked that this project does not have")
        made["reasons"] = [one for one in project.reasons if one in ticked]
    return made


def turned(answer: Answer, shown: Sequence[int], *, back: bool = False) -> Answer:
    """An answer with positions in `target_ids` in place of those shown; with `back`, the other way round.

    Args:
        answer: checked.
        shown: shown[i] is the position in `target_ids` of what was shown i-th.
        back: `answer` has positions in `target_ids`.
    """
    where = list(shown)
    if back:
        where = [shown.index(place) for place in range(len(shown))]
    made = dict(answer)
    if isinstance(choice := made.get("choice"), int) and list(where) == [1, 0]:
        made["choice"] = -choice
    for key in ("ranks", "thumbs"):
        if key in made:
            made[key] = _moved(made[key], where)
    if "scores" in made:
        made["scores"] = {aspect: _moved(values, where) for aspect, values in made["scores"].items()}
    if "best" in made:
        made["best"] = sorted(where[place] for place in made["best"])
    if "spans" in made:
        made["spans"] = [{**span, "target": where[span["target"]]} for span in made["spans"]]
    if "target" in made:
        made["target"] = where[made["target"]]
    return made


def _moved(values: Sequence[Any], where: Sequence[int]) -> list[Any]:
    made = [None] * len(values)
    for place, value in zip(where, values, strict=True):
        made[place] = value
    return made


# Checks: one for each protocol


def _compare(answer: Mapping[str, Any], project: Project, card: Card, texts: Sequence[str], steps: int) -> Answer:
    choice = answer.get("choice")
    if choice == "both_bad" and project.both_bad:
        return {"choice": "both_bad"}
    half = project.points // 2
    if not _is_whole(choice) or abs(choice) > half:
        raise AnswerError(f"choose one of the {project.points} points of the scale")
    if choice == 0 and project.points % 2 == 0:
        raise AnswerError("this scale has no tie: choose one of the two")
    return {"choice": choice}


def _rank(answer: Mapping[str, Any], project: Project, card: Card, texts: Sequence[str], steps: int) -> Answer:
    ranks = _aligned(answer.get("ranks"), len(texts), "rank")
    given = [rank for rank in ranks if rank is not None]
    if any(not _is_whole(rank) or not 1 <= rank <= len(texts) for rank in given):
        raise AnswerError(f"ranks are whole numbers from 1 to {len(texts)}")
    wanted = min(project.top, len(texts)) or len(texts)
    if len(given) < wanted:
        raise AnswerError(f"rank at least {wanted} responses; {len(given)} are ranked")
    if not project.ties and len(set(given)) < len(given):
        raise AnswerError("two responses have the same rank, and this project has no ties")
    places = {rank: place for place, rank in enumerate(sorted(set(given)), start=1)}
    return {"ranks": [None if rank is None else places[rank] for rank in ranks]}


def _rate(answer: Mapping[str, Any], project: Project, card: Card, texts: Sequence[str], steps: int) -> Answer:
    scores = answer.get("scores")
    if not isinstance(scores, dict):
        raise AnswerError("no score was given")
    made: dict[str, list[float | None]] = {}
    for aspect in card.aspects:
        values = _aligned(scores.get(aspect.name), len(texts), aspect.name)
        if any(value is None for value in values):
            raise AnswerError(f"give every response a score for {aspect.name}")
        numbers = [_number(value, aspect.scale.min, aspect.scale.max, aspect.name) for value in values]
        if not all(aspect.scale.admits(number) for number in numbers):
            raise AnswerError(f"{aspect.name} takes {aspect.scale.describe().splitlines()[0]}")
        made[aspect.name] = list(numbers)
    return {"scores": made}


def _best(answer: Mapping[str, Any], project: Project, card: Card, texts: Sequence[str], steps: int) -> Answer:
    best = answer.get("best")
    if not isinstance(best, list) or any(not _is_place(place, len(texts)) for place in best):
        raise AnswerError("choose one of the responses")
    chosen = sorted(set(best))
    if not chosen and not project.none:
        raise AnswerError("choose one of the responses")
    if len(chosen) > project.best:
        raise AnswerError(f"at most {project.best} may be chosen")
    return {"best": chosen}


def _thumbs(answer: Mapping[str, Any], project: Project, card: Card, texts: Sequence[str], steps: int) -> Answer:
    thumbs = _aligned(answer.get("thumbs"), len(texts), "thumb")
    if any(value is None for value in thumbs):
        raise AnswerError("give every response a thumb up or down")
    if not all(_is_place(value, 2) for value in thumbs):
        raise AnswerError("a thumb is 1 (up) or 0 (down)")
    return {"thumbs": thumbs}


def _first_error(answer: Mapping[str, Any], project: Project, card: Card, texts: Sequence[str], steps: int) -> Answer:
    if "step" not in answer:
        raise AnswerError("choose the first wrong step, or that none is wrong")
    step = answer["step"]
    if step is not None and not _is_place(step, steps):
        raise AnswerError(f"the response has {steps} steps; choose one of them, or that none is wrong")
    return {"step": step}


def _spans(answer: Mapping[str, Any], project: Project, card: Card, texts: Sequence[str], steps: int) -> Answer:
    spans = answer.get("spans")
    if not isinstance(spans, list) or len(spans) > 1000:
        raise AnswerError("the marked passages are missing")
    made = []
    for span in spans:
        if not isinstance(span, dict) or not _is_place(span.get("target"), len(texts)):
            raise AnswerError("a marked passage names no response")
        start, end, length = span.get("start"), span.get("end"), len(texts[span["target"]])
        if not (_is_whole(start) and _is_whole(end) and 0 <= start < end <= length):
            raise AnswerError(f"a marked passage lies outside its response, which has {length} characters")
        if span.get("label") not in project.span_labels:
            raise AnswerError(f"a passage's label is one of {', '.join(project.span_labels)}")
        made.append({"target": span["target"], "start": start, "end": end, "label": span["label"]})
    return {"spans": sorted(made, key=lambda span: (span["target"], span["start"], span["end"], span["label"]))}


def _edit(answer: Mapping[str, Any], project: Project, card: Card, texts: Sequence[str], steps: int) -> Answer:
    target, text = answer.get("target"), _text(answer.get("text"), "the edited response")
    if not isinstance(target, int) or not _is_place(target, len(texts)):
        raise AnswerError("it is not said which response was edited")
    if not text.strip():
        raise AnswerError("the edited response is empty")
    if text.strip() == texts[target].strip():
        raise AnswerError("nothing was changed: edit the response, or skip it and say why")
    return {"target": target, "text": text}


_CHECKS = {
    "compare": _compare,
    "rank": _rank,
    "rate": _rate,
    "best": _best,
    "thumbs": _thumbs,
    "first_error": _first_error,
    "spans": _spans,
    "edit": _edit,
}


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)  # true and false are whole numbers to Python


def _is_place(value: object, size: int) -> bool:
    return _is_whole(value) and 0 <= value < size


def _aligned(values: object, size: int, what: str) -> list[Any]:
    if not isinstance(values, list) or len(values) != size:
        raise AnswerError(f"there must be one {what} for each of the {size} responses")
    return values


def _number(value: object, low: float, high: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise AnswerError(f"{what} is a number from {low:g} to {high:g}")
    return float(value)


def _text(value: object, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise AnswerError(f"{what} is not a text")
    if len(value) > MOST_TEXT:
        raise AnswerError(f"{what} has {len(value):,} characters; at most {MOST_TEXT:,} are taken")
    return value.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")
