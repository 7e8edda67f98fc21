"""What of a dataset a labelling tool cannot hold: it rides along with each task, and is found again on the way back.

A tool keeps texts and answers, but no model names, ids, conditions, seconds or judges' reasons. A task that we write
therefore carries its rows as one JSON value beside what the tool shows. On the way back what the tool shows is what
counts: a row that rode along is taken only while the texts and the answer are still those that it was written with.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prefdata import schema
from prefdata.errors import DataError
from prefdata.formats.answers import Answers, slug
from prefdata.formats.source import Record
from prefdata.schema import KEYS, Row, make_id

KEY = "prefdata"
"""Under which a task carries it."""
VERSION = 1
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class Entry:
    """An annotation that rides along.

    Attributes:
        row: as it was.
        answers: what the tool was given of it, by the control's name; None where nothing of it could be shown.
        by: whom the tool takes it to be from, in the tool's own terms.
        used: whether it was found again.
    """

    row: Row
    answers: dict[str, Any] | None = None
    by: str | None = None
    used: bool = False


@dataclass
class Carried:
    """What rides along with one task.

    Attributes:
        prompt: its row without the messages, unless they hold more than roles and contents.
        responses: their rows without the texts, in the order shown.
        entries: the annotations.
        aspects: by `slug`, where the two differ.
    """

    prompt: Row
    responses: list[Row]
    entries: list[Entry] = field(default_factory=list)
    aspects: dict[str, str] = field(default_factory=dict)


def pack(prompt: Row, responses: Sequence[Row], entries: Iterable[Entry]) -> Row:
    """The JSON value for a task.

    Args:
        prompt: the row.
        responses: the rows, in the order shown.
        entries: the annotations with what the tool shows of them.
    """
    whole = any(set(_plain(turn)) - {"role", "content"} for turn in prompt["messages"])
    said = []
    aspects = set()
    for entry in entries:
        aspects.add(str(entry.row["aspect"]))
        extra = {"answers": entry.answers, "by": entry.by}
        said.append({"row": _plain(entry.row), **{key: value for key, value in extra.items() if value is not None}})
    packed: Row = {
        "version": VERSION,
        "check": _check(prompt["messages"], [response["text"] for response in responses]),
        "prompt": _plain(prompt, () if whole else ("messages",)),
        "responses": [_plain(response, ("text",)) for response in responses],
    }
    renamed = {slug(aspect): aspect for aspect in sorted(aspects) if slug(aspect) != aspect}
    return {**packed, **({"said": said} if said else {}), **({"aspects": renamed} if renamed else {})}


def unpack(record: Record, column: str, value: object, messages: Sequence[Row], texts: Sequence[str]) -> Carried | None:
    """What rides along with a task; None where there is nothing, or its texts are not those it was written with.

    Args:
        record: the task.
        column: where the value stands, for the message.
        value: what stands there.
        messages: of the prompt as the task shows it.
        texts: of the responses as the task shows them.

    Raises:
        RowError: it is not what `pack` makes.
    """
    if not isinstance(value, Mapping):
        return None
    if value.get("version") != VERSION:
        raise record.error(f"it is of version {value.get('version')!r}, and {VERSION} is known", column)
    if value.get("check") != _check(messages, texts):
        return None
    try:
        prompt = {"messages": [dict(turn) for turn in messages], **value["prompt"]}
        responses = [{**row, "text": text} for row, text in zip(value["responses"], texts, strict=True)]
        entries = [
            Entry(_dated(entry["row"]), entry.get("answers"), entry.get("by")) for entry in value.get("said") or ()
        ]
        aspects = {str(key): str(name) for key, name in (value.get("aspects") or {}).items()}
        _verify(prompt, responses, [entry.row for entry in entries])
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        raise record.error(f"what prefdata wrote there was changed and cannot be used: {error!r}", column) from None
    return Carried(prompt, responses, entries, aspects)


def _verify(prompt: Row, responses: Sequence[Row], said: Sequence[Row]) -> None:
    """Refuse rows that no table can hold, and annotations of something else than this task shows.

    Raises:
        ValueError: they are such.
        DataError: the same.
    """
    rows: Mapping[str, Sequence[Row]] = {"prompts": [prompt], "responses": responses, "annotations": said}
    for table, made in rows.items():
        schema.arrow_table(table, made)
        for row in made:
            if not all(_ID.fullmatch(row[name]) for name in (KEYS[table], "group_id", "prompt_id")):
                raise ValueError(f"a row of {table} has no id")
    schema.check_annotations(said, "what rides along")
    shown: Collection[str] = {prompt["prompt_id"], *(row["response_id"] for row in responses)}
    for row in said:
        if row["prompt_id"] != prompt["prompt_id"] or not set(row["target_ids"]) <= set(shown):
            raise ValueError("an annotation is about something else")


def _check(messages: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> str:
    return make_id("shown", [[turn["role"], turn["content"]] for turn in messages], list(texts))


def _plain(row: Mapping[str, Any], without: Collection[str] = ()) -> Row:
    """A row as JSON holds it, without what is null and without the step that made it."""
    kept = {}
    for key, value in row.items():
        if value is None or key == "step" or key in without:
            continue
        if isinstance(value, datetime):
            value = value.astimezone(UTC).isoformat()
        elif isinstance(value, Mapping):
            value = _plain(value)
        elif isinstance(value, list):
            value = [_plain(entry) if isinstance(entry, Mapping) else entry for entry in value]
        kept[key] = value
    return kept


def _dated(row: Mapping[str, Any]) -> Row:
    made = row.get("created_at")
    return {**row, "created_at": None if made is None else datetime.fromisoformat(made)}


def named(said: Answers) -> dict[str, Any]:
    """Answers by the names of their controls."""
    return {control.name: value for control, value in said.items()}
