"""How far annotators agree: Cohen's kappa, Krippendorff's alpha, agreement on the order of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.intervals import percentile_interval

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Level = Literal["nominal", "ordinal", "interval", "ratio"]


def cohen_kappa(
    a: Iterable[Any],
    b: Iterable[Any],
    weights: Literal["linear", "quadratic"] | None = None,
    *,
    categories: Sequence[Any] | None = None,
) -> float | None:
    """Cohen's kappa of two annotators: (p_o - p_e) / (1 - p_e) (Cohen, 1960; 1968 with weights).

    With weights, p is the mean of w_kl = 1 - |k - l|/(K - 1), or of 1 - (k - l)^2/(K - 1)^2, over positions k, l in the
    list of categories. Kappa is low where one category is much more frequent than the others: show the share of equal
    verdicts beside it.

    Args:
        a: the first annotator's verdicts, one for each target.
        b: the second's, in the same order. Where one of the two is None or NaN, the target is left out.
        weights: None for categories without order.
        categories: all categories in their order; unless given, those that occur, sorted. Give them where weights
            are used and a middle category may be missing.

    Returns:
        In [-1, 1]; None where nothing is left or chance alone makes them agree always (both gave one category).

    Raises:
        ValueError: lists of different lengths, or a verdict that is not in `categories`.
    """
    left, right = list(a), list(b)
    if len(left) != len(right):
        raise ValueError(
            f"two annotators of the same targets are needed; they gave {len(left)} and {len(right)} verdicts"
        )
    pairs = [(u, v) for u, v in zip(left, right, strict=True) if not (_missing(u) or _missing(v))]
    if not pairs:
        return None
    known = list(categories) if categories is not None else _ordered({value for pair in pairs for value in pair})
    code = {value: place for place, value in enumerate(known)}
    unknown = next((value for pair in pairs for value in pair if value not in code), None)
    if unknown is not None:
        raise ValueError(f"the verdict {unknown!r} is not among the categories {known}")
    size = len(known)
    flat = np.array([code[u] * size + code[v] for u, v in pairs], dtype=np.int64)
    table = np.bincount(flat, minlength=size * size).reshape(1, size, size).astype(np.float64)
    value = float(_kappas(table, weights)[0])
    return None if np.isnan(value) else value


def _kappas(tables: FloatArray, weights: Literal["linear", "quadratic"] | None = None) -> FloatArray:
    """Kappa of each of [r, k, k] tables; NaN where it is undefined."""
    size = tables.shape[1]
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    if weights is None:
        distance = (distance > 0).astype(np.float64)
    elif weights == "quadratic":
        distance = distance**2
    elif weights != "linear":
        raise ValueError(f"weights must be None, 'linear' or 'quadratic', not {weights!r}")
    total = tables.sum(axis=(1, 2))
    by_chance = tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (by_chance * distance).sum(axis=(1, 2)) / total
        observed = (tables * distance).sum(axis=(1, 2))
        result: FloatArray = np.where(expected > 0, 1 - observed / expected, np.nan)
    return result


def krippendorff_alpha(
    units: Iterable[Any], raters: Iterable[Any], values: Iterable[Any], level: Level = "nominal"
) -> float | None:
    """Krippendorff's alpha: 1 - D_o/D_e, for any number of raters, any unit rated by any of them.

    Every ordered pair of values in a unit with m values adds 1/(m - 1) to the coincidences O. With n_k = sum_l O_kl and
    n = sum_k n_k, alpha = 1 - (n - 1) sum O_kl d_kl / sum n_k n_l d_kl. The distance d is 1 for k != l (nominal),
    (sum_{g=k..l} n_g - (n_k + n_l)/2)^2 (ordinal), (k - l)^2 (interval), ((k - l)/(k + l))^2 (ratio).
    Krippendorff, Content Analysis, chapter on reliability.

    Args:
        units: [n] what was rated.
        raters: [n] by whom.
        values: [n] with what: numbers, or for level nominal anything that can be told apart. None and NaN are missing.
        level: the scale of the values.

    Returns:
        At most 1, 0 for chance, negative for systematic disagreement; None where no unit has two values or all values
        are equal: then nothing can be said.

    Raises:
        ValueError: lists of different lengths, an unknown level, values that are not numbers where numbers are needed,
            or one rater's two values for one unit.
    """
    if level not in ("nominal", "ordinal", "interval", "ratio"):
        raise ValueError(f"level must be nominal, ordinal, interval or ratio, not {level!r}")
    rows = [list(units), list(raters), list(values)]
    if len({len(row) for row in rows}) > 1:
        raise ValueError(
            f"units, raters and values must have one length; they have {', '.join(str(len(r)) for r in rows)}"
        )
    kept = [place for place, value in enumerate(rows[2]) if not _missing(value)]
    if not kept:
        return None
    unit, count = _codes([rows[0][place] for place in kept])
    rater, _ = _codes([rows[1][place] for place in kept])
    twice = len(np.unique(unit * (int(rater.max()) + 1) + rater)) < len(unit)
    if twice:
        raise ValueError("one rater gave two values to one unit: keep one of them, or count repetitions as raters")
    given = [rows[2][place] for place in kept]
    if level == "nominal":
        code, size = _codes(given)
        scale = np.arange(size, dtype=np.float64)
    else:
        try:
            numbers = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"level {level} needs values that are numbers") from None
        scale, code = np.unique(numbers, return_inverse=True)
        size = len(scale)
    return _alpha(unit, code.astype(np.int64), count, size, scale, level)


def _alpha(unit: IntArray, code: IntArray, units: int, size: int, scale: FloatArray, level: Level) -> float | None:
    per_unit = np.bincount(unit, minlength=units)
    paired = per_unit[unit] > 1
    unit, code = unit[paired], code[paired]
    if not len(unit):
        return None
    _, unit = np.unique(unit, return_inverse=True)
    m = np.bincount(unit)
    cell, number = np.unique(unit * size + code, return_counts=True)
    row, column, share = cell // size, cell % size, number / (m - 1.0)[cell // size]
    totals = np.bincount(column, weights=number, minlength=size).astype(np.float64)
    n = totals.sum()
    delta = _distances(scale, totals, level)
    # Disagreement inside a unit, by cells: sum_kl c_uk c_ul d_kl / (m_u - 1); the diagonal has distance 0. Only cells
    # that occur are paired, so that many distinct values cost no units x values table.
    starts = np.searchsorted(row, np.arange(len(m) + 1))
    widths = np.diff(starts)
    observed = 0.0
    for width in np.unique(widths[widths > 1]):
        block = starts[:-1][widths == width][:, None] + np.arange(width)
        columns, counts = column[block], number[block]
        distances = delta(columns[:, :, None], columns[:, None, :])
        observed += float((share[block][:, :, None] * counts[:, None, :] * distances).sum())
    present = np.flatnonzero(totals)
    expected = sum(
        float((totals[k] * totals[present] * delta(np.full(len(present), k), present)).sum()) for k in present.tolist()
    )
    return None if expected == 0 else float(1 - (n - 1) * observed / expected)


def _distances(scale: FloatArray, totals: FloatArray, level: Level) -> Callable[[IntArray, IntArray], FloatArray]:
    """The squared distance of two lists of value codes, as a function."""
    place = scale
    if level == "ordinal":  # half of the values below and at k: differences are sum_{g=k..l} n_g - (n_k + n_l)/2
        place = np.cumsum(totals) - totals / 2

    def delta(k: IntArray, j: IntArray) -> FloatArray:
        if level == "nominal":
            return np.asarray(k != j, dtype=np.float64)
        difference: FloatArray = place[k] - place[j]
        if level == "ratio":
            whole = place[k] + place[j]
            difference = np.divide(difference, whole, out=np.zeros_like(difference), where=whole != 0)
        squared: FloatArray = difference**2
        return squared

    return delta


@dataclass(frozen=True)
class OrderAgreement:
    """How far two annotators agree on which of two responses is better.

    Attributes:
        n: how many pairs both judged.
        percent: share of equal verdicts (first, tie, second), in [0, 1]; None without pairs.
        kappa: Cohen's kappa of the verdicts; None where undefined.
        low: lower end of kappa's interval; None where undefined.
        high: upper end.
    """

    n: int
    percent: float | None
    kappa: float | None
    low: float | None
    high: float | None


def order_agreement(
    a: ArrayLike,
    b: ArrayLike,
    units: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> OrderAgreement:
    """Agreement of two annotators on the order of pairs, with a bootstrap interval over units.

    Which response of a pair is called the first is arbitrary, so each pair is counted both ways round in kappa's table:
    the result does not change when pairs are turned.

    Args:
        a: [n] the first annotator's margin for each pair: > 0 the first response is better, < 0 the second, 0 a tie.
            Only the sign counts.
        b: [n] the second annotator's.
        units: [n] what is resampled as a whole, the prompt as a rule; each pair by itself unless given.
        confidence: of the interval of kappa.
        resamples: bootstrap draws.
        seed: of the draws.
    """
    left, right = np.sign(np.asarray(a, dtype=np.float64)), np.sign(np.asarray(b, dtype=np.float64))
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"two lists of one length are needed; they are {left.shape} and {right.shape}")
    if np.isnan(left).any() or np.isnan(right).any():
        raise ValueError("a margin is missing: leave such pairs out first")
    n = len(left)
    if n == 0:
        return OrderAgreement(0, None, None, None, None)
    unit = np.arange(n) if units is None else _codes(np.asarray(units).tolist())[0]
    verdict = (left + 1).astype(np.int64) * 3 + (right + 1).astype(np.int64)
    turned = 8 - verdict
    size = int(unit.max()) + 1
    counts = np.bincount(unit * 9 + verdict, minlength=size * 9) + np.bincount(unit * 9 + turned, minlength=size * 9)
    # Units with equal tables are drawn together: a few patterns in place of many units.
    patterns, times = np.unique(counts.reshape(size, 9), axis=0, return_counts=True)
    kappa = float(_kappas(patterns.T.dot(times).reshape(1, 3, 3).astype(np.float64))[0])
    interval = None
    if size > 1:
        drawn = np.random.default_rng(seed).multinomial(size, times / size, size=resamples)
        values = _kappas((drawn @ patterns).reshape(resamples, 3, 3).astype(np.float64))
        interval = percentile_interval(values[~np.isnan(values)], resamples, confidence)
    return OrderAgreement(
        n=n,
        percent=float((left == right).mean()),
        kappa=None if np.isnan(kappa) else kappa,
        low=interval[0] if interval and not np.isnan(kappa) else None,
        high=interval[1] if interval and not np.isnan(kappa) else None,
    )


def _missing(value: Any) -> bool:
    return value is None or bool(value != value)


def _ordered(values: set[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda value: (type(value).__name__, str(value)))


def _codes(values: Sequence[Any]) -> tuple[IntArray, int]:
    """Each value's number in the order of first occurrence, and how many there are."""
    code: dict[Any, int] = {}
    numbers = np.fromiter((code.setdefault(value, len(code)) for value in values), dtype=np.int64, count=len(values))
    return numbers, len(code)
