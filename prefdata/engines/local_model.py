"""A causal language model in this process: batched generation, exact log-probabilities, label probabilities.

What is written is written in batches, padded on the left; what is scored is read in packs, in which requests share what
they begin with alike. What one request draws never depends on its batch: its noise comes from its own seed.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prefdata.engines.base import Reply, Request, RequestError
from prefdata.engines.chat import ChatTokenizer
from prefdata.engines.models import load_quietly
from prefdata.errors import EngineError
from prefdata.schema import make_id

if TYPE_CHECKING:
    from prefdata.lm import PackedModel

_NUCLEUS = 1024
"""How many of the likeliest tokens are looked at first for top_p; sorting a vocabulary costs ten times as much."""


@dataclass(frozen=True, slots=True)
class HeardRequest(Request):
    """A request whose text is told while it is written. Nothing of the answer depends on that.

    Attributes:
        listener: is told the whole text so far after each token, in the thread of the model.
    """

    listener: Callable[[str], object] | None = field(default=None, compare=False)


@dataclass
class Prepared:
    """A request as token ids.

    Attributes:
        request: as asked.
        prompt: ids up to where the model goes on.
        continuation: ids that are scored (logprobs, states).
        labels: ids of each label (label_probs).
        new_tokens: how many may be written (generate).
    """

    request: Request
    prompt: list[int]
    continuation: list[int] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    new_tokens: int = 0

    @property
    def length(self) -> int:
        """Tokens that its row needs room for."""
        return len(self.prompt) + len(self.continuation) + self.new_tokens


@dataclass
class _Row:
    """One answer while it is written."""

    request: Request
    limit: int
    seed: int
    tokens: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    finish_reason: str = ""
    text: str = ""


def packed_or_none(model: Any, output: Literal["logprobs", "reward"] = "logprobs") -> PackedModel | Literal[False]:
    """A checked reader of packs; false where the model is of a kind that cannot be read so."""
    from prefdata.lm import PackedModel

    # On a GPU one mask for all: FlexAttention would be compiled again for each length of a batch.
    on_cpu = next(model.parameters()).device.type == "cpu"
    try:
        reader = PackedModel(model, output, attention="auto" if on_cpu else "sdpa")
        reader.verify()
    except ValueError:
        return False
    # Requests are as long as they are, so a limit on their length is none that could be kept.
    return reader if reader.longest is None else False


class CausalModel:
    """A loaded model with its tokenizer. Not safe for several threads.

    Args:
        source: folder or hub id.
        dtype: float32, bfloat16 or float16.
        device: for torch; None takes a CUDA GPU if there is one, else the CPU.

    Raises:
        EngineError: it cannot be loaded, or half precision was asked of a CPU.
    """

    def __init__(self, source: str, dtype: str = "float32", device: str | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        load_quietly()
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.device.type == "cpu" and dtype != "float32":
            raise EngineError(f"dtype {dtype} is slower than float32 on a CPU, and less exact; leave dtype out")
        self.tokens = ChatTokenizer(source)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                source, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False
            )
            self.model: Any = model.to(self.device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"the model {source!r} cannot be loaded: {error}") from error
        accepted = inspect.signature(self.model.forward).parameters
        self._keeps_logits = "logits_to_keep" in accepted
        self._takes_positions = "position_ids" in accepted
        config = self.model.config.get_text_config()
        self.context: int = getattr(config, "max_position_embeddings", None) or 1 << 30
        self.vocabulary: int = config.vocab_size
        ends = self.model.generation_config.eos_token_id
        self._reader: PackedModel | Literal[False] | None = None
        self._ends = {self.tokens.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}

    def prepare(self, request: Request) -> Prepared:
        """A request as token ids.

        Raises:
            RequestError: it does not fit into the model's context, or the template or the labels do not work.
        """
        if request.capability in ("logprobs", "states"):
            prepared = Prepared(request, *self.tokens.continued(request))
            if not prepared.prompt:
                raise RequestError(
                    "there is no token before the continuation, so that its first one has no probability"
                )
        elif request.capability == "label_probs":
            prompt = self.tokens.prompt(request.messages, request.prefix)
            prepared = Prepared(request, prompt, labels=self.tokens.labels(request.labels))
        else:
            prompt = self.tokens.prompt(request.messages, request.prefix)
            prepared = Prepared(request, prompt, new_tokens=min(request.max_tokens, self.context - len(prompt)))
        read = len(prepared.prompt) + len(prepared.continuation)
        if read > self.context or (request.capability == "generate" and prepared.new_tokens < 1):
            raise RequestError(f"{read} tokens do not fit into the model's context of {self.context}")
        return prepared

    def answer(self, batch: Sequence[Prepared]) -> list[Reply]:
        """The replies to requests of one capability, in order."""
        import torch

        with torch.inference_mode():
            match batch[0].request.capability:
                case "logprobs":
                    return self._logprobs(batch)
                case "label_probs":
                    return self._label_probs(batch)
                case "states":
                    return self._states(batch)
                case _:
                    return self._generate(batch)

    def _logprobs(self, batch: Sequence[Prepared]) -> list[Reply]:
        """Natural-log probability of each continuation token, computed in float32.

        What requests begin with alike (instructions, a conversation with many follow-ups) is read once.
        """
        from prefdata.lm import Row, pack

        reader = self._packed()
        if reader is None:
            scored = [self._alone(row) for row in batch]
        else:
            rows = [Row((*row.prompt, *row.continuation), tuple(range(len(row.prompt), row.length))) for row in batch]
            together = pack([rows])
            values: list[float] = reader(together).tolist()
            ends = together.lengths.cumsum()
            scored = [values[end - length : end] for end, length in zip(ends, together.lengths, strict=True)]
        return [
            Reply(values=tuple(values), prompt_tokens=len(row.prompt) + len(row.continuation))
            for row, values in zip(batch, scored, strict=True)
        ]

    def _packed(self) -> PackedModel | None:
        """The model as a reader of packs; null where it is of a kind that cannot be read so."""
        if self._reader is None:
            self._reader = packed_or_none(self.model)
        return self._reader or None

    def _alone(self, row: Prepared) -> list[float]:
        """Log-probabilities of a continuation, its row read by itself."""
        import torch

        kept = len(row.continuation) + 1
        ids, mask = self._pad([row.prompt + row.continuation])
        # The logits at position t are about token t + 1.
        logits_tv = self._forward(ids, mask, kept=kept, use_cache=False).logits[0, -kept:-1].float()
        picked_t = torch.tensor(row.continuation, device=self.device, dtype=torch.long)
        values: list[float] = logits_tv.log_softmax(-1).gather(1, picked_t[:, None]).squeeze(1).tolist()
        return values

    def _states(self, batch: Sequence[Prepared]) -> list[Reply]:
        """Of each continuation its length, the sum of the states that predict its tokens, and its last token's state.

        The last layer's states, after its norm, added up in float32. Each row is read by itself: nothing is padded.
        """
        import torch

        replies = []
        for row in batch:
            ids = torch.tensor([row.prompt + row.continuation], device=self.device)
            mask = torch.ones_like(ids)
            out = self._forward(ids, mask, kept=1, use_cache=False, output_hidden_states=True)
            states_td = out.hidden_states[-1][0, len(row.prompt) - 1 :].float()
            summed, last = states_td[:-1].sum(0).tolist(), states_td[-1].tolist()
            values = (float(len(row.continuation)), *summed, *last)
            replies.append(Reply(values=values, prompt_tokens=row.length))
        return replies

    def _label_probs(self, batch: Sequence[Prepared]) -> list[Reply]:
        """Probability of each label as the next token, summed over its variants, and of all of them together."""
        ids, mask = self._pad([row.prompt for row in batch])
        logits = self._forward(ids, mask, kept=1, use_cache=False).logits
        replies = []
        for row, logp_v in zip(batch, logits[:, -1].float().log_softmax(-1), strict=True):
            logs = [float(logp_v[variants].logsumexp(0)) for variants in row.labels]
            top = max(logs)
            shares = [math.exp(log - top) for log in logs]
            values = tuple(share / sum(shares) for share in shares)
            mass = min(1.0, sum(math.exp(log) for log in logs))
            raw = json.dumps({"labels": row.request.labels, "values": values, "mass": mass})
            replies.append(Reply(values=values, mass=mass, prompt_tokens=len(row.prompt), raw=raw))
        return replies

    def _generate(self, batch: Sequence[Prepared]) -> list[Reply]:
        """Write all answers of a batch; rows that are done leave it, and the rest goes on."""
        import torch

        rows = [_Row(row.request, row.new_tokens, _seed(row.request)) for row in batch]
        ids, mask = self._pad([row.prompt for row in batch])
        out = self._forward(ids, mask, kept=1, use_cache=True)
        active = rows
        while True:
            chosen = self._extend(out.logits[:, -1].float(), active)
            kept = [place for place, row in enumerate(active) if not row.finish_reason]
            if not kept:
                break
            if len(kept) < len(active):
                where = torch.tensor(kept, device=self.device)
                out.past_key_values.batch_select_indices(where)
                mask, chosen, active = mask[where], chosen[where], [active[place] for place in kept]
            mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
            out = self._forward(chosen[:, None], mask, kept=1, use_cache=True, past_key_values=out.past_key_values)
        return [
            Reply(
                text=row.text,
                finish_reason=row.finish_reason,
                values=tuple(row.values),
                prompt_tokens=len(prepared.prompt),
                completion_tokens=len(row.tokens),
            )
            for row, prepared in zip(rows, batch, strict=True)
        ]

    def _extend(self, logits_bv: Any, rows: Sequence[_Row]) -> Any:
        """Draw the next token of every row, and end the rows that end with it. Returns the token ids, [B]."""
        import torch

        logp_bv = logits_bv.log_softmax(-1)
        chosen = logp_bv.argmax(-1)
        for place, row in enumerate(rows):
            if row.request.temperature > 0:
                chosen[place] = _draw(logits_bv[place], row)
        values = logp_bv.gather(1, chosen[:, None]).squeeze(1).tolist()
        for row, token, value in zip(rows, chosen.tolist(), values, strict=True):
            row.tokens.append(token)
            row.values.append(value)
            self._end(row)
            if isinstance(row.request, HeardRequest) and row.request.listener is not None:
                row.request.listener(row.text if row.finish_reason else self._so_far(row))
        return chosen.to(torch.long)

    def _so_far(self, row: _Row) -> str:
        """The text of an unfinished row, without what later tokens may yet change or take away."""
        text: str = self.tokens.tokenizer.decode(row.tokens, skip_special_tokens=True).rstrip("\ufffd")
        held = max((len(end) - 1 for end in row.request.stop), default=0)
        return text[: max(0, len(text) - held)]

    def _end(self, row: _Row) -> None:
        """Set finish_reason and text, if the row's last token ended it."""
        ended, full = row.tokens[-1] in self._ends, len(row.tokens) >= row.limit
        if not (ended or full or row.request.stop):
            return
        written = row.tokens[:-1] if ended else row.tokens
        text: str = self.tokens.tokenizer.decode(written, skip_special_tokens=True)
        cuts = [place for end in row.request.stop if (place := text.find(end)) >= 0]
        if cuts:
            row.text, row.finish_reason = text[: min(cuts)], "stop"
        elif ended:
            row.text, row.finish_reason = text, "stop"
        elif full:
            # A character of several tokens may have been cut in the middle.
            row.text, row.finish_reason = text.rstrip("\ufffd"), "length"

    def _pad(self, rows: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """Ids and mask, both [B, T], padded on the left."""
        import torch

        width = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, width - len(row) :] = torch.tensor(row, dtype=torch.long)
            mask[place, width - len(row) :] = 1
        return ids.to(self.device), mask.to(self.device)

    def _forward(self, ids: Any, mask: Any, *, kept: int, **options: Any) -> Any:
        """Run the model; the last `kept` positions' logits are what the caller needs.

        Args:
            ids: [B, T].
            mask: [B, T], or [B, past + T] after a cache.
            kept: how many positions.
            options: for the model.
        """
        if self._keeps_logits:
            options["logits_to_keep"] = kept
        if self._takes_positions:
            options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self.model(input_ids=ids, attention_mask=mask, **options)
        if not self._keeps_logits:
            out.logits = out.logits[:, -kept:]
        return out


def _seed(request: Request) -> int:
    """64 bits for the draw. A tag asks anew, and a request without a seed has the one of its own content."""
    if request.seed is not None and not request.tag:
        return request.seed % 2**64
    return int(make_id("draw", request.seed, request.tag, request.payload() if request.seed is None else None)[:16], 16)


def _draw(logits_v: Any, row: _Row) -> int:
    """One token from the tempered nucleus, by the largest sum of log-probability and Gumbel noise.

    The noise of a token is a function of (seed, step, token) alone: rounding that differs between batches changes a
    draw only where two sums agree to the last digits. Holtzman et al. 2020 for the nucleus.
    """
    import torch

    logp_v = (logits_v / row.request.temperature).log_softmax(-1)
    uniform = np.random.Generator(np.random.Philox(key=row.seed, counter=[0, 0, len(row.tokens), 0])).random(
        len(logp_v)
    )
    noise_v = torch.from_numpy(uniform).to(logp_v.device)
    if row.request.top_p >= 1:
        kept = torch.arange(len(logp_v), device=logp_v.device)
    else:
        likeliest = logp_v.topk(min(_NUCLEUS, len(logp_v)))
        if float(likeliest.values.exp().sum()) < row.request.top_p:
            likeliest = logp_v.sort(descending=True)
        before = likeliest.values.exp().cumsum(0) - likeliest.values.exp()
        kept = likeliest.indices[before < row.request.top_p]
    gumbel = -(-noise_v[kept].clamp(min=1e-300).log()).log()
    return int(kept[(logp_v[kept].double() + gumbel).argmax()])
