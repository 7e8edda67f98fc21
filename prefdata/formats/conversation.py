"""Conversations in other people's files: messages checked, and turns joined into the text of one response and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from prefdata.formats.source import Record, describe
from prefdata.schema import Row, clean, message

ROLES = ("system", "user", "assistant", "tool")
MESSAGE_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")
BREAK = "\n\n"
"""Stands between the turns of a response that goes on over several."""


def read_messages(record: Record, column: str, value: object) -> list[Row]:
    """The messages of a column, checked.

    Args:
        record: the row, for the message.
        column: the column's name, for the message.
        value: what the column holds.

    Raises:
        DataError: it is no list of {role, content}, a role is not known, or a content is not text.
    """
    if not isinstance(value, list) or not value:
        raise record.error(f"it should be a list of messages and is {describe(value)}", column)
    return [_read_message(record, column, number, entry) for number, entry in enumerate(value, start=1)]


def _read_message(record: Record, column: str, number: int, entry: object) -> Row:
    if not isinstance(entry, Mapping):
        raise record.error(
            f"message {number} should be an object with role and content and is {describe(entry)}", column
        )
    given = {key: value for key, value in entry.items() if value is not None}
    unknown = sorted(set(given) - set(MESSAGE_KEYS))
    if unknown:
        raise record.error(f"message {number} has a key {unknown[0]!r}; known are {', '.join(MESSAGE_KEYS)}", column)
    if given.get("role") not in ROLES:
        problem = f"message {number} has the role {given.get('role')!r}; it must be one of {', '.join(ROLES)}"
        raise record.error(problem, column)
    calls = given.get("tool_calls")
    content = given.get("content", "" if calls else None)
    if not isinstance(content, str):
        raise record.error(f"the content of message {number} should be text and is {describe(content)}", column)
    rest: dict[str, str] = {}
    if calls:
        rest["tool_calls"] = calls if isinstance(calls, str) else json.dumps(clean(calls), ensure_ascii=False)
    for key in ("name", "tool_call_id"):
        if key in given:
            rest[key] = record.checked(column, given[key])
    return message(given["role"], record.checked(column, content, blank=True), **rest)


def check_answerable(record: Record, column: str, messages: Sequence[Row]) -> None:
    """Refuse a prompt that leaves nothing to answer.

    Raises:
        DataError: the last turn is the assistant's or the system's, or holds no text.
    """
    last = messages[-1]
    if last["role"] == "assistant":
        raise record.error("its last turn is the assistant's; end it with the turn that is to be answered", column)
    if last["role"] == "system":
        raise record.error("its last turn is the system's; add the user's turn that is to be answered", column)
    if not last["content"].strip():
        raise record.error("its last turn is empty; give it a text or take the row out", column)


def merge_turns(messages: Sequence[Row]) -> list[Row]:
    """Neighbouring turns of one role as one turn: chat templates that insist on alternation take them so."""
    merged = []
    for role, turns in groupby(messages, key=lambda turn: str(turn["role"])):
        merged.append(message(role, BREAK.join(turn["content"] for turn in turns)))
    return merged


def join_turns(turns: Sequence[Row]) -> tuple[str, list[Row] | None]:
    """One response from the turns that follow a prompt, the first of them the assistant's.

    Returns:
        Its text, and where it goes on after another role's turn its segments (else None); the break between two turns
        belongs to the earlier one. `split_turns` is the inverse.
    """
    if len(turns) == 1:
        return str(turns[0]["content"]), None
    text, segments = "", []
    for place, turn in enumerate(turns):
        text += turn["content"] + (BREAK if place < len(turns) - 1 else "")
        segments.append({"end": len(text), "role": turn["role"], "kind": "turn"})
    return text, segments


def split_turns(text: str, segments: Sequence[Mapping[str, Any]] | None) -> list[Row]:
    """The messages of a response: a new one begins wherever the segments change role."""
    begin, pieces = 0, []
    for segment in segments or ():
        pieces.append((segment["role"] or "assistant", text[begin : segment["end"]]))
        begin = segment["end"]
    if begin < len(text) or not pieces:
        pieces.append(("assistant", text[begin:]))
    turns = [message(role, "".join(piece for _, piece in run)) for role, run in groupby(pieces, key=lambda p: p[0])]
    for turn in turns[:-1]:
        turn["content"] = turn["content"].removesuffix(BREAK)
    return turns
