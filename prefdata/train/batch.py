"""Token lists to tensors: the rows that the model reads, and the `Batch` that the loss reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefdata.lm import Rows, pad_rows
from prefdata.train.losses import Batch
from prefdata.train.tokens import TokenList

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """N lists for one forward pass.

    Attributes:
        rows: B rows, list after list; no row stands for a masked place.
        batch: what the loss reads, `[N, K]`.
        places: `[B]` int64, where row b stands in a flat `[N * K]`.
    """

    rows: Rows
    batch: Batch
    places: Tensor

    def as_lists(self, values: Tensor) -> Tensor:
        """`[B]` values of the rows as `[N, K]`, 0 where masked."""
        shape = self.batch.mask.shape
        return values.new_zeros(shape.numel()).index_copy(0, self.places, values).view(shape)


def collate(lists: Sequence[TokenList], *, pad_id: int, device: torch.device | str) -> MicroBatch:
    """Make one micro-batch of N lists; K is that of the longest."""
    import torch

    width = max(len(entry.responses) for entry in lists)
    shape = (len(lists), width)
    length = torch.zeros(shape, dtype=torch.int64)
    scores = torch.full(shape, math.nan)
    ranks = torch.zeros(shape, dtype=torch.int64)
    edges, chances, edge_weights = [], [], []
    for number, entry in enumerate(lists):
        source, count = entry.source, len(entry.responses)
        length[number, :count] = torch.tensor([len(response) for response in entry.responses])
        scores[number, :count] = torch.tensor([math.nan if score is None else score for score in source.scores])
        if source.ranks is not None:
            ranks[number, :count] = torch.tensor(source.ranks)
        for edge in source.edges:
            edges.append((number, edge.winner, edge.loser))
            chances.append(edge.p)
            edge_weights.append(edge.weight)
    mask = length > 0
    rows = pad_rows(
        [entry.prompt for entry in lists for _ in entry.responses],
        [response for entry in lists for response in entry.responses],
        pad_id=pad_id,
        device=device,
    )
    batch = Batch(
        mask=mask.to(device),
        length=length.to(device),
        scores=scores.to(device),
        ranks=ranks.to(device),
        weight=torch.tensor([entry.source.weight for entry in lists]).to(device),
        edge=torch.tensor(edges, dtype=torch.int64).view(-1, 3).to(device),
        p=torch.tensor(chances, dtype=torch.float32).to(device),
        edge_weight=torch.tensor(edge_weights, dtype=torch.float32).to(device),
    )
    return MicroBatch(rows, batch, mask.flatten().nonzero().squeeze(1).to(device))
