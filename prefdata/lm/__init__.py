"""Language-model numerics (torch and transformers only): what many responses share is computed once.

`Row` and `pack` lay token sequences out as trees, `PackedModel` reads them with a decoder of transformers, and
`fused_logprobs` is its head. The last two load torch at first use.

    from prefdata.lm import PackedModel, Row, pack
    rows = [Row((5, 6, 7, 8), scored=(2, 3)), Row((5, 6, 9), scored=(2,))]
    PackedModel(model)(pack([rows]))  # [3] log-probabilities; 5 and 6 are read once
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prefdata.lm.packing import Pack, Row, first_fit_decreasing, pack, tree_size

if TYPE_CHECKING:
    from prefdata.lm.head import fused_logprobs
    from prefdata.lm.model import PackedModel

__all__ = ["Pack", "PackedModel", "Row", "first_fit_decreasing", "fused_logprobs", "pack", "tree_size"]

_HOMES = {"PackedModel": "model", "fused_logprobs": "head"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
