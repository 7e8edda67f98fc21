"""Questions whose answers several annotations share: asked once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Shared(Generic[_T]):
    """Work by key, begun when it is first asked for. For one event loop, and for as long as one group is judged."""

    def __init__(self) -> None:
        self._begun: dict[Hashable, asyncio.Task[_T]] = {}

    async def get(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What `work()` returns or raises; the second time for a key, what it returned or raised the first time."""
        if key not in self._begun:
            self._begun[key] = asyncio.create_task(work())
        return await self._begun[key]
