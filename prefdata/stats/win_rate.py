"""Win rates against a baseline: raw, discrete, by category, of two games, and with strong verdicts counted more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prefdata.stats.checking import checked_weights
from prefdata.stats.coding import FloatArray, IntArray, codes
from prefdata.stats.estimate import Estimate
from prefdata.stats.intervals import check_confidence, wilson_interval

STRONG_WEIGHT = 3.0
"""How much `A>>B` counts beside `A>B`, as in Arena-Hard."""
_VERDICTS = {"A>>B": (1.0, True), "A>B": (1.0, False), "A=B": (0.5, False), "B>A": (0.0, False), "B>>A": (0.0, True)}
_MIRRORED = {"A<B": "B>A", "A<<B": "B>>A", "B<A": "A>B", "B<<A": "A>>B", "B=A": "A=B"}


@dataclass(frozen=True)
class WinRate(Estimate):
    """How often a model beats a baseline; `value` is the mean outcome, 0 to 1, and `n` counts the rows.

    Attributes:
        standard_error: of the value, by rows or clusters; None with fewer than two of them.
        discrete: a win as 1, a tie as a half: how far from 0.5 an outcome is does not matter.
        wins: weight of outcomes above 0.5.
        losses: weight of outcomes below it.
        ties: weight of outcomes of exactly 0.5.
    """

    standard_error: float | None
    discrete: float | None
    wins: float
    losses: float
    ties: float

    @property
    def tie_rate(self) -> float | None:
        """The share of ties."""
        total = self.wins + self.losses + self.ties
        return self.ties / total if total else None


def win_rate(
    outcomes: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> WinRate:
    """The mean outcome with its interval: Student's, from the spread of rows or clusters; Wilson's where there is none.

    Its degrees of freedom are those of the effective number of rows or clusters, (sum w)^2 / sum w^2 (Kish, 1965): few
    of them, or a few that weigh most, leave the spread itself unsure.

    Args:
        outcomes: [n] P(model better) in [0, 1]; 0.5 is a tie. See `from_alpaca_eval`, `verdict_games`, `two_games`.
        weights: [n] not negative; 1 each unless given. A weight counts a row's outcome more, and its error with it.
        clusters: [n] rows of one cluster depend on one another (the prompt of two games); each by itself unless given.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: an outcome that is missing or out of range, a weight out of range, lists of different lengths.
    """
    y = checked_outcomes(outcomes)
    w = checked_weights(weights, len(y), "outcomes")
    of, _ = cluster_codes(clusters, len(y))
    total = float(w.sum())
    check_confidence(confidence)
    won, lost, tied = (float(w[chosen].sum()) for chosen in (y > 0.5, y < 0.5, y == 0.5))
    if total == 0:
        return WinRate(None, None, None, len(y), None, None, won, lost, tied)
    value = float(w @ y) / total
    summed = np.bincount(of, w * (y - value))
    units = int((np.bincount(of, w) > 0).sum())
    discrete = (won + tied / 2) / total
    if units < 2:
        return WinRate(value, None, None, len(y), None, discrete, won, lost, tied)
    error = float(np.sqrt(summed @ summed * units / (units - 1))) / total
    if error > 0:
        half = _student(np.asarray(np.bincount(of, w), dtype=np.float64), confidence) * error
        low, high = max(value - half, 0.0), min(value + half, 1.0)
    else:  # all outcomes are equal: that is not the same as knowing the rate
        low, high = wilson_interval(value * units, units, confidence)
    return WinRate(value, low, high, len(y), error, discrete, won, lost, tied)


def _student(weights: FloatArray, confidence: float) -> float:
    """How many standard errors the interval reaches."""
    from scipy.special import stdtrit

    share = weights / weights.max()
    effective = float(share.sum()) ** 2 / float(share @ share)
    reach = float(stdtrit(max(effective - 1, 0.01), 0.5 + confidence / 2))
    return reach if reach == reach else float("inf")


def win_rate_by(
    outcomes: ArrayLike,
    categories: Sequence[Any],
    weights: ArrayLike | None = None,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> dict[Any, WinRate]:
    """The win rate within each category [n], in the order of first occurrence; see `win_rate`."""
    y = checked_outcomes(outcomes)
    if len(categories) != len(y):
        raise ValueError(f"there must be one category for each of the {len(y)} outcomes; there are {len(categories)}")
    places: dict[Any, list[int]] = {}
    for place, category in enumerate(categories):
        places.setdefault(category, []).append(place)
    w = None if weights is None else checked_weights(weights, len(y), "outcomes")
    of = None if clusters is None else cluster_codes(clusters, len(y))[0]
    return {
        category: win_rate(
            y[rows], None if w is None else w[rows], clusters=None if of is None else of[rows], confidence=confidence
        )
        for category, rows in places.items()
    }


def from_alpaca_eval(preference: ArrayLike) -> FloatArray:
    """[n] outcomes from AlpacaEval's preferences: 1 the baseline is better, 2 the model, 0 (no verdict) a tie."""
    given = np.asarray(preference, dtype=np.float64)
    return checked_outcomes(np.where(given == 0, 0.5, given - 1))


def two_games(model_second: ArrayLike, model_first: ArrayLike) -> FloatArray:
    """[n] the model's outcome in two games with places swapped: the mean of the two.

    Args:
        model_second: [n] P(the second is better) with the model in the second place.
        model_first: [n] P(the second is better) with the model in the first place.
    """
    first, second = checked_outcomes(model_second), checked_outcomes(model_first)
    if first.shape != second.shape:
        raise ValueError(f"each prompt needs two games; there are {len(first)} and {len(second)}")
    made: FloatArray = (first + 1 - second) / 2
    return made


def verdict_games(verdicts: Sequence[str], *, strong: float = STRONG_WEIGHT) -> tuple[FloatArray, FloatArray]:
    """Outcomes for A and weights from Arena-Hard's verdicts `A>>B`, `A>B`, `A=B`, `B>A`, `B>>A`.

    A strong verdict counts as so many wins. That is a weight and no repetition: the interval of `win_rate` knows that
    it is one verdict.

    Args:
        verdicts: [n].
        strong: how much a strong verdict counts, above 0.

    Raises:
        ValueError: a verdict that is none of these.
    """
    if not (strong > 0 and np.isfinite(strong)):
        raise ValueError(f"a strong verdict must count something; it counts {strong}")
    outcomes, weights = [], []
    for place, verdict in enumerate(verdicts):
        name = _MIRRORED.get(verdict, verdict) if isinstance(verdict, str) else None
        if name not in _VERDICTS:
            raise ValueError(f"verdict {place} is {verdict!r}; it must be one of {', '.join(_VERDICTS)}")
        outcome, is_strong = _VERDICTS[name]
        outcomes.append(outcome)
        weights.append(strong if is_strong else 1.0)
    return np.array(outcomes), np.array(weights)


def checked_outcomes(outcomes: ArrayLike) -> FloatArray:
    """[n] numbers in [0, 1], or a ValueError that names the first that is none."""
    y = np.asarray(outcomes, dtype=np.float64)
    if y.ndim != 1:
        raise ValueError(f"one list of outcomes is needed, not an array of shape {y.shape}")
    bad = ~((y >= 0) & (y <= 1))
    if bad.any():
        place = int(bad.argmax())
        raise ValueError(f"outcome {place} is {y[place]}: an outcome is P(model better), from 0 to 1")
    return y


def cluster_codes(clusters: ArrayLike | None, n: int) -> tuple[IntArray, int]:
    """[n] the number of each row's cluster, and how many there are; each row by itself unless given."""
    if clusters is None:
        return np.arange(n), n
    named = np.asarray(clusters)
    if named.shape != (n,):
        raise ValueError(f"there must be one cluster for each of the {n} rows; they are {named.shape}")
    return codes(named if named.dtype.kind in "iuf" else named.tolist())
