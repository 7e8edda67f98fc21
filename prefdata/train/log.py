"""The rows of `metrics.jsonl`, and TensorBoard's where it is asked for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prefdata.train.errors import TrainError
from prefdata.train.folder import METRICS
from prefdata.train.run import Run


@contextlib.contextmanager
def metrics_log(run: Run, step: int = 0) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What writes a row of metrics: to the file, and to TensorBoard where that was asked for.

    Args:
        run: whose metrics they are.
        step: the first that is written: TensorBoard forgets what a killed run had told it of this one and later ones.
    """
    if not run.devices.main:
        yield lambda _: None
        return
    board = _tensorboard(run.folder, step) if run.config.tensorboard else None
    with (run.folder / METRICS).open("a", encoding="utf-8") as log:

        def write(row: Mapping[str, Any]) -> None:
            log.write(json.dumps(row) + "\n")
            log.flush()
            for name, value in row.items():
                if board is not None and isinstance(value, int | float) and name != "step":
                    board.add_scalar(name, value, row["step"])

        try:
            yield write
        finally:
            if board is not None:
                board.close()


def require_tensorboard() -> None:
    """Check that TensorBoard is installed.

    Raises:
        TrainError: it is not.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise TrainError("tensorboard: true needs the package tensorboard (pip install tensorboard)") from None


def _tensorboard(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step)
