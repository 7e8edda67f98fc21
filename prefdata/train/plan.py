"""What a run will do, decided before anything is computed: which lists each step holds, in which passes, how fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from prefdata.lm import first_fit_decreasing
from prefdata.train.config import TrainConfig

Step = list[int]
"""The lists of one optimiser step, as places in the training lists."""
_Thing = TypeVar("_Thing")


def plan_steps(count: int, config: TrainConfig) -> list[Step]:
    """Which lists each step holds: by the seed alone, whatever the processes, the packs and the reference.

    The lists are shuffled anew each epoch; an epoch's last batch may be smaller.

    Args:
        count: lists to train on.
        config: seed, batch_size, and max_steps or epochs.
    """
    per_epoch = math.ceil(count / config.batch_size)
    steps = config.max_steps or per_epoch * (config.epochs or 1)
    plan: list[Step] = []
    for epoch in range(math.ceil(steps / per_epoch)):
        order = np.random.default_rng([config.seed, epoch]).permutation(count).tolist()
        plan += [order[start : start + config.batch_size] for start in range(0, count, config.batch_size)]
    return plan[:steps]


def packs_of(things: Sequence[_Thing], sizes: Sequence[int], budget: int) -> list[list[_Thing]]:
    """Things that go into one forward pass together: at most `budget` tokens, none of them split."""
    return [[things[place] for place in places] for places in first_fit_decreasing(sizes, budget)]


def rate_factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """The learning rate of a step (from 0) as a share of the peak, above 0 and at most 1.

    It rises in `warmup * steps` equal stairs to the peak, and then falls to what would be 0 at step `steps`.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    if schedule == "constant":
        return 1.0
    return 1 - progress if schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
