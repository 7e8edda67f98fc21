"""Constraints on the form of a response, each kept and broken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.annotators import constraints
from prefdata.annotators.answers import SpecError

LIST = "- one\n- two\n* three"
CASES: list[tuple[str, object, str, str]] = [
    ("words", 3, "one two three", "one two"),
    ("words", {"min": 2, "max": 3}, "it's two", "one"),
    ("min_words", 2, "one two", "one"),
    ("max_words", 2, "one two", "one two three"),
    ("characters", {"max": 3}, " abc ", "abcd"),
    ("sentences", 2, "One. Two!", "One."),
    ("sentences", 1, "Dr. Who came at 3.15 p.m", "Who? He."),
    ("sentences", 2, "はい。いいえ。", "はい。"),
    ("paragraphs", 2, "One.\n\n\nTwo.", "One.\nTwo."),
    ("lines", 2, "One\n\ntwo", "one"),
    ("bullets", 3, LIST, "- one\n-two"),
    ("min_bullets", 3, LIST, "1. one\n2. two\n3. three"),
    ("numbered", 2, "1. one\n2) two", "1.5 is a number\n2. two"),
    ("headings", 1, "# One\ntext", "#One\ntext"),
    ("placeholders", {"min": 1}, "Dear [name],", "Dear [],"),
    ("capital_words", {"max": 1}, "It is NOT so", "It IS NOT so"),
    ("questions", 1, "Who?", "Who? What?"),
    ("commas", {"max": 1}, "a, b", "a, b, c"),
    ("no_commas", True, "a b", "a, b"),
    ("lowercase", True, "all small é", "Not all"),
    ("uppercase", True, "ALL 3", "Not"),
    ("json", True, '{"a": 1}', "not json"),
    ("quoted", True, '"so"', "so"),
    ("title", True, "<<Tea>>\nText", "<Tea>"),
    ("code", True, "```\na\n```", "a"),
    ("starts_with", "Dear", "Dear you", "To you"),
    ("ends_with", "Yours.", "So, yours.\nYours. ", "Yours"),
    ("first_word", "tea", "Tea, please", "The tea"),
    ("last_word", "tea", "I want tea!", "tea it is"),
    ("contains", "tea", "Hot TEA.", "steam"),
    ("contains", ["tea", "milk"], "tea, milk", "tea"),
    ("contains", "お茶", "熱いお茶です", "水"),
    ("excludes", ["tea"], "steam", "a tea"),
    ("one_of", ["yes", "no"], "yes", "perhaps"),
    ("keywords", {"tea": 2}, "Tea and tea", "tea and teas"),
    ("keywords", {"tea": {"min": 1}, "milk": 0}, "tea", "tea with milk"),
    ("letters", {"e": {"min": 2}}, "been", "bat"),
    (
        "language",
        "de",
        "Das ist nicht der Weg, und ich bin es auch nicht.",
        "This is not the way, and it is not for you.",
    ),
    ("language", "russian", "Это не дорога домой", "This is not the way home"),
    ("language", "ja", "これは日本語の文章です", "这是一个中文句子没有假名"),
]


@pytest.mark.parametrize(("key", "wanted", "kept", "broken"), CASES)
def test_kept_and_broken(key: str, wanted: object, kept: str, broken: str) -> None:
    assert constraints.check(kept, key, wanted).ok is True
    found = constraints.check(broken, key, wanted)
    assert found.ok is False
    assert found.said


def test_a_text_too_short_to_tell_its_language_says_nothing() -> None:
    assert constraints.check("Ok", "language", "en").ok is None


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("wordz", 3),
        ("words", "three"),
        ("words", True),
        ("words", -1),
        ("words", {"min": 3, "max": 2}),
        ("words", {"least": 3}),
        ("words", {}),
        ("lowercase", "yes"),
        ("starts_with", ""),
        ("contains", []),
        ("contains", [3]),
        ("keywords", ["tea"]),
        ("keywords", {}),
        ("letters", {"ab": 1}),
        ("language", "klingon"),
        ("one_of", None),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(key: str, wanted: object) -> None:
    with pytest.raises(SpecError):
        constraints.check("text", key, wanted)


@given(st.text(max_size=200), st.integers(0, 20))
def test_exactly_is_at_least_and_at_most(text: str, count: int) -> None:
    for key in constraints._COUNTED:
        exactly = constraints.check(text, key, count).ok
        least = constraints.check(text, f"min_{key}", count).ok
        most = constraints.check(text, f"max_{key}", count).ok
        assert exactly is (least and most)


@pytest.mark.parametrize("text", [". " * 50_000, "." * 100_000 + "a", "." + ")" * 100_000 + "a", "[" * 100_000])
def test_work_is_bounded(text: str) -> None:
    for key in constraints._COUNTED:
        constraints.check(text, key, 1)
    for key in ("json", "title", "lowercase"):
        constraints.check(text, key, True)
    constraints.check("\n" * 100_000 + " " * 100_000 + "x", "paragraphs", 1)
