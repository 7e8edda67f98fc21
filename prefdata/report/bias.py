"""Position and length bias of each annotator, in logits, so that judges with other rates of ties can be compared.

Two orders: of the pairs whose two verdicts contradict each other, how many go to the first shown both times. With b in
sigma(difference + b) for the one shown first, these are won by it with odds e^(2b), whatever the difference: so
b = 1/2 log(first/second) is the conditional maximum likelihood. One order: the intercept of a logistic regression of
"the first shown wins" on the logarithm of the ratio of lengths, which is right as far as the order was drawn at random.
"""

from __future__ import annotations

from math import comb, erfc, log, sqrt
from typing import Any

import numpy as np
import polars as pl

from prefdata.report.annotators import MOST_ANNOTATORS, NO_FIRST, NO_ORDERS, first_shown, two_orders
from prefdata.report.numbers import Entry, share
from prefdata.report.reading import THRESHOLDS
from prefdata.report.verdicts import TIE, Verdicts
from prefdata.stats import wilson_interval
from prefdata.stats.logistic import logistic

_WHO = ["annotator", "source", "aspect"]

_EXACT = 1000
"""Up to so many contradictions the test of them is exact."""

NO_EFFECT: Entry = {"value": None, "low": None, "high": None, "n": 0}


def bias(verdicts: Verdicts) -> Entry:
    """Each annotator's bias of position and length.

    Returns:
        by: {name, source, aspect, flips (share of the pairs decided in both orders whose winner changes with the
            order), orders (see `annotators`; position: {value, low, high, n} b in logits; p_value: of as many
            contradictions for either side, McNemar's exact test), first_shown, one_order ({position, doubling}: each
            {value, low, high, n} in logits; doubling: what twice the length adds), length ({n, correlation, slope: of
            the margin on the difference in characters}); None where no annotator compared or ordered two responses.
        slots: see `_slots`; None where nobody chose from three or more.
    """
    keys = verdicts.by_annotator.group_by(_WHO).agg(n=pl.len())
    keys = keys.sort(["n", *_WHO], descending=[True, *(False for _ in _WHO)]).head(MOST_ANNOTATORS)
    shown = verdicts.shown.join(keys, on=_WHO, how="semi")
    first, orders = first_shown(shown, _WHO), two_orders(shown, _WHO)
    judged = _parts(_with_lengths(shown, verdicts.lengths))
    pairs = _parts(verdicts.by_annotator.join(keys, on=_WHO, how="semi").sort("prompt_id", "first", "second"))
    by = []
    for *key, n in keys.iter_rows():
        who = tuple(key)
        both = orders.get(who, NO_ORDERS)
        by.append(
            {
                "name": who[0],
                "source": who[1],
                "aspect": who[2],
                "pairs": n,
                "flips": share(both["first_both"] + both["second_both"], both["n"]),
                "orders": {
                    **both,
                    "position": position_logit(both["first_both"], both["second_both"]),
                    "p_value": mcnemar(both["first_both"], both["second_both"]),
                },
                "first_shown": first.get(who, NO_FIRST),
                "one_order": _one_order(judged.get(who)),
                "length": length_slope(pairs[who]["margin"].to_numpy(), pairs[who]["gap"].to_numpy()),
            }
        )
    return {"by": by or None, "slots": _slots(verdicts)}


def _parts(rows: pl.DataFrame) -> dict[tuple[Any, ...], pl.DataFrame]:
    return rows.partition_by(_WHO, as_dict=True, maintain_order=True)


def position_logit(first: int, second: int) -> Entry:
    """The bias b = 1/2 log(first/second) with Wilson's interval carried over; None where infinite.

    Args:
        first: contradictions that the first shown won both times.
        second: those that the second shown won.
    """
    n = first + second
    if n < 1:
        return NO_EFFECT
    low, high = wilson_interval(first, n)
    return {"value": _half_logit(first / n), "low": _half_logit(low), "high": _half_logit(high), "n": n}


def _half_logit(p: float) -> float | None:
    return 0.5 * log(p / (1 - p)) if 1e-12 < p < 1 - 1e-12 else None


def mcnemar(first: int, second: int) -> float | None:
    """Two-sided p-value that either is as probable: exact (binomial) for few, by the normal law for many."""
    n = first + second
    if n == 0:
        return None
    if n > _EXACT:
        return erfc(abs(first - second) / sqrt(2 * n))
    tail = sum(comb(n, k) for k in range(min(first, second) + 1))
    return min(1.0, float(2 * tail / 2**n))


def _with_lengths(shown: pl.DataFrame, lengths: pl.DataFrame) -> pl.DataFrame:
    """Of each comparison log2 of (length of the first shown + 1)/(of the second shown + 1), in `doublings`."""
    rows = shown
    for side in ("first", "second"):
        named = lengths.rename({"response_id": side, "length": f"length_{side}"})
        rows = rows.join(named, on=side, how="left", maintain_order="left")
    ratio = ((pl.col("length_first") + 1) / (pl.col("length_second") + 1)).log(2)
    turned = pl.when("turned").then(-ratio).otherwise(ratio)
    rows = rows.with_columns(doublings=turned).drop_nulls("doublings")
    return rows.sort(*_WHO, "prompt_id", "first", "second", "turned", "replicate", "p", nulls_last=True)


def _one_order(rows: pl.DataFrame | None) -> Entry:
    """Position and length together, of decided comparisons; intervals by prompts."""
    nothing: Entry = {"position": NO_EFFECT, "doubling": NO_EFFECT}
    if rows is None:
        return nothing
    decided = rows.filter((pl.col("p") - 0.5).abs() > TIE)
    if decided.height < THRESHOLDS.least:
        return nothing
    y = (decided["p"] > 0.5).cast(pl.Float64).to_numpy()
    doublings = decided["doublings"].to_numpy()
    varies = bool(np.ptp(doublings) > 1e-9)
    features = np.column_stack([np.ones(len(y)), doublings]) if varies else np.ones((len(y), 1))
    try:
        fit = logistic(features, y, clusters=decided["prompt_id"].rank("dense").fill_null(0).to_numpy())
    except ValueError:  # position or length alone decides everything: the effect is infinite
        return nothing
    if not fit.converged:
        return nothing
    made = [
        {"value": float(fit.values[k]), "low": float(fit.low[k]), "high": float(fit.high[k]), "n": len(y)}
        for k in range(features.shape[1])
    ]
    return {"position": made[0], "doubling": made[1] if varies else NO_EFFECT}


def length_slope(margins: Any, gaps: Any) -> Entry:
    """How margins go with differences of length, each pair counted both ways round, so that nothing is left to names.

    Args:
        margins: [n] in [-1, 1].
        gaps: [n] characters; NaN where unknown.
    """
    margin, gap = np.asarray(margins, dtype=np.float64), np.asarray(gaps, dtype=np.float64)
    known = np.isfinite(margin) & np.isfinite(gap)
    margin, gap = margin[known], gap[known]
    across, along, both = float((margin**2).sum()), float((gap**2).sum()), float((margin * gap).sum())
    return {
        "n": int(known.sum()),
        "correlation": both / sqrt(across * along) if across > 0 and along > 0 else None,
        "slope": both / along if along > 0 else None,
    }


def _slots(verdicts: Verdicts) -> list[Entry] | None:
    """Where three or more are shown at once: how often each place is put first.

    Returns:
        {name, aspect, protocol, options, n, shares ([options] of lists with one best), bias (standard deviation of
        options times share: 0 where every place wins as often, as for choices among fixed options), p_value (chi
        squared, of equal shares)}.
    """
    many = (pl.col("target_ids").list.len() > 2) & pl.col("protocol").is_in(["choose", "rank"])
    rows = verdicts.annotations.filter((pl.col("target") == "response") & (pl.col("status") == "ok") & many)
    rows = rows.filter(pl.col("scores").list.len() == pl.col("target_ids").list.len())
    by = ["annotator", "aspect", "protocol", "options"]
    counts = (
        rows.with_columns(options=pl.col("scores").list.len(), place=pl.col("scores").list.arg_max())
        .with_columns(tops=pl.col("scores").list.eval(pl.element() == pl.element().max()).list.sum())
        .filter(pl.col("tops") == 1)
        .group_by(*by, "place")
        .agg(n=pl.len())
        .sort(*by, "place")
    )
    made = []
    for (name, aspect, protocol, options), part in counts.partition_by(by, as_dict=True, maintain_order=True).items():
        won = np.zeros(int(str(options)))
        won[part["place"].to_numpy()] = part["n"].to_numpy()
        total = won.sum()
        if total < THRESHOLDS.least:
            continue
        made.append(
            {
                "name": name,
                "aspect": aspect,
                "protocol": protocol,
                "options": len(won),
                "n": int(total),
                "shares": (won / total).tolist(),
                "bias": float(np.std(len(won) * won / total)),
                "p_value": _chi_squared(won),
            }
        )
    made.sort(key=lambda one: (-one["n"], str(one["name"]), str(one["aspect"]), one["options"]))
    return made[:MOST_ANNOTATORS] or None


def _chi_squared(counts: Any) -> float:
    from scipy.special import gammaincc

    mean = counts.mean()
    return float(gammaincc((len(counts) - 1) / 2, ((counts - mean) ** 2 / mean).sum() / 2))
