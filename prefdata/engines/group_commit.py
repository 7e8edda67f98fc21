"""Keeping answers durably at the price of one commit for many."""

from __future__ import annotations

import asyncio

from prefdata.engines.base import Reply
from prefdata.engines.cache import CacheEntry, RequestCache

_GATHER = 0.003
"""Seconds in which answers gather before they are written: nothing beside a model's latency."""


class GroupCommit:
    """Writes to the request cache in a thread: a commit may wait for the disk, or for another process.

    Args:
        cache: where to.
    """

    def __init__(self, cache: RequestCache) -> None:
        self._cache = cache
        self._gathered: list[tuple[str, CacheEntry, asyncio.Future[Reply]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def keep(self, key: str, entry: CacheEntry) -> Reply:
        """Return once the answer is durable: the reply that is kept, which another process may have put there."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._gathered.append((key, entry, future))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return await future

    async def _write(self) -> None:
        while self._gathered:
            await asyncio.sleep(_GATHER)
            batch, self._gathered = self._gathered, []
            futures = [future for _, _, future in batch]
            try:
                replies = await asyncio.to_thread(self._cache.put_all, [(key, entry) for key, entry, _ in batch])
            except Exception as error:
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
                continue
            for future, reply in zip(futures, replies, strict=True):
                if not future.done():
                    future.set_result(reply)
