"""The settings of an Argilla 2 dataset that our records fit: its fields and questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefdata.formats.answers import TIE, Control
from prefdata.formats.asked import Asked
from prefdata.schema import Row

QUESTIONS_OF = {
    "compare": "label_selection",
    "rank": "ranking",
    "score": "rating",
    "label": "multi_label_selection",
    "text": "text",
    "spans": "span",
}
"""By the kind of a control, the type of question that asks it."""
RATINGS = range(11)
"""The numbers that Argilla's ratings may have."""
FEWEST_SHOWN = 3
"""Argilla refuses to show fewer labels than that before the rest folds away."""


def settings_path(out: Path) -> Path:
    """Where the settings lie that belong to a file of records."""
    return out.with_suffix(".settings.json")


def shows(control: Control, values: Sequence[Any]) -> bool:
    """Whether a question of Argilla's can hold all answers of a control."""
    return control.kind != "score" or all(value in RATINGS for value in values)


def settings_of(asked: Asked, required: Control) -> Row:
    """The settings, as `rg.Settings.from_json` reads them.

    Args:
        asked: what the records ask.
        required: the question that must be answered; Argilla wants one.
    """
    fields = [_field("prompt", "Prompt", "chat", required=True)]
    for place in range(1, asked.responses + 1):
        fields.append(_field(f"response_{place}", f"Response {place}", "text", required=False))
    return {
        "guidelines": None,
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "fields": fields,
        "questions": [_question(control, asked, required == control) for control in asked.in_order()],
        "metadata": [],
        "vectors": [],
    }


def _field(name: str, title: str, type_: str, *, required: bool) -> Row:
    settings = {"type": type_, "use_markdown": True}
    return {"id": None, "name": name, "title": title, "required": required, "settings": settings}


def _question(control: Control, asked: Asked, required: bool) -> Row:
    return {
        "id": None,
        "name": control.name,
        "title": asked.title(control),
        "description": None,
        "required": required,
        "settings": {"type": QUESTIONS_OF[control.kind], **_settings(control, asked)},
    }


def _settings(control: Control, asked: Asked) -> Row:
    responses = [f"response_{place}" for place in range(1, asked.responses + 1)]
    if control.kind == "compare":
        return {"options": _options([*responses[:2], TIE]), "visible_options": FEWEST_SHOWN}
    if control.kind == "rank":
        return {"options": _options(responses)}
    if control.kind == "score":
        few = all(1 <= value <= 5 for value in asked.controls[control])
        return {"options": [{"value": value} for value in (range(1, 6) if few else RATINGS)]}
    if control.kind == "text":
        return {"use_markdown": False}
    labels = asked.labels(control)
    if control.kind == "label" and len(labels) < 2:  # one alone is refused
        labels.append("none of these" if labels else "yes")
    shown = {"visible_options": len(labels)} if len(labels) >= FEWEST_SHOWN else {"visible_options": None}
    if control.kind == "spans":
        place = (control.place or 0) + 1
        return {"field": f"response_{place}", "allow_overlapping": True, "options": _options(labels), **shown}
    return {"options": _options(labels), "options_order": "natural", **shown}


def _options(values: Sequence[str]) -> list[Row]:
    return [{"value": value, "text": value, "description": None} for value in values]
