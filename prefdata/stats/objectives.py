"""Several objectives at once: weights that hurt none of them, and how far a proxy is worth following."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.checking import checked_numbers
from prefdata.stats.coding import FloatArray
from prefdata.stats.estimate import Estimate, normal_quantile


def min_norm_weights(gradients: ArrayLike) -> FloatArray:
    """[T] weights of tasks, not negative and with sum 1, whose mixed gradient is shortest.

    Along that mixture no task gets worse; where it is zero none can improve without another's loss. Of two tasks it is
    a = (g2.g2 - g1.g2) / (g1.g1 + g2.g2 - 2 g1.g2), cut to [0, 1]. Found exactly, as non-negative least squares: with
    the row of ones for the sum, the best x = t a has t rise and fall with the length of a's mixture only.

    Args:
        gradients: [T, d] one row for each task.

    Raises:
        ValueError: no table, no task, or a number that is not finite.

    Source: Desideri 2012 (MGDA); Zeng et al. 2024, On Diversified Preferences of Large Language Model Alignment (MORE).
    """
    from scipy.optimize import nnls

    g = checked_numbers(gradients, "a gradient")
    if g.ndim != 2 or not g.size:
        raise ValueError(f"a row of gradients for each task is needed; they are {g.shape}")
    scale = float(np.abs(g).max()) or 1.0
    target = np.zeros(g.shape[1] + 1)
    target[-1] = 1.0
    found, _ = nnls(np.vstack([g.T / scale, np.ones(len(g))]), target)
    weights: FloatArray = found / found.sum()
    return weights


def proxy_point(proxy: ArrayLike, gold: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Where gold stops rising with a proxy reward: the maximiser of a parabola fitted by least squares.

    Beyond it more of the proxy is worth nothing: cap it there. The interval is by the delta method.

    Args:
        proxy: [n] means of the proxy reward, along training or along best-of-n.
        gold: [n] what they were worth.
        confidence: of the interval, in (0, 1).

    Returns:
        value: None with fewer than three different proxies, or where the parabola has no maximum; low and high are None
        there, and with fewer than four points.

    Raises:
        ValueError: lists of different lengths, or a number that is missing or infinite.

    Source: Moskovitz et al. 2024, Confronting Reward Model Overoptimization with Constrained RLHF, section 4.
    """
    z = normal_quantile(confidence)
    x, y = checked_numbers(proxy, "a proxy reward"), checked_numbers(gold, "a gold score")
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"each proxy reward needs its gold score; they are {x.shape} and {y.shape}")
    n = len(x)
    if len(np.unique(x)) < 3:
        return Estimate(None, None, None, n)
    middle, spread = float(x.mean()), float(np.abs(x - x.mean()).max())
    u, height = (x - middle) / spread, float(np.abs(y - y.mean()).max())
    if height == 0:
        return Estimate(None, None, None, n)
    y = (y - y.mean()) / height  # where the top lies does not depend on the unit of gold
    if len(np.unique(u)) < 3:
        return Estimate(None, None, None, n)
    design = np.stack([u**2, u, np.ones(n)], axis=1)
    inverse = np.linalg.pinv(design.T @ design)
    a, b, _ = coefficients = inverse @ (design.T @ y)
    if not a < -1e-9:
        return Estimate(None, None, None, n)
    value = middle - spread * b / (2 * a)
    if n < 4:
        return Estimate(float(value), None, None, n)
    residual = y - design @ coefficients
    slope = spread * np.array([b / (2 * a**2), -1 / (2 * a), 0.0])
    half = z * float(np.sqrt(slope @ inverse @ slope * (residual @ residual) / (n - 3)))
    return Estimate(float(value), float(value - half), float(value + half), n)
