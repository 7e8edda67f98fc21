"""Losses over whole rankings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefdata.train.errors import TrainError
from prefdata.train.losses.options import NOT_NEGATIVE, POSITIVE, Range
from prefdata.train.losses.registry import loss

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.train.losses.views import Lists, Responses


def numbers(responses: Responses, name: str) -> Tensor:
    """`[N, K]`, float: the numbers that an option names (`scores` or `values.NAME`); NaN where there is none."""
    import torch

    found = responses.score if name == "scores" else responses.value(name.removeprefix("values."))
    return torch.where(responses.mask, found, torch.nan)


def ranks_of(number: Tensor) -> Tensor:
    """`[N, K]` int64 dense ranks: 1 for a list's largest number, equal ranks for equal numbers; 0 for NaN."""
    import torch

    known = ~number.isnan()
    ordered, place = torch.where(known, number, -torch.inf).sort(dim=1, descending=True, stable=True)
    falls = torch.ones_like(place)
    falls[:, 1:] = (ordered[:, 1:] < ordered[:, :-1]).long()
    return torch.zeros_like(place).scatter(1, place, falls.cumsum(dim=1)).masked_fill(~known, 0)


def best_of(responses: Responses) -> Tensor:
    """`[N, K]` bool: the responses of each list's first rank, several where they tie."""
    import torch

    rank = torch.where(responses.mask, responses.rank, torch.iinfo(responses.rank.dtype).max)
    return responses.mask & (rank == rank.amin(dim=1, keepdim=True))


def plackett_luce_nll(score: Tensor, rank: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The negative log-likelihood of rankings, and how many stages each has.

    Equal ranks state no order: tied responses do not compete with each other, and each competes with all that rank
    below it. A list whose responses all tie is therefore 0, without a gradient.

    Args:
        score: `[N, K]`.
        rank: `[N, K]` int64, 1 = best.
        mask: `[N, K]` bool.

    Returns:
        `[N]` the sum over stages, and `[N]` the number of responses that rank above another.
    """
    import torch

    both = mask[:, :, None] & mask[:, None, :]
    below = both & (rank[:, None, :] > rank[:, :, None])  # [n, i, j]: j ranks below i
    itself = torch.eye(score.shape[1], dtype=torch.bool, device=score.device)
    choice = score[:, None, :].expand_as(below).masked_fill(~(below | itself), -torch.inf)
    stages = below.any(dim=2)
    terms = torch.where(stages, torch.logsumexp(choice, dim=2) - score, 0.0)
    return terms.sum(dim=1), stages.sum(dim=1)


@loss(
    "plackett-luce",
    over="lists",
    needs=("ranks",),
    limits={"beta": POSITIVE},
    paper="Rafailov et al. 2023, appendix A.3, equation 20",
)
def plackett_luce(lists: Lists, *, beta: float = 0.1, mean_over_stages: bool = False) -> Tensor:
    """The Plackett-Luce likelihood of a ranking (DPO for K responses).

    `-sum_k [s_k - logsumexp(s_k, and all that rank below k)]` for each list, with `s = beta (lp - ref)`. For K = 2 it
    is DPO.

    The sum over the K - 1 stages is the log-likelihood of the ranking, so a longer list, which says more, weighs more,
    as it does where DPO expands it to pairs. `mean_over_stages` divides it, so that every list weighs the same.

    Equal ranks state no order: tied responses do not compete with each other, and each competes with all that rank
    below it. A list whose responses all tie is therefore 0, without a gradient. For a block of ties this is an upper
    bound of the negative log-likelihood that the whole block precedes the rest in whatever order. To learn that two
    responses are equally good, give `dpo` an edge with p = 0.5.

    Args:
        lists: N lists.
        beta: as in `dpo`.
        mean_over_stages: divide each list's sum by its number of stages: K - 1, or, with ties, the number of responses
            that rank above another.
    """
    responses = lists.responses
    total, stages = plackett_luce_nll(beta * responses.ratio, responses.rank, responses.mask)
    return total / stages.clamp(min=1) if mean_over_stages else total


@loss(
    "s-dpo",
    over="lists",
    needs=("ranks",),
    limits={"beta": POSITIVE},
    paper="Chen et al. 2024, On Softmax Direct Preference Optimization for Recommendation",
)
def s_dpo(lists: Lists, *, beta: float = 1.0) -> Tensor:
    """Softmax DPO: the best response of each list against all others at once.

    `-log s(-log sum_j exp(s_j - s_w))` for each list, with `s = beta (lp - ref)`, w the best response and j those that
    rank below it: the first stage of `plackett-luce`. For K = 2 it is DPO.

    Responses that tie for the best are each compared with what ranks below them, and averaged.

    Args:
        lists: N lists.
        beta: as in `dpo`; > 0.
    """
    import torch
    from torch.nn.functional import softplus

    responses = lists.responses
    score, best = beta * responses.ratio, best_of(responses)
    below = responses.mask & ~best
    others = torch.where(below, score, -torch.inf)
    # Where nothing ranks below, the logarithm of the empty sum would have no gradient: such a list is 0.
    compared = below.any(dim=1, keepdim=True)
    rest = torch.logsumexp(torch.where(compared, others, 0.0), dim=1, keepdim=True)
    terms = torch.where(best & compared, softplus(rest - score), 0.0)
    return terms.sum(dim=1) / best.sum(dim=1).clamp(min=1)


@loss(
    "lipo-lambda",
    over="lists",
    needs=("{labels}",),
    limits={"beta": POSITIVE},
    column_ranges={"labels": Range(least=0, most=1)},
    paper="Liu et al. 2024, LiPO: Listwise Preference Optimization through Learning-to-Rank, the lambda loss",
)
def lipo_lambda(lists: Lists, *, beta: float = 0.05, labels: str = "scores") -> Tensor:
    """LiPO-lambda: pairs of a list, weighted by what swapping them would do to the ranking's DCG.

    `-sum_{psi_i > psi_j} w_ij log s(s_i - s_j)` for each list, with `s = beta (lp - ref)`,
    `w_ij = |2^psi_i - 2^psi_j| |1 / log(1 + tau_i) - 1 / log(1 + tau_j)|` and tau the place of a response when the list
    is sorted by s as it is now (ties of s stay in the order of the list). w has no gradient; logarithms are natural
    (base 2 would multiply the loss by log 2). For K = 2 it is DPO times a constant.

    Args:
        lists: N lists. Responses without a label take no part.
        beta: as in `dpo`; > 0.
        labels: psi, in [0, 1]: `scores`, or `values.NAME`. The paper's is the mean probability to win a comparison.
    """
    import torch
    from torch.nn.functional import softplus

    responses = lists.responses
    psi = numbers(responses, labels)
    known = ~psi.isnan()
    outside = psi[known & ((psi < 0) | (psi > 1))]
    if len(outside):
        raise TrainError(
            f"lipo-lambda: labels: {labels}: its labels lie in [0, 1], and {outside[0].item():g} stands there; give it "
            "shares of won comparisons, or scores brought to [0, 1], under `values.NAME`"
        )
    score = beta * responses.ratio
    with torch.no_grad():
        order = torch.where(known, score, -torch.inf).argsort(dim=1, descending=True, stable=True)
        place = order.argsort(dim=1) + 1
        gain = torch.where(known, 2 ** psi.to(score.dtype) - 1, 0.0)
        discount = 1 / torch.log1p(place.to(score.dtype))
        weight = (gain[:, :, None] - gain[:, None, :]).abs() * (discount[:, :, None] - discount[:, None, :]).abs()
    better = psi[:, :, None] > psi[:, None, :]  # false for NaN
    terms = weight * softplus(score[:, None, :] - score[:, :, None])
    return torch.where(better, terms, 0.0).sum(dim=(1, 2))


@loss(
    "pro",
    over="lists",
    reference=False,
    needs=("ranks", "{temperature?}"),
    limits={"sft_weight": NOT_NEGATIVE},
    paper="Song et al. 2024, Preference Ranking Optimization for Human Alignment, with differentiated contrast",
)
def pro(lists: Lists, *, temperature: str = "scores", sft_weight: float = 0.05) -> Tensor:
    """Preference Ranking Optimization: stages of a ranking, each sharper the further apart the scores are.

    `sum_k [log(exp(p_k T_kk) + sum_j exp(p_j T_kj)) - p_k T_kk] + sft_weight (K - 1)^2 (-lp of the best)` for each
    list, with p the mean log-probability of a token, j the responses that rank below k, `T_kj = score_k - score_j` and
    `T_kk = max_j T_kj`. The SFT term adds up the tokens of the best response. No reference is read.

    A temperature of 0 would make every response equally likely, so responses of equal score do not compete with each
    other, and each competes with what ranks below it.

    Args:
        lists: N lists.
        temperature: T: from `scores`, from `values.NAME`, or `none` for T = 1, which is `plackett-luce` on p.
        sft_weight: of the SFT term; at least 0.
    """
    import torch

    responses = lists.responses
    mask, rank, p = responses.mask, responses.rank, responses.mean
    assert responses.lp is not None
    both = mask[:, :, None] & mask[:, None, :]
    below = both & (rank[:, None, :] > rank[:, :, None])  # [n, k, j]: j ranks below k
    if temperature == "none":
        heat = torch.ones_like(p)[:, :, None].expand_as(below)
    else:
        number = numbers(responses, temperature).to(p.dtype)
        heat = number[:, :, None] - number[:, None, :]
        below = below & (heat > 0)  # false for NaN
    stages = below.any(dim=2)
    own = torch.where(below, heat, 0.0).amax(dim=2)  # T_kk
    itself = p * own
    others = torch.where(below, p[:, None, :] * torch.where(below, heat, 0.0), -torch.inf)
    terms = torch.logsumexp(torch.cat([itself[:, :, None], others], dim=2), dim=2) - itself
    ranking = torch.where(stages, terms, 0.0).sum(dim=1)
    best = best_of(responses)
    nll = torch.where(best, -responses.lp, 0.0).sum(dim=1) / best.sum(dim=1).clamp(min=1)
    return ranking + sft_weight * (mask.sum(dim=1) - 1).clamp(min=0) ** 2 * nll


@loss(
    "irpo",
    over="lists",
    needs=("values.{relevance}", "values.{position}"),
    limits={"beta": POSITIVE, "weight_form": ("dcg", "position", "reciprocal")},
    column_ranges={"relevance": NOT_NEGATIVE, "position": Range(least=1)},
    paper="Wu et al. 2025, In-context Ranking Preference Optimization",
)
def irpo(
    lists: Lists,
    *,
    beta: float = 1.0,
    relevance: str = "relevance",
    position: str = "position",
    weight_form: str = "dcg",
) -> Tensor:
    """In-context Ranking Preference Optimization: relevant items of a list that the prompt presents.

    `-(1 / K) sum_i w_i log s(-a_i)` for each list, with `a_i = log(mean over j != i of exp(s_j - s_i))`,
    `s = beta (lp - ref)` of an item and `w_i = (2^relevance_i - 1) / log2(1 + position_i)`. (Another method of the
    same short name, "iterative reasoning", is `dpo` with its SFT term.)

    The authors' code adds up over the batch; here, as everywhere, the mean is taken, and an item is not compared with
    itself (their code leaves a trace of that when beta is small).

    Args:
        lists: N lists of items; those without a relevance or a position take no part.
        beta: as in `dpo`; > 0.
        relevance: name in `values`; at least 0, 0 is irrelevant.
        position: name in `values`; the item's place in the prompt's list, from 1.
        weight_form: `dcg`; `position`: `1 / log2(1 + position)`; `reciprocal`: `(2^relevance - 1) / position`.
    """
    import torch
    from torch.nn.functional import softplus

    responses = lists.responses
    relevant, place = numbers(responses, f"values.{relevance}"), numbers(responses, f"values.{position}")
    known = ~(relevant.isnan() | place.isnan())
    for name, number, least in ((relevance, relevant, 0), (position, place, 1)):
        below = number[known & (number < least)]
        if len(below):
            raise TrainError(f"irpo: values.{name} is at least {least}, and {below[0].item():g} stands there")
    score = beta * responses.ratio
    gain = 2 ** torch.where(known, relevant, 0.0).to(score.dtype) - 1
    place = torch.where(known, place, 1.0).to(score.dtype)
    forms = {
        "dcg": gain / torch.log2(1 + place),
        "position": 1 / torch.log2(1 + place),
        "reciprocal": gain / place,
    }
    itself = torch.eye(score.shape[1], dtype=torch.bool, device=score.device)
    count = known.sum(dim=1)
    compared = known[:, :, None] & known[:, None, :] & ~itself
    alone = ~compared.any(dim=2, keepdim=True)  # keeps the logarithm finite where nothing is compared
    gap = torch.where(compared | alone, score[:, None, :] - score[:, :, None], -torch.inf)
    lag = torch.logsumexp(gap, dim=2) - torch.log((count - 1).clamp(min=1).to(score.dtype))[:, None]
    terms = torch.where(alone[:, :, 0], 0.0, forms[weight_form] * softplus(lag))
    return terms.sum(dim=1) / count.clamp(min=1)


@loss(
    "ranklist",
    over="lists",
    needs=("{labels}",),
    limits={
        "beta": POSITIVE,
        "form": ("product", "lse"),
        "gaps": Range(least=1, whole=True),
        "min_label_margin": NOT_NEGATIVE,
    },
    paper="RankList: Listwise Preference Learning for Subjective Preferences (reconstructed from its abstract)",
)
def ranklist(
    lists: Lists,
    *,
    beta: float = 0.1,
    labels: str = "scores",
    form: str = "product",
    gaps: int = 1,
    ramp: bool = True,
    min_label_margin: float = 0.0,
) -> Tensor:
    """RankList: neighbours of a ranking first, then responses further and further apart.

    `-sum log s(s_i - s_j)` over the pairs of each list whose ranks are at most G apart (`product`, the probability that
    all of them are in order), or `sum_i log(1 + sum_j exp(s_j - s_i))` over the same pairs (`lse`, never larger; with
    all gaps `plackett-luce`), with `s = beta (lp - ref)`. Equal labels share a rank and are not compared. For K = 2
    every form is DPO.

    The method is reconstructed from the paper's abstract: the forms are the simplest reading of it, and how G grows is
    a default of ours.

    Args:
        lists: N lists. Responses without a label take no part.
        beta: as in `dpo`; > 0.
        labels: what the ranking is of: `scores`, or `values.NAME`.
        form: `product` or `lse`.
        gaps: G at the first step; at least 1.
        ramp: G grows evenly over the run, to all gaps of the list at its end; otherwise it stays.
        min_label_margin: pairs whose labels are less apart are passed over; at least 0.
    """
    import torch
    from torch.nn.functional import softplus

    score = beta * lists.responses.ratio
    label = numbers(lists.responses, labels)
    rank = ranks_of(label)
    apart = (rank[:, None, :] - rank[:, :, None]).masked_fill((rank == 0)[:, :, None] | (rank == 0)[:, None, :], 0)
    widest = (rank.amax(dim=1) - 1).clamp(min=gaps)
    gone = min(1.0, lists.memory.step / max(1, lists.memory.steps - 1)) if ramp else 0.0
    reach = gaps + torch.floor(gone * (widest - gaps + 1)).long().minimum(widest - gaps)
    far = label[:, :, None] - label[:, None, :] >= min_label_margin  # false for NaN
    pairs = (apart >= 1) & (apart <= reach[:, None, None]) & far
    gap = score[:, None, :] - score[:, :, None]
    if form == "product":
        return torch.where(pairs, softplus(gap), 0.0).sum(dim=(1, 2))
    zero = torch.zeros_like(score)[:, :, None]
    return torch.logsumexp(torch.cat([zero, torch.where(pairs, gap, -torch.inf)], dim=2), dim=2).sum(dim=1)


@loss(
    "listnet",
    over="lists",
    needs=("{labels}",),
    limits={"beta": POSITIVE, "temperature": POSITIVE},
    paper="Cao et al. 2007, Learning to Rank: From Pairwise Approach to Listwise Approach, top-one probabilities",
)
def listnet(lists: Lists, *, beta: float = 0.1, labels: str = "scores", temperature: float = 1.0) -> Tensor:
    """ListNet: the cross-entropy of two distributions over the responses of a list.

    `-sum_i softmax(psi / temperature)_i log softmax(s)_i` for each list, with `s = beta (lp - ref)` and psi the labels.
    Where policy and reference are equal it is log K.

    Args:
        lists: N lists. Responses without a label take no part.
        beta: as in `dpo`; > 0.
        labels: psi: `scores`, or `values.NAME`.
        temperature: of the labels; > 0. Small: all on the best.
    """
    import torch

    psi = numbers(lists.responses, labels)
    known = ~psi.isnan()
    # A list without any label would have no distribution: it is 0.
    filled = torch.where(known.any(dim=1, keepdim=True) & ~known, -torch.inf, torch.where(known, psi, 0.0))
    share = torch.softmax(filled.to(lists.responses.ratio.dtype) / temperature, dim=1)
    score = (beta * lists.responses.ratio).masked_fill(filled == -torch.inf, -torch.inf)
    terms = share * torch.where(known, torch.log_softmax(score, dim=1), 0.0)
    return -terms.sum(dim=1)


@loss(
    "listmle",
    over="lists",
    needs=("{labels}",),
    limits={"beta": POSITIVE},
    paper="Xia et al. 2008, Listwise Approach to Learning to Rank: Theory and Algorithm",
)
def listmle(lists: Lists, *, beta: float = 0.1, labels: str = "scores") -> Tensor:
    """ListMLE: the likelihood of the order that the labels state.

    `-sum_k [s_k - logsumexp(s_k, and all whose label is lower)]` for each list, with `s = beta (lp - ref)`:
    `plackett-luce`, with the ranking taken from a column of the data. Equal labels state no order.

    Args:
        lists: N lists. Responses without a label take no part.
        beta: as in `dpo`; > 0.
        labels: what the responses are ordered by: `scores`, or `values.NAME`.
    """
    rank = ranks_of(numbers(lists.responses, labels))
    total, _ = plackett_luce_nll(beta * lists.responses.ratio, rank, lists.responses.mask & (rank > 0))
    return total
