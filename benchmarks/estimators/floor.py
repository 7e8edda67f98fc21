"""The floor: what each estimate costs when nothing but the arithmetic is left. No checks, no names, no options.

Each function is the shortest program that reaches the same numbers; what ours takes beyond it is what its checks, its
intervals and its generality cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

Array = np.ndarray


def bradley_terry(winners: Array, losers: Array, n: int) -> tuple[Array, Array]:
    """Win table, Newton, sandwich: strengths and their standard errors."""
    wins = np.bincount(winners * np.int32(n) + losers, minlength=n * n).reshape(n, n).astype(float)
    theta, p, inverse = newton(wins)
    residual = wins * (1 - p) ** 2
    residual = residual + residual.T
    meat = np.diag(residual.sum(axis=1)) - residual
    return theta, np.sqrt(np.diag(inverse @ meat @ inverse))


def newton(wins: Array) -> tuple[Array, Array, Array]:
    n, games = len(wins), wins + wins.T
    theta = np.zeros(n)
    for _ in range(30):
        p = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
        gradient = wins.sum(axis=1) - (games * p).sum(axis=1)
        v = games * p * (1 - p)
        information = np.diag(v.sum(axis=1)) - v + v.sum() / n**2
        step = np.linalg.solve(information, gradient)
        theta += step
        if np.abs(step).max() < 1e-11:
            break
    return theta - theta.mean(), p, np.linalg.inv(information)


def bootstrap(winners: Array, losers: Array, n: int, resamples: int) -> Array:
    """[resamples, n] strengths of resampled comparisons: counts of cells, then steps with the information of the fit.

    Poisson counts given their sum are multinomial and quicker to draw: nearly all rows so, the rest one by one.
    """
    key = winners * np.int32(n) + losers
    cells = np.bincount(key, minlength=n * n).astype(float)
    start, _, inverse = newton(cells.reshape(n, n))
    draw, m = np.random.default_rng(0), len(winners)
    mean = cells * (1 - 3 / np.sqrt(m))
    i, j = np.triu_indices(n, 1)
    found = np.empty((resamples, n))
    for row in range(resamples):
        wins = draw.poisson(mean)
        wins += np.bincount(key[draw.integers(0, m, m - wins.sum())], minlength=n * n)
        forth = wins[i * n + j].astype(float)
        games, theta = forth + wins[j * n + i], start.copy()
        for _ in range(6):
            lost = games / (1 + np.exp(theta[j] - theta[i])) - forth
            step = inverse @ (np.bincount(j, lost, n) - np.bincount(i, lost, n))
            theta += step
            if np.abs(step).max() < 1e-8:
                break
        found[row] = theta - theta.mean()
    return found


def sparse_bradley_terry(winners: Array, losers: Array, n: int, ridge: float) -> Array:
    """Newton with conjugate gradients, preconditioned by the diagonal, ridge on each strength."""
    theta, m = np.zeros(n), len(winners)
    rows = np.repeat(np.arange(m), 2)
    columns = np.stack([winners, losers], axis=1).ravel()
    x = sp.csr_matrix((np.tile([1.0, -1.0], m), (rows, columns)), shape=(m, n))
    xt = x.T.tocsr()
    for _ in range(8):
        p = 1 / (1 + np.exp(-(x @ theta)))
        gradient = xt @ (1 - p) - ridge * theta
        v = p * (1 - p)
        diagonal = np.bincount(winners, v, n) + np.bincount(losers, v, n) + ridge
        step, r = np.zeros(n), gradient.copy()
        z = r / diagonal
        direction, rz = z.copy(), float(r @ z)
        stop = 1e-6 * float(gradient @ gradient)
        for _ in range(200):
            along = xt @ (v * (x @ direction)) + ridge * direction
            alpha = rz / float(direction @ along)
            step += alpha * direction
            r -= alpha * along
            if float(r @ r) < stop:
                break
            z = r / diagonal
            fresh = float(r @ z)
            direction = z + fresh / rz * direction
            rz = fresh
        theta += step
        if np.abs(step).max() < 1e-5:  # the next one would be its square
            break
    return theta - theta.mean()


def compiled_dawid_skene(k: int) -> Any:
    """EM, both steps fused in one compiled pass over labels sorted by item, with the priors and the stop of ours.

    Args:
        k: classes; the compiler unrolls what runs over them.

    Returns:
        A function of items, annotators, labels and how many items and annotators there are: posterior, iterations.
    """
    import numba

    @numba.njit(cache=False, fastmath=True, error_model="numpy")
    def run(items: Array, annotators: Array, labels: Array, n: int, many: int) -> tuple[Array, int]:
        before = np.full((k, k), 4 * 0.3 / (k - 1))
        for c in range(k):
            before[c, c] = 4 * 0.7
        code, starts = np.empty(len(items), np.uint32), np.zeros(n + 1, np.uint32)
        for r in range(len(items)):
            code[r] = np.uint32(annotators[r]) * np.uint32(k) + np.uint32(labels[r])
            starts[items[r] + 1] += np.uint32(1)
        for i in range(n):
            starts[i + 1] += starts[i]
        t, table, counts = np.zeros((n, k)), np.zeros((many * k, k)), np.zeros((many * k, k))
        rho, one, last, step = np.zeros(k), np.zeros(k), -1e300, 0
        while True:  # the first turn gives the shares of the votes, each other one a posterior
            counts[:] = 0
            totals, objective, product = np.zeros(k), 0.0, 1.0
            for i in range(n):
                for c in range(k):
                    one[c] = rho[c]
                if step:
                    for r in range(starts[i], starts[i + 1]):
                        for c in range(k):
                            one[c] += table[code[r], c]
                    top, s = one.max(), 0.0
                    for c in range(k):
                        one[c] = np.exp(one[c] - top)
                        s += one[c]
                    for c in range(k):
                        one[c] /= s
                    objective += top
                    product *= s  # one logarithm for hundreds of items
                    if product > 1e200:
                        objective += np.log(product)
                        product = 1.0
                else:
                    for r in range(starts[i], starts[i + 1]):
                        one[code[r] % k] += 1 / (starts[i + 1] - starts[i])
                for c in range(k):
                    t[i, c] = one[c]
                    totals[c] += one[c]
                for r in range(starts[i], starts[i + 1]):
                    for c in range(k):
                        counts[code[r], c] += one[c]
            if step:
                objective += np.log(product) + rho.sum()
                for w in range(many * k):
                    for c in range(k):
                        objective += before[w % k, c] * table[w, c]
                if objective - last < 1e-7 * len(items):
                    return t, step
                last = objective
            step += 1
            rho[:] = np.log((totals + 1) / (n + k))
            for w in range(0, many * k, k):
                for c in range(k):
                    whole = (counts[w : w + k, c] + before[:, c]).sum()
                    for label in range(k):
                        table[w + label, c] = np.log((counts[w + label, c] + before[label, c]) / whole)

    few = np.zeros(8, np.int32)
    run(few, few, few.astype(np.int8), 1, 1)
    return run


def crowd_bradley_terry(winners: Array, losers: Array, annotators: Array, n: int, many: int) -> tuple[Array, Array]:
    """Strengths and P(right) by EM, to the mode: Newton with a bounded diagonal on soft labels, Beta(10, 1) on logits.

    Each sweep carries on four fifths of what the one before changed: without that it takes twice as many. (60 plain
    sweeps are 2.4 standard errors away from the mode.)
    """
    theta, eta, change = np.zeros(n), np.full(many, 0.9), np.zeros(n)
    times = np.bincount(annotators, minlength=many)
    for sweep in range(1000):
        p = 1 / (1 + np.exp(theta[losers] - theta[winners]))
        e = eta[annotators]
        r = e * p
        r /= r + (1 - e) * (1 - p)
        eta = (np.bincount(annotators, r, many) + 10) / (times + 11)
        r -= p
        p0 = 1 / (1 + np.exp(-theta))
        if sweep % 10 == 0:
            v = p * (1 - p)
            curvature = np.bincount(winners, v, n) + np.bincount(losers, v, n) + p0 * (1 - p0)
        gradient = np.bincount(winners, r, n) - np.bincount(losers, r, n) + 0.5 - p0
        step = np.clip(gradient / curvature, -1, 1)
        change = 0.8 * change + step
        theta += change
        if np.abs(step).max() < 2e-5:
            break
    return theta - theta.mean(), eta


def alpha(units: Array, values: Array, k: int, ordinal: bool) -> float:
    """Krippendorff's alpha from the table of units and values."""
    n = int(units[-1]) + 1
    counts = np.bincount(units.astype(np.int64) * k + values, minlength=n * k).reshape(n, k).astype(float)
    m = counts.sum(axis=1)
    pairs = counts.T @ (counts / (m - 1)[:, None])
    totals = counts.sum(axis=0)
    place = np.cumsum(totals) - totals / 2
    distance = (place[:, None] - place) ** 2 if ordinal else 1 - np.eye(k)
    whole = totals.sum()
    return float(1 - (whole - 1) * (pairs * distance).sum() / (totals @ distance @ totals))


def near_duplicates(texts: list[str], threshold: float) -> Any:
    """Pairs whose word 3-grams have this Jaccard similarity, exactly: prefix filter, then verification, in polars."""
    import polars as pl

    words = pl.DataFrame({"text": texts}).with_row_index("doc").select("doc", pl.col("text").str.split(" ").alias("w"))
    each = words.explode("w").with_columns(pl.col("w").hash(0))
    gram = pl.col("w") * 3 + pl.col("w").shift(-1) * 5 + pl.col("w").shift(-2) * 7
    inside = pl.col("doc") == pl.col("doc").shift(-2)
    grams = each.lazy().select("doc", gram=pl.when(inside).then(gram)).drop_nulls().unique().collect()
    often = grams.group_by("gram").len("often")
    sizes = grams.group_by("doc").len("size")
    rows = grams.join(often, on="gram").join(sizes, on="doc").sort("doc", "often", "gram")
    # Two sets this alike share one of their first |x| - ceil(t |x|) + 1 grams in any fixed order.
    place = pl.int_range(pl.len()).over("doc")
    prefix = pl.col("size") - (pl.col("size") * threshold - 1e-9).ceil() + 1
    head = rows.filter((place < prefix) & (pl.col("often") > 1)).select("doc", "gram", "size").lazy()
    candidates = (
        head.join(head, on="gram", suffix="_b")
        .filter(
            (pl.col("doc") < pl.col("doc_b"))
            & (pl.min_horizontal("size", "size_b") >= threshold * pl.max_horizontal("size", "size_b"))
        )
        .select("doc", "doc_b", "size", "size_b")
        .unique()
    )
    common = rows.filter(pl.col("often") > 1).select("doc", "gram").lazy()
    return (
        candidates.join(common, on="doc")
        .join(common, left_on=["doc_b", "gram"], right_on=["doc", "gram"], how="semi")
        .group_by("doc", "doc_b")
        .agg(both=pl.len(), all=pl.col("size").first() + pl.col("size_b").first())
        .filter(pl.col("both") >= threshold * (pl.col("all") - pl.col("both")) - 1e-9)
        .select("doc", "doc_b")
        .collect()
    )
