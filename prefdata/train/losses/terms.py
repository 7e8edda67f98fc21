"""From a loss's values to sums: weights, soft labels, margins and the SFT term, the same for every loss.

Every term is a weighted sum and a mass. The mass depends on the data alone, so a step can add the masses of all its
micro-batches, on all processes, before the first of them is computed, and no result depends on how it was split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prefdata.train.errors import TrainError
from prefdata.train.losses.views import Alone, Lists, Memory, Pairs, Responses, Tokens, named

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.train.losses.batch import Batch, Outputs

Call = Callable[[Any], "Tensor"]
Terms = dict[str, tuple[Any, "Tensor"]]
"""By name, the weighted sum (null where only masses are asked for) and the mass."""


def responses_of(outputs: Outputs, batch: Batch) -> Responses:
    """All responses of a micro-batch, `[N, K]`."""
    tokens = None
    if outputs.token_lp is not None:
        assert outputs.token_mask is not None
        tokens = Tokens(outputs.token_lp, outputs.token_ref, outputs.token_mask)
    return Responses(
        mask=batch.mask,
        length=batch.length,
        score=batch.scores,
        rank=batch.ranks,
        label=batch.labels,
        lp=outputs.lp,
        ref=outputs.ref,
        reward=outputs.reward,
        tokens=tokens,
        values=batch.values,
    )


def pair_terms(
    call: Call, outputs: Outputs | None, batch: Batch, options: Mapping[str, Any], memory: Memory, *, mixed: bool
) -> Terms:
    """The terms of a loss over pairs: `loss`, and `sft` where its coefficient is not 0."""
    import torch

    batch, weight = _edges(batch, options, mixed=mixed)
    p = batch.p
    rows, winner, loser = batch.edge.unbind(dim=1)
    terms: Terms = {"loss": (None, weight.sum())}
    coefficient = float(options.get("sft", 0.0))
    if coefficient:
        terms["sft"] = (None, _sft_mass(weight, batch, rows, winner, options["sft_reduction"]))
    if outputs is None:
        return terms
    lists = responses_of(outputs, batch)
    pairs = Pairs(
        win=lists.at(rows, winner),
        lose=lists.at(rows, loser),
        margin=_margin(batch, options.get("margin", "none")),
        p=p,
        votes=batch.votes,
        ranked=(batch.mask & (batch.ranks > 0)).sum(dim=1)[rows],
        rationale=_rationales(outputs, batch),
        memory=memory,
    )
    values = call(pairs) if options.get("margin", "none") == "none" else _with_margin(call, pairs)
    if mixed and bool((p < 1).any()):
        # torch.where, not a product: an infinite loss of the direction that p rules out must not become NaN.
        values = p * values + torch.where(p < 1, (1 - p) * call(pairs.swapped()), 0.0)
    weight = weight.to(values.dtype)
    terms["loss"] = ((weight * values).sum(), terms["loss"][1])
    if coefficient:
        nll = _sft_values(lists, batch, rows, winner, options["sft_reduction"])
        terms["sft"] = (coefficient * (weight * nll).sum(), terms["sft"][1])
    return terms


def list_terms(call: Call, outputs: Outputs | None, batch: Batch, options: Mapping[str, Any], memory: Memory) -> Terms:
    """The one term of a loss over lists; those of weight 0 are taken out, as edges are."""
    (rows,) = (batch.weight > 0).nonzero(as_tuple=True)
    weight = batch.weight[rows] if options["weight"] == "data" else batch.weight.new_ones(len(rows))
    if outputs is None:
        return {"loss": (None, weight.sum())}
    values = call(Lists(responses_of(outputs, batch).at(rows), memory))
    return {"loss": ((weight.to(values.dtype) * values).sum(), weight.sum())}


def alone_terms(
    call: Call,
    outputs: Outputs | None,
    batch: Batch,
    options: Mapping[str, Any],
    memory: Memory,
    *,
    by_tokens: bool,
    read: Sequence[str] | None = None,
) -> Terms:
    """The one term of a loss over responses that stand alone; those of weight 0 are taken out, as edges are.

    Args:
        call: the loss.
        outputs: null where only masses are asked for.
        batch: of lists.
        options: the shared ones.
        memory: of the loss.
        by_tokens: the mean is taken over the tokens of wanted responses.
        read: null: responses whose label is known take part; otherwise those that have one of these values.
    """
    rows, places = (batch.mask & _known(batch, read) & (batch.weight > 0)[:, None]).nonzero().unbind(dim=1)
    weight = batch.weight[rows] if options["weight"] == "data" else batch.weight.new_ones(len(rows))
    length = batch.length[rows, places].to(weight.dtype)
    # SFT reads only what is wanted: what it passes over must not stand in the mean either.
    mass = (weight * length * (batch.labels[rows, places] > 0.5)).sum() if by_tokens else weight.sum()
    if outputs is None:
        return {"loss": (None, mass)}
    values = call(Alone(responses_of(outputs, batch).at(rows, places), outputs.mismatched, memory))
    return {"loss": ((weight.to(values.dtype) * values).sum(), mass)}


def _known(batch: Batch, read: Sequence[str] | None) -> Tensor:
    """`[N, K]`: has a label, or one of these values."""
    import torch

    if read is None:
        return ~torch.isnan(batch.labels)
    return ~torch.stack([named(batch.values, name).isnan() for name in read]).all(dim=0)


def _edges(batch: Batch, options: Mapping[str, Any], *, mixed: bool) -> tuple[Batch, Tensor]:
    """The batch with the edges that count, each with its likelier side as winner, and their weights `[E]`.

    Edges of weight 0 are taken out, not multiplied by 0: what a loss makes of them must not reach its memory, nor an
    infinite value the gradient. Edges are turned so that the SFT term reads the likelier side, as it does where an
    export of pairs has turned them.
    """
    import torch

    weight = batch.weight_of_edges if options["weight"] == "data" else (batch.weight_of_edges > 0).to(batch.weight)
    hard = mixed and options["label"] == "hard"
    keep = weight > 0
    keep = keep & (batch.p != 0.5) if hard else keep
    edge, p, margin = batch.edge[keep], batch.p[keep], batch.margin[keep]
    turned = p < 0.5
    p = torch.where(turned, 1 - p, p)
    batch = replace(
        batch,
        edge=torch.where(turned[:, None], edge[:, [0, 2, 1]], edge),
        p=torch.ones_like(p) if hard else p,
        margin=torch.where(turned, -margin, margin),
        edge_weight=batch.edge_weight[keep],
        votes=batch.votes[keep],
        rationale=None if batch.rationale is None else batch.rationale[keep],
    )
    weight, rows = weight[keep], batch.edge[:, 0]
    if options["per"] == "list":
        total = weight.new_zeros(len(batch.weight)).index_add(0, rows, weight)
        of_list = batch.weight if options["weight"] == "data" else torch.ones_like(batch.weight)
        weight = of_list[rows] * weight / total[rows]
    return batch, weight


def _margin(batch: Batch, kind: str) -> Tensor:
    """`[E]`: by how much the winner of each edge is to be better."""
    import torch

    rows, winner, loser = batch.edge.unbind(dim=1)
    if kind == "none":
        return torch.zeros_like(batch.p)
    if kind == "edges":
        return batch.margin.nan_to_num(0.0)
    values = batch.scores if kind == "scores" else named(batch.values, kind.removeprefix("values."))
    gap = values[rows, winner] - values[rows, loser]
    if bool(torch.isnan(gap).any()):
        raise TrainError(f"margin: {kind}: a pair's response has no number there")
    return gap.to(batch.p.dtype)


def _with_margin(call: Call, pairs: Pairs) -> Tensor:
    """The loss's values; a loss that does not read the margin, such as one of the user's, refuses it."""
    import torch

    if not torch.is_grad_enabled():
        return call(pairs)
    seen = pairs.margin.detach().requires_grad_()
    values = call(replace(pairs, margin=seen))
    if not values.requires_grad or None in torch.autograd.grad(
        values.sum(), seen, retain_graph=True, allow_unused=True
    ):
        raise TrainError(
            "margin: this loss does not read it: it subtracts `pair.margin`, or is registered with without=('margin',)"
        )
    return values


def _rationales(outputs: Outputs, batch: Batch) -> Responses | None:
    """`[E]`: the rationale of each edge; masked where there is none."""
    import torch

    if outputs.rationale_lp is None or batch.rationale is None or outputs.rationale_length is None:
        return None
    there = batch.rationale >= 0
    place = batch.rationale.clamp(min=0)
    nothing = torch.full_like(batch.p, torch.nan)
    if not len(outputs.rationale_lp):
        zeros = torch.zeros_like(batch.p)
        length, lp = zeros.long(), zeros
    else:
        length = torch.where(there, outputs.rationale_length[place], 0)
        lp = torch.where(there, outputs.rationale_lp[place], 0.0)
    rank = torch.zeros_like(length)
    return Responses(mask=there, length=length, score=nothing, rank=rank, label=nothing, lp=lp)


def _sft_targets(batch: Batch, rows: Tensor, winner: Tensor) -> Tensor:
    """`[E, K]`: each response's share in the SFT term of each edge: the list's own of role sft, else the winner."""
    import torch
    from torch.nn.functional import one_hot

    own = batch.sft[rows].to(batch.weight.dtype)
    count = own.sum(dim=1, keepdim=True)
    won = one_hot(winner, batch.mask.shape[1]).to(own.dtype)
    return torch.where(count > 0, own / count.clamp(min=1), won)


def _sft_mass(weight: Tensor, batch: Batch, rows: Tensor, winner: Tensor, reduction: str) -> Tensor:
    if reduction != "tokens":
        return weight.sum()
    share = _sft_targets(batch, rows, winner)
    return (weight[:, None] * share * batch.length[rows].to(weight.dtype)).sum()


def _sft_values(lists: Responses, batch: Batch, rows: Tensor, winner: Tensor, reduction: str) -> Tensor:
    """`[E]`: the negative log-likelihood that the SFT term of each edge adds up."""
    assert lists.lp is not None
    nll = -(lists.mean if reduction == "mean" else lists.lp)
    return (_sft_targets(batch, rows, winner).to(nll.dtype) * nll[rows]).sum(dim=1)
