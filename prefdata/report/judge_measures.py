"""How near a judge is to a reference, in numbers with intervals that come from common draws of prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from prefdata.report.numbers import Entry
from prefdata.stats import Draws, kappas
from prefdata.stats.coding import FloatArray, IntArray

_TABLE = 9
"""Cells of the table of two verdicts, each -1, 0 or 1."""

EMPTY: Entry = {"value": None, "low": None, "high": None, "n": 0}
"""A measure that rests on nothing."""

SHARES = ("accuracy", "averaged", "decided", "same", "longer", "reference_longer", "longer_rule", "ties")
"""Measures in [0, 1]."""

MEASURES = (*SHARES, "kappa", "over_longer", "excess_length", "self_preference")


def credit(verdict: FloatArray, truth: FloatArray) -> FloatArray:
    """1 where the verdict has the order of the truth, one half where it is a tie, 0 where it is the other one.

    An expectation: of a judge that tosses a coin whenever it finds no difference. It makes judges that call few ties
    and judges that call many comparable, and chance is one half for either.
    """
    return (verdict * truth + 1) / 2


def measures(rows: pl.DataFrame, draws: Draws) -> Entry:
    """The measures of one judge.

    Args:
        rows: verdict and truth (1, 0, -1), margin and longer (as in `Verdicts`; longer is null where unknown), own (1
            where the judge's model wrote the first response alone, -1 the second, 0 neither or both), row (its number
            in `draws`).
        draws: of the prompts.

    Returns:
        prompts, pairs, shared (pairs that the reference orders), and of each name in MEASURES {value, low, high, n}:

        accuracy: mean credit over the pairs that the reference orders, a tie of the judge counting half; chance is 1/2.
        averaged: the same by the mean of its probabilities, where the verdicts of two orders may contradict each other.
        decided: over those of them on which the judge decides too, the share that it orders alike.
        same: over all pairs, ties of the reference included, the share of equal verdicts (first, tie, second).
        kappa: Cohen's (1960) of these verdicts, each pair counted both ways round.
        longer: of the pairs of unequal length that both decide, how often the judge prefers the longer one;
        reference_longer: how often the reference does; excess_length: the difference.
        longer_rule: what preferring the longer one scores as accuracy; over_longer: the judge's accuracy minus that,
        on the same pairs.
        self_preference: of the pairs in which the judge's own model wrote exactly one response, the mean share of wins
            of that one under the judge minus under the reference, ties half: Chen et al. 2025, "Beyond the Surface",
            the difference that a gold standard leaves. Better answers of its own are no fault of a judge, so this is
            not the difference between its own and other models' scores. `own_wins` and `own_wins_reference` are its
            two sides.
        ties: the share of ties among the judge's verdicts.
    """
    if rows.is_empty():
        return NOTHING
    place = rows["row"].to_numpy()
    verdict, truth = (rows[name].cast(pl.Float64).to_numpy() for name in ("verdict", "truth"))
    lean = np.sign(rows["margin"].to_numpy())
    longer = rows["longer"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    own = rows["own"].cast(pl.Float64).to_numpy()
    units = draws.unit[place]
    found = _Ratios(draws, place, units)
    ordered, decides, known = truth != 0, verdict != 0, ~np.isnan(longer)
    of_length = ordered & decides & known & (longer != 0)
    length = np.where(known, longer, 0.0)
    mine, one_own = credit(verdict, truth), own != 0
    return {
        "prompts": len(np.unique(units)),
        "pairs": rows.height,
        "shared": int(ordered.sum()),
        "accuracy": found.share(mine, ordered),
        "averaged": found.share(credit(lean, truth), ordered),
        "decided": found.share(verdict == truth, ordered & decides),
        "same": found.share(verdict == truth, np.ones_like(ordered)),
        "kappa": found.kappa(verdict, truth),
        "longer": found.share(verdict == length, of_length),
        "reference_longer": found.share(truth == length, of_length),
        "excess_length": found.mean((verdict == length) * 1.0 - (truth == length), of_length),
        "longer_rule": found.share(credit(length, truth), ordered & known),
        "over_longer": found.mean(mine - credit(length, truth), ordered & known),
        "self_preference": found.mean((verdict - truth) * own / 2, one_own),
        "own_wins": found.share((verdict * own + 1) / 2, one_own),
        "own_wins_reference": found.share((truth * own + 1) / 2, one_own),
        "ties": found.share(~decides, np.ones_like(decides)),
    }


class _Ratios:
    """Means over some of a judge's rows, with their intervals."""

    def __init__(self, draws: Draws, place: IntArray, units: IntArray) -> None:
        self.draws, self.place, self.units = draws, place, units

    def mean(self, values: Any, among: Any) -> Entry:
        """The mean of `values` over the rows `among`."""
        return self._of(values, among, share=False)

    def share(self, values: Any, among: Any) -> Entry:
        """The same for values in [0, 1]."""
        return self._of(values, among, share=True)

    def _of(self, values: Any, among: Any, *, share: bool) -> Entry:
        n = int(among.sum())
        if not n:
            return EMPTY
        value, drawn = self.draws.ratio(np.where(among, values, 0.0), among, self.place)
        if share:
            ends = self.draws.share_interval(value, drawn, len(np.unique(self.units[among])))
        else:
            ends = self.draws.interval(drawn)
        return _entry(value, ends, n)

    def kappa(self, verdict: FloatArray, truth: FloatArray) -> Entry:
        cell = ((verdict + 1) * 3 + truth + 1).astype(np.int64)
        counts = np.eye(_TABLE)[cell] + np.eye(_TABLE)[_TABLE - 1 - cell]
        whole, drawn = self.draws.sums(counts, self.place)
        value = float(kappas(whole.reshape(1, 3, 3))[0])
        if np.isnan(value):
            return {**EMPTY, "n": len(cell)}
        return _entry(value, self.draws.interval(kappas(drawn.reshape(-1, 3, 3))), len(cell))


def _entry(value: float, ends: tuple[float, float] | None, n: int) -> Entry:
    return {"value": value, "low": ends[0] if ends else None, "high": ends[1] if ends else None, "n": n}


NOTHING: Entry = {
    "prompts": 0,
    "pairs": 0,
    "shared": 0,
    **dict.fromkeys((*MEASURES, "own_wins", "own_wins_reference"), EMPTY),
}
"""Of a judge that the reference says nothing about."""
