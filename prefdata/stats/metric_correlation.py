"""Whether a metric ranks systems as people do, item by item: a metric's leaderboard against people's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.checking import check_magnitude, checked_count
from prefdata.stats.coding import FloatArray, codes
from prefdata.stats.correlation import kendall_tau, spearman
from prefdata.stats.estimate import Estimate
from prefdata.stats.resampling import Draws

Kind = Literal["kendall", "spearman"]


@dataclass(frozen=True)
class MetricCorrelation(Estimate):
    """The mean over items of a rank correlation within each; `n` counts the items that have one.

    Attributes:
        by_item: [items] in the order of first occurrence; NaN where either side is constant. Two metrics on the same
            items are compared by `paired_difference` of these.
        dropped: how many items have none.
        pooled: Pearson's correlation over all rows, which mixes how hard items are into it; None where undefined.
        systems: the rank correlation of the systems' means; None without systems, or where undefined.
    """

    by_item: FloatArray
    dropped: int
    pooled: float | None
    systems: float | None


def metric_correlation(
    items: Sequence[Any],
    gold: ArrayLike,
    metric: ArrayLike,
    *,
    systems: Sequence[Any] | None = None,
    kind: Kind = "kendall",
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> MetricCorrelation:
    """Correlate a metric with people's judgements of several systems on each item.

    Args:
        items: [n] the item of each row.
        gold: [n] what people said, higher is better: negate ranks.
        metric: [n] what the metric says.
        systems: [n] the system of each row.
        kind: Kendall's tau-b or Spearman's rho; both know ties.
        confidence: of the interval, by bootstrap over items, in (0, 1).
        resamples: how many draws.
        seed: of the draws.

    Raises:
        ValueError: lists of different lengths, a number that is missing or infinite, or an unknown kind.
    """
    x, y = np.asarray(gold, dtype=np.float64), np.asarray(metric, dtype=np.float64)
    if x.shape != (len(items),) or y.shape != x.shape or (systems is not None and len(systems) != len(x)):
        raise ValueError(f"each row needs an item and two numbers; there are {len(items)}, {x.shape} and {y.shape}")
    if not np.isfinite([x, y]).all():
        raise ValueError("a value is missing or infinite: leave such rows out first")
    resamples = checked_count(resamples, "resamples")
    if kind not in ("kendall", "spearman"):
        raise ValueError(f"the kind is kendall or spearman; it is {kind!r}")
    correlate = kendall_tau if kind == "kendall" else spearman
    of, count = codes(list(items))
    order = np.argsort(of, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(of, minlength=count))[:-1]) if count else []
    found = [correlate(x[rows], y[rows]).value for rows in parts]
    by_item = np.array([np.nan if value is None else value for value in found])
    kept = by_item[~np.isnan(by_item)]
    value, ends = None, None
    if len(kept):
        draws = Draws(np.arange(len(kept)), resamples=resamples, seed=seed)
        value, drawn = draws.ratio(kept, np.ones(len(kept)))
        ends = draws.interval(drawn, confidence)
    between = None
    if systems is not None and len(x):
        by, total = codes(list(systems))
        times = np.bincount(by, minlength=total)
        between = correlate(np.bincount(by, x, total) / times, np.bincount(by, y, total) / times).value
    low, high = ends or (None, None)
    return MetricCorrelation(value, low, high, len(kept), by_item, len(by_item) - len(kept), pearson(x, y), between)


def pearson(x: ArrayLike, y: ArrayLike) -> float | None:
    """Pearson's correlation; None for fewer than two points or where one side is constant."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not np.isfinite([a, b]).all():
        raise ValueError(f"two lists of finite numbers of one length are needed; they are {a.shape} and {b.shape}")
    check_magnitude(a, "a number")
    check_magnitude(b, "a number")
    if len(a) < 2 or a.min() == a.max() or b.min() == b.max():
        return None
    u, v = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((u @ u) * (v @ v)))
    return float(np.clip(u @ v / spread, -1, 1)) if spread > 0 else None
