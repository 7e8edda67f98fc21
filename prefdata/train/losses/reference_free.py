"""Losses over pairs that read no reference, and SLiC's form with one.

In the formulas s is the logistic function, |y| the number of a response's trained tokens, `alp = lp / |y|`, and m the
margin (0 unless the option `margin` is set).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefdata.train.losses.options import NOT_NEGATIVE, POSITIVE
from prefdata.train.losses.registry import loss

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.train.losses.views import Pairs

SURE = 1e-6
"""ORPO reads a mean log-probability above -SURE as -SURE: at 0 the odds are infinite, and the gradient is not a
number. In float32, 1 - e^-SURE has still four digits."""


@loss(
    "slic",
    reference=False,
    limits={"delta": NOT_NEGATIVE},
    sft=0.1,
    sft_reduction="sum",
    paper="Zhao et al. 2023, SLiC-HF: Sequence Likelihood Calibration with Human Feedback",
)
def slic(pair: Pairs, *, delta: float = 1.0) -> Tensor:
    """Sequence likelihood calibration: a hinge on the log-probabilities themselves.

    `max(0, delta + m - lp_w + lp_l) + sft NLL`, where NLL is the negative log-likelihood of the winner, or of the
    list's responses of role `sft` where it has some: the option `sft` is the paper's lambda. Where the margin is met
    there is no gradient but the SFT term's.

    Args:
        pair: E pairs.
        delta: by how many nats the winner is to be likelier; >= 0.
    """
    assert pair.win.lp is not None and pair.lose.lp is not None
    return (delta + pair.margin - pair.win.lp + pair.lose.lp).clamp(min=0)


@loss(
    "slic-normalised",
    limits={"beta": POSITIVE},
    paper="Liu et al. 2023, Statistical Rejection Sampling Improves Preference Optimization",
)
def slic_normalised(pair: Pairs, *, beta: float = 0.1) -> Tensor:
    """The hinge on DPO's log-ratios.

    `max(0, 1 + m - beta D)`, with `D = (lp_w - ref_w) - (lp_l - ref_l)`.

    Args:
        pair: E pairs.
        beta: as in `dpo`; > 0, usually 0.05 to 0.1.
    """
    return (1 + pair.margin - beta * (pair.win.ratio - pair.lose.ratio)).clamp(min=0)


@loss(
    "simpo",
    reference=False,
    limits={"beta": POSITIVE, "gamma_ratio": NOT_NEGATIVE},
    paper="Meng et al. 2024, SimPO: Simple Preference Optimization with a Reference-Free Reward, equation 6",
)
def simpo(pair: Pairs, *, beta: float = 2.0, gamma_ratio: float = 0.5) -> Tensor:
    """DPO on mean log-probabilities, without a reference.

    `-log s(beta (alp_w - alp_l) - gamma - m)`, with `gamma = gamma_ratio * beta`.

    Args:
        pair: E pairs.
        beta: per token; > 0. The authors take 2 for base models, 2.5 for instructed ones, up to 10.
        gamma_ratio: the target margin over beta; >= 0, usually 0.1 to 0.8.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(beta * (pair.win.mean - pair.lose.mean - gamma_ratio) - pair.margin)


@loss(
    "cpo",
    reference=False,
    limits={"beta": POSITIVE},
    sft=1.0,
    sft_reduction="tokens",
    paper="Xu et al. 2024, Contrastive Preference Optimization",
)
def cpo(pair: Pairs, *, beta: float = 0.1) -> Tensor:
    """Contrastive preference optimisation: DPO with a uniform reference, and its SFT term.

    `-log s(beta (lp_w - lp_l) - m) + sft NLL(w)`: the pair's log-probabilities are summed, the winners' negative
    log-likelihood is averaged over all their tokens in the step. CPO-SimPO is `simpo` with sft 1.

    Args:
        pair: E pairs.
        beta: as in `dpo`; > 0.
    """
    from torch.nn.functional import logsigmoid

    assert pair.win.lp is not None and pair.lose.lp is not None
    return -logsigmoid(beta * (pair.win.lp - pair.lose.lp) - pair.margin)


@loss(
    "orpo",
    reference=False,
    limits={"lam": NOT_NEGATIVE},
    sft=1.0,
    sft_reduction="tokens",
    paper="Hong et al. 2024, ORPO: Monolithic Preference Optimization without Reference Model, equations 6 and 7",
)
def orpo(pair: Pairs, *, lam: float = 0.1) -> Tensor:
    """Odds-ratio preference optimisation: SFT and a preference in one stage.

    `-lam log s(lo_w - lo_l - m) + sft NLL(w)`, with the log-odds of a mean token `lo = alp - log(1 - e^alp)`. The SFT
    term reads the winner's trained tokens, never the prompt's; with sft 0 what is left is the ratio's term alone.

    Args:
        pair: E pairs.
        lam: weight of the ratio's term; >= 0, usually 0.1 to 1. With 0 it is SFT.
    """
    from torch.nn.functional import logsigmoid

    return -lam * logsigmoid(log_odds(pair.win.mean) - log_odds(pair.lose.mean) - pair.margin)


def log_odds(logprob: Tensor) -> Tensor:
    """`a - log(1 - e^a)` of log-probabilities a <= 0, finite with a finite gradient up to a = 0."""
    below = logprob.clamp(max=-SURE)
    return below - (-below.expm1()).log()
