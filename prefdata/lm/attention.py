"""Who sees whom in a pack, as the attention of transformers takes it.

Four forms of one fact, `k <= q < ends[k]`: a boolean mask for scaled dot-product attention, the same with zeros and
the smallest number for models whose attention is written out, a block mask for FlexAttention, which is made from `ends`
block by block and never holds a number for each pair of tokens, and `ends` itself for attention tree by tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from prefdata.lm.trees import TREES, tree_mask

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prefdata.lm.packing import Pack

Kind = Literal["sdpa", "eager", "flex_attention", "prefdata_trees"]

BLOCK = 128
"""Tokens in a block of FlexAttention; packs are padded to whole blocks for it."""

_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, slots=True)
class Layers:
    """How far back the layers of a model look.

    Attributes:
        windows: by the layer type of transformers, the sliding window, or null for all tokens.
        mixed: whether the model takes one mask for each type, by name.
    """

    windows: dict[str, int | None]
    mixed: bool

    @classmethod
    def of(cls, config: Any, slides: bool = True) -> Layers:
        """Read it from the configuration of a decoder.

        Args:
            config: of the text model.
            slides: whether its code knows windows; a configuration may name one that nobody reads.

        Raises:
            ValueError: a layer is none of attention over all tokens or over a sliding window.
        """
        window: int | None = getattr(config, "sliding_window", None)
        kinds = dict.fromkeys(getattr(config, "layer_types", None) or ())
        if not kinds:
            # Mistral and its kin: one window for all layers, where it is not switched off.
            sliding = slides and window is not None and getattr(config, "use_sliding_window", True)
            kinds = {_SLIDING if sliding else _FULL: None}
        strange = [kind for kind in kinds if kind not in (_FULL, _SLIDING)]
        if strange or getattr(config, "attention_types", None):
            named = ", ".join(strange) or "attention_types"
            raise ValueError(
                f"the model {config.model_type!r} has layers ({named}) that are neither attention over all earlier "
                "tokens nor over a sliding window; responses that share a prompt cannot be computed together with it"
            )
        return cls({kind: window if kind == _SLIDING else None for kind in kinds}, len(kinds) > 1)


def attention_masks(pack: Pack, layers: Layers, kind: Kind, device: torch.device, dtype: torch.dtype) -> Any:
    """What a decoder is given as `attention_mask`: one mask, or one by layer type.

    Args:
        pack: T tokens; a multiple of `BLOCK` for FlexAttention.
        layers: of the model.
        kind: of attention.
        device: where it is computed.
        dtype: of the hidden states, for `eager`.
    """
    made = {name: _mask(pack, window, kind, device, dtype) for name, window in layers.windows.items()}
    return made if layers.mixed else next(iter(made.values()))


def _mask(pack: Pack, window: int | None, kind: Kind, device: torch.device, dtype: torch.dtype) -> Any:
    import torch

    if window is not None and int(pack.positions.max()) < window:
        window = None  # nothing is so far back
    if kind == "flex_attention":
        return block_mask(pack, device, window)
    if kind == TREES:
        return tree_mask(pack, device, window)
    visible = _visible(pack, device, window)
    if kind == "eager":
        hidden = torch.zeros(visible.shape, dtype=dtype, device=device)
        return hidden.masked_fill_(~visible, torch.finfo(dtype).min)[None, None]
    return visible[None, None]


def _visible(pack: Pack, device: torch.device, window: int | None) -> Tensor:
    """`Pack.visible`, on the device."""
    import torch

    place = torch.arange(pack.size, device=device)
    seen = (place[:, None] >= place[None, :]) & (place[:, None] < torch.from_numpy(pack.ends).to(device)[None, :])
    if window is not None:
        positions = torch.from_numpy(pack.positions).to(device)
        seen &= positions[:, None] - positions[None, :] < window
    return seen


def block_mask(pack: Pack, device: torch.device, window: int | None = None) -> Any:
    """The `BlockMask` of FlexAttention for a pack of whole blocks.

    A block of later tokens sees all of a block of earlier ones where every subtree of these ends after it, and none
    where they have all ended before. Only blocks in between ask token by token.

    Raises:
        ValueError: the pack is no multiple of `BLOCK` tokens.
    """
    import torch
    from torch.nn.attention.flex_attention import BlockMask

    if pack.size % BLOCK:
        raise ValueError(f"FlexAttention needs whole blocks of {BLOCK} tokens; the pack has {pack.size}")
    ends = torch.from_numpy(pack.ends).to(device)
    positions = torch.from_numpy(pack.positions).to(device)

    # Indices are tensors here, so the conditions are joined with & alone.
    def seen(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (k <= q) & (q < ends[k])

    def seen_in_window(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (k <= q) & (q < ends[k]) & (positions[q] - positions[k] < window)

    some, full = _blocks(pack, window)
    return BlockMask.from_kv_blocks(
        *_listed(some & ~full, device),
        *_listed(full, device),
        BLOCK_SIZE=BLOCK,
        mask_mod=seen if window is None else seen_in_window,
        seq_lengths=(pack.size, pack.size),
    )


def _blocks(pack: Pack, window: int | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which blocks of tokens (rows) see something, and which all, of which (columns). The first may be too many."""
    ends, positions = pack.ends.reshape(-1, BLOCK), pack.positions.reshape(-1, BLOCK)
    first = np.arange(0, pack.size, BLOCK)[:, None]
    earlier = first > first.T
    full = earlier & (ends.min(1)[None, :] >= first + BLOCK)
    some = (earlier & (ends.max(1)[None, :] > first)) | (first == first.T)
    if window is not None:
        full &= positions.max(1)[:, None] - positions.min(1)[None, :] < window
        some &= positions.min(1)[:, None] - positions.max(1)[None, :] < window
    return some, full


def _listed(blocks: NDArray[np.bool_], device: torch.device) -> tuple[Tensor, Tensor]:
    """For each row how many are true, `[1, 1, n]`, and their numbers first, `[1, 1, n, n]`, int32."""
    import torch

    counts = torch.from_numpy(blocks.sum(1).astype(np.int32))
    numbers = torch.from_numpy(np.argsort(~blocks, axis=1, kind="stable").astype(np.int32))
    return counts[None, None].to(device), numbers[None, None].to(device)
