"""prefdata: make preference datasets and train on them.

    import prefdata
    prefdata.run("hello", "runs/hello")
    dataset = prefdata.open("runs/hello")
    dataset.annotations.group_by("annotator").len().collect()

Everything is imported when it is first used, so that `prefdata.train` runs where only torch is installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from prefdata.api import export, open, plan, run
    from prefdata.dataset import Dataset
    from prefdata.pipeline.registry import step
    from prefdata.pipeline.step import Context, Group, GroupStep, Sink, SourceStep, Step, TableStep
    from prefdata.train import loss

_HOMES = {
    "Context": "prefdata.pipeline.step",
    "Dataset": "prefdata.dataset",
    "Group": "prefdata.pipeline.step",
    "GroupStep": "prefdata.pipeline.step",
    "Sink": "prefdata.pipeline.step",
    "SourceStep": "prefdata.pipeline.step",
    "Step": "prefdata.pipeline.step",
    "TableStep": "prefdata.pipeline.step",
    "export": "prefdata.api",
    "loss": "prefdata.train",
    "open": "prefdata.api",
    "plan": "prefdata.api",
    "run": "prefdata.api",
    "step": "prefdata.pipeline.registry",
}

__all__ = [
    "Context",
    "Dataset",
    "Group",
    "GroupStep",
    "Sink",
    "SourceStep",
    "Step",
    "TableStep",
    "export",
    "loss",
    "open",
    "plan",
    "run",
    "step",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'prefdata' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
