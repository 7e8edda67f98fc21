"""The numbers that both libraries are given: log-probabilities of single tokens of a few pairs of unequal lengths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PROMPT = 3
"""Tokens of every prompt, the first of which nothing predicts."""


@dataclass(frozen=True)
class Numbers:
    """N pairs; row n is the winner of pair n, row N + n its loser. T is the longest response.

    Attributes:
        lp: `[2N, PROMPT - 1 + T]`, log-probabilities of prompt and response tokens under the policy; a leaf.
        ref: likewise under the reference.
        mask: `[2N, PROMPT - 1 + T]` bool, true for a response token.
        attended: likewise, true for a token that is not padding.
        mismatched: `[2N]`, sums of `lp` and of `ref` for other prompts' responses (two tensors), for KTO.
        rewards: `[2N]`, of a reward model; a leaf.
        margin: `[N]`, stated margins.
    """

    lp: Tensor
    ref: Tensor
    mask: Tensor
    attended: Tensor
    mismatched: tuple[Tensor, Tensor]
    rewards: Tensor
    margin: Tensor

    @property
    def pairs(self) -> int:
        """N."""
        return len(self.lp) // 2

    @property
    def length(self) -> Tensor:
        """`[2N]` int64, tokens of each response."""
        return self.mask.sum(dim=1)


def make_numbers(dtype: torch.dtype, pairs: int = 6, longest: int = 9, seed: int = 7) -> Numbers:
    """The same numbers for every call, rounded to a dtype; leaves carry gradients."""
    draw = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(*shape, generator=draw, dtype=torch.float64)).to(dtype)

    width = PROMPT - 1 + longest
    length = torch.randint(2, longest + 1, (2 * pairs,), generator=draw)
    place = torch.arange(width)
    attended = place < (PROMPT - 1 + length)[:, None]
    lp = uniform(-4.0, -0.05, 2 * pairs, width)
    ref = (lp + uniform(-0.6, 0.6, 2 * pairs, width)).clamp(max=-0.01)
    other = uniform(-20.0, -5.0, 2 * pairs)
    return Numbers(
        lp=lp.requires_grad_(),
        ref=ref,
        mask=attended & (place >= PROMPT - 1),
        attended=attended,
        mismatched=(other, other - uniform(-0.2, 1.2, 2 * pairs)),
        rewards=uniform(-2.0, 2.0, 2 * pairs).requires_grad_(),
        margin=uniform(0.0, 1.5, pairs),
    )
