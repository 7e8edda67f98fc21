"""Who gave which value to what, as numbers: what every measure of agreement among many raters reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prefdata.stats.checking import check_magnitude
from prefdata.stats.coding import FloatArray, IntArray, missing, repeated, small_codes

Level = Literal["nominal", "ordinal", "interval", "ratio"]
LEVELS = ("nominal", "ordinal", "interval", "ratio")

_ROWS = 1 << 16
"""So many values are counted at once."""
_FEW_VALUES = 64
_MOST_CELLS = 1 << 27
"""With at most so many different values, and cells of units and values, they are counted in one table."""


@dataclass(frozen=True)
class Ratings:
    """Values by number.

    Attributes:
        unit: [n] of each value; numbers from 0, of which some may not occur.
        code: [n] the value's place in `scale`.
        scale: [k] the different values (their numbers, for level nominal).
        cluster: [n] of each value, or None.
    """

    unit: IntArray
    code: IntArray
    scale: FloatArray
    cluster: IntArray | None


def ratings_of(
    units: Iterable[Any], raters: Iterable[Any], values: Iterable[Any], clusters: Iterable[Any] | None, level: Level
) -> Ratings | None:
    """Values as numbers; None where there are none. See `prefdata.stats.krippendorff_alpha` for the arguments."""
    if level not in LEVELS:
        raise ValueError(f"level must be nominal, ordinal, interval or ratio, not {level!r}")
    rows = [column if isinstance(column, np.ndarray) else list(column) for column in (units, raters, values)]
    rows += [rows[0] if clusters is None else clusters if isinstance(clusters, np.ndarray) else list(clusters)]
    if len({len(row) for row in rows}) > 1:
        names, sizes = ("units, raters and values", rows[:3]) if clusters is None else ("units, ..., clusters", rows)
        raise ValueError(f"{names} must have one length; they have {', '.join(str(len(r)) for r in sizes)}")
    present = _present(rows[2])
    if present is not None and not np.all(present):
        kept = np.flatnonzero(present)
        rows = [_those(row, kept) for row in rows]
    if not len(rows[2]):
        return None
    unit, rater = small_codes(rows[0])[0], small_codes(rows[1])[0]
    if repeated(unit, rater):
        raise ValueError("one rater gave two values to one unit: keep one of them, or count repetitions as raters")
    scale, code = _scaled(rows[2], level)
    return Ratings(unit, code, scale, None if clusters is None else small_codes(rows[3])[0])


def _present(values: Any) -> Any:
    if isinstance(values, np.ndarray) and values.dtype.kind in "iub":
        return None  # none is missing
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return ~np.isnan(values)
    return [not missing(value) for value in values]


def _those(row: Any, kept: IntArray) -> Any:
    return row[kept] if isinstance(row, np.ndarray) else [row[place] for place in kept.tolist()]


def _scaled(values: Any, level: Level) -> tuple[FloatArray, IntArray]:
    if level == "nominal":
        code, known = small_codes(values)
        return np.arange(len(known), dtype=np.float64), code
    try:
        numbers = values if isinstance(values, np.ndarray) and values.dtype.kind in "iu" else np.asarray(values, float)
    except (TypeError, ValueError):
        raise ValueError(f"level {level} needs values that are numbers") from None
    if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
        raise ValueError(f"level {level} needs finite values; one of them is infinite")
    check_magnitude(numbers, "a value")
    code, known = small_codes(numbers)
    return np.asarray(known, dtype=np.float64), code


@dataclass(frozen=True)
class Counts:
    """How often each unit was given each value: all that alpha needs, where there are few different values.

    Attributes:
        counts: [units, k] of 8 bits where that is enough: not to be added up as they are.
        scale: [k] the different values.
    """

    counts: NDArray[np.integer]
    scale: FloatArray

    @classmethod
    def of(cls, given: Ratings) -> Counts | None:
        """None where there are too many different values, or too many cells."""
        size, many = len(given.scale), int(given.unit.max()) + 1
        if size > _FEW_VALUES or many * size > _MOST_CELLS:
            return None
        counts = np.zeros(many * size, dtype=np.uint8)
        for start in range(0, len(given.unit), _ROWS):
            cell = np.multiply(given.unit[start : start + _ROWS], size, dtype=np.int64)
            cell += given.code[start : start + _ROWS]
            low, high = int(cell.min()), int(cell.max()) + 1
            if high - low <= 8 * _ROWS:  # the units of these rows lie close together
                added = np.bincount(cell - low)
                where: slice | IntArray = slice(low, high)
            else:
                where, added = np.unique(cell, return_counts=True)
            added += counts[where]
            if counts.dtype == np.uint8 and added.max() > 255:
                counts = counts.astype(np.int64)
            counts[where] = added
        return cls(counts.reshape(many, size), given.scale)
