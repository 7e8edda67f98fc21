"""What training did, from log-probabilities alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefdata.train.tokens import TokenList

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.train.losses import Batch

NORMAL_95 = 1.959963984540054


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95% interval of a share in `count` trials (Wilson 1927).

    Args:
        share: successes / count; ties count one half.
        count: at least 1.
    """
    square = NORMAL_95**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = NORMAL_95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


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


def accuracy(lists: Sequence[TokenList], values: Sequence[Sequence[float]]) -> Accuracy | None:
    """The accuracy of `values` (one for each response of each list); null where no edge has a better side."""
    right: list[float] = []
    groups: set[str] = set()
    for entry, of_responses in zip(lists, values, strict=True):
        for edge in entry.source.edges:
            if edge.p != 0.5:
                gap = (of_responses[edge.winner] - of_responses[edge.loser]) * (1 if edge.p > 0.5 else -1)
                right.append(0.5 if gap == 0 else float(gap > 0))
                groups.add(entry.source.group)
    if not right:
        return None
    value = sum(right) / len(right)
    low, high = wilson(value, len(groups))
    return Accuracy(value, low, high, len(right), len(groups))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the policy makes of the held-out lists.

    Attributes:
        reward: accuracy of the implicit reward, `lp - ref`. Before training it is zero for every response, and the
            accuracy 0.5 by ties alone.
        mean_logprob: accuracy of the log-probability for each token, which needs no reference.
    """

    reward: Accuracy | None
    mean_logprob: Accuracy | None


def held_out(lists: Sequence[TokenList], lp: Sequence[Sequence[float]], ref: Sequence[Sequence[float]]) -> HeldOut:
    """Accuracies on held-out lists.

    Args:
        lists: of K responses each.
        lp: policy, one sum of log-probabilities for each response.
        ref: reference, likewise.
    """
    rewards = [[a - b for a, b in zip(ours, theirs, strict=True)] for ours, theirs in zip(lp, ref, strict=True)]
    means = [
        [total / len(response) for total, response in zip(sums, entry.responses, strict=True)]
        for entry, sums in zip(lists, lp, strict=True)
    ]
    return HeldOut(accuracy(lists, rewards), accuracy(lists, means))


class StepMetrics:
    """Metrics of one optimiser step, gathered over its micro-batches from the values of single edges."""

    def __init__(self) -> None:
        """Nothing is gathered yet."""
        self._won: list[float] = []
        self._lost: list[float] = []

    def add(self, lp: Tensor, ref: Tensor, batch: Batch) -> None:
        """Take in a micro-batch; edges with p = 0.5 have no better side and are passed over."""
        win, lose = batch.sides((lp.detach() - ref).double())
        for p, first, second in zip(batch.p.tolist(), win.tolist(), lose.tolist(), strict=True):
            if p != 0.5:
                self._won.append(first if p > 0.5 else second)
                self._lost.append(second if p > 0.5 else first)

    def as_dict(self) -> dict[str, Any]:
        """The means over edges; null where there was no edge.

        `margin` is the mean of `(lp - ref)` of the better response minus that of the worse, in nats; `accuracy` the
        share of margins above zero, ties one half; `chosen_change` and `rejected_change` the mean of `lp - ref` on
        either side: a falling `chosen_change` is likelihood displacement.
        """
        gaps = [won - lost for won, lost in zip(self._won, self._lost, strict=True)]
        return {
            "margin": mean(gaps),
            "accuracy": mean(0.5 if gap == 0 else float(gap > 0) for gap in gaps),
            "chosen_change": mean(self._won),
            "rejected_change": mean(self._lost),
        }


def mean(values: Iterable[float]) -> float | None:
    """The mean, or null of nothing."""
    gathered = list(values)
    return math.fsum(gathered) / len(gathered) if gathered else None
