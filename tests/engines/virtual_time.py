"""Runs a coroutine in an event loop whose time passes only while everybody sleeps, and then at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(0)
        if not found:
            self.loop.virtual += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    virtual = 1000.0

    def __init__(self) -> None:
        selector = _Selector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self.virtual


def clock() -> float:
    """The time of the running loop: what a client's `clock` is in these tests."""
    return asyncio.get_running_loop().time()


def simulate(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run it; hours take milliseconds. Threads are not waited for where something else is due."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
