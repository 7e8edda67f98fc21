"""The random states of a process, as JSON."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np


def random_state() -> dict[str, Any]:
    """The random states of this process as JSON: Python's, NumPy's and torch's (with this process's GPU)."""
    import torch

    version, words, spare = random.getstate()
    _, numbers, place, has_spare, gauss = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": [version, list(words), spare],
        "numpy": [np.asarray(numbers).tolist(), int(place), int(has_spare), float(gauss)],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state().numpy().tobytes().hex()
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Set what `random_state` returned."""
    import torch

    version, words, spare = state["python"]
    random.setstate((version, tuple(words), spare))
    numbers, place, has_spare, gauss = state["numpy"]
    np.random.set_state(("MT19937", np.asarray(numbers, dtype=np.uint32), place, has_spare, gauss))
    torch.set_rng_state(torch.frombuffer(bytearray.fromhex(state["torch"]), dtype=torch.uint8))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.frombuffer(bytearray.fromhex(state["cuda"]), dtype=torch.uint8))
