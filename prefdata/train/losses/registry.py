"""Losses by name: how one is registered, what it needs, and how its values become one number.

A loss is one function of a view (`Pairs`, `Lists` or `Alone`) that returns a value for each pair, list or response.
Weights, soft labels, margins, the SFT term and the mean are put around it here, once, so that they act alike for all.
No loss knows tokens, models or files, and nothing that calls a loss asks for its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from prefdata.train.errors import TrainError, nearest
from prefdata.train.losses.options import SHARED_LIMITS, Limit, Range, check_option
from prefdata.train.losses.terms import alone_terms, list_terms, pair_terms
from prefdata.train.losses.views import Memory

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.train.losses.batch import Batch, Outputs

Over = Literal["pairs", "lists", "responses"]
Output = Literal["policy", "reward"]
LossFunction = Callable[..., Any]
"""`(view, *, option=default, ...) -> values`."""
Remember = Callable[[Mapping[str, Any], Mapping[str, list[float]], Mapping[str, Any]], dict[str, Any]]
"""`(state, observed, options) -> next state`."""
Prepare = Callable[["Batch", Mapping[str, Any]], "Batch"]
"""`(batch, options) -> batch`, of the data alone."""
Also = Callable[[Mapping[str, Any]], Collection[str]]
"""`(options) -> what else is needed`, as `LossSpec.needed` says it."""
Check = Callable[[Mapping[str, Any]], str]
"""`(options) -> what is wrong with them`, a sentence; empty where nothing is."""

NEEDS = ("edges", "ranks", "scores", "labels", "margin", "p", "votes", "rationales", "mismatched", "prompt_tokens",
         "tokens")  # fmt: skip
"""What a loss may need of the data, beside `values.NAME` and what its options name (`{option}`)."""
PAIR_OPTIONS: dict[str, Any] = {
    "weight": "data",
    "per": "edge",
    "label": "soft",
    "margin": "none",
    "sft": 0.0,
    "sft_reduction": "mean",
}
"""What every loss over pairs takes besides its own options.

- `weight`: `data` (list weight x edge weight) or `even`.
- `per`: `edge`, or `list`: the edges of one list share that list's weight, so that a long list counts once.
- `label`: `soft` (the loss of both directions, mixed by p) or `hard` (the likelier side wins; p = 0.5 is left out).
- `margin`: `none`, `edges` (the data's own), `scores` (the difference of the two scores) or `values.NAME` (likewise).
- `sft`: coefficient of the negative log-likelihood of the winner (of the list's responses of role `sft` where it has
  some); `sft_reduction`: `sum` or `mean` over the tokens of each, or `tokens`: over all tokens of the step.
"""
LIST_OPTIONS: dict[str, Any] = {"weight": "data"}
"""What every loss over lists, or over responses alone, takes besides its own options: `weight` as for pairs."""


@dataclass(frozen=True, slots=True)
class LossSpec:
    """A registered loss.

    Attributes:
        name: what `TrainConfig.loss` calls it.
        function: of a view, and keyword options with defaults.
        over: what it returns a value for, and what its mean is taken over.
        output: whose outputs it reads: a policy's log-probabilities or a reward model's numbers.
        reference: whether it reads the reference's log-probabilities.
        needs: what else it cannot do without: `ranks`, `scores`, `labels`, `p`, `votes`, `tokens`, `rationales`,
            `mismatched`, `prompt_tokens` (the prompt is scored too), `margin`, `values.NAME`. `values.{option}` stands
            for the column (or the columns) that an option names; `{option}` for an option that is itself `scores` or
            `values.NAME`; `{option?}` for one that may also be `none`. A loss over responses needs `labels` unless it
            needs values; without labels it reads the responses that have one of the values.
        soft: `mixed`: both directions are mixed by p; `own`: the function reads `pair.p` itself.
        tokens_count: responses alone: the mean is taken over tokens, not responses.
        offered: the shared options with this loss's defaults.
        paper: where it comes from.
        remember: makes the next state of a loss that keeps one.
        heads: of a reward model with several outputs: the option that lists their names.
        column_ranges: which numbers may stand in the columns that an option names, by option.
        limits: which values its own options take, where not every value of the default's type will do.
        check: what else can be wrong with the options, in a sentence.
        prepare: what its paper does to the data before training, such as to turn pairs round.
        also: what it needs besides, where that hangs on another loss that an option names.
    """

    name: str
    function: LossFunction
    over: Over
    output: Output = "policy"
    reference: bool = True
    needs: tuple[str, ...] = ()
    soft: Literal["mixed", "own"] = "mixed"
    tokens_count: bool = False
    offered: Mapping[str, Any] = field(default_factory=dict)
    paper: str = ""
    remember: Remember | None = None
    heads: str = ""
    column_ranges: Mapping[str, Range] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    check: Check | None = None
    prepare: Prepare | None = None
    also: Also | None = None

    @property
    def own_options(self) -> dict[str, Any]:
        """The function's keyword options and their defaults."""
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {parameter.name: parameter.default for parameter in parameters if parameter.kind in named}

    @property
    def options(self) -> dict[str, Any]:
        """All options and their defaults: its own, then the shared ones."""
        return {**self.own_options, **self.offered}

    def needed(self, options: Mapping[str, Any]) -> frozenset[str]:
        """What the data and the models must give for these options (all of them, as `checked_options` returns them)."""
        needed = {column for need in self.needs for column in _columns(need, options)}
        if self.over == "pairs":
            needed.add("edges")
        elif self.over == "responses" and not any(column.startswith("values.") for column in needed):
            needed.add("labels")
        needed |= {"reference"} if self.reference else set()
        needed |= set(self.also(options)) if self.also else set()
        margin = options.get("margin", "none")
        if margin != "none":
            needed.add("margin" if margin == "edges" else margin)
        return frozenset(needed)

    def outputs(self, options: Mapping[str, Any]) -> list[str]:
        """The names of the outputs that a reward model's head has for these options; none for a policy."""
        if self.output != "reward":
            return []
        return names_in(options[self.heads]) if self.heads else ["reward"]

    def ranges(self, options: Mapping[str, Any]) -> dict[str, Range]:
        """Which numbers may stand in `scores` or `values.NAME`, for these options; a column without an entry: any."""
        return {
            column: allowed
            for option, allowed in self.column_ranges.items()
            for need in self.needs
            if need.endswith((f"{{{option}}}", f"{{{option}?}}"))
            for column in _columns(need, options)
        }

    def masses(self, batch: Batch, options: Mapping[str, Any]) -> dict[str, Tensor]:
        """By how much this micro-batch counts in each term's mean over the whole batch; scalars, of the data alone."""
        return {name: mass for name, (_, mass) in self._terms(None, batch, options, Memory()).items()}

    def sums(
        self, outputs: Outputs, batch: Batch, options: Mapping[str, Any], memory: Memory | None = None
    ) -> dict[str, Tensor]:
        """Each term's weighted sum over this micro-batch: the loss is the sum over terms of sum / mass.

        Raises:
            TrainError: the function failed, or what it returned has another shape or no gradient.
        """
        memory = Memory() if memory is None else memory
        return {name: total for name, (total, _) in self._terms(outputs, batch, options, memory).items()}

    def __call__(
        self, outputs: Outputs, batch: Batch, options: Mapping[str, Any] | None = None, memory: Memory | None = None
    ) -> Tensor:
        """The loss of one batch that is not split, a scalar tensor."""
        chosen = self.checked_options(options or {}, "loss")
        masses = self.masses(batch, chosen)
        sums = self.sums(outputs, batch, chosen, memory)
        total = sum(sums[name] / masses[name] for name in sums)
        return total

    def checked_options(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """All options with their values.

        Raises:
            TrainError: one is unknown, of another type or out of range: an option either acts or is refused.
        """
        known = self.options
        for name, value in given.items():
            if name not in known:
                takes = ", ".join(known) or "none"
                raise TrainError(
                    f"{where}: the loss {self.name!r} takes no option {name!r} (its options: {takes})"
                    f"{nearest(name, known)}"
                )
            limits = {**self.limits, **{one: SHARED_LIMITS[one] for one in self.offered if one in SHARED_LIMITS}}
            check_option(where, self.name, name, known[name], value, limits)
            _check_columns(where, self, name, value)
        missing = [name for name, value in {**known, **given}.items() if value is inspect.Parameter.empty]
        if missing:
            raise TrainError(
                f"{where}: the loss {self.name!r} needs a value for {missing[0]!r}: set it in loss_options"
            )
        chosen = {**known, **given}
        wrong = self.check(chosen) if self.check else ""
        if wrong:
            raise TrainError(f"{where}: the loss {self.name!r}: {wrong}")
        return chosen

    def _terms(
        self, outputs: Outputs | None, batch: Batch, options: Mapping[str, Any], memory: Memory
    ) -> dict[str, tuple[Any, Tensor]]:
        own = {name: options[name] for name in self.own_options}

        def call(view: Any) -> Tensor:
            return self._called(view, own)

        if self.prepare is not None:
            batch = self.prepare(batch, options)
        shared = {name: options[name] for name in self.offered}
        if self.over == "pairs":
            return pair_terms(call, outputs, batch, shared, memory, mixed=self.soft == "mixed")
        if self.over == "lists":
            return list_terms(call, outputs, batch, shared, memory)
        needed = self.needed(options)
        read = None if "labels" in needed else [one.removeprefix("values.") for one in needed if one[:7] == "values."]
        return alone_terms(call, outputs, batch, shared, memory, by_tokens=self.tokens_count, read=read)

    def _called(self, view: Any, own: Mapping[str, Any]) -> Tensor:
        import torch

        try:
            values = self.function(view, **own)
        except TrainError:
            raise
        except Exception as error:
            raise TrainError(f"the loss {self.name!r} failed: {type(error).__name__}: {error}") from error
        if not isinstance(values, torch.Tensor) or values.shape != (len(view),):
            is_ = f"a tensor of shape {list(values.shape)}" if isinstance(values, torch.Tensor) else repr(values)
            one = {"pairs": "pair", "lists": "list", "responses": "response"}[self.over]
            raise TrainError(f"the loss {self.name!r} returns {is_}; it returns one value for each {one}")
        return values


LOSSES: dict[str, LossSpec] = {}
"""Every loss that is known, by name."""

_Function = TypeVar("_Function", bound=LossFunction)


def loss(
    name: str,
    *,
    over: Over = "pairs",
    output: Output = "policy",
    reference: bool | None = None,
    needs: tuple[str, ...] = (),
    soft: Literal["mixed", "own"] = "mixed",
    without: tuple[str, ...] = (),
    tokens_count: bool = False,
    paper: str = "",
    remember: Remember | None = None,
    heads: str = "",
    column_ranges: Mapping[str, Range] | None = None,
    limits: Mapping[str, Limit] | None = None,
    check: Check | None = None,
    prepare: Prepare | None = None,
    also: Also | None = None,
    **defaults: Any,
) -> Callable[[_Function], _Function]:
    """Register a function of a view as a loss: `Pairs` -> `[E]`, `Lists` -> `[N]`, or `Alone` -> `[B]`.

    Args:
        name: what `TrainConfig.loss` calls it; lower case, with hyphens.
        over: `pairs`, `lists` or `responses` (alone).
        output: `policy` (log-probabilities) or `reward` (a scalar head's outputs).
        reference: whether it reads the reference; unless said, a policy's loss does.
        needs: see `LossSpec.needs`.
        soft: see `LossSpec.soft`.
        without: shared options that cannot act in it, and are refused.
        tokens_count: see `LossSpec.tokens_count`.
        paper: where it comes from, with the equation.
        remember: see `LossSpec.remember`.
        heads: see `LossSpec.heads`.
        column_ranges: see `LossSpec.column_ranges`.
        limits: see `LossSpec.limits`: by option, a `Range` or a tuple of texts.
        check: see `LossSpec.check`.
        prepare: see `LossSpec.prepare`.
        also: see `LossSpec.also`.
        defaults: other defaults for the shared options (`PAIR_OPTIONS`), for example `sft=1.0`.

    Raises:
        TrainError: another function has that name, `over`, `output`, `soft` or `needs` hold what is not known, or a
            default is for an option that the loss does not share.
    """
    _check_words(name, {"over": over, "output": output, "soft": soft}, needs)
    refused = {*without, *(("label",) if soft == "own" else ())}
    refused |= {"sft", "sft_reduction"} if output == "reward" else set()
    shared = PAIR_OPTIONS if over == "pairs" else LIST_OPTIONS
    offered = {option: default for option, default in shared.items() if option not in refused}
    wrong = sorted(set(defaults) - set(offered))
    if wrong:
        raise TrainError(f"the loss {name!r} has no shared option {wrong[0]!r} to set a default for")

    def register(function: _Function) -> _Function:
        spec = LossSpec(
            name=name,
            function=function,
            over=over,
            output=output,
            reference=output == "policy" if reference is None else reference,
            needs=tuple(needs),
            soft=soft,
            tokens_count=tokens_count,
            offered={**offered, **defaults},
            paper=paper,
            remember=remember,
            heads=heads,
            column_ranges=dict(column_ranges or {}),
            limits=dict(limits or {}),
            check=check,
            prepare=prepare,
            also=also,
        )
        _add(spec)
        return function

    return register


def _check_words(name: str, given: Mapping[str, str], needs: Sequence[str]) -> None:
    allowed = {"over": get_args(Over), "output": get_args(Output), "soft": ("mixed", "own")}
    for key, word in given.items():
        if word not in allowed[key]:
            raise TrainError(f"the loss {name!r}: {key} is one of {', '.join(allowed[key])}, not {word!r}")
    if isinstance(needs, str):
        raise TrainError(f"the loss {name!r}: needs is a list of names, not the text {needs!r}: write ({needs!r},)")
    for need in needs:
        if need not in NEEDS and not need.startswith(("values.", "{")):
            hint = nearest(need, NEEDS)
            raise TrainError(f"the loss {name!r} needs {need!r}; a need is values.NAME or {', '.join(NEEDS)}{hint}")


def _home(function: LossFunction) -> str:
    """Where a loss stands: its file, since a plugin's module has a name that nobody gave it."""
    return str(getattr(getattr(function, "__code__", None), "co_filename", function.__module__))


def _add(spec: LossSpec) -> None:
    known, home = LOSSES.get(spec.name), spec.function.__module__
    # The same function again is the same file, imported again.
    if known is not None and (known.function.__module__, known.function.__qualname__) != (
        home,
        spec.function.__qualname__,
    ):
        raise TrainError(
            f"two losses are called {spec.name!r}, in {_home(known.function)} and in {_home(spec.function)}: rename one"
        )
    LOSSES[spec.name] = spec


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


def names_in(value: str | Sequence[str]) -> list[str]:
    """The names in an option: a text with commas between them, or a list."""
    return [name.strip() for name in (value.split(",") if isinstance(value, str) else value)]


def _columns(need: str, options: Mapping[str, Any]) -> list[str]:
    """What an entry of `LossSpec.needs` comes to."""
    before, brace, option = need.rstrip("}").partition("{")
    if not brace:
        return [need]
    value = options[option.rstrip("?")]
    return [before + name for name in names_in(value) if name != "none"]


def _check_columns(where: str, spec: LossSpec, name: str, value: Any) -> None:
    """Refuse an option that names columns and does not."""
    of = f"{where}: the option {name!r} of the loss {spec.name!r}"
    if name in spec.limits:
        return
    if f"{{{name}}}" in spec.needs or f"{{{name}?}}" in spec.needs:
        others = ("scores", "none") if f"{{{name}?}}" in spec.needs else ("scores",)
        if not isinstance(value, str) or not (value in others or value.removeprefix("values.") not in ("", value)):
            raise TrainError(f"{of} is {', '.join(others)} or values.NAME, not {value!r}")
    elif f"values.{{{name}}}" in spec.needs:
        texts = isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(v, str) for v in value))
        names = names_in(value) if texts else []
        if not names or not all(names) or len(set(names)) < len(names):
            raise TrainError(f"{of} names columns of `values`, not {value!r}")
