"""A task as the page shows it: texts as safe HTML, nothing that would tell who wrote them or that a task is gold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefdata.cards import Card, Scale

from ..rendering import markup
from .project import QUESTIONS, Project
from .projects import Guideline, Held
from .texts import Texts


def ends_of(response: Mapping[str, Any]) -> list[int]:
    """Where the steps of a response end, in characters: its own segments, else its lines that are not empty."""
    text = response["text"] or ""
    if response.get("segments"):
        return [segment["end"] for segment in response["segments"]]
    ends, at = [], 0
    for line in text.splitlines(keepends=True):
        at += len(line)
        if line.strip():
            ends.append(at)
        elif ends:
            ends[-1] = at
    if ends:
        ends[-1] = len(text)
    return ends or [len(text)]


def task_shown(
    task: Any,
    shown: Sequence[int],
    held: Held,
    guideline: Guideline,
    texts: Texts,
) -> dict[str, Any]:
    """The part of TASK that depends on the task alone.

    Args:
        task: a row of `tasks`.
        shown: positions in target_ids, in the order to show.
        held: the task's project.
        guideline: that holds.
        texts: of the dataset.

    Raises:
        DataError: a text is no longer in the dataset.
    """
    project, card = held.project, guideline.card
    prompt = texts.prompt(task.prompt_id)
    known = texts.responses(task.target_ids)
    responses = [known[task.target_ids[place]] for place in shown]
    return {
        "id": task.task_id,
        "project": held.id,
        "protocol": project.protocol,
        "question": project.question or QUESTIONS[project.protocol] or card.question,
        "guideline": guideline.label,
        "guideline_html": guideline_html(guideline, project),
        "warning": task.warning or project.warning or None,
        "prompt": _prompt(prompt, card, task.task_id),
        "targets": [_target(response, place, project, task.task_id) for place, response in enumerate(responses)],
        "options": options_of(project, card),
    }


def _prompt(prompt: Mapping[str, Any], card: Card, task: int) -> dict[str, Any]:
    messages = [turn for turn in prompt["messages"] if turn["role"] != "system" or "system" in card.sees]
    condition = (prompt.get("condition") or {}).get("text")
    if condition and "condition" in card.sees:
        messages = [{"role": "system", "content": condition}, *messages]
    passages = prompt.get("context") or [] if "context" in card.sees else []
    return {
        "turns": markup.turns(messages),
        "passages": [
            {
                "title": passage.get("label") or passage.get("doc_id") or f"passage {number}",
                "html": markup.markdown(passage["text"]),
                "plain": passage["text"],
            }
            for number, passage in enumerate(passages, start=1)
        ],
        "media": _media(f"media/task/{task}/prompt", prompt.get("media")),
    }


def _target(response: Mapping[str, Any], place: int, project: Project, task: int) -> dict[str, Any]:
    text = response["text"] or ""
    segments = None
    if project.protocol == "first_error":
        segments = markup.segments(text, [{"end": end} for end in ends_of(response)])
    return {
        "name": chr(ord("A") + place),
        "turns": None,
        "html": markup.markdown(text),
        "plain": text,
        "media": _media(f"media/task/{task}/{place}", response.get("media")),
        "segments": segments,
    }


def _media(address: str, media: Sequence[Mapping[str, Any]] | None) -> list[dict[str, str]]:
    return [
        {"url": f"{address}/{number}", "alt": one.get("region") or f"image {number + 1}"}
        for number, one in enumerate(media or [])
    ]


def guideline_html(guideline: Guideline, project: Project | None = None) -> str:
    """Guidelines as an annotator reads them: the instructions, the aspects (with scales, to rate), the text."""
    card = guideline.card
    parts = [card.instructions]
    scored = project is None or project.protocol == "rate"
    for aspect in card.aspects:
        scale = f"\n\n{_anchors(aspect.scale)}" if scored and aspect.has_scale else ""
        parts.append(f"**{aspect.name}.** {aspect.text}{scale}")
    return markup.markdown("\n\n".join([*parts, guideline.text]))


def _anchors(scale: Scale) -> str:
    if not scale.anchors:
        return scale.describe()
    ends = (scale.min, scale.max)
    points = ends if scale.type == "interval" else range(int(scale.min), int(scale.max) + 1)
    return "\n".join(f"- {point:g}: {anchor}" for point, anchor in zip(points, scale.anchors, strict=True))


def options_of(project: Project, card: Card) -> dict[str, Any]:
    """What the page needs to know to take an answer."""
    return {
        "points": project.points,
        "both_bad": project.both_bad,
        "ties": project.ties,
        "aspects": [
            {
                "name": aspect.name,
                "text": aspect.text,
                "min": aspect.scale.min,
                "max": aspect.scale.max,
                "step": 1 if aspect.scale.type == "ordinal" else None,
                "anchors": list(aspect.scale.anchors),
            }
            for aspect in card.aspects
        ],
        "input": project.input,
        "top": project.top or None,
        "best": project.best,
        "none": project.none,
        "span_labels": list(project.span_labels),
        "rationale": project.rationale,
        "confidence": project.confidence,
        "reasons": list(project.reasons),
        "may_skip": project.may_skip,
        "skip_reasons": list(project.skip_reasons),
        "idle": project.idle,
    }
