r"""How likely an annotator's verdict is, given the strengths: three models, with their derivatives.

With d = theta_winner - theta_loser, A = sigma(d), and s = 1 where the winner was shown first, -1 where second, 0 where
that is unknown:

- crowd (Chen, Bennett, Collins-Thompson and Horvitz, 2013): e A + (1 - e)(1 - A); below e = 1/2 an adversary.
- noisy (Bugakova et al., 2019): e A + (1 - e) sigma(s b); with probability 1 - e they do not look, and take a side.
- discrimination: sigma(e d + s b); e = 1 is Bradley-Terry, e < 0 an adversary, b a pull to what is shown first.

The derivatives are of the logarithm, for each row by d, by e and by b. `tests/stats` holds them to finite differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from prefdata.stats.coding import FloatArray

Kind = Literal["crowd", "noisy", "discrimination"]
_LEAST = 1e-300


class First(NamedTuple):
    """Rows: log-likelihood, and its derivatives by d, e and b (None where the model has no b)."""

    value: FloatArray
    d: FloatArray
    e: FloatArray
    b: FloatArray | None


class Second(NamedTuple):
    """Rows: second derivatives."""

    dd: FloatArray
    de: FloatArray
    ee: FloatArray
    db: FloatArray | None
    eb: FloatArray | None
    bb: FloatArray | None


def probability(kind: Kind, d: FloatArray, e: FloatArray, b: FloatArray, side: FloatArray) -> FloatArray:
    """P(the verdict) of each row."""
    from scipy.special import expit

    if kind == "discrimination":
        return np.asarray(expit(e * d + side * b))
    a = expit(d)
    other = expit(side * b) if kind == "noisy" else 1 - a
    return np.asarray(e * a + (1 - e) * other)


def first(kind: Kind, d: FloatArray, e: FloatArray, b: FloatArray | None, side: FloatArray | None) -> First:
    """Value and slopes of log P. `b` and `side` are None where no row says who was first."""
    from scipy.special import expit

    if kind == "discrimination":
        x = e * d if b is None or side is None else e * d + side * b
        wrong = expit(-x)
        value = -np.logaddexp(0.0, -x)
        return First(value, wrong * e, wrong * d, None if side is None else wrong * side)
    a = expit(d)
    slope = a * (1 - a)
    if kind == "crowd":
        right = 2 * a - 1
        likelihood = np.maximum(e * right + (1 - a), _LEAST)
        return First(np.log(likelihood), (2 * e - 1) * slope / likelihood, right / likelihood, None)
    guess = 0.5 if b is None or side is None else expit(side * b)
    likelihood = np.maximum(e * a + (1 - e) * guess, _LEAST)
    pull = None if side is None else (1 - e) * guess * (1 - guess) * side / likelihood
    return First(np.log(likelihood), e * slope / likelihood, (a - guess) / likelihood, pull)


def second(kind: Kind, d: FloatArray, e: FloatArray, b: FloatArray | None, side: FloatArray | None) -> Second:
    """Curvatures of log P."""
    from scipy.special import expit

    if kind == "discrimination":
        x = e * d if b is None or side is None else e * d + side * b
        p = expit(x)
        v = p * (1 - p)
        de = (1 - p) - v * e * d
        if side is None:
            return Second(-v * e**2, de, -v * d**2, None, None, None)
        return Second(-v * e**2, de, -v * d**2, -v * e * side, -v * d * side, -v * side**2)
    a = expit(d)
    slope = a * (1 - a)
    there = first(kind, d, e, b, side)
    likelihood = np.exp(there.value)
    if kind == "crowd":
        dd = (2 * e - 1) * slope * (1 - 2 * a) / likelihood - there.d**2
        return Second(dd, 2 * slope / likelihood - there.d * there.e, -(there.e**2), None, None, None)
    dd = e * slope * (1 - 2 * a) / likelihood - there.d**2
    de = slope / likelihood - there.d * there.e
    if b is None or side is None or there.b is None:
        return Second(dd, de, -(there.e**2), None, None, None)
    guess = expit(side * b)
    curve = guess * (1 - guess)
    eb = -curve * side / likelihood - there.e * there.b
    bb = (1 - e) * curve * (1 - 2 * guess) * side**2 / likelihood - there.b**2
    return Second(dd, de, -(there.e**2), -there.d * there.b, eb, bb)


@dataclass(frozen=True)
class Priors:
    """What is believed of strengths and annotators before.

    Attributes:
        strength: virtual comparisons of each contestant with an average one, half won and half lost.
        ability: crowd and noisy: Beta counts of e, on its logit; discrimination: mean and standard deviation of e.
        position: standard deviation of an annotator's b around the common one, which itself is N(0, 1).
    """

    strength: float
    ability: tuple[float, float]
    position: float


def ability_prior(kind: Kind, e: FloatArray, prior: tuple[float, float]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log-density of each ability in its working parameter (its logit, or itself), its slope and its curvature."""
    if kind == "discrimination":
        away = e - prior[0]
        return -0.5 * (away / prior[1]) ** 2, -away / prior[1] ** 2, np.full(len(e), -1 / prior[1] ** 2)
    yes, no = prior
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where((e > 0) & (e < 1), yes * np.log(e) + no * np.log1p(-e), 0.0)
    return value, yes * (1 - e) - no * e, -(yes + no) * e * (1 - e)
