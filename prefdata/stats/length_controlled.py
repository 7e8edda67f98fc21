r"""The length-controlled win rate of a model against a baseline, as AlpacaEval publishes it.

Dubois et al., 2024, Length-Controlled AlpacaEval. It is a logistic regression without an
intercept on three features of each prompt i, of probabilities y_i that the model's response is better:

    logit P = phi tanh(d_i / s) + psi q_i + theta,   d_i = baseline's length - model's length,   s = sd(d), n - 1

with q_i the fixed difficulty of the prompt. The rate is mean_i sigma(psi q_i + theta): the length term is set to 0. A
judge that likes length has phi < 0. The published fit keeps phi finite by further rows, of the baseline told to be
brief and told to be verbose, whose third feature is 0 and whose weight is 0.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.checking import check_magnitude
from prefdata.stats.coding import FloatArray, IntArray, codes
from prefdata.stats.estimate import Estimate, Estimates, normal_quantile
from prefdata.stats.logistic import logistic, sigmoid
from prefdata.stats.win_rate import WinRate, checked_outcomes, cluster_codes, win_rate

GAMED_WEIGHT = 0.1
"""Of each row of the gamed baselines: 0.2 for the two of them together, as published."""
FEW_ROWS = 100
"""Below so many prompts a length-controlled rate is remarked upon."""
LARGE_SHIFT = 0.15
"""A length-controlled rate so far from the raw one is remarked upon; the number is ours."""
_SMALL = 1e-6
"""Ridge of a model's own terms: one that wins always has no finite constant."""


@dataclass(frozen=True)
class LengthControl:
    """The three coefficients of a model: its own, or a baseline's own (for which all are 0).

    Attributes:
        length: phi, of tanh(d/s); negative where the judge likes length.
        difficulty: psi, of the prompt's difficulty.
        constant: theta.
    """

    length: float = 0.0
    difficulty: float = 0.0
    constant: float = 0.0

    def win_rate(self, difficulty: ArrayLike | None = None, against: LengthControl | None = None) -> float:
        """mean_i sigma((theta - theta_b) + (psi - psi_b) q_i): 0.5 against itself, by construction.

        Args:
            difficulty: [n] of the prompts; without it, psi plays no part.
            against: another model, in place of the baseline that both were compared with.

        Raises:
            ValueError: a difficulty that is missing or infinite, or none at all.
        """
        other = against or LengthControl()
        q = np.zeros(1) if difficulty is None else np.asarray(difficulty, dtype=np.float64)
        if not q.size or not np.isfinite(q).all():
            raise ValueError("each prompt needs a finite difficulty")
        return float(sigmoid((self.constant - other.constant) + (self.difficulty - other.difficulty) * q).mean())


@dataclass(frozen=True)
class Gamed:
    """Rows of baselines whose length was played with, which keep the length coefficient finite.

    Attributes:
        length: [m] tanh(d/s) of each.
        difficulty: [m] of its prompt; zeros where difficulty plays no part.
        outcomes: [m] P(this variant better); None where only the two sums are known.
        sums: (sum of length x outcome, sum of difficulty x outcome): all that the fit needs of the outcomes.
        weight: of each row.
    """

    length: FloatArray
    difficulty: FloatArray
    outcomes: FloatArray | None = None
    sums: tuple[float, float] | None = None
    weight: float = GAMED_WEIGHT


@dataclass(frozen=True)
class LengthControlled(Estimate):
    """A length-controlled win rate; `value` is 0 to 1, and `n` counts the prompts.

    Attributes:
        standard_error: of the value: sandwich for the coefficients, the delta method, and the draw of the prompts.
        coefficients: phi, psi and theta; 0 for a feature that was skipped.
        errors: their standard errors; NaN for a feature that was skipped.
        raw: the win rate as it is, with its interval.
        length_ratio: the model's mean length over the baseline's; None where that is 0.
        converged: whether the fit was.
        remarks: sentences on what a reader should know.
    """

    standard_error: float | None
    coefficients: LengthControl
    errors: LengthControl
    raw: WinRate
    length_ratio: float | None
    converged: bool
    remarks: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Difficulty(Estimates):
    """How hard prompts are to win; higher is easier for the model.

    Attributes:
        prompts: [n] in the order of the values.
        converged: whether the last step was below 1e-9.
    """

    prompts: list[Any]
    converged: bool


def length_feature(lengths: ArrayLike, baseline_lengths: ArrayLike) -> FloatArray:
    """[n] tanh((baseline - model) / s), s the sample standard deviation (n - 1); 0 where the differences are all 0.

    Raises:
        ValueError: lists of different lengths, or a length that is missing, infinite or negative.
    """
    ours, theirs = np.asarray(lengths, dtype=np.float64), np.asarray(baseline_lengths, dtype=np.float64)
    if ours.ndim != 1 or ours.shape != theirs.shape:
        raise ValueError(f"each prompt needs two lengths; they are {ours.shape} and {theirs.shape}")
    if not ((ours >= 0) & (theirs >= 0) & np.isfinite(ours) & np.isfinite(theirs)).all():
        raise ValueError("a length is missing, infinite or negative: leave such prompts out first")
    check_magnitude(ours, "a length")
    check_magnitude(theirs, "a length")
    difference = theirs - ours
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    made: FloatArray = np.tanh(difference / spread) if spread > 0 else np.zeros(len(difference))
    return made


def length_controlled_win_rate(
    outcomes: ArrayLike,
    lengths: ArrayLike,
    baseline_lengths: ArrayLike,
    difficulty: ArrayLike | None = None,
    *,
    gamed: Gamed | None = None,
    weights: LengthControl | Mapping[str, float] | None = None,
    ridge: float = 0.0,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> LengthControlled:
    """What the win rate against the baseline would be, were the responses equally long.

    The published fit also has an L1 penalty chosen by cross-validation, which is not made again here: with the gamed
    rows a refit comes within 0.12 points of what is published.

    Args:
        outcomes: [n] P(model better) in [0, 1], one a prompt.
        lengths: [n] of the model's responses, in characters.
        baseline_lengths: [n] of the baseline's.
        difficulty: [n] of the prompts (see `instruction_difficulty`); without it that feature is left out.
        gamed: further rows; see `Gamed`.
        weights: published coefficients: then nothing is fitted, and there is no interval.
        ridge: penalty b^2 ridge/2 of each coefficient; needed where the model wins, or loses, every time.
        clusters: [n] prompts of one cluster depend on one another; each by itself unless given.
        confidence: of the interval, in (0, 1). It is normal on the logit of the rate.

    Raises:
        ValueError: lists of different lengths, a number that is missing or out of range, or outcomes without a finite
            fit.
    """
    y = checked_outcomes(outcomes)
    t = length_feature(lengths, baseline_lengths)
    if t.shape != y.shape or not len(y):
        raise ValueError(f"each prompt needs an outcome and two lengths; there are {len(y)} and {len(t)}")
    q = None if difficulty is None else np.asarray(difficulty, dtype=np.float64)
    if q is not None and (q.shape != y.shape or not np.isfinite(q).all()):
        raise ValueError(f"each of the {len(y)} prompts needs a finite difficulty; there are {q.shape}")
    if q is not None:
        check_magnitude(q, "a difficulty")
    raw = win_rate(y, clusters=clusters, confidence=confidence)
    theirs = float(np.asarray(baseline_lengths, dtype=np.float64).mean())
    ratio = float(np.asarray(lengths, dtype=np.float64).mean()) / theirs if theirs else None
    if weights is not None:
        given = weights if isinstance(weights, LengthControl) else LengthControl(**weights)
        value = given.win_rate(np.zeros(len(y)) if q is None else q)
        nothing = LengthControl(float("nan"), float("nan"), float("nan"))
        remarks = _remarks(value, raw, t, len(y))
        return LengthControlled(value, None, None, len(y), None, given, nothing, raw, ratio, True, remarks)
    return _fitted(y, t, q, gamed, ridge, cluster_codes(clusters, len(y))[0], raw, ratio, confidence)


def instruction_difficulty(
    outcomes: ArrayLike,
    models: Sequence[Any],
    prompts: Sequence[Any],
    length: ArrayLike | None = None,
    *,
    ridge: float = 1.0,
    confidence: float = 0.95,
) -> Difficulty:
    """How hard each prompt is to win, from many models on the same prompts: the feature q of a length-controlled rate.

    One fit of logit P = phi_m t + theta_m + q_i, as published with psi fixed to 1, and a ridge on q in place of what
    keeps theirs finite. A win rate is the same for any shift and scale of q.

    Args:
        outcomes: [n] P(model better) in [0, 1].
        models: [n] which model.
        prompts: [n] which prompt.
        length: [n] from `length_feature`, taken for each model; without it there is no such term.
        ridge: penalty of each q, above 0.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: lists of different lengths, a number that is missing or out of range.
    """
    y = checked_outcomes(outcomes)
    t = np.zeros(len(y)) if length is None else np.asarray(length, dtype=np.float64)
    if not (len(models) == len(prompts) == len(y)) or t.shape != y.shape or not np.isfinite(t).all() or not len(y):
        raise ValueError("each row needs an outcome, a model, a prompt and, if any has one, a finite length feature")
    if not (ridge > 0 and np.isfinite(ridge)):
        raise ValueError(f"the ridge must be finite and above 0; it is {ridge}")
    check_magnitude(t, "a length feature")
    (of, kinds), (on, count) = codes(list(models)), codes(list(prompts))
    border, q, converged = np.zeros(2 * kinds), np.zeros(count), False
    for _ in range(200):
        p = sigmoid(border[of] * t + border[kinds + of] + q[on])
        v, rest = p * (1 - p), y - p
        inverse, across, diagonal = _bordered(v, t, of, on, kinds, count, ridge)
        g_border = np.concatenate([np.bincount(of, rest * t, kinds), np.bincount(of, rest, kinds)]) - _SMALL * border
        g_q = np.bincount(on, rest, count) - ridge * q
        step = inverse @ (g_border - across.T @ g_q)
        step_q = g_q / diagonal - across @ step
        largest = max(float(np.abs(step).max()), float(np.abs(step_q).max()))
        scale = min(1.0, 2.0 / largest) if largest else 1.0
        border, q = border + scale * step, q + scale * step_q
        if largest < 1e-9:
            converged = True
            break
    half = normal_quantile(confidence) * np.sqrt(1 / diagonal + ((across @ inverse) * across).sum(axis=1))
    return Difficulty(q, q - half, q + half, list(dict.fromkeys(prompts)), converged)


def _bordered(
    v: FloatArray, t: FloatArray, of: IntArray, on: IntArray, kinds: int, count: int, ridge: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The information of models (t and constant) and prompts, where prompts meet only through models.

    Returns:
        [2m, 2m] the inverse for the models with the prompts eliminated, [n, 2m] the block between the two over the
        diagonal of the prompts, and that diagonal [n].
    """
    diagonal = np.asarray(np.bincount(on, v, count) + ridge, dtype=np.float64)
    cell, size = on * kinds + of, count * kinds
    cross = np.concatenate([np.bincount(cell, one, size).reshape(count, kinds) for one in (v * t, v)], axis=1)
    corner = np.diag(np.concatenate([np.bincount(of, v * t * t, kinds), np.bincount(of, v, kinds)]) + _SMALL)
    place = np.arange(kinds)
    corner[place, kinds + place] = corner[kinds + place, place] = np.bincount(of, v * t, kinds)
    across = cross / diagonal[:, None]
    inverse = np.asarray(np.linalg.inv(corner - cross.T @ across), dtype=np.float64)
    return inverse, across, diagonal


def _fitted(
    y: FloatArray,
    t: FloatArray,
    q: FloatArray | None,
    gamed: Gamed | None,
    ridge: float,
    of: IntArray,
    raw: WinRate,
    ratio: float | None,
    confidence: float,
) -> LengthControlled:
    columns = {"length": t, "difficulty": q, "constant": np.ones(len(y))}
    used = {name: column for name, column in columns.items() if column is not None and column.any()}
    x = np.column_stack(list(used.values()))
    everything, said, weight = x, y, np.ones(len(y))
    if gamed is not None:
        more, labels = _gamed_rows(gamed, list(used))
        everything = np.vstack([x, more])
        said = np.concatenate([y, labels])
        weight = np.concatenate([weight, np.full(len(more), gamed.weight)])
    try:
        fit = logistic(everything, said, weight, ridge=ridge, confidence=confidence)
    except ValueError as problem:
        if "separate" not in str(problem):
            raise
        raise ValueError("the features foretell every outcome, so the fit has no end: give a ridge, say 1") from None
    p_all = sigmoid(everything @ fit.values)
    information = (everything * (weight * p_all * (1 - p_all))[:, None]).T @ everything + ridge * np.eye(x.shape[1])
    inverse = np.linalg.pinv(information)
    # The gamed rows are a fixed penalty: what is drawn are the prompts, by way of their rows and of the mean.
    held = x.copy()
    if "length" in used:
        held[:, list(used).index("length")] = 0.0
    p_held = sigmoid(held @ fit.values)
    value = float(p_held.mean())
    slope = (held * (p_held * (1 - p_held))[:, None]).mean(axis=0)
    score = x * (y - sigmoid(x @ fit.values))[:, None]
    summed = np.column_stack([np.bincount(of, column) for column in score.T])
    influence = summed @ inverse @ slope + np.bincount(of, p_held - value) / len(y)
    error, low, high = None, None, None
    if len(summed) > 1:
        error = float(np.sqrt(influence @ influence))
        half = normal_quantile(confidence) * error / max(value * (1 - value), np.finfo(float).tiny)
        centre = np.log(value) - np.log1p(-value) if 0 < value < 1 else float("nan")
        low, high = (float(end) for end in sigmoid(np.array([centre - half, centre + half])))
        low, high = (None, None) if low != low else (low, high)
    spread = np.sqrt(np.diag(inverse @ (summed.T @ summed) @ inverse))
    values = LengthControl(**dict(zip(used, map(float, fit.values), strict=True)))
    errors = LengthControl(
        **{name: float("nan") for name in columns} | dict(zip(used, map(float, spread), strict=True))
    )
    remarks = _remarks(value, raw, t, len(y))
    return LengthControlled(value, low, high, len(y), error, values, errors, raw, ratio, fit.converged, remarks)


def _gamed_rows(gamed: Gamed, used: list[str]) -> tuple[FloatArray, FloatArray]:
    """Features and labels; where only sums are known, labels that have these sums (they lead to the same fit)."""
    length, difficulty = (np.asarray(one, dtype=np.float64) for one in (gamed.length, gamed.difficulty))
    if length.ndim != 1 or length.shape != difficulty.shape or not np.isfinite([length, difficulty]).all():
        raise ValueError("each gamed row needs a finite length feature and a finite difficulty")
    if not (gamed.weight >= 0 and np.isfinite(gamed.weight)):
        raise ValueError(f"the weight of gamed rows must be finite and not negative; it is {gamed.weight}")
    if gamed.outcomes is not None:
        labels = checked_outcomes(gamed.outcomes)
        if labels.shape != length.shape:
            raise ValueError(f"each of the {len(length)} gamed rows needs an outcome; there are {len(labels)}")
    elif gamed.sums is None:
        raise ValueError("gamed rows need outcomes, or the two sums over them")
    else:
        labels = _labels_of(np.column_stack([length, difficulty]), np.asarray(gamed.sums, dtype=np.float64))
    every = {"length": length, "difficulty": difficulty, "constant": np.zeros(len(length))}
    return np.column_stack([every[name] for name in used]), labels


def _labels_of(features: FloatArray, sums: FloatArray) -> FloatArray:
    """[m] labels in (0, 1) with X'y = sums: those of the logistic regression whose gradient that makes 0."""
    if sums.shape != (2,) or not np.isfinite(sums).all():
        raise ValueError("the sums of gamed rows are two finite numbers")
    beta = np.zeros(2)
    for _ in range(100):
        p = sigmoid(features @ beta)
        gradient = sums - features.T @ p
        if float(np.abs(gradient).max()) < 1e-9:
            return p
        information = (features * (p * (1 - p))[:, None]).T @ features
        step = np.linalg.lstsq(information, gradient, rcond=None)[0]
        beta = beta + step * min(1.0, 2.0 / float(np.abs(step).max() or 1.0))
    raise ValueError("no outcomes between 0 and 1 have the sums that are given for the gamed rows")


def _remarks(value: float, raw: WinRate, t: FloatArray, n: int) -> tuple[str, ...]:
    said = []
    if n < FEW_ROWS:
        said.append(f"it rests on {n} prompts; fewer than {FEW_ROWS} are few for a regression")
    if not t.any():
        said.append("all responses are as long as the baseline's, so there is no length to control for")
    if raw.value is not None and abs(value - raw.value) > LARGE_SHIFT:
        said.append(
            f"the raw win rate is {raw.value:.2f}, and length control moves it to {value:.2f}: few pairs are of like "
            f"length, so this is an extrapolation"
        )
    return tuple(said)
