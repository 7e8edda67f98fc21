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
        [n] whole numbers (narrow ones that are numbers from 0 already come back as they are, others as int32 where
        that is enough), and the known values: of numbers ascending, else in the order of first occurrence.
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
            return _placed(numbers, low, high, values.dtype)
    known, inverse = np.unique(values, return_inverse=True)
    return inverse, known


def _placed(numbers: NDArray[Any], low: int, high: int, kind: Any) -> tuple[IntArray, Any]:
    """Numbers from 0 for whole numbers from `low` to `high`, and those that occur."""
    small: Any = np.int32 if high - low < 2**31 - 1 else np.int64
    there = np.zeros(high - low + 1, dtype=bool)
    # NumPy makes indices of 64 bits of all others: of a part only, not of ten million rows.
    parts = [slice(start, start + _PART) for start in range(0, len(numbers), _PART)]
    for part in parts:
        there[numbers[part].astype(np.int64) - low] = True
    known = np.flatnonzero(there)
    full = len(known) == len(there)
    if full and low == 0 and numbers.dtype.kind in "iu" and numbers.dtype.itemsize <= np.dtype(small).itemsize:
        return numbers, known.astype(kind)
    table = np.cumsum(there, dtype=small) - small(1)
    place = np.empty(len(numbers), dtype=small)
    for part in parts:
        place[part] = table[numbers[part].astype(np.int64) - low]
    return place, (known + low).astype(kind)


_PART = 1 << 16
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
    if _ascending(first):  # rows of one number stand together: only neighbours can be equal
        for k in range(1, _NEIGHBOURS + 1):
            close = alike = False
            for start in range(0, len(first) - k, _PART):
                stop = min(start + _PART, len(first) - k)
                here, there = slice(start, stop), slice(start + k, stop + k)
                near = first[here] == first[there]
                close |= bool(near.any())
                alike |= bool((near & (second[here] == second[there])).any())
            if alike or not close:
                return alike
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


def _ascending(numbers: IntArray) -> bool:
    parts = (numbers[start : start + _PART + 1] for start in range(0, len(numbers), _PART))
    return all((part[1:] >= part[:-1]).all() for part in parts)
