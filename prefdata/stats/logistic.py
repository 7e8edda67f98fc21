r"""Logistic regression of soft outcomes, with weights, a ridge and clusters: exact Newton.

Maximises sum_i w_i [y_i log p_i + (1 - y_i) log(1 - p_i)] - 1/2 sum_k ridge_k b_k^2 with p = sigma(offset + X b). A
soft outcome y in (0, 1) is the same as two rows, one with y = 1 and weight w y, one with y = 0 and weight w (1 - y).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import check_magnitude, checked_weights
from prefdata.stats.estimate import normal_quantile

FloatArray = NDArray[np.float64]

_STEPS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Logistic:
    """Coefficients of a logistic regression.

    Attributes:
        values: [k] coefficients.
        low: [k] lower ends of their intervals (normal, from the covariance).
        high: [k] upper ends.
        covariance: [k, k], the sandwich H^-1 B H^-1, by rows or by clusters.
        converged: whether the last step was small.
    """

    values: FloatArray
    low: FloatArray
    high: FloatArray
    covariance: FloatArray
    converged: bool

    def probability(self, features: ArrayLike, offset: ArrayLike = 0.0) -> FloatArray:
        """[n] P(y = 1) of rows [n, k]."""
        return sigmoid(np.asarray(features, dtype=np.float64) @ self.values + np.asarray(offset, dtype=np.float64))


def logistic(
    features: ArrayLike,
    outcome: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    ridge: float | ArrayLike = 0.0,
    offset: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Logistic:
    """Fit. There is no intercept but a column of ones.

    Args:
        features: [n, k] finite numbers.
        outcome: [n] in [0, 1].
        weights: [n] not negative; 1 each unless given.
        ridge: penalty of each coefficient, a number or [k]; needed where the outcomes can be separated.
        offset: [n] added to the logit.
        clusters: [n] rows of one cluster depend on one another (a prompt, an annotator); each row by itself unless
            given.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: shapes that do not fit, a number that is not finite or out of range, no rows, or outcomes that the
            features separate while there is no ridge (the coefficients would be infinite).
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    if x.ndim != 2 or y.shape != (len(x),) or not x.size:
        raise ValueError(f"rows of features and one outcome for each are needed; they are {x.shape} and {y.shape}")
    w = checked_weights(weights, len(y))
    base = np.zeros(len(y)) if offset is None else np.broadcast_to(np.asarray(offset, dtype=np.float64), y.shape)
    penalty = np.broadcast_to(np.asarray(ridge, dtype=np.float64), (x.shape[1],))
    if not (np.isfinite(x).all() and np.isfinite(base).all()):
        raise ValueError("a feature or an offset is missing or infinite: leave such rows out first")
    check_magnitude(x, "a feature")
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError("outcomes must lie in [0, 1]: they are probabilities of a yes")
    if not w.any():
        raise ValueError("all weights are zero, so nothing is left to fit")
    if not ((penalty >= 0) & np.isfinite(penalty)).all():
        raise ValueError("the ridge must be finite and not negative")
    beta, converged = _newton(x, y, w, base, penalty)
    if not penalty.all() and (not converged or _flat(x, w, base, beta)):
        raise ValueError("the features separate the outcomes, so the coefficients are not finite: give a ridge")
    p = sigmoid(base + x @ beta)
    information = (x * (w * p * (1 - p))[:, None]).T @ x + np.diag(penalty)
    score = x * (w * (y - p))[:, None]
    if clusters is not None:
        _, of = np.unique(np.asarray(clusters), return_inverse=True)
        summed = np.zeros((int(of.max()) + 1, x.shape[1]))
        np.add.at(summed, of, score)
        score = summed
    inverse = np.linalg.pinv(information)
    covariance = inverse @ (score.T @ score) @ inverse
    half = normal_quantile(confidence) * np.sqrt(np.clip(np.diag(covariance), 0, None))
    return Logistic(beta, beta - half, beta + half, covariance, converged)


def sigmoid(x: ArrayLike) -> FloatArray:
    """1/(1 + e^-x), exactly odd about 0 (p and 1 - p of opposite logits add up to 1), and without overflow."""
    result: FloatArray = 0.5 + 0.5 * np.tanh(np.asarray(x, dtype=np.float64) / 2)
    return result


def log_sigmoid(x: ArrayLike) -> FloatArray:
    """log(1/(1 + e^-x)) without overflow."""
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        result: FloatArray = -np.logaddexp(0.0, -np.asarray(x, dtype=np.float64))
    return result


def _newton(
    x: FloatArray, y: FloatArray, w: FloatArray, base: FloatArray, penalty: FloatArray
) -> tuple[FloatArray, bool]:
    beta = np.zeros(x.shape[1])
    value = _objective(x, y, w, base, penalty, beta)
    for _ in range(_STEPS):
        logit = base + x @ beta
        p = sigmoid(logit)
        gradient = x.T @ (w * (y - p)) - penalty * beta
        information = (x * (w * p * (1 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.lstsq(information, gradient, rcond=None)[0]
        size = float(np.abs(step).max())
        if size <= _TOLERANCE * (1 + float(np.abs(beta).max())):
            return beta + step, True
        if float(np.abs(logit).max()) > 500:
            return beta, False
        for _ in range(40):  # a full step may overshoot; halving it restores the ascent
            there = _objective(x, y, w, base, penalty, beta + step)
            if there >= value - 1e-12 * (1 + abs(value)):
                break
            step = step / 2
        beta, value = beta + step, there
    return beta, False


def _flat(x: FloatArray, w: FloatArray, base: FloatArray, beta: FloatArray) -> bool:
    """Whether the likelihood has lost its curvature along the solution: there it still rises, towards infinity."""
    along = x @ beta
    p = sigmoid(base + along)
    start = float((w * along**2).sum()) / 4
    return start > 0 and float((w * p * (1 - p) * along**2).sum()) < 1e-9 * start


def _objective(
    x: FloatArray, y: FloatArray, w: FloatArray, base: FloatArray, penalty: FloatArray, beta: FloatArray
) -> float:
    logit = base + x @ beta
    likelihood = (w * (y * log_sigmoid(logit) + (1 - y) * log_sigmoid(-logit))).sum()
    return float(likelihood - 0.5 * (penalty * beta**2).sum())
