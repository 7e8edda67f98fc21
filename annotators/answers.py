"""Answers in responses: where they stand, and whether they are the right ones.

Where an answer stands, in this order: in the last `\\boxed{}`; after the last `####`, `answer:`, `answer is` (or the
like in a few languages), to the end of that line; else each check looks where its kind of answer is to be expected: the
last number, the whole text. A response in which none is found is wrong, and says so.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .expressions import ExpressionError, equal, number, read

_MARKED = re.compile(
    r"(?:####|\b(?:final\s+)?(?:answer|antwort|réponse|respuesta|risposta|resposta|antwoord)\b\s*(?:(?:\*\*|__)\s*)?"
    r"(?::|=|\b(?:is|ist|lautet|est|es|è|é)\b\s*:?))[ \t]*(?:\*\*|__)?[ \t]*([^\n]*)",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:[ \u00a0\u2009\u202f]\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+|\d+,\d+"
_NUMBER = re.compile(
    # A sign stands right before its number: in `12 - 5` there is none. What stands within a word, a time (9:40), a date
    # (2024-01-05) or a version (1.2.3) is no number; nor is what is raised, rooted or multiplied by a root (cm^2, √2).
    rf"(?<![\w.:^√±])(?<!\^\{{)(?<!\\sqrt\{{)(?<!\d[-/,])(?P<sign>[-+−–])?(?:[$€£¥]\s?)?(?P<sign2>[-+−])?"
    rf"(?:(?P<whole>\d+)[ ](?P<top>\d+)/(?P<below>\d+)|(?P<over>\d+)\s?/\s?(?P<under>\d+)|(?P<digits>{_DIGITS}))"
    r"(?:(?:[eE]|\s?[×x*]\s?10\^)\{?(?P<power>[-+−]?\d{1,4})\}?)?"
    r"(?!\d|[.,:/-]\d|[eE][-+]?\d|\s?\^|\s?\\(?:sqrt|pi)\b|\s?[√π])(?P<percent>\s?\\?%|\s?percent\b)?",
)
# Every repetition has a bound or a fixed beginning: a text of 100,000 digits must not take 100,000 attempts as long.
_FRACTION = re.compile(r"(?<!\d)(\d{1,30})?[ ]?\\[dt]?frac[ ]?(?:\{([-\d.,]{1,40})\}[ ]?\{([\d.,]{1,40})\}|(\d)(\d))")
_ONE_SIGN = re.compile("[¼-¾⅐-⅞]")
_GROUPED = re.compile(r"(?<=\d)(?:\{,\}|\\[,!;: ]){1,3}(?=\d{3})")
_RAISED = re.compile(r"[⁰¹²³⁴-⁹]+")
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
_AS_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_ARITHMETIC = re.compile(r"[\d\s.,+*/×·÷()${}−=-]*")
_CALCULATED = re.compile(r"[+*/^√π×·÷]|\\(?:sqrt|pi|cdot|times|div|[dt]?frac)|\d\s+[-−]\s+\d")
_QUOTES = {ord("’"): "'", ord("‘"): "'", ord("“"): '"', ord("”"): '"', ord("„"): '"', ord("«"): '"', ord("»"): '"'}
_TRIMMED = " \t\n\"'`*_.,;:!?$()[]"


class SpecError(ValueError):
    """A spec that cannot be read; a sentence."""


@dataclass(frozen=True)
class Verdict:
    """What a check says.

    Attributes:
        ok: right or wrong; None where it cannot tell.
        said: why not.
    """

    ok: bool | None
    said: str = ""


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be off: by `absolute`, or by `relative` times the right one."""

    absolute: float = 0.0
    relative: float = 1e-6


def marked(text: str) -> str | None:
    """What stands in the last box, else after the last mark; None where there is neither."""
    boxes = list(_BOXED.finditer(text))
    if boxes:
        return _closed(text, boxes[-1].end())
    marks = [mark[1].strip() for mark in _MARKED.finditer(text)]
    marks = [mark for mark in marks if mark.strip("*_ ")]
    return marks[-1] if marks else None


def _closed(text: str, start: int) -> str:
    depth = 1
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[start:place]
    return text[start:]


def normal(text: str, *, case: bool = False) -> str:
    """A text as `exact` compares it: one kind of quotes and spaces, nothing around it; lower case unless told."""
    text = _RAISED.sub(lambda found: f"^{found[0]}", text)  # x² is x^2, and not the x2 that NFKC makes of it
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES).translate(_UNSEEN)
    text = " ".join(text.split())
    text = text.strip(_TRIMMED) or text  # "?" is not "!"
    return text if case else text.casefold()


def exact(text: str, answers: Sequence[str], *, case: bool = False) -> Verdict:
    """Whether the response, or the answer marked in it, is one of these texts, after `normal`."""
    wanted = {normal(answer, case=case) for answer in answers}
    found = marked(text)
    said = [text] if found is None else [found, _AS_TEXT.sub(r"\1", found), text]
    if any(normal(one, case=case) in wanted for one in said):
        return Verdict(True)
    if not text.strip():
        return Verdict(False, "it is empty")
    return Verdict(False, f"it says {said[0].strip()[:80]!r}")


def numbers(text: str) -> list[tuple[Fraction, bool]]:
    """The numbers in a text, in order, and whether each is written as a percentage (50% is 50, marked)."""
    text = _GROUPED.sub(",", text).replace("\\pm", "±")
    text = _FRACTION.sub(lambda found: _apart(found, f"{found[2] or found[4]}/{found[3] or found[5]}"), text)
    text = _ONE_SIGN.sub(lambda found: _apart(found, unicodedata.normalize("NFKC", found[0]).replace("⁄", "/")), text)
    found = []
    for match in _NUMBER.finditer(text):
        value = _number(match)
        if value is not None:
            found.append((value, match["percent"] is not None))
    return found


def _apart(found: re.Match[str], fraction: str) -> str:
    """A fraction with a space to what is before it, save a sign; `2½` is read as `2 1/2`."""
    before = found.string[found.start() - 1 : found.start()] if found.start() else ""
    whole = f"{found[1]} " if found.re is _FRACTION and found[1] else ""
    return f"{'' if before in tuple('-+−–') else ' '}{whole}{fraction} "


def _number(match: re.Match[str]) -> Fraction | None:
    try:
        if match["top"]:
            value = int(match["whole"]) + Fraction(int(match["top"]), int(match["below"]))
        elif match["over"]:
            value = Fraction(int(match["over"]), int(match["under"]))
        else:
            value = Fraction(_decimal(match["digits"]))
        if match["power"]:
            power = int(match["power"].replace("−", "-"))
            if abs(power) > 400:
                return None
            value *= Fraction(10) ** power
    except (ValueError, ZeroDivisionError):
        return None
    return -value if (match["sign"] or match["sign2"]) in ("-", "−", "–") else value


def _decimal(digits: str) -> str:
    digits = re.sub(r"[ \u00a0\u2009\u202f]", "", digits)
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", digits):
        return digits.replace(",", "")
    return digits.replace(",", ".")


def number_of(value: object) -> Fraction:
    """The number that a spec gives.

    Raises:
        SpecError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise SpecError(f"the answer {value!r} is no number")
    if isinstance(value, str):
        found = numbers(value)
        if len(found) != 1:
            raise SpecError(f"the answer {value[:80]!r} is not one number")
        return found[0][0] / (100 if found[0][1] else 1)
    try:
        return Fraction(str(value))
    except ValueError as error:
        raise SpecError(f"the answer {value!r} is no number") from error


def numeric(text: str, answers: Sequence[Fraction], tolerance: Tolerance) -> Verdict:
    """Whether the marked number, else the last one, is one of these. 50% is taken for 50 and for 0.5.

    A calculation that is marked, or all there is (`2^{10}`, `3 + 4`, `2\\sqrt{3}`), is worked out.
    """
    place = marked(text)
    found = numbers(_result(place)) if place is not None else []
    if (result := _calculated(text if place is None else place)) is not None:
        value, percent = result, False
    elif found:
        value, percent = found[0]
    elif found := numbers(text):
        value, percent = found[-1]
    else:
        return Verdict(False, "it holds no number")
    said = [value, value / 100] if percent else [value]
    if any(_near(one, answer, tolerance) for one in said for answer in answers):
        return Verdict(True)
    return Verdict(False, f"it says {_shown(value)}{'%' if percent else ''}")


def _result(place: str) -> str:
    """What is behind the equals sign of a calculation: `3 * 4 = 12`."""
    before, _, result = place.rpartition("=")
    return result if _ARITHMETIC.fullmatch(before) and result.strip() else place


def _calculated(place: str) -> Fraction | None:
    """The value of a calculation, after its last equals sign; None where it is none."""
    said = place.strip(" *_$").rpartition("=")[2]
    if "%" in said or not _CALCULATED.search(said):
        return None
    try:
        return number(said)
    except ExpressionError:
        return None


def _near(value: Fraction, answer: Fraction, tolerance: Tolerance) -> bool:
    return abs(value - answer) <= max(Fraction(tolerance.absolute), abs(answer) * Fraction(tolerance.relative))


def _shown(value: Fraction) -> str:
    if value.denominator == 1 and abs(value) < 10**20:
        return str(value.numerator)
    try:
        return f"{float(value):.8g}"
    except OverflowError:
        return "a huge number"


def symbolic(text: str, answers: Sequence[str]) -> Verdict:
    """Whether the marked expression, else the last formula, else the last line, equals one of these.

    An answer that is marked and cannot be read is not called wrong.
    """
    for answer in answers:
        try:
            read(answer)
        except ExpressionError as error:
            raise SpecError(f"the answer {answer[:80]!r} cannot be read: {error}") from error
    place = marked(text)
    said = place if place is not None else _last_formula(text)
    if not said.strip():
        return Verdict(False, "it is empty")
    if any(normal(said) == normal(answer) for answer in answers):
        return Verdict(True)
    unread = ""
    for answer in answers:
        for one in _readings(said, answer):
            try:
                if equal(one, answer):
                    return Verdict(True)
            except ExpressionError as error:
                unread = str(error)
    if unread and place is not None:
        return Verdict(None, f"its answer {said.strip()[:80]!r} cannot be read: {unread}")
    return Verdict(False, f"it says {said.strip()[:80]!r}")


def _readings(said: str, answer: str) -> list[str]:
    """What an answer may mean: all of it, what is behind its last equals sign, and of 50% also 0.5."""
    found = list(dict.fromkeys((said, said.rpartition("=")[2])))
    if "%" in said and "%" not in answer:
        found += [f"({one.replace(chr(92) + '%', '').replace('%', '')})/100" for one in found]
    return found


def _last_formula(text: str) -> str:
    formulas = re.findall(r"\$\$?([^$]{1,1000})\$\$?|\\\[(.{1,1000}?)\\\]|\\\((.{1,1000}?)\\\)", text, re.DOTALL)
    if formulas:
        return "".join(formulas[-1])
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def json_in(text: str) -> tuple[bool, Any]:
    """The JSON of a response: all of it, or its last fenced block, or from its first bracket to the last one."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = [text, *reversed(blocks)]
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if starts:
        first = min(starts)
        spans.append(text[first : text.rfind("}" if text[first] == "{" else "]") + 1])
    for span in spans:
        try:
            return True, json.loads(span)
        except (ValueError, RecursionError):
            continue
    return False, None


def json_equal(text: str, answer: object) -> Verdict:
    """Whether the response's JSON is this value; 1 and 1.0 are equal, 1 and true are not."""
    found, value = json_in(text)
    if not found:
        return Verdict(False, "it holds no JSON")
    return Verdict(True) if _alike(value, answer) else Verdict(False, f"it holds {json.dumps(value)[:80]}")


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)
