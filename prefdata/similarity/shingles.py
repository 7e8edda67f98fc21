"""Texts as sets of word n-grams (shingles), and how much two sets share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.similarity.hashing import Codes, IntArray, gram_codes, mixed, whole_codes, word_codes
from prefdata.similarity.normalising import Normalise, words_of

FloatArray = NDArray[np.float64]

_AT_ONCE = 1 << 22
"""Members of sets that are looked up at once."""


@dataclass(frozen=True)
class ShingleSets:
    """The shingles of documents.

    Attributes:
        codes: a number for each shingle, document by document; one that stands twice is here twice. [m]
        starts: where each document begins in `codes`. [n + 1]
        sizes: how many different shingles each document has. [n]
        keys: document << 32 | rank of each shingle that is in `codes` more than once, sorted, each once. Ranks go from
            rare to frequent. [k]
        key_starts: where each document begins in `keys`. [n + 1]
    """

    codes: Codes
    starts: IntArray
    sizes: IntArray
    keys: Codes
    key_starts: IntArray

    def __len__(self) -> int:
        return len(self.sizes)


def shingle_sets(
    texts: Sequence[str | None] | pl.Series,
    n: int = 3,
    *,
    form: Normalise = "words",
    documents: IntArray | None = None,
    sides: Codes | IntArray | None = None,
    count: int | None = None,
) -> ShingleSets:
    """The word n-grams of texts, or of documents of several texts each.

    A text of fewer than `n` words has one shingle, the whole of it, so that it is like nothing but an equal text. An
    empty text has none and is like nothing.

    Args:
        texts: what is compared.
        n: words of a shingle, at least 1.
        form: how texts are normalised, see `normalising.Normalise`.
        documents: the number of the document that each text belongs to, ascending; each its own unless given.
        sides: a number for each text's part in its document; shingles of different sides are different, so that
            (a, b) is not (b, a).
        count: how many documents there are; those without any text are empty.

    Raises:
        ValueError: n is less than 1, or documents are not sorted.
    """
    if n < 1:
        raise ValueError(f"a shingle has at least one word, not {n}")
    listed = words_of(texts, form)
    lengths = listed.list.len().cast(pl.Int64).to_numpy()
    own = np.arange(len(lengths)) if documents is None else np.asarray(documents, dtype=np.int64)
    if len(own) != len(lengths) or (np.diff(own) < 0).any():
        raise ValueError("documents needs one number for each text, ascending")
    total = count if count is not None else (int(own[-1]) + 1 if len(own) else 0)
    flat = word_codes(listed.filter(pl.Series(lengths > 0)).list.explode().cast(pl.String))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    codes, owners = _grams(flat, starts, lengths, n)
    if sides is not None:
        codes = mixed(codes ^ mixed(np.asarray(sides, dtype=np.uint64)[owners] + np.uint64(1)))
    return _ranked(codes, own[owners], total)


def _grams(flat: Codes, starts: IntArray, lengths: IntArray, n: int) -> tuple[Codes, IntArray]:
    """The shingles of texts, and the number of the text that each is of, ascending."""
    text = np.repeat(np.arange(len(lengths)), lengths)
    whole = gram_codes(flat, n)
    within = text[: len(whole)] == text[n - 1 :] if len(whole) else np.zeros(0, dtype=bool)
    short = np.flatnonzero((lengths > 0) & (lengths < n))
    codes, owners = whole[within], text[: len(whole)][within]
    if len(short):
        codes = np.concatenate([codes, whole_codes(flat, starts[short], lengths[short])])
        owners = np.concatenate([owners, short])
        order = np.argsort(owners, kind="stable")
        codes, owners = codes[order], owners[order]
    return codes, owners


def _ranked(codes: Codes, owners: IntArray, count: int) -> ShingleSets:
    """The sets, with a rank by frequency for each shingle that is there more than once."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count))]).astype(np.int64)
    ordered = np.sort(codes)
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else starts[:0]
    often = np.diff(np.concatenate([first, [len(ordered)]]))
    common, often = ordered[first[often > 1]], often[often > 1]
    rank = np.empty(len(common), dtype=np.uint64)
    rank[np.lexsort((common, often))] = np.arange(len(common), dtype=np.uint64)
    place = pl.DataFrame({"code": codes}).join(
        pl.DataFrame({"code": common, "rank": rank}, schema={"code": pl.UInt64, "rank": pl.UInt64}),
        on="code",
        how="left",
        maintain_order="left",
    )["rank"]
    alone = place.is_null().to_numpy()
    keys = np.sort((owners[~alone].astype(np.uint64) << np.uint64(32)) | place.drop_nulls().to_numpy())
    if len(keys):
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    held = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=count)
    sizes = held + np.bincount(owners[alone], minlength=count)
    key_starts = np.concatenate([[0], np.cumsum(held)]).astype(np.int64)
    return ShingleSets(codes, starts, sizes.astype(np.int64), keys, key_starts)


def shared(sets: ShingleSets, left: IntArray, right: IntArray) -> IntArray:
    """How many shingles two documents have in common, for each pair of documents; [len(left)]."""
    counts = np.zeros(len(left), dtype=np.int64)
    held = np.diff(sets.key_starts)
    swap = held[left] > held[right]  # the members of the smaller one are looked up in the other
    small, large = np.where(swap, right, left), np.where(swap, left, right)
    ends = np.cumsum(held[small])
    start = 0
    while start < len(left):
        stop = max(start + 1, int(np.searchsorted(ends, (ends[start - 1] if start else 0) + _AT_ONCE, "right")))
        sizes = held[small[start:stop]]
        pair = np.repeat(np.arange(stop - start), sizes)
        offset = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        key = sets.keys[np.repeat(sets.key_starts[small[start:stop]], sizes) + offset]
        wanted = (key & np.uint64(0xFFFFFFFF)) | (large[start:stop].astype(np.uint64)[pair] << np.uint64(32))
        at = np.searchsorted(sets.keys, wanted)
        found = sets.keys[np.minimum(at, len(sets.keys) - 1)] == wanted if len(sets.keys) else at < 0
        counts[start:stop] = np.bincount(pair[found], minlength=stop - start)
        start = stop
    return counts


def jaccard(sets: ShingleSets, left: IntArray, right: IntArray) -> FloatArray:
    """Shared shingles over all shingles of two documents, in [0, 1]; 0 where both are empty. [len(left)]"""
    both = shared(sets, left, right)
    union = sets.sizes[left] + sets.sizes[right] - both
    return np.where(union > 0, both / np.maximum(union, 1), 0.0)
