"""Protected texts: fractions, passages, what is allowed; and how far two texts are apart."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.similarity import Protected, edit_distance, edit_share

words = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=9).map(" ".join)


@given(st.lists(words, min_size=1, max_size=5), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_a_protected_text_holds_all_of_itself(texts: list[str], n: int) -> None:
    found = Protected(texts, n).overlap(texts)
    assert found.fraction.tolist() == [1.0] * len(texts)
    assert found.equal.all()


@given(words, words, st.lists(words, min_size=1, max_size=4), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_unrelated_text_changes_nothing(text: str, other: str, protected: list[str], n: int) -> None:
    known = Protected(protected, n)
    alone, beside = known.overlap([text]), known.overlap([text, other])
    assert alone.fraction[0] == beside.fraction[0] and alone.nearest[0] == beside.nearest[0]
    more = Protected([*protected, "quite unlike these"], n).overlap([text])
    assert more.fraction[0] == alone.fraction[0]


def test_the_fraction_is_of_the_protected_text() -> None:
    protected = Protected(["one two three four five six"], 3)  # 4 trigrams
    found = protected.overlap(["zero one two three four, nine", "Five six!", "six five four", None, ""])
    assert found.fraction.tolist() == [0.5, 0.0, 0.0, 0.0, 0.0]
    assert found.nearest.tolist() == [0, -1, -1, -1, -1]
    assert not found.equal.any() and not found.within.any()


def test_a_short_text_is_protected_as_a_whole() -> None:
    protected = Protected(["Who wrote it?"], 13)
    found = protected.overlap(["who wrote it", "Tell me who wrote it, please"])
    assert found.fraction.tolist() == [1.0, 0.0]
    assert found.equal.tolist() == [True, False]


def test_a_long_passage_is_a_hit_wherever_it_stands() -> None:
    passage = "Extraordinarily longwinded formulations notwithstanding everything"
    protected = Protected([passage, "short one"], 13)
    found = protected.overlap([f"He said: {passage}, and left.", "a short one here", f"un{passage}"])
    assert found.within.tolist() == [True, False, False]
    assert found.fraction.tolist() == [0.0, 0.0, 0.0]


def test_what_is_allowed_counts_for_nothing() -> None:
    texts = ["def f(x, y): return x + y", "return x + y"]
    held = Protected(texts, 3).overlap(["lambda: return x + y"])
    assert held.fraction[0] > 0
    free = Protected(texts, 3, allowed=["return x + y"]).overlap(["lambda: return x + y", "return x + y", texts[0]])
    assert free.fraction[0] == 0 and not free.equal[1] and free.equal[2]
    assert free.fraction[2] == 1.0


def test_nothing_protected_is_no_hit() -> None:
    for protected in (Protected([]), Protected([""]), Protected(["?"], allowed=["?"])):
        found = protected.overlap(["anything at all", ""])
        assert not found.equal.any() and not found.within.any() and not found.fraction.any()


def test_hot_grams_do_not_pile_up() -> None:
    protected = Protected([f"answer the following question with care {n}" for n in range(800)], 5)
    texts = [f"answer the following question with care {n} of {n}" for n in range(0, 800, 2)]
    found = protected.overlap(texts)
    assert found.nearest[:3].tolist() == [0, 2, 4]
    assert (found.fraction == 1.0).all()


def naive(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


@given(st.text("abc", max_size=12), st.text("abc", max_size=12), st.text("abc", max_size=12))
@settings(max_examples=200, deadline=None)
def test_edit_distance(one: str, other: str, third: str) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == naive(one, other)
    assert edit_distance(one, third) <= edit_distance(one, other) + edit_distance(other, third)


def test_known_distances() -> None:
    assert edit_distance("kitten", "sitting") == 3
    one, other = ["the", "cat", "sat"], ["a", "cat", "sat", "down"]
    assert edit_distance(one, other) == 2 and edit_share(one, other) == 0.5
    assert edit_share("", "") is None and edit_share("", "a") == 1.0
    assert edit_distance("ab" * 2000, "ba" * 2000) == 2
    assert all(edit_distance("x" * a, "y" * b) == max(a, b) for a, b in itertools.product(range(5), repeat=2))
    with pytest.raises(ValueError, match="at least one word"):
        Protected(["a"], 0)
