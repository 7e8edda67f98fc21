"""Options of losses: which values they take, and the sentence that refuses another."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefdata.train.errors import TrainError


@dataclass(frozen=True, slots=True)
class Range:
    """Which numbers an option takes.

    Attributes:
        above: it is greater than this.
        least: it is at least this.
        below: it is less than this.
        most: it is at most this.
        whole: it has no decimals.
    """

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    whole: bool = False

    def holds(self, value: float) -> bool:
        """Whether a finite number is in it."""
        return (
            (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
            and (not self.whole or float(value).is_integer())
        )

    def __str__(self) -> str:
        """As a sentence says it: `a number of at least 0 and below 0.5`."""
        bounds = (("above", self.above), ("of at least", self.least), ("below", self.below), ("of at most", self.most))
        said = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
        return f"a {'whole ' if self.whole else ''}number{' ' if said else ''}{said}"


Limit = Range | tuple[str, ...]
"""What an option takes: numbers of a range, or one of these texts."""
POSITIVE = Range(above=0)
NOT_NEGATIVE = Range(least=0)
SHARED_LIMITS: dict[str, Limit] = {
    "weight": ("data", "even"),
    "per": ("edge", "list"),
    "label": ("soft", "hard"),
    "sft": NOT_NEGATIVE,
    "sft_reduction": ("mean", "sum", "tokens"),
}
"""Of the options that losses share."""


def check_option(where: str, loss: str, name: str, default: Any, value: Any, limits: Mapping[str, Limit]) -> None:
    """Refuse a value of another type than the default's, or beyond the option's limit.

    Args:
        where: begins the sentence.
        loss: its name.
        name: of the option.
        default: of the option.
        value: what was given.
        limits: by option's name.

    Raises:
        TrainError: it is refused; the sentence says what the option takes.
    """
    of = f"{where}: the option {name!r} of the loss {loss!r}"
    limit = limits.get(name)
    if name == "margin" and isinstance(default, str):
        plain = value in ("none", "edges", "scores")
        if not isinstance(value, str) or not (plain or value.removeprefix("values.") not in ("", value)):
            raise TrainError(f"{of} is none, edges, scores or values.NAME, not {value!r}")
    elif isinstance(limit, tuple):
        if value not in limit:
            raise TrainError(f"{of} is one of {', '.join(limit)}, not {value!r}")
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise TrainError(f"{of} is true or false, not {value!r}")
    elif isinstance(default, int | float) or limit is not None:
        allowed = Range() if limit is None else limit
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # Not `isfinite`, which fails on a whole number that no float holds.
        if not number or not abs(value) <= sys.float_info.max or not allowed.holds(value):
            raise TrainError(f"{of} is {allowed}, not {value!r}")
    elif isinstance(default, str) and not isinstance(value, str):
        raise TrainError(f"{of} is a text, not {value!r}")
