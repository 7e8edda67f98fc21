"""Newton's step with the kinds' means as unknowns too, and with the scale held: mean |a| = 1.

The means matter: what all annotators have in common (they like longer answers) can hardly be told from strengths that
go with it (longer answers are better), and only a covariance that has both says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefdata.stats.joint_curvature import Covariances, Curvature
from prefdata.stats.joint_data import FloatArray, Layout


@dataclass(frozen=True)
class Step:
    """A direction.

    Attributes:
        theta: [n].
        annotators: [W, 5].
        means: [q] of the means that are fitted.
    """

    theta: FloatArray
    annotators: FloatArray
    means: FloatArray


class Bordered:
    """The matrix [[M, -E], [-E^T, diag(m)]] with M over strengths and annotators, E their coupling to the means.

    E has the prior's precision of an annotator's parameter in the column of its kind's mean.
    """

    def __init__(
        self, curvature: Curvature, coupling: FloatArray, precision: FloatArray, gauge: FloatArray | None
    ) -> None:
        """Keep.

        Args:
            curvature: M.
            coupling: [W, 5, q] E.
            precision: [q] m.
            gauge: [W, 5] the gradient of what is held; None where nothing is.
        """
        self.curvature, self.coupling, self.precision, self.gauge = curvature, coupling, precision, gauge
        self.inverse = np.zeros((0, 0))

    def _solved(
        self, theta: FloatArray, annotators: FloatArray, tolerance: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """M^-1 of columns [n, k], [W, 5, k], then of E; and the Schur complement of the means, made positive."""
        count = self.coupling.shape[2]
        n = len(theta)
        x, u = self.curvature.solve(
            np.concatenate([theta, np.zeros((n, count))], axis=1),
            np.concatenate([annotators, self.coupling], axis=2),
            tolerance,
        )
        k = theta.shape[1]
        schur = np.diag(self.precision) - np.einsum("wpq,wpr->qr", self.coupling, u[:, :, k:])
        values, vectors = np.linalg.eigh((schur + schur.T) / 2)
        values = np.maximum(np.abs(values), 1e-8 * self.precision.max(initial=1.0))
        inverse: FloatArray = (vectors / values) @ vectors.T
        return x, u, inverse

    def step(self, theta: FloatArray, annotators: FloatArray, means: FloatArray) -> Step:
        """Newton's step for a gradient [n], [W, 5], [q]."""
        gauge = np.zeros_like(annotators) if self.gauge is None else self.gauge
        columns = np.stack([annotators, gauge], axis=2)[:, :, : 1 if self.gauge is None else 2]
        first = np.zeros((len(theta), columns.shape[2]))
        first[:, 0] = theta
        x, u, inverse = self._solved(first, columns, 1e-8)
        self.inverse = inverse
        k = columns.shape[2]
        right = np.einsum("wpq,wpk->qk", self.coupling, u[:, :, :k])
        right[:, 0] += means
        mean = inverse @ right
        x, u = x[:, :k] + x[:, k:] @ mean, u[:, :, :k] + u[:, :, k:] @ mean
        if k == 1:
            return Step(x[:, 0], u[:, :, 0], mean[:, 0])
        bottom = float((gauge * u[:, :, 1]).sum())
        share = float((gauge * u[:, :, 0]).sum()) / bottom if bottom > 0 else 0.0
        return Step(x[:, 0] - share * x[:, 1], u[:, :, 0] - share * u[:, :, 1], mean[:, 0] - share * mean[:, 1])

    def mean_errors(self) -> FloatArray:
        """[q] standard errors of the means, from the last step."""
        errors: FloatArray = np.sqrt(np.maximum(np.diag(self.inverse), 0.0))
        return errors

    def covariances(self, found: Covariances, layout: Layout) -> tuple[Covariances, FloatArray]:
        """M^-1's blocks as they are with the means unknown and the gauge held, and the means' standard errors [q]."""
        gauge = np.zeros((*self.coupling.shape[:2], 0)) if self.gauge is None else self.gauge[:, :, None]
        k = gauge.shape[2]
        x, u, inverse = self._solved(np.zeros((len(layout.part), k)), gauge, 1e-10)
        z_x, v_x, z_u, v_u = x[:, :k], x[:, k:], u[:, :, :k], u[:, :, k:]
        strengths, annotators = found.strengths, found.annotators.copy()
        means = np.diag(inverse).copy()
        factor = np.linalg.cholesky(inverse) if len(inverse) else inverse
        strengths = _changed(layout, strengths, v_x @ factor, 1.0)
        moved = v_u @ factor
        annotators += moved @ moved.transpose(0, 2, 1)
        if k:
            mean = inverse @ np.einsum("wpq,wpk->qk", self.coupling, z_u)
            z_x, z_u = z_x + v_x @ mean, z_u + v_u @ mean
            bottom = float((gauge * z_u).sum())
            if not bottom > 0:
                raise np.linalg.LinAlgError("no maximum where the gauge is held")
            strengths = _changed(layout, strengths, z_x / np.sqrt(bottom), -1.0)
            annotators -= z_u @ z_u.transpose(0, 2, 1) / bottom
            means -= mean[:, 0] ** 2 / bottom
        return Covariances(strengths, annotators, found.exact), np.sqrt(np.maximum(means, 0.0))


def _changed(layout: Layout, flat: FloatArray, columns: FloatArray, sign: float) -> FloatArray:
    """Flat blocks plus sign times columns columns^T."""
    if not columns.shape[1]:
        return flat
    if not layout.dense:
        result: FloatArray = flat + sign * (columns**2).sum(axis=1)
        return result
    made = flat.copy()
    for batch in layout.batches:
        x = columns[batch.members]
        batch.blocks(made)[:] += sign * (x @ x.transpose(0, 2, 1))
    return made
