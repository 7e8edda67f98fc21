"""Which columns each format of a training file has, of which types, and how a format is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

from prefdata.train.errors import TrainError
from prefdata.train.rows import shown

FORMATS = ("lists", "trl-pairs", "trl-pairs-conversational", "unpaired", "unpaired-conversational", "sft")
"""`sft` is a prompt and its completion, or messages: other people's files, none that prefdata exports."""
_BY_COLUMNS = ("ultrafeedback-binarized",)
"""Exports that are one of FORMATS by another name: their columns say which."""
VERSION = 1
"""Of each of FORMATS: `lists/1` in the footer. A newer one is refused."""

_Test = Callable[[pa.DataType], bool]
_Wanted = tuple[str, _Test]


def find_format(path: Path, schema: pa.Schema, metadata: Mapping[str, str]) -> str:
    """The format that the footer names, else the one that the columns show.

    Raises:
        TrainError: it is none that can be trained on; the message says what the file seems to be.
    """
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise TrainError(f"{path} has two columns {shown(twice[0])!r}: rename one of them")
    stated = metadata.get("prefdata.format", "")
    if stated:
        name, _, version = stated.partition("/")
        if name not in (*FORMATS, *_BY_COLUMNS):
            raise TrainError(f"{path} holds the format {shown(stated)!r}; export {', '.join(FORMATS[:-1])} to train on")
        if version.isdigit() and int(version) > VERSION:
            raise TrainError(
                f"{path} holds {stated!r}, which is newer than this trainer ({name}/{VERSION}): upgrade it"
            )
        if name in FORMATS:
            return name
    return _shown_by(path, schema)


def _shown_by(path: Path, schema: pa.Schema) -> str:
    names = set(schema.names)
    if {"prompt", "responses"} <= names:
        return "lists"
    if {"chosen", "rejected"} <= names:
        return "trl-pairs-conversational" if _is_list(schema.field("chosen").type) else "trl-pairs"
    if {"prompt", "completions", "labels"} <= names:
        raise TrainError(
            f"{path} holds steps with labels (prompt, completions, labels), for a process reward model, which is not "
            "trained here: name a file of lists, pairs, unpaired responses or completions"
        )
    if {"prompt", "completion"} <= names:
        if "label" not in names:
            return "sft"
        return "unpaired-conversational" if _is_list(schema.field("completion").type) else "unpaired"
    if "messages" in names:
        return "sft"
    raise TrainError(
        f"{path} has the columns {_named(schema.names)}; a training file has prompt, responses, scores and ranks "
        "(lists), prompt, chosen and rejected (pairs), prompt, completion and label (unpaired), prompt and completion, "
        "or messages"
    )


def _named(names: list[str], most: int = 20) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + rest


def _is_null(kind: pa.DataType) -> bool:
    return bool(pa.types.is_null(kind))


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_string(kind.value_type)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in tests)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def _is_truth(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or pa.types.is_null(kind))


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)
    return any(test(kind) for test in (*tests, pa.types.is_large_list_view))


def _list_of(inner: _Test) -> _Test:
    return lambda kind: _is_list(kind) and (_is_null(kind.value_type) or inner(kind.value_type))


def _struct(needed: Mapping[str, _Test], optional: Mapping[str, _Test] | None = None) -> _Test:
    """A struct that has all of `needed`; what it has of either is of that type; its other fields may be anything."""
    tests = {**needed, **(optional or {})}

    def test(kind: pa.DataType) -> bool:
        if not pa.types.is_struct(kind):
            return False
        fields = {field.name: field.type for field in kind}
        return set(needed) <= set(fields) and all(tests[name](fields[name]) for name in tests if name in fields)

    return test


def _either(*tests: _Test) -> _Test:
    return lambda kind: any(test(kind) for test in tests)


_MESSAGES_TEST = _list_of(_struct({"role": _is_string, "content": _is_string}))
_STRING: _Wanted = ("string", _is_string)
_NUMBER: _Wanted = ("a number", _is_number)
_MESSAGES: _Wanted = ("list<struct<role, content, ...>> of strings", _MESSAGES_TEST)
_TURNS: _Wanted = ("string, or list<struct<role, content, ...>> of strings", _either(_is_string, _MESSAGES_TEST))
_NUMBERS: _Wanted = ("list of numbers", _list_of(_is_number))
_STRINGS: _Wanted = ("list<string>", _list_of(_is_string))
_ANY: _Wanted = ("anything", lambda _: True)

_EDGES: _Wanted = (
    "list<struct<winner, loser, p, margin, weight, votes>> of numbers",
    _list_of(
        _struct(
            {"winner": _is_number, "loser": _is_number},
            dict.fromkeys(("p", "margin", "weight", "votes"), _is_number),
        )
    ),
)
_VALUES: _Wanted = (
    "list<struct<name string, values list of numbers>>",
    _list_of(_struct({"name": _is_string, "values": _either(_list_of(_is_number), _is_null)})),
)
_SEGMENTS: _Wanted = (
    "list<list<struct<end, role, kind, value>>>",
    _list_of(
        _list_of(_struct({"end": _is_number}, {"role": _is_string, "kind": _is_string, "value": _is_number})),
    ),
)
_PROMPTS: _Wanted = (
    "list<struct<messages, tools, media>>",
    _list_of(_struct({"messages": _either(_MESSAGES_TEST, _is_null)}, {"tools": _is_string})),
)
_RATIONALES: _Wanted = (
    "list<struct<of list of numbers, text string>>",
    _list_of(_struct({"text": _is_string}, {"of": _either(_list_of(_is_number), _is_null)})),
)
_PROVENANCE = dict.fromkeys(("id", "group", "split", "aspect", "annotator", "tools"), _STRING)
_PAIR: dict[str, _Wanted] = {
    **_PROVENANCE,
    **dict.fromkeys(("margin", "p", "weight", "score_chosen", "score_rejected"), _NUMBER),
    **dict.fromkeys(("chosen_id", "rejected_id"), _STRING),
}
_ALONE: dict[str, _Wanted] = {
    **_PROVENANCE,
    "label": ("bool (or 0 and 1)", _either(_is_truth, _is_number)),
    **dict.fromkeys(("weight", "score"), _NUMBER),
    "response_id": _STRING,
}
COLUMNS: dict[str, dict[str, _Wanted]] = {
    "lists": {
        **_PROVENANCE,
        "kind": _STRING,
        "weight": _NUMBER,
        "prompt": _MESSAGES,
        "response_ids": _STRINGS,
        "responses": _STRINGS,
        "scores": _NUMBERS,
        "ranks": _NUMBERS,
        "edges": _EDGES,
        "roles": _STRINGS,
        "values": _VALUES,
        "prefixes": _STRINGS,
        "ends_turn": ("list<bool>", _list_of(_is_truth)),
        "segments": _SEGMENTS,
        "other_prompts": _PROMPTS,
        "prompt_of": _NUMBERS,
        "ref_prompt_of": _NUMBERS,
        "rationales": _RATIONALES,
        "media": _ANY,
        "response_media": _ANY,
    },
    "trl-pairs": {**dict.fromkeys(("prompt", "chosen", "rejected"), _STRING), **_PAIR},
    "trl-pairs-conversational": {"prompt": _TURNS, "chosen": _MESSAGES, "rejected": _MESSAGES, **_PAIR},
    "unpaired": {"prompt": _STRING, "completion": _STRING, **_ALONE},
    "unpaired-conversational": {"prompt": _TURNS, "completion": _MESSAGES, **_ALONE},
    "sft": {"prompt": _TURNS, "completion": _TURNS, "messages": _MESSAGES, **_ALONE},
}
"""What is read of each format. Others are ignored: `link` too, which no loss here looks at (its rows share a group),
and `token_scores`: the trainer computes log-probabilities itself, with the model at hand."""
_REQUIRED = {
    "lists": ("prompt", "responses", "scores", "ranks"),
    "trl-pairs": ("chosen", "rejected"),
    "trl-pairs-conversational": ("chosen", "rejected"),
    "unpaired": ("prompt", "completion", "label"),
    "unpaired-conversational": ("prompt", "completion", "label"),
    "sft": (),
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
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        if not test(kind) and not (_is_null(kind) and name not in _REQUIRED[form]):
            said = shown(str(kind).replace("element: ", "").replace("item: ", ""), 200)
            raise TrainError(f"{path}: the column {name!r} is {said}; in the format {form!r} it is {meant}")
