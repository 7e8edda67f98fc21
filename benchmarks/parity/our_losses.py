"""Our losses on the same numbers, through the registry, as the training loop calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from fixture import PROMPT, Numbers
from torch import Tensor

from prefdata.train.losses import Batch, Outputs, find_loss


def our_loss(name: str, options: Mapping[str, Any], numbers: Numbers, p: float = 1.0) -> Tensor:
    """The loss of that name, a scalar with a gradient.

    Args:
        name: in `LOSSES`.
        options: of the loss.
        numbers: see `Numbers`.
        p: of every edge.
    """
    spec = find_loss(name)
    if spec.over == "responses":
        batch, outputs = _alone(numbers)
    elif spec.output == "reward":
        batch, _ = _pairs(numbers, p)
        outputs = Outputs(reward=_sides(numbers.rewards)[:, :, None])
    else:
        batch, outputs = _pairs(numbers, p)
    return spec(outputs, batch, options)


def _sides(values: Tensor) -> Tensor:
    """`[2N, ...]` as `[N, 2, ...]`: winner and loser of each pair."""
    return torch.stack(values.chunk(2), dim=1)


def _pairs(numbers: Numbers, p: float) -> tuple[Batch, Outputs]:
    lp, ref = (values.masked_fill(~numbers.mask, 0.0) for values in (numbers.lp, numbers.ref))
    outputs = Outputs(
        lp=_sides(lp.sum(dim=1)),
        ref=_sides(ref.sum(dim=1)),
        token_lp=_sides(lp)[..., PROMPT - 1 :],
        token_ref=_sides(ref)[..., PROMPT - 1 :],
        token_mask=_sides(numbers.mask)[..., PROMPT - 1 :],
    )
    pairs = numbers.pairs
    edge = torch.tensor([[number, 0, 1] for number in range(pairs)])
    return _batch(_sides(numbers.length), edge, torch.full((pairs, 2), torch.nan), numbers, p), outputs


def _alone(numbers: Numbers) -> tuple[Batch, Outputs]:
    lp, ref = (values.masked_fill(~numbers.mask, 0.0)[:, None] for values in (numbers.lp, numbers.ref))
    outputs = Outputs(
        lp=lp.sum(dim=2),
        ref=ref.sum(dim=2),
        token_lp=lp[..., PROMPT - 1 :],
        token_ref=ref[..., PROMPT - 1 :],
        token_mask=numbers.mask[:, None, PROMPT - 1 :],
        mismatched=numbers.mismatched[0] - numbers.mismatched[1],
    )
    labels = (torch.arange(2 * numbers.pairs) < numbers.pairs).to(numbers.lp.dtype)[:, None]
    return _batch(numbers.length[:, None], torch.zeros(0, 3, dtype=torch.int64), labels, numbers), outputs


def _batch(length: Tensor, edge: Tensor, labels: Tensor, numbers: Numbers, p: float = 1.0) -> Batch:
    kind = numbers.lp.dtype
    lists, edges = len(length), len(edge)
    ranks = torch.arange(1, length.shape[1] + 1).expand_as(length)
    return Batch(
        mask=torch.ones_like(length, dtype=torch.bool),
        length=length,
        scores=-ranks.to(kind),
        ranks=ranks,
        labels=labels,
        weight=torch.ones(lists, dtype=kind),
        edge=edge,
        p=torch.full((edges,), p, dtype=kind),
        margin=numbers.margin[:edges],
        edge_weight=torch.ones(edges, dtype=kind),
        votes=torch.full((edges,), torch.nan, dtype=kind),
        sft=torch.zeros_like(length, dtype=torch.bool),
    )
