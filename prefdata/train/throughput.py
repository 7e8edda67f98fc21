"""How fast a run is: tokens, the share of the device's arithmetic that they need, and memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from prefdata.lm import Pack
    from prefdata.train.model import Policy

COUNTED = ("tokens", "useful_tokens", "predicted", "computed", "packs")
"""What is counted in a step: tokens in the packs, where a shared prompt stands once; tokens that the same rows have one
by one, which is what was useful to the user whatever was shared; tokens that are predicted; tokens that were computed,
padding among them; and passes."""
PEAKS: dict[str, float] = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "GH200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A10G": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bfloat16 operations a second that the makers state, by what a device's name contains; the first that fits."""


def peak_flops(device: torch.device, *, half: bool) -> float | None:
    """What the device can compute in a second at most; null where that is not known (a CPU, float32)."""
    import torch

    if device.type != "cuda" or not half:
        return None
    name = torch.cuda.get_device_name(device)
    return next((value for part, value in PEAKS.items() if part in name), None)


class Flops:
    """Operations that a step's tokens need: 2 for each weight and token forward, twice that backward.

    Backward takes half of that again only where weights are frozen (LoRA): their gradient is not computed. The
    embedding's table is looked up, not multiplied, the head counts for the tokens that it predicts; attention over
    earlier tokens, padding and what is computed twice (checkpointing, the head's backward pass) are not counted, so a
    share of the peak (MFU) made of this says how much of it was useful.
    """

    def __init__(self, module: Any) -> None:
        """Count the weights."""
        model = module.model
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        counts = {id(weight): weight.numel() for weight in module.parameters()}
        trained = {id(weight): weight.numel() for weight in module.parameters() if weight.requires_grad}
        table = inner.get_input_embeddings().weight
        head = inner.get_output_embeddings() if module.output == "logprobs" else None
        self.head = head.weight.numel() if head is not None and hasattr(head, "weight") else 0
        aside = {id(table): table.numel()}
        if head is not None and hasattr(head, "weight"):
            aside[id(head.weight)] = self.head
        self.body = sum(counts.values()) - sum(aside.values())
        self.factor = 6.0 if sum(trained.values()) * 2 > sum(counts.values()) else 4.0

    def of(self, tokens: int, predicted: int) -> float:
        """For so many tokens in the packs, and so many predicted."""
        return float(self.factor * (self.body * tokens + self.head * predicted))


def peak_memory(device: torch.device) -> int:
    """Bytes that this process held at most: on the GPU since the last call, on a CPU since it began."""
    import torch

    if device.type == "cuda":
        found = int(torch.cuda.max_memory_allocated(device))
        torch.cuda.reset_peak_memory_stats(device)
        return found
    if sys.platform == "win32":
        return 0
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(used) if sys.platform == "darwin" else int(used) * 1024


def count_tokens(counted: dict[str, int], policy: Policy, pack: Pack) -> None:
    """Add a pack to what is `COUNTED`."""
    from prefdata.lm.attention import BLOCK

    multiple = policy.module.pad_to or (BLOCK if policy.module.kind == "flex_attention" else 1)
    counted["tokens"] += pack.size
    counted["useful_tokens"] += pack.separate
    counted["predicted"] += len(pack.source)
    counted["computed"] += -(-pack.size // multiple) * multiple
    counted["packs"] += 1


class Speed:
    """The figures of each step of a run."""

    def __init__(self, policy: Policy) -> None:
        """Count the weights, and look up the device."""
        self._devices = policy.devices
        self._flops = Flops(policy.module)
        self._peak = peak_flops(policy.devices.device, half=policy.half)

    def of(self, counted: Mapping[str, int], seconds: float) -> dict[str, float | None]:
        """Tokens a second, the share of the peak arithmetic that they needed, padding, and memory in bytes."""
        needed = self._flops.of(counted["tokens"], counted["predicted"])
        return {
            "tokens_per_s": counted["tokens"] / seconds,
            "useful_tokens_per_s": counted["useful_tokens"] / seconds,
            "mfu": None if self._peak is None else needed / seconds / (self._peak * self._devices.world),
            "padding": 1 - counted["tokens"] / counted["computed"],
            "peak_memory": peak_memory(self._devices.device),
        }
