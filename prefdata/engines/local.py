"""The kind `transformers`: a causal language model in this process. The embedded default."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field

from prefdata.engines.base import Capability, Price, Reply, Request
from prefdata.engines.batching import MicroBatcher
from prefdata.engines.local_model import CausalModel, HeardRequest, Prepared
from prefdata.engines.models import KNOWN, require_local, resolve
from prefdata.engines.registry import BaseEngine, EngineConfig, engine
from prefdata.engines.weights import weights_hash
from prefdata.errors import EngineError

_LOGITS = 100_000_000
"""Logits that one batch may hold at once (400 MB in float32)."""


class TransformersConfig(EngineConfig):
    """Fields of the kind `transformers`."""

    model: str = Field(description="A known name (smollm2-135m-instruct), a folder, or a hub id.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Of the weights. On a GPU bfloat16 halves memory; a CPU takes float32 only."
    )
    device: str | None = Field(None, description="For torch; a CUDA GPU if there is one, else the CPU.")
    max_batch_tokens: int = Field(8192, ge=1, description="Tokens, padding included, that one batch has room for.")


@engine("transformers", config=TransformersConfig)
class TransformersEngine(BaseEngine):
    """Answers concurrent requests in batches. The model is loaded at the first one; `identity` reads its files only."""

    capabilities: frozenset[Capability] = frozenset({"generate", "logprobs", "label_probs"})
    free = True

    def __init__(self, name: str, config: TransformersConfig) -> None:
        """Take the configuration; loads nothing."""
        super().__init__(name, config)
        named = config.model.lower()
        folder = Path(config.model).expanduser()
        self.model = named if named in KNOWN else folder.resolve().name if folder.is_dir() else config.model
        self.price = self.price or Price()
        self._config = config
        self._loaded: CausalModel | None = None
        self._batches: MicroBatcher[Prepared] | None = None

    def identify(self) -> str:
        """Name, hash of the weights and template, and dtype.

        Raises:
            EngineError: there is no such model.
        """
        said = self._config.identity
        if said is None:
            said = f"{self.model}@{weights_hash(self._folder)}"
        return f"transformers:{said}:{self._config.dtype}"

    async def ask(self, request: Request) -> Reply:
        """Answer one request, together with those that arrive with it."""
        return await asyncio.wrap_future(self._submit(request))

    async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """The text of an answer as its tokens come, in the same batches as all other requests; then the reply."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[str | None] = asyncio.Queue()

        def listener(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens, the batch goes on
                loop.call_soon_threadsafe(heard.put_nowait, text)

        given = {one.name: getattr(request, one.name) for one in fields(Request)}
        answer = asyncio.wrap_future(self._submit(HeardRequest(**given, listener=listener)))
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

    def _submit(self, request: Request) -> Future[Reply]:
        if self._batches is None:
            self._batches = MicroBatcher(self._prepare, self._choose, self._answer)
        return self._batches.submit(request)

    async def close(self) -> None:
        """Answer what waits, end the thread and free the model."""
        batches, self._batches = self._batches, None
        if batches is not None:
            await asyncio.to_thread(batches.close)
        self._loaded = None

    @cached_property
    def _folder(self) -> Path:
        source = resolve(self._config.model)
        return Path(source) if Path(source).is_dir() else _from_hub(source)

    def _model(self) -> CausalModel:
        if self._loaded is None:
            require_local()
            self._loaded = CausalModel(str(self._folder), self._config.dtype, self._config.device)
        return self._loaded

    def _prepare(self, request: Request) -> Prepared:
        return self._model().prepare(request)

    def _answer(self, batch: Sequence[Prepared]) -> list[Reply]:
        return self._model().answer(batch)

    def _choose(self, waiting: Sequence[Prepared]) -> list[int]:
        """The batch that holds the oldest request: of its capability, of like lengths, as many as there is room for."""
        capability = waiting[0].request.capability
        places = [place for place, row in enumerate(waiting) if row.request.capability == capability]
        places.sort(key=lambda place: waiting[place].length)
        batch: list[int] = []
        for place in places:
            rows, widest = len(batch) + 1, waiting[place].length
            logits = (
                rows
                * self._model().vocabulary
                * max((len(waiting[other].continuation) + 1 for other in [*batch, place]), default=1)
            )
            if batch and (rows * widest > self._config.max_batch_tokens or logits > _LOGITS):
                if 0 in batch:
                    break
                batch = []
            batch.append(place)
        return batch


def _from_hub(model_id: str) -> Path:
    """The folder of a hub model, downloaded where it is missing: only safetensors, never pickled weights."""
    require_local()
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(model_id, allow_patterns=["*.json", "*.jinja", "*.txt", "*.model", "*.safetensors"])
        )
    except (OSError, ValueError) as error:
        raise EngineError(
            f"the model {model_id!r} is no folder here, and the hub did not give it: {type(error).__name__}"
        ) from error
