"""Losses of reward models: a scalar head's outputs, one or several for each response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefdata.train.losses.listwise import plackett_luce_nll
from prefdata.train.losses.options import NOT_NEGATIVE
from prefdata.train.losses.registry import loss, names_in

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.train.losses.views import Alone, Lists, Pairs, Responses

HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def _scalar(responses: Responses) -> Tensor:
    """The one output of each response, in the responses' shape."""
    assert responses.reward is not None
    return responses.reward[..., 0]


@loss(
    "bradley-terry",
    output="reward",
    limits={"centring": NOT_NEGATIVE},
    paper="Bradley and Terry 1952; Ouyang et al. 2022, equation 1; margin: Touvron et al. 2023, Llama 2, equation 2",
)
def bradley_terry(pair: Pairs, *, centring: float = 0.01) -> Tensor:
    """The Bradley-Terry reward model.

    `-log s(r_w - r_l - m) + centring (r_w + r_l)^2`, where s is the logistic function, r the head's output at a
    response's last token and m the margin. The first term knows rewards only up to a constant, which the second holds
    near 0 (Eisenstein et al. 2023). With soft labels (p < 1) both directions are mixed.

    Args:
        pair: E pairs.
        centring: coefficient; at least 0.
    """
    from torch.nn.functional import logsigmoid

    win, lose = _scalar(pair.win), _scalar(pair.lose)
    return -logsigmoid(win - lose - pair.margin) + centring * (win + lose) ** 2


@loss(
    "reward-plackett-luce",
    over="lists",
    output="reward",
    needs=("ranks",),
    limits={"centring": NOT_NEGATIVE},
    paper="Plackett 1975; Luce 1959",
)
def reward_plackett_luce(lists: Lists, *, centring: float = 0.01, mean_over_stages: bool = False) -> Tensor:
    """The Plackett-Luce reward model: `bradley-terry` for rankings.

    `-sum_k [r_k - logsumexp(r_k, and all that rank below k)] + centring (2 mean_k r_k)^2` for each list, with r the
    head's output. For K = 2 it is `bradley-terry`. Equal ranks state no order, as in `plackett-luce`.

    Args:
        lists: N lists.
        centring: coefficient; at least 0.
        mean_over_stages: as in `plackett-luce`.
    """
    import torch

    responses = lists.responses
    reward = _scalar(responses)
    total, stages = plackett_luce_nll(reward, responses.rank, responses.mask)
    total = total / stages.clamp(min=1) if mean_over_stages else total
    mean = torch.where(responses.mask, reward, 0.0).sum(dim=1) / responses.mask.sum(dim=1).clamp(min=1)
    return total + centring * (2 * mean) ** 2


@loss(
    "multi-attribute",
    over="responses",
    output="reward",
    needs=("values.{attributes}",),
    heads="attributes",
    paper="Wang et al. 2024, HelpSteer2; Wang et al. 2024, ArmoRM, first stage",
)
def multi_attribute(alone: Alone, *, attributes: Sequence[str] | str = HELPSTEER) -> Tensor:
    """A reward model with an output for each attribute, fitted to their ratings.

    The mean over the attributes that are known of a response of `(r_a - rating_a)^2`, for each response that has at
    least one of them. Ratings are taken as they are: bring them to one scale beforehand if they are not on one. No
    label and no pair is read.

    Args:
        alone: B responses.
        attributes: names in `values`, with commas between them or as a list; the head's outputs, in this order.
    """
    import torch

    responses = alone.responses
    assert responses.reward is not None
    rating = torch.stack([responses.value(name) for name in names_in(attributes)], dim=-1)
    known = ~rating.isnan()
    error = (responses.reward - torch.where(known, rating, 0.0).to(responses.reward)) ** 2
    return torch.where(known, error, 0.0).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)
