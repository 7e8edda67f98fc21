"""Token lists to one forward pass: the pack that the model reads, and the `Batch` that the loss reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefdata.lm import Pack, Row, pack
from prefdata.train.losses import Batch, Outputs
from prefdata.train.preferences import TokenList

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """N lists of up to K responses, for one forward pass.

    Its B rows are, list after list, the list's responses and then its rationales.

    Attributes:
        lists: N lists.
        pack: the rows that the policy reads.
        batch: what the loss reads, `[N, K]`.
        cells: `[L]` int64, where each scored token of the pack stands in a flat `[B * T]`, T the most that a row has.
        shape: B and T.
        responses: `[C]` int64, which of the B rows are responses.
        places: `[C]` int64, where these stand in a flat `[N * K]`.
        rationales: `[R]` int64, which of the B rows are rationales.
    """

    lists: tuple[TokenList, ...]
    pack: Pack
    batch: Batch
    cells: Tensor
    shape: tuple[int, int]
    responses: Tensor
    places: Tensor
    rationales: Tensor

    def to(self, device: torch.device | str) -> MicroBatch:
        """The same with its tensors on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("cells", "responses", "places", "rationales")}
        return replace(self, batch=_moved(self.batch, device), **moved)

    def tokens(self, logprobs: Tensor) -> tuple[Tensor, Tensor]:
        """`[L]` log-probabilities as those of responses, `[N, K, T]`, and those of rationales, `[R, T]`; else 0."""
        rows, longest = self.shape
        # Each cell is written once: the same bits each time, which adding up in any order would not give.
        grid = logprobs.new_zeros(rows * longest).index_copy(0, self.cells, logprobs).view(rows, longest)
        lists, width = self.batch.mask.shape
        flat = grid.new_zeros(lists * width, longest).index_copy(0, self.places, grid[self.responses])
        return flat.view(lists, width, longest), grid[self.rationales]

    def reference(self, values: Iterable[NDArray[np.float32]]) -> Tensor:
        """The reference's log-probabilities, an array for each response of each list in turn, as `[N, K, T]`."""
        import torch

        lists, width = self.batch.mask.shape
        found = np.zeros((lists * width, self.shape[1]), dtype=np.float32)
        for place, row in zip(self.places.tolist(), values, strict=True):
            found[place, : len(row)] = row
        return torch.from_numpy(found).view(lists, width, -1).to(self.places.device)

    def outputs(self, model: Tensor, reference: Tensor | None, needed: frozenset[str]) -> Outputs:
        """What a policy and the reference made of it, for the loss.

        Args:
            model: `[L]`, the policy's log-probabilities.
            reference: `[N, K, T]`, or null where the loss needs none.
            needed: as `LossSpec.needed` says it.
        """
        tokens, rationales = self.tokens(model)
        outputs: dict[str, Any] = {"lp": tokens.sum(dim=2), "ref": None if reference is None else reference.sum(dim=2)}
        if "tokens" in needed:
            outputs |= {"token_lp": tokens, "token_ref": reference, "token_mask": self.token_mask}
        if "rationales" in needed:
            lengths = [len(row.scored) for entry in self.lists for row in entry.rationales]
            outputs["rationale_lp"] = rationales.sum(dim=1)
            outputs["rationale_length"] = self.places.new_tensor(lengths)
        return Outputs(**outputs)

    def rewards(self, model: Tensor) -> Outputs:
        """What a reward model made of it, for the loss: `[B, A]` to `[N, K, A]`, 0 where there is no response."""
        lists, width = self.batch.mask.shape
        flat = model.new_zeros(lists * width, model.shape[1]).index_copy(0, self.places, model[self.responses])
        return Outputs(reward=flat.view(lists, width, -1))

    @property
    def token_mask(self) -> Tensor:
        """`[N, K, T]` bool, true for a trained token."""
        import torch

        place = torch.arange(self.shape[1], device=self.places.device)
        return place < self.batch.length[:, :, None]


def collate(lists: Sequence[TokenList], *, alone: bool = False, values: Sequence[str] = ()) -> MicroBatch:
    """Make one micro-batch of N lists; K is that of the longest.

    Args:
        lists: at least one.
        alone: the loss reads responses that stand alone: whatever their role, not only ranked ones.
        values: names of the further numbers that the data hold, whether or not these lists do.
    """
    import torch

    packed = pack([group_of(entry) for entry in lists])
    lengths = packed.lengths
    longest = int(lengths.max(initial=1))
    starts = np.cumsum(lengths) - lengths
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    cells = row_of * longest + np.arange(len(row_of)) - starts[row_of]
    width = max(len(entry.rows) for entry in lists)
    responses: list[int] = []
    places: list[int] = []
    rationales: list[int] = []
    row = 0
    for number, entry in enumerate(lists):
        responses += range(row, row + len(entry.rows))
        places += range(number * width, number * width + len(entry.rows))
        row += len(entry.rows)
        rationales += range(row, row + len(entry.rationales))
        row += len(entry.rationales)
    return MicroBatch(
        lists=tuple(lists),
        pack=packed,
        batch=_batch(lists, width, alone, values),
        cells=torch.from_numpy(cells),
        shape=(len(lengths), longest),
        responses=torch.tensor(responses, dtype=torch.int64),
        places=torch.tensor(places, dtype=torch.int64),
        rationales=torch.tensor(rationales, dtype=torch.int64),
    )


def group_of(entry: TokenList, *, reference: bool = False) -> list[Row]:
    """The rows of a list that share what they begin with: those of the policy, or those of the reference."""
    return [*(entry.reference if reference else entry.rows), *entry.rationales]


def _moved(batch: Batch, device: torch.device | str) -> Batch:
    moved: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if field.name == "values":
            moved["values"] = {name: numbers.to(device) for name, numbers in value.items()}
        elif value is not None:
            moved[field.name] = value.to(device)
    return replace(batch, **moved)


def _batch(lists: Sequence[TokenList], width: int, alone: bool, values: Sequence[str]) -> Batch:
    import torch

    shape = (len(lists), width)
    mask, sft = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    length, ranks = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    scores, labels = np.full(shape, math.nan), np.full(shape, math.nan)
    named = {name: np.full(shape, math.nan) for name in values}
    edges: list[tuple[int, int, int]] = []
    numbers: list[tuple[float, float, float, float]] = []
    rationale: list[int] = []
    so_far = 0
    for n, entry in enumerate(lists):
        for k, (response, row) in enumerate(zip(entry.source.responses, entry.rows, strict=True)):
            mask[n, k] = alone or response.role == "ranked"
            sft[n, k] = response.role == "sft"
            length[n, k] = len(row.scored)
            ranks[n, k] = response.rank or 0
            scores[n, k] = _number(response.score)
            labels[n, k] = _number(response.label)
        for name, found in entry.source.values.items():
            if name in named:
                named[name][n, : len(found)] = [_number(value) for value in found]
        of_edges = entry.rationale_of or (-1,) * len(entry.source.edges)
        for edge, said in zip(entry.source.edges, of_edges, strict=True):
            edges.append((n, edge.winner, edge.loser))
            numbers.append((edge.p, _number(edge.margin), edge.weight, _number(edge.votes)))
            rationale.append(said if said < 0 else so_far + said)
        so_far += len(entry.rationales)

    def floats(found: Any) -> Tensor:
        return torch.from_numpy(np.asarray(found, dtype=np.float32))

    p, margin, weight, votes = floats(np.asarray(numbers, dtype=np.float32).reshape(-1, 4)).unbind(dim=1)
    return Batch(
        mask=torch.from_numpy(mask),
        length=torch.from_numpy(length),
        scores=floats(scores),
        ranks=torch.from_numpy(ranks),
        labels=floats(labels),
        weight=floats([entry.source.weight for entry in lists]),
        edge=torch.tensor(edges, dtype=torch.int64).view(-1, 3),
        p=p,
        margin=margin,
        edge_weight=weight,
        votes=votes,
        sft=torch.from_numpy(sft),
        values={name: floats(found) for name, found in named.items()},
        rationale=torch.tensor(rationale, dtype=torch.int64),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
