"""The kind `transformers`: a causal language model in this process. The embedded default."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import fields
from typing import Literal

from pydantic import Field

from prefdata.engines.base import Capability, Reply, Request
from prefdata.engines.in_process import InProcessEngine, ModelConfig, around_the_oldest
from prefdata.engines.local_model import CausalModel, HeardRequest, Prepared
from prefdata.engines.models import LOADING, require_local
from prefdata.engines.registry import engine

_LOGITS = 100_000_000
"""Logits that one batch may hold at once (400 MB in float32)."""


class TransformersConfig(ModelConfig):
    """Fields of the kind `transformers`."""

    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Of the weights. On a GPU bfloat16 halves memory; a CPU takes float32 only."
    )
    device: str | None = Field(None, description="For torch; a CUDA GPU if there is one, else the CPU.")
    max_batch_tokens: int = Field(8192, ge=1, description="Tokens, padding included, that one batch has room for.")


@engine("transformers", config=TransformersConfig)
class TransformersEngine(InProcessEngine[Prepared]):
    """Answers concurrent requests in batches. The model is loaded at the first one; `identity` reads its files only."""

    capabilities: frozenset[Capability] = frozenset({"generate", "logprobs", "label_probs", "states"})

    def __init__(self, name: str, config: TransformersConfig) -> None:
        """Take the configuration; loads nothing."""
        super().__init__(name, config)
        self._config = config
        self._loaded: CausalModel | None = None

    def identify(self) -> str:
        """Name, hash of the weights and template, and dtype.

        Raises:
            EngineError: there is no such model.
        """
        return f"transformers:{self.named()}:{self._config.dtype}"

    async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """The text of an answer as its tokens come, in the same batches as all other requests; then the reply."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[str | None] = asyncio.Queue()

        def listener(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens, the batch goes on
                loop.call_soon_threadsafe(heard.put_nowait, text)

        given = {one.name: getattr(request, one.name) for one in fields(Request)}
        answer = asyncio.wrap_future(self.submit(HeardRequest(**given, listener=listener)))
        answer.add_done_callback(lambda _: heard.put_nowait(None))
        told = ""
        try:
            while (text := await heard.get()) is not None:
                # A batch that did not fit into memory is run again in halves, and tells its texts again.
                if len(text) > len(told) and text.startswith(told):
                    yield text[len(told) :]
                    told = text
            yield await answer
        finally:
            answer.cancel()

    def free_model(self) -> None:
        """Forget the model."""
        self._loaded = None

    def _model(self) -> CausalModel:
        if self._loaded is None:
            require_local()
            with LOADING:
                self._loaded = CausalModel(str(self.folder), self._config.dtype, self._config.device)
        return self._loaded

    def prepare(self, request: Request) -> Prepared:
        """A request as token ids."""
        return self._model().prepare(request)

    def answer(self, batch: Sequence[Prepared]) -> list[Reply]:
        """The replies to a batch, in order."""
        return self._model().answer(batch)

    def choose(self, waiting: Sequence[Prepared]) -> list[int]:
        """The batch that holds the oldest request: of its capability, of like lengths, as many as there is room for."""
        capability = waiting[0].request.capability
        places = [place for place, row in enumerate(waiting) if row.request.capability == capability]

        def fits(batch: list[int]) -> bool:
            if capability in ("logprobs", "states"):  # neither padding nor all logits
                return sum(waiting[place].length for place in batch) <= self._config.max_batch_tokens
            widest = waiting[batch[-1]].length
            logits = len(batch) * self._model().vocabulary
            return len(batch) * widest <= self._config.max_batch_tokens and logits <= _LOGITS

        return around_the_oldest(places, lambda place: waiting[place].length, fits)
