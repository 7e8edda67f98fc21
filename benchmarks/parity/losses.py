"""The first level of parity: value and gradient of each loss on the same log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from cases import CASES, Case
from fixture import Numbers, make_numbers
from our_losses import our_loss
from torch import Tensor
from trl_losses import trl_loss

TOLERANCES = {"float64": 1e-12, "float32": 1e-6}
"""Relative, of the loss and of the gradient's largest entry."""


@dataclass(frozen=True)
class Compared:
    """What one case came to in one floating type.

    Attributes:
        case: which.
        dtype: float64 or float32.
        trl: TRL's loss.
        ours: ours, scaled.
        gap: |ours - TRL| / |TRL|.
        gradient_gap: largest difference of the gradients over TRL's largest entry.
        error: why there is no number; empty where there is.
    """

    case: Case
    dtype: str
    trl: float = math.nan
    ours: float = math.nan
    gap: float = math.nan
    gradient_gap: float = math.nan
    error: str = ""

    @property
    def equal(self) -> bool:
        """Within the tolerance of its type."""
        return not self.error and max(self.gap, self.gradient_gap) <= TOLERANCES[self.dtype]


def compare_losses() -> Iterator[Compared]:
    """Every case in every floating type that it can be computed in."""
    for case in CASES:
        for dtype in case.only:
            yield _compare(case, dtype)


def _compare(case: Case, dtype: str) -> Compared:
    theirs, own = (make_numbers(getattr(torch, dtype)) for _ in range(2))
    try:
        expected = trl_loss(case.trainer, case.trl, theirs)
        found = case.scale * our_loss(case.ours, case.options, own, p=case.p)
    except Exception as error:  # a case that cannot be computed is a row of the table, not the end of it
        return Compared(case, dtype, error=f"{type(error).__name__}: {error}")
    wanted, got = _gradient(expected, theirs), _gradient(found, own)
    return Compared(
        case,
        dtype,
        trl=float(expected),
        ours=float(found),
        gap=abs(float(found) - float(expected)) / abs(float(expected)),
        gradient_gap=float((got - wanted).abs().max() / wanted.abs().max()),
    )


def _gradient(loss: Tensor, numbers: Numbers) -> Tensor:
    """With respect to whatever was given: log-probabilities or rewards."""
    leaves = [numbers.lp, numbers.rewards]
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return torch.cat([grad.flatten() for grad in found if grad is not None])
