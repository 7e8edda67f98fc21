"""Verdicts as numbers: what is missing, in which order categories stand, which code each has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def missing(value: Any) -> bool:
    """None or NaN."""
    return value is None or bool(value != value)


def listed(values: Iterable[Any]) -> Sequence[Any] | NDArray[Any]:
    """Arrays of numbers as they are, anything else as a list."""
    return values if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" else list(values)


def ordered(values: set[Any]) -> list[Any]:
    """Sorted; where values cannot be compared with one another, by type and text."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda value: (type(value).__name__, str(value)))


def codes(values: Sequence[Any] | NDArray[Any]) -> tuple[IntArray, int]:
    """Each value's number, and how many there are: in the order of first occurrence, of arrays of numbers by size."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        known, numbers = np.unique(values, return_inverse=True)
        return numbers.astype(np.int64), len(known)
    code: dict[Any, int] = {}
    made = np.fromiter((code.setdefault(value, len(code)) for value in values), dtype=np.int64, count=len(values))
    return made, len(code)


def small_codes(values: Sequence[Any] | NDArray[Any]) -> tuple[IntArray, Any]:
    """Numbers from 0 for values, and the values that they stand for; without sorting where whole numbers lie close.

    Args:
        values: anything that can be told apart.

    Returns:
        [n] int32 where that is enough, and the known values: of numbers ascending, else in the order of first
        occurrence.
    """
    if not (isinstance(values, np.ndarray) and values.dtype.kind in "iufb"):
        made, _ = codes(list(values))
        first = np.unique(made, return_index=True)[1]
        listed = list(values)
        return made, [listed[place] for place in first.tolist()]
    numbers: Any = values
    if values.dtype.kind == "f" and len(values) and np.abs(values).max() < 2**31 and not np.any(values % 1):
        numbers = values.astype(np.int32)
    if numbers.dtype.kind in "iub" and len(numbers):
        low, high = int(numbers.min()), int(numbers.max())
        if high - low < 4 * len(numbers) + 1000:
            small: Any = np.int32 if high - low < 2**31 - 1 else np.int64
            place = numbers if low == 0 and numbers.dtype == small else numbers.astype(small) - small(low)
            there = np.zeros(high - low + 1, dtype=bool)
            there[place] = True
            known = np.flatnonzero(there)
            if len(known) == len(there):
                return place, (known + low).astype(values.dtype)
            return (np.cumsum(there, dtype=small)[place] - small(1)), (known + low).astype(values.dtype)
    known, inverse = np.unique(values, return_inverse=True)
    return inverse, known


_SLOTS = 1 << 22
_NEIGHBOURS = 16


def repeated(first: IntArray, second: IntArray) -> bool:
    """Whether two rows have the same pair of numbers; by hashing, which costs a tenth of sorting.

    Args:
        first: [n] numbers from 0.
        second: [n] likewise.
    """
    if len(first) < 2:
        return False
    ahead = first[1:] != first[:-1]
    if (first[1:] >= first[:-1]).all():  # rows of one number stand together: only neighbours can be equal
        ends = np.flatnonzero(ahead)
        longest = int(np.diff(np.concatenate([[-1], ends, [len(first) - 1]])).max())
        if longest <= _NEIGHBOURS:
            return any(bool(((first[k:] == first[:-k]) & (second[k:] == second[:-k])).any()) for k in range(1, longest))
    left = np.arange(len(first), dtype=np.int32 if len(first) < 2**31 - 1 else np.int64)
    slots = np.empty(_SLOTS, dtype=left.dtype)
    turn = 0
    while len(left):
        a, b = (first, second) if not turn else (first[left], second[left])
        # Another multiplier each turn: what met in one slot meets in another one.
        slot = np.multiply(a, 0x9E3779B1 + 2 * turn, dtype=np.int64)
        slot += np.multiply(b, 0x85EBCA77 + 4 * turn, dtype=np.int64)
        slot ^= slot >> 15
        slot &= _SLOTS - 1
        slots[slot] = left  # the last one stays
        there = slots[slot]
        lost = there != left
        if not lost.any():
            return False
        again, other = left[lost], there[lost]
        if ((first[again] == first[other]) & (second[again] == second[other])).any():
            return True
        # Those that stayed are equal to none that met them; only the others can be equal among themselves.
        left, turn = again, turn + 1
    return False
