"""Attention over a pack tree by tree, where there is no FlexAttention with a backward pass: on a CPU.

One explicit mask of a whole pack costs T times T products, nearly all of them for nothing. Here the pack is cut where
nothing is seen across: trees apart, and within a tree what its root shares from what parts after it. Each piece attends
to the root and to itself. It is scaled dot-product attention all the same, only with less that is masked.

The decoder is given `tree_mask`: whole numbers in place of a mask, four-dimensional so that transformers hands it
through to the attention function that is registered here under the name `TREES`. Given any other mask, that function is
the `sdpa` of transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prefdata.lm.packing import Pack

TREES: Literal["prefdata_trees"] = "prefdata_trees"

_SMALL = 96
"""Neighbouring pieces of fewer tokens are taken together: a product of their own would cost more than it saves."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of tokens that attend together.

    Attributes:
        length: Q tokens.
        root: number of the piece that they see before themselves; null where they see themselves alone.
        seen: `[Q, K]` over the root and themselves; null where each sees all before it.
    """

    length: int
    root: int | None
    seen: Tensor | None


def register() -> None:
    """Make the attention known to transformers; again does nothing."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(TREES, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(TREES, sdpa_mask)


def tree_mask(pack: Pack, device: torch.device, window: int | None = None) -> Tensor:
    """`[1, 1, 3, T]` int64: where each token's subtree ends, its position, and the window (0 for none)."""
    import torch

    table = np.stack([pack.ends, pack.positions, np.full(pack.size, window or 0)])
    mask = torch.from_numpy(table)[None, None].to(device)
    # Known once for all layers. What loses the attribute on the way is worked out again.
    mask.pieces = pieces(pack.ends, pack.positions, window, device)
    return mask


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention function: `[1, heads, T, width]` each, to `[1, T, heads, width]`."""
    import torch
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    if attention_mask is None or attention_mask.dtype != torch.int64:
        given: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return given
    if (
        options.get("softcap") is not None
        or options.get("s_aux") is not None
        or options.get("position_bias") is not None
    ):
        raise ValueError("scores that are capped, biased or have sinks are not computed tree by tree")
    found = getattr(attention_mask, "pieces", None) or _read(attention_mask)
    groups = query.shape[1] // key.shape[1]
    lengths = [piece.length for piece in found]
    # One split, and not a slice for each piece: the backward pass of a slice fills a tensor of the whole pack.
    queries = query.split(lengths, dim=2)
    keys, values = (repeat_kv(one, groups).split(lengths, dim=2) for one in (key, value))
    made = []
    for number, piece in enumerate(found):
        own = [number] if piece.root is None else [piece.root, number]
        made.append(
            torch.nn.functional.scaled_dot_product_attention(
                queries[number],
                torch.cat([keys[one] for one in own], dim=2),
                torch.cat([values[one] for one in own], dim=2),
                attn_mask=piece.seen,
                is_causal=piece.seen is None,
                scale=scaling,
            )
        )
    return torch.cat(made, dim=2).transpose(1, 2).contiguous(), None


def pieces(
    ends: NDArray[np.int64], positions: NDArray[np.int64], window: int | None, device: torch.device
) -> list[Piece]:
    """The runs that a pack is cut into, in order; together they are all of it."""
    made: list[Piece] = []
    for start, stop in _runs(ends, 0, len(ends)):
        stem = _stem(ends, start, stop)
        if stop - start <= 2 * _SMALL or stem == stop:
            made.append(_piece(ends, positions, window, device, None, None, start, stop))
            continue
        root = len(made)
        made.append(_piece(ends, positions, window, device, None, None, start, stem))
        for first, last in _runs(ends, stem, stop):
            made.append(_piece(ends, positions, window, device, root, (start, stem), first, last))
    return made


def _runs(ends: NDArray[np.int64], start: int, stop: int) -> list[tuple[int, int]]:
    """Subtrees beside one another, small neighbours taken together."""
    found: list[tuple[int, int]] = []
    while start < stop:
        end = int(ends[start])
        if found and end - found[-1][0] <= _SMALL:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
        start = end
    return found


def _stem(ends: NDArray[np.int64], start: int, stop: int) -> int:
    """Where a run first parts: the end of what all of it that follows sees."""
    parted = ends[start:stop] != stop
    return start + int(parted.argmax()) if parted.any() else stop


def _piece(
    ends: NDArray[np.int64],
    positions: NDArray[np.int64],
    window: int | None,
    device: torch.device,
    root: int | None,
    stem: tuple[int, int] | None,
    start: int,
    stop: int,
) -> Piece:
    import torch

    queries = np.arange(start, stop)
    keys = queries if stem is None else np.concatenate([np.arange(*stem), queries])
    seen = (queries[:, None] >= keys[None, :]) & (queries[:, None] < ends[None, keys])
    if window is not None:
        seen &= positions[queries, None] - positions[None, keys] < window
    # Each sees all before it, as `is_causal` says without a mask.
    plain = stem is None and bool((seen == np.tri(len(queries), dtype=bool)).all())
    return Piece(stop - start, root, None if plain else torch.from_numpy(seen).to(device))


def _read(mask: Tensor) -> list[Piece]:
    table = mask[0, 0].cpu().numpy()
    return pieces(table[0], table[1], int(table[2, 0]) or None, mask.device)
