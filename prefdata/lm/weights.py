"""The weight of a linear head, as the adapters that are switched on make it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def head_parts(head: Any) -> tuple[Tensor, Tensor | None]:
    """Weight `[V, d]` and bias `[V]` of a linear layer, plain or under peft's LoRA or `modules_to_save`.

    Gradients reach the parameters that the layer's own forward pass would reach.

    Raises:
        ValueError: the layer is of another kind, or quantised.
    """
    import torch

    if hasattr(head, "modules_to_save"):
        active = () if head.disable_adapters else head.active_adapters
        kept = [name for name in active if name in head.modules_to_save]
        return head_parts(head.modules_to_save[kept[0]] if kept else head.original_module)
    if hasattr(head, "base_layer"):
        return _adapted(head)
    weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(
            f"the head is a {type(head).__name__}, which is not a linear layer of plain numbers; leave it out of "
            "adapters and of quantisation"
        )
    return weight, bias


def _adapted(head: Any) -> tuple[Tensor, Tensor | None]:
    """Of a LoRA layer: its base and what the active adapters add."""
    from peft.tuners.lora import LoraLayer

    if not isinstance(head, LoraLayer) or any(getattr(head, "use_dora", {}).values()):
        # The classes of all kinds are called Linear; the package of each is called as it is.
        kind = "DoRA" if isinstance(head, LoraLayer) else type(head).__module__.split(".")[-2]
        raise ValueError(f"the head is under an adapter of the kind {kind}; only plain LoRA is known there")
    if head.disable_adapters and head.merged:
        head.unmerge()  # as its own forward pass does
    weight, bias = head_parts(head.base_layer)
    if head.disable_adapters or head.merged:
        return weight, bias
    for name in head.active_adapters:
        if name in head.lora_A:
            weight = weight + head.get_delta_weight(name).to(weight.dtype)
            lora_bias = head.lora_B[name].bias
            if lora_bias is not None:
                added = lora_bias * head.scaling[name]
                bias = added if bias is None else bias + added
    return weight, bias
