"""Pairs of places within consecutive blocks, without a loop over blocks."""

from __future__ import annotations

import numpy as np

from prefdata.similarity.hashing import IntArray


def followers(rows: IntArray, many: IntArray) -> tuple[IntArray, IntArray]:
    """Each row number with the `many` that follow it."""
    first = np.repeat(rows, many)
    offset = np.arange(len(first)) - np.repeat(np.cumsum(many) - many, many)
    return first, first + 1 + offset


def pairs_in_blocks(starts: IntArray, sizes: IntArray) -> tuple[IntArray, IntArray]:
    """All pairs of different places i < j of one block, block by block."""
    rows = np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(int(sizes.sum()))
    return followers(rows, np.repeat(starts + sizes, sizes) - rows - 1)
