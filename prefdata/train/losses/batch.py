"""What is known of N lists beside what the model makes of them, and what the model made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """The data of N lists of up to K responses.

    Attributes:
        mask: `[N, K]` bool, true for a response that the loss may read (ranked, or alone).
        length: `[N, K]` int64, trained tokens of each response (its end of turn included); 0 where there is none.
        scores: `[N, K]` float, higher is better, NaN where there is none.
        ranks: `[N, K]` int64, 1 = best, equal ranks are ties; 0 where there is none.
        labels: `[N, K]` float, 1 wanted, 0 not, NaN unknown or both.
        weight: `[N]` float, of each list.
        edge: `[E, 3]` int64: list, position of the winner, position of the loser.
        p: `[E]` float in [0, 1], the probability that the winner is better.
        margin: `[E]` float, NaN where none is stated.
        edge_weight: `[E]` float.
        votes: `[E]` float, NaN where unknown.
        sft: `[N, K]` bool, true for a response of the role `sft`.
        values: further numbers by name, `[N, K]`, NaN where there is none.
        rationale: `[E]` int64, which of the micro-batch's rationales says why this edge holds; -1 where none does.
    """

    mask: Tensor
    length: Tensor
    scores: Tensor
    ranks: Tensor
    labels: Tensor
    weight: Tensor
    edge: Tensor
    p: Tensor
    margin: Tensor
    edge_weight: Tensor
    votes: Tensor
    sft: Tensor
    values: Mapping[str, Tensor] = field(default_factory=dict)
    rationale: Tensor | None = None

    @property
    def weight_of_edges(self) -> Tensor:
        """`[E]`: the list's weight times the edge's."""
        return self.weight[self.edge[:, 0]] * self.edge_weight


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the models made of N lists.

    Attributes:
        lp: `[N, K]` float32, policy, sums over the trained tokens; 0 where there is no response. Null for a reward
            model.
        ref: `[N, K]`, reference; null where the loss needs none.
        token_lp: `[N, K, T]`, policy, 0 where masked; null unless the loss asks for tokens.
        token_ref: `[N, K, T]`, reference.
        token_mask: `[N, K, T]` bool.
        reward: `[N, K, A]` float32, of a reward model with A outputs; null for a policy.
        rationale_lp: `[R]`, policy, of the micro-batch's rationales; null unless the loss asks for them.
        rationale_length: `[R]` int64, their tokens.
        mismatched: `[M]`, see `Alone.mismatched`.
    """

    lp: Tensor | None = None
    ref: Tensor | None = None
    token_lp: Tensor | None = None
    token_ref: Tensor | None = None
    token_mask: Tensor | None = None
    reward: Tensor | None = None
    rationale_lp: Tensor | None = None
    rationale_length: Tensor | None = None
    mismatched: Tensor | None = None
