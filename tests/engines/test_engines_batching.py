"""The micro-batcher: batches what arrives together, fails alone what fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from prefdata.engines.base import Reply, Request, RequestError
from prefdata.engines.batching import MicroBatcher
from prefdata.errors import EngineError


def batcher(
    batches: list[list[str]], fails: Callable[[Sequence[str]], Exception | None] = lambda batch: None, most: int = 4
) -> MicroBatcher[str]:
    def prepare(request: Request) -> str:
        if request.continuation == "bad":
            raise RequestError("bad on its own")
        return request.continuation

    def run(batch: Sequence[str]) -> list[Reply]:
        batches.append(list(batch))
        error = fails(batch)
        if error is not None:
            raise error
        return [Reply(text=text.upper()) for text in batch]

    return MicroBatcher(prepare, lambda waiting: range(min(most, len(waiting))), run)


def ask_all(made: MicroBatcher[str], texts: Sequence[str]) -> list[Any]:
    async def work() -> list[Any]:
        futures = [asyncio.wrap_future(made.submit(Request("logprobs", continuation=text))) for text in texts]
        return await asyncio.gather(*futures, return_exceptions=True)

    return asyncio.run(work())


def test_what_arrives_together_is_answered_together_and_in_its_place() -> None:
    batches: list[list[str]] = []
    made = batcher(batches)
    replies = ask_all(made, list("abcdefghij"))
    assert [reply.text for reply in replies] == list("ABCDEFGHIJ")
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert ask_all(made, ["k"])[0].text == "K", "another event loop"
    made.close()


def test_a_request_that_cannot_be_prepared_fails_alone() -> None:
    made = batcher([])
    first, bad, last = ask_all(made, ["a", "bad", "b"])
    assert (first.text, last.text) == ("A", "B") and isinstance(bad, RequestError)
    made.close()


def test_a_batch_that_fails_is_halved_until_only_the_culprit_is_left() -> None:
    batches: list[list[str]] = []
    made = batcher(batches, lambda batch: MemoryError("too big") if "c" in batch else None)
    replies = ask_all(made, list("abcd"))
    assert [getattr(reply, "text", None) for reply in replies] == ["A", "B", None, "D"]
    assert isinstance(replies[2], RequestError) and "MemoryError: too big" in str(replies[2])
    assert batches == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"], ["c"], ["d"]]
    made.close()


def test_an_engine_error_is_everybodys() -> None:
    made = batcher([], lambda batch: EngineError("no such model"))
    assert all(isinstance(reply, EngineError) for reply in ask_all(made, list("abc")))
    made.close()


def test_closing_answers_what_waits() -> None:
    made = batcher([])
    futures = [made.submit(Request("logprobs", continuation=text)) for text in "abcdef"]
    made.close()
    assert [future.result(0).text for future in futures] == list("ABCDEF")


def test_the_cancelled_are_left_out() -> None:
    batches: list[list[str]] = []
    made = batcher(batches)
    futures = [made.submit(Request("logprobs", continuation=text)) for text in "abc"]
    cancelled = futures[1].cancel()
    made.close()
    assert cancelled and batches == [["a", "c"]]


def test_prepared_errors_are_not_swallowed() -> None:
    made = batcher([])
    with pytest.raises(RequestError, match="bad on its own"):
        made.submit(Request("logprobs", continuation="bad")).result(5)
    made.close()
