"""The trainer: runs on a bare GPU machine from one Parquet file and the source tree.

    from prefdata.train import TrainConfig, train
    result = train(TrainConfig(data="pairs.parquet", model="HuggingFaceTB/SmolLM2-135M-Instruct", out="model"))

A loss of one's own is a function in a file that `TrainConfig.plugins` names:

    from prefdata.train import loss

    @loss("hinge")
    def hinge(pair, *, beta=0.1):
        return (1 - beta * (pair.win.ratio - pair.lose.ratio)).clamp(min=0)

The same from a command line, where nothing but torch and transformers is installed: `python -m prefdata.train --help`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefdata.train.config import TrainConfig
    from prefdata.train.errors import TrainError
    from prefdata.train.loop import train
    from prefdata.train.losses import LOSSES, Batch, loss
    from prefdata.train.run import Result

__all__ = ["LOSSES", "Batch", "Result", "TrainConfig", "TrainError", "loss", "train"]

_HOMES = {
    "LOSSES": "losses",
    "Batch": "losses",
    "Result": "run",
    "TrainConfig": "config",
    "TrainError": "errors",
    "loss": "losses",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
