"""Confidence intervals: of a share, and by resampling units."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import checked_count


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson, 1927).

    (p + z^2/2n -+ z sqrt(p(1 - p)/n + z^2/4n^2)) / (1 + z^2/n), with p = successes/n.

    Args:
        successes: in [0, n]; may be fractional (a tie as half a success).
        n: how many trials.
        confidence: in (0, 1).

    Returns:
        (low, high) in [0, 1]; (0, 1) where n is 0: nothing is known.
    """
    if not (0 <= successes <= n and isfinite(n)):
        raise ValueError(f"successes must lie in [0, {n}]; they are {successes}")
    check_confidence(confidence)
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else max((centre - half) / scale, 0.0)
    high = 1.0 if successes == n else min((centre + half) / scale, 1.0)
    return low, high


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], float | None],
    units: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile bootstrap over units (Efron, 1979): rows of one unit are drawn together.

    Args:
        statistic: the number computed from rows, given as positions (with repetitions); None where it is undefined.
        units: [n] the unit of each row (a prompt, an annotator); rows of one unit depend on one another.
        confidence: in (0, 1).
        resamples: how many draws.
        seed: of the draws; the result is the same for the same seed.

    Returns:
        (low, high), or None with fewer than two units or where most draws leave the statistic undefined.
    """
    check_confidence(confidence)
    resamples = checked_count(resamples, "resamples")
    _, codes = np.unique(np.asarray(units), return_inverse=True)
    count = int(codes.max(initial=-1)) + 1
    if count < 2:
        return None
    order = np.argsort(codes, kind="stable").astype(np.int64)
    members = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    draw = np.random.default_rng(seed)
    values = [
        statistic(np.concatenate([members[u] for u in draw.integers(count, size=count)])) for _ in range(resamples)
    ]
    return percentile_interval([value for value in values if value is not None], resamples, confidence)


def percentile_interval(values: ArrayLike, resamples: int, confidence: float) -> tuple[float, float] | None:
    """The middle `confidence` of the resampled values; None where fewer than half of the draws gave one."""
    found = np.asarray(values, dtype=np.float64)
    if len(found) * 2 < resamples or not len(found):
        return None
    low, high = np.quantile(found, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


def agreement_interval(
    ends: tuple[float, float] | None, value: float, shares: ArrayLike, units: int, confidence: float
) -> tuple[float, float] | None:
    """The interval of an agreement coefficient; of one that is 1 a bootstrap says no more than that it is 1.

    Units that agree without exception agree in every draw. Then the share of units on which annotators disagree may
    still be what Wilson's interval leaves open, q; the lower end is 1 - q / (1 - sum p_k^2), which is nominal kappa
    where a share q of the units was judged otherwise.

    Args:
        ends: of the bootstrap.
        value: the coefficient.
        shares: [k] p_k, how frequent each verdict is.
        units: how many were drawn from.
        confidence: in (0, 1).
    """
    if ends is None or value < 1 or ends[0] < 1:
        return ends
    p = np.asarray(shares, dtype=np.float64)
    apart = 1 - float((p**2).sum()) / float(p.sum()) ** 2
    return max(-1.0, 1 - (1 - wilson_interval(units, units, confidence)[0]) / apart), 1.0


def check_confidence(confidence: float) -> None:
    """Raises ValueError for a confidence outside (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1; it is {confidence}")
