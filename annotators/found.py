"""Finding the one JSON object in a judge's answer, or the lines that stand in for one. See `parse` for the rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

_TAGS = r"(?:think|thinking|thought|reasoning|reflection)"
_TAG = re.compile(rf"<(/?){_TAGS}>", re.IGNORECASE)
_FENCE = re.compile(r"[A-Za-z0-9_+-]*\s*")
_BRACES = re.compile(r"[{}]")
_STRING = r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)'
"""One that never closes takes all that follows: to try each later quote in turn would take the square of the length."""
_COMMENT = re.compile(_STRING + r"|//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/)?", re.DOTALL)
_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])", re.DOTALL)
_LINE = re.compile(r"[\s>*_#`-]*([A-Za-z][\w -]{0,40}?)[\s*_`]*[:=][\s*_`\"]*(.*?)[*_`\"]*\.?[\s*_`\"]*", re.DOTALL)
_LONGEST_LINE = 200
_MARKUP = dict.fromkeys(map(ord, "*_`>#-"))
_MOST_OBJECTS = 1000
"""Of more nothing is read: to say where in a text one is no JSON takes as long as the text before it."""
_BLANKS = "\ufeff\u200b\u200e\u200f"
"""Characters without width that editors and models leave at the edges of a text."""


def find_object(text: str, key: str, shown: Iterable[str], truncated: bool) -> dict[str, Any] | None:
    """The one object that has `key`; None where there is none, or more than one way to read it.

    Args:
        text: the judge's whole answer.
        key: that the object must have.
        shown: the outside texts that the judge saw. An object in the midst of prose that stands in one is a quotation.
        truncated: the answer was cut off at its length: only one that is nothing but the object is read.
    """
    whole = _whole(text, key)
    if whole is None:
        text = after_reasoning(text)
        whole = _whole(text, key)
    if whole is not None:
        return whole if key in whole else None
    if key not in text and "\\u" not in text:
        return None  # no object of any kind is worth decoding
    spans = None if truncated else _objects(text, key)
    if spans is None:
        return None
    quotable = [_squeeze(one) for one in shown]
    candidates = []
    for source, value in spans:
        names_it = f'"{key}"' in source or (value is not None and key in value)
        if names_it and not any(_squeeze(source) in one for one in quotable):
            candidates.append(value)
        if len(candidates) > 1:
            break
    # An object that names the key and cannot be read makes the answer as ambiguous as a second one does.
    only = candidates[0] if len(candidates) == 1 else None
    return only if only is not None and key in only else None


def find_lines(text: str, keys: Sequence[str], shown: Iterable[str], truncated: bool) -> dict[str, str]:
    """What stands after the colon in the last lines of an answer without JSON, by key (`verdict: B`, `**clarity**: 4`).

    Args:
        text: the judge's whole answer.
        keys: that may begin a line, in lower case.
        shown: the outside texts that the judge saw.
        truncated: the answer was cut off at its length: then nothing is read.

    Returns:
        The values, for the keys that have one. Empty where the answer holds a brace or names a key before another
        colon as well, where anything but such lines follows the first of them, or where one of these texts holds one.
    """
    text = after_reasoning(text).translate(dict.fromkeys(map(ord, _BLANKS)))
    if truncated or "{" in text:
        return {}
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("```")]
    quotable = [_bare(one) for one in shown]
    named = re.compile(rf"\b(?:{'|'.join(map(re.escape, keys))})\b\W*[:=]", re.IGNORECASE)
    found: dict[str, str] = {}
    for line in lines:
        match = _LINE.fullmatch(line) if len(line) <= _LONGEST_LINE else None
        key = match[1].strip().casefold() if match else ""
        if match is None or key not in keys:
            if found or named.search(line):
                return {}  # what follows may take it back, and what went before may say another thing
            continue
        if key in found or any(_bare(f"{key}:{match[2]}") in one for one in quotable):
            return {}
        found[key] = match[2]
    return found


def after_reasoning(text: str) -> str:
    """What follows the reasoning; nothing where the reasoning was never closed."""
    kept: list[str] = []
    at, inside = 0, False
    for tag in _TAG.finditer(text):
        if tag[1]:
            if not inside:
                kept.clear()  # its beginning was part of the prompt, as some templates have it
            at, inside = tag.end(), False
        elif not inside:
            kept.append(text[at : tag.start()])
            inside = True
    return "" if inside else "\n".join([*kept, text[at:]])


def _squeeze(text: str) -> str:
    return "".join(text.split()).casefold()


def _bare(text: str) -> str:
    return _squeeze(text).translate(_MARKUP)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, strict=False)


def _whole(text: str, key: str) -> dict[str, Any] | None:
    """The answer as one object, where it is nothing else (but for blanks and one code fence)."""
    text = text.strip().strip(_BLANKS).strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        text = text[3:-3]
        start = _FENCE.match(text)
        text = text[start.end() if start else 0 :].rstrip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    return _decoded(text, key)


def _decoded(text: str, key: str) -> dict[str, Any] | None:
    """The object that a text is, comments and commas before a closing bracket left out; None where it is none."""
    for source in (text, _without_comments(text, key)):
        try:
            value, end = _DECODER.raw_decode(source or "")
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and end == len(source or ""):
            return value
    return None


def _without_comments(text: str, key: str) -> str | None:
    """JSON without its comments and trailing commas; None where a comment names the key: it may be another answer."""
    if any(f'"{key}"' in piece for piece in _COMMENT.findall(text) if piece.startswith("/")):
        return None
    plain = _COMMENT.sub(lambda piece: piece[0] if piece[0].startswith('"') else " ", text)
    plain = _COMMA.sub(lambda piece: piece[0] if piece[0].startswith('"') else "", plain).strip()
    return plain if plain != text else None


def _objects(text: str, key: str) -> list[tuple[str, dict[str, Any] | None]] | None:
    """The outermost brace pairs of a text with the object that each is (None: no JSON).

    None if a brace stays open, or there are too many.
    """
    found: list[tuple[str, dict[str, Any] | None]] = []
    at = text.find("{")
    while at >= 0:
        value: dict[str, Any] | None = None
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            closing = _closing(text, at)
            if closing is None:
                return None
            end = closing
            value = _decoded(text[at:end], key)
        found.append((text[at:end], value))
        if len(found) > _MOST_OBJECTS:
            return None
        at = text.find("{", end)
    return found


def _closing(text: str, at: int) -> int | None:
    """The end of the brace pair that opens at `at`, strings not minded; None where it never closes."""
    depth = 0
    for brace in _BRACES.finditer(text, at):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return None
