"""What a run has spent, and how much it may."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from prefdata.errors import BudgetSpentError, PipelineError

_AMOUNT = re.compile(r"\s*(\d[\d_,]*(?:\.\d+)?)\s*(tokens?|usd|\$)\s*", re.IGNORECASE)


@dataclass
class Usage:
    """Counters of one run, for its progress display.

    Attributes:
        calls: requests that were really answered by an engine.
        cached: requests that were answered without a call: from the cache, or by an equal request in flight.
        failed: requests that got no answer.
        retries: attempts after the first.
        prompt_tokens: tokens read in `calls`.
        completion_tokens: tokens written in `calls`.
        money: USD paid for `calls`, as far as their engines have a price.
    """

    calls: int = 0
    cached: int = 0
    failed: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float = 0.0

    def pay(self, prompt_tokens: int, completion_tokens: int, money: float | None) -> None:
        """Count one answered call."""
        self.calls += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.money += money or 0.0


@dataclass
class Budget:
    """A limit on what one run pays. Answers from the cache cost nothing.

    Attributes:
        limit: in `unit`.
        unit: tokens (read and written together) or USD.
        spent: so far.
    """

    limit: float
    unit: Literal["tokens", "usd"]
    spent: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `200000tokens` or `5.00usd`.

        Raises:
            PipelineError: it is neither.
        """
        found = _AMOUNT.fullmatch(text)
        if found is None:
            raise PipelineError(f"a budget is an amount and a unit, like 200000tokens or 5.00usd; this is {text!r}")
        amount = float(found[1].replace("_", "").replace(",", ""))
        return cls(amount, "tokens" if found[2].lower().startswith("token") else "usd")

    def pay(self, prompt_tokens: int, completion_tokens: int, money: float | None) -> None:
        """Count one answered call."""
        self.spent += prompt_tokens + completion_tokens if self.unit == "tokens" else money or 0.0

    def check(self) -> None:
        """Raise BudgetSpentError once the limit is reached: nothing new is started then."""
        if self.spent >= self.limit:
            raise BudgetSpentError(
                f"the budget is spent: {self.show(self.spent)} of {self.show(self.limit)}. What was answered is kept; "
                "run again with a higher --budget to go on"
            )

    def show(self, amount: float) -> str:
        """An amount with its unit."""
        return f"{amount:,.0f} tokens" if self.unit == "tokens" else f"{amount:.4f} USD"
