"""The fields of the set-up form, made of those of `Project`: in the words of the options of `tasks create`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from ..work.project import LISTS, PROTOCOLS, Project

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

WHAT = ("file",)
"""What is to be labelled; stands beside the upload."""

FIRST: tuple[tuple[str, ...], ...] = (("name", "overlap"), ("protocol",), ("card",))
"""What is asked of everybody, by row; all else has a default and stands in a part that is closed."""

PARTS: dict[str, tuple[str, ...]] = {
    "Guidelines and question": ("guidelines", "question", "warning"),
    "How people answer": (
        *("points", "both_bad", "ties", "top", "best", "none", "input", "span_labels", "pairs", "responses", "order"),
        *("rationale", "confidence", "reasons", "may_skip", "skip_reasons"),
    ),
    "Gold questions": ("gold", "gold_share", "qualify", "pass_mark"),
    "Who": ("people", "groups", "skills", "require", "split"),
    "Order and budget": ("route", "route_by", "route_aspect", "budget"),
    "Limits": ("quota", "quota_day", "lease", "idle"),
}

NAMES = tuple(Project.model_fields)
"""All fields; the form gives their values in this order."""

_PLACED = {*WHAT, *(name for row in FIRST for name in row), *(name for names in PARTS.values() for name in names)}
if set(NAMES) - _PLACED:  # a field that is new must not be missing from the page
    PARTS["More"] = tuple(name for name in NAMES if name not in _PLACED)

CHOSEN = ("file", "card", "gold", "people", "groups", "skills")
"""Fields whose choices the page knows when it is opened."""

_ON_THE_PAGE = {
    "card": "What to judge by: a shipped card, or one that you upload below.",
    "guidelines": "Further guidelines in Markdown, which everybody reads first.",
    "gold": "Questions whose answer is known, hidden among the others: a file that you upload below.",
}
"""Where the description speaks of a path, which a page does not take."""

_AS_OPENED = {name: "" if field.is_required() else field.default for name, field in Project.model_fields.items()}

_ONLY_WITH = {"gold_share": "gold", "qualify": "gold", "pass_mark": "qualify"}
_EMPTY = {"require": "no", "gold": "none", "file": "all that the dataset has"}
_SEVERAL_LINES = {"guidelines": 5}


def label_of(name: str) -> str:
    """A field's name as the page shows it."""
    return name.replace("_", " ").capitalize()


def about(name: str) -> str:
    """What the page says of a field: its description, without the protocol that it is for."""
    said = _ON_THE_PAGE.get(name) or Project.model_fields[name].description or ""
    protocol = _protocol(name)
    return said.removeprefix(f"{protocol}: ").capitalize() if protocol and said.startswith(protocol) else said


def _protocol(name: str) -> str | None:
    """The one protocol that a field is for, as its description begins; None: all."""
    begin = (Project.model_fields[name].description or "").partition(":")[0]
    return begin if begin in PROTOCOLS else None


def concerns(name: str, fields: Mapping[str, Any]) -> bool:
    """Whether a field has a meaning beside what the others say."""
    if _protocol(name) not in (None, fields["protocol"]):
        return False
    if name in _ONLY_WITH:
        return bool(fields[_ONLY_WITH[name]]) and concerns(_ONLY_WITH[name], fields)
    if name in ("route_by", "route_aspect"):
        return str(fields["route"]) != "all"
    if name == "skip_reasons":
        return bool(fields["may_skip"])
    if name == "split":
        return fields["overlap"] in (None, 1)
    if name == "responses":
        return fields["protocol"] not in ("edit", "first_error")
    if name == "order":
        return fields["protocol"] not in ("edit", "first_error", "spans")
    return True


def component(name: str) -> Any:
    """The widget of a field, by its type; hidden where the form as it is opened has no use for it."""
    field = Project.model_fields[name]
    given: dict[str, Any] = {"label": label_of(name), "info": about(name), "interactive": True, "min_width": 160}
    given["visible"] = concerns(name, _AS_OPENED)
    kind = field.annotation
    default: Any = "" if field.is_required() else field.default
    if name in CHOSEN:
        several = name in LISTS
        choices = [] if several else [(_EMPTY.get(name, str(default)), default)]
        return gr.Dropdown(
            choices, value=[] if several else default, multiselect=several, allow_custom_value=several, **given
        )
    if name == "protocol":
        return gr.Radio(list(PROTOCOLS), value=default, **given)
    if get_origin(kind) is Literal:
        choices = [(str(one) or _EMPTY[name], one) for one in get_args(kind)]
        return gr.Radio(choices, value=default, **given)
    if kind is bool:
        return gr.Checkbox(value=bool(default), **given)
    if kind in (int, float):
        low, high = (next((getattr(m, a) for m in field.metadata if hasattr(m, a)), None) for a in ("ge", "le"))
        step = 1 if kind is int else 0.05
        return gr.Number(default, minimum=low, maximum=high, step=step, precision=0 if kind is int else None, **given)
    if name in LISTS:
        given["info"] += " With commas between them."
        return gr.Textbox(", ".join(default), **given)
    lines = _SEVERAL_LINES.get(name, 1)
    return gr.Textbox(default, lines=lines, max_lines=20 if lines > 1 else 1, **given)


def stated(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the form says, as the fields of a project: an empty number is its default, texts with commas are lists."""
    from .admin_parts import words

    found: dict[str, Any] = {}
    for name, value in values.items():
        field = Project.model_fields[name]
        if value is None and not field.is_required():
            found[name] = field.default
        elif name in LISTS:
            found[name] = tuple(words(value))
        elif isinstance(value, str):
            found[name] = value.strip()
        else:
            found[name] = value
    return found
