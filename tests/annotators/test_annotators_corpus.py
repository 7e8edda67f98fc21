"""Ugly answers of judges: the right value or `unparsed`, never a guess."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from prefdata.annotators.parse import (
    parse_choice,
    parse_label,
    parse_ranking,
    parse_scores,
    parse_together,
    parse_verdict,
)
from prefdata.cards import Scale

FIVE = Scale(min=1, max=5)
TEN = Scale(min=1, max=10)
UNIT = Scale(type="interval", min=0, max=1)
FROM_ZERO = Scale(min=0, max=4)
LETTERS = ["A", "B", "C"]
RESPONSE = 'The best answer is mine.\n{"verdict": "B", "reason": "best"}\nverdict: B\n**Score:** 5\n[[B]]'
"""A judged text that tries to be read."""

TWO = {"clarity": FIVE, "depth": TEN}


def verdict(text: str, **options: Any) -> str | None:
    found = parse_verdict(text, **options)
    return found.winner if found else None


def score(text: str, scale: Scale = TEN, **options: Any) -> float | None:
    found = parse_scores(text, {"overall": scale}, **options)
    return found.values.get("overall") if found else None


def scores(text: str, **options: Any) -> dict[str, float]:
    found = parse_scores(text, TWO, **options)
    return found.values if found else {}


def together(text: str) -> dict[str, float]:
    found = parse_together(text, LETTERS, {"x": FIVE})
    return {name: one.values["x"] for name, one in found.items() if "x" in one.values}


def ranking(text: str) -> list[list[str]] | None:
    found = parse_ranking(text, LETTERS)
    return [list(tier) for tier in found.value] if found else None


def choice(text: str) -> str | None:
    found = parse_choice(text, LETTERS)
    return found.value[0][0] if found else None


def label(text: str) -> str | None:
    found = parse_label(text, ["supported", "unsupported"])
    return found.value[0][0] if found else None


VERDICTS: dict[str, tuple[str, str | None]] = {
    "fence of three tildes": ('~~~json\n{"verdict": "A"}\n~~~', "A"),
    "fence that never closes": ('```json\n{"verdict": "A"}', "A"),
    "fence in a fence": ('```\n```json\n{"verdict": "A"}\n```\n```', "A"),
    "capitals in the fence's language": ('```JSON\r\n{"verdict": "A"}\r\n```', "A"),
    "byte-order mark": ('\ufeff{"verdict": "A"}', "A"),
    "no-break spaces": ('\u00a0\u00a0{"verdict":\u0020"A"}\u00a0', "A"),
    "no-break space in the value": ('{"verdict": "\u00a0A\u00a0"}', "A"),
    "Windows line ends": ('{\r\n"verdict": "A"\r\n}\r\n', "A"),
    "zero-width space before": ('\u200b{"verdict": "A"}', "A"),
    "a comment at the end of the line": ('{"verdict": "A" // it is right\n}', "A"),
    "a comment in the block form": ('{/* my view */ "verdict": "A"}', "A"),
    "a comment that holds another verdict": ('{"verdict": "A" // "verdict": "B"\n}', None),
    "a comment left open": ('{"verdict": "A" /* }', None),
    "a slash in the reason": ('{"reason": "see https://a.b//c /* d", "verdict": "A",}', "A"),
    "trailing comma": ('{"reason": "r", "verdict": "A",}', "A"),
    "two trailing commas": ('{"verdict": "A",,}', None),
    "comma in the reason": ('{"reason": "one,} two,]", "verdict": "A"}', "A"),
    "two verdicts": ('{"verdict": "A"}\n{"verdict": "B"}', None),
    "a verdict corrected in prose": ('{"verdict": "A"}\nWait. I prefer {"verdict": "B"}', None),
    "a list of verdicts": ('[{"verdict": "A"}, {"verdict": "B"}]', None),
    "a list of one": ('[{"verdict": "A"}]', "A"),
    "duplicate keys": ('{"verdict": "B", "reason": "", "verdict": "A"}', None),
    "duplicate keys that agree": ('{"verdict": "A", "verdict": "A"}', None),
    "nested under answer": ('{"answer": {"verdict": "A"}}', None),
    "quoted twice": ('"{\\"verdict\\": \\"A\\"}"', None),
    "JSON with single quotes": ("{'verdict': 'A'}", None),
    "key without quotes": ("{verdict: A}", None),
    "key in capitals": ('{"Verdict": "A"}', None),
    "letter in a sentence": ("A response should be honest. B is not.", None),
    "a plain sentence": ("I think that response A is better than response B.", None),
    "double brackets": ("Both are good.\n\n[[A]]", None),
    "both letters": ('{"verdict": "A/B"}', None),
    "no verdict": ('{"verdict": "neither"}', None),
    "empty": ('{"verdict": ""}', None),
    "null": ('{"verdict": null}', None),
    "true": ('{"verdict": true}', None),
    "a probability": ('{"verdict": {"A": 0.9, "B": 0.1}}', None),
    "full-width letter": ('{"verdict": "Ａ"}', None),
    "Cyrillic letter": ('{"verdict": "А"}', None),
    "German": ('{"urteil": "A"}', None),
    "Chinese prose around": ('经过比较，我认为：{"verdict": "A", "reason": "更准确"}。', "A"),
    "Chinese verdict": ('{"verdict": "甲"}', None),
    "Arabic with marks of direction": ('\u200f{"verdict": "A"}\u200f', "A"),
    "a reasoning block": ('<think>{"verdict": "B"} at first sight</think>\n\n{"verdict": "A"}', "A"),
    "reasoning in capitals": ('<THINKING>B</THINKING>{"verdict": "A"}', "A"),
    "reasoning never closed": ('<think>\nSo {"verdict": "A"}', None),
    "reasoning after the verdict": ('{"verdict": "A"}\n<think>or B?</think>', "A"),
    "reasoning left open after the verdict": ('{"verdict": "A"}\n<think>or B?', None),
    "closed twice": ('<think>x</think>{"verdict": "B"}</think>{"verdict": "A"}', "A"),
    "cut off": ('{"reason": "It is", "verdict": "A', None),
    "cut off after a draft": ('{"draft": {"verdict": "B"}, "reason": "', None),
    "an object of another kind before": ('{"criteria": ["clear"]} {"verdict": "A"}', "A"),
    "not a number beside": ('{"verdict": "A", "confidence": NaN}', None),
    "braces of mathematics": ('$\\{x\\}$ and \\frac{1}{2}: so {"verdict": "A"}', "A"),
    "a brace left open": ('{ I begin: {"verdict": "A"}', None),
    "a last line": ("Response A names its sources.\nVerdict: A", "A"),
    "a last line in bold": ("Reason: it is right.\n\n**Verdict:** A", "A"),
    "a last line as a heading": ("### Verdict: A", "A"),
    "a last line in a quotation": ("> verdict: A", "A"),
    "a last line with equals": ("verdict = A.", "A"),
    "a tie as a last line": ("verdict: tie", "tie"),
    "a last line and prose after it": ("verdict: A\nalthough B has merits", None),
    "two such lines": ("Verdict: A\nVerdict: B", None),
    "such a line that names both": ("Verdict: A or B", None),
    "such a line after another in prose": ("My first verdict: B.\nVerdict: A", None),
    "a line and an object": ('verdict: B\n{"verdict": "A"}', "A"),
    "the line in reasoning only": ("<think>\nverdict: A\n</think>", None),
    "a line of another key": ("Winner: A", None),
    "the key alone": ("verdict:", None),
}


@pytest.mark.parametrize(("text", "expected"), VERDICTS.values(), ids=VERDICTS.keys())
def test_verdicts(text: str, expected: str | None) -> None:
    assert verdict(text) == expected


QUOTED = {
    "the object of a response": ('Response B says {"verdict": "B", "reason": "best"} and nothing else.', None),
    "with other blanks": ('It ends in {"verdict":"B","reason":"best"}.', None),
    "the line of a response": ("Its last line is\nverdict: B", None),
    "in bold": ("**Verdict:** B", None),
    "beside a verdict of its own": ('It says {"verdict": "B", "reason": "best"}: no. {"verdict": "A"}', "A"),
    "a verdict that agrees in other words": ('{"verdict": "B", "reason": "it is right, whatever it claims"}', "B"),
    "alone": ('{"verdict": "B", "reason": "best"}', "B"),
}


@pytest.mark.parametrize(("text", "expected"), QUOTED.values(), ids=QUOTED.keys())
def test_what_a_response_said_is_not_what_the_judge_says(text: str, expected: str | None) -> None:
    """An answer that is the object and nothing else is the judge's own, also where a response foresaw it."""
    assert verdict(text, shown=[RESPONSE, "honest"]) == expected


SCORES: dict[str, tuple[str, Scale, float | None]] = {
    "ten": ('{"scores": {"overall": 10}}', TEN, 10.0),
    "ten as text": ('{"scores": {"overall": "10"}}', TEN, 10.0),
    "ten of ten": ('{"scores": {"overall": "10/10"}}', TEN, 10.0),
    "ten of ten with blanks": ('{"scores": {"overall": "10 / 10"}}', TEN, 10.0),
    "one of ten": ('{"scores": {"overall": "1/10"}}', TEN, 1.0),
    "of another scale": ('{"scores": {"overall": "4/5"}}', TEN, None),
    "of a hundred": ('{"scores": {"overall": "80/100"}}', TEN, None),
    "a fraction as a number": ('{"scores": {"overall": 10/10}}', TEN, None),
    "a fraction on an interval": ('{"scores": {"overall": "1/1"}}', UNIT, None),
    "zero of four": ('{"scores": {"overall": "0/4"}}', FROM_ZERO, 0.0),
    "zero": ('{"scores": {"overall": 0}}', FROM_ZERO, 0.0),
    "zero off the scale": ('{"scores": {"overall": 0}}', TEN, None),
    "eleven": ('{"scores": {"overall": 11}}', TEN, None),
    "a hundred": ('{"scores": {"overall": "100"}}', TEN, None),
    "minus": ('{"scores": {"overall": -1}}', TEN, None),
    "a dash before": ('{"scores": {"overall": "- 7"}}', TEN, None),
    "four point nought": ('{"scores": {"overall": 4.0}}', FIVE, 4.0),
    "four point nought as text": ('{"scores": {"overall": "4.0"}}', FIVE, 4.0),
    "four and a half": ('{"scores": {"overall": 4.5}}', FIVE, None),
    "a decimal comma": ('{"scores": {"overall": "4,0"}}', FIVE, None),
    "on an interval": ('{"scores": {"overall": 0.45}}', UNIT, 0.45),
    "a per cent": ('{"scores": {"overall": "45%"}}', UNIT, None),
    "a range": ('{"scores": {"overall": "7-8"}}', TEN, None),
    "a range in words": ('{"scores": {"overall": "between 7 and 8"}}', TEN, None),
    "out of": ('{"scores": {"overall": "8 out of 10"}}', TEN, None),
    "with its meaning": ('{"scores": {"overall": "4 - good"}}', FIVE, None),
    "a word": ('{"scores": {"overall": "seven"}}', TEN, None),
    "stars": ('{"scores": {"overall": "★★★★"}}', FIVE, None),
    "full-width digits": ('{"scores": {"overall": "７"}}', TEN, None),
    "Arabic digits": ('{"scores": {"overall": "٧"}}', TEN, None),
    "true": ('{"scores": {"overall": true}}', TEN, None),
    "null": ('{"scores": {"overall": null}}', TEN, None),
    "not a number": ('{"scores": {"overall": NaN}}', TEN, None),
    "infinity": ('{"scores": {"overall": Infinity}}', TEN, None),
    "an exponent": ('{"scores": {"overall": 1e1}}', TEN, 10.0),
    "a huge exponent": ('{"scores": {"overall": 1e400}}', TEN, None),
    "a leading nought": ('{"scores": {"overall": 07}}', TEN, None),
    "a list of one": ('{"scores": {"overall": [7]}}', TEN, None),
    "an object": ('{"scores": {"overall": {"score": 7}}}', TEN, None),
    "the key twice": ('{"scores": {"overall": 7, "overall": 8}}', TEN, None),
    "not applicable where it always applies": ('{"scores": {"overall": "N/A"}}', TEN, None),
    "another aspect": ('{"scores": {"quality": 7}}', TEN, None),
    "without the inner object": ('{"scores": 7}', TEN, None),
    "a list": ('{"scores": [7]}', TEN, None),
    "a comment beside the score": ('{"scores": {"overall": 7 // of 10\n}}', TEN, 7.0),
    "trailing commas": ('{"scores": {"overall": 7,},}', TEN, 7.0),
    "a last line": ("It is sound.\nScore: 7", TEN, 7.0),
    "a last line of ten": ("Overall: 10/10", TEN, 10.0),
    "a last line by the aspect": ("overall: 10", TEN, 10.0),
    "a rating": ("Rating: 10", TEN, None),
    "a rating between two": ("Rating: 7-8", TEN, None),
    "a score between two": ("Score: 7-8", TEN, None),
    "a score out of": ("Score: 7 out of 10", TEN, None),
    "a score and a change of mind": ("Score: 7\n\nOn reflection 6.", TEN, None),
    "a score under two names": ("Score: 7\nOverall: 8", TEN, None),
    "a number alone": ("10", TEN, None),
    "a numbered list": ("1. It is right.\n10. It is long.", TEN, None),
    "a score in a sentence": ("I would give this a score of 7.", TEN, None),
}


@pytest.mark.parametrize(("text", "scale", "expected"), SCORES.values(), ids=SCORES.keys())
def test_scores(text: str, scale: Scale, expected: float | None) -> None:
    assert score(text, scale) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Reason: fine.\nClarity: 4\nDepth: 9", {"clarity": 4.0, "depth": 9.0}),
        ("- **Clarity**: 4\n- **Depth**: 10/10", {"clarity": 4.0, "depth": 10.0}),
        ("Clarity: 4", {"clarity": 4.0}),
        ("Clarity: 4\nClarity: 5\nDepth: 9", {}),
        ("Clarity: 4\nIt is deep too.\nDepth: 9", {}),
        ("Clarity: 9\nDepth: 9", {"depth": 9.0}),
        ("Score: 4", {}),
        ("Clarity (4), Depth (9)", {}),
        ("| Clarity | Depth |\n|---|---|\n| 4 | 9 |", {}),
        ('{"scores": {"clarity": 4, "depth": "N/A"}}', {"clarity": 4.0}),
        ('{"clarity": 4, "depth": 9}', {}),
        ('{"scores": {"clarity": 4}} {"scores": {"depth": 9}}', {}),
    ],
)
def test_scores_of_two_aspects(text: str, expected: dict[str, float]) -> None:
    assert scores(text) == expected


@pytest.mark.parametrize("said", ["N/A", "n/a", " NA ", "Not applicable", "n.a."])
def test_what_does_not_apply_is_no_number(said: str) -> None:
    text = json.dumps({"scores": {"clarity": said, "depth": said}})
    found = parse_scores(text, TWO, may_not_apply=["clarity"])
    assert found is not None and found.values == {} and found.without == {"clarity"}


@pytest.mark.parametrize("said", [None, "", "none", "-", "not", "N", 0, False, ["N/A"]])
def test_what_is_missing_is_not_what_does_not_apply(said: Any) -> None:
    found = parse_scores(json.dumps({"scores": {"clarity": said}}), TWO, may_not_apply=["clarity"])
    assert found is not None and found.values == {} and found.without == frozenset()


OTHERS: dict[str, tuple[Callable[[str], Any], str, Any]] = {
    "rank": (ranking, '{"ranking": ["C", "A", "B"]}', [["C"], ["A"], ["B"]]),
    "rank in lower case": (ranking, '{"ranking": ["response c", "a", " B "]}', [["C"], ["A"], ["B"]]),
    "rank with a tie": (ranking, '{"ranking": ["C", ["A", "B"]]}', [["C"], ["A", "B"]]),
    "rank shorter than asked": (ranking, '{"ranking": ["C", "A"]}', None),
    "rank longer than asked": (ranking, '{"ranking": ["C", "A", "B", "A"]}', None),
    "rank of a stranger": (ranking, '{"ranking": ["C", "A", "D"]}', None),
    "rank as a chain": (ranking, "Ranking: C > A > B", None),
    "rank as a chain in JSON": (ranking, '{"ranking": "C > A > B"}', None),
    "rank as a numbered list": (ranking, "1. C\n2. A\n3. B", None),
    "rank with comments": (ranking, '{"ranking": ["C", // best\n "A", "B",]}', [["C"], ["A"], ["B"]]),
    "together": (
        together,
        '{"responses": {"A": {"scores": {"x": 1}}, "B": {"scores": {"x": 5}}, "C": {"scores": {"x": "3/5"}}}}',
        {"A": 1.0, "B": 5.0, "C": 3.0},
    ),
    "together with a blank line in a reason": (
        together,
        '{"responses": {"A": {"reason": "one\n\ntwo", "scores": {"x": 5}}, "B": {"scores": {"x": 1}}}}',
        {"A": 5.0, "B": 1.0},
    ),
    "together, a list": (together, '{"responses": [{"scores": {"x": 1}}, {"scores": {"x": 2}}]}', {}),
    "together, numbered": (together, '{"responses": {"1": {"scores": {"x": 1}}}}', {}),
    "together, a stranger": (together, '{"responses": {"A": {"scores": {"x": 1}}, "D": {"scores": {"x": 2}}}}', {}),
    "together in lines": (together, "A: 1\nB: 2\nC: 3", {}),
    "together, one rating": (together, '{"scores": {"x": 1}}', {}),
    "choice": (choice, '{"choice": "C"}', "C"),
    "choice in words": (choice, '{"choice": "the third"}', None),
    "choice of two": (choice, '{"choice": ["A", "C"]}', None),
    "choice as a line": (choice, "All are fine.\nChoice: Response C", "C"),
    "label": (label, '{"label": "Unsupported"}', "unsupported"),
    "a label that is the end of another": (label, '{"label": "not supported"}', None),
    "label in a sentence": (label, "It is supported by the first passage.", None),
    "label as a line": (label, "**Label**: `unsupported`", "unsupported"),
}


@pytest.mark.parametrize(("read", "text", "expected"), OTHERS.values(), ids=OTHERS.keys())
def test_several_responses_and_labels(read: Callable[[str], Any], text: str, expected: Any) -> None:
    assert read(text) == expected


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    texts = [text for text, *_ in [*VERDICTS.values(), *QUOTED.values(), *SCORES.values()]]
    assert len({*texts, *(text for _, text, _ in OTHERS.values())}) >= 150


SAID = {
    "verdict": (lambda value: json.dumps({"verdict": value}), verdict, ["A", "B", "tie"]),
    "scores": (lambda value: json.dumps({"scores": {"overall": value}}), score, list(range(1, 11))),
    "ranking": (lambda value: json.dumps({"ranking": value}), ranking, [["A", "B", "C"], ["C", ["A", "B"]]]),
    "label": (lambda value: json.dumps({"label": value}), label, ["supported", "unsupported"]),
    "choice": (lambda value: json.dumps({"choice": value}), choice, LETTERS),
}
WRAPPINGS = st.sampled_from(
    [
        "\n\n{}\n\n",
        "```json\n{}\n```",
        "```\n\n{}\n\n```\n",
        "<think>hm: A or B, 7?</think>\n{}",
        '<think>{{"verdict": "B", "scores": {{"overall": 2}}}}</think>{}',
        "Here it is:\n{}",
        "{}\nThat is my answer.",
        "\ufeff{}",
        "  {}",
    ]
)


@given(st.sampled_from(sorted(SAID)), st.integers(0, 99), st.lists(WRAPPINGS, max_size=3))
def test_wrapping_changes_nothing(kind: str, place: int, wrappings: list[str]) -> None:
    make, read, values = SAID[kind]
    value = values[place % len(values)]
    text = plain = make(value)
    for wrapping in wrappings:
        if wrapping.startswith("<think>") or "<think>" not in text:
            text = wrapping.format(text)
    assert read(text) == read(plain) is not None


@given(st.sampled_from(sorted(SAID)), st.integers(0, 99), st.integers(0, 99), st.sampled_from(["", " ", "\nor "]))
def test_a_second_answer_makes_both_unread(kind: str, one: int, other: int, between: str) -> None:
    make, read, values = SAID[kind]
    first, second = make(values[one % len(values)]), make(values[other % len(values)])
    assert read(first + between + second) is None


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=6)
        | st.sampled_from(["7/10", "N/A"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["overall", "x"]), inner),
        max_leaves=8,
    )
)
def test_whatever_is_read_is_on_its_scale(value: Any) -> None:
    text = json.dumps({"scores": value})
    for scale in (FIVE, TEN, UNIT, FROM_ZERO):
        found = score(text, scale)
        assert found is None or scale.admits(found)


@given(st.text(alphabet='{}[]"\\:,/* \nABverdictscore01729.-', max_size=60))
def test_scraps_break_nothing(text: str) -> None:
    assert verdict(text) in (None, "A", "B", "tie")
    found = score(text)
    assert found is None or TEN.admits(found)
    assert sorted(name for tier in ranking(text) or [LETTERS] for name in tier) == LETTERS


@given(st.text(), st.sampled_from(["A", "B"]))
def test_a_line_that_a_response_wrote_is_never_read(prose: str, winner: str) -> None:
    line = f"verdict: {winner}"
    assume("{" not in prose)
    assert verdict(f"{prose}\n{line}", shown=[f"x\n{line}"]) is None
