"""What a model's numbers for the responses of an export are worth: accuracies, best-of-n, calibration.

A reward model's numbers are its rewards. A policy's are its implicit rewards, `beta (lp - ref)`, where a reference is
known; its log-probabilities are measured beside them: what a policy would rather write is not what it rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdata.stats.calibration import calibration
from prefdata.stats.logistic import sigmoid
from prefdata.stats.ranking import best_of_n, ideal_gap
from prefdata.stats.resampling import Draws
from prefdata.train.metrics import order
from prefdata.train.preferences import PreferenceList

FloatArray = NDArray[np.float64]
BETAS = (0.01, 0.1, 1.0, 5.0, 10.0)
"""Of the idealised ranking accuracy (Chen et al. 2024)."""
SIMULATED_SHARE = 0.75
"""The share of votes for the winner where the data state none: what it is then is an assumption, and is said."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One list, and a model's numbers for its K responses.

    Attributes:
        source: the list.
        reward: K numbers, higher is better: a reward model's, or a policy's `beta (lp - ref)`; null for a policy
            without a reference.
        lp: K sums of the policy's log-probabilities; null for a reward model.
        ref: K sums of the reference's; null where there is none.
        length: K, trained tokens.
    """

    source: PreferenceList
    reward: FloatArray | None
    lp: FloatArray | None
    ref: FloatArray | None
    length: FloatArray

    @property
    def mean_lp(self) -> FloatArray | None:
        """K log-probabilities a token."""
        return None if self.lp is None else self.lp / self.length


Values = Callable[[Judged], FloatArray | None]
_RANKINGS: dict[str, Values] = {
    "reward": lambda one: one.reward,
    "logprob": lambda one: one.lp,
    "mean_logprob": lambda one: one.mean_lp,
}


@dataclass(frozen=True, slots=True)
class Edges:
    """Every edge with a better side, as columns of E rows.

    Attributes:
        judged: which list each is of.
        winner: position of the better response (p > 0.5 decides).
        loser: position of the other.
        share: P(winner is better), from 0.5 to 1.
        stated: whether the data state it, or it is 1 by default.
        group: the group of each.
    """

    judged: NDArray[np.int64]
    winner: NDArray[np.int64]
    loser: NDArray[np.int64]
    share: FloatArray
    stated: NDArray[np.bool_]
    group: list[str]


def edges_of(lists: Sequence[Judged]) -> Edges:
    """The edges of all lists; those with p = 0.5 state no order and are left out."""
    rows = [
        (number, edge.winner, edge.loser, edge.p, edge.votes is not None or edge.p != 1.0)
        if edge.p > 0.5
        else (number, edge.loser, edge.winner, 1 - edge.p, True)
        for number, one in enumerate(lists)
        for edge in one.source.edges
        if edge.p != 0.5
    ]
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), (), ()]
    return Edges(
        judged=np.array(columns[0], dtype=np.int64),
        winner=np.array(columns[1], dtype=np.int64),
        loser=np.array(columns[2], dtype=np.int64),
        share=np.array(columns[3], dtype=np.float64),
        stated=np.array(columns[4], dtype=bool),
        group=[lists[number].source.group for number in columns[0]],
    )


def measures(
    lists: Sequence[Judged], *, by: Sequence[str] = ("aspect", "annotator"), beta: float = 0.1
) -> dict[str, Any]:
    """All measures, as JSON values.

    Args:
        lists: what was judged.
        by: attributes of the lists whose values are measured apart: `aspect`, `annotator`, `kind`.
        beta: what the implicit reward was scaled by.

    Returns:
        `accuracy` (by ranking, in all and by attribute, with intervals), `ranking` (of a policy: its own and the
        idealised accuracies), `lists` (Kendall's tau, NDCG), `best_of_n` and `calibration`; null where the data or the
        model have nothing to say of one.
    """
    edges = edges_of(lists)
    rankings = [name for name, values in _RANKINGS.items() if lists and values(lists[0]) is not None]
    accuracies = {name: _accuracies(lists, edges, _RANKINGS[name], by) for name in rankings}
    main = rankings[0] if rankings else None
    return {
        "lists": len(lists),
        "groups": len({one.source.group for one in lists}),
        "edges": len(edges.judged),
        "accuracy": accuracies,
        "ranking": _idealised(lists, edges),
        "order": None if main is None else _orders(lists, _RANKINGS[main]),
        "best_of_n": None if main is None else _best_of_n(lists, _RANKINGS[main]),
        "calibration": _calibrated(lists, edges, beta),
    }


def right(lists: Sequence[Judged], edges: Edges, values: Values) -> FloatArray:
    """[E], 1 where the winner has the higher number, 0.5 where both are equal, 0 where the loser has."""
    gaps = gaps_of(lists, edges, values)
    return np.where(gaps == 0, 0.5, (gaps > 0).astype(np.float64))


def gaps_of(lists: Sequence[Judged], edges: Edges, values: Values) -> FloatArray:
    """[E], the winner's number less the loser's."""
    numbers = [values(one) for one in lists]
    found = []
    for number, winner, loser in zip(edges.judged, edges.winner, edges.loser, strict=True):
        of = numbers[number]
        assert of is not None
        found.append(of[winner] - of[loser])
    return np.array(found, dtype=np.float64)


def _accuracies(lists: Sequence[Judged], edges: Edges, values: Values, by: Sequence[str]) -> dict[str, Any]:
    correct = right(lists, edges, values)
    made = {"all": _accuracy(correct, edges.group)}
    for attribute in by:
        of_edge = np.array([getattr(lists[number].source, attribute) for number in edges.judged], dtype=object)
        known = sorted(set(of_edge.tolist()) - {""})
        made[attribute] = {
            name: _accuracy(correct[of_edge == name], [edges.group[at] for at in np.flatnonzero(of_edge == name)])
            for name in known
        }
    return made


def _accuracy(correct: FloatArray, groups: Sequence[str]) -> dict[str, Any] | None:
    """A share with its 95% interval; the edges of one group are drawn together."""
    if not len(correct):
        return None
    share, drawn = (draws := Draws(list(groups))).ratio(correct, np.ones(len(correct)))
    low, high = draws.share_interval(share, drawn, len(set(groups))) or (None, None)
    return {
        "value": share,
        "low": low,
        "high": high,
        "edges": len(correct),
        "ties": int((correct == 0.5).sum()),
        "groups": len(set(groups)),
    }


def _idealised(lists: Sequence[Judged], edges: Edges) -> dict[str, Any] | None:
    """Ranking accuracies of policy and reference, and what an ideal policy would have (curation C01)."""
    if not lists or lists[0].lp is None or not len(edges.judged):
        return None
    made: dict[str, Any] = {
        "policy": float(right(lists, edges, _RANKINGS["logprob"]).mean()),
        "policy_per_token": float(right(lists, edges, _RANKINGS["mean_logprob"]).mean()),
    }
    if lists[0].ref is None:
        return made
    reference = gaps_of(lists, edges, lambda one: one.ref)
    share = np.where(edges.stated, edges.share, SIMULATED_SHARE)
    made["reference"] = float(np.where(reference == 0, 0.5, reference > 0).mean())
    made["ideal"] = {f"{beta:g}": float((ideal_gap(reference, share, beta) > 0).mean()) for beta in BETAS}
    made["share_simulated"] = float(1 - edges.stated.mean())
    made["simulated_share"] = SIMULATED_SHARE
    return made


def _scored(one: Judged) -> NDArray[np.int64]:
    """Positions of the ranked responses that have a score."""
    places = [
        place for place, response in enumerate(one.source.responses)
        if response.role == "ranked" and response.score is not None
    ]  # fmt: skip
    return np.array(places, dtype=np.int64)


def _gold_and_guess(lists: Sequence[Judged], values: Values) -> list[tuple[FloatArray, FloatArray]]:
    found = []
    for one in lists:
        places, numbers = _scored(one), values(one)
        if len(places) > 1 and numbers is not None:
            gold = np.array([one.source.responses[place].score for place in places], dtype=np.float64)
            found.append((gold, numbers[places]))
    return found


def _orders(lists: Sequence[Judged], values: Values) -> dict[str, Any] | None:
    """The trainer's own measures of held-out lists, of three ranked responses and more: the two agree to the digit."""
    found = []
    for one in lists:
        numbers = values(one)
        assert numbers is not None
        found.append(order([float(number) for number in numbers], [response.rank for response in one.source.responses]))
    known = [of_list for of_list in found if of_list is not None]
    if not known:
        return None
    tau, gain = np.mean(known, axis=0)
    return {"kendall_tau": float(tau), "ndcg": float(gain), "lists": len(known)}


def _best_of_n(lists: Sequence[Judged], values: Values) -> list[dict[str, Any]] | None:
    """By n: the mean gold score of what the model would choose, beside a random and the best choice.

    Only lists of at least n responses are in a row, so rows of unlike n are not of the same lists.
    """
    pairs = _gold_and_guess(lists, values)
    if not pairs:
        return None
    rows = []
    for n in range(1, max(len(gold) for gold, _ in pairs) + 1):
        held = [(gold, guess) for gold, guess in pairs if len(gold) >= n]
        rows.append(
            {
                "n": n,
                "lists": len(held),
                "chosen": float(np.mean([best_of_n(gold, guess)[n - 1] for gold, guess in held])),
                "random": float(np.mean([gold.mean() for gold, _ in held])),
                "best": float(np.mean([best_of_n(gold, gold)[n - 1] for gold, _ in held])),
            }
        )
    return rows


def _calibrated(lists: Sequence[Judged], edges: Edges, beta: float) -> dict[str, Any] | None:
    """Whether `s(reward_w - reward_l)` comes true, in both directions of each edge: who stands first says nothing."""
    if not lists or lists[0].reward is None or not len(edges.judged):
        return None
    gaps = gaps_of(lists, edges, _RANKINGS["reward"])
    found = calibration(sigmoid(gaps), edges.share, both_orders=True, resamples=0)
    return {
        "brier": found.brier,
        "log_loss": found.log_loss,
        "error": found.value,
        "beta": beta if lists[0].lp is not None else None,
        "bins": [
            {"low": one.low, "high": one.high, "count": one.count, "stated": one.stated, "observed": one.observed}
            for one in found.bins
        ],
    }
