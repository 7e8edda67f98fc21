r"""How likely a win, a tie and a loss are, given the difference d of two strengths: three models of ties.

Each is concave in (d, tie parameter), so Newton's method finds the one maximum (derived below from logistic functions
and soft-maxes). `win`, `tie` and `loss` are weights of outcomes; g and h are gradients and minus second derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prefdata.stats.comparisons import Cells, FloatArray
from prefdata.stats.logistic import log_sigmoid, sigmoid


@dataclass(frozen=True)
class Slopes:
    """Derivatives of the log-likelihood of cells.

    Attributes:
        d: [e] gradient in each cell's difference.
        dd: [e] minus the second derivative.
        tie: gradient in the tie parameter.
        cross: [e] minus the mixed derivative.
        tie_tie: minus the second derivative in the tie parameter.
    """

    d: FloatArray
    dd: FloatArray
    tie: float
    cross: FloatArray
    tie_tie: float


class Outcomes(Protocol):
    """A model of wins and ties.

    Attributes:
        size: how many tie parameters it has, none or one.
        positive: the parameter is nu itself, not its logarithm.
    """

    size: int
    positive: bool

    def start(self, cells: Cells) -> float:
        """A tie parameter to begin with: right if all strengths are equal."""

    def value(self, cells: Cells, d: FloatArray, tau: float) -> float:
        """Log-likelihood."""

    def slopes(self, cells: Cells, d: FloatArray, tau: float) -> Slopes:
        """Derivatives."""

    def scores(self, d: FloatArray, tau: float | FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradients of one win, one tie and one loss: [3, e] in d and [3, e] in the tie parameter."""

    def chances(self, d: FloatArray, tau: float | FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """P(win), P(tie), P(loss)."""


class HalfWin:
    """P(win) = sigma(d); a tie is half a win and half a loss, as any soft outcome p is p and 1 - p of them."""

    size = 0
    positive = False

    def start(self, cells: Cells) -> float:
        """See `Outcomes`."""
        return 0.0

    def value(self, cells: Cells, d: FloatArray, tau: float) -> float:
        """See `Outcomes`."""
        won, lost = cells.win + cells.tie / 2, cells.loss + cells.tie / 2
        # log sigma(d) = min(d, 0) - log(1 + e^-|d|), in a form that numpy has fast loops for.
        linear = won @ np.minimum(d, 0.0) - lost @ np.maximum(d, 0.0)
        return float(linear - (won + lost) @ np.log1p(np.exp(-np.abs(d))))

    def slopes(self, cells: Cells, d: FloatArray, tau: float) -> Slopes:
        """See `Outcomes`."""
        p, half = sigmoid(d), cells.tie / 2
        return Slopes(
            (cells.win + half) * (1 - p) - (cells.loss + half) * p, cells.weight * p * (1 - p), 0.0, np.zeros(0), 0.0
        )

    def scores(self, d: FloatArray, tau: float | FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `Outcomes`."""
        p = sigmoid(d)
        return np.stack([1 - p, 0.5 - p, -p]), np.zeros((3, len(d)))

    def chances(self, d: FloatArray, tau: float | FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """See `Outcomes`."""
        p = sigmoid(d)
        return p, np.zeros_like(p), 1 - p


class Davidson:
    """P(win) : P(tie) : P(loss) = e^(d/2) : nu : e^(-d/2) (Davidson, 1970); the parameter is log nu.

    A soft-max of (d/2, log nu, -d/2), hence concave.
    """

    size = 1
    positive = False

    def start(self, cells: Cells) -> float:
        """See `Outcomes`."""
        tied, decided = float(cells.tie.sum()), float((cells.win + cells.loss).sum())
        return float(np.log(2 * tied / decided))

    def value(self, cells: Cells, d: FloatArray, tau: float) -> float:
        """See `Outcomes`."""
        total = np.logaddexp(np.logaddexp(d / 2, -d / 2), tau)
        return float((cells.win - cells.loss) @ d / 2 + tau * cells.tie.sum() - cells.weight @ total)

    def slopes(self, cells: Cells, d: FloatArray, tau: float) -> Slopes:
        """See `Outcomes`."""
        won, tied, lost = self.chances(d, tau)
        n, lead = cells.weight, won - lost
        return Slopes(
            (cells.win - cells.loss - n * lead) / 2,
            n * (won + lost - lead**2) / 4,
            float((cells.tie - n * tied).sum()),
            -n * lead * tied / 2,
            float((n * tied * (1 - tied)).sum()),
        )

    def scores(self, d: FloatArray, tau: float | FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `Outcomes`."""
        won, tied, lost = self.chances(d, tau)
        mean = (won - lost) / 2
        return np.stack([0.5 - mean, -mean, -0.5 - mean]), np.stack([-tied, 1 - tied, -tied])

    def chances(self, d: FloatArray, tau: float | FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """See `Outcomes`."""
        total = np.logaddexp(np.logaddexp(d / 2, -d / 2), tau)
        return np.exp(d / 2 - total), np.exp(tau - total), np.exp(-d / 2 - total)


class RaoKupper:
    """P(win) = sigma(d - nu), P(loss) = sigma(-d - nu), the rest is a tie (Rao and Kupper, 1967); nu > 0.

    P(tie) = (e^(2 nu) - 1) sigma(d - nu) sigma(-d - nu), so that the log-likelihood is a sum of concave functions.
    """

    size = 1
    positive = True

    def start(self, cells: Cells) -> float:
        """See `Outcomes`."""
        return 2 * float(np.arctanh(cells.tie.sum() / cells.weight.sum()))

    def value(self, cells: Cells, d: FloatArray, tau: float) -> float:
        """See `Outcomes`."""
        if tau <= 0:
            return -np.inf
        won, lost = cells.win + cells.tie, cells.loss + cells.tie
        # log(e^(2 nu) - 1) = 2 nu + log(1 - e^(-2 nu)) does not overflow.
        tied = 2 * tau + np.log(-np.expm1(-2 * tau))
        return float(won @ log_sigmoid(d - tau) + lost @ log_sigmoid(-d - tau) + cells.tie.sum() * tied)

    def slopes(self, cells: Cells, d: FloatArray, tau: float) -> Slopes:
        """See `Outcomes`."""
        won, lost = cells.win + cells.tie, cells.loss + cells.tie
        up, down = sigmoid(d - tau), sigmoid(-d - tau)
        left, right = won * (1 - up), lost * (1 - down)
        curved_left, curved_right = left * up, right * down
        tied = float(cells.tie.sum())
        return Slopes(
            left - right,
            curved_left + curved_right,
            float(2 * tied / -np.expm1(-2 * tau) - left.sum() - right.sum()),
            curved_right - curved_left,
            float(curved_left.sum() + curved_right.sum() + tied / np.sinh(tau) ** 2),
        )

    def scores(self, d: FloatArray, tau: float | FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `Outcomes`."""
        left, right = sigmoid(tau - d), sigmoid(tau + d)
        base = 2 / -np.expm1(-2 * tau)
        return np.stack([left, left - right, -right]), np.stack([-left, base - left - right, -right])

    def chances(self, d: FloatArray, tau: float | FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """See `Outcomes`."""
        won, lost = sigmoid(d - tau), sigmoid(-d - tau)
        return won, np.expm1(2 * tau) * won * lost, lost


MODELS: dict[str, Outcomes] = {"half": HalfWin(), "davidson": Davidson(), "rao-kupper": RaoKupper()}
"""The models of ties by name."""
