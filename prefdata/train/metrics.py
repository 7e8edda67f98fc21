"""What training did, from log-probabilities alone: of single steps, and of the held-out lists."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from prefdata.stats import kendall_tau as tau_b
from prefdata.stats import ndcg as ndcg_of_gains
from prefdata.stats import separation, wilson_interval
from prefdata.train.preferences import PreferenceList

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.train.losses import Batch, Outputs


def kendall_tau(values: Sequence[float], ranks: Sequence[int]) -> float | None:
    """Kendall's tau-b of values and ranking, -1 to 1; 0 where all values are equal. Null where all ranks tie.

    Args:
        values: K numbers, higher is better.
        ranks: K whole numbers, 1 = best.
    """
    if len(set(ranks)) < 2 or not np.isfinite(values).all():
        return None
    return tau_b(values, [-rank for rank in ranks]).value or 0.0


def ndcg(values: Sequence[float], ranks: Sequence[int]) -> float | None:
    """NDCG of the order that the values give, 0 to 1 (see `prefdata.stats.ndcg`). Null where all ranks tie.

    The gain of a response is the number of responses that rank below it: an order has no other scale.

    Args:
        values: K numbers, higher is better.
        ranks: K whole numbers, 1 = best.
    """
    if not np.isfinite(values).all():
        return None
    return ndcg_of_gains([sum(other > rank for other in ranks) for rank in ranks], values)


def order(values: Sequence[float], ranks: Sequence[int | None]) -> tuple[float, float] | None:
    """Kendall's tau and NDCG of a list; null for fewer than three ranked responses, or where all of them tie.

    Args:
        values: K numbers, higher is better.
        ranks: K whole numbers, 1 = best; 0 or null for a response that is not ranked.
    """
    ranked = [(value, rank) for value, rank in zip(values, ranks, strict=True) if rank]
    if len(ranked) < 3:
        return None
    numbers, places = [value for value, _ in ranked], [rank for _, rank in ranked]
    tau, gain = kendall_tau(numbers, places), ndcg(numbers, places)
    return None if tau is None or gain is None else (tau, gain)


def auc(wanted: Sequence[float], unwanted: Sequence[float]) -> float | None:
    """How often a wanted response has a higher value than an unwanted one, of any prompt; equal values count one half.

    The area under the ROC curve (Mann and Whitney's U over the number of pairs): what single responses allow, since
    none of them is compared with another. Null where either side is empty.

    Args:
        wanted: numbers, higher is better.
        unwanted: likewise.
    """
    return separation([*wanted, *unwanted], [True] * len(wanted) + [False] * len(unwanted)).value


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often the better response of an edge has the higher value; equal values count one half.

    Attributes:
        value: 0 to 1.
        low: of the 95% interval, whose number of trials is the number of groups: the edges of one prompt are not
            independent of each other.
        high: its other end.
        edges: edges with p other than 0.5.
        groups: prompts that they belong to.
    """

    value: float
    low: float
    high: float
    edges: int
    groups: int


def accuracy(lists: Sequence[PreferenceList], values: Sequence[Sequence[float]]) -> Accuracy | None:
    """The accuracy of `values` (one for each response of each list); null where no edge has a better side."""
    right: list[float] = []
    groups: set[str] = set()
    for entry, of_responses in zip(lists, values, strict=True):
        for edge in entry.edges:
            if edge.p != 0.5:
                gap = (of_responses[edge.winner] - of_responses[edge.loser]) * (1 if edge.p > 0.5 else -1)
                right.append(0.5 if gap == 0 else float(gap > 0))
                groups.add(entry.group)
    if not right:
        return None
    value = sum(right) / len(right)
    low, high = wilson_interval(value * len(groups), len(groups))
    return Accuracy(value, low, high, len(right), len(groups))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the model makes of the held-out lists.

    Attributes:
        reward: accuracy of the reward: `lp - ref`, the implicit one of a policy with a reference (zero for every
            response before training, so that the accuracy is then 0.5 by ties alone), or a reward model's own. Null
            for a policy without a reference.
        mean_logprob: accuracy of the policy's log-probability for each token, which needs no reference. Null for a
            reward model.
        kendall_tau: mean over lists that rank three responses or more, of the reward (without one, of the mean
            log-probability); null where there is no such list.
        ndcg: likewise.
        lists: how many lists those are.
        auc: of the same values, wanted against unwanted responses of lists without edges (see `auc`); null where there
            are none.
        singles: how many responses those are.
    """

    reward: Accuracy | None
    mean_logprob: Accuracy | None
    kendall_tau: float | None = None
    ndcg: float | None = None
    lists: int = 0
    auc: float | None = None
    singles: int = 0

    @property
    def score(self) -> float | None:
        """What early stopping compares: the accuracy of the reward, or of the mean log-probability without one.

        Where only single responses are held out it is their AUC.
        """
        found = self.reward or self.mean_logprob
        return self.auc if found is None else found.value


def held_out(
    lists: Sequence[PreferenceList],
    reward: Sequence[Sequence[float]] | None,
    mean_logprob: Sequence[Sequence[float]] | None,
) -> HeldOut:
    """Accuracies and rank correlations on held-out lists.

    Args:
        lists: of K responses each.
        reward: a number for each response.
        mean_logprob: likewise.
    """
    best = reward if reward is not None else mean_logprob
    orders = []
    sides: tuple[list[float], list[float]] = ([], [])
    for entry, values in zip(lists, best or [], strict=best is not None):
        orders.append(order(values, [one.rank for one in entry.responses]))
        if not entry.edges:
            for value, one in zip(values, entry.responses, strict=True):
                if one.label is not None:
                    sides[one.label < 0.5].append(value)
    known = [one for one in orders if one is not None]
    return HeldOut(
        reward=None if reward is None else accuracy(lists, reward),
        mean_logprob=None if mean_logprob is None else accuracy(lists, mean_logprob),
        kendall_tau=mean(tau for tau, _ in known),
        ndcg=mean(gain for _, gain in known),
        lists=len(known),
        auc=auc(*sides),
        singles=sum(map(len, sides)),
    )


@dataclass(slots=True)
class StepMetrics:
    """Metrics of one optimiser step, gathered as values of single edges, lists and tokens.

    So they are the same however a step is split into micro-batches and processes.

    Attributes:
        won: of each edge whose p is not 0.5, the better response's value (see `add`).
        lost: the other's.
        ranks: `[rank, value]` of each ranked response.
        orders: `[tau, NDCG]` of each list that ranks three responses or more.
        kl: `[sum of the estimate over the trained tokens, tokens]` of each micro-batch.
        wanted: values of the responses with that label, in lists without edges.
        unwanted: likewise.
    """

    won: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    ranks: list[list[float]] = field(default_factory=list)
    orders: list[list[float]] = field(default_factory=list)
    kl: list[list[float]] = field(default_factory=list)
    wanted: list[float] = field(default_factory=list)
    unwanted: list[float] = field(default_factory=list)

    def add(self, outputs: Outputs, batch: Batch, tokens: tuple[Tensor, Tensor] | None = None) -> None:
        """Take in a micro-batch; edges with p = 0.5 have no better side and are passed over.

        A response's value is `lp - ref`, without a reference the mean of `lp` over its tokens, or a reward model's
        (first) output.

        Args:
            outputs: of the models.
            batch: the data.
            tokens: log-probabilities of single tokens, `[N, K, T]` of the policy and of the reference, 0 where masked.
        """
        values = values_of(outputs, batch).detach().double().cpu()
        rows, winner, loser = batch.edge.cpu().unbind(dim=1)
        found = zip(batch.p.tolist(), values[rows, winner].tolist(), values[rows, loser].tolist(), strict=True)
        for p, first, second in found:
            if p != 0.5:
                self.won.append(first if p > 0.5 else second)
                self.lost.append(second if p > 0.5 else first)
        for row, ranks, mask in zip(values.tolist(), batch.ranks.tolist(), batch.mask.tolist(), strict=True):
            ranked = [(value, rank) for value, rank, on in zip(row, ranks, mask, strict=True) if on and rank]
            self.ranks += [[float(rank), value] for value, rank in ranked]
            of_list = order([value for value, _ in ranked], [rank for _, rank in ranked])
            if of_list is not None:
                self.orders.append(list(of_list))
        compared = set(rows.tolist())
        alone = [n for n in range(len(values)) if n not in compared]
        for row, labels, mask in zip(
            values[alone].tolist(), batch.labels[alone].tolist(), batch.mask[alone].tolist(), strict=True
        ):
            for value, label, on in zip(row, labels, mask, strict=True):
                if on and not math.isnan(label):
                    (self.wanted if label > 0.5 else self.unwanted).append(value)
        if tokens is not None:
            gap = (tokens[1] - tokens[0].detach()).double()
            self.kl.append([float((gap.exp() - 1 - gap).sum()), float(batch.length.sum())])

    def as_rows(self) -> list[Any]:
        """What is gathered, as JSON values for another process; see `of`."""
        return [getattr(self, entry.name) for entry in fields(self)]

    @classmethod
    def of(cls, parts: Iterable[Any]) -> StepMetrics:
        """Together what several processes gathered."""
        whole = cls()
        for part in parts:
            for entry, values in zip(fields(cls), part, strict=True):
                getattr(whole, entry.name).extend(values)
        return whole

    def as_dict(self, *, reference: bool = True) -> dict[str, Any]:
        """The means, null of nothing.

        `margin` is the mean over edges of the better response's value minus the worse's; `accuracy` the share of
        margins above zero, ties one half; `auc` is what single responses have in place of it. `chosen_change` and
        `rejected_change` are the mean of `lp - ref` on either side (of edges, or of labels), `displaced` the share of
        the better ones that lost probability, and `rank_logprobs` the mean of `lp - ref` by rank (null without a
        reference). `kl` estimates the divergence of policy from reference for each token, on the data's tokens rather
        than on the policy's samples: the mean of `r - 1 - log r`, r = ref / policy; null where it overflows.

        Args:
            reference: the values are changes against a reference.
        """
        gaps = [won - lost for won, lost in zip(self.won, self.lost, strict=True)]
        by_rank: dict[int, list[float]] = {}
        for rank, value in self.ranks:
            by_rank.setdefault(int(rank), []).append(value)
        tokens, divergence = math.fsum(count for _, count in self.kl), sum(total for total, _ in self.kl)
        better, worse = [*self.won, *self.wanted], [*self.lost, *self.unwanted]
        return {
            "accuracy": mean(0.5 if gap == 0 else float(gap > 0) for gap in gaps),
            "margin": mean(gaps),
            "auc": auc(self.wanted, self.unwanted),
            "chosen_change": mean(better) if reference else None,
            "rejected_change": mean(worse) if reference else None,
            "displaced": mean(float(value < 0) for value in better) if reference else None,
            "rank_logprobs": {str(rank): mean(by_rank[rank]) for rank in sorted(by_rank)} if reference else None,
            "kendall_tau": mean(tau for tau, _ in self.orders),
            "ndcg": mean(gain for _, gain in self.orders),
            "kl": divergence / tokens if tokens and math.isfinite(divergence) else None,
        }


def values_of(outputs: Outputs, batch: Batch) -> Tensor:
    """`[N, K]`: by what the model ranks the responses, see `StepMetrics.add`."""
    if outputs.reward is not None:
        return outputs.reward[:, :, 0]
    assert outputs.lp is not None
    if outputs.ref is not None:
        return outputs.lp - outputs.ref
    return outputs.lp / batch.length.clamp(min=1)


def mean(values: Iterable[float]) -> float | None:
    """The mean, or null of nothing."""
    gathered = list(values)
    return math.fsum(gathered) / len(gathered) if gathered else None


class Displacement:
    """Watches for likelihood displacement: chosen responses that lose probability while the loss falls.

    Losses over margins allow it: it is enough that the rejected ones lose more. Up to a degree it is usual; where the
    chosen ones become much less likely, the probability has gone to texts that are in neither list.
    """

    WINDOW = 10
    NATS = 1.0

    def __init__(self, options: Iterable[str] = ()) -> None:
        """Nothing was seen yet.

        Args:
            options: of the loss, by which the advice goes.
        """
        advice = {"sft": "add an SFT term (sft=0.1 or more)", "beta": "raise beta"}
        known = set(options)
        self._advice = ", or ".join([*(text for name, text in advice.items() if name in known), "lower learning_rate"])
        self._seen: list[tuple[float, float]] = []
        self._warned = False

    def warning(self, metrics: dict[str, Any]) -> str | None:
        """Take in a step's metrics; a warning in plain words, once, where the chosen responses fell."""
        change, share = metrics.get("chosen_change"), metrics.get("displaced")
        if change is None or share is None or self._warned:
            return None
        self._seen = [*self._seen, (change, share)][-self.WINDOW :]
        change, share = (sum(column) / len(self._seen) for column in zip(*self._seen, strict=True))
        if change > -self.NATS or share <= 0.5:
            return None
        self._warned = True
        return (
            f"the better responses became less likely: {share:.0%} of them, on average by a factor of "
            f"{math.exp(min(-change, 300.0)):.3g} (the last {len(self._seen)} steps). The loss can fall like this, "
            "since the worse ones fall more, but the policy may come to answer with neither: "
            f"{self._advice}"
        )
