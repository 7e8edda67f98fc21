"""The rows of the table `calls`: what each request to a model came to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from prefdata.engines.base import Engine, Price, Reply, RequestError
from prefdata.engines.cache import CacheEntry
from prefdata.schema import Row

RAW_LIMIT = 64 * 1024
"""Characters of a raw answer that `calls.raw` keeps."""


@dataclass(slots=True)
class Spent:
    """What a request has taken so far, over all its attempts.

    Attributes:
        attempts: how often it was sent.
        seconds: that the engine took.
        prompt_tokens: tokens read, as far as answers said so, also those that failed.
        completion_tokens: tokens written, likewise.
    """

    attempts: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def paid(self) -> bool:
        """Whether something was paid for."""
        return self.prompt_tokens > 0 or self.completion_tokens > 0

    def money(self, price: Price | None) -> float | None:
        """USD; None without a price."""
        return price.money(self.prompt_tokens, self.completion_tokens) if price else None


def answered_row(
    engine: Engine, call_id: str, step: str, reply: Reply, spent: Spent, money: float | None, created: float
) -> Row:
    """The row for an answered request. A judge's prose is held by no other row, so the text is kept here.

    Args:
        engine: that answered.
        call_id: the id.
        step: fingerprint of the asking step.
        reply: what came back.
        spent: on all attempts.
        money: USD that this row states.
        created: Unix time of the answer.
    """
    return {
        "call_id": call_id,
        "step": step,
        "engine": engine.name,
        "model": engine.model,
        "raw": (reply.raw or reply.text or "")[:RAW_LIMIT] or None,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.completion_tokens,
        "money": money,
        "seconds": spent.seconds,
        "cached": False,
        "attempts": spent.attempts,
        "error": None,
        "created_at": datetime.fromtimestamp(created, UTC),
    }


def failed_row(engine: Engine, call_id: str, step: str, failure: RequestError, spent: Spent, created: float) -> Row:
    """The row for a request without an answer; tokens and money only where failed answers said what they cost.

    Args:
        engine: that was asked.
        call_id: the id.
        step: fingerprint of the asking step.
        failure: of the last attempt.
        spent: on all attempts.
        created: Unix time of the last one's end.
    """
    row: Row = {
        "call_id": call_id,
        "step": step,
        "engine": engine.name,
        "model": engine.model,
        "raw": failure.raw[:RAW_LIMIT] or None,
        "finish_reason": "refusal" if failure.status == "refused" else "error",
        "seconds": spent.seconds,
        "cached": False,
        "attempts": spent.attempts,
        "error": str(failure),
        "created_at": datetime.fromtimestamp(created, UTC),
    }
    if spent.paid:
        row |= {
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "money": spent.money(engine.price),
        }
    return row


def bill_row(call_id: str, entry: CacheEntry) -> Row:
    """The row for an answer that was paid for and that nobody asks for again. Without its text: no row refers to it.

    Args:
        call_id: the id.
        entry: of the request cache; of an earlier version's it is not known who asked.
    """
    return {
        "call_id": call_id,
        "step": entry.step,
        "engine": entry.engine,
        "model": entry.model,
        "finish_reason": entry.reply.finish_reason,
        "prompt_tokens": entry.prompt_tokens,
        "completion_tokens": entry.completion_tokens,
        "money": entry.money,
        "seconds": entry.seconds,
        "cached": False,
        "attempts": entry.attempts,
        "group_id": entry.group_id,
        "created_at": datetime.fromtimestamp(entry.created, UTC),
    }


def unpaid(row: Row) -> Row:
    """The same row where another one states the bill."""
    if row["error"] is None:
        return {**row, "cached": True, "money": 0.0}
    return {key: value for key, value in row.items() if key not in ("prompt_tokens", "completion_tokens", "money")}
