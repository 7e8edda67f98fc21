"""The two sides of a difference: faithful, escaped, bounded."""

from __future__ import annotations

import html
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.ui.rendering import difference as difference_module
from prefdata.ui.rendering.difference import difference
from prefdata.ui.rendering.markup import escape

TAG = re.compile(r"</?(?:del|ins)>")
WORDS = st.lists(
    st.sampled_from(["a", "the", " ", "\n", "<b>", "&", "é", "中", "\x00", "\u202e", ".", "cat"]), max_size=40
)
TEXT = WORDS.map("".join) | st.text(max_size=60)


@given(TEXT, TEXT)
@settings(deadline=None)
def test_without_marks_they_are_the_texts(a: str, b: str) -> None:
    left, right = difference(a, b)
    # a control stands in an element of its own, marks or no marks
    assert TAG.sub("", left) == escape(a)
    assert TAG.sub("", right) == escape(b)
    assert "<ins>" not in left
    assert "<del>" not in right
    assert set(re.findall(r"<[^>]*>", left)) <= {"<del>", "</del>", "</bdi>", *re.findall(r"<bdi [^>]*>", escape(a))}


@given(TEXT)
def test_equal_texts_have_no_marks(text: str) -> None:
    assert difference(text, text) == (escape(text), escape(text))


@given(TEXT, TEXT)
@settings(deadline=None)
def test_what_is_unmarked_is_common(a: str, b: str) -> None:
    left, right = difference(a, b)
    assert re.sub(r"<del>.*?</del>", "", left, flags=re.DOTALL) == re.sub(r"<ins>.*?</ins>", "", right, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("a", "b", "left", "right"),
    [
        ("the cat sat", "the dog sat", "the <del>cat</del> sat", "the <ins>dog</ins> sat"),
        ("a b", "a b c", "a b", "a b<ins> c</ins>"),
        ("a  b c", "a b c", "a<del>  </del>b c", "a<ins> </ins>b c"),
        ("  a", "a", "<del>  </del>a", "a"),
        ("x", "", "<del>x</del>", ""),
        ("f(x)", "f(y)", "f(<del>x</del>)", "f(<ins>y</ins>)"),
        ("<b>", "<i>", "&lt;<del>b</del>&gt;", "&lt;<ins>i</ins>&gt;"),
        ("我爱猫", "我爱狗", "我爱<del>猫</del>", "我爱<ins>狗</ins>"),
        (
            "one two three four",
            "one 2 three 4",
            "one <del>two</del> three <del>four</del>",
            "one <ins>2</ins> three <ins>4</ins>",
        ),
    ],
)
def test_words(a: str, b: str, left: str, right: str) -> None:
    assert difference(a, b) == (left, right)


def test_scattered_edits_of_a_long_text_are_found() -> None:
    """Words as common as in English (Zipf), each tenth replaced: no more than those are marked."""
    many = range(1, 1_001)
    words = random.Random(1).choices([f"w{rank}" for rank in many], [1 / rank for rank in many], k=1_000)
    edited = [f"new{place}" if place % 10 == 5 else word for place, word in enumerate(words)]
    left, right = difference(" ".join(words), " ".join(edited))
    assert right.count("<ins>") == left.count("<del>") == 100
    assert re.findall(r"<ins>(\w+)</ins>", right) == [word for word in edited if word.startswith("new")]


def test_marks_cannot_be_forged() -> None:
    left, right = difference("<ins>a</ins><script>", "<del>b</del>")
    assert "<script" not in left + right
    assert html.unescape(TAG.sub("", left)) == "<ins>a</ins><script>"


def test_beyond_the_bound_the_rest_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = "start " + "a b " * 50 + "end", "start " + "b a " * 50 + "end"
    monkeypatch.setattr(difference_module, "MAX_STEPS", 10)
    left, right = difference(a, b)
    assert left.startswith("start <del>")
    assert left.endswith("</del> end")
    assert left.count("<del>") == right.count("<ins>") == 1
    assert TAG.sub("", left) == a


def test_long_repetitive_texts_end() -> None:
    a, b = "a b " * 4_000, "b a " * 4_000
    left, right = difference(a, b)
    assert TAG.sub("", left) == a
    assert TAG.sub("", right) == b
