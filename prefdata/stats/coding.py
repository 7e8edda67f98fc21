"""Verdicts as numbers: what is missing, in which order categories stand, which code each has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def missing(value: Any) -> bool:
    """None or NaN."""
    return value is None or bool(value != value)


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
