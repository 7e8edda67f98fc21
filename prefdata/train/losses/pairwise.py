"""Losses over pairs, with a reference.

In the formulas s is the logistic function, `lr = lp - ref`, D the winner's lr minus the loser's, |y| the number of a
response's trained tokens, and m the margin (0 unless the option `margin` is set). With soft labels (p < 1) both
directions are mixed by p, which for a logistic loss is the cross-entropy with the label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prefdata.train.errors import TrainError
from prefdata.train.losses.options import NOT_NEGATIVE, POSITIVE, Range
from prefdata.train.losses.registry import loss
from prefdata.train.losses.views import named

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.train.losses.batch import Batch
    from prefdata.train.losses.views import Pairs, Responses, Tokens

BETA = {"beta": POSITIVE}
EXPONENT = 20.0
"""Where f-DPO cuts the exponent: e^20 is 5e8, beyond which a step says nothing more and float32 loses the smaller
response."""


@loss("dpo", limits=BETA, paper="Rafailov et al. 2023, Direct Preference Optimization, equation 7")
def dpo(pair: Pairs, *, beta: float = 0.1) -> Tensor:
    """Direct Preference Optimization.

    `-log s(beta D - m)`, where s is the logistic function, D the winner's `lp - ref` minus the loser's, and m the
    margin. With soft labels (p < 1) both directions are mixed, which is the cross-entropy with the label.

    Args:
        pair: E pairs.
        beta: how strongly the policy is held to the reference; > 0, usually 0.01 to 0.5.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(beta * (pair.win.ratio - pair.lose.ratio) - pair.margin)


@loss("ipo", limits={"tau": POSITIVE}, paper="Azar et al. 2023, A General Theoretical Paradigm (IPO), equation 17")
def ipo(pair: Pairs, *, tau: float = 0.1, length_normalised: bool = True) -> Tensor:
    """Identity preference optimisation: a gap is to have a size, not merely a sign.

    `(h - 1/(2 tau) - m)^2`. In the paper h is D; public trainers take `h = lr_w/|y_w| - lr_l/|y_l|`, which is the
    default. The two need tau on different scales.

    Args:
        pair: E pairs.
        tau: the gap's target is `1 / (2 tau)`; > 0, usually 0.01 to 1.
        length_normalised: divide each log-ratio by its response's tokens.
    """
    win, lose = (per_token(side) if length_normalised else side.ratio for side in (pair.win, pair.lose))
    return (win - lose - 1 / (2 * tau) - pair.margin) ** 2


@loss(
    "f-dpo",
    limits={**BETA, "divergence": ("reverse-kl", "forward-kl", "js", "alpha"), "alpha": Range(least=0, most=1)},
    check=lambda options: (
        "alpha acts only with divergence: alpha" if options["alpha"] != 0.5 and options["divergence"] != "alpha" else ""
    ),
    paper="Wang et al. 2023, Beyond Reverse KL: Generalizing DPO with Diverse Divergence Constraints",
)
def f_dpo(pair: Pairs, *, beta: float = 0.1, divergence: str = "reverse-kl", alpha: float = 0.5) -> Tensor:
    """DPO under another divergence from the reference.

    `-log s(beta (phi(lr_w) - phi(lr_l)) - m)`, where phi(v) is `v` for the reverse KL (which is DPO), `-e^-v` for the
    forward KL, `log s(v)` for Jensen-Shannon, and `(1 - e^(-alpha v)) / alpha` for the alpha-divergence, which goes
    from the reverse KL (alpha 0) to the forward one (alpha 1). Another convention has 1 - alpha in alpha's place.

    The exponent is cut at 20: the log-ratio of a long text would overflow, and where it is cut there is no gradient.

    Args:
        pair: E pairs.
        beta: as in `dpo`; usually 0.1 to 0.9.
        divergence: which one: reverse-kl, forward-kl, js or alpha.
        alpha: of the alpha-divergence, 0 to 1; usually 0.3 to 0.7. With any other divergence it is refused.
    """
    from torch.nn.functional import logsigmoid

    def phi(v: Tensor) -> Tensor:
        if divergence == "js":
            return logsigmoid(v)
        power = {"reverse-kl": 0.0, "forward-kl": 1.0, "alpha": alpha}[divergence]
        # -expm1(-a v) / a is (1 - e^(-a v)) / a without the cancellation where a v is small; at a = 1 it is the
        # forward KL's -e^-v but for a constant, which cancels.
        return v if not power else -(-power * v).clamp(max=EXPONENT).expm1() / power

    return -logsigmoid(beta * (phi(pair.win.ratio) - phi(pair.lose.ratio)) - pair.margin)


@loss("ln-dpo", limits=BETA, paper="Ahrabian et al. 2024, The Hitchhiker's Guide to Human Alignment with *PO")
def ln_dpo(pair: Pairs, *, beta: float = 2.0) -> Tensor:
    """DPO on log-ratios per token.

    `-log s(beta lr_w/|y_w| - beta lr_l/|y_l| - m)`: policy and reference are both normalised by length.

    Args:
        pair: E pairs.
        beta: per token, so on another scale than in `dpo`; > 0, usually 2 to 10.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(beta * (per_token(pair.win) - per_token(pair.lose)) - pair.margin)


@loss(
    "ld-dpo",
    needs=("tokens",),
    limits={**BETA, "alpha": Range(least=0, most=1)},
    paper="Liu et al. 2024, Length Desensitization in Direct Preference Optimization",
)
def ld_dpo(pair: Pairs, *, beta: float = 0.1, alpha: float = 0.5) -> Tensor:
    """DPO in which what the longer response has more counts less.

    `-log s(beta (lr^_w - lr^_l) - m)`, where `lr^` sums the log-ratios of the tokens up to the shorter response's
    length and alpha times those of the tokens after it. Positions count a response's trained tokens.

    Args:
        pair: E pairs.
        beta: as in `dpo`.
        alpha: 0 leaves the tail out, 1 is DPO; usually 0.3 to 0.6.
    """
    import torch
    from torch.nn.functional import logsigmoid

    shorter = torch.minimum(pair.win.length, pair.lose.length)

    def desensitised(tokens: Tokens | None) -> Tensor:
        assert tokens is not None and tokens.ref is not None
        tail = tokens.mask.long().cumsum(dim=-1) > shorter[:, None]
        share = (1 - (1 - alpha) * tail.to(tokens.lp.dtype)) * tokens.mask
        return ((tokens.lp - tokens.ref) * share).sum(dim=-1)

    return -logsigmoid(beta * (desensitised(pair.win.tokens) - desensitised(pair.lose.tokens)) - pair.margin)


@loss(
    "rpo",
    limits=BETA,
    sft=0.005,
    sft_reduction="sum",
    paper="Liu et al. 2024, Provably Mitigating Overoptimization in RLHF",
)
def rpo(pair: Pairs, *, beta: float = 0.01) -> Tensor:
    """DPO with its SFT term, which is what holds the winner's likelihood up.

    `-log s(beta D - m) + sft NLL`, where NLL is the negative log-likelihood of the winner, or of the list's responses
    of role `sft` where it has some: the option `sft` is the paper's eta. Two public variants: summed over tokens with
    beta 0.01 and sft 0.005 (the default), or averaged with beta 0.5, sft 0.2 and sft_reduction mean.

    Args:
        pair: E pairs.
        beta: as in `dpo`.
    """
    return dpo(pair, beta=beta)


@loss(
    "rationale-dpo",
    needs=("rationales",),
    limits={
        **BETA,
        "gamma": NOT_NEGATIVE,
        "form": ("nll", "released"),
        "rationale_reduction": ("sum", "mean"),
    },
    paper="Just et al. 2024, Data-Centric Human Preference Optimization with Rationales",
)
def rationale_dpo(
    pair: Pairs, *, beta: float = 0.1, gamma: float = 0.001, form: str = "nll", rationale_reduction: str = "sum"
) -> Tensor:
    """DPO, and the likelihood of the text r that says why the winner is better.

    `-log s(beta D - m) - gamma lp(r)`, with r given the prompt and both responses. The authors' code has
    `-log s(gamma lp(r))` in place of the last term (form `released`), whose gradient has the same sign.

    Neither form has a reference for the rationale. A pair without a rationale has no such term, and still stands in
    the mean.

    Args:
        pair: E pairs with their rationales.
        beta: as in `dpo`.
        gamma: weight of the rationale; >= 0. 0.001 for the sum over its tokens, 0.1 to 1 for the mean.
        form: of that term: nll or released.
        rationale_reduction: lp(r) is the sum or the mean over its tokens.
    """
    import torch
    from torch.nn.functional import logsigmoid

    if pair.rationale is None:
        raise TrainError("rationale-dpo needs rationales, and the data have none")
    lp = pair.rationale.mean if rationale_reduction == "mean" else pair.rationale.lp
    assert lp is not None
    term = -gamma * lp if form == "nll" else -logsigmoid(gamma * lp)
    return dpo(pair, beta=beta) + torch.where(pair.rationale.mask, term, 0.0)


def _factual_side_wins(batch: Batch, options: Mapping[str, Any]) -> Batch:
    """Turn round the pairs whose likelier side is not factual and whose other side is."""
    import torch

    rows, winner, loser = batch.edge.unbind(dim=1)
    factual = named(batch.values, options["factual"])
    won, lost = factual[rows, winner], factual[rows, loser]
    if not bool((((won == 0) | (won == 1)) & ((lost == 0) | (lost == 1))).all()):
        raise TrainError(f"values.{options['factual']} of a pair's response is neither 1 (factual) nor 0 (not)")
    turned = torch.where(batch.p < 0.5, lost < won, won < lost)
    return replace(batch, p=torch.where(turned, 1 - batch.p, batch.p)) if bool(turned.any()) else batch


@loss(
    "factuality-dpo",
    needs=("values.{factual}",),
    column_ranges={"factual": Range(least=0, most=1, whole=True)},
    limits={**BETA, "lam": NOT_NEGATIVE},
    prepare=_factual_side_wins,
    paper="Reducing Hallucinations in LLMs via Factuality-Aware Preference Learning (F-DPO)",
)
def factuality_dpo(pair: Pairs, *, beta: float = 0.1, lam: float = 10.0, factual: str = "factual") -> Tensor:
    """DPO with a margin where the winner is factual and the loser is not (F-DPO).

    `-log s(beta (D - lam (h_l - h_w)) - m)`, where h is 1 for a response that is not factual and 0 for one that is.
    A pair with (h_w, h_l) = (1, 0) is read the other way round, whatever its label said; the margin lam stands inside
    beta. A pair of two that are not factual stays an ordinary one.

    Higher is better in every column, so the column `factual` holds 1 - h: 1 for factual, 0 for not.

    Args:
        pair: E pairs.
        beta: as in `dpo`.
        lam: >= 0; the paper tries 2 to 100.
        factual: which column of `values` says 1 for factual and 0 for not.
    """
    from torch.nn.functional import logsigmoid

    lead = pair.win.value(factual) - pair.lose.value(factual)  # h_l - h_w
    return -logsigmoid(beta * (pair.win.ratio - pair.lose.ratio - lam * lead) - pair.margin)


@loss(
    "mm-dpo",
    limits={**BETA, "w": NOT_NEGATIVE, "k": NOT_NEGATIVE},
    margin="scores",
    sft=0.25,
    paper="Zhang et al. 2025, MM-RLHF: The Next Step Forward in Multimodal LLM Alignment",
)
def mm_dpo(pair: Pairs, *, beta: float = 0.1, w: float = 0.5, k: float = 0.5) -> Tensor:
    """DPO with a larger beta for a pair whose reward gap delta is larger.

    `-log s(beta_i D)` with `beta_i = beta (1 + w (1 - e^(-k delta)))`, at least 0.001 and below `beta (1 + w)`. delta
    is what the option `margin` reads (the difference of the scores unless it is set); it is not subtracted. A pair
    whose likelier side has the lower score has a negative delta, and so a smaller beta. The SFT term (0.25, averaged
    over tokens) is the authors'. The map e^(-k delta) is from the paper; no code of it was read.

    Args:
        pair: E pairs.
        beta: as in `dpo`; the least that a pair with delta >= 0 gets.
        w: by what share beta can grow; >= 0, usually 0.1 to 0.5.
        k: how soon it does; >= 0, in one over the unit of delta.
    """
    import torch
    from torch.nn.functional import logsigmoid

    # Both directions of a pair get one beta: that of the likelier side's lead.
    delta = torch.where(pair.p < 0.5, -pair.margin, pair.margin)
    delta = torch.where(pair.p == 0.5, delta.abs(), delta)
    scaled = (beta * (1 - w * (-k * delta).clamp(max=EXPONENT).expm1())).clamp(min=1e-3)
    return -logsigmoid(scaled * (pair.win.ratio - pair.lose.ratio))


@loss(
    "dove",
    needs=("prompt_tokens",),
    without=("sft", "sft_reduction"),
    limits=BETA,
    paper="Bansal et al. 2024, Comparing Bad Apples to Good Oranges: Joint Preference Optimization",
)
def dove(pair: Pairs, *, beta: float = 0.1) -> Tensor:
    """DPO over pairs of instruction and response, which may answer different instructions.

    `-log s(beta D - m)`, where lp and ref sum the instruction's tokens and the response's. Two responses to one
    instruction give DPO: what the instruction adds cancels. The SFT term is refused: it would train the instruction.

    Args:
        pair: E pairs, whose log-probabilities include their prompts'.
        beta: as in `dpo`.
    """
    return dpo(pair, beta=beta)


def per_token(side: Responses) -> Tensor:
    """`(lp - ref) / length`, `[E]`."""
    return side.ratio / side.length.clamp(min=1)
