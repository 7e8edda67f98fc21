r"""The joint model's likelihood, with its gradient and second derivatives.

Comparisons. With D = theta_i - theta_j and d = a_w D + b_w position + c_w length,

    P(first) = sigma(d - t_w),  P(second) = sigma(-d - t_w),
    P(tie) = 1 - both = (1 - e^(-2 t_w)) sigma(t_w - d) sigma(t_w + d),    t_w = e^(eta_w) >= 0.

Scores, centred within (group, annotator) and scaled: q_w value = a_w theta_i + c_w length_i + N(0, s0^2), which is
jointly concave in (q, a, c) given theta. s0 = 1.702/sqrt(2), so that P(value_i > value_j) = Phi(a D / (s0 sqrt 2)) is
about sigma(a D): an ability means the same whether an annotator compares or scores.

The strengths are not points but a Gaussian N(theta, C): each row's term is its expectation over D, by Gauss-Hermite
quadrature in D with the variance `spread` = C_ii + C_jj - 2 C_ij held fixed (Opper and Archambeau, 2009). Without it,
annotators would look as sharp as the strengths that were fitted to their own few votes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefdata.stats.joint_data import (
    ABILITY,
    LENGTH,
    PARAMETERS,
    POSITION,
    SCALE,
    THRESHOLD,
    Data,
    FloatArray,
    tally,
)

SCORE_NOISE = 1.702 / np.sqrt(2)
_ROWS = 1 << 16


@dataclass
class Derivatives:
    """At one point.

    Attributes:
        value: the (expected) log-likelihood.
        theta: [n] gradient.
        annotators: [W, 5] gradient.
        curvature: [m] minus the second derivative by D of each comparison: a^2 E[-f''].
        score_curvature: [r] that of each score, a^2/s0^2.
        blocks: [W, 5, 5] second derivatives of each annotator.
        cross: [C, 5] second derivatives by the contestant and the annotator of each cell.
    """

    value: float
    theta: FloatArray
    annotators: FloatArray
    curvature: FloatArray
    score_curvature: FloatArray
    blocks: FloatArray
    cross: FloatArray


def nodes(count: int) -> tuple[FloatArray, FloatArray]:
    """Points and weights of Gauss-Hermite quadrature for a standard normal variable."""
    points, weights = np.polynomial.hermite_e.hermegauss(count)
    return points, weights / weights.sum()


def derivatives(
    data: Data,
    theta: FloatArray,
    parameters: FloatArray,
    *,
    ties: bool,
    spread: FloatArray | None = None,
    score_spread: FloatArray | None = None,
    points: int = 1,
) -> Derivatives:
    """Value, gradient and second derivatives.

    Args:
        data: votes and scores.
        theta: [n] strengths.
        parameters: [W, 5] a, b, c, eta, q of each annotator.
        ties: False: no thresholds, t = 0.
        spread: [m] variances of D; 0 unless given.
        score_spread: [W] of each annotator the sum over its scores of the variance of centred theta; 0 unless given.
        points: of the quadrature; 1 ignores the spread of comparisons.
    """
    size, cells = data.annotators, len(data.cell_contestant)
    made = Derivatives(
        0.0, np.zeros(data.n), np.zeros((size, PARAMETERS)), np.zeros(len(data.votes)), np.zeros(len(data.scores)),
        np.zeros((size, PARAMETERS, PARAMETERS)), np.zeros((cells, PARAMETERS)),
    )  # fmt: skip
    for start in range(0, len(data.votes), _ROWS):
        _add_votes(made, data, theta, parameters, slice(start, start + _ROWS), ties, spread, points)
    if len(data.scores):
        _add_scores(made, data, theta, parameters, score_spread)
    return made


def value(
    data: Data,
    theta: FloatArray,
    parameters: FloatArray,
    *,
    ties: bool,
    spread: FloatArray | None = None,
    score_spread: FloatArray | None = None,
    points: int = 1,
) -> float:
    """The log-likelihood alone; arguments as of `derivatives`."""
    total = 0.0
    votes = data.votes
    for start in range(0, len(votes), _ROWS):
        rows = slice(start, start + _ROWS)
        u = parameters[votes.annotator[rows]]
        delta, base, t = _logits(data, theta, u, rows, ties)
        wide = None if spread is None or points == 1 else np.sqrt(spread[rows])
        for point, share in zip(*nodes(points), strict=True):
            d = u[:, ABILITY] * (delta if wide is None else delta + point * wide) + base
            _, log_a, _, log_b = _sigmoids(d, t)
            total += float(share) * _row_values(data, rows, d, t, log_a, log_b)
    if len(data.scores):
        total += _score_value(data, theta, parameters, score_spread)
    return total


def _logits(
    data: Data, theta: FloatArray, u: FloatArray, rows: slice, ties: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    votes = data.votes
    delta = theta[votes.first[rows]] - theta[votes.second[rows]]
    base = np.zeros(len(delta))
    if votes.position is not None:
        base += u[:, POSITION] * votes.position[rows]
    if votes.length is not None:
        base += u[:, LENGTH] * votes.length[rows]
    return delta, base, np.exp(u[:, THRESHOLD]) if ties else np.zeros(len(delta))


def _sigmoids(d: FloatArray, t: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """sigma(d - t), its logarithm, sigma(-d - t), its logarithm."""
    return (*_sigmoid(d - t), *_sigmoid(-d - t))


def _sigmoid(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1 + e), np.minimum(x, 0.0) - np.log1p(e)


def _row_values(data: Data, rows: slice, d: FloatArray, t: FloatArray, log_a: FloatArray, log_b: FloatArray) -> float:
    votes = data.votes
    total = votes.win[rows] @ log_a + votes.loss[rows] @ log_b
    tie = votes.tie[rows]
    even = np.flatnonzero(tie)
    if len(even):  # log sigma(t - d) = log sigma(d - t) - (d - t)
        e, h = d[even], t[even]
        total += tie[even] @ (np.log(-np.expm1(-2 * h)) + log_a[even] - (e - h) + log_b[even] + (e + h))
    return float(total)


def _add_votes(
    made: Derivatives,
    data: Data,
    theta: FloatArray,
    parameters: FloatArray,
    rows: slice,
    ties: bool,
    spread: FloatArray | None,
    points: int,
) -> None:
    votes = data.votes
    w = votes.annotator[rows]
    u = parameters[w]
    a = u[:, ABILITY]
    delta, base, t = _logits(data, theta, u, rows, ties)
    wide = None if spread is None or points == 1 else np.sqrt(spread[rows])
    win, loss, tie = votes.win[rows], votes.loss[rows], votes.tie[rows]
    up, down = win + tie, loss + tie
    # Sums over the nodes: f_d, D f_d, f_t, -f_dd, -D f_dd, -D^2 f_dd, f_dt, D f_dt, f_tt.
    fd, fd_delta, ft, k, k_delta, k_square, fdt, fdt_delta, ftt = (np.zeros(len(w)) for _ in range(9))
    for point, share in zip(*nodes(points), strict=True):
        at = delta if wide is None else delta + point * wide
        d = a * at + base
        s, log_s, r, log_r = _sigmoids(d, t)
        made.value += float(share) * _row_values(data, rows, d, t, log_s, log_r)
        gradient = share * (win - loss - s * up + r * down)
        fd += gradient
        fd_delta += gradient * at
        bent, tneb = share * up * s * (1 - s), share * down * r * (1 - r)
        both = bent + tneb
        k += both
        k_delta += both * at
        k_square += both * at * at
        if ties:
            ft += share * (s * up + r * down - win - loss)
            ftt -= both
            fdt += bent - tneb
            fdt_delta += (bent - tneb) * at
    if ties:
        even = np.flatnonzero(tie)
        grown = np.expm1(2 * t[even])  # g(t) = log(1 - e^(-2t)): g' = 2/(e^2t - 1), g'' = -4 e^2t/(e^2t - 1)^2
        ft[even] += tie[even] * 2 / grown
        ftt[even] -= tie[even] * 4 * (grown + 1) / grown**2
    made.curvature[rows] = a * a * k
    _add_sums(made, data, rows, a, t, (fd, fd_delta, ft, k, k_delta, k_square, fdt, fdt_delta, ftt), ties)


def _add_sums(
    made: Derivatives, data: Data, rows: slice, a: FloatArray, t: FloatArray, sums: tuple[FloatArray, ...], ties: bool
) -> None:
    """From derivatives by d and t in each row to those by the parameters."""
    votes = data.votes
    w = votes.annotator[rows]
    fd, fd_delta, ft, k, k_delta, k_square, fdt, fdt_delta, ftt = sums
    n, size, cells = data.n, data.annotators, len(data.cell_contestant)
    made.theta += tally(votes.first[rows], a * fd, n) - tally(votes.second[rows], a * fd, n)
    columns: dict[int, FloatArray] = {}  # of the other parameters: d's derivative, as a multiple of f_d
    if votes.position is not None:
        columns[POSITION] = votes.position[rows]
    if votes.length is not None:
        columns[LENGTH] = votes.length[rows]
    gradients = {ABILITY: fd_delta} | {q: x * fd for q, x in columns.items()}
    crosses = {ABILITY: fd - a * k_delta} | {q: -a * x * k for q, x in columns.items()}
    seconds = {(ABILITY, ABILITY): -k_square} | {(ABILITY, q): -x * k_delta for q, x in columns.items()}
    seconds |= {(q, o): -x * y * k for q, x in columns.items() for o, y in columns.items() if q <= o}
    if ties:
        gradients[THRESHOLD] = t * ft
        crosses[THRESHOLD] = a * t * fdt
        seconds[ABILITY, THRESHOLD] = t * fdt_delta
        seconds |= {(q, THRESHOLD): t * x * fdt for q, x in columns.items()}
        seconds[THRESHOLD, THRESHOLD] = t * ft + t * t * ftt
    for q, column in gradients.items():
        made.annotators[:, q] += tally(w, column, size)
    for q, column in crosses.items():
        made.cross[:, q] += tally(votes.cell_first[rows], column, cells)
        made.cross[:, q] -= tally(votes.cell_second[rows], column, cells)
    for (q, o), column in seconds.items():
        made.blocks[:, q, o] += tally(w, column, size)
        if q != o:
            made.blocks[:, o, q] = made.blocks[:, q, o]


def centred_strengths(data: Data, theta: FloatArray) -> FloatArray:
    """[r] the strength of what each score is of, less the mean of its sheet."""
    scores = data.scores
    own = theta[scores.contestant]
    centred: FloatArray = own - (tally(scores.sheet, own, len(scores.sheet_size)) / scores.sheet_size)[scores.sheet]
    return centred


def _residuals(data: Data, theta: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
    scores = data.scores
    own = centred_strengths(data, theta)
    residual = u[:, SCALE] * scores.value - u[:, ABILITY] * own
    if scores.length is not None:
        residual -= u[:, LENGTH] * scores.length
    return residual, own


def _score_value(data: Data, theta: FloatArray, parameters: FloatArray, spread: FloatArray | None) -> float:
    scores = data.scores
    residual, _ = _residuals(data, theta, parameters[scores.annotator])
    has = scores.freedom > 0
    total = -0.5 * float(residual @ residual) / SCORE_NOISE**2
    total += float(scores.freedom[has] @ np.log(parameters[has, SCALE]))
    if spread is not None:
        total -= 0.5 * float(parameters[:, ABILITY] ** 2 @ spread) / SCORE_NOISE**2
    return float(total)


def _add_scores(
    made: Derivatives, data: Data, theta: FloatArray, parameters: FloatArray, spread: FloatArray | None
) -> None:
    scores, size = data.scores, data.annotators
    w = scores.annotator
    u = parameters[w]
    residual, own = _residuals(data, theta, u)
    made.value += _score_value(data, theta, parameters, spread)
    precision = 1 / SCORE_NOISE**2
    a, y = u[:, ABILITY], scores.value
    made.theta += tally(scores.contestant, precision * a * residual, data.n)
    made.score_curvature = precision * a * a
    # r = q y - a own - c length: its derivatives by the parameters. Rows are centred already.
    columns = {ABILITY: -own, SCALE: y}
    if scores.length is not None:
        columns[LENGTH] = -scores.length
    for q, x in columns.items():
        made.annotators[:, q] -= precision * tally(w, residual * x, size)
        cross = precision * a * x
        if q == ABILITY:
            cross = cross + precision * residual
        made.cross[:, q] += tally(scores.cell, cross, len(data.cell_contestant))
        for o, z in columns.items():
            made.blocks[:, q, o] -= precision * tally(w, x * z, size)
    if spread is not None:
        made.annotators[:, ABILITY] -= precision * parameters[:, ABILITY] * spread
        made.blocks[:, ABILITY, ABILITY] -= precision * spread
    has = scores.freedom > 0
    q = parameters[has, SCALE]
    made.annotators[has, SCALE] += scores.freedom[has] / q
    made.blocks[has, SCALE, SCALE] -= scores.freedom[has] / q**2
