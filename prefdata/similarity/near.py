"""Near duplicates: pairs of documents whose sets of shingles are alike.

Short texts are joined exactly (every pair is found), long ones by MinHash, whose candidates are then measured, so that
no pair below the threshold is ever reported (statistics of both: benchmarks/near_duplicates.py). Documents of equal
sets are one document to the join: a million copies of one text are no million squared pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prefdata.similarity.blocks import followers, pairs_in_blocks
from prefdata.similarity.clusters import Clusters, clustered
from prefdata.similarity.hashing import IntArray, mixed
from prefdata.similarity.minhash import band_candidates, estimated, signatures
from prefdata.similarity.shingles import FloatArray, ShingleSets, jaccard

Join = Literal["auto", "exact", "minhash"]

LONG = 400
"""Shingles of a document, on average, from which on `auto` takes MinHash."""

MOST_PAIRS = 100_000_000
"""Candidates (and pairs listed) at most: beyond, a join takes the memory of a large machine and says nothing."""

_BLOCK = 1 << 22


@dataclass(frozen=True)
class Near:
    """What a join found.

    Attributes:
        same: for each document the least number of a document with an equal set; its own where there is none. [n]
        left: one of each pair of such first documents that are alike. [p]
        right: the other one, larger. [p]
        similarity: of the pair: at least the threshold, below 1. [p]
        by: exact or minhash.
    """

    same: IntArray
    left: IntArray
    right: IntArray
    similarity: FloatArray
    by: str

    def clusters(self) -> Clusters:
        """What is connected by pairs."""
        own = np.arange(len(self.same))
        copies = self.same != own
        left = np.concatenate([self.left, self.same[copies]])
        return clustered(len(self.same), left, np.concatenate([self.right, own[copies]]))

    def nearest(self) -> FloatArray:
        """The similarity of each document with the document most like it; NaN where none reaches the threshold. [n]"""
        best = np.full(len(self.same), -np.inf)
        np.maximum.at(best, self.left, self.similarity)
        np.maximum.at(best, self.right, self.similarity)
        best[np.bincount(self.same, minlength=len(best)) > 1] = 1.0
        best = best[self.same]
        return np.where(np.isfinite(best), best, np.nan)

    def leaks(self, held_out: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which documents have one like them on the other side of a split. [n]

        Args:
            held_out: for each document on which side it is. [n]
        """
        reached = []
        for side in (~held_out, held_out):
            own = np.zeros(len(self.same), dtype=bool)
            own[self.same[side]] = True
            near = own.copy()
            near[self.right[own[self.left]]] = True
            near[self.left[own[self.right]]] = True
            reached.append(near[self.same])
        return np.where(held_out, reached[0], reached[1])

    def pairs(self) -> tuple[IntArray, IntArray, FloatArray]:
        """Every pair of documents that are alike, sorted: one, the other (larger), their similarity.

        Raises:
            ValueError: there are too many, because many documents are equal; clusters say the same in less room.
        """
        order = np.argsort(self.same, kind="stable")
        sizes = np.bincount(self.same, minlength=len(self.same)).astype(np.int64)
        starts = np.cumsum(sizes) - sizes
        many = int((sizes[self.left] * sizes[self.right]).sum() + (sizes * (sizes - 1) // 2).sum())
        if many > MOST_PAIRS:
            raise ValueError(f"{many:,} pairs are alike, which is too much to list: ask for clusters")
        found: list[tuple[IntArray, IntArray, FloatArray]] = []
        across = sizes[self.left] * sizes[self.right]
        pair = np.repeat(np.arange(len(self.left)), across)
        within = np.arange(len(pair)) - np.repeat(np.cumsum(across) - across, across)
        a, b = self.left[pair], self.right[pair]
        found.append(
            (order[starts[a] + within // sizes[b]], order[starts[b] + within % sizes[b]], self.similarity[pair])
        )
        group = np.flatnonzero(sizes > 1)
        first, second = pairs_in_blocks(starts[group], sizes[group])
        found.append((order[first], order[second], np.ones(len(first))))
        one, other, value = (np.concatenate([each[place] for each in found]) for place in range(3))
        low, high = np.minimum(one, other), np.maximum(one, other)
        sort = np.lexsort((high, low))
        return low[sort], high[sort], value[sort]


def near_duplicates(
    sets: ShingleSets,
    threshold: float = 0.7,
    *,
    join: Join = "auto",
    bands: int = 25,
    rows: int = 5,
    verify: bool = True,
    seed: int = 1,
) -> Near:
    """Which documents share at least so much of their shingles (Jaccard similarity).

    Args:
        sets: the documents.
        threshold: in (0, 1].
        join: exact finds every pair; minhash those that `candidate_probability` says, and takes less time for long
            texts; auto: minhash from `LONG` shingles a document on.
        bands: of MinHash.
        rows: of MinHash, in each band. 25 x 5 finds 99.0 % of the pairs at 0.7.
        verify: measure the candidates of MinHash. Without it the similarity is an estimate, and pairs below the
            threshold are among them.
        seed: of MinHash.

    Raises:
        ValueError: a number is out of its range, or there are more than `MOST_PAIRS` candidates.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is above 0 and at most 1, not {threshold}")
    if bands < 1 or rows < 1:
        raise ValueError("bands and rows are at least 1")
    by = join
    if join == "auto":
        filled = sets.sizes[sets.sizes > 0]
        by = "minhash" if len(filled) and filled.mean() >= LONG else "exact"
    same = _same(sets)
    firsts = np.flatnonzero((same == np.arange(len(sets))) & (sets.sizes > 0))
    if by == "exact":
        left, right = _prefix_candidates(sets, firsts, threshold)
        similarity = jaccard(sets, left, right)
    else:
        signed = signatures(sets, firsts, bands * rows, seed)
        one, other = band_candidates(signed, bands, rows, MOST_PAIRS)
        left, right = firsts[one], firsts[other]
        similarity = jaccard(sets, left, right) if verify else estimated(signed, one, other)
    if by == "exact" or verify:
        kept = similarity >= threshold - 1e-12  # 7/10 is 0.7
        left, right, similarity = left[kept], right[kept], similarity[kept]
    low, high = np.minimum(left, right), np.maximum(left, right)
    sort = np.lexsort((high, low))
    return Near(same, low[sort], high[sort], similarity[sort], by)


def _same(sets: ShingleSets) -> IntArray:
    """For each document the first one with an equal set."""
    same = np.arange(len(sets), dtype=np.int64)
    held = np.diff(sets.key_starts)
    # Who has a shingle that nobody else has is like no other.
    shared_only = np.flatnonzero((held == sets.sizes) & (held > 0))
    if len(shared_only) < 2:
        return same
    total = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixed(sets.keys & np.uint64(0xFFFFFFFF)))])
    sums = total[sets.key_starts[shared_only + 1]] - total[sets.key_starts[shared_only]]
    order = np.lexsort((shared_only, sums, held[shared_only]))
    documents, sums = shared_only[order], sums[order]
    new = np.concatenate([[True], (sums[1:] != sums[:-1]) | (held[documents][1:] != held[documents][:-1])])
    first = documents[np.flatnonzero(new)[np.cumsum(new) - 1]]
    copies = first != documents
    equal = jaccard(sets, first[copies], documents[copies]) == 1.0
    same[documents[copies][equal]] = first[copies][equal]
    return same


def _prefix_candidates(sets: ShingleSets, firsts: IntArray, threshold: float) -> tuple[IntArray, IntArray]:
    """Every pair of documents that may reach the threshold: they share a shingle of their rarest few.

    Two sets of similarity t or more share at least t |x| of the |x| members of each, so that of the |x| - ceil(t |x|)
    + 1 rarest of each at least one is in both (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007).
    Shingles that only one document has are among the rarest and join nobody.
    """
    size = sets.sizes[firsts]
    held = np.diff(sets.key_starts)[firsts]
    prefix = size - np.ceil(threshold * size - 1e-9).astype(np.int64) + 1
    taken = np.clip(prefix - (size - held), 0, held)
    document = np.repeat(firsts, taken)
    offset = np.arange(len(document)) - np.repeat(np.cumsum(taken) - taken, taken)
    rank = sets.keys[np.repeat(sets.key_starts[firsts], taken) + offset] & np.uint64(0xFFFFFFFF)
    after = np.repeat(held, taken) - offset - 1  # how many members come behind this one
    sizes = sets.sizes[document]
    order = np.lexsort((document, sizes, rank))
    document, rank, after, sizes = document[order], rank[order], after[order], sizes[order]
    # Partners: later in the same list, and not too large.
    span = np.uint64(sizes.max(initial=0) + 1)
    ordered = rank * span + sizes.astype(np.uint64)
    most = np.minimum(np.floor(sizes / threshold + 1e-9), float(span) - 1).astype(np.uint64)
    ends = np.searchsorted(ordered, rank * span + most, "right").astype(np.int64)
    own = np.arange(len(document))
    many = np.maximum(ends - own - 1, 0)
    if int(many.sum()) > MOST_PAIRS:
        raise ValueError(
            f"{int(many.sum()):,} pairs of texts would have to be compared, because many share whole passages; raise "
            "the threshold, or take longer shingles"
        )
    kept: list[NDArray[np.uint64]] = [np.zeros(0, dtype=np.uint64)]
    for start, stop in _blocks(many):
        first, second = followers(own[start:stop], many[start:stop])
        least = threshold / (1 + threshold) * (sizes[first] + sizes[second])
        # Of a pair that is alike, this is true where they share their first member.
        reach = 1 + np.minimum(after[first], after[second]) >= least - 1e-9
        a, b = document[first[reach]], document[second[reach]]
        pair = (np.minimum(a, b).astype(np.uint64) << np.uint64(32)) | np.maximum(a, b).astype(np.uint64)
        kept.append(np.unique(pair))
    pairs = np.unique(np.concatenate(kept))
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _blocks(many: IntArray) -> list[tuple[int, int]]:
    """Ranges of rows whose partners fit into memory together."""
    ends = np.cumsum(many)
    cuts = [0]
    while cuts[-1] < len(many):
        before = int(ends[cuts[-1] - 1]) if cuts[-1] else 0
        cuts.append(max(cuts[-1] + 1, int(np.searchsorted(ends, before + _BLOCK, "right"))))
    return list(pairwise(cuts))
