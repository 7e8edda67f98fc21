"""Reading a judge's answer: strictly, or not at all.

The answer is one JSON object that has the wanted key. Blank lines, a code fence, a reasoning block (`<think>`), a
byte-order mark and prose around it do no harm, nor do comments and trailing commas within it. Whatever could be read
in two ways (two such objects, a key twice, an object cut off, a comment that names the key, a score off its scale) is
not read: the annotation is `unparsed`, and the answer stays in `calls.raw` for a better parser.

A number may be a JSON number or a string that is one. The string "8/10" is 8 where 10 is the highest score of an
ordinal scale, and nothing otherwise; "7-8", "8 out of 10" and "eight" are nothing. "N/A" is an answer only for an
aspect that need not apply; null is none.

Where an answer holds no brace at all, its last lines may stand for the object: `verdict: B`, `choice: C`,
`label: supported`, `score: 4` (a card of one aspect) or `clarity: 4`, each key once, nothing after them, and none of
them to be found in a text that the judge saw. Answers about several responses, one by one, are read from JSON alone. So
no digit of "10", no letter in a sentence and no `[[A]]` is ever taken for a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.cards import Scale
from prefdata.schema import storable

from .found import after_reasoning, find_lines, find_object

_NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_OF_MOST = re.compile(r"(\d{1,15}(?:\.0{1,15})?)\s*/\s*(\d{1,15})", re.ASCII)
_CHOICE = re.compile(r"(?:response\s+)?([ab])|(tie)", re.IGNORECASE)
_LETTERS = re.compile(r"(?:response\s+)?([a-z]{1,3})", re.IGNORECASE)
_NOT_APPLICABLE = frozenset({"n/a", "na", "n.a.", "not applicable"})


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
    """Scores as the judge stated them, in the units of their scales; aspects it did not score validly are absent.

    Attributes:
        values: by aspect.
        reason: in the judge's words; None where it gave none.
        without: the aspects that the judge said do not apply.
    """

    values: dict[str, float]
    reason: str | None
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Said:
    """A ranking, choice, label or critique as the judge stated it.

    Attributes:
        value: ranking: tiers of letters, best first. choice and label: one tier of one. critique: empty.
        text: the reason, or the critique itself; None where there is none.
    """

    value: tuple[tuple[str, ...], ...]
    text: str | None


def parse_verdict(
    text: str, *, shown: Iterable[str] = (), truncated: bool = False, ties: bool = True
) -> Verdict | None:
    """Read `{"verdict": "A" | "B" | "tie", "reason": ...}`.

    Args:
        text: the judge's whole answer.
        shown: the outside texts that the judge saw. An object in the midst of prose that also stands in one of them
            is a quotation, not a verdict.
        truncated: the answer was cut off at its length: only one that is nothing but the object is read.
        ties: whether `tie` is a verdict.

    Returns:
        The verdict; None where there is none, or more than one way to read it.
    """
    found = _one_of(text, "verdict", shown, truncated)
    match = _CHOICE.fullmatch(found[0]) if found else None
    if found is None or match is None or (match[2] and not ties):
        return None
    return Verdict(match[1].upper() if match[1] else "tie", found[1])


def parse_scores(
    text: str,
    scales: Mapping[str, Scale],
    *,
    shown: Iterable[str] = (),
    truncated: bool = False,
    may_not_apply: Iterable[str] = (),
) -> Scores | None:
    """Read `{"scores": {aspect: number, ...}, "reason": ...}`.

    Args:
        text: the judge's whole answer.
        scales: by aspect. A number off its scale is no score; it is neither clipped nor rounded.
        shown: as in `parse_verdict`.
        truncated: as in `parse_verdict`.
        may_not_apply: the aspects for which "N/A" is an answer.

    Returns:
        The scores that are valid; None where there is no object to read, or more than one way to read it.
    """
    shown = list(shown)
    found = find_object(text, "scores", shown, truncated)
    if found is None:
        keys = {aspect.casefold(): aspect for aspect in scales}
        if len(scales) == 1:
            keys.setdefault("score", next(iter(scales)))
        lines = find_lines(text, list(keys), shown, truncated)
        if not lines or len({keys[key] for key in lines}) != len(lines):
            return None
        found = {"scores": {keys[key]: value for key, value in lines.items()}}
    return _scores(found, scales, frozenset(may_not_apply))


def parse_together(
    text: str,
    letters: Sequence[str],
    scales: Mapping[str, Scale],
    *,
    shown: Iterable[str] = (),
    truncated: bool = False,
    may_not_apply: Iterable[str] = (),
) -> dict[str, Scores]:
    """Read `{"responses": {letter: {"scores": {aspect: number, ...}, "reason": ...}, ...}}`.

    Args:
        text: the judge's whole answer.
        letters: of the responses that were shown. An answer that has another one is not read: it is about other texts.
        scales: as in `parse_scores`.
        shown: as in `parse_verdict`.
        truncated: as in `parse_verdict`.
        may_not_apply: as in `parse_scores`.

    Returns:
        By letter, the scores of each response that is there and has an object; one without is absent.
    """
    found = find_object(text, "responses", shown, truncated)
    said = found.get("responses") if found else None
    if not isinstance(said, dict):
        return {}
    by_letter: dict[str, Any] = {}
    for name, value in said.items():
        letter = _letter(name, letters)
        if letter is None or letter in by_letter:
            return {}
        by_letter[letter] = value
    apply = frozenset(may_not_apply)
    read = {letter: _scores(value, scales, apply) for letter, value in by_letter.items() if isinstance(value, dict)}
    return {letter: scores for letter, scores in read.items() if scores is not None}


def parse_ranking(
    text: str, letters: Sequence[str], *, shown: Iterable[str] = (), truncated: bool = False, ties: bool = True
) -> Said | None:
    """Read `{"ranking": ["B", ["A", "C"]], "reason": ...}`: best first, an inner list of equal ones where ties are.

    Args:
        text: the judge's whole answer.
        letters: of the responses that were shown: each must stand in the ranking once, and no other.
        shown: as in `parse_verdict`.
        truncated: as in `parse_verdict`.
        ties: whether responses may be of equal rank.
    """
    found = find_object(text, "ranking", shown, truncated)
    said = found.get("ranking") if found else None
    if found is None or not isinstance(said, list):
        return None
    tiers = []
    for entry in said:
        tier = [_letter(one, letters) for one in (entry if isinstance(entry, list) else [entry])]
        if not tier or None in tier or (len(tier) > 1 and not ties):
            return None
        tiers.append(tuple(letter for letter in tier if letter is not None))
    if sorted(letter for tier in tiers for letter in tier) != sorted(letters):
        return None
    return Said(tuple(tiers), _reason(found))


def parse_choice(
    text: str, letters: Sequence[str], *, shown: Iterable[str] = (), truncated: bool = False
) -> Said | None:
    """Read `{"choice": letter, "reason": ...}`; the arguments are those of `parse_ranking`."""
    found = _one_of(text, "choice", shown, truncated)
    letter = _letter(found[0], letters) if found else None
    return Said(((letter,),), found[1]) if found and letter else None


def parse_label(text: str, labels: Iterable[str], *, shown: Iterable[str] = (), truncated: bool = False) -> Said | None:
    """Read `{"label": one of labels, "reason": ...}`, whatever the case; the arguments are those of `parse_verdict`."""
    found = _one_of(text, "label", shown, truncated)
    known = {label.strip().casefold(): label for label in labels}
    label = known.get(found[0].casefold()) if found else None
    return Said(((label,),), found[1]) if found and label is not None else None


def parse_critique(text: str, *, key: bool = False, shown: Iterable[str] = (), truncated: bool = False) -> Said | None:
    """Read a critique: the whole answer after the reasoning, or with `key` the text in `{"critique": ...}`.

    Args:
        text: the judge's whole answer.
        key: the answer is to be JSON, because scores stand in it too.
        shown: as in `parse_verdict`.
        truncated: as in `parse_verdict`; a critique that is a plain text is kept as far as it goes.
    """
    if not key:
        said: object = after_reasoning(text)
    else:
        found = find_object(text, "critique", shown, truncated)
        said = found.get("critique") if found else None
    kept = storable(said).strip() if isinstance(said, str) else ""
    return Said((), kept) if kept else None


def _one_of(text: str, key: str, shown: Iterable[str], truncated: bool) -> tuple[str, str | None] | None:
    """The text under `key` and the reason, from the object or else from the last line."""
    shown = list(shown)
    found = find_object(text, key, shown, truncated)
    if found is None:
        found = dict(find_lines(text, [key], shown, truncated))
    said = found.get(key)
    return (said.strip(), _reason(found)) if isinstance(said, str) else None


def _scores(found: Mapping[str, Any], scales: Mapping[str, Scale], may_not_apply: frozenset[str]) -> Scores | None:
    said = found.get("scores")
    if not isinstance(said, dict):
        return None
    values: dict[str, float] = {}
    without = set()
    for aspect, scale in scales.items():
        value = _number(said.get(aspect), scale)
        if value is not None and scale.admits(value):
            values[aspect] = value
        elif aspect in may_not_apply and str(said.get(aspect)).strip().casefold() in _NOT_APPLICABLE:
            without.add(aspect)
    return Scores(values, _reason(found), frozenset(without))


def _letter(said: object, letters: Sequence[str]) -> str | None:
    match = _LETTERS.fullmatch(said.strip()) if isinstance(said, str) else None
    return match[1].upper() if match and match[1].upper() in letters else None


def _reason(found: Mapping[str, Any]) -> str | None:
    reason = found.get("reason")
    return storable(reason).strip() or None if isinstance(reason, str) else None


def _number(value: object, scale: Scale) -> float | None:
    if isinstance(value, str):
        value = value.strip()
        share = _OF_MOST.fullmatch(value)
        if share and scale.type == "ordinal" and float(share[2]) == scale.max:
            return float(share[1])
        return float(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value)
    return None
