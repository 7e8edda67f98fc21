"""Losses over pairs that doubt the labels.

In the formulas s is the logistic function, D the winner's `lp - ref` minus the loser's, m the margin (0 unless the
option `margin` is set), and `z = beta D - m`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from prefdata.train.errors import TrainError
from prefdata.train.losses.options import POSITIVE, Range
from prefdata.train.losses.registry import LOSSES, PAIR_OPTIONS, LossSpec, loss

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.train.losses.views import Pairs

BELOW_HALF = Range(least=0, below=0.5)
SHARE = Range(least=0, most=1)


@loss(
    "cdpo",
    limits={"beta": POSITIVE, "eps": BELOW_HALF},
    paper="Mitchell 2023, A note on DPO with noisy preferences and relationship to IPO, equation 3",
)
def cdpo(pair: Pairs, *, beta: float = 0.1, eps: float = 0.1) -> Tensor:
    """Conservative DPO: label smoothing.

    `-(1 - eps) log s(z) - eps log s(-z)`: a cross-entropy, least where `s(z) = 1 - eps`, and never below the entropy
    of a label that is wrong with probability eps. It is `dpo` with p = 1 - eps.

    Args:
        pair: E pairs.
        beta: as in `dpo`.
        eps: share of labels that are wrong; >= 0 and below 0.5. With 0 it is DPO.
    """
    return _cross_entropy(_lead(pair, beta), 1 - eps)


@loss(
    "rdpo",
    limits={"beta": POSITIVE, "eps": BELOW_HALF},
    paper="Chowdhury et al. 2024, Provably Robust DPO: Aligning Language Models with Noisy Feedback",
)
def rdpo(pair: Pairs, *, beta: float = 0.1, eps: float = 0.1) -> Tensor:
    """Robust DPO: on labels flipped with probability eps its mean is DPO's on the true ones.

    `(-(1 - eps) log s(z) + eps log s(-z)) / (1 - 2 eps)`. Unbiased, so it can be negative, and it has no lower bound:
    the gradient does not vanish however large D is. Keep the learning rate small.

    Args:
        pair: E pairs.
        beta: as in `dpo`.
        eps: the share of flipped labels, known or validated; >= 0 and below 0.5. With 0 it is DPO.
    """
    from torch.nn.functional import logsigmoid

    z = _lead(pair, beta)
    return (eps * logsigmoid(-z) - (1 - eps) * logsigmoid(z)) / (1 - 2 * eps)


@loss(
    "osp",
    needs=("{strength}",),
    soft="own",
    limits={"beta": POSITIVE, "strength": ("p", "ranks")},
    paper="Zhai et al. 2024, Online Self-Preferring Language Models",
)
def osp(pair: Pairs, *, beta: float = 0.1, strength: str = "p") -> Tensor:
    """DPO with the strength p of each preference as a soft label.

    `-p log s(z) - (1 - p) log s(-z)`, least where `z = logit(p)`. p is the data's own, or grows with the gap between
    the two ranks: `0.5 + 0.5 gap / (K - 1)`, with K ranked responses in the list. The paper's map is not public; this
    linear one is ours.

    Args:
        pair: E pairs.
        beta: as in `dpo`.
        strength: what it is read from: p, or ranks.
    """
    p = pair.p
    if strength == "ranks":
        gap = (pair.lose.rank - pair.win.rank).to(p.dtype)
        p = 0.5 + 0.5 * gap / (pair.ranked - 1).clamp(min=1)
    return _cross_entropy(_lead(pair, beta), p)


def _keep_margins(
    state: Mapping[str, Any], observed: Mapping[str, list[float]], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The newest steps' margins: as few whole steps as hold `window` of them."""
    # Sorted, because the order within a step depends on how it was split.
    steps = [*state.get("margins", []), sorted(observed.get("margin", []))]
    while steps and sum(map(len, steps[1:])) >= options["window"]:
        steps.pop(0)
    return {"margins": steps}


def _no_extrapolation(options: Mapping[str, Any]) -> str:
    if not options["lam"]:
        return ""
    return (
        f"lam is 0, not {options['lam']!r}: extrapolation mixes the logits of policy and reference over the whole "
        "vocabulary, and only the trained tokens' log-probabilities are computed here"
    )


@loss(
    "selfie",
    limits={
        "beta": POSITIVE,
        "alpha": BELOW_HALF,
        "share": Range(above=0, below=1),
        "window": Range(least=2, whole=True),
        "warmup": SHARE,
    },
    check=_no_extrapolation,
    remember=_keep_margins,
    paper="Kim et al. 2024, Aligning Large Language Models with Self-generated Preference Data",
)
def selfie(
    pair: Pairs,
    *,
    beta: float = 0.1,
    alpha: float = 0.1,
    share: float = 0.1,
    window: int = 50,
    warmup: float = 0.2,
    lam: float = 0.0,
) -> Tensor:
    """DPO that smooths the labels of the pairs with the least margins.

    `-(1 - alpha y) log s(z) - alpha y log s(-z)`, where y is 1 for a pair whose z lies below the threshold and 0 for
    another. The threshold lies midway between the two margins around the `share` point of the last `window` of earlier
    steps, taken as whole steps. Neither y nor the threshold has a gradient.

    The paper reads z from logits extrapolated from the reference through the policy (lam 0.5), over the whole
    vocabulary. They are not computed here: lam is 0, where the extrapolated margin is z itself, and any other value is
    refused.

    Args:
        pair: E pairs.
        beta: as in `dpo`.
        alpha: how far such a label is smoothed; >= 0 and below 0.5.
        share: of pairs that are smoothed, above 0 and below 1.
        window: margins that the threshold rests on; at least 2.
        warmup: share of the run's steps, from the first, without smoothing.
        lam: 0.
    """
    z = _lead(pair, beta)
    memory = pair.memory
    memory.observe("margin", z)
    if memory.step < warmup * memory.steps:
        alpha = 0.0
    doubted = z.detach() < _threshold(memory.read("margins", []), share)
    return _cross_entropy(z, 1 - alpha * doubted.to(z.dtype))


def _base_of(options: Mapping[str, Any]) -> LossSpec | str:
    """The loss that LCPO stands on, or what is wrong with it."""
    name = options["base"]
    spec = LOSSES.get(name)
    fits = [
        known
        for known, one in sorted(LOSSES.items())
        if (one.over, one.output, one.soft) == ("pairs", "policy", "mixed")
        and not (one.remember or one.prepare or one.also or one.offered.get("margin", "none") != "none")
    ]
    if spec is None or name not in fits:
        return (
            f"base is a loss over pairs that leaves their labels and margins to LCPO ({', '.join(fits)}), not {name!r}"
        )
    given = options["base_options"]
    if not isinstance(given, Mapping | None):
        return f"base_options maps names to values, it is not {given!r}"
    shared = sorted(set(given or {}) - set(spec.own_options))
    if shared:
        return f"base_options holds {name}'s own options ({', '.join(spec.own_options)}), not {shared[0]!r}"
    try:
        spec.checked_options(given or {}, "base_options")
    except TrainError as error:
        return str(error)
    return spec


def _needs_of_base(options: Mapping[str, Any]) -> Collection[str]:
    base = _base_of(options)
    return () if isinstance(base, str) else base.needed({**base.own_options, **(options["base_options"] or {})})


def _check_base(options: Mapping[str, Any]) -> str:
    base = _base_of(options)
    if isinstance(base, str):
        return base
    # The shared options are this loss's; one that the other cannot bear would act on it all the same.
    for name, default in PAIR_OPTIONS.items():
        if name not in base.offered and options[name] != default:
            return f"its base {base.name} takes no option {name!r}; leave it at {default!r}"
    return ""


def _follow_reliability(
    state: Mapping[str, Any], observed: Mapping[str, list[float]], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The reliability moves towards the mean of the step's posteriors."""
    from prefdata.stats.label_noise import next_reliability

    seen = observed.get("posterior", [])
    if not seen:
        return dict(state)
    mean = math.fsum(seen) / len(seen)
    return {"eta": next_reliability(state.get("eta", options["eta"]), mean, options["momentum"])}


@loss(
    "lcpo",
    limits={"eta": Range(above=0.5, below=1), "momentum": SHARE, "temperature": POSITIVE},
    reference=False,
    check=_check_base,
    also=_needs_of_base,
    remember=_follow_reliability,
    paper="Latent Collective Preference Optimization: A General Framework for Robust LLM Alignment, the EM objective",
)
def lcpo(
    pair: Pairs,
    *,
    base: str = "dpo",
    base_options: Mapping[str, Any] | None = None,
    eta: float = 0.9,
    momentum: float = 0.1,
    temperature: float = 1.0,
) -> Tensor:
    """Expectation-maximisation over which labels are right, around another loss l.

    `w l(w, l) + (1 - w) l(l, w)`, where w is the posterior probability that the label is right:
    `w = eta q / (eta q + (1 - eta) (1 - q))`, with `q = s((l(l, w) - l(w, l)) / temperature)` (for `dpo` it is s(z)),
    and eta the estimated share of right labels. After each step eta moves towards the mean of w:
    `(1 - momentum) eta + momentum mean(w)`, within 0.501 and 0.999. w and eta have no gradient.

    The paper studies eta and momentum; these defaults are ours, and so is the temperature, which is for losses whose
    difference saturates the posterior (IPO's is 2 D / tau).

    Args:
        pair: E pairs.
        base: another loss over pairs: dpo, ipo, simpo, cpo, ... The reference is read where that loss reads it.
        base_options: its own options by name; null: its defaults. The shared ones are set for this loss.
        eta: the first estimate, above 0.5 and below 1.
        momentum: 0 to 1; 0 keeps the first estimate.
        temperature: > 0.
    """
    import torch

    from prefdata.stats.label_noise import label_posterior

    spec = _base_of({"base": base, "base_options": base_options})
    if isinstance(spec, str):
        raise TrainError(f"lcpo: {spec}")
    options = {**spec.own_options, **(base_options or {})}
    forth, back = spec.function(pair, **options), spec.function(pair.swapped(), **options)
    q = torch.sigmoid((back - forth).detach() / temperature)
    right = label_posterior(q, pair.memory.read("eta", eta))
    pair.memory.observe("posterior", right)
    result: Tensor = right * forth + (1 - right) * back
    return result


def _lead(pair: Pairs, beta: float) -> Tensor:
    """z, `[E]`."""
    return beta * (pair.win.ratio - pair.lose.ratio) - pair.margin


def _cross_entropy(z: Tensor, p: Tensor | float) -> Tensor:
    """Of the label p with s(z), `[E]`."""
    from torch.nn.functional import logsigmoid

    return -p * logsigmoid(z) - (1 - p) * logsigmoid(-z)


def _threshold(steps: list[list[float]], share: float) -> float:
    """Midway between the two order statistics around the `share` point; minus infinity while there are too few."""
    margins = sorted(value for step in steps for value in step)
    below = int(share * len(margins) + 1e-9)  # 0.29 * 100 is 28.999..., and is to be 29
    return (margins[below - 1] + margins[below]) / 2 if below else -math.inf
