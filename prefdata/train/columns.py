"""Which columns each format of an exported file has, and of which types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

from prefdata.train.errors import TrainError

FORMATS = ("lists", "trl-pairs", "trl-pairs-conversational")
VERSION = 1
"""Of each of FORMATS: `lists/1` in the footer. A newer one is refused."""

UNREAD = ("prefixes", "segments", "other_prompts", "prompt_of", "ref_prompt_of", "media", "response_media")
"""Columns of `lists` that change what is trained and that this trainer cannot honour."""


def find_format(path: Path, schema: pa.Schema, metadata: Mapping[str, str]) -> str:
    """The format that the footer names, else the one that the columns show."""
    stated = metadata.get("prefdata.format", "")
    if stated:
        name, _, version = stated.partition("/")
        if name not in FORMATS:
            raise TrainError(f"{path} holds the format {stated!r}; export {', '.join(FORMATS)} to train on")
        if version.isdigit() and int(version) > VERSION:
            raise TrainError(
                f"{path} holds {stated!r}, which is newer than this trainer ({name}/{VERSION}): upgrade it"
            )
        return name
    names = set(schema.names)
    if {"prompt", "responses"} <= names:
        return "lists"
    if {"prompt", "chosen", "rejected"} <= names:
        return "trl-pairs-conversational" if _is_messages(schema.field("chosen").type) else "trl-pairs"
    raise TrainError(
        f"{path} has the columns {', '.join(schema.names)}; a training file has prompt, chosen and rejected "
        "(pairs), or prompt, responses, scores and ranks (lists)"
    )


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_string(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _list_of(inner: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    def test(kind: pa.DataType) -> bool:
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        return bool(listed) and inner(kind.value_type)

    return test


def _struct_with(*names: str) -> Callable[[pa.DataType], bool]:
    return lambda kind: bool(pa.types.is_struct(kind)) and set(names) <= {field.name for field in kind}


_is_messages = _list_of(_struct_with("role", "content"))
_Test = tuple[str, Callable[[pa.DataType], bool]]
_STRING: _Test = ("string", _is_string)
_NUMBER: _Test = ("a number", _is_number)
_MESSAGES: _Test = ("list<struct<role, content, ...>>", _is_messages)
_NUMBERS: _Test = ("list of numbers", _list_of(_is_number))

_PAIR: dict[str, _Test] = {
    "p": _NUMBER,
    "weight": _NUMBER,
    "score_chosen": _NUMBER,
    "score_rejected": _NUMBER,
    "tools": _STRING,
    "group": _STRING,
    "split": _STRING,
}
COLUMNS: dict[str, dict[str, _Test]] = {
    "lists": {
        "prompt": _MESSAGES,
        "responses": ("list<string>", _list_of(_is_string)),
        "scores": _NUMBERS,
        "ranks": _NUMBERS,
        "kind": _STRING,
        "group": _STRING,
        "split": _STRING,
        "weight": _NUMBER,
        "edges": ("list<struct<winner, loser, ...>>", _list_of(_struct_with("winner", "loser"))),
        "roles": ("list<string>", _list_of(_is_string)),
        "ends_turn": ("list<bool>", _list_of(pa.types.is_boolean)),
        "tools": _STRING,
    },
    "trl-pairs": {"prompt": _STRING, "chosen": _STRING, "rejected": _STRING, **_PAIR},
    "trl-pairs-conversational": {"prompt": _MESSAGES, "chosen": _MESSAGES, "rejected": _MESSAGES, **_PAIR},
}
_REQUIRED = {
    "lists": ("prompt", "responses", "scores", "ranks"),
    "trl-pairs": ("prompt", "chosen", "rejected"),
    "trl-pairs-conversational": ("prompt", "chosen", "rejected"),
}


def check_columns(path: Path, schema: pa.Schema, form: str) -> None:
    """Refuse a file that lacks a column of its format, or holds one of another type.

    Raises:
        TrainError: names the file and the column.
    """
    for name in _REQUIRED[form]:
        if name not in schema.names:
            raise TrainError(f"{path} lacks the column {name!r} that the format {form!r} has")
    for name, (meant, test) in COLUMNS[form].items():
        if name in schema.names and not test(schema.field(name).type):
            kind = schema.field(name).type
            if pa.types.is_null(kind) and name not in _REQUIRED[form]:
                continue
            raise TrainError(f"{path}: the column {name!r} is {kind}; in the format {form!r} it is {meant}")
