r"""The Plackett-Luce likelihood of rankings of one shape, with its first and second derivatives.

A ranking is a series of choices: of those who are left, i is chosen next with probability g_i / sum_left g, where
g = exp(theta). Somebody who stands alone in a place is one such choice. Those who share a place are one of two things:

- `unknown`: they came in some order that nobody noted. The probability is the sum over all orders, which is that of
  max_T < min_R for exponential waiting times with rates g: with a_i = g_i / sum_R g it is
  int_0^inf e^-t prod_{i in T} (1 - e^(-a_i t)) dt. In log t the integrand is analytic and falls off on both sides, so
  that the trapezoidal rule is exact to rounding. For those who come last it is 1. Kalbfleisch and Prentice (1973).
- `half`: they are equal. The log-likelihood is the mean over all orders, as if each order had been seen equally often:
  between two that is half a win each. It runs over the subsets of T, so T must be small.

Both are concave in theta.
"""

from __future__ import annotations

from itertools import combinations
from math import comb, log
from typing import Literal

import numpy as np

from prefdata.stats.coding import FloatArray, IntArray

Ties = Literal["unknown", "half"]
MOST_EQUAL = 10
"""So many may share a place under `half`: there are 2^10 subsets of them."""

_STEP = 0.25
_LOWEST = -38.0


class Terms:
    """Value [m], score [m, K] and information [m, K, K] (minus the second derivative) of m rankings."""

    def __init__(self, theta: FloatArray, derivatives: bool) -> None:
        """Of theta [m, K], the strengths of who is ranked, best first."""
        self.x = theta - theta.max(axis=1, keepdims=True)
        self.g = np.exp(self.x)
        self.value = np.zeros(len(theta))
        self.derivatives = derivatives
        if derivatives:
            self.score = np.zeros(theta.shape)
            self.information = np.zeros((*theta.shape, theta.shape[1]))

    def alone(self, chosen: list[int]) -> None:
        """Add the choices of those at these positions among all who stand there or behind."""
        stage = np.zeros(self.x.shape[1])
        stage[chosen] = 1
        left = np.cumsum(self.g[:, ::-1], axis=1)[:, ::-1]
        self.value += ((self.x - np.log(left)) * stage).sum(axis=1)
        if not self.derivatives:
            return
        once = np.cumsum(stage / left, axis=1)
        twice = np.cumsum(stage / left**2, axis=1)
        self.score += stage - self.g * once
        earlier = np.minimum.outer(np.arange(len(stage)), np.arange(len(stage)))
        self.information -= self.g[:, :, None] * self.g[:, None, :] * twice[:, earlier]
        place = np.arange(len(stage))
        self.information[:, place, place] += self.g * once

    def equal(self, start: int, end: int) -> None:
        """Add the mean over all orders of those from start to end."""
        behind = self.g[:, end:].sum(axis=1)
        members = range(start, end)
        for size in range(1, end - start + 1):
            share = 1 / comb(end - start, size)
            for left in combinations(members, size):
                among = [*left, *range(end, self.x.shape[1])]
                if len(among) > 1:
                    self._choice(list(left), among, behind, share)

    def _choice(self, left: list[int], among: list[int], behind: FloatArray, share: float) -> None:
        """Somebody of `left`, each with equal weight, is chosen among `among`; counts `share`."""
        total = self.g[:, left].sum(axis=1) + behind
        self.value += share * (self.x[:, left].mean(axis=1) - np.log(total))
        if not self.derivatives:
            return
        p = self.g[:, among] / total[:, None]
        self.score[:, left] += share / len(left)
        self.score[:, among] -= share * p
        self._spread(np.array(among), p, np.full(len(p), share))

    def _spread(self, among: IntArray, p: FloatArray, weight: FloatArray) -> None:
        """Add weight (diag(p) - p p') to the information."""
        grid = np.ix_(np.arange(len(p)), among, among)
        block = -p[:, :, None] * p[:, None, :]
        place = np.arange(len(among))
        block[:, place, place] += p
        self.information[grid] += weight[:, None, None] * block

    def unknown(self, start: int, end: int) -> None:
        """Add those from start to end coming, in any order, before all behind them."""
        tied, rest = np.arange(start, end), np.arange(end, self.x.shape[1])
        behind = self.g[:, rest].sum(axis=1)
        u = self.x[:, tied] - np.log(behind)[:, None]
        nodes = np.arange(_LOWEST, log(60 + 3 * len(tied)), _STEP)
        y = np.exp(np.minimum(u[:, :, None] + nodes, 700.0))
        integrand = nodes - np.exp(nodes) + np.log(-np.expm1(-y)).sum(axis=1)
        highest = integrand.max(axis=1, keepdims=True)
        mass = np.exp(integrand - highest)
        total = mass.sum(axis=1, keepdims=True)
        self.value += (highest + np.log(total * _STEP))[:, 0]
        if not self.derivatives:
            return
        mass /= total
        with np.errstate(over="ignore"):
            phi = np.where(y < 1e-8, 1 - y / 2, y / np.expm1(y))  # d log(1 - e^-y) / d log y
        first = np.einsum("mtx,mx->mt", phi, mass)
        second = np.einsum("mtx,mux,mx->mtu", phi, phi, mass) - first[:, :, None] * first[:, None, :]
        place = np.arange(len(tied))
        second[:, place, place] += np.einsum("mtx,mx->mt", phi * (1 - y - phi), mass)
        p = self.g[:, rest] / behind[:, None]
        summed = first.sum(axis=1)
        self.score[:, tied] += first
        self.score[:, rest] -= summed[:, None] * p
        rows = np.arange(len(p))
        across = second.sum(axis=2)[:, :, None] * p[:, None, :]
        self.information[np.ix_(rows, tied, tied)] -= second
        self.information[np.ix_(rows, tied, rest)] += across
        self.information[np.ix_(rows, rest, tied)] += across.transpose(0, 2, 1)
        outer = p[:, :, None] * p[:, None, :]
        self.information[np.ix_(rows, rest, rest)] -= second.sum(axis=(1, 2))[:, None, None] * outer
        self._spread(rest, p, summed)


def terms(theta: FloatArray, places: list[tuple[int, int]], ties: Ties, *, rest: bool, derivatives: bool) -> Terms:
    """The likelihood of rankings of one shape.

    Args:
        theta: [m, K] the strengths of who is ranked, best first.
        places: where each place begins and ends.
        ties: what it means to share a place.
        rest: those who share the last place are the unranked rest, and nothing is known of them.
        derivatives: also compute score and information.

    Raises:
        ValueError: too many share a place under `half`.
    """
    made = Terms(theta, derivatives)
    last = theta.shape[1]
    made.alone([start for start, end in places if end - start == 1 and end < last])
    for start, end in places:
        if end - start == 1 or (end == last and (rest or ties == "unknown")):
            continue
        if ties == "unknown":
            made.unknown(start, end)
        elif end - start > MOST_EQUAL:
            raise ValueError(f"{end - start} share a place, and at most {MOST_EQUAL} can under half: use unknown")
        else:
            made.equal(start, end)
    return made
