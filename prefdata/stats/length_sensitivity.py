"""How much preferences, and what a policy learned of them, go by length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import check_magnitude
from prefdata.stats.estimate import Estimate, normal_quantile
from prefdata.stats.intervals import wilson_interval

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LengthSensitivity:
    """Pairs by length.

    Attributes:
        longer: share of pairs whose preferred response is the longer one, equal lengths half; Wilson's interval.
        mean_gap: mean of the preferred response's tokens less the other's, with its interval (normal).
        median_gap: None without pairs.
        correlation: Pearson's, of margins and length gaps, with Fisher's interval; None without margins or variation.
        slope: of the least-squares line of margins on gaps, with its interval (normal, robust).
    """

    longer: Estimate
    mean_gap: Estimate
    median_gap: float | None
    correlation: Estimate
    slope: Estimate


def length_sensitivity(
    gaps: ArrayLike, margins: ArrayLike | None = None, *, confidence: float = 0.95
) -> LengthSensitivity:
    """How pairs, and the margins of a reward on them, depend on the difference of lengths.

    Args:
        gaps: [n] tokens of the preferred response less those of the other, counted by the policy's own tokenizer and
            without padding; NaN is left out.
        margins: [n] implicit or explicit reward of the preferred response less the other's.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: shapes that do not fit, or an infinite number.

    Source: LD-DPO (Length Desensitization in Direct Preference Optimization); the figures are standard.
    """
    g = np.asarray(gaps, dtype=np.float64).ravel()
    m = np.full(len(g), np.nan) if margins is None else np.asarray(margins, dtype=np.float64).ravel()
    if m.shape != g.shape:
        raise ValueError(f"one margin for each length gap is needed; they are {m.shape} and {g.shape}")
    if np.isinf(g).any() or np.isinf(m).any():
        raise ValueError("a length gap or a margin is infinite: leave such pairs out first")
    check_magnitude(g, "a length gap")
    check_magnitude(m, "a margin")
    z = normal_quantile(confidence)
    known = g[~np.isnan(g)]
    nothing = Estimate(None, None, None, len(known))
    if not len(known):
        return LengthSensitivity(nothing, nothing, None, nothing, nothing)
    hits = float((0.5 + 0.5 * np.sign(known)).sum())
    low, high = wilson_interval(hits, len(known), confidence)
    longer = Estimate(hits / len(known), low, high, len(known))
    mean = float(known.mean())
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else np.nan
    ends: tuple[float | None, float | None] = (None, None)
    if not np.isnan(error):
        ends = mean - z * error, mean + z * error
    both = ~np.isnan(g) & ~np.isnan(m)
    correlation, slope = _line(g[both], m[both], z)
    return LengthSensitivity(
        longer, Estimate(mean, ends[0], ends[1], len(known)), float(np.median(known)), correlation, slope
    )


def _line(x: FloatArray, y: FloatArray, z: float) -> tuple[Estimate, Estimate]:
    n = len(x)
    if n < 2 or x.min() == x.max():
        return Estimate(None, None, None, n), Estimate(None, None, None, n)
    dx, dy = x - x.mean(), y - y.mean()
    sxx, syy = float((dx**2).sum()), float((dy**2).sum())
    if sxx == 0:  # so small that squares are nothing
        return Estimate(None, None, None, n), Estimate(None, None, None, n)
    b = float((dx * dy).sum()) / sxx
    error = float(np.sqrt((dx**2 * (dy - b * dx) ** 2).sum())) / sxx
    slope = Estimate(b, b - z * error, b + z * error, n) if n > 2 else Estimate(b, None, None, n)
    if y.min() == y.max() or sxx * syy == 0:
        return Estimate(None, None, None, n), slope
    r = float((dx * dy).sum() / np.sqrt(sxx * syy))
    if n < 4 or abs(r) >= 1:
        return Estimate(max(-1.0, min(1.0, r)), None, None, n), slope
    half = z / np.sqrt(n - 3)
    low, high = (float(np.tanh(np.arctanh(r) + sign * half)) for sign in (-1, 1))
    return Estimate(r, low, high, n), slope


def desensitised_logprob(values: ArrayLike, other_length: int, alpha: float) -> float:
    """`sum of the first l_p values + alpha * sum of the rest`, with l_p the length of the shorter response.

    Args:
        values: [n] log-probabilities of the tokens of one response.
        other_length: tokens of the other one.
        alpha: 1 is the plain sum, 0 cuts the longer response off.

    Raises:
        ValueError: alpha outside [0, 1], or a negative length.

    Source: LD-DPO, equation 8 (`lp_LD`).
    """
    if not 0 <= alpha <= 1 or other_length < 0:
        raise ValueError(f"alpha lies from 0 to 1 and a length is not negative; they are {alpha} and {other_length}")
    lp = np.asarray(values, dtype=np.float64)
    shared = min(len(lp), other_length)
    return float(lp[:shared].sum() + alpha * lp[shared:].sum())


@dataclass(frozen=True)
class Divergence:
    """The KL divergence of a policy from its reference, by three estimators; None without tokens.

    Attributes:
        k1: mean d: unbiased, may be negative.
        k2: mean d^2 / 2: biased, little variance.
        k3: mean (e^-d - 1 + d): unbiased and never negative.
    """

    k1: float | None
    k2: float | None
    k3: float | None


def divergence(differences: ArrayLike) -> Divergence:
    """KL estimates from `d = lp_policy - lp_reference` of tokens that the policy drew.

    Args:
        differences: any shape; NaN is left out.

    Raises:
        ValueError: an infinite difference, or one below -500: a token that the policy drew and finds impossible.

    Source: Schulman 2020, Approximating KL Divergence.
    """
    d = np.asarray(differences, dtype=np.float64).ravel()
    d = d[~np.isnan(d)]
    if np.isinf(d).any() or (d < -500).any():
        raise ValueError("a difference of log-probabilities is infinite or below -500: the policy cannot have drawn it")
    check_magnitude(d, "a difference of log-probabilities")
    if not d.size:
        return Divergence(None, None, None)
    return Divergence(float(d.mean()), float((d**2 / 2).mean()), float((np.expm1(-d) + d).mean()))
