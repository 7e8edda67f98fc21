"""Constraints on the form of a response that a program can check: how long, how many, with or without what.

Each is named by a key of a spec: `{words: {max: 50}, bullets: 3, no_commas: true}`. What is counted takes a number
(exactly so many) or `{min, max}`; `min_words: 7` and `max_words: 7` say the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from . import rulebook
from .answers import SpecError, Verdict, json_in

_SENTENCE_END = re.compile(r"(?:(?<![.!?…])[.!?…]+[\"'”’»)\]]*(?=\s|$)|[。！？।؟]+)")
_SHORTENED = re.compile(r"\b(?:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|z\.b|d\.h|bzw|no|nr|fig)\.$", re.IGNORECASE)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_BULLET = re.compile(r"^ {0,3}[-*•+][ \t]+\S", re.MULTILINE)
_NUMBERED = re.compile(r"^ {0,3}\d{1,4}[.)][ \t]+\S", re.MULTILINE)
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+\S", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]+\]")
_CAPITALS = re.compile(r"\b[A-ZÀ-ÖØ-Þ]{2,}\b")

_LANGUAGES: dict[str, tuple[str, str | None]] = {
    code: (script, name)
    for script, names in {
        "latin": "en english,de german,fr french,es spanish,pt portuguese,it italian,nl dutch,pl polish,sv swedish,"
        "tr turkish,id indonesian,vi vietnamese",
        "greek": "el greek",
        "cyrillic": "ru russian,uk ukrainian,bg bulgarian",
        "hebrew": "he hebrew",
        "arabic": "ar arabic,fa persian,ur urdu",
        "devanagari": "hi hindi,mr marathi,ne nepali",
        "bengali": "bn bengali",
        "tamil": "ta tamil",
        "telugu": "te telugu",
        "thai": "th thai",
        "hangul": "ko korean",
        "kana": "ja japanese",
        "han": "zh chinese",
    }.items()
    for pair in names.split(",")
    for code, name in [tuple(pair.split())]
}


def sentences(text: str) -> int:
    """How many sentences: ends followed by a space or the end, save after common abbreviations; a rest counts."""
    count, start = 0, 0
    for end in _SENTENCE_END.finditer(text):
        if _SHORTENED.search(text[max(0, end.start() - 8) : end.start() + 1]):
            continue
        if rulebook.words(text[start : end.start()]):
            count += 1
        start = end.end()
    return count + bool(rulebook.words(text[start:]))


def paragraphs(text: str) -> int:
    """How many blocks of text with empty lines between them."""
    return len([part for part in _PARAGRAPH.split(text.strip()) if part.strip()])


_COUNTED: dict[str, Callable[[str], int]] = {
    "words": lambda text: len(rulebook.words(text)),
    "characters": lambda text: len(text.strip()),
    "sentences": sentences,
    "paragraphs": paragraphs,
    "lines": lambda text: len([line for line in text.splitlines() if line.strip()]),
    "bullets": lambda text: len(_BULLET.findall(text)),
    "numbered": lambda text: len(_NUMBERED.findall(text)),
    "headings": lambda text: len(_HEADING.findall(text)),
    "placeholders": lambda text: len(_PLACEHOLDER.findall(text)),
    "capital_words": lambda text: len(_CAPITALS.findall(text)),
    "commas": lambda text: text.count(",") + text.count("，") + text.count("、"),
    "questions": lambda text: text.count("?") + text.count("？") + text.count("؟"),
}
"""What can be counted."""

_YES_OR_NO: dict[str, tuple[Callable[[str], bool], str]] = {
    "json": (lambda text: json_in(text)[0] and text.strip()[:1] in '{[`"', "it is not JSON"),
    "lowercase": (lambda text: text == text.lower(), "it has capital letters"),
    "uppercase": (lambda text: text == text.upper(), "it has small letters"),
    "no_commas": (lambda text: _COUNTED["commas"](text) == 0, "it has commas"),
    "quoted": (lambda text: len(text) > 1 and text[0] in '"“„«' and text[-1] in '"”“»', "it is not in quotes"),
    "title": (lambda text: re.search(r"<<[^<>\n]+>>", text) is not None, "it has no title in << >>"),
    "code": (lambda text: text.count("```") >= 2, "it has no fenced code"),
}

_TEXTUAL: dict[str, tuple[Callable[[str, str], bool], str]] = {
    "starts_with": (lambda text, wanted: text.startswith(wanted), "it does not start with"),
    "ends_with": (lambda text, wanted: text.endswith(wanted), "it does not end with"),
    "first_word": (lambda text, wanted: rulebook.words(text)[:1] == rulebook.words(wanted), "its first word is not"),
    "last_word": (lambda text, wanted: rulebook.words(text)[-1:] == rulebook.words(wanted), "its last word is not"),
}


def counted(text: str, key: str) -> int:
    """How many of a thing that can be counted (`words`, `bullets`, ...) a text has; white space around it is none."""
    return _COUNTED[key](text.strip())


def known(key: str) -> bool:
    """Whether a key of a spec names a constraint of this module."""
    bare = key.removeprefix("min_").removeprefix("max_")
    return bare in _COUNTED or key in _YES_OR_NO or key in _TEXTUAL or key in _LISTED or key == "language"


def check(text: str, key: str, wanted: object) -> Verdict:
    """Whether a response keeps one constraint.

    Args:
        text: of the response; white space around it does not count.
        key: what is asked, for example `words`.
        wanted: the value of that key.

    Raises:
        SpecError: there is no such constraint, or its value makes no sense.
    """
    text = text.strip()
    bare = key.removeprefix("min_").removeprefix("max_")
    if key in _COUNTED:
        return _within(key, _COUNTED[key](text), wanted)
    if bare in _COUNTED and bare != key:
        return _within(bare, _COUNTED[bare](text), {key[:3]: wanted})
    if key in _YES_OR_NO:
        if not isinstance(wanted, bool):
            raise SpecError(f"{key} is true or false, not {wanted!r}")
        found, said = _YES_OR_NO[key]
        return Verdict(True) if not wanted or found(text) else Verdict(False, said)
    if key in _TEXTUAL:
        if not isinstance(wanted, str) or not wanted.strip():
            raise SpecError(f"{key} is a text, not {wanted!r}")
        kept, said = _TEXTUAL[key]
        return Verdict(True) if kept(text, wanted.strip()) else Verdict(False, f"{said} {wanted.strip()[:60]!r}")
    if key in _LISTED:
        return _LISTED[key](text, wanted)
    if key == "language":
        return _language(text, wanted)
    raise SpecError(f"there is no constraint {key!r}")


def band(wanted: object, key: str) -> tuple[int, int | None]:
    """The least and the most that a spec allows.

    Raises:
        SpecError: it is neither a whole number nor {min, max}.
    """
    if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted >= 0:
        return wanted, wanted
    if isinstance(wanted, Mapping) and wanted and not set(wanted) - {"min", "max"}:
        low, high = wanted.get("min", 0), wanted.get("max")
        if all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in (low, high or 0)):
            if high is not None and low > high:
                raise SpecError(f"{key}: min {low} is above max {high}")
            return low, high
    raise SpecError(f"{key} is a number or {{min, max}}, not {wanted!r}")


def _within(key: str, count: int, wanted: object) -> Verdict:
    low, high = band(wanted, key)
    if count < low:
        return Verdict(False, f"{count} {key}, {'exactly' if low == high else 'at least'} {low} wanted")
    if high is not None and count > high:
        return Verdict(False, f"{count} {key}, {'exactly' if low == high else 'at most'} {high} wanted")
    return Verdict(True)


def _texts(wanted: object, key: str) -> list[str]:
    listed = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) and one for one in listed):
        raise SpecError(f"{key} is a text or a list of texts, not {wanted!r}")
    return listed


def times(text: str, wanted: str) -> int:
    """How often a text stands in another as whole words, whatever the case."""
    left, right = (r"(?<!\w)" if wanted[:1].isalnum() else ""), (r"(?!\w)" if wanted[-1:].isalnum() else "")
    if re.search(f"[{rulebook._UNSPACED}]", wanted):
        left = right = ""
    return len(re.findall(left + re.escape(wanted) + right, text, re.IGNORECASE))


def _contains(text: str, wanted: object) -> Verdict:
    missing = [one for one in _texts(wanted, "contains") if not times(text, one)]
    return Verdict(False, f"it does not contain {missing[0][:60]!r}") if missing else Verdict(True)


def _excludes(text: str, wanted: object) -> Verdict:
    there = [one for one in _texts(wanted, "excludes") if times(text, one)]
    return Verdict(False, f"it contains {there[0][:60]!r}") if there else Verdict(True)


def _one_of(text: str, wanted: object) -> Verdict:
    return Verdict(True) if text in _texts(wanted, "one_of") else Verdict(False, "it is none of the answers allowed")


def _keywords(text: str, wanted: object) -> Verdict:
    if not isinstance(wanted, Mapping) or not wanted:
        raise SpecError(f"keywords is {{word: how often}}, not {wanted!r}")
    verdicts = [_within(f"times {str(word)[:40]!r}", times(text, str(word)), many) for word, many in wanted.items()]
    return next((verdict for verdict in verdicts if not verdict.ok), Verdict(True))


def _letters(text: str, wanted: object) -> Verdict:
    if not isinstance(wanted, Mapping) or not all(isinstance(one, str) and len(one) == 1 for one in wanted):
        raise SpecError(f"letters is {{letter: how often}}, not {wanted!r}")
    lowered = text.lower()
    verdicts = [_within(f"times {one!r}", lowered.count(one.lower()), many) for one, many in wanted.items()]
    return next((verdict for verdict in verdicts if not verdict.ok), Verdict(True))


_LISTED: dict[str, Callable[[str, object], Verdict]] = {
    "contains": _contains,
    "excludes": _excludes,
    "one_of": _one_of,
    "keywords": _keywords,
    "letters": _letters,
}


def _language(text: str, wanted: object) -> Verdict:
    """By script, and within the Latin one by frequent words; a text too short to tell says nothing."""
    name = str(wanted).strip().lower().split("-")[0]
    by_name = {language: (script, language) for script, language in _LANGUAGES.values()}
    if (asked := _LANGUAGES.get(name) or by_name.get(name)) is None:
        raise SpecError(f"language is one of {', '.join(_LANGUAGES)}, not {wanted!r}")
    script = rulebook.script(text)
    if script is None:
        return Verdict(None, "it is too short to tell its language")
    if script != asked[0]:
        return Verdict(False, f"it is written in {script} letters")
    if script != "latin":
        return Verdict(True)
    found = rulebook.stop_language(text)
    if found is None:
        return Verdict(None, "its language cannot be told")
    return Verdict(True) if found == asked[1] else Verdict(False, f"it is in {found}")


def read(spec: Any) -> dict[str, Any]:
    """A spec of constraints, with every key known.

    Raises:
        SpecError: it is none.
    """
    if not isinstance(spec, Mapping) or not spec:
        raise SpecError("it should be an object of constraints, for example {words: {max: 50}}")
    return {str(key): value for key, value in spec.items()}
