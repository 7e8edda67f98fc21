"""Reading a judge's answer: strictly, or not at all.

The answer is one JSON object that has the wanted key. Blank lines, a code fence, a reasoning block (`<think>`) and
prose around it do no harm. Whatever could be read in two ways (two such objects, a key twice, an object cut off, a
score off its scale) is not read: the annotation is `unparsed`, and the answer stays in `calls.raw` for a better parser.
Nothing but JSON is looked at, so no digit of "10", no letter in a sentence and no `[[A]]` is ever taken for a verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from prefdata.cards import Scale

_TAGS = r"(?:think|thinking|thought|reasoning|reflection)"
_BLOCK = re.compile(rf"<{_TAGS}>.*?</{_TAGS}>", re.DOTALL | re.IGNORECASE)
_OPEN = re.compile(rf"<{_TAGS}>", re.IGNORECASE)
_CLOSE = re.compile(rf"</{_TAGS}>", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_CHOICE = re.compile(r"(?:response\s+)?([ab])|(tie)", re.IGNORECASE)
_FENCE = re.compile(r"[A-Za-z0-9_+-]*\s*")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A comparison as the judge stated it: the winner by its letter, and why.

    Attributes:
        winner: `A`, `B` or `tie`.
        reason: in the judge's words; None where it gave none.
    """

    winner: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores as the judge stated them, in the units of their scales; aspects it did not score validly are absent."""

    values: dict[str, float]
    reason: str | None


def parse_verdict(
    text: str, *, shown: Iterable[str] = (), truncated: bool = False, ties: bool = True
) -> Verdict | None:
    """Read `{"verdict": "A" | "B" | "tie", "reason": ...}`.

    Args:
        text: the judge's whole answer.
        shown: the texts that were judged. An object in the midst of prose that also stands in one of them is a
            quotation, not a verdict.
        truncated: the answer was cut off at its length: only one that is nothing but the object is read.
        ties: whether `tie` is a verdict.

    Returns:
        The verdict; None where there is none, or more than one way to read it.
    """
    found = _find(text, "verdict", shown, truncated)
    said = found.get("verdict") if found else None
    match = _CHOICE.fullmatch(said.strip()) if isinstance(said, str) else None
    if found is None or match is None or (match[2] and not ties):
        return None
    return Verdict(match[1].upper() if match[1] else "tie", _reason(found))


def parse_scores(
    text: str, scales: Mapping[str, Scale], *, shown: Iterable[str] = (), truncated: bool = False
) -> Scores | None:
    """Read `{"scores": {aspect: number, ...}, "reason": ...}`.

    Args:
        text: the judge's whole answer.
        scales: by aspect. A number off its scale is no score; it is neither clipped nor rounded.
        shown: as in `parse_verdict`.
        truncated: as in `parse_verdict`.

    Returns:
        The scores that are valid; None where there is no object to read, or more than one way to read it.
    """
    found = _find(text, "scores", shown, truncated)
    said = found.get("scores") if found else None
    if found is None or not isinstance(said, dict):
        return None
    values = {aspect: _number(said.get(aspect)) for aspect in scales}
    valid = {aspect: value for aspect, value in values.items() if value is not None and scales[aspect].admits(value)}
    return Scores(valid, _reason(found))


def _reason(found: Mapping[str, Any]) -> str | None:
    reason = found.get("reason")
    return reason.strip() or None if isinstance(reason, str) else None


def _number(value: object) -> float | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value)
    return None


def _find(text: str, key: str, shown: Iterable[str], truncated: bool) -> dict[str, Any] | None:
    """The one object that has `key`, or None."""
    whole = _whole(text)
    if whole is None:
        text = _after_reasoning(text)
        whole = _whole(text)
    if whole is not None:
        return whole if key in whole else None
    spans = None if truncated else _objects(text)
    if spans is None:
        return None
    quotable = [_squeeze(one) for one in shown]
    candidates = []
    for source, value in spans:
        names_it = f'"{key}"' in source or (value is not None and key in value)
        if names_it and not any(_squeeze(source) in one for one in quotable):
            candidates.append(value)
    # An object that names the key and cannot be read makes the answer as ambiguous as a second one does.
    only = candidates[0] if len(candidates) == 1 else None
    return only if only is not None and key in only else None


def _squeeze(text: str) -> str:
    return "".join(text.split()).casefold()


def _after_reasoning(text: str) -> str:
    """What follows the reasoning; nothing where the reasoning was never closed."""
    text = _BLOCK.sub("\n", text)
    closed = list(_CLOSE.finditer(text))
    if closed:
        text = text[closed[-1].end() :]
    return "" if _OPEN.search(text) else text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, strict=False)


def _whole(text: str) -> dict[str, Any] | None:
    """The answer as one object, where it is nothing else (but for blanks and one code fence)."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        text = text[3:-3]
        start = _FENCE.match(text)
        text = text[start.end() if start else 0 :].rstrip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and end == len(text) else None


def _objects(text: str) -> list[tuple[str, dict[str, Any] | None]] | None:
    """The outermost brace pairs of a text with the object that each is (None: no JSON); None if a brace stays open."""
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
        found.append((text[at:end], value))
        at = text.find("{", end)
    return found


def _closing(text: str, at: int) -> int | None:
    """The end of the brace pair that opens at `at`, strings not minded; None where it never closes."""
    depth = 0
    for brace in re.compile(r"[{}]").finditer(text, at):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return None
