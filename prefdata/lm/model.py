"""A language model that reads packs: the shared part of many rows once, and only the numbers that are asked for.

`PackedModel` is all there is between a decoder of transformers and a loss: token ids, positions and mask of a pack go
in, log-probabilities of the scored tokens (or the outputs of a reward head) come out. Everything, the head's product
included, happens in its `forward`, so that what wraps it (data parallel, sharding, hooks) sees every use of a weight.

`torch` is imported with this module: `prefdata.lm` loads it at first use.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prefdata.lm.attention import BLOCK, Kind, Layers, attention_masks
from prefdata.lm.head import fused_logprobs
from prefdata.lm.packing import Pack, Row, pack
from prefdata.lm.trees import TREES, register
from prefdata.lm.weights import head_parts

_KINDS: dict[str, Kind] = {"flex": "flex_attention", "trees": TREES}

_CHUNK, _CHUNK_CPU = 2048, 256
"""Hidden states that the head reads at a time: large products keep a GPU busy, small ones stay in a CPU's cache."""


class PackedModel(nn.Module):  # type: ignore[misc]
    """A decoder with its head, read pack by pack.

    It never drops out: what is compared with a reference, or with itself a step later, must be one function.

    Args:
        model: of transformers (causal language model, or sequence classification with a `score` head on a decoder), or
            a peft model around one.
        output: `logprobs`, or `reward` for the outputs of the `score` head.
        attention: `flex` (FlexAttention, on a CUDA GPU), `trees` (scaled dot-product attention, tree by tree), `sdpa`
            (one explicit mask; a model whose attention has no such form, as where scores are soft-capped, is computed
            as it is written), or `auto`: flex on a CUDA GPU, trees on a CPU, and sdpa where the model supports neither.
        chunk: hidden states that the head reads at a time; null for 2,048 on a GPU and 256 on a CPU.
        pad_to: packs are filled up to a multiple of so many tokens, so that compiled code meets one shape; null for
            whole blocks with flex, and as they are otherwise.
        keep_logits: see `fused_logprobs`.

    Attributes:
        longest: rows of up to so many tokens can be read; null for any number.

    Raises:
        ValueError: the model cannot be read in packs (an encoder, a recurrent model, adapters that add tokens), has no
            such head, or flex was asked for and it does not support it.
    """

    def __init__(
        self,
        model: Any,
        output: Literal["logprobs", "reward"] = "logprobs",
        attention: Literal["auto", "sdpa", "trees", "flex"] = "auto",
        chunk: int | None = None,
        pad_to: int | None = None,
        keep_logits: bool = False,
    ) -> None:
        super().__init__()
        if attention not in ("auto", "sdpa", "trees", "flex") or output not in ("logprobs", "reward"):
            raise ValueError(
                f"attention is auto, sdpa, trees or flex, not {attention!r}; output logprobs or reward, not {output!r}"
            )
        self.model = model
        self.output = output
        self.chunk, self.pad_to, self.keep_logits = chunk, pad_to, keep_logits
        self._wanted = attention
        inner = _inner(model)
        self._config = inner.config.get_text_config()
        self._name = str(inner.config.model_type)
        self._layers = _checked(model, self._name)
        self._softcap, self._scale = _logit_map(self._config)
        self.longest = _longest(self._config)
        self._kind: Kind | None = None
        if attention in ("flex", "trees") and not _supports(inner, self._config, attention):
            raise ValueError(f"the model {self._name!r} does not support attention {attention}; use sdpa")
        self._head()  # says at once that there is none
        _stop_dropout(model)
        self.train(model.training)

    @property
    def kind(self) -> Kind:
        """The attention that is used, as transformers names it. Known from the device that the model lies on."""
        if self._kind is None:
            self._kind = self._chosen()
            register()
        return self._kind

    def forward(self, pack: Pack) -> Tensor:
        """Read a pack.

        Returns:
            `[L]` float32, the log-probabilities of the scored tokens, row after row (`pack.lengths` splits them); or,
            for the output `reward`, `[B, A]` float32, the A outputs at each row's last token.

        Raises:
            ValueError: a row is so long that this model would read all others of the pack differently.
        """
        longest = int(pack.positions.max()) + 1
        if self.longest is not None and longest > self.longest:
            raise ValueError(
                f"the model {self._name!r} scales positions otherwise, of all rows at once, where one has more than "
                f"{self.longest} tokens, and a row of the pack has {longest}. Keep rows to {self.longest} tokens"
            )
        hidden = self._states(pack)
        weight, bias = self._head()
        if self.output == "reward":
            return _outputs(hidden[_tensor(pack.last, hidden)], weight, bias)
        values = fused_logprobs(
            hidden[_tensor(pack.source, hidden)],
            weight,
            _tensor(pack.target, hidden),
            bias,
            softcap=self._softcap,
            scale=self._scale,
            chunk=self.chunk or (_CHUNK_CPU if hidden.device.type == "cpu" else _CHUNK),
            keep_logits=self.keep_logits,
        )
        return values[_tensor(pack.entry, hidden)]

    def verify(self) -> None:
        """Compare a few tokens with the model's own forward pass. To be called before anything wraps this module.

        Raises:
            ValueError: they differ: the model scales its logits, attends, or drops numbers out in training mode, in a
                way that is not known here.
        """
        rows = _probes(int(self._config.vocab_size), getattr(self._config, "pad_token_id", None))
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                packed, plain = self(pack([rows])).cpu(), self._plain(rows)
                self.train()
                trained = self(pack([rows])).cpu()
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            # Each model fails in its own way on a mask of four dimensions that it does not know.
            raise ValueError(f"the model {self._name!r} cannot be read in packs: {error}") from error
        finally:
            self.train(training)
        size = plain.abs().max().clamp(min=1.0)
        far, moved = (float((packed - other).abs().max() / size) for other in (plain, trained))
        if not moved <= self._tolerance():
            raise ValueError(
                f"the model {self._name!r} drops numbers out in training mode where it is not known here how to stop "
                "it. Set what its configuration calls dropout to 0"
            )
        if not far <= self._tolerance():
            raise ValueError(
                f"the model {self._name!r} computes otherwise than is known here: read in a pack, its numbers differ "
                f"by {far:.2g} of their size from those of its own forward pass. It cannot be read in packs"
            )

    def _tolerance(self) -> float:
        """How far two ways of computing may differ, as a share of the largest number."""
        parameters = list(self.model.parameters())
        device = parameters[0].device.type
        exact = all(one.dtype in (torch.float32, torch.float64) for one in parameters)
        if not exact or torch.is_autocast_enabled(device):
            return 5e-2
        return 1e-4 if device == "cpu" else 1e-3

    def _plain(self, rows: list[Row]) -> Tensor:
        """What the model's own forward pass makes of the rows, one by one, in the layout of `forward`."""
        inner = _inner(self.model)
        before = inner.config._attn_implementation
        inner.set_attn_implementation(_explicit(inner, self._config))
        found = []
        try:
            for row in rows:
                ids = torch.tensor([row.tokens], device=next(self.model.parameters()).device)
                logits = self.model(input_ids=ids, use_cache=False).logits.float().cpu()
                if self.output == "reward":
                    found.append(logits[:1])
                else:
                    logp = logits[0].log_softmax(-1)
                    found.append(torch.stack([logp[place - 1, row.tokens[place]] for place in row.scored]))
        finally:
            inner.set_attn_implementation(before)
        return torch.cat(found)

    def _states(self, pack: Pack) -> Tensor:
        """The decoder's hidden state of each token, `[T, d]`."""
        inner = _inner(self.model)
        if inner.config._attn_implementation != self.kind:  # at first, or two modules read one model
            inner.set_attn_implementation(self.kind)
        decoder = inner.get_decoder()
        weight = next(decoder.parameters())
        multiple = self.pad_to or (BLOCK if self.kind == "flex_attention" else 1)
        if self.kind == "flex_attention":
            multiple = -(-multiple // BLOCK) * BLOCK
        pack = pack.padded(-(-pack.size // multiple) * multiple)
        states: Tensor = decoder(
            input_ids=_tensor(pack.token_ids, weight)[None],
            attention_mask=attention_masks(pack, self._layers, self.kind, weight.device, weight.dtype),
            position_ids=_tensor(pack.positions, weight)[None],
            use_cache=False,
        ).last_hidden_state[0]
        return states

    def _head(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the head, as the adapters that are switched on make them."""
        inner = _inner(self.model)
        head = inner.get_output_embeddings() if self.output == "logprobs" else getattr(inner, "score", None)
        if head is None:
            wanted = "a language-model head" if self.output == "logprobs" else "a reward head named `score`"
            raise ValueError(f"the model {self._name!r} has not {wanted}")
        return head_parts(head)

    def _chosen(self) -> Kind:
        inner, wanted = _inner(self.model), self._wanted
        if wanted == "auto":
            wanted = "flex" if next(self.model.parameters()).device.type == "cuda" else "trees"
        if wanted != "sdpa" and _supports(inner, self._config, wanted):
            return _KINDS[wanted]
        return _explicit(inner, self._config)


def _outputs(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`[B, A]` of `[B, d]`, in float32 whatever the states are."""
    with torch.autocast(states.device.type, enabled=False):
        return nn.functional.linear(states.float(), weight.float(), None if bias is None else bias.float())


def _inner(model: Any) -> Any:
    """The model of transformers, under what peft put around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _tensor(numbers: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(numbers).to(like.device)


def _checked(model: Any, name: str) -> Layers:
    """How the layers look back.

    Raises:
        ValueError: they are no causal attention that an explicit mask describes.
    """
    inner = _inner(model)
    adapter = getattr(model, "active_peft_config", None)
    if adapter is not None and adapter.is_prompt_learning:
        raise ValueError(f"adapters of the kind {adapter.peft_type.value} add tokens of their own; use LoRA")
    decoder = inner.get_decoder()
    causal = all(getattr(module, "is_causal", True) for module in decoder.modules())
    if inner.config.is_encoder_decoder or not causal:
        raise ValueError(f"the model {name!r} is no decoder: its tokens see later ones, so rows cannot share a prompt")
    if getattr(inner, "_is_stateful", False):
        raise ValueError(f"the model {name!r} is recurrent: it has a state where a pack needs attention with a mask")
    taken = inspect.signature(decoder.forward).parameters
    missing = [one for one in ("attention_mask", "position_ids") if one not in taken]
    if missing:
        raise ValueError(f"the model {name!r} takes no {' and no '.join(missing)}; it cannot be read in packs")
    slides = hasattr(sys.modules[type(decoder).__module__], "create_sliding_window_causal_mask")
    return Layers.of(inner.config.get_text_config(), slides)


def _supports(inner: Any, config: Any, attention: str) -> bool:
    """Whether the model's attention can be computed by FlexAttention or tree by tree."""
    if attention == "flex":
        return bool(getattr(inner, "_supports_flex_attn", False))
    return bool(getattr(inner, "_supports_attention_backend", False)) and _explicit(inner, config) == "sdpa"


def _explicit(inner: Any, config: Any) -> Kind:
    """The attention that takes an explicit mask; soft-capped scores have no fused form."""
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    return "sdpa" if getattr(inner, "_supports_sdpa", False) and not capped else "eager"


def _logit_map(config: Any) -> tuple[float | None, float]:
    """Soft cap and factor of the logits: Gemma caps, Cohere multiplies, Granite divides."""
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    divisor = float(getattr(config, "logits_scaling", None) or 1.0)
    if str(config.model_type).startswith("hyperclovax"):
        divisor = 1.0 / divisor
    return getattr(config, "final_logit_softcapping", None), scale / divisor


def _longest(config: Any) -> int | None:
    """Up to how many tokens positions mean the same whatever else is read with a row; null for any number.

    Two ways to stretch rotary positions look at the longest row of a batch.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(one for one in rope.values() if isinstance(one, dict))]  # for all layers, or by their type
    limits = [
        int(one.get("original_max_position_embeddings") or config.max_position_embeddings)
        for one in kinds
        if one.get("rope_type") in ("dynamic", "longrope")
    ]
    return min(limits, default=None)


def _stop_dropout(model: nn.Module) -> None:
    """Also in training mode, which gradient checkpointing needs: dropped numbers and layers, and noise of routers."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and any(part in name for part in ("dropout", "layerdrop", "jitter")):
                setattr(module, name, 0.0)


def _probes(vocabulary: int, padding: int | None) -> list[Row]:
    """Three rows that share a prompt, two of them more."""
    ids = [number for number in range(min(vocabulary, 997)) if number != padding]
    prompt, shared = [ids[place * 31 % len(ids)] for place in range(6)], [ids[-1], ids[1]]
    ends = ([*shared, ids[2], ids[3]], [*shared, ids[4 % len(ids)]], [ids[5 % len(ids)], ids[0], ids[-2]])
    return [Row((*prompt, *end), tuple(range(2, len(prompt) + len(end)))) for end in ends]
