"""The matrix of second derivatives by the strengths: dense blocks of connected parts, or sparse."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefdata.stats.joint_data import Data, FloatArray, IntArray, Layout, tally

_LAPACK = 200
"""From this size a block is inverted by its Cholesky factor, one block at a time."""


class Strengths:
    """Minus the second derivatives of the log-posterior by theta, [n, n].

    Positive definite: the likelihood is concave in theta given the annotators, and the prior strictly so.
    """

    def __init__(self, data: Data, curvature: FloatArray, score_curvature: FloatArray, tau: float) -> None:
        """Assemble.

        Args:
            data: votes and scores.
            curvature: [m] of each comparison.
            score_curvature: [r] of each score.
            tau: standard deviation of the prior.
        """
        self.layout = data.layout
        if self.layout.dense:
            self.flat = _blocks(data, curvature, score_curvature, tau)
        else:
            self.sparse, self.diagonal = _sparse(data, curvature, score_curvature, tau)

    def apply(self, x: FloatArray) -> FloatArray:
        """The matrix times [n, k]."""
        if not self.layout.dense:
            result: FloatArray = self.sparse @ x
            return result
        return blocks_times(self.layout, self.flat, x)

    def inverse(self) -> FloatArray:
        """The flat blocks of the inverse; of a sparse matrix [n] the inverse of its diagonal."""
        if not self.layout.dense:
            return 1 / self.diagonal
        made = np.empty_like(self.flat)
        for batch in self.layout.batches:
            batch.blocks(made)[:] = inverted(batch.blocks(self.flat))
        return made


def inverted(matrices: FloatArray) -> FloatArray:
    """[g, s, s] inverses of positive definite matrices."""
    if matrices.shape[-1] < _LAPACK:
        return np.asarray(np.linalg.inv(matrices), dtype=np.float64)
    from scipy.linalg import lapack

    made = np.empty_like(matrices)
    for index, matrix in enumerate(matrices):
        factor, failed = lapack.dpotrf(matrix, lower=1)
        if failed:
            raise np.linalg.LinAlgError("the matrix is not positive definite")
        half, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)  # its upper half is 0
        made[index] = half
        made[index] += half.T
        made[index].flat[:: len(half) + 1] /= 2
    return made


def blocks_times(layout: Layout, flat: FloatArray, x: FloatArray) -> FloatArray:
    """Flat blocks times [n, k]."""
    made = np.empty_like(x)
    for batch in layout.batches:
        made[batch.members] = np.matmul(batch.blocks(flat), x[batch.members])
    return made


def diagonal(layout: Layout, flat: FloatArray) -> FloatArray:
    """[n], of flat blocks, or of what `Strengths.inverse` gives for a sparse matrix."""
    everyone = np.arange(len(layout.part))
    return flat[layout.place(everyone, everyone)] if layout.dense else flat


def pair_spread(layout: Layout, flat: FloatArray, first: IntArray, second: IntArray) -> FloatArray:
    """The variances of theta_first - theta_second: C_ii + C_jj - 2 C_ij, where two are of different parts C_ij = 0."""
    own = diagonal(layout, flat)
    made: FloatArray = own[first] + own[second]
    if layout.dense:
        same = layout.part[first] == layout.part[second]
        made = made - 2 * np.where(same, flat[np.where(same, layout.place(first, second), 0)], 0.0)
    return np.maximum(made, 0.0)


def vote_spread(data: Data, flat: FloatArray) -> FloatArray:
    """[m] the variance of each comparison's difference."""
    own = diagonal(data.layout, flat)
    made: FloatArray = own[data.votes.first] + own[data.votes.second]
    if data.layout.dense:
        made = made - 2 * flat[data.votes.place]
    return np.maximum(made, 0.0)


def sheet_spread(data: Data, flat: FloatArray) -> FloatArray:
    """[W] over each annotator's scores the summed variance of theta less its mean in the sheet."""
    scores, layout = data.scores, data.layout
    own = diagonal(layout, flat)[scores.contestant]
    if not layout.dense:
        return tally(scores.annotator, own * (1 - 1 / scores.sheet_size[scores.sheet]), data.annotators)
    sheets = len(scores.sheet_size)
    summed = tally(scores.sheet[scores.left], flat[scores.place], sheets)
    for rows in scores.large:
        of = scores.contestant[rows]
        summed[scores.sheet[rows.start]] += flat[layout.place(of[:, None], of[None, :])].sum()
    left = tally(scores.sheet, own, sheets) - summed / scores.sheet_size
    return tally(scores.sheet_annotator, np.maximum(left, 0.0), data.annotators)


def _blocks(data: Data, curvature: FloatArray, score_curvature: FloatArray, tau: float) -> FloatArray:
    layout, votes, scores = data.layout, data.votes, data.scores
    made = tally(votes.place, curvature, layout.total)
    for batch in layout.batches:
        block = batch.blocks(made)
        block[:] = block + block.transpose(0, 2, 1)
        sums = block.sum(axis=2)
        block *= -1
        diagonal_of = np.arange(block.shape[1])
        block[:, diagonal_of, diagonal_of] += sums + tau**-2
    if len(scores):
        weight = score_curvature / scores.sheet_size[scores.sheet]
        if len(scores.left):
            made -= tally(scores.place, weight[scores.left], layout.total)
        for rows in scores.large:
            of = scores.contestant[rows]
            made[layout.place(of[:, None], of[None, :])] -= weight[rows.start]
        np.add.at(made, layout.place(scores.contestant, scores.contestant), score_curvature)
    return made


def _sparse(data: Data, curvature: FloatArray, score_curvature: FloatArray, tau: float) -> tuple[Any, FloatArray]:
    from scipy.sparse import coo_array, dia_array

    votes, scores, n = data.votes, data.scores, data.n
    own = tally(votes.first, curvature, n) + tally(votes.second, curvature, n) + tau**-2
    if len(scores):  # the mean of a sheet is taken for known: too much curvature, of little weight in large sheets
        own = own + tally(scores.contestant, score_curvature * (1 - 1 / scores.sheet_size[scores.sheet]), n)
    across = coo_array((curvature, (votes.first, votes.second)), shape=(n, n)).tocsr()
    return dia_array((own[None, :], [0]), shape=(n, n)).tocsr() - across - across.T, own
