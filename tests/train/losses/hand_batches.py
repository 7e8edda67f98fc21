"""Lists of unlike lengths as the tensors that losses read, written down as Python lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from prefdata.train.losses import Batch, Outputs

NAN = math.nan
Rows = Sequence[Sequence[float]]


def f64(rows: Rows, fill: float = 0.0, width: int = 0) -> torch.Tensor:
    """`[N, K]` float64, short rows filled up at the end."""
    width = max(width, *(len(row) for row in rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=torch.float64)


def hand_batch(
    scores: Rows,
    *,
    ranks: Sequence[Sequence[int]] | None = None,
    labels: Rows | None = None,
    values: dict[str, Rows] | None = None,
    length: Sequence[Sequence[int]] | None = None,
    weight: Sequence[float] | None = None,
    edges: Sequence[tuple[int, int, int]] = (),
    p: Sequence[float] | None = None,
    margin: Sequence[float] | None = None,
    width: int = 0,
) -> Batch:
    """Lists of these scores; ranks follow from them unless they are given. No edges unless they are given."""
    if ranks is None:
        ranks = [[1 + sum(other > one for other in row) for one in row] for row in scores]
    one = [[1.0] * len(row) for row in scores]
    mask = f64(one, width=width) > 0
    return Batch(
        mask=mask,
        length=f64(length or one, width=width).long(),
        scores=f64(scores, NAN, width),
        ranks=f64(ranks, width=width).long(),
        labels=f64(labels, NAN, width) if labels else torch.full_like(mask, NAN, dtype=torch.float64),
        weight=torch.tensor(weight or [1.0] * len(scores), dtype=torch.float64),
        edge=torch.tensor(edges, dtype=torch.int64).view(-1, 3),
        p=torch.tensor(p or [1.0] * len(edges), dtype=torch.float64),
        margin=torch.tensor(margin or [NAN] * len(edges), dtype=torch.float64),
        edge_weight=torch.ones(len(edges), dtype=torch.float64),
        votes=torch.full((len(edges),), NAN, dtype=torch.float64),
        sft=torch.zeros_like(mask),
        values={name: f64(rows, NAN, width) for name, rows in (values or {}).items()},
    )


def policy(lp: Rows, ref: Rows | None = None, *, width: int = 0, **rest: Any) -> Outputs:
    """A policy's sums, with a gradient; the reference's are 0 unless they are given."""
    own = f64(lp, width=width).requires_grad_()
    return Outputs(lp=own, ref=torch.zeros_like(own) if ref is None else f64(ref, width=width), **rest)


def gradient(value: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """Of a scalar."""
    (found,) = torch.autograd.grad(value, of)
    return found
