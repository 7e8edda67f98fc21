"""Newton steps by preconditioned conjugate gradients, for many contestants of whom each meets few.

Nothing of size n^2 is made. Variances are diagonals of an inverse that is never formed: they are estimated from random
probes, corrected by what close neighbours determine exactly (Hutchinson, 1990; the correction is derived below).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prefdata.stats.bt_newton import Penalty, border
from prefdata.stats.bt_outcomes import Slopes
from prefdata.stats.comparisons import Cells, FloatArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

PROBES = 32
"""Random vectors behind each sparse standard error."""

SPARSE_TOLERANCE = 1e-9
"""Of the last Newton step."""

_ITERATIONS = 10_000
_EXACT = 1e-10
_MOST_PRODUCTS = 50_000_000


class Builder:
    """Makes the sparse information of a point; what does not change from point to point is worked out once."""

    def __init__(self, cells: Cells) -> None:
        """Find the pattern of who met whom."""
        from scipy.sparse import coo_array

        n = cells.n
        low, high = np.minimum(cells.first, cells.second), np.maximum(cells.first, cells.second)
        pairs, self.pair = np.unique(low * n + high, return_inverse=True)
        a, b, count = pairs // n, pairs % n, len(pairs)
        # Places start from 1: a stored zero would be taken for an empty one.
        places = np.arange(1, count + 1, dtype=np.float64)
        pattern = coo_array((np.r_[places, places], (np.r_[a, b], np.r_[b, a])), shape=(n, n)).tocsr()
        pattern.sort_indices()
        self.order = pattern.data.astype(np.int64) - 1
        self.indices, self.indptr, self.count = pattern.indices, pattern.indptr, count

    def __call__(self, cells: Cells, slopes: Slopes, penalty: Penalty, theta: FloatArray, ties: int) -> Sparse:
        """The information there."""
        return Sparse(self, cells, slopes, penalty, theta, ties)


class Sparse:
    """Information = D - A for the strengths (A the curvature of each pair), with a dense border for what else there is.

    Attributes:
        diagonal: [n] D.
        pairs: [n, n] A, sparse.
        side: [n, b].
        corner: [b, b].
        iterations: how many the last system took.
        exact: whether it reached the accuracy asked for.
    """

    def __init__(
        self, builder: Builder, cells: Cells, slopes: Slopes, penalty: Penalty, theta: FloatArray, ties: int
    ) -> None:
        """Fill the pattern."""
        from scipy.sparse import csr_array

        n = cells.n
        met = np.bincount(builder.pair, weights=slopes.dd, minlength=builder.count)
        self.n, self.anchored = n, penalty.anchored
        self.pairs: csr_array = csr_array((met[builder.order], builder.indices, builder.indptr), shape=(n, n))
        self.diagonal: FloatArray = self.pairs.sum(axis=1)
        if penalty.anchored:
            self.diagonal = self.diagonal + penalty.curvature(theta)
        self.side, self.corner = border(cells, slopes.dd, slopes.cross, slopes.tie_tie, ties)
        own = np.arange(cells.covariates.shape[1])
        self.corner[own, own] += penalty.covariates
        self.iterations, self.exact = 0, True

    def times(self, x: FloatArray) -> FloatArray:
        """[p, c] the information times x."""
        n = self.n
        top = self.diagonal[:, None] * x[:n] - self.pairs @ x[:n]
        if not len(self.corner):
            return np.asarray(top)
        return np.concatenate([top + self.side @ x[n:], self.side.T @ x[:n] + self.corner @ x[n:]])

    def solve(self, right: FloatArray, accuracy: float = _EXACT) -> FloatArray:
        """Conjugate gradients, preconditioned by the diagonal and the corner; all columns at once.

        Without an anchor the system is singular along (1, ..., 1); right sides and answers are shifted to sum zero.
        """
        b = right[:, None].copy() if right.ndim == 1 else right.copy()
        if not self.anchored:
            b[: self.n] -= b[: self.n].mean(axis=0)
        x, residual = np.zeros_like(b), b.copy()
        scale = np.where(self.diagonal > 0, self.diagonal, 1.0)[:, None]
        wanted = max(accuracy, _EXACT) ** 2 * (b * b).sum(axis=0)
        z = self._scaled(residual, scale)
        direction, power = z.copy(), (residual * z).sum(axis=0)
        self.iterations, self.exact = 0, False
        for self.iterations in range(_ITERATIONS):
            if ((residual * residual).sum(axis=0) <= wanted).all():
                self.exact = True
                break
            image = self.times(direction)
            curve = (direction * image).sum(axis=0)
            step = np.divide(power, curve, out=np.zeros_like(power), where=curve > 0)
            x += step * direction
            residual -= step * image
            z = self._scaled(residual, scale)
            new = (residual * z).sum(axis=0)
            direction = z + np.divide(new, power, out=np.zeros_like(power), where=power > 0) * direction
            power = new
        if not self.anchored:
            x[: self.n] -= x[: self.n].mean(axis=0)
        return x[:, 0] if right.ndim == 1 else x

    def border(self) -> FloatArray:
        """The Schur complement of the strengths; a few systems with them alone."""
        if not len(self.corner):
            return self.corner
        alone = object.__new__(Sparse)
        alone.n, alone.anchored, alone.pairs, alone.diagonal = self.n, self.anchored, self.pairs, self.diagonal
        alone.side, alone.corner = np.zeros((self.n, 0)), np.zeros((0, 0))
        found: FloatArray = self.corner - self.side.T @ alone.solve(self.side)
        return found

    def _scaled(self, residual: FloatArray, scale: FloatArray) -> FloatArray:
        if not len(self.corner):
            return residual / scale
        return np.concatenate([residual[: self.n] / scale, np.linalg.solve(self.corner, residual[self.n :])])


def probed_variances(
    system: Sparse, root: csr_array, *, probes: int = PROBES, seed: int = 0
) -> tuple[FloatArray, float]:
    """Diagonal of H^-1 R R^T H^-1 for the strengths shifted to sum zero, without an inverse.

    With g = R q for random signs q, z = H^-1 g has E z_i^2 = the i-th diagonal entry. The near part of z, that is
    y = M g with M = D^-1 + D^-1 A D^-1 (the first terms of H^-1 = (D - A)^-1), has E y_i^2 = sum of squares of row i of
    M R, exactly; so only z_i^2 - y_i^2, which is small where contestants meet many others, is averaged over probes.

    Args:
        system: H.
        root: [p, r] R.
        probes: how many vectors.
        seed: of the signs.

    Returns:
        [n] variances, and the largest standard error that the probes leave in a standard error, relative to it.
    """
    from scipy.sparse import diags_array, identity

    n = system.n
    signs = np.random.default_rng(seed).integers(0, 2, (root.shape[1], probes)).astype(np.float64) * 2 - 1
    g = np.asarray(root @ signs)
    z = system.solve(g, 1e-4)[:n]
    z = z - z.mean(axis=0)
    inverse = 1 / np.where(system.diagonal > 0, system.diagonal, 1.0)
    near = diags_array(inverse)
    degree = np.diff(system.pairs.indptr).astype(np.float64)
    if float(degree @ degree) <= _MOST_PRODUCTS:
        near = near @ (identity(n, format="csr") + system.pairs @ diags_array(inverse))
    top = root.tocsr()[:n]
    rows = (near @ top).tocsr()
    rows.data **= 2
    exact = np.asarray(rows.sum(axis=1)).ravel()
    y = np.asarray(near @ g[:n])
    rest = z**2 - y**2
    variances = exact + rest.mean(axis=1)
    if not system.exact:  # a long thin graph on which the iteration does not end: no errors rather than wrong ones
        return np.full(n, np.nan), float("nan")
    spread = rest.std(axis=1, ddof=1) / np.sqrt(probes)
    # Where near and far nearly cancel the estimate may come out too small, even negative; z^2 alone cannot.
    plain = (z**2).mean(axis=1)
    bad = variances < plain / 4
    variances[bad] = plain[bad]
    spread[bad] = plain[bad] * np.sqrt(2 / probes)
    used = variances > 0
    error = float((spread[used] / (2 * variances[used])).max(initial=0.0))
    return variances, error
