"""Ours beside TRL's own loss code and trainers: the same numbers, the same rows, in float64 and float32.

    PYTHONPATH=. python benchmarks/parity/compare.py --model DIR --data FOLDER

Run it in an environment that has both (`pip install torch==2.13.0 trl==1.16.0 peft datasets accelerate pyarrow`, and
prefdata from the source tree). DIR is SmolLM2-135M-Instruct, FOLDER holds hh_rlhf_helpful.parquet, whose lengths the
rows of the trainings have. Writes benchmarks/results/parity.md: value and gradient of each loss that TRL has, on the
same log-probabilities; then 50 steps on a small random model and 10 on the real one. Some minutes on two cores.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import platform
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results" / "parity.md"
LOSS_GAPS, NORM_GAPS = (1e-4, 1e-5), (1e-2, 1e-3)
"""What TRL's own invariance tests allow between two trainings, largest and mean: of loss, and relative of norm."""
ABOUT = (
    "DPOTrainer takes a `label_smoothing` with `sigmoid`, `ipo` and others and passes over it (cDPO is not to be had); "
    "here an option that does not act is refused. CPO, SimPO and ORPO exist as experimental trainers only, and there "
    "is no BCO for single responses."
)


def losses_page() -> list[str]:
    """The table of single losses."""
    from cases import TRL_ONLY
    from losses import TOLERANCES, Compared, compare_losses

    lines = ["## Values and gradients", ""]
    lines.append(
        "Six pairs of unequal lengths; TRL's trainers are built by their own constructors and their own loss code is "
        "called on the numbers. Relative gaps, of the loss and of the gradient's largest entry by the given "
        f"log-probabilities (or rewards); equal is {TOLERANCES['float64']:g} in float64 and {TOLERANCES['float32']:g} "
        "in float32."
    )
    lines += ["", "| TRL | ours | TRL's loss | float64: loss, gradient | float32: loss, gradient | |", "|" + "---|" * 6]
    found: dict[int, dict[str, Compared]] = {}
    for one in compare_losses():
        found.setdefault(id(one.case), {})[one.dtype] = one
    wrong = 0
    for both in found.values():
        some = next(iter(both.values()))
        case = some.case
        cells = [f"{case.trainer} {_options(case.trl)}".strip(), f"{case.ours} {_options(case.options)}".strip()]
        cells.append(f"{some.trl:.6f}")
        for dtype in TOLERANCES:
            one = both.get(dtype)
            cells.append("" if one is None else one.error or f"{one.gap:.1e}, {one.gradient_gap:.1e}")
        equal = all(one.equal for one in both.values())
        wrong += not equal and not case.differs
        says = "equal" if equal else f"differs: ours {some.ours:.6f}" if not some.error else "not computed"
        cells.append(f"{says}{'; ' if case.note else ''}{case.note}")
        lines.append("| " + " | ".join(text.replace("|", "/") for text in cells) + " |")
        print(lines[-1], flush=True)
    lines += ["", f"{len(found)} cases, {wrong} of them not equal where they should be."]
    lines += [f"TRL has, and ours has not: {', '.join(TRL_ONLY)}.", "", ABOUT]
    return lines


def trainings_page(options: argparse.Namespace) -> list[str]:
    """The table of whole trainings."""
    from trajectory import follow, trainings

    lines = ["## Trainings", ""]
    lines.append(
        "Float32, all weights, AdamW, a rate that falls to 0 along a line, gradients clipped to norm 1, dropout off; "
        "the same token ids in the same order, lengths as in HH-RLHF. Ours packs prompt and responses into one row, "
        "TRL pads separate rows. TRL's own invariance tests allow a loss gap of 1e-4 at most and 1e-5 in the mean, and "
        "1e-2 and 1e-3 relative of the gradient's norm."
    )
    head = ("training", "steps", "loss first, last (TRL)", "loss gap: largest, mean", "norm gap: largest, mean", "")
    lines += ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    with tempfile.TemporaryDirectory() as folder:
        for training in trainings(options.model, options.steps):
            if options.no_real and training.cell.model != "tiny":
                continue
            one = follow(training, Path(folder), options.model, options.data)
            if one.error:
                lines.append(f"| {training.name} | {one.error.replace('|', '/')} |" + " |" * (len(head) - 2))
                continue
            gaps, norms = one.gaps("losses"), one.gaps("norms")
            means = [math.fsum(values) / len(values) for values in (gaps, norms)]
            inside = max(gaps) <= LOSS_GAPS[0] and means[0] <= LOSS_GAPS[1]
            inside &= max(norms) <= NORM_GAPS[0] and means[1] <= NORM_GAPS[1]
            cells = [training.name, str(len(gaps)), f"{one.trl['losses'][0]:.6f}, {one.trl['losses'][-1]:.6f}"]
            cells += [f"{max(gaps):.1e}, {means[0]:.1e}", f"{max(norms):.1e}, {means[1]:.1e}"]
            cells.append("within TRL's tolerance" if inside else "**outside TRL's tolerance**")
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return lines


def _options(options: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items()).replace("'", "")


def main() -> None:
    """Compare and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder with weights and tokenizer")
    data = os.environ.get("PREFDATA_TEST_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None, help="holds hh_rlhf_helpful.parquet")
    parser.add_argument("--steps", type=int, default=50, help="of the trainings of the small model")
    parser.add_argument("--no-real", action="store_true", help="without the training of the real model")
    parser.add_argument("--no-trainings", action="store_true", help="values and gradients alone")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args()
    if options.data is None and not options.no_trainings:
        parser.error("name --data, the folder that holds hh_rlhf_helpful.parquet")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    import datasets

    datasets.disable_progress_bars()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    lines = ["# Beside TRL: the same losses", ""]
    lines += [f"`python benchmarks/parity/compare.py --model {options.model.name} --data FOLDER`, CPU, {packages},"]
    lines += [f"Python {platform.python_version()}.", "", *losses_page()]
    if not options.no_trainings:
        lines += ["", *trainings_page(options)]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
