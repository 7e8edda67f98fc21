"""What a run has spent, and how much it may."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Literal

from prefdata.engines.base import Price, Request
from prefdata.errors import BudgetSpentError, PipelineError

CHARACTERS_PER_TOKEN = 4
"""Rough, for English."""

_PER_MESSAGE = 4
"""Tokens of a chat template around one message."""

_AMOUNT = re.compile(r"\s*(\d[\d_,]*(?:\.\d+)?)\s*(tokens?|usd|\$)\s*", re.IGNORECASE)
_WRITTEN = {"label_probs": 1, "logprobs": 1}


def estimated_tokens(request: Request) -> tuple[int, int]:
    """How many tokens a request is going to read, roughly, and to write, at most.

    Args:
        request: before it is sent.
    """
    characters = len(request.continuation) + len(request.prefix) + sum(map(len, request.texts))
    for turn in request.messages:
        characters += len(str(turn.get("content") or "")) + len(str(turn.get("tool_calls") or ""))
    if request.schema is not None:
        characters += len(json.dumps(request.schema))  # some servers show it to the model
    written = request.max_tokens if request.capability == "generate" else _WRITTEN.get(request.capability, 0)
    return math.ceil(characters / CHARACTERS_PER_TOKEN) + _PER_MESSAGE * len(request.messages), written


@dataclass
class Usage:
    """Counters of one run, for its progress display.

    Attributes:
        calls: requests that were really answered by an engine.
        cached: requests that were answered without a call: from the cache, or by an equal request in flight.
        failed: requests that got no answer.
        retries: attempts after the first.
        prompt_tokens: tokens read in `calls`, and in attempts that failed after they were paid for.
        completion_tokens: tokens written, likewise.
        money: USD paid for them, as far as their engines have a price.
    """

    calls: int = 0
    cached: int = 0
    failed: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float = 0.0

    def pay(self, prompt_tokens: int, completion_tokens: int, money: float | None) -> None:
        """Count what one attempt cost."""
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.money += money or 0.0


@dataclass
class Budget:
    """A hard limit on what one run pays. Answers from the cache cost nothing.

    What is in flight is reserved with an estimate, and nothing is started that would exceed the limit together with
    that, as long as something is in flight whose end may free room; where nothing is and something is left, one request
    is started. So the limit is exceeded by one request that was started alone, or by as much as estimates were too low.

    Attributes:
        limit: in `unit`.
        unit: tokens (read and written together) or USD.
        spent: so far.
        reserved: by what is in flight.
        in_flight: how many requests that is.
    """

    limit: float
    unit: Literal["tokens", "usd"]
    spent: float = 0.0
    reserved: float = 0.0
    in_flight: int = 0

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

    def amount(self, prompt_tokens: int, completion_tokens: int, price: Price | None) -> float:
        """What so many tokens are in `unit`; nothing in USD where there is no price."""
        if self.unit == "tokens":
            return float(prompt_tokens + completion_tokens)
        return price.money(prompt_tokens, completion_tokens) if price else 0.0

    def admits(self, amount: float) -> bool:
        """Whether a request of about that amount may start now.

        Raises:
            BudgetSpentError: the limit is reached: nothing is started any more.
        """
        if self.spent >= self.limit:
            raise BudgetSpentError(
                f"the budget is spent: {self.show(self.spent)} of {self.show(self.limit)}. What was answered is kept; "
                "run again with a higher --budget to go on"
            )
        return self.in_flight == 0 or self.spent + self.reserved + amount <= self.limit

    def reserve(self, amount: float) -> None:
        """A request of about that amount was started."""
        self.in_flight += 1
        self.reserved += amount

    def settle(self, reserved: float, spent: float) -> None:
        """It has ended, and that is what it cost."""
        self.in_flight -= 1
        self.reserved = self.reserved - reserved if self.in_flight else 0.0
        self.spent += spent

    def show(self, amount: float) -> str:
        """An amount with its unit."""
        return f"{amount:,.0f} tokens" if self.unit == "tokens" else f"{amount:.4f} USD"
