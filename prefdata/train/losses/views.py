"""What a loss sees: responses of lists, of pairs, or alone, as tensors.

A loss names its inputs by what they mean (`pair.win.ratio`), never by where they stand in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from prefdata.train.errors import TrainError

if TYPE_CHECKING:
    from torch import Tensor


class Memory:
    """What a loss keeps between steps: a running mean, a window of margins.

    A loss reads the state that the step began with, and observes values; once the step's last micro-batch is done (on
    all processes), the function that its registration names makes the next state of what was observed. So no result
    depends on how a batch is split.

    Attributes:
        state: JSON values by name; what a checkpoint keeps.
        step: optimiser steps taken before this one.
        steps: optimiser steps of the whole run.
        observed: values gathered in this step, by name.
    """

    def __init__(self, state: Mapping[str, Any] | None = None, *, step: int = 0, steps: int = 1) -> None:
        """Begin a step with a state."""
        self.state: dict[str, Any] = dict(state or {})
        self.step = step
        self.steps = steps
        self.observed: dict[str, list[float]] = {}

    def read(self, name: str, default: Any) -> Any:
        """The state's value, or the default where there is none yet."""
        return self.state.get(name, default)

    def observe(self, name: str, values: Tensor) -> None:
        """Take in values of any shape; they carry no gradient."""
        self.observed.setdefault(name, []).extend(values.detach().double().flatten().tolist())


def named(values: Mapping[str, Tensor], name: str) -> Tensor:
    """One of the further numbers by name.

    Raises:
        TrainError: the data have none of that name.
    """
    if name not in values:
        raise TrainError(f"the data hold no values named {name!r} (they hold: {', '.join(values) or 'none'})")
    return values[name]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Log-probabilities of single tokens of responses of shape S.

    Attributes:
        lp: `S + [T]` float, policy; 0 where masked.
        ref: `S + [T]` float, reference; null where the loss needs none.
        mask: `S + [T]` bool, true for a trained token. Position 0 is the response's first token.
    """

    lp: Tensor
    ref: Tensor | None
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Responses:
    """Responses of any shape S: `[N, K]` for N lists, `[E]` for one side of E pairs, `[B]` for B responses alone.

    Attributes:
        mask: S, bool; false where a list has fewer than K responses (values are 0 there, scores NaN).
        length: S, int64, trained tokens (the end of turn included); at least 1 where `mask` is true.
        score: S, float, higher is better; NaN where there is none.
        rank: S, int64, 1 = best, equal ranks are ties; 0 where there is none.
        label: S, float, 1 wanted, 0 not, NaN unknown.
        lp: S, float, sum of the policy's log-probabilities; null for a reward model.
        ref: S, likewise of the reference; null where the loss needs none.
        reward: `S + [A]`, float, a reward model's outputs; null for a policy.
        tokens: single tokens; null unless the loss asks for them.
        values: further numbers by name, S each, NaN where there is none.
    """

    mask: Tensor
    length: Tensor
    score: Tensor
    rank: Tensor
    label: Tensor
    lp: Tensor | None = None
    ref: Tensor | None = None
    reward: Tensor | None = None
    tokens: Tokens | None = None
    values: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def ratio(self) -> Tensor:
        """`lp - ref`, S: the implicit reward over beta."""
        assert self.lp is not None and self.ref is not None
        return self.lp - self.ref

    @property
    def mean(self) -> Tensor:
        """`lp / length`, S."""
        assert self.lp is not None
        return self.lp / self.length.clamp(min=1)

    def value(self, name: str) -> Tensor:
        """Further numbers by name, S.

        Raises:
            TrainError: the data have none of that name.
        """
        return named(self.values, name)

    def at(self, *index: Tensor) -> Responses:
        """The responses at these positions: `lists.at(rows, places)` takes `[N, K]` to `[E]`."""
        tokens = self.tokens
        if tokens is not None:
            ref = None if tokens.ref is None else tokens.ref[index]
            tokens = Tokens(tokens.lp[index], ref, tokens.mask[index])
        return Responses(
            mask=self.mask[index],
            length=self.length[index],
            score=self.score[index],
            rank=self.rank[index],
            label=self.label[index],
            lp=None if self.lp is None else self.lp[index],
            ref=None if self.ref is None else self.ref[index],
            reward=None if self.reward is None else self.reward[index],
            tokens=tokens,
            values={name: value[index] for name, value in self.values.items()},
        )


@dataclass(frozen=True, slots=True)
class Pairs:
    """E pairs: what a pairwise loss gets. It returns its loss for "win is better than lose", `[E]`.

    Attributes:
        win: the better response of each pair.
        lose: the other.
        margin: `[E]`, by how much the winner is to be better, in the unit that the loss is computed in (0 unless the
            option `margin` is set).
        p: `[E]`, the probability that the winner is better: at least 0.5, except where the pair is `swapped`.
        votes: `[E]`, how many votes p rests on; NaN where that is unknown.
        ranked: `[E]` int64, how many responses of its list are ranked.
        rationale: the text that says why, for each pair (its `lp` and `length`); masked where there is none. Null
            unless the loss asks for it.
        memory: what the loss keeps between steps.
    """

    win: Responses
    lose: Responses
    margin: Tensor
    p: Tensor
    votes: Tensor
    ranked: Tensor
    rationale: Responses | None = None
    memory: Memory = field(default_factory=Memory)

    def __len__(self) -> int:
        """E."""
        return len(self.p)

    def swapped(self) -> Pairs:
        """The same pairs the other way round; what is observed of them is forgotten."""
        unheard = Memory(self.memory.state, step=self.memory.step, steps=self.memory.steps)
        return replace(self, win=self.lose, lose=self.win, margin=-self.margin, p=1 - self.p, memory=unheard)


@dataclass(frozen=True, slots=True)
class Lists:
    """N lists of up to K responses: what a listwise loss gets. It returns `[N]`.

    Attributes:
        responses: of shape `[N, K]`.
        memory: what the loss keeps between steps.
    """

    responses: Responses
    memory: Memory = field(default_factory=Memory)

    def __len__(self) -> int:
        """N."""
        return len(self.responses.mask)


@dataclass(frozen=True, slots=True)
class Alone:
    """B responses that stand alone: what an unpaired loss gets. It returns `[B]`.

    Attributes:
        responses: of shape `[B]`, each with its `label`.
        mismatched: `[M]`, `lp - ref` of other prompts' responses under this batch's prompts, for the whole step and
            without gradients; null unless the loss asks for it.
        memory: what the loss keeps between steps.
    """

    responses: Responses
    mismatched: Tensor | None = None
    memory: Memory = field(default_factory=Memory)

    def __len__(self) -> int:
        """B."""
        return len(self.responses.mask)
