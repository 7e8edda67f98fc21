"""Online Elo ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.checking import checked_count
from prefdata.stats.comparisons import FloatArray, checked_rows
from prefdata.stats.intervals import check_confidence

_BLOCK = 64


@dataclass(frozen=True)
class Elo:
    """Ratings after the last game.

    Attributes:
        values: [n] in the order that the games were given in.
        low: [n] lower ends over shuffled orders; NaN without shuffles.
        high: [n] upper ends. They say how far the order of the games matters, not how far their outcomes do.
        games: [n] how many each has played.
    """

    values: FloatArray
    low: FloatArray
    high: FloatArray
    games: FloatArray


def elo(
    winners: ArrayLike,
    losers: ArrayLike,
    *,
    p: ArrayLike | None = None,
    n: int | None = None,
    k: float = 4.0,
    scale: float = 400.0,
    base: float = 10.0,
    start: float = 1000.0,
    shuffles: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> Elo:
    """Rate contestants game by game (Elo, 1978): R_a += k (s - E_a) with E_a = 1/(1 + base^((R_b - R_a)/scale)).

    The result depends on the order of the games; for a final ranking fit `bradley_terry`. Ratings keep their sum.

    Args:
        winners: [m] integers in [0, n).
        losers: [m] integers in [0, n).
        p: [m] outcome for the winner in [0, 1]; 1 each unless given, 0.5 a tie.
        n: how many contestants; one more than the highest index unless given.
        k: the largest step.
        scale: difference of ratings at which the odds are `base` to one.
        base: see there.
        start: of all ratings.
        shuffles: how many random orders are rated besides, for `low` and `high`.
        confidence: of these.
        seed: of the orders.

    Raises:
        ValueError: as in `bradley_terry`; or k, scale, base, start or shuffles out of range.
    """
    check_confidence(confidence)
    if not (k > 0 and scale > 0 and base > 1 and np.isfinite([k, scale, base, start]).all()):
        raise ValueError("k and scale must be positive and finite, base greater than 1, start finite")
    shuffles = checked_count(shuffles, "shuffles")
    rows = checked_rows(winners, losers, None, p, n)
    if (rows.first == rows.second).any():
        raise ValueError(f"comparison {int(np.argmax(rows.first == rows.second))} is of a contestant with itself")
    first, second, y = rows.first.astype(np.int64), rows.second.astype(np.int64), rows.y
    rate = float(np.log(base) / scale)
    values = np.array(_played(first.tolist(), second.tolist(), y.tolist(), rows.n, k, rate, start))
    low, high = np.full(rows.n, np.nan), np.full(rows.n, np.nan)
    if shuffles:
        random = np.random.default_rng(seed)
        parts = []
        for begin in range(0, shuffles, _BLOCK):
            width = min(_BLOCK, shuffles - begin)
            order = np.stack([random.permutation(len(first)) for _ in range(width)], axis=1)
            parts.append(_together(first[order], second[order], y[order], rows.n, k, rate, start))
        low, high = np.quantile(np.concatenate(parts), [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    games = np.bincount(first, minlength=rows.n) + np.bincount(second, minlength=rows.n)
    return Elo(values, low, high, games.astype(np.float64))


def _played(
    first: list[int], second: list[int], y: list[float], n: int, k: float, rate: float, start: float
) -> list[float]:
    from math import tanh

    rating = [start] * n
    half = rate / 2
    for a, b, outcome in zip(first, second, y, strict=True):
        change = k * (outcome - 0.5 - 0.5 * tanh(half * (rating[a] - rating[b])))
        rating[a] += change
        rating[b] -= change
    return rating


def _together(
    first: np.ndarray, second: np.ndarray, y: FloatArray, n: int, k: float, rate: float, start: float
) -> FloatArray:
    """[s, n] ratings after the games [m, s] of several orders, played side by side."""
    width = first.shape[1]
    rating = np.full((width, n), float(start))
    which = np.arange(width)
    for a, b, outcome in zip(first, second, y, strict=True):
        change = k * (outcome - 0.5 - 0.5 * np.tanh(rate / 2 * (rating[which, a] - rating[which, b])))
        rating[which, a] += change
        rating[which, b] -= change
    return rating
