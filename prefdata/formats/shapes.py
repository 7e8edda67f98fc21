"""Where a row of somebody's file keeps its prompt and its responses: the shapes that are met in practice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefdata.formats.source import Record, describe

SERIES = re.compile(r"(response|completion|answer|output|generation|text)(?:[ _-]?(\d{1,3})|[ _-]([a-z]))")
"""A column that holds one of several responses: `response_1`, `answer_b`, `response-2`."""
LISTS = ("responses", "completions", "answers", "generations", "items")
SINGLES = ("response", "completion")
LAST = ("answer", "output", "generation")
"""Read as the one response where no other column is."""
PAIR = ("chosen", "rejected")
TEXTS = ("text", "content", "body", "html", "title")
"""Under which of its keys an entry of a list of responses may hold its text."""


@dataclass(frozen=True)
class Candidate:
    """A response as a row holds it.

    Attributes:
        name: how the row calls it: its column, or the entry's own id.
        column: where it stands.
        text: what it says.
        model: who wrote it, if that is said.
        segments: as given (see `prefdata.formats.tasks.read_tasks`).
        rest: further keys of its entry.
    """

    name: str
    column: str
    text: str
    model: str | None = None
    segments: Any = None
    rest: Mapping[str, Any] = field(default_factory=dict)


def candidates(record: Record) -> tuple[list[Candidate], frozenset[str]]:
    """The responses of a row in the file's order, and the columns that were read for them.

    Raises:
        RowError: they stand there in two shapes, one of them is not text, or their models are not one each.
    """
    row = {key: value for key, value in record.row.items() if value is not None}
    series = sorted((name for name in row if SERIES.fullmatch(name.lower())), key=_place)
    if len(series) == 1 and series[0].lower().startswith("text"):
        series = []
    listed = [name for name in LISTS if name in row]
    pair = [name for name in PAIR if name in row]
    singles = [name for name in SINGLES if name in row]
    shapes = [names for names in (listed[:1], series, pair, singles[:1]) if names]
    shapes = shapes or [[name] for name in LAST if name in row][:1]
    if len(shapes) > 1 and not (listed and _same(record, listed[0], shapes[1:])):
        both = " and ".join(repr(names[0]) for names in shapes[:2])
        raise record.error(f"it holds responses under {both}; keep one of them", shapes[1][0])
    if not shapes:
        return [], frozenset()
    if listed:
        found, read = _of_list(record, listed[0]), {listed[0], *series}
    else:
        found = [_of_text(record, name) for name in shapes[0]]
        read = set(shapes[0])
    return _with_models(record, found, read)


def _place(name: str) -> tuple[str, int, str]:
    match = SERIES.fullmatch(name.lower())
    assert match is not None
    return match[1], int(match[2] or 0), match[3] or ""


def _same(record: Record, listed: str, others: list[list[str]]) -> bool:
    """Whether the columns beside a list just show its entries once more, as our own Label Studio tasks do."""
    entries = record.structured(listed)
    names = [name for shape in others for name in shape]
    if not isinstance(entries, list) or any(not SERIES.fullmatch(name.lower()) for name in names):
        return False
    texts = [_entry_text(entry) for entry in entries]
    shown = [record.row[name] for name in names]
    return shown[: len(texts)] == texts and not any(shown[len(texts) :])


def _entry_text(entry: object) -> object:
    return entry[_text_key(entry)] if isinstance(entry, Mapping) and _text_key(entry) else entry


def _text_key(entry: Mapping[str, Any]) -> str:
    return next((key for key in TEXTS if isinstance(entry.get(key), str)), "")


def _of_list(record: Record, column: str) -> list[Candidate]:
    given = record.structured(column)
    if not isinstance(given, list):
        raise record.error(f"it should be a list of texts or of {{text, model}} and is {describe(given)}", column)
    found = []
    for number, entry in enumerate(given, start=1):
        text, segments = _entry_text(entry), None
        if isinstance(entry, Mapping):
            segments = entry.get("segments")
            if text is entry and isinstance(segments, list) and all(isinstance(one, str) for one in segments):
                text = "".join(segments)
        if not isinstance(text, str):
            raise record.error(f"response {number} should hold a text and is {describe(entry)}", column)
        own = entry if isinstance(entry, Mapping) else {}
        model = own.get("model")
        if model is not None and not isinstance(model, str):
            raise record.error(f"the model of response {number} should be text and is {describe(model)}", column)
        name = own.get("id")
        rest = {key: value for key, value in own.items() if key not in (_text_key(own), "model", "segments")}
        found.append(
            Candidate(
                str(name) if isinstance(name, str | int) else f"{column}_{number}",
                column,
                record.checked(column, text, blank=True),
                model or None,
                segments,
                rest,
            )
        )
    return found


def _of_text(record: Record, column: str) -> Candidate:
    value = record.structured(column, always=False)
    if isinstance(value, Mapping):
        text, model = _entry_text(value), value.get("model")
        if isinstance(text, str) and isinstance(model, str | None):
            return Candidate(column, column, record.checked(column, text, blank=True), model, value.get("segments"))
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        value = value[0].get("content")  # one message of a conversation
    if not isinstance(value, str):
        raise record.error(f"it should be text and is {describe(value)}", column)
    return Candidate(column, column, record.checked(column, value, blank=True))


def _with_models(record: Record, found: list[Candidate], read: set[str]) -> tuple[list[Candidate], frozenset[str]]:
    """The candidates with what `models`, `model_1`, `chosen_model` or `model` say of who wrote them."""
    listed = record.structured("models")
    if listed is not None:
        if not isinstance(listed, list) or len(listed) != len(found):
            raise record.error(f"it should name {len(found)} models, one for each response", "models")
        read.add("models")
    named = []
    for place, one in enumerate(found):
        keys = [f"{one.column}_model", f"model_{one.column.rpartition('_')[2]}", *([] if len(found) > 1 else ["model"])]
        key = next((key for key in keys if record.row.get(key) is not None), None)
        model = one.model
        if listed is not None and listed[place] is not None:
            model = record.checked("models", listed[place])
        elif key is not None:
            model = record.text(key)
            read.add(key)
        named.append(Candidate(one.name, one.column, one.text, model, one.segments, one.rest))
    return named, frozenset(read)
