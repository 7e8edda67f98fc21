"""What models in this process have in common: a folder of safetensors, one thread, and batches of like lengths."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import Field

from prefdata.engines.base import Price, Reply, Request
from prefdata.engines.batching import MicroBatcher
from prefdata.engines.models import KNOWN, hub_folder, resolve
from prefdata.engines.registry import BaseEngine, EngineConfig
from prefdata.engines.weights import weights_hash

Prepared = TypeVar("Prepared")


class ModelConfig(EngineConfig):
    """The fields of every kind whose model runs in this process."""

    model: str = Field(description="A known name (smollm2-135m-instruct), a folder, or a hub id.")


class InProcessEngine(BaseEngine, Generic[Prepared]):
    """Answers concurrent requests in batches. The model is loaded at the first one; `identity` reads its files only.

    A kind has `prepare`, `choose` and `answer`, which run in the engine's own thread and load the model when needed,
    and `free_model`.
    """

    free = True

    def __init__(self, name: str, config: ModelConfig) -> None:
        """Take the configuration; loads nothing."""
        super().__init__(name, config)
        named = config.model.lower()
        folder = Path(config.model).expanduser()
        self.model = named if named in KNOWN else folder.resolve().name if folder.is_dir() else config.model
        self.price = self.price or Price()
        self._source, self._said = config.model, config.identity
        self._batches: MicroBatcher[Prepared] | None = None

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are; those of a hub id were downloaded before."""
        source = resolve(self._source)
        return Path(source) if Path(source).is_dir() else hub_folder(source)

    def named(self) -> str:
        """The `identity` that was set, else the model's name and the hash of its files.

        Raises:
            EngineError: there is no such model.
        """
        return self._said or f"{self.model}@{self.hashed()}"

    def hashed(self) -> str:
        """A hash of the folder's files."""
        return weights_hash(self.folder)

    async def ask(self, request: Request) -> Reply:
        """Answer one request, together with those that arrive with it."""
        return await asyncio.wrap_future(self.submit(request))

    def submit(self, request: Request) -> Future[Reply]:
        """Queue one request; belongs to no event loop."""
        if self._batches is None:
            self._batches = MicroBatcher(self.prepare, self.choose, self.answer)
        return self._batches.submit(request)

    async def close(self) -> None:
        """Answer what waits, end the thread and free the model."""
        batches, self._batches = self._batches, None
        if batches is not None:
            await asyncio.to_thread(batches.close)
        self.free_model()

    def prepare(self, request: Request) -> Prepared:
        """Make a request ready. RequestError fails that request alone."""
        raise NotImplementedError

    def choose(self, waiting: Sequence[Prepared]) -> list[int]:
        """The places of those to run now, of what waits, oldest first."""
        raise NotImplementedError

    def answer(self, batch: Sequence[Prepared]) -> list[Reply]:
        """The replies to a batch, in order."""
        raise NotImplementedError

    def free_model(self) -> None:
        """Forget the model, so that its memory is given back."""


def around_the_oldest(
    places: Sequence[int], length: Callable[[int], int], fits: Callable[[list[int]], bool]
) -> list[int]:
    """Places of like lengths that go into one batch, the oldest (place 0) among them.

    Args:
        places: what may go into it; 0 is one of them.
        length: of a place, in tokens.
        fits: whether a batch, shortest first, has room for these. One alone always goes.
    """
    batch: list[int] = []
    for place in sorted(places, key=length):
        if batch and not fits([*batch, place]):
            if 0 in batch:
                break
            batch = []
        batch.append(place)
    return batch
