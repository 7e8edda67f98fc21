"""Losses over responses that stand alone, each with its label: 1 wanted, 0 not."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prefdata.train.errors import TrainError
from prefdata.train.losses.options import POSITIVE
from prefdata.train.losses.registry import loss

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.train.losses.views import Alone


@loss(
    "kto",
    over="responses",
    needs=("mismatched",),
    limits={"beta": POSITIVE, "desirable": POSITIVE, "undesirable": POSITIVE},
    paper="Ethayarajh et al. 2024, KTO: Model Alignment as Prospect Theoretic Optimization, equation 7",
)
def kto(alone: Alone, *, beta: float = 0.1, desirable: float = 1.0, undesirable: float = 1.0) -> Tensor:
    """Kahneman-Tversky Optimization: wanted and unwanted responses, which need not be pairs.

    `desirable (1 - s(beta (lp - ref - z0)))` for a wanted response and `undesirable (1 - s(beta (z0 - lp + ref)))` for
    an unwanted one, where s is the logistic function. `z0 = max(0, mean of lp - ref)` over the step's prompts with
    other prompts' responses, without a gradient: an estimate of how far the policy has moved from the reference.

    A step whose responses all answer one prompt has no such combination; z0 is then 0, the least that it can be. The
    trainer says how many such steps there are, and refuses a run that has no others.

    Args:
        alone: B responses.
        beta: as in `dpo`.
        desirable: weight of wanted responses; > 0. The paper keeps desirable x (number wanted) between 1 and 4/3 times
            undesirable x (number unwanted).
        undesirable: weight of unwanted responses; > 0.
    """
    import torch

    if alone.mismatched is None:
        raise TrainError("kto needs lp - ref of other prompts' responses (`Outputs.mismatched`)")
    ratio = alone.responses.ratio
    shifted = alone.mismatched.detach().to(ratio)
    reference_point = shifted.mean().clamp(min=0) if len(shifted) else ratio.new_zeros(())
    lead = beta * (ratio - reference_point)
    # 1 - s(x) is s(-x), which does not cancel where s(x) is next to 1.
    return torch.where(alone.responses.label > 0.5, desirable * torch.sigmoid(-lead), undesirable * torch.sigmoid(lead))


def mismatch(prompts: Sequence[Hashable], seed: int) -> list[int]:
    """For each row another row with another prompt, whose response is to be read under this row's prompt.

    Where no prompt has more than half of the rows, it is a permutation: every response is read once. Otherwise the
    rows of the other prompts are taken in turn. The order of the rows changes nothing but which of the many is drawn.

    Args:
        prompts: N of them, a name or the tokens; equal ones are one prompt.
        seed: of the draw.

    Returns:
        N row numbers, none of them with the row's own prompt; empty where all rows share one prompt (or there is none).
    """
    import numpy as np

    random = np.random.default_rng(seed)
    members: dict[Hashable, list[int]] = {}
    for row, prompt in enumerate(prompts):
        members.setdefault(prompt, []).append(row)
    if len(members) < 2:
        return []
    blocks = [random.permutation(rows).tolist() for rows in members.values()]
    blocks = [blocks[place] for place in random.permutation(len(blocks))]
    order = [row for block in blocks for row in block]
    largest = max(map(len, blocks))
    count, start = len(order), 0
    partner = [0] * count
    for block in blocks:
        after = start + len(block)
        for place, row in enumerate(block):
            # Rows lie prompt by prompt in a ring: a step as long as the longest stretch leaves every stretch, and a
            # stretch of more than half of the ring goes round what is not its own.
            turned = start + place + largest if 2 * largest <= count else after + place % (count - len(block))
            partner[row] = order[turned % count]
        start = after
    return partner


def _next_means(
    state: Mapping[str, Any], observed: Mapping[str, Sequence[float]], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Counts and means of the rewards that were seen, wanted and unwanted apart, and the shift between them."""
    del options
    after: dict[str, Any] = {}
    for side in ("wanted", "unwanted"):
        seen = list(observed.get(side, ()))
        count = state.get(f"{side}_count", 0) + len(seen)
        mean = state.get(f"{side}_mean", 0.0)
        after[f"{side}_count"] = count
        after[f"{side}_mean"] = mean + sum(value - mean for value in seen) / count if count else mean
    known = [after[f"{side}_mean"] for side in ("wanted", "unwanted") if after[f"{side}_count"]]
    after["shift"] = sum(known) / len(known) if known else 0.0
    return after


def _check_bco(options: Mapping[str, Any]) -> str:
    """What is wrong with the options; empty where nothing is."""
    if options["density_ratio"] == 1:
        return ""
    return (
        "density_ratio is 1: to match the two distributions of prompts takes an embedder and a classifier, which the "
        "trainer does not have. Give each response its ratio as its weight in the data instead"
    )


@loss(
    "bco",
    over="responses",
    limits={"beta": POSITIVE},
    check=_check_bco,
    paper="Jung et al. 2024, Binary Classifier Optimization for Large Language Model Alignment, section 4",
    remember=_next_means,
)
def bco(alone: Alone, *, beta: float = 0.1, density_ratio: float = 1.0) -> Tensor:
    """Binary Classifier Optimization: tell wanted from unwanted responses by their implicit reward.

    `-log s(r - d)` for a wanted response and `-u log s(d - r)` for an unwanted one, with `r = beta (lp - ref)` and u 1.
    The shift `d = (mean r of wanted + mean r of unwanted) / 2` is over all steps before this one (0 in the first, where
    policy and reference are still equal), carries no gradient, and is kept in checkpoints.

    The paper weighs unwanted responses by `u(x) = p(wanted | prompt) / p(unwanted | prompt)` from a classifier of
    prompts; here u is 1, which is exact where both kinds have the same prompts.

    Args:
        alone: B responses.
        beta: as in `dpo`; the paper uses 0.01 to 0.1.
        density_ratio: only 1, which is u.
    """
    import torch
    from torch.nn.functional import logsigmoid

    reward = beta * alone.responses.ratio
    wanted = alone.responses.label > 0.5
    alone.memory.observe("wanted", reward[wanted])
    alone.memory.observe("unwanted", reward[~wanted])
    lead = reward - alone.memory.read("shift", 0.0)
    return torch.where(wanted, -logsigmoid(lead), -density_ratio * logsigmoid(-lead))


@loss("sft", over="responses", reference=False, tokens_count=True, paper="maximum likelihood")
def sft(alone: Alone) -> Tensor:
    """Supervised fine-tuning on the wanted responses.

    `-lp` of each response whose label is above 0.5, summed over its tokens; the mean is taken over the tokens of all of
    them in the step, so that every token counts alike. Other responses are passed over.

    Args:
        alone: B responses.
    """
    import torch

    assert alone.responses.lp is not None
    return torch.where(alone.responses.label > 0.5, -alone.responses.lp, 0.0)
