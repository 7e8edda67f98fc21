"""Losses: pure functions of `[lists, K]` tensors, by name.

A list holds a prompt's K responses; a pair is K = 2. A loss gets the summed log-probabilities of the responses under
policy and reference, and a `Batch` that says which response is better than which. It returns a scalar to be minimised.
No loss knows tokens, models or files, and nothing that calls a loss asks for its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from prefdata.train.errors import TrainError, nearest

if TYPE_CHECKING:
    from torch import Tensor

Reads = Literal["edges", "ranks", "scores"]
LossFunction = Callable[..., Any]
"""`(lp, ref, batch, **options) -> loss`."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is known of N lists of up to K responses, beside their log-probabilities.

    Attributes:
        mask: `[N, K]` bool, false where a list has fewer than K responses. `lp` and `ref` are 0 there.
        length: `[N, K]` int64, tokens of each response (its end of turn included); 0 where masked.
        scores: `[N, K]` float, higher is better, NaN where there is none.
        ranks: `[N, K]` int64, 1 = best, equal ranks are ties; 0 where there is none.
        weight: `[N]` float, of each list.
        edge: `[E, 3]` int64: list, position of the winner, position of the loser.
        p: `[E]` float in [0, 1], the probability that the winner is better.
        edge_weight: `[E]` float.
    """

    mask: Tensor
    length: Tensor
    scores: Tensor
    ranks: Tensor
    weight: Tensor
    edge: Tensor
    p: Tensor
    edge_weight: Tensor

    def sides(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The winners' and the losers' entries of `values [N, K]`: two tensors `[E]`."""
        rows, winner, loser = self.edge.unbind(dim=1)
        return values[rows, winner], values[rows, loser]

    @property
    def weight_of_edges(self) -> Tensor:
        """`[E]`: the list's weight times the edge's."""
        return self.weight[self.edge[:, 0]] * self.edge_weight

    def mean_over_edges(self, values: Tensor) -> Tensor:
        """The mean of `values [E]`, weighted by `weight_of_edges`: a list then weighs as the pairs made from it."""
        weight = self.weight_of_edges.to(values.dtype)
        return (weight * values).sum() / weight.sum()

    def mean_over_lists(self, values: Tensor) -> Tensor:
        """The mean of `values [N]`, weighted by `weight`."""
        weight = self.weight.to(values.dtype)
        return (weight * values).sum() / weight.sum()


@dataclass(frozen=True, slots=True)
class LossSpec:
    """A registered loss: call it as the function that it wraps."""

    name: str
    function: LossFunction
    reads: frozenset[Reads]
    average: Literal["edges", "lists"]

    def __call__(self, lp: Tensor, ref: Tensor, batch: Batch, **options: Any) -> Tensor:
        """The loss, a scalar tensor.

        Raises:
            TrainError: the function failed, or what it returned is no scalar to be minimised.
        """
        import torch

        try:
            value = self.function(lp, ref, batch, **options)
        except TrainError:
            raise
        except Exception as error:
            raise TrainError(f"the loss {self.name!r} failed: {type(error).__name__}: {error}") from error
        if not isinstance(value, torch.Tensor) or value.ndim:
            is_ = f"a tensor of shape {list(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
            raise TrainError(
                f"the loss {self.name!r} returns {is_}, no scalar tensor: end with batch.mean_over_edges or "
                "batch.mean_over_lists"
            )
        if lp.requires_grad and not value.requires_grad:
            raise TrainError(f"the loss {self.name!r} has no gradient: it does not depend on lp, or detaches it")
        return value

    def mass(self, batch: Batch) -> Tensor:
        """By how much a micro-batch counts in the mean over the whole batch, a scalar tensor."""
        return batch.weight_of_edges.sum() if self.average == "edges" else batch.weight.sum()

    @property
    def options(self) -> dict[str, Any]:
        """The keyword options and their defaults."""
        parameters = list(inspect.signature(self.function).parameters.values())[3:]
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {parameter.name: parameter.default for parameter in parameters if parameter.kind in named}

    def checked_options(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """All options with their values.

        Raises:
            TrainError: one is unknown or of another type: an option either acts or is refused.
        """
        known = self.options
        for name, value in given.items():
            if name not in known:
                takes = ", ".join(known) or "none"
                raise TrainError(
                    f"{where}: the loss {self.name!r} takes no option {name!r} (its options: {takes})"
                    f"{nearest(name, known)}"
                )
            numeric = isinstance(known[name], int | float) and not isinstance(known[name], bool)
            if numeric and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise TrainError(f"{where}: the option {name!r} of the loss {self.name!r} is a number, not {value!r}")
            if isinstance(known[name], bool) and not isinstance(value, bool):
                raise TrainError(
                    f"{where}: the option {name!r} of the loss {self.name!r} is true or false, not {value!r}"
                )
        missing = [name for name, value in {**known, **given}.items() if value is inspect.Parameter.empty]
        if missing:
            raise TrainError(
                f"{where}: the loss {self.name!r} needs a value for {missing[0]!r}: set it in loss_options"
            )
        return {**known, **given}


LOSSES: dict[str, LossSpec] = {}
"""Every loss that is known, by name."""

_Function = TypeVar("_Function", bound=LossFunction)


def loss(
    name: str, *, reads: tuple[Reads, ...] = (), average: Literal["edges", "lists"] = "edges"
) -> Callable[[_Function], _Function]:
    """Register a function `(lp, ref, batch, *, option=default, ...) -> scalar` as a loss.

    `lp` and `ref` are `[N, K]` float32: the summed log-probabilities of the responses under policy and reference.

    Args:
        name: what `TrainConfig.loss` calls it.
        reads: what it cannot do without: `edges` (lists without one are left out), `ranks` (lists that order nothing
            are left out) or `scores`.
        average: what its mean is taken over, weighted: `Batch.mean_over_edges` or `Batch.mean_over_lists`. Gradients
            that are accumulated over micro-batches are weighted accordingly, so that 8 micro-batches of 1 list are 1
            of 8.

    Raises:
        TrainError: another function has that name.
    """

    def register(function: _Function) -> _Function:
        known = LOSSES.get(name)
        if known is not None and (known.function.__module__, known.function.__qualname__) != (
            function.__module__,
            function.__qualname__,
        ):
            raise TrainError(f"two losses are called {name!r}: {known.function.__module__} and {function.__module__}")
        LOSSES[name] = LossSpec(name, function, frozenset(reads), average)
        return function

    return register


def find_loss(name: str) -> LossSpec:
    """The loss of that name.

    Raises:
        TrainError: there is none.
    """
    if name not in LOSSES:
        known = ", ".join(sorted(LOSSES))
        raise TrainError(
            f"there is no loss {name!r} (there are: {known}){nearest(name, LOSSES)}; "
            "one of your own stands in a file that `plugins` names"
        )
    return LOSSES[name]


@loss("dpo", reads=("edges",), average="edges")
def dpo(lp: Tensor, ref: Tensor, batch: Batch, *, beta: float = 0.1) -> Tensor:
    """Direct Preference Optimization, with soft labels.

    `-p log s(beta D) - (1 - p) log s(-beta D)` for each edge, where s is the logistic function, D the winner's
    `lp - ref` minus the loser's, and p the probability that the winner is better; then the weighted mean over edges.
    Rafailov et al. 2023, equation 7; for p < 1 the cross-entropy with the label's distribution (cDPO).

    Args:
        lp: `[N, K]`, policy.
        ref: `[N, K]`, reference.
        batch: N lists; every edge counts.
        beta: how strongly the policy is held to the reference; > 0, usually 0.01 to 0.5.
    """
    from torch.nn.functional import logsigmoid

    win, lose = batch.sides(lp - ref)
    logit = beta * (win - lose)
    p = batch.p.to(logit.dtype)
    return batch.mean_over_edges(-p * logsigmoid(logit) - (1 - p) * logsigmoid(-logit))


@loss("plackett-luce", reads=("ranks",), average="lists")
def plackett_luce(
    lp: Tensor, ref: Tensor, batch: Batch, *, beta: float = 0.1, mean_over_stages: bool = False
) -> Tensor:
    """The Plackett-Luce likelihood of a ranking (DPO for K responses).

    `-sum_k [s_k - logsumexp(s_k, and all that rank below k)]` for each list with `s = beta (lp - ref)`, then the
    weighted mean over lists. Rafailov et al. 2023, appendix A.3, equation 20. For K = 2 it is DPO.

    The sum over the K - 1 stages is the log-likelihood of the ranking, so a longer list, which says more, weighs more,
    as it does where DPO expands it to pairs. `mean_over_stages` divides it, so that every list weighs the same.

    Equal ranks state no order: tied responses do not compete with each other, and each competes with all that rank
    below it. A list whose responses all tie is therefore 0, without a gradient. For a block of ties this is an upper
    bound of the negative log-likelihood that the whole block precedes the rest in whatever order. To learn that two
    responses are equally good, give `dpo` an edge with p = 0.5.

    Args:
        lp: `[N, K]`, policy.
        ref: `[N, K]`, reference.
        batch: N lists; ranks are read, edges are not.
        beta: as in `dpo`.
        mean_over_stages: divide each list's sum by its number of stages: K - 1, or, with ties, the number of responses
            that rank above another.
    """
    import torch

    score = beta * (lp - ref)
    both = batch.mask[:, :, None] & batch.mask[:, None, :]
    below = both & (batch.ranks[:, None, :] > batch.ranks[:, :, None])  # [n, i, j]: j ranks below i
    itself = torch.eye(score.shape[1], dtype=torch.bool, device=score.device)
    choice = score[:, None, :].expand_as(below).masked_fill(~(below | itself), -torch.inf)
    stages = below.any(dim=2)
    terms = torch.where(stages, torch.logsumexp(choice, dim=2) - score, 0.0)
    total = terms.sum(dim=1)
    if mean_over_stages:
        total = total / stages.sum(dim=1).clamp(min=1)
    return batch.mean_over_lists(total)
