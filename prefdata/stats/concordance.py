"""How far several rankings of the same agree: Kendall's coefficient of concordance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.coding import FloatArray
from prefdata.stats.correlation import midranks
from prefdata.stats.estimate import Estimate


@dataclass(frozen=True)
class Concordance(Estimate):
    """Kendall's W; `n` counts the rankings. It has no interval by itself: resample what was ranked, or the rankers.

    Attributes:
        ranks: [k] the mean rank of each, 1 is best.
        p_value: that rankings without any agreement give as much (Friedman's chi-squared, rough for few rankings).
    """

    ranks: FloatArray
    p_value: float | None


def kendall_w(scores: ArrayLike) -> Concordance:
    """W = 12 S / (m^2 (k^3 - k) - m sum_ties (t^3 - t)), S the spread of the rank sums (Kendall and Babington Smith).

    Args:
        scores: [m, k] of m rankers on the same k, higher is better; equal scores are ties.

    Returns:
        value: 0 to 1; None for fewer than two rankers or two who are ranked, or where everybody ties everything.

    Raises:
        ValueError: no table of finite numbers.
    """
    from scipy.special import chdtrc

    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise ValueError(f"a table of finite scores is needed, a row for each ranker; its shape is {table.shape}")
    m, k = table.shape
    if not table.size:
        return Concordance(None, None, None, m, np.full(k, np.nan), None)
    ranks = np.array([midranks(-row) for row in table])
    sums = ranks.sum(axis=0)
    tied = sum(float((count**3 - count).sum()) for count in (np.unique(row, return_counts=True)[1] for row in ranks))
    most = m * m * (k**3 - k) - m * tied
    if m < 2 or k < 2 or most <= 0:
        return Concordance(None, None, None, m, sums / m, None)
    value = 12 * float(((sums - sums.mean()) ** 2).sum()) / most
    return Concordance(value, None, None, m, sums / m, float(chdtrc(k - 1, m * (k - 1) * value)))
