"""MinHash: a short signature of each set, by which like sets meet (Broder 1997; bands after Leskovec et al.)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prefdata.similarity.blocks import pairs_in_blocks
from prefdata.similarity.hashing import IntArray, constants, mixed
from prefdata.similarity.shingles import FloatArray, ShingleSets

Signatures = NDArray[np.uint32]

_BLOCK = 1 << 15
"""Shingles at once: so many stay in the processor's own memory."""


def candidate_probability(similarity: float, bands: int, rows: int) -> float:
    """The chance that two sets of this Jaccard similarity meet in some band: 1 - (1 - s^r)^b."""
    return float(1 - (1 - similarity**rows) ** bands)


def band_threshold(bands: int, rows: int) -> float:
    """About where that chance is one half: (1/b)^(1/r)."""
    return float((1 / bands) ** (1 / rows))


def signatures(sets: ShingleSets, documents: IntArray, length: int, seed: int = 1) -> Signatures:
    """The least hash of each document's shingles, under `length` hash functions; [length, len(documents)].

    Args:
        sets: all documents.
        documents: which of them, ascending; none of them empty.
        length: bands x rows.
        seed: another seed, other hash functions.
    """
    made = np.empty((length, len(documents)), dtype=np.uint32)
    factors = (constants(length, seed) >> np.uint64(31)).astype(np.uint32) | np.uint32(1)
    offsets = (constants(length, seed + 1) >> np.uint64(32)).astype(np.uint32)
    lengths = np.diff(sets.starts)[documents]
    ends = np.cumsum(lengths)
    start = 0
    while start < len(documents):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _BLOCK, "right")))
        some = lengths[start:stop]
        places = np.cumsum(some) - some
        at = np.repeat(sets.starts[documents[start:stop]] - places, some) + np.arange(int(some.sum()))
        codes = (sets.codes[at] >> np.uint64(32)).astype(np.uint32)
        for number in range(length):
            hashed = codes * factors[number]
            hashed += offsets[number]
            hashed ^= hashed >> np.uint32(15)
            hashed *= np.uint32(0x2C1B3C6D)
            made[number, start:stop] = np.minimum.reduceat(hashed, places)
        start = stop
    return made


def band_candidates(signed: Signatures, bands: int, rows: int, most: int) -> tuple[IntArray, IntArray]:
    """Every pair of columns that are equal in all rows of some band: the smaller, the larger.

    Raises:
        ValueError: there are more than `most` before those that meet twice are put together.
    """
    found: list[NDArray[np.uint64]] = [np.zeros(0, dtype=np.uint64)]
    total = 0
    for band in range(bands):
        key = np.zeros(signed.shape[1], dtype=np.uint64)
        for row in range(band * rows, band * rows + rows):
            key = mixed(key ^ signed[row].astype(np.uint64))
        order = np.argsort(key, kind="stable")
        new = np.concatenate([[True], key[order][1:] != key[order][:-1]]) if len(order) else np.zeros(0, dtype=bool)
        starts = np.flatnonzero(new)
        sizes = np.diff(np.concatenate([starts, [len(order)]])).astype(np.int64)
        total += int((sizes * (sizes - 1) // 2).sum())
        if total > most:
            raise ValueError(
                f"more than {most:,} pairs of texts would have to be compared, because many share whole passages; "
                "take more rows in each band, or longer shingles"
            )
        a, b = pairs_in_blocks(starts[sizes > 1], sizes[sizes > 1])
        found.append((order[a].astype(np.uint64) << np.uint64(32)) | order[b].astype(np.uint64))
    pairs = np.unique(np.concatenate(found))
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def estimated(signed: Signatures, left: IntArray, right: IntArray) -> FloatArray:
    """The share of equal rows of two columns: an estimate of the Jaccard similarity, of variance s (1 - s) / length."""
    made = np.empty(len(left))
    for start in range(0, len(left), 1 << 16):
        stop = start + (1 << 16)
        made[start:stop] = (signed[:, left[start:stop]] == signed[:, right[start:stop]]).mean(axis=0)
    return made
