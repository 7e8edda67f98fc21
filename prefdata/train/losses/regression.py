"""Losses over pairs that fit a number: a win rate, a share of votes, a difference of rewards.

In the formulas s is the logistic function, `lr = lp - ref`, D the winner's lr minus the loser's, and m the margin (0
unless the option `margin` is set). The reference is the policy that the responses were sampled from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefdata.train.errors import TrainError
from prefdata.train.losses.options import POSITIVE, Range
from prefdata.train.losses.registry import loss

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.train.losses.views import Pairs, Responses

SPPO = "Wu et al. 2024, Self-Play Preference Optimization for Language Model Alignment"


@loss(
    "sppo",
    needs=("values.{win_rate}",),
    soft="own",
    without=("margin",),
    limits={"beta": POSITIVE},
    column_ranges={"win_rate": Range(least=0, most=1)},
    paper=SPPO,
)
def sppo(pair: Pairs, *, beta: float = 0.001, win_rate: str = "win_rate") -> Tensor:
    """Self-play preference optimisation: each response's log-ratio is to be its win rate's lead.

    `((lr_w - (P_w - 1/2) / beta)^2 + (lr_l - (P_l - 1/2) / beta)^2) / 2`, where P is the share of the prompt's sampled
    responses that a response beats on average. What is fitted belongs to each response, so neither p nor a margin can
    act. In a list each response counts once for each of its pairs.

    Args:
        pair: E pairs.
        beta: one over the paper's eta; > 0. It is small because lr sums over tokens.
        win_rate: which column of `values` holds P, 0 to 1.
    """
    targets = [(_between(side, win_rate, 0, 1) - 0.5) / beta for side in (pair.win, pair.lose)]
    return _squares(pair, *targets)


@loss("sppo-hard", without=("margin",), limits={"beta": POSITIVE}, paper=SPPO)
def sppo_hard(pair: Pairs, *, beta: float = 0.001) -> Tensor:
    """SPPO with the win rates 1 and 0 for a pair's winner and loser.

    `((lr_w - 1/(2 beta))^2 + (lr_l + 1/(2 beta))^2) / 2`. Other libraries leave the division by 2 out.

    Args:
        pair: E pairs.
        beta: as in `sppo`.
    """
    target = 1 / (2 * beta)
    return _squares(pair, target, -target)


@loss(
    "dno",
    needs=("{rewards}",),
    soft="own",
    limits={"eta": POSITIVE},
    paper="Rosset et al. 2024, Direct Nash Optimization: Teaching Language Models to Self-Improve",
)
def dno(pair: Pairs, *, eta: float = 0.1, rewards: str = "scores") -> Tensor:
    """Direct Nash Optimization: log-ratios regress to a difference of rewards, by cross-entropy.

    `-q log s(eta D - m) - (1 - q) log s(m - eta D)` with `q = s(r_w - r_l)`, least where `eta D - m = r_w - r_l`. In
    the paper r is the expected win rate against the policy that was sampled from. A pair whose rewards are far apart
    is DPO's. The paper's practical form is `dpo` on pairs with a large gap of scores. p does not act.

    Args:
        pair: E pairs.
        eta: as beta in `dpo`; > 0.
        rewards: scores or values.NAME.
    """
    import torch
    from torch.nn.functional import logsigmoid

    won, lost = (_rewards(side, rewards) for side in (pair.win, pair.lose))
    z = eta * (pair.win.ratio - pair.lose.ratio) - pair.margin
    q = torch.sigmoid((won - lost).to(z.dtype))
    return -q * logsigmoid(z) - (1 - q) * logsigmoid(-z)


@loss(
    "irepo",
    needs=("p",),
    soft="own",
    limits={"beta": POSITIVE, "votes": Range(least=1)},
    paper="Le et al. 2024, iREPO: implicit Reward Pairwise Difference based Empirical Preference Optimization",
)
def irepo(pair: Pairs, *, beta: float = 0.1, votes: float = 10) -> Tensor:
    """Log-ratios regress to the log-odds of an empirical preference.

    `(beta D - m - logit(p))^2`, with p, the share of votes for the winner, clipped to `[1/(2h), 1 - 1/(2h)]` for h
    votes: a unanimous vote would have an infinite target. One vote alone is clipped to 1/2.

    Args:
        pair: E pairs.
        beta: as in `dpo`; > 0, usually 0.01 to 1.
        votes: h where the data do not say; at least 1.
    """
    import torch

    heard = torch.where(pair.votes.isnan(), float(votes), pair.votes).clamp(min=1).to(pair.p.dtype)
    edge = 1 / (2 * heard)
    p = pair.p.clamp(edge, 1 - edge)
    return (beta * (pair.win.ratio - pair.lose.ratio) - pair.margin - torch.logit(p)) ** 2


def _squares(pair: Pairs, win: Tensor | float, lose: Tensor | float) -> Tensor:
    """The mean square of both sides' distance from their targets, `[E]`."""
    return ((pair.win.ratio - win) ** 2 + (pair.lose.ratio - lose) ** 2) / 2


def _rewards(side: Responses, name: str) -> Tensor:
    """`[E]`: the scores, or a column of values.

    Raises:
        TrainError: a response has no number there.
    """
    rewards = side.score if name == "scores" else side.value(name.removeprefix("values."))
    if bool(rewards.isnan().any()):
        raise TrainError(f"{name}: a pair's response has no number there")
    return rewards


def _between(side: Responses, name: str, low: float, high: float) -> Tensor:
    """`[E]`: a column of values.

    Raises:
        TrainError: a response has no number there, or one outside the range.
    """
    values = _rewards(side, f"values.{name}")
    if bool(((values < low) | (values > high)).any()):
        raise TrainError(f"values.{name} lie from {low:g} to {high:g}; a pair's response has another number there")
    return values
