"""A sequence classifier of Hugging Face, from any folder, as a judge of responses: the kind `reward-model`.

It is asked about one response or two. One: the messages and the response, as the model's chat template writes them
(without one, as the two segments of a model that has a separator, else joined by a blank line), give one number, higher
is better: the logit of a model with one output. Of a model with several, `label` says which output is read, as its
log-odds against all others (so that it has no bounds, as a reward has none).

Two: P(the first is better) and P(the second is better). Of a reward model these follow Bradley and Terry from the two
rewards, 1 / (1 + exp(r2 - r1)). A model that reads both responses at once (`pair: true`) gives a logit that speaks for
the first one; it is read in both orders, and half the difference of the two logits is the log-odds, so that the two
orders of a question have the same answer, and the probabilities sum to 1.

What does not fit into the model's context fails; it is not cut. Only safetensors are loaded, and no code that comes
with a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from pydantic import Field, model_validator

from prefdata.engines.base import Capability, Reply, Request, RequestError
from prefdata.engines.in_process import InProcessEngine, ModelConfig, around_the_oldest
from prefdata.engines.models import LOADING, require_local
from prefdata.engines.registry import engine
from prefdata.engines.reward_scorer import RewardScorer
from prefdata.engines.weights import weights_hash
from prefdata.errors import EngineError


class RewardModelConfig(ModelConfig):
    """Fields of the kind `reward-model`."""

    model: str = Field(description="A folder or a hub id, of a model for sequence classification.")
    label: int | str | None = Field(
        None, description="Of a model with several outputs: the number or the name of the one that is read."
    )
    pair: bool = Field(False, description="Whether the model reads a prompt and two responses, and compares them.")
    pair_template: str = Field(
        "{prompt}\n\nResponse A:\n{first}\n\nResponse B:\n{second}",
        description="How a pair model reads them: {prompt}, {first} and {second} stand for the texts.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Of the weights. On a GPU bfloat16 halves memory; a CPU takes float32 only."
    )
    device: str | None = Field(None, description="For torch; a CUDA GPU if there is one, else the CPU.")
    max_batch_tokens: int = Field(8192, ge=1, description="Tokens, padding included, that one batch has room for.")

    @model_validator(mode="after")
    def _whole(self) -> RewardModelConfig:
        missing = [one for one in ("{prompt}", "{first}", "{second}") if one not in self.pair_template]
        if missing:
            raise ValueError(f"pair_template lacks {' and '.join(missing)}")
        return self


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as the sequences that are classified: one, or two (two responses, or both orders of a pair)."""

    request: Request
    sequences: tuple[list[int], ...]

    @property
    def length(self) -> int:
        """Tokens of the longest."""
        return max(len(ids) for ids in self.sequences)


@engine("reward-model", config=RewardModelConfig)
class RewardModelEngine(InProcessEngine[Prepared]):
    """Rewards concurrent requests in batches. The model is loaded at the first one; `identity` reads its files only."""

    capabilities: frozenset[Capability] = frozenset({"reward"})

    def __init__(self, name: str, config: RewardModelConfig) -> None:
        """Take the configuration; loads nothing."""
        super().__init__(name, config)
        self._config = config
        self._loaded: RewardScorer | None = None

    @property
    def pair(self) -> bool:
        """Whether it compares two responses and cannot reward one."""
        return self._config.pair

    def identify(self) -> str:
        """Name, hash of the folder, dtype, and which output is read, of one response or of a pair.

        Raises:
            EngineError: there is no such model.
        """
        config = self._config
        said = f"reward-model:{self.named()}:{config.dtype}"
        if config.label is not None:
            said += f":{config.label}"
        template = blake2b(config.pair_template.encode(), digest_size=4).hexdigest()
        return f"{said}:pair:{template}" if config.pair else said

    def prepare(self, request: Request) -> Prepared:
        """A request as token ids."""
        model, texts = self._model(), request.texts
        if self._config.pair:
            if len(texts) != 2:
                raise EngineError(
                    f"the engine {self.name!r} is a model of pairs (pair: true) and cannot reward one response; "
                    "ask it to compare two"
                )
            orders = (texts, texts[::-1])
            read = [model.paired(request.messages, *order, self._config.pair_template) for order in orders]
        else:
            if len(texts) not in (1, 2):
                raise RequestError(f"a reward is asked for one response or two; the request has {len(texts)}")
            read = [model.answered(request.messages, text) for text in texts]
        for ids in read:
            model.check_length(len(ids))
        return Prepared(request, tuple(read))

    def choose(self, waiting: Sequence[Prepared]) -> list[int]:
        """The batch that holds the oldest request, of like lengths, as many as there is room for."""

        def fits(batch: list[int]) -> bool:
            rows = sum(len(waiting[place].sequences) for place in batch)
            return rows * waiting[batch[-1]].length <= self._config.max_batch_tokens

        return around_the_oldest(range(len(waiting)), lambda place: waiting[place].length, fits)

    def answer(self, batch: Sequence[Prepared]) -> list[Reply]:
        """The rewards, computed together."""
        found = iter(self._model().rewards([ids for row in batch for ids in row.sequences]))
        return [self._reply(row, [next(found) for _ in row.sequences]) for row in batch]

    def _reply(self, row: Prepared, rewards: list[float]) -> Reply:
        if not all(map(math.isfinite, rewards)):
            raise RequestError(f"the model {self.model} gave a reward that is no number")
        read = sum(len(ids) for ids in row.sequences)
        if len(rewards) == 1:
            return Reply(values=(rewards[0],), prompt_tokens=read)
        odds = (rewards[0] - rewards[1]) / (2 if self._config.pair else 1)
        first, second = both_sides(odds)
        return Reply(values=(first, second), prompt_tokens=read, raw=f'{{"logits": {rewards}}}')

    def free_model(self) -> None:
        """Forget the model."""
        self._loaded = None

    def _model(self) -> RewardScorer:
        if self._loaded is None:
            require_local()
            weights_hash(self.folder)  # refuses pickled weights, also where `identity` was set by hand
            config = self._config
            with LOADING:
                self._loaded = RewardScorer(str(self.folder), config.dtype, config.device, config.label)
        return self._loaded


def both_sides(odds: float) -> tuple[float, float]:
    """P(first) and P(second) of a log-odds. `both_sides(-x)` is `both_sides(x)` turned round, to the last bit."""
    small = math.exp(-abs(odds)) / (1 + math.exp(-abs(odds)))
    return (1 - small, small) if odds >= 0 else (small, 1 - small)
