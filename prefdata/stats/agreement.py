"""How far two annotators agree: Cohen's kappa, and agreement on the order of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.coding import FloatArray, IntArray, codes, missing, ordered
from prefdata.stats.intervals import percentile_interval

_BLOCK = 1 << 21
"""So many cells of resampled tables are held at once."""


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
    given = _Couple.of(a, b, categories, None)
    value = float("nan") if given is None else given.kappa(weights)
    return None if np.isnan(value) else value


def kappas(tables: FloatArray, weights: Literal["linear", "quadratic"] | None = None) -> FloatArray:
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


def kappa_interval(
    a: Iterable[Any],
    b: Iterable[Any],
    weights: Literal["linear", "quadratic"] | None = None,
    *,
    categories: Sequence[Any] | None = None,
    units: Iterable[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of Cohen's kappa.

    Args:
        a: as in `cohen_kappa`.
        b: likewise.
        weights: likewise.
        categories: likewise.
        units: [n] what is drawn as a whole, the prompt as a rule; each target by itself unless given.
        confidence: in (0, 1).
        resamples: bootstrap draws.
        seed: of the draws; the result is the same for the same seed.

    Returns:
        (low, high), or None where kappa is undefined or there are fewer than two units.

    Raises:
        ValueError: as `cohen_kappa`; a confidence outside (0, 1), or units of another length.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1; it is {confidence}")
    given = _Couple.of(a, b, categories, units)
    if given is None:
        return None
    cell, size = given.cell, given.size
    of, count = codes(np.arange(len(cell)) if given.unit is None else given.unit)
    if count < 2 or np.isnan(given.kappa(weights)):
        return None
    # Units with equal tables are drawn together: a few patterns in place of many units.
    cells, dense = np.unique(cell, return_inverse=True)
    counts = np.bincount(of * len(cells) + dense, minlength=count * len(cells)).reshape(count, len(cells))
    patterns, times = np.unique(counts, axis=0, return_counts=True)
    draw, values = np.random.default_rng(seed), []
    for start in range(0, resamples, step := max(1, _BLOCK // (size * size))):
        drawn = draw.multinomial(count, times / count, size=min(step, resamples - start))
        tables = np.zeros((len(drawn), size * size))
        tables[:, cells] = drawn @ patterns
        values.append(kappas(tables.reshape(-1, size, size), weights))
    found = np.concatenate(values)
    return percentile_interval(found[~np.isnan(found)], resamples, confidence)


@dataclass(frozen=True)
class _Couple:
    """Two annotators' verdicts as cells of one table.

    Attributes:
        cell: [n] first category times size, plus the second.
        size: how many categories there are.
        unit: [n] of each, or None.
    """

    cell: IntArray
    size: int
    unit: list[Any] | None

    @classmethod
    def of(
        cls,
        a: Iterable[Any],
        b: Iterable[Any],
        categories: Sequence[Any] | None,
        units: Iterable[Any] | None,
    ) -> _Couple | None:
        left, right = list(a), list(b)
        if len(left) != len(right):
            raise ValueError(
                f"two annotators of the same targets are needed; they gave {len(left)} and {len(right)} verdicts"
            )
        unit = None if units is None else list(units)
        if unit is not None and len(unit) != len(left):
            raise ValueError(f"each of the {len(left)} verdicts needs its unit; there are {len(unit)}")
        kept = [n for n, (u, v) in enumerate(zip(left, right, strict=True)) if not (missing(u) or missing(v))]
        if not kept:
            return None
        pairs = [(left[n], right[n]) for n in kept]
        known = list(categories) if categories is not None else ordered({value for pair in pairs for value in pair})
        code = {value: place for place, value in enumerate(known)}
        unknown = next((value for pair in pairs for value in pair if value not in code), None)
        if unknown is not None:
            raise ValueError(f"the verdict {unknown!r} is not among the categories {known}")
        cell = np.array([code[u] * len(known) + code[v] for u, v in pairs], dtype=np.int64)
        return cls(cell, len(known), None if unit is None else [unit[n] for n in kept])

    def kappa(self, weights: Literal["linear", "quadratic"] | None) -> float:
        """Kappa of the whole table; NaN where it is undefined."""
        table = np.bincount(self.cell, minlength=self.size**2).reshape(1, self.size, self.size)
        return float(kappas(table.astype(np.float64), weights)[0])


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
    unit = np.arange(n) if units is None else codes(np.asarray(units).tolist())[0]
    verdict = (left + 1).astype(np.int64) * 3 + (right + 1).astype(np.int64)
    turned = 8 - verdict
    size = int(unit.max()) + 1
    counts = np.bincount(unit * 9 + verdict, minlength=size * 9) + np.bincount(unit * 9 + turned, minlength=size * 9)
    # Units with equal tables are drawn together: a few patterns in place of many units.
    patterns, times = np.unique(counts.reshape(size, 9), axis=0, return_counts=True)
    kappa = float(kappas(patterns.T.dot(times).reshape(1, 3, 3).astype(np.float64))[0])
    interval = None
    if size > 1:
        drawn = np.random.default_rng(seed).multinomial(size, times / size, size=resamples)
        values = kappas((drawn @ patterns).reshape(resamples, 3, 3).astype(np.float64))
        interval = percentile_interval(values[~np.isnan(values)], resamples, confidence)
    return OrderAgreement(
        n=n,
        percent=float((left == right).mean()),
        kappa=None if np.isnan(kappa) else kappa,
        low=interval[0] if interval and not np.isnan(kappa) else None,
        high=interval[1] if interval and not np.isnan(kappa) else None,
    )
