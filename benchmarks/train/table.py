"""The page that a comparison becomes."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cell import Prepared


@dataclass(frozen=True)
class Run:
    """One process's training.

    Attributes:
        name: of the contender.
        losses: at each step.
        norms: of the gradient, where the contender reports them.
        groups: lists trained on in the measured steps.
        seconds: of those steps.
        reference: seconds of the reference's pass over those lists, where it stands outside the steps.
        peak: bytes held at most.
        error: why there are no numbers; empty where there are.
    """

    name: str
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    groups: int = 0
    seconds: float = math.nan
    reference: float = 0.0
    peak: int = 0
    error: str = ""

    @property
    def once_through(self) -> float:
        """Lists a second, the reference's pass included."""
        return self.groups / (self.seconds + self.reference) if self.groups else math.nan

    @property
    def again(self) -> float:
        """Lists a second where the reference is known already, for those that can keep it."""
        return self.groups / self.seconds if self.groups else math.nan


NOTES = {
    "cpu": "TRL runs in float32 here (as shipped it would ask for bfloat16, which these CPUs do slowly). Its fused "
    "head reads only the responses where it has Triton; on a CPU it reads every position. `padding_free` is switched "
    "off by TRL 1.16 itself, which says so; Liger's layers need a GPU.",
    "cuda": "bfloat16 by autocast over float32 weights, as TRL ships it; the first step of each run is not counted, "
    "and ours has compiled before. `padding_free` is switched off by TRL 1.16 itself, which says so.",
}
"""What has to be known to read a page."""

Done = Sequence[tuple[Prepared, list[Run], list[str]]]


def page(done: Done, peak: float, load: float, device: str, arguments: Sequence[str]) -> str:
    """Markdown: one table a cell."""
    command = "python benchmarks/train/compare.py " + " ".join(_without_paths(arguments))
    lines = [
        f"# Training beside TRL and plain PyTorch, {'one GPU' if device == 'cuda' else 'CPU'}",
        "",
        f"`{command.strip()}`, {_surroundings(device)}; load {load:.1f} before.",
        "",
        "Same tokens, same model, all weights, AdamW, one process after the other; all minimise the mean of the K - 1 "
        "DPO terms of the best response against each other one, so the losses must be equal. `one pass` counts the "
        "reference's pass; `again` leaves it out where it is kept (an epoch after the first, another loss, another "
        "run). Useful tokens are those of each prompt and each response once, whatever a contender computes; MFU is "
        "the arithmetic of forward and backward passes over useful tokens (the head for responses alone) over what "
        f"one large matrix product reaches here ({peak / 1e9:,.0f} GFLOP/s). Median (lowest-highest) of the repeats; "
        "`times` are ours over theirs. Peak memory is the process's resident memory on a CPU, torch's on a GPU.",
    ]
    lines += ["", NOTES[device]]
    for made, runs, left in done:
        lines += ["", f"## {made.cell.name}", "", *_sizes(made), "", *_table(made, runs, peak)]
        if left:
            lines += ["", f"Not run, the time was up: {', '.join(dict.fromkeys(left))}."]
    return "\n".join(lines) + "\n"


def _sizes(made: Prepared) -> list[str]:
    lists = made.cell.lists
    return [
        f"{lists} lists in {made.cell.steps} steps: {made.useful / lists:,.0f} useful tokens a list, as pairs "
        f"{made.rows / lists:,.0f} ({made.rows / made.useful:.2f} times as many); "
        f"{(made.body + made.head) / 1e6:,.0f} M parameters."
    ]


def _table(made: Prepared, runs: Sequence[Run], peak: float) -> list[str]:
    head = ("", "lists/s, one pass", "times", "lists/s, again", "times", "useful tokens/s", "MFU", "peak GB")
    head += ("loss at steps 0, 1", "gradient norm at step 0")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    names = list(dict.fromkeys(run.name for run in runs))
    ours = [run for run in runs if run.name == "prefdata" and not run.error]
    for name in names:
        good = [run for run in runs if run.name == name and not run.error]
        if not good:
            error = next(run.error for run in runs if run.name == name)
            lines.append(f"| {name} | {error.replace('|', '/')} |" + " |" * (len(head) - 2))
            continue
        rate = statistics.median(run.once_through for run in good)
        useful = rate * made.useful / made.cell.lists
        cells = [
            name,
            _spread([run.once_through for run in good]),
            _times(ours, good, "once_through"),
            _spread([run.again for run in good]),
            _times(ours, good, "again"),
            f"{useful:,.0f}",
            f"{made.flops * rate / peak:.1%}",
            f"{max(run.peak for run in good) / 1e9:.2f}",
            ", ".join(f"{loss:.6f}" for loss in good[0].losses[:2]),
            f"{good[0].norms[0]:.4f}" if good[0].norms else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _spread(values: Sequence[float]) -> str:
    middle = f"{statistics.median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g}-{max(values):.3g})"


def _times(ours: Sequence[Run], theirs: Sequence[Run], what: str) -> str:
    if not ours:
        return ""
    own, other = (statistics.median(getattr(run, what) for run in side) for side in (ours, theirs))
    return f"{own / other:.2f}"


def _without_paths(arguments: Sequence[str]) -> list[str]:
    """The command line, with folders of this machine left to their names."""
    return [Path(text).name if os.sep in text else text for text in arguments]


def _surroundings(device: str) -> str:
    import torch

    names = []
    for package in ("torch", "transformers", "trl"):
        try:
            names.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            names.append(f"no {package}")
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads, float32"
    return f"{where}, Python {platform.python_version()}, {', '.join(names)}"
