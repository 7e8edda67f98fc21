"""What the tests of losses share: `make` builds a batch and what models make of it, from numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from prefdata.train.losses import LOSSES, Batch, Memory, Outputs

torch = pytest.importorskip("torch")

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Case:
    """A batch and outputs; `value` is a loss's value of them."""

    outputs: Outputs
    batch: Batch

    def value(self, name: str, memory: Memory | None = None, **options: Any) -> float:
        """The loss of the whole batch."""
        return float(self.loss(name, memory, **options).detach())

    def loss(self, name: str, memory: Memory | None = None, **options: Any) -> Any:
        """Likewise, a tensor."""
        return LOSSES[name](self.outputs, self.batch, options, memory)

    def gradient(self, name: str, **options: Any) -> Any:
        """With respect to `lp`, `[N, K]`."""
        assert self.outputs.lp is not None
        lp = self.outputs.lp.detach().clone().requires_grad_()
        replace(self, outputs=replace(self.outputs, lp=lp)).loss(name, **options).backward()
        return lp.grad

    def given(self, **changed: Any) -> Case:
        """The case with other fields of its outputs or its batch."""
        outputs = {name: value for name, value in changed.items() if name in Outputs.__dataclass_fields__}
        batch = {name: value for name, value in changed.items() if name in Batch.__dataclass_fields__}
        assert len(outputs) + len(batch) == len(changed)
        return Case(replace(self.outputs, **outputs), replace(self.batch, **batch))


Make = Callable[..., Case]


def _padded(rows: Sequence[Sequence[Any]], width: int, fill: float, dtype: Any) -> Any:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=dtype)


def build(
    lp: Rows,
    ref: Rows | None = None,
    *,
    length: Sequence[Sequence[int]] | None = None,
    ranks: Sequence[Sequence[int]] | None = None,
    scores: Rows | None = None,
    labels: Rows | None = None,
    edges: Sequence[tuple[int, int, int]] | None = None,
    p: Sequence[float] | None = None,
    margin: Sequence[float] | None = None,
    edge_weight: Sequence[float] | None = None,
    votes: Sequence[float] | None = None,
    weight: Sequence[float] | None = None,
    sft: Sequence[Sequence[bool]] | None = None,
    values: Mapping[str, Rows] | None = None,
    tokens: tuple[Sequence[Rows], Sequence[Rows]] | None = None,
    rationale: tuple[Sequence[int], Sequence[float], Sequence[int]] | None = None,
    width: int = 0,
    dtype: Any = torch.float64,
) -> Case:
    """Lists in the order best first, unless ranks are given; every pair of unlike ranks is an edge, unless edges are.

    Args:
        lp: for each list, for each response; padded to the longest.
        ref: likewise; 0 unless given.
        length: likewise; 5 unless given.
        ranks: likewise.
        scores: likewise; minus the rank unless given.
        labels: likewise; NaN unless given.
        edges: list, winner, loser.
        p: of each edge; 1 unless given. So on: margin NaN, edge_weight 1, votes NaN.
        weight: of each list; 1 unless given.
        sft: likewise for each response.
        values: by name, for each response.
        tokens: policy's and reference's token log-probabilities, list by response by token; `lp` and `ref` are their
            sums, and `length` their number.
        rationale: which one each edge has, and log-probability and length of each.
        width: K, if more than the longest list's.
        dtype: of everything that is not whole.
    """
    if tokens is not None:
        lp, ref = ([[sum(one) for one in row] for row in side] for side in tokens)
        length = [[len(one) for one in row] for row in tokens[0]]
    width = max(width, *map(len, lp))
    ranks = ranks or [list(range(1, len(row) + 1)) for row in lp]
    if edges is None:
        edges = [(n, i, j) for n, r in enumerate(ranks) for i, a in enumerate(r) for j, b in enumerate(r) if 0 < a < b]
    rank = _padded(ranks, width, 0, torch.int64)
    nan = torch.full(rank.shape, math.nan, dtype=dtype)
    count = len(edges)
    batch = Batch(
        mask=rank > 0,
        length=_padded(length or [[5] * len(row) for row in lp], width, 0, torch.int64),
        scores=torch.where(rank > 0, -rank.to(dtype), nan)
        if scores is None
        else _padded(scores, width, math.nan, dtype),
        ranks=rank,
        labels=nan if labels is None else _padded(labels, width, math.nan, dtype),
        weight=torch.tensor(weight or [1.0] * len(lp), dtype=dtype),
        edge=torch.tensor(list(edges), dtype=torch.int64).view(-1, 3),
        p=torch.tensor(p or [1.0] * count, dtype=dtype),
        margin=torch.tensor(margin or [math.nan] * count, dtype=dtype),
        edge_weight=torch.tensor(edge_weight or [1.0] * count, dtype=dtype),
        votes=torch.tensor(votes or [math.nan] * count, dtype=dtype),
        sft=_padded(sft or [[False] * len(row) for row in lp], width, False, torch.bool),
        values={name: _padded(rows, width, math.nan, dtype) for name, rows in (values or {}).items()},
        rationale=None if rationale is None else torch.tensor(rationale[0]),
    )
    outputs = Outputs(
        lp=_padded(lp, width, 0, dtype), ref=_padded(ref or [[0] * len(row) for row in lp], width, 0, dtype)
    )
    if tokens is not None:
        most = max(len(one) for row in tokens[0] for one in row)
        lay = [
            [*(_padded(row, most, 0, dtype)), *[torch.zeros(most, dtype=dtype)] * (width - len(row))]
            for row in tokens[0]
        ]
        ref_lay = [
            [*(_padded(row, most, 0, dtype)), *[torch.zeros(most, dtype=dtype)] * (width - len(row))]
            for row in tokens[1]
        ]
        there = torch.arange(most)[None, None, :] < batch.length[:, :, None]
        outputs = replace(
            outputs,
            token_lp=torch.stack([torch.stack(row) for row in lay]),
            token_ref=torch.stack([torch.stack(row) for row in ref_lay]),
            token_mask=there,
        )
    if rationale is not None:
        outputs = replace(
            outputs,
            rationale_lp=torch.tensor(rationale[1], dtype=dtype),
            rationale_length=torch.tensor(rationale[2]),
        )
    return Case(outputs, batch)


@pytest.fixture(scope="session")
def make() -> Make:
    """`build`."""
    return build


@pytest.fixture(scope="session")
def pair() -> Case:
    """Fixture P: lr_w = 1, lr_l = -0.5, D = 1.5; 4 tokens and 6, so alp_w = -3 and alp_l = -2.5."""
    return build([[-12, -15]], [[-13, -14.5]], length=[[4, 6]])


@pytest.fixture(scope="session")
def ranked() -> Case:
    """Fixture L: lr = 1, 0.2, -0.5, best first; labels 1, 0.5, 0."""
    return build([[1.0, 0.2, -0.5]], scores=[[1, 0.5, 0]])


@pytest.fixture(scope="session")
def token_pair() -> Case:
    """Fixture T: two tokens each; the winner is (0, 0), the loser (0, 2)."""
    log = math.log
    win, win_ref = [log(0.5), log(0.6)], [log(0.4), log(0.5)]
    lose, lose_ref = [log(0.2), log(0.4)], [log(0.3), log(0.3)]
    return build([], tokens=([[win, lose]], [[win_ref, lose_ref]]))
