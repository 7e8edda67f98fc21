"""Texts to unit vectors, in this process: the kind `sentence-transformers`.

A text longer than the model reads (256 tokens of all-minilm-l6-v2) is cut at its end. Only safetensors are loaded, no
pickled weights, and no code that comes with a model.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from prefdata.engines.base import Capability, Reply, Request, RequestError
from prefdata.engines.in_process import InProcessEngine, ModelConfig, around_the_oldest
from prefdata.engines.models import LOADING, load_quietly
from prefdata.engines.registry import engine
from prefdata.engines.weights import is_fetched, weights_hash
from prefdata.errors import EngineError

_OWN = "sentence_transformers."
_NESTED = ("Router", "Asym")
_SETTINGS = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")


class EmbedderConfig(ModelConfig):
    """Fields of the kind `sentence-transformers`."""

    model: str = Field(description="A known name (all-minilm-l6-v2), a folder, or a hub id.")
    prompt: str = Field("", description='Put before every text; some models want "query: ".')
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Of the weights.")
    device: str | None = Field(None, description="For torch; a CUDA GPU if there is one, else the CPU.")
    max_batch_tokens: int = Field(8192, ge=1, description="Tokens, padding included, that one batch has room for.")


@dataclass(frozen=True, slots=True)
class Prepared:
    """One text, and how many tokens the model reads of it."""

    text: str
    length: int


@engine("sentence-transformers", config=EmbedderConfig)
class EmbedderEngine(InProcessEngine[Prepared]):
    """Embeds concurrent requests in batches. The model is loaded at the first one; `identity` reads its files only."""

    capabilities: frozenset[Capability] = frozenset({"embed"})

    def __init__(self, name: str, config: EmbedderConfig) -> None:
        """Take the configuration; loads nothing."""
        super().__init__(name, config)
        self._config = config
        self._loaded: Any = None

    def identify(self) -> str:
        """Name, hash of the folder, dtype, and the prompt where there is one.

        Raises:
            EngineError: there is no such model.
        """
        said = f"sentence-transformers:{self.named()}:{self._config.dtype}"
        prompt = self._config.prompt
        return f"{said}:{blake2b(prompt.encode(), digest_size=4).hexdigest()}" if prompt else said

    def hashed(self) -> str:
        """A hash of the weights, and of the modules after them: how tokens are pooled, where a text is cut."""
        weights, folder = weights_hash(self.folder), self.folder
        modules = _modules(folder)
        if is_fetched(folder):
            return weights  # the checksum covers every file
        digest = blake2b(weights.encode(), digest_size=6)
        for path in sorted({folder / name for name in _SETTINGS} | {m / "config.json" for m in modules}):
            if path.is_file():
                digest.update(f"{path.relative_to(folder)}:".encode() + path.read_bytes())
        for module in modules:
            if module != folder and any(module.glob("*.safetensors")):
                digest.update(weights_hash(module).encode())
        return digest.hexdigest()

    def prepare(self, request: Request) -> Prepared:
        """The one text of a request."""
        if len(request.texts) != 1:
            raise RequestError(f"embed takes one text; the request has {len(request.texts)}")
        text = self._config.prompt + request.texts[0]
        ids = self._model().preprocess([text])["input_ids"]
        return Prepared(text, int(ids.shape[-1]))

    def choose(self, waiting: Sequence[Prepared]) -> list[int]:
        """The batch that holds the oldest text, of like lengths, as many as there is room for."""

        def fits(batch: list[int]) -> bool:
            return len(batch) * waiting[batch[-1]].length <= self._config.max_batch_tokens

        return around_the_oldest(range(len(waiting)), lambda place: waiting[place].length, fits)

    def answer(self, batch: Sequence[Prepared]) -> list[Reply]:
        """The vectors, each of length 1, computed together."""
        vectors = self._model().encode(
            [row.text for row in batch], batch_size=len(batch), normalize_embeddings=True, show_progress_bar=False
        )
        replies = []
        for row, vector in zip(batch, vectors, strict=True):
            values = tuple(float(value) for value in vector)
            if not 0.9 < sum(value * value for value in values) < 1.1:  # NaN too: a model that overflows
                raise RequestError(f"the model {self.model} gave a vector that has no length 1 for a text")
            replies.append(Reply(values=values, prompt_tokens=row.length))
        return replies

    def free_model(self) -> None:
        """Forget the model."""
        self._loaded = None

    def _model(self) -> Any:
        if self._loaded is None:
            with LOADING:
                self._loaded = self._load()
        return self._loaded

    def _load(self) -> Any:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise EngineError(
                'the kind sentence-transformers needs a library; install it with: pip install "prefdata[embeddings]"'
            )
        import torch
        from sentence_transformers import SentenceTransformer

        self.hashed()  # refuses pickled weights and foreign modules, also where `identity` was set by hand
        load_quietly()
        device = self._config.device or ("cuda" if torch.cuda.is_available() else "cpu")
        options = {"dtype": getattr(torch, self._config.dtype), "use_safetensors": True}
        try:
            return SentenceTransformer(
                str(self.folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs=options,
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise EngineError(f"the model {self.folder} cannot be loaded: {error}") from error


def _modules(folder: Path) -> list[Path]:
    """The folders of a model's modules.

    Raises:
        EngineError: a module is not of sentence-transformers itself, lies outside, or has pickled weights.
    """
    listed = folder / "modules.json"
    if not listed.is_file():
        return [folder]
    try:
        modules = [(str(one["type"]), folder / str(one["path"])) for one in json.loads(listed.read_text("utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{listed} cannot be read: {error}") from None
    for kind, module in modules:
        if not kind.startswith(_OWN):
            raise EngineError(f"{listed} names code outside sentence-transformers ({kind}), which is never run")
        if not module.resolve().is_relative_to(folder.resolve()) and module != folder:
            raise EngineError(f"{listed} names a folder outside the model's: {module}")
        if kind.rpartition(".")[2] in _NESTED:
            raise EngineError(f"{listed} names modules within modules ({kind}), into which nobody looks here")
        if [*module.glob("*.bin"), *module.glob("*.pt")] and not any(module.glob("model*.safetensors")):
            raise EngineError(
                f"{module} has pickled weights only; they can run code and are never loaded. Save the model again as "
                "safetensors"
            )
    return [module for _, module in modules]
