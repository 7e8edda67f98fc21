"""Whether stated probabilities come true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Bin:
    """Statements of about one probability.

    Attributes:
        low: where the bin begins.
        high: where it ends.
        count: statements in it (the sum of their weights).
        stated: their mean.
        observed: how often they came true.
    """

    low: float
    high: float
    count: float
    stated: float
    observed: float


@dataclass(frozen=True)
class Calibration:
    """How well probabilities are calibrated.

    Attributes:
        brier: mean squared difference of statement and outcome, 0 to 1 (Brier, 1950).
        log_loss: mean negative log-probability of the outcome, in nats; statements are clamped to [1e-12, 1 - 1e-12].
        error: expected calibration error: mean distance of `stated` and `observed`, weighted by count (Naeini et al.,
            2015).
        bins: those that hold something.
    """

    brier: float
    log_loss: float
    error: float
    bins: tuple[Bin, ...]


def calibration(stated: ArrayLike, outcome: ArrayLike, *, bins: int = 10) -> Calibration:
    """Hold probabilities against what happened.

    Args:
        stated: [n] probabilities, 0 to 1.
        outcome: [n] 1 where it happened, 0 where not, between where it is itself known as a share (votes).
        bins: of equal width.

    Raises:
        ValueError: there is nothing to compare, or something lies outside [0, 1].
    """
    said, came = np.asarray(stated, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    if said.ndim != 1 or said.shape != came.shape or not len(said):
        raise ValueError(f"as many statements as outcomes are compared, not {said.shape} and {came.shape}")
    if not ((said >= 0) & (said <= 1) & (came >= 0) & (came <= 1)).all():
        raise ValueError("probabilities and outcomes lie from 0 to 1")
    place = np.minimum((said * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins).astype(np.float64)
    filled = np.flatnonzero(count)
    mean_said = np.bincount(place, weights=said, minlength=bins)[filled] / count[filled]
    mean_came = np.bincount(place, weights=came, minlength=bins)[filled] / count[filled]
    sure = np.clip(said, 1e-12, 1 - 1e-12)
    return Calibration(
        brier=float(np.mean((said - came) ** 2)),
        log_loss=float(-np.mean(came * np.log(sure) + (1 - came) * np.log1p(-sure))),
        error=float((count[filled] * np.abs(mean_said - mean_came)).sum() / count.sum()),
        bins=tuple(
            Bin(float(one / bins), float((one + 1) / bins), float(count[one]), float(first), float(second))
            for one, first, second in zip(filled, mean_said, mean_came, strict=True)
        ),
    )
