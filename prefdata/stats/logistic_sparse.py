"""Logistic regression of many features, dense or sparse, with a ridge: where `logistic` would be too large a matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from prefdata.stats.coding import FloatArray
from prefdata.stats.logistic import sigmoid

_STEPS, _INNER, _TOLERANCE = 30, 60, 1e-5


def ridge_logistic(x: Any, y: FloatArray, ridge: float = 1.0) -> tuple[FloatArray, float]:
    """Coefficients and intercept of a logistic regression with a ridge on the coefficients: Newton's method.

    Each step is solved by conjugate gradients, so that words by the thousand cost a few passes over the rows. (L-BFGS
    of SciPy takes twenty times as long where its threads have to share a core.)

    Args:
        x: [n, k] dense or sparse.
        y: [n] 1 or 0.
        ridge: penalty, ridge/2 times the sum of squares on the summed loss.
    """
    penalty = np.append(np.full(x.shape[1], ridge), 0.0)
    turned = x.T.tocsr() if hasattr(x, "tocsr") else x.T

    def gradient_of(rows: FloatArray) -> FloatArray:
        return np.append(turned @ rows, rows.sum())

    def loss(w: FloatArray, logit: FloatArray) -> float:
        return float((np.logaddexp(0, logit) - y * logit).sum() + 0.5 * (penalty * w**2).sum())

    w, logit = np.zeros(x.shape[1] + 1), np.zeros(len(y))
    value = loss(w, logit)
    for _ in range(_STEPS):
        p = sigmoid(logit)
        gradient = gradient_of(y - p) - penalty * w
        if np.abs(gradient).max() <= _TOLERANCE * len(y):
            break
        curved = p * (1 - p) + 1e-9

        def product(v: FloatArray, curved: FloatArray = curved) -> FloatArray:
            return gradient_of(curved * (x @ v[:-1] + v[-1])) + penalty * v

        step = _conjugate(product, gradient)
        along, size = x @ step[:-1] + step[-1], 1.0
        while (there := loss(w + size * step, logit + size * along)) > value and size > 1e-6:
            size /= 2
        w, logit, value = w + size * step, logit + size * along, there
    return w[:-1], float(w[-1])


def _conjugate(product: Callable[[FloatArray], FloatArray], wanted: FloatArray) -> FloatArray:
    """The solution of a positive definite system, to a hundredth of its right side."""
    found, rest = np.zeros_like(wanted), wanted.copy()
    way, norm = rest.copy(), float((rest**2).sum())
    goal = 1e-4 * norm
    for _ in range(_INNER):
        turned = product(way)
        size = norm / float((way * turned).sum())
        found, rest = found + size * way, rest - size * turned
        now = float((rest**2).sum())
        if now <= goal:
            break
        way, norm = rest + (now / norm) * way, now
    return found
