"""Losses: pure functions of tensors, by name. `LOSSES` has them all; `@loss` registers one of your own.

- `pairwise`: with a reference; `reference_free`: without; `noise`: that doubt labels; `regression`: that fit a target
- `listwise`: of whole rankings; `unpaired`: of responses that stand alone; `reward`: for reward models
"""

from prefdata.train.losses import listwise, noise, pairwise, reference_free, regression, reward, unpaired
from prefdata.train.losses.batch import Batch, Outputs
from prefdata.train.losses.options import Range
from prefdata.train.losses.registry import LOSSES, LossSpec, find_loss, loss
from prefdata.train.losses.views import Alone, Lists, Memory, Pairs, Responses

__all__ = [
    "LOSSES",
    "Alone",
    "Batch",
    "Lists",
    "LossSpec",
    "Memory",
    "Outputs",
    "Pairs",
    "Range",
    "Responses",
    "find_loss",
    "loss",
]
del listwise, noise, pairwise, reference_free, regression, reward, unpaired  # importing them registers their losses
