"""Near duplicates: the exact join against every pair, MinHash's chances, clusters, hostile heaps of copies."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.similarity import (
    band_threshold,
    candidate_probability,
    clustered,
    diverse,
    jaccard,
    near_duplicates,
    near_vectors,
    normalised,
    shingle_sets,
    words_of,
)
from prefdata.similarity.minhash import band_candidates, signatures

words = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=12).map(" ".join)
heaps = st.lists(words, max_size=14)


def brute(texts: list[str], n: int, threshold: float) -> dict[tuple[int, int], float]:
    """Every pair, by Python's own sets."""

    def grams(text: str) -> set[tuple[str, ...]]:
        listed = text.split()
        return {tuple(listed[i : i + n]) for i in range(len(listed) - n + 1)} or ({tuple(listed)} if listed else set())

    sets = [grams(text) for text in texts]
    found = {}
    for i, j in itertools.combinations(range(len(texts)), 2):
        union = len(sets[i] | sets[j])
        similarity = len(sets[i] & sets[j]) / union if union else 0.0
        if similarity >= threshold - 1e-12:
            found[i, j] = similarity
    return found


def test_the_numbers_of_the_published_bands() -> None:
    assert band_threshold(14, 8) == pytest.approx(0.719008, abs=1e-6)
    expected = {0.5: 0.053320, 0.7: 0.564504, 0.75: 0.771634, 0.8: 0.923548, 0.9: 0.999622}
    for similarity, chance in expected.items():
        assert candidate_probability(similarity, 14, 8) == pytest.approx(chance, abs=1e-6)
    assert candidate_probability(0.7, 25, 5) > 0.98


def test_two_sentences_share_four_of_six() -> None:
    sets = shingle_sets(["the cat sat on the mat today", "the cat sat on the mat yesterday"], 3)
    assert jaccard(sets, np.array([0]), np.array([1]))[0] == pytest.approx(4 / 6)
    assert len(near_duplicates(sets, 2 / 3).left) == 1
    assert len(near_duplicates(sets, 0.67).left) == 0


@given(heaps, st.integers(1, 4), st.sampled_from([0.2, 0.5, 0.7, 0.9, 1.0]))
@settings(max_examples=150, deadline=None)
def test_the_exact_join_finds_every_pair_and_no_other(texts: list[str], n: int, threshold: float) -> None:
    near = near_duplicates(shingle_sets(texts, n), threshold, join="exact")
    left, right, similarity = near.pairs()
    found = dict(zip(zip(left.tolist(), right.tolist(), strict=True), similarity.tolist(), strict=True))
    expected = brute(texts, n, threshold)
    assert found.keys() == expected.keys()
    assert all(found[pair] == pytest.approx(expected[pair]) for pair in found)
    best = near.nearest()
    for place in range(len(texts)):
        reached = [value for pair, value in expected.items() if place in pair]
        assert np.isnan(best[place]) if not reached else best[place] == pytest.approx(max(reached))


@given(heaps, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_clusters_are_the_same_in_any_order(texts: list[str], draw: random.Random) -> None:
    ids = [f"id{place:02}" for place in range(len(texts))]
    order = list(range(len(texts)))
    draw.shuffle(order)
    for join in ("exact", "minhash"):
        plain = near_duplicates(shingle_sets(texts, 2), 0.5, join=join).clusters()  # type: ignore[arg-type]
        turned = near_duplicates(shingle_sets([texts[i] for i in order], 2), 0.5, join=join).clusters()  # type: ignore[arg-type]
        by_id = dict(zip(ids, plain.names(ids), strict=True))
        assert by_id == dict(zip([ids[i] for i in order], turned.names([ids[i] for i in order]), strict=True))
        assert all(by_id[name] <= name and by_id[by_id[name]] == by_id[name] for name in ids)


@given(heaps)
@settings(max_examples=40, deadline=None)
def test_minhash_reports_no_pair_below_the_threshold(texts: list[str]) -> None:
    left, right, _ = near_duplicates(shingle_sets(texts, 2), 0.6, join="minhash").pairs()
    assert set(zip(left.tolist(), right.tolist(), strict=True)) <= brute(texts, 2, 0.6).keys()


def test_minhash_meets_as_often_as_its_formula_says() -> None:
    """2,000 pairs of similarity 1/2: with 14 bands of 8 rows 5.3 % meet, with 25 x 5 about 54.8 %."""
    draw = random.Random(0)
    texts = []
    for _ in range(2000):
        both = [f"s{draw.getrandbits(60)}" for _ in range(40)]
        texts += [" ".join([*both, *(f"{side}{draw.getrandbits(60)}" for _ in range(20))]) for side in "ab"]
    sets = shingle_sets(texts, 1)
    for bands, rows in ((14, 8), (25, 5)):
        signed = signatures(sets, np.arange(len(texts)), bands * rows)
        left, right = band_candidates(signed, bands, rows, 10**7)
        met = int(((left % 2 == 0) & (right == left + 1)).sum()) / 2000
        chance = candidate_probability(0.5, bands, rows)
        assert abs(met - chance) < 4 * (chance * (1 - chance) / 2000) ** 0.5


def test_a_hundred_thousand_copies_are_no_heap_of_pairs() -> None:
    near = near_duplicates(shingle_sets(["one and the same text again"] * 100_000 + ["another one, quite unlike"], 3))
    assert len(near.left) == 0
    assert near.clusters().largest == 100_000
    with pytest.raises(ValueError, match="too much to list: ask for clusters"):
        near.pairs()


def test_a_chain_is_one_cluster() -> None:
    n = 5000
    assert clustered(n, np.arange(n - 1), np.arange(1, n)).largest == n
    assert clustered(n, np.arange(1, n), np.arange(n - 1)).largest == n
    assert clustered(0, np.arange(0), np.arange(0)).largest == 0


def test_normalising() -> None:
    assert normalised(["  Don't PANIC -- \n ｆｕｌｌ ", None, "?!", "..."]).to_list() == [
        "dont panic full",
        "",
        "?!",
        "...",
    ]
    assert len(set(normalised(["What is 12-3?", "What is 12 / 3?", "What is 12*3?", "What is 123?"]))) == 4
    assert words_of(["今日は good day", ""]).to_list() == [["今", "日", "は", "good", "day"], []]
    assert normalised([" A  b "], "raw").to_list() == ["A  b"]
    assert words_of([" A  b. "], "raw").to_list() == [["A", "b."]]


def test_sides_of_a_document_are_told_apart() -> None:
    texts = ["the prompt", "a good answer", "a bad answer", "the prompt", "a bad answer", "a good answer"]
    documents, sides = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 0, 1, 2])
    told = shingle_sets(texts, 3, documents=documents, sides=sides)
    assert jaccard(told, np.array([0]), np.array([1]))[0] == pytest.approx(1 / 5)
    blind = shingle_sets(texts, 3, documents=documents)
    assert jaccard(blind, np.array([0]), np.array([1]))[0] == 1


def test_numbers_out_of_range_are_refused() -> None:
    sets = shingle_sets(["a b c"], 3)
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        near_duplicates(sets, 0.0)
    with pytest.raises(ValueError, match="at least one word"):
        shingle_sets(["a"], 0)
    with pytest.raises(ValueError, match="ascending"):
        shingle_sets(["a", "b"], 1, documents=np.array([1, 0]))
    assert near_duplicates(shingle_sets([], 3)).clusters().largest == 0


def test_vectors_by_cosine() -> None:
    angles = np.radians([0, 0, 10, 80])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    near = near_vectors(vectors, 0.92)
    left, right, similarity = near.pairs()
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2)]
    assert similarity == pytest.approx([1, np.cos(np.radians(10)), np.cos(np.radians(10))], abs=1e-6)
    assert near.clusters().labels.tolist() == [0, 0, 0, 3]
    with pytest.raises(ValueError, match="no length"):
        near_vectors(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="not finite"):
        near_vectors(np.array([[np.nan, 1.0]]))


def test_a_diverse_budget() -> None:
    """Quality (.9, .8, .5), cosines .95 and .1: after the first the others are worth -0.075 and 0.200."""
    second = [0.95, (1 - 0.95**2) ** 0.5, 0]
    y = (0.0 - 0.95 * 0.1) / second[1]
    third = [0.1, y, (1 - 0.1**2 - y**2) ** 0.5]
    vectors, quality = np.array([[1, 0, 0], second, third]), np.array([0.9, 0.8, 0.5])
    assert diverse(quality, vectors, 2).tolist() == [0, 2]
    assert 0.5 * quality[1:] - 0.5 * vectors[1:, 0] == pytest.approx([-0.075, 0.2])
    assert diverse(quality, vectors, 3, balance=1).tolist() == [0, 1, 2]
    assert diverse(quality[:0], vectors[:0], 3).tolist() == []
    with pytest.raises(ValueError, match="not a finite number"):
        diverse(np.array([np.inf]), vectors[:1], 1)
