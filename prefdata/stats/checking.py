"""What every estimator asks of its arguments, said in the same words."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.coding import FloatArray

LARGEST = 1e100
"""Beyond it a number's square, or the sum of many, cannot be represented; a weight may not lie below 1/LARGEST."""


def check_magnitude(array: NDArray[Any], what: str) -> None:
    """Raises ValueError where a number is so large that sums of squares overflow; NaN and infinities pass.

    Args:
        array: any shape.
        what: the name of one of its numbers, as the sentence begins: `a margin`.
    """
    with np.errstate(invalid="ignore"):
        if ((np.abs(array) > LARGEST) & ~np.isinf(array)).any():
            raise ValueError(f"{what} is beyond {LARGEST:g}, so that its square cannot be represented: scale it down")


def checked_numbers(values: ArrayLike, what: str) -> FloatArray:
    """The numbers as they are, of any shape: finite, and not so large that their squares overflow.

    Args:
        values: any shape.
        what: the name of one of them, as the sentence begins: `a margin`.

    Raises:
        ValueError: one that is missing, infinite or beyond `LARGEST`.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{what} is missing or infinite: leave such rows out first")
    check_magnitude(array, what)
    return array


def checked_weights(weights: ArrayLike | None, size: int, of: str = "rows") -> FloatArray:
    """[size] weights; 1 each unless given.

    Args:
        weights: finite and not negative, 0 or from 1e-100 to 1e100.
        size: how many there must be.
        of: what they weigh, in the plural.

    Raises:
        ValueError: another number of them, or one that is none of these.
    """
    if weights is None:
        return np.ones(size)
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (size,) or not ((array >= 0) & np.isfinite(array)).all():
        raise ValueError(f"there must be one finite weight, not negative, for each of the {size} {of}")
    if (((array > 0) & (array < 1 / LARGEST)) | (array > LARGEST)).any():
        raise ValueError(f"a weight is below {1 / LARGEST:g} or above {LARGEST:g}: its square cannot be represented")
    return array


def checked_probabilities(values: ArrayLike, what: str) -> FloatArray:
    """Numbers from 0 to 1 of any shape; NaN, where nothing is known, passes.

    Args:
        values: any shape.
        what: the name of one of them, as the sentence begins: `a share of votes`.

    Raises:
        ValueError: one outside [0, 1].
    """
    array = np.asarray(values, dtype=np.float64)
    if ((array < 0) | (array > 1)).any():
        raise ValueError(f"{what} lies from 0 to 1; they go from {np.nanmin(array):g} to {np.nanmax(array):g}")
    return array


def checked_count(number: Any, what: str, least: int = 0) -> int:
    """A whole number, at least `least`.

    Args:
        number: an int, or NumPy's.
        what: its name, as the sentence begins: `resamples`.
        least: the smallest that makes sense.

    Raises:
        ValueError: it is no whole number, or too small.
    """
    try:
        count = index(number)
    except TypeError:
        raise ValueError(f"{what} must be a whole number; {number!r} is none") from None
    if count < least:
        raise ValueError(f"{what} must be at least {least}; it is {count}")
    return count


def check_run(tolerance: float, most: Any) -> None:
    """Raises ValueError for a tolerance or a number of iterations with which an estimate cannot be found."""
    checked_count(most, "most", 1)
    if not (tolerance >= 0 and np.isfinite(tolerance)):
        raise ValueError(f"the tolerance must be finite and not negative; it is {tolerance}")
