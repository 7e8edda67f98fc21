"""What an estimator returns: a number, or numbers, with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from prefdata.stats.intervals import check_confidence

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval. A method with more to say returns a subclass, or has these fields among its own.

    Attributes:
        value: None where it cannot be computed from what was given.
        low: lower end; None where there is no interval.
        high: upper end.
        n: how many things it rests on (pairs, units, prompts: the function says which).
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Estimates:
    """Numbers, each with its interval. NaN stands where one cannot be computed, never a number that looks like one.

    Attributes:
        values: [n].
        low: [n] lower ends.
        high: [n] upper ends.
    """

    values: FloatArray
    low: FloatArray
    high: FloatArray


def normal_quantile(confidence: float) -> float:
    """Z such that a normal variable lies within z standard deviations with this probability: 1.96 for 0.95.

    Raises:
        ValueError: a confidence outside (0, 1).
    """
    check_confidence(confidence)
    return NormalDist().inv_cdf(0.5 + confidence / 2)


@dataclass(frozen=True)
class Agreement(Estimate):
    """How far annotators agree, beyond chance.

    Attributes:
        percent: how often they agree, what is left to chance included, 0 to 1; None where nothing can be compared.
    """

    percent: float | None
