"""Several model calls at once, of which none is lost when another fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

_T = TypeVar("_T")


async def gather_all(work: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run all of `work` concurrently and return the results in order.

    Where one fails, the others are first let to finish, so that no paid call is thrown away and none runs on unseen;
    then the first error is raised as it is (not as a group). Cancelling this cancels them all.
    """
    results = await asyncio.gather(*work, return_exceptions=True)
    done: list[_T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
