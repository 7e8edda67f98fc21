"""All second derivatives of the joint model: Newton's direction, and the covariances at the optimum.

The matrix is [[H, -B], [-B^T, D]] with H over contestants (blocks of connected parts), D over annotators (a block for
each) and B sparse, a row of numbers for each (contestant, annotator) that met. Either side can be eliminated:
S = H - B D^-1 B^T over contestants, or A = D - B^T H^-1 B over annotators, whichever is smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefdata.stats.joint_data import PARAMETERS, Data, FloatArray, tally
from prefdata.stats.joint_likelihood import Derivatives
from prefdata.stats.joint_strengths import Strengths, blocks_times, diagonal, inverted

LARGEST = 4500
"""The side of the largest matrix that is inverted; beyond it covariances are approximate, and said to be."""


@dataclass(frozen=True)
class Covariances:
    """At the optimum, each side with what not knowing the other costs.

    Attributes:
        strengths: flat blocks of [n, n]; of a part too large for blocks only [n] variances.
        annotators: [W, 5, 5]; 0 for parameters that are not fitted.
        exact: whether this is the inverse of the whole matrix; else a first-order approximation.
    """

    strengths: FloatArray
    annotators: FloatArray
    exact: bool


class Curvature:
    """Minus the second derivatives of the log-posterior at a point."""

    def __init__(
        self,
        data: Data,
        at: Derivatives,
        prior: FloatArray,
        tau: float,
        active: Sequence[int],
        *,
        safe: bool = True,
        inverse: FloatArray | None = None,
    ) -> None:
        """Assemble.

        Args:
            data: votes and scores.
            at: derivatives of the likelihood.
            prior: [W, 5] precisions of the priors of the annotators' parameters.
            tau: standard deviation of the prior of strengths.
            active: which of the five parameters are fitted.
            safe: make every annotator's block positive definite, which it is at the optimum but not everywhere.
            inverse: an inverse of H from an earlier step, good enough as a preconditioner.
        """
        from scipy.sparse import csr_array

        self.data, self.active = data, list(active)
        self.strengths = Strengths(data, at.curvature, at.score_curvature, tau)
        self.stale = inverse is not None
        self.inverse = self.strengths.inverse() if inverse is None else inverse
        width, size = len(self.active), data.annotators
        blocks = -at.blocks[:, self.active][:, :, self.active]
        blocks[:, range(width), range(width)] += prior[:, self.active]
        self.blocks = blocks
        self.block_inverse = _positive_inverse(blocks) if safe else np.linalg.inv(blocks)
        starts = np.concatenate([[0], np.cumsum(np.bincount(data.cell_contestant, minlength=data.n))]) * width
        columns = (data.cell_annotator.astype(np.int32)[:, None] * width + np.arange(width, dtype=np.int32)).ravel()
        cross = np.ascontiguousarray(at.cross[:, self.active]).ravel()
        self.cross: Any = csr_array((cross, columns, starts.astype(np.int32)), shape=(data.n, size * width))

    def _precondition(self, x: FloatArray) -> FloatArray:
        if self.data.layout.dense:
            return blocks_times(self.data.layout, self.inverse, x)
        scaled: FloatArray = self.inverse[:, None] * x
        return scaled

    def _annotators(self, x: FloatArray) -> FloatArray:
        """D^-1 times [W * width, k]."""
        width, count = len(self.active), x.shape[1]
        made = np.matmul(self.block_inverse, x.reshape(-1, width, count))
        flat: FloatArray = made.reshape(-1, count)
        return flat

    def _schur(self, x: FloatArray) -> FloatArray:
        """S times [n, k]."""
        made = self.strengths.apply(x)
        return made - self.cross @ self._annotators(self.cross.T @ x) if self.active else made

    def solve(self, theta: FloatArray, annotators: FloatArray, tolerance: float) -> tuple[FloatArray, FloatArray]:
        """The matrix's inverse times columns ([n, k], [W, 5, k]), by conjugate gradients over contestants.

        Where the matrix is not positive definite (far from the optimum) a column stops there with what it has.
        """
        width, count = len(self.active), theta.shape[1]
        if not count:
            return theta, annotators
        right = annotators[:, self.active].reshape(-1, count)
        wanted = theta + self.cross @ self._annotators(right) if width else theta
        x, residual = np.zeros_like(wanted), wanted.copy()
        z = self._precondition(residual)
        p, rz = z.copy(), (residual * z).sum(axis=0)
        goal = tolerance**2 * np.maximum(rz, 1e-300)
        for _ in range(500):
            going = rz > goal
            if not going.any():
                break
            s = self._schur(p)
            bend = (p * s).sum(axis=0)
            bad = going & (bend <= 1e-12 * (p * p).sum(axis=0))
            if bad.any():
                x[:, bad] = np.where(x[:, bad].any(axis=0), x[:, bad], z[:, bad])
                rz[bad] = 0.0
                continue
            part = np.where(going, rz / np.where(going, bend, 1.0), 0.0)
            x += part * p
            residual -= part * s
            z = self._precondition(residual)
            new = (residual * z).sum(axis=0)
            p = z + np.where(going, new / np.where(going, rz, 1.0), 0.0) * p
            rz = np.where(going, new, rz)
        made = np.zeros((self.data.annotators, PARAMETERS, count))
        if width:
            made[:, self.active] = self._annotators(right + self.cross.T @ x).reshape(-1, width, count)
        return x, made

    def approximate(self) -> Covariances:
        """What `covariances` gives beyond `LARGEST`, and where this is no maximum."""
        self.inverse, self.stale = self.strengths.inverse() if self.stale else self.inverse, False
        strengths, annotators = self._first_order()
        return self._covariances(strengths, annotators, False)

    def covariances(self) -> Covariances:
        """The blocks of the inverse of the whole matrix.

        Raises:
            numpy.linalg.LinAlgError: the point is no maximum.
        """
        n, other = self.data.n, self.data.annotators * len(self.active)
        dense, exact = self.data.layout.dense, self.data.layout.dense
        over_contestants = dense and n <= LARGEST and (n <= other or other > LARGEST)
        if self.stale and not (self.active and over_contestants):
            self.inverse, self.stale = self.strengths.inverse(), False
        if not self.active:
            strengths, annotators = self.inverse, np.zeros((self.data.annotators, 0, 0))
        elif over_contestants:
            strengths, annotators = self._without_annotators()
        elif dense and other <= LARGEST:
            strengths, annotators = self._without_contestants()
        else:
            (strengths, annotators), exact = self._first_order(), False
        return self._covariances(strengths, annotators, exact)

    def _covariances(self, strengths: FloatArray, annotators: FloatArray, exact: bool) -> Covariances:
        whole = np.zeros((self.data.annotators, PARAMETERS, PARAMETERS))
        whole[np.ix_(range(self.data.annotators), self.active, self.active)] = annotators
        return Covariances(strengths, whole, exact)

    def _without_annotators(self) -> tuple[FloatArray, FloatArray]:
        """By S^-1, [n, n]; annotators in chunks, so that memory stays [n, n]."""
        layout, n, width = self.data.layout, self.data.n, len(self.active)
        schur = np.zeros((n, n))
        for batch in layout.batches:
            members = batch.members
            schur[members[:, :, None], members[:, None, :]] = batch.blocks(self.strengths.flat)
        factors = np.linalg.cholesky(self.block_inverse)
        chunks = range(0, self.data.annotators, max(1, 1024 // width))
        step, columns = chunks.step, self.cross.tocsc()
        for start in chunks:
            part = _times_blocks(columns[:, start * width : (start + step) * width], factors[start : start + step])
            schur -= part @ part.T
        inverse = _definite(schur)
        annotators = np.empty_like(self.block_inverse)
        for start in chunks:
            factor = factors[start : start + step]
            part = _times_blocks(columns[:, start * width : (start + step) * width], factor)
            spread = (inverse @ part).reshape(n, -1, width)
            inner = np.einsum("nwp,nwq->wpq", part.reshape(n, -1, width), spread) + np.eye(width)
            annotators[start : start + step] = factor @ inner @ factor.transpose(0, 2, 1)
        strengths = np.empty(layout.total)
        for batch in layout.batches:
            members = batch.members
            batch.blocks(strengths)[:] = inverse[members[:, :, None], members[:, None, :]]
        return strengths, annotators

    def _without_contestants(self) -> tuple[FloatArray, FloatArray]:
        """By A^-1, over annotators: many small parts."""
        from scipy.sparse import block_diag, csr_array

        layout, width, size = self.data.layout, len(self.active), self.data.annotators
        # Rows i of a part share its columns: the sparse product H^-1 B has the annotators of a part in each row.
        rows, columns, values = [], [], []
        for batch in layout.batches:
            side = batch.members.shape[1]
            rows.append(np.repeat(batch.members, side, axis=1).ravel())
            columns.append(np.tile(batch.members, (1, side)).ravel())
            values.append(self.inverse[batch.start : batch.stop])
        inverse = csr_array(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(self.data.n,) * 2
        )
        spread: Any = csr_array(inverse @ self.cross)
        schur = block_diag(list(self.blocks)).toarray() - (self.cross.T @ spread).toarray()
        whole = _definite(schur)
        strengths = self.inverse.copy()
        for batch in layout.batches:
            side = batch.members.shape[1]
            step = max(1, (1 << 22) // max(1, side * size * width))
            blocks = batch.blocks(strengths)
            for start in range(0, len(batch.members), step):
                members = batch.members[start : start + step]
                part = spread[members.ravel()].toarray()
                moved = (part @ whole).reshape(*members.shape, -1)
                blocks[start : start + step] += moved @ part.reshape(*members.shape, -1).transpose(0, 2, 1)
        places = np.arange(size * width).reshape(size, width)
        return strengths, whole[places[:, :, None], places[:, None, :]]

    def _first_order(self) -> tuple[FloatArray, FloatArray]:
        """Each side's own inverse, and what the other side adds in first order (of its diagonal)."""
        layout, width, size = self.data.layout, len(self.active), self.data.annotators
        own = diagonal(layout, self.inverse)
        cells = self.cross.data.reshape(-1, width)
        of, by = self.data.cell_contestant, self.data.cell_annotator
        added = np.einsum("cp,cpq,cq->c", cells, self.block_inverse[by], cells)
        factor = np.sqrt(1 + own * tally(of, added, self.data.n))
        inner = np.empty((size, width, width))
        for p in range(width):
            for q in range(width):
                inner[:, p, q] = tally(by, cells[:, p] * cells[:, q] * own[of], size)
        annotators = self.block_inverse + self.block_inverse @ inner @ self.block_inverse
        if not layout.dense:
            return own * factor**2, annotators
        strengths = self.inverse.copy()
        for batch in layout.batches:  # scaled on both sides, so that each block stays a covariance
            side = factor[batch.members]
            batch.blocks(strengths)[:] *= side[:, :, None] * side[:, None, :]
        return strengths, annotators


def _definite(matrix: FloatArray) -> FloatArray:
    """The inverse of a matrix that is positive definite at a maximum; LinAlgError where it is not."""
    np.linalg.cholesky(matrix)
    result: FloatArray = inverted(matrix[None])[0]
    return result


def _times_blocks(columns: Any, factors: FloatArray) -> FloatArray:
    """[n, w * width], dense: each annotator's columns times its factor."""
    dense = columns.toarray()
    count, width = factors.shape[:2]
    made = np.matmul(dense.reshape(len(dense), count, width).transpose(1, 0, 2), factors)
    return np.ascontiguousarray(made.transpose(1, 0, 2)).reshape(len(dense), -1)


def _positive_inverse(blocks: FloatArray) -> FloatArray:
    if not blocks.shape[-1]:
        return blocks
    values, vectors = np.linalg.eigh(blocks)
    floor = 1e-3 * np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-8)
    values = np.maximum(np.abs(values), np.minimum(floor, 1e-2))
    made: FloatArray = np.matmul(vectors / values[:, None, :], vectors.transpose(0, 2, 1))
    return made
