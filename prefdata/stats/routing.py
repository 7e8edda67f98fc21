"""Which pairs are worth a person: what sending them to people is predicted to gain, and a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import check_magnitude, checked_count
from prefdata.stats.estimate import Estimate, Estimates, normal_quantile

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Form = Literal["linear", "quadratic"]


def quantile_bins(values: ArrayLike, bins: int = 3) -> NDArray[np.int64]:
    """[n] the bin of each number by its rank, 0 (low) to bins - 1; -1 for one that is missing.

    Equal numbers have the mean of their ranks and so lie in one bin. Every number lies in some bin: the released code
    drops those on a boundary.

    Args:
        values: [n], NaN for a missing one.
        bins: how many, at least 1.

    Raises:
        ValueError: no bins, or an infinite number.

    Source: Miranda et al. 2024, Hybrid Preferences (MultiPref), the binned features.
    """
    if not bins >= 1:
        raise ValueError(f"at least one bin is needed; they are {bins}")
    bins = checked_count(bins, "bins")
    x = np.asarray(values, dtype=np.float64).ravel()
    if np.isinf(x).any():
        raise ValueError("a feature is infinite: leave it out first")
    known = ~np.isnan(x)
    found = np.full(len(x), -1, dtype=np.int64)
    if not known.any():
        return found
    _, code, count = np.unique(x[known], return_inverse=True, return_counts=True)
    middle = (np.cumsum(count) - count / 2) / known.sum()  # the mid-rank as a share, in (0, 1)
    found[known] = np.minimum((middle * bins).astype(np.int64), bins - 1)[code]
    return found


def binned_features(columns: Mapping[str, ArrayLike], bins: int = 3) -> tuple[tuple[str, ...], BoolArray]:
    """Names and [n, F] of the binary features `NAME:low`, `NAME:middle`, `NAME:high` (of other numbers `NAME:0`, ...).

    A missing number has none of its features.

    Args:
        columns: numbers by name, each [n].
        bins: of each.
    """
    words = {2: ("low", "high"), 3: ("low", "middle", "high")}.get(bins, tuple(map(str, range(bins))))
    names: list[str] = []
    parts: list[BoolArray] = []
    for name, values in columns.items():
        place = quantile_bins(values, bins)
        names += [f"{name}:{word}" for word in words]
        parts.append(place[:, None] == np.arange(bins))
    n = len(next(iter(parts))) if parts else 0
    return tuple(names), np.concatenate(parts, axis=1) if parts else np.zeros((n, 0), dtype=bool)


@dataclass(frozen=True)
class PerformanceModel(Estimates):
    """What a mix of labels is predicted to be worth, from how many instances of each feature people labelled.

    `values` are the coefficients by feature [F] (linear), or by feature, square and product [F (F + 3) / 2]
    (quadratic); `low` and `high` their intervals, NaN where coefficients were given or rows are too few.

    Attributes:
        features: [F] names, in order.
        form: linear or quadratic.
        intercept: what a mix without people is worth.
        held_out: R^2 on the mixes left out of the fit; its value is None where there were none.
    """

    features: tuple[str, ...]
    form: Form
    intercept: float
    held_out: Estimate

    def predict(self, counts: ArrayLike) -> FloatArray:
        """[n] the value of mixes [n, F]."""
        result: FloatArray = self.intercept + _terms(np.asarray(counts, np.float64), self.form) @ self.values
        return result

    def gain(self, active: ArrayLike) -> FloatArray:
        """[n] what a person's label on each instance [n, F] (0 or 1) adds: `predict(instance) - predict(0)`.

        Linear: the sum of the coefficients of its features, whatever else is routed. Quadratic: of the first instance
        alone; such gains do not add up.
        """
        result: FloatArray = _terms(np.asarray(active, np.float64), self.form) @ self.values
        return result


def given_model(coefficients: Mapping[str, float]) -> PerformanceModel:
    """A linear model of known coefficients, by feature.

    Raises:
        ValueError: one that is not finite.
    """
    values = np.array(list(coefficients.values()), dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a coefficient of the routing is not finite")
    nothing = np.full(len(values), np.nan)
    return PerformanceModel(values, nothing, nothing, tuple(coefficients), "linear", 0.0, Estimate(None, None, None, 0))


def performance_model(
    counts: ArrayLike,
    performance: ArrayLike,
    features: Sequence[str],
    *,
    form: Form = "linear",
    ridge: float = 1e-6,
    held_out: float = 0.2,
    seed: int = 42,
    confidence: float = 0.95,
) -> PerformanceModel:
    """Fit what past mixes were worth.

    Args:
        counts: [n, F] for each mix how many instances of each feature people labelled. Train and use at one size of
            mix: counts grow with it.
        performance: [n] what a model trained on the mix was worth (the accuracy of its reward model).
        features: [F] names.
        form: linear, or quadratic with squares and products.
        ridge: penalty of the standardised coefficients, above 0; feature counts of one column add up, so that without
            it they are not determined.
        held_out: share of the mixes that only judge the fit; the coefficients are of the others.
        seed: which these are.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: shapes that do not fit, fewer than two mixes, a number that is not finite, or a ridge of 0.

    Source: Miranda et al. 2024, Hybrid Preferences, section 3 (80/20, seed 42; linear or quadratic regressor).
    """
    if form not in ("linear", "quadratic"):
        raise ValueError(f"the form is linear or quadratic; it is {form!r}")
    x, y = _checked_mixes(counts, performance, len(features), ridge, held_out)
    order = np.random.default_rng(seed).permutation(len(x))
    left_out = min(int(len(x) * held_out), len(x) - 2)
    test, train = order[:left_out], order[left_out:]
    terms = _terms(x, form)
    centre, scale = terms[train].mean(axis=0), terms[train].std(axis=0)
    scale[scale == 0] = 1.0
    z = (terms[train] - centre) / scale
    gram = z.T @ z + ridge * np.eye(z.shape[1])
    inverse = np.linalg.inv(gram)
    beta = inverse @ (z.T @ (y[train] - y[train].mean()))
    residual = y[train] - y[train].mean() - z @ beta
    hat = inverse @ z.T
    freedom = len(train) - 1 - float((hat.T * z).sum())
    variance = float((residual**2).sum()) / freedom if freedom >= 1 else np.nan
    half = normal_quantile(confidence) * np.sqrt(variance * (hat**2).sum(axis=1)) / scale
    values = beta / scale
    model = PerformanceModel(
        values,
        values - half,
        values + half,
        tuple(features),
        form,
        float(y[train].mean() - centre @ values),
        Estimate(None, None, None, len(test)),
    )
    return replace(model, held_out=_explained(model, x[test], y[test]))


def _explained(model: PerformanceModel, x: FloatArray, y: FloatArray) -> Estimate:
    """1 less the share of the variance that is left; None where nothing varies."""
    whole = float(((y - y.mean()) ** 2).sum()) if len(y) > 1 and y.min() < y.max() else 0.0
    if whole == 0:  # also where the differences are so small that their squares are nothing
        return Estimate(None, None, None, len(y))
    return Estimate(1 - float(((y - model.predict(x)) ** 2).sum()) / whole, None, None, len(y))


def _checked_mixes(
    counts: ArrayLike, performance: ArrayLike, features: int, ridge: float, held_out: float
) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(counts, dtype=np.float64), np.asarray(performance, dtype=np.float64)
    if x.ndim != 2 or y.shape != (len(x),) or x.shape[1] != features or len(x) < 2:
        raise ValueError(f"at least two mixes of {features} features with their worth are needed; they are {x.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a mix's counts or its worth is missing or infinite")
    check_magnitude(x, "a count")
    check_magnitude(y, "a mix's worth")
    if not (ridge > 0 and np.isfinite(ridge)) or not 0 <= held_out < 1:
        raise ValueError(f"ridge is above 0 and held_out in [0, 1); they are {ridge} and {held_out}")
    return x, y


def _terms(x: FloatArray, form: Form) -> FloatArray:
    if form == "linear":
        return x
    i, j = np.triu_indices(x.shape[1])
    result: FloatArray = np.concatenate([x, x[:, i] * x[:, j]], axis=1)
    return result


def within_budget(gain: ArrayLike, budget: float) -> BoolArray:
    """[n] which instances go to people: the `int(n * budget)` of the largest gain, equal ones in their order.

    Args:
        gain: [n], NaN for one that is not to go.
        budget: the share, 0 (none) to 1 (all that have a gain).

    Raises:
        ValueError: a budget outside [0, 1], or an infinite gain.
    """
    if not 0 <= budget <= 1:
        raise ValueError(f"a budget is a share from 0 to 1; it is {budget}")
    g = np.asarray(gain, dtype=np.float64).ravel()
    if np.isinf(g).any():
        raise ValueError("a gain is infinite: leave it missing where an instance is not to go")
    most = int(len(g) * budget + 1e-9)
    chosen = np.zeros(len(g), dtype=bool)
    order = np.argsort(-np.where(np.isnan(g), -np.inf, g), kind="stable")[:most]
    chosen[order] = True
    return chosen & ~np.isnan(g)
