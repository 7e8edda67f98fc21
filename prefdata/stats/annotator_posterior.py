"""The posterior of strengths and annotators together: value, gradient, and its curvature by blocks.

Parameters stand in one vector: strengths [n], the common position bias [1, where positions are known], each annotator's
ability in its working form (the logit, or itself) [W], each annotator's position bias [W, likewise]. Annotators touch
one another only through the first two, so they are eliminated from the information by blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefdata.stats.annotator_likelihood import Kind, Priors, ability_prior, first, second
from prefdata.stats.coding import FloatArray, IntArray
from prefdata.stats.logistic import log_sigmoid, sigmoid

_ROWS = 1 << 14
"""Rows at once: what is computed of them stays in the processor's own memory."""


@dataclass(frozen=True)
class Information:
    """Minus the second derivatives, annotators eliminated.

    Attributes:
        shared: [g, g] covariance of strengths and common bias.
        own: [W, l, l] inverse information of an annotator's own parameters, the shared ones held.
        carried: [g, W * l] sparse: how an annotator's parameters follow the shared ones.
    """

    shared: FloatArray
    own: FloatArray
    carried: Any


@dataclass(frozen=True)
class Posterior:
    """Comparisons as rows (winner, loser, annotator, weight), and priors.

    Attributes:
        fixed: [W] abilities that are given, NaN where they are to be found.
        side: [m] 1 where the winner was first, -1 where second, 0 unknown; None without a position bias.
    """

    kind: Kind
    winner: IntArray
    loser: IntArray
    annotator: IntArray
    weight: FloatArray
    side: FloatArray | None
    n: int
    w: int
    fixed: FloatArray
    priors: Priors

    @property
    def own(self) -> int:
        """Parameters of an annotator."""
        return 1 if self.side is None else 2

    @property
    def shared(self) -> int:
        """Parameters that all annotators share."""
        return self.n + (self.side is not None)

    def start(self) -> FloatArray:
        """Equal strengths, and annotators as the prior has them."""
        yes, no = self.priors.ability
        ability = yes if self.kind == "discrimination" else np.log(yes / no)
        x = np.zeros(self.shared + self.own * self.w)
        x[self.shared : self.shared + self.w] = ability
        return x

    def ability(self, x: FloatArray) -> FloatArray:
        """[W] from the working form."""
        working = x[self.shared : self.shared + self.w]
        free = working if self.kind == "discrimination" else sigmoid(working)
        return np.where(np.isnan(self.fixed), free, self.fixed)

    def position(self, x: FloatArray) -> FloatArray | None:
        """[W] position bias."""
        return None if self.side is None else x[self.shared + self.w :]

    def value(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Minus the log-posterior, and its gradient."""
        theta, e, b = x[: self.n], self.ability(x), self.position(x)
        gradient, by_e, by_b, value = np.zeros_like(x), np.zeros(self.w), np.zeros(self.w), 0.0
        step = max(_ROWS, 4 * (self.n + self.w))
        for start in range(0, len(self.winner), step):
            part = slice(start, start + step)
            winner, loser, annotator, weight = (
                column[part] for column in (self.winner, self.loser, self.annotator, self.weight)
            )
            there = first(
                self.kind,
                theta[winner] - theta[loser],
                e[annotator],
                None if b is None else b[annotator],
                None if self.side is None else self.side[part],
            )
            value += float(weight @ there.value)
            of_d = weight * there.d
            gradient[: self.n] += np.bincount(winner, of_d, self.n) - np.bincount(loser, of_d, self.n)
            by_e += np.bincount(annotator, weight * there.e, self.w)
            if there.b is not None:
                by_b += np.bincount(annotator, weight * there.b, self.w)
        strength = self.priors.strength
        value += strength / 2 * float((log_sigmoid(theta) + log_sigmoid(-theta)).sum())
        gradient[: self.n] += strength * (0.5 - sigmoid(theta))
        free = np.isnan(self.fixed)
        density, slope, _ = ability_prior(self.kind, e, self.priors.ability)
        value += float(density[free].sum())
        of_e = by_e * self._turn(e) + slope
        gradient[self.shared : self.shared + self.w] = np.where(free, of_e, 0.0)
        if b is not None:
            common = x[self.n]
            away = (b - common) / self.priors.position**2
            value -= 0.5 * float(((b - common) * away).sum()) + 0.5 * common**2
            gradient[self.shared + self.w :] = by_b - away
            gradient[self.n] = away.sum() - common
        return -value, -gradient

    def diagonal(self, x: FloatArray) -> FloatArray:
        """A positive scale of each parameter's information, for steps of one size."""
        theta, e, b = x[: self.n], self.ability(x), self.position(x)
        there = first(self.kind, *self._rows(theta, e, b), self.side)
        result = np.ones_like(x)
        of_d = self.weight * there.d**2
        result[: self.n] = np.bincount(self.winner, of_d, self.n) + np.bincount(self.loser, of_d, self.n)
        result[: self.n] += self.priors.strength / 4
        # At equal strengths an ability changes nothing: a strength of one in either direction stands in.
        size = np.bincount(self.annotator, self.weight, self.w)
        turn = self._turn(e)
        _, _, curve = ability_prior(self.kind, e, self.priors.ability)
        result[self.shared : self.shared + self.w] = np.where(np.isnan(self.fixed), 0.2 * size * turn**2 - curve, 1.0)
        if there.b is not None:
            of_b = np.bincount(self.annotator, self.weight * there.b**2, self.w)
            result[self.shared + self.w :] = of_b + self.priors.position**-2
            result[self.n] = 1 + self.w / self.priors.position**2
        return result

    def information(self, x: FloatArray) -> Information:
        """The information at a point, annotators eliminated.

        Raises:
            numpy.linalg.LinAlgError: the point is no maximum.
        """
        shared, own, cross = self._blocks(x)
        inverse = np.asarray(np.linalg.inv(own), dtype=np.float64)
        carried = _carried(cross, inverse)
        _eliminate(shared, cross, carried)
        return Information(_inverse(shared), inverse, carried)

    def own_inverse(self, x: FloatArray) -> FloatArray:
        """[W, l, l] inverse information of an annotator's own parameters, the shared ones held."""
        return np.asarray(np.linalg.inv(self._own(x, self._second(x))), dtype=np.float64)

    def step(self, found: Information, gradient: FloatArray) -> FloatArray:
        """Newton's step down `gradient`."""
        g, w, parts = self.shared, self.w, self.own
        mine = gradient[g:].reshape(parts, w).T
        shared = found.shared @ (gradient[:g] - found.carried @ mine.ravel())
        own = np.einsum("wij,wj->wi", found.own, mine) - (found.carried.T @ shared).reshape(w, parts)
        return -np.concatenate([shared, own.T.ravel()])

    def bend(self, x: FloatArray, own: FloatArray) -> FloatArray:
        """The slope of -1/2 log det of the annotators' own information: what integrating them out adds (Laplace).

        The mode of strengths and annotators together is not where the strengths are most probable: an annotator's
        posterior is skewed, the modes of all are off to the same side, and the scale of the strengths follows them.
        With v = `own`, the slope is 1/2 sum_ab v_ab d^3 log P / da db dx, by central differences of second derivatives.

        Args:
            x: parameters.
            own: [W, l, l] inverse information of each annotator.
        """
        theta, e = x[: self.n], self.ability(x)
        d, result, g = theta[self.winner] - theta[self.loser], np.zeros_like(x), self.shared
        h = 1e-4
        free = np.isnan(self.fixed)

        def sums(of: IntArray, rows: FloatArray, size: int) -> FloatArray:
            return np.asarray(np.bincount(of, rows, size), dtype=np.float64)

        by_d = (self._spread(d + h, x, own) - self._spread(d - h, x, own)) * self.weight / (4 * h)
        result[: self.n] = sums(self.winner, by_d, self.n) - sums(self.loser, by_d, self.n)
        for part in range(self.own):
            up, down = x.copy(), x.copy()
            up[g + part * self.w : g + (part + 1) * self.w] += h
            down[g + part * self.w : g + (part + 1) * self.w] -= h
            rows = (self._spread(d, up, own) - self._spread(d, down, own)) * self.weight / (4 * h)
            result[g + part * self.w : g + (part + 1) * self.w] = sums(self.annotator, rows, self.w)
        if self.kind != "discrimination":
            third = -sum(self.priors.ability) * e * (1 - e) * (1 - 2 * e)
            result[g : g + self.w] += 0.5 * own[:, 0, 0] * third
        result[g : g + self.w] = np.where(free, result[g : g + self.w], 0.0)
        return result

    def _spread(self, d: FloatArray, x: FloatArray, own: FloatArray) -> FloatArray:
        """[m] sum_ab v_ab d^2 log P / da db of each row, over its annotator's own parameters."""
        e, b = self.ability(x), self.position(x)
        rows = d, e[self.annotator], None if b is None else b[self.annotator]
        curve = second(self.kind, *rows, self.side)
        turn = np.where(np.isnan(self.fixed), self._turn(e), 0.0)
        result = (own[:, 0, 0] * turn**2)[self.annotator] * curve.ee
        if self.kind != "discrimination":
            there = first(self.kind, *rows, self.side)
            result += (own[:, 0, 0] * turn * (1 - 2 * e))[self.annotator] * there.e
        if b is not None and curve.eb is not None and curve.bb is not None:
            result += (2 * own[:, 0, 1] * turn)[self.annotator] * curve.eb
            result += own[:, 1, 1][self.annotator] * curve.bb
        return np.asarray(result)

    def own_covariance(self, found: Information) -> FloatArray:
        """[W, l] variances of the annotators' parameters, the shared ones free: own + carried' shared carried."""
        extra = np.empty(self.w * self.own)
        follow = found.carried.T.tocsr()
        dense = follow.nnz > 0.2 * follow.shape[0] * follow.shape[1]
        for start in range(0, len(extra), 512):
            part = follow[start : start + 512]
            rows = part.toarray()
            moved = rows @ found.shared if dense else part @ found.shared
            extra[start : start + 512] = np.einsum("ij,ij->i", rows, moved)
        return np.asarray(np.einsum("wll->wl", found.own) + extra.reshape(self.w, self.own))

    def _rows(self, theta: FloatArray, e: FloatArray, b: FloatArray | None) -> tuple[FloatArray, FloatArray, Any]:
        d = theta[self.winner] - theta[self.loser]
        return d, e[self.annotator], None if b is None else b[self.annotator]

    def _turn(self, e: FloatArray) -> FloatArray:
        """D ability / d working form."""
        return np.ones_like(e) if self.kind == "discrimination" else e * (1 - e)

    def _second(self, x: FloatArray) -> Any:
        rows = self._rows(x[: self.n], self.ability(x), self.position(x))
        return second(self.kind, *rows, self.side)

    def _own(self, x: FloatArray, curve: Any) -> FloatArray:
        """[W, l, l] information of each annotator's own parameters."""
        e, b = self.ability(x), self.position(x)
        there = first(self.kind, *self._rows(x[: self.n], e, b), self.side)

        def sums(rows: FloatArray) -> FloatArray:
            return np.asarray(np.bincount(self.annotator, self.weight * rows, self.w), dtype=np.float64)

        turn = self._turn(e)
        bend = 0.0 if self.kind == "discrimination" else turn * (1 - 2 * e)
        free = np.isnan(self.fixed)
        _, _, before = ability_prior(self.kind, e, self.priors.ability)
        own = np.zeros((self.w, self.own, self.own))
        own[:, 0, 0] = np.where(free, -(sums(curve.ee) * turn**2 + sums(there.e) * bend + before), 1.0)
        if b is not None:
            own[:, 0, 1] = own[:, 1, 0] = np.where(free, -sums(curve.eb) * turn, 0.0)
            own[:, 1, 1] = -sums(curve.bb) + self.priors.position**-2
        return own

    def _blocks(self, x: FloatArray) -> tuple[FloatArray, FloatArray, Any]:
        """Information of the shared parameters [g, g], of each annotator's [W, l, l], and across [g, W * l]."""
        from scipy.sparse import coo_array

        n, w, parts = self.n, self.w, self.own
        curve = self._second(x)
        shared = np.zeros((self.shared, self.shared))
        cells = np.bincount(self.winner * n + self.loser, -self.weight * curve.dd, n * n).reshape(n, n)
        shared[:n, :n] = -(cells + cells.T)
        half = sigmoid(x[:n])
        of_prior = self.priors.strength * half * (1 - half)
        shared[np.arange(n), np.arange(n)] = cells.sum(axis=0) + cells.sum(axis=1) + of_prior
        turn = np.where(np.isnan(self.fixed), self._turn(self.ability(x)), 0.0)
        columns = [self.annotator * parts]
        entries = [-self.weight * curve.de * turn[self.annotator]]
        if curve.db is not None:
            columns.append(self.annotator * parts + 1)
            entries.append(-self.weight * curve.db)
        rows = np.concatenate([self.winner, self.loser] * len(columns))
        column = np.concatenate([np.tile(c, 2) for c in columns])
        entry = np.concatenate([np.concatenate([v, -v]) for v in entries])
        if curve.db is not None:
            tight = self.priors.position**-2
            shared[n, n] = 1 + w * tight
            rows = np.concatenate([rows, np.full(w, n)])
            column = np.concatenate([column, np.arange(w) * parts + 1])
            entry = np.concatenate([entry, np.full(w, -tight)])
        cross = coo_array((entry, (rows, column)), shape=(self.shared, w * parts)).tocsr()
        return shared, self._own(x, curve), cross


def _carried(cross: Any, inverse: FloatArray) -> Any:
    from scipy.sparse import bsr_array

    w, parts, _ = inverse.shape
    blocks = bsr_array((inverse, np.arange(w), np.arange(w + 1)), shape=(w * parts, w * parts))
    return (cross @ blocks.tocsr()).tocsr()


def _eliminate(shared: FloatArray, cross: Any, carried: Any) -> None:
    """Shared -= carried cross', in place: by dense blocks of annotators where they have compared a good part."""
    if cross.nnz < 0.2 * cross.shape[0] * cross.shape[1]:
        shared -= (carried @ cross.T).toarray()
        return
    by_annotator, moved = cross.T.tocsr(), carried.T.tocsr()
    for start in range(0, cross.shape[1], 512):
        shared -= moved[start : start + 512].toarray().T @ by_annotator[start : start + 512].toarray()


def _inverse(matrix: FloatArray) -> FloatArray:
    """Of a positive definite matrix, which is overwritten; LinAlgError where it is none."""
    from scipy.linalg.lapack import dpotrf, dpotri

    # The matrix is symmetric: its transpose is the same, in the order that LAPACK takes without a copy.
    factor, failed = dpotrf(matrix.T, lower=1, overwrite_a=1)
    if not failed:
        factor, failed = dpotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise np.linalg.LinAlgError("the information is not positive definite")
    made = np.asarray(factor.T, dtype=np.float64)
    for start in range(0, len(made), 256):
        rows = slice(start, start + 256)
        made[start + 256 :, rows] = made[rows, start + 256 :].T
        corner = np.triu(made[rows, rows])
        made[rows, rows] = corner + np.triu(corner, 1).T
    return made
