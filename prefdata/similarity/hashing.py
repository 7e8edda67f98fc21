"""64-bit names of words and of runs of words, the same on every machine and in every version of the libraries."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

Codes = NDArray[np.uint64]
IntArray = NDArray[np.int64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_BASE = np.uint64(0xD6E8FEB86659FD93)


def mixed(values: Codes) -> Codes:
    """Each number stirred, so that near numbers become far ones (the finaliser of splitmix64)."""
    x = values + _STEP
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def constants(count: int, seed: int) -> Codes:
    """So many odd 64-bit numbers, by a seed."""
    return mixed(np.arange(count, dtype=np.uint64) + np.uint64(seed) * np.uint64(0x100000001)) | np.uint64(1)


def word_codes(words: pl.Series) -> Codes:
    """A number for each word, by the word alone.

    Args:
        words: texts, none of them null.
    """
    named = words.alias("word").to_frame()
    known = named.unique()
    numbers = [int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little") for word in known["word"]]
    known = known.with_columns(code=pl.Series(numbers, dtype=pl.UInt64))
    return named.join(known, on="word", how="left", maintain_order="left")["code"].to_numpy()


def gram_codes(codes: Codes, n: int) -> Codes:
    """A number for each run of `n` words, by its words in their order; [len(codes) - n + 1], none where that is < 1."""
    count = len(codes) - n + 1
    if count < 1:
        return np.zeros(0, dtype=np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    for place in range(n):
        total = total * _BASE + codes[place : place + count]
    return mixed(total + np.uint64(n))


def whole_codes(codes: Codes, starts: IntArray, lengths: IntArray) -> Codes:
    """A number for each sequence of words as a whole: the one of `gram_codes` for as many words as it has.

    Args:
        codes: of words.
        starts: where each sequence begins.
        lengths: how many words it has, at least 1.
    """
    total = np.zeros(len(starts), dtype=np.uint64)
    for place in range(int(lengths.max(initial=0))):
        here = place < lengths
        total[here] = total[here] * _BASE + codes[starts[here] + place]
    return mixed(total + lengths.astype(np.uint64))
