"""Ours beside TRL and plain PyTorch: the same tokens, the same model, one after the other, each in its own process.

    PYTHONPATH=. python benchmarks/train/compare.py --model DIR                       # the CPU cells, SmolLM2
    PYTHONPATH=. python benchmarks/train/compare.py --device cuda --tokenizer DIR     # random weights of two sizes

Run it in an environment that has both (`pip install torch==2.13.0 trl==1.16.0 transformers==5.23.0 peft datasets
accelerate pyarrow`, and prefdata from the source tree), on a quiet machine. DIR is a folder with SmolLM2's tokenizer
(for `--model` with its weights too). All train all weights with AdamW on the mean of the K - 1 DPO terms of the best
response against each other one: prefdata on lists whose edges are those, TRL and the plain reference on K - 1 rows of
pairs. Writes benchmarks/results/train.md (train_cuda.md on a GPU); every cell that ran stands in it.

On a GPU machine without a network that has torch, transformers, accelerate, peft and pyarrow, carry 15 MB of wheels
(made with that machine's Python), the tokenizer's files with config.json (4 MB), and hh_rlhf_helpful.parquet (3 MB):

    pip download --no-deps -d build/wheels trl==1.16.0 datasets==5.2.0 dill multiprocess xxhash pandas python-dateutil
    pip install --no-index --no-deps build/wheels/*.whl
    PYTHONPATH=. python benchmarks/train/compare.py --device cuda --tokenizer build/tokenizer --data build/data

There it runs once and starts nothing after nine minutes (`--repeats`, `--minutes`); the page names what was left out,
and `--only 2,4` runs the cells of those K.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cell import Cell, Prepared, prepare
from table import Run, page

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
BETA, RATE = 0.1, 1e-6
_OFF = {"gradient_checkpointing": False}
_CACHED = {"precompute_ref_log_probs": True}


@dataclass(frozen=True)
class Contender:
    """One way to train.

    Attributes:
        script: beside this file.
        trl: fields of DPOConfig.
        one_pair: a forward pass holds one pair instead of a group's.
        once: an alternative: tried once, not in every repeat.
        devices: where it can run.
    """

    script: str
    trl: Mapping[str, Any] = field(default_factory=dict)
    one_pair: bool = False
    once: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")


CONTENDERS = {
    "prefdata": Contender("with_prefdata.py"),
    "TRL as shipped": Contender("with_trl.py"),
    "TRL tuned: no checkpointing, reference precomputed": Contender("with_trl.py", {**_OFF, **_CACHED}),
    "plain PyTorch": Contender("with_plain.py"),
    "TRL, no checkpointing": Contender("with_trl.py", _OFF, once=True),
    "TRL, reference precomputed": Contender("with_trl.py", _CACHED, once=True),
    "TRL tuned, one pair a pass": Contender("with_trl.py", {**_OFF, **_CACHED}, one_pair=True, once=True),
    "TRL tuned, padding_free": Contender("with_trl.py", {**_OFF, **_CACHED, "padding_free": True}, once=True),
    "TRL tuned, Liger's layers": Contender(
        "with_trl.py", {**_OFF, **_CACHED, "use_liger_kernel": True}, once=True, devices=("cuda",)
    ),
}


def cells_of(options: argparse.Namespace) -> Iterator[tuple[Cell, int]]:
    """The cells to run, and how many pairs of each go through one forward pass of the others."""
    if options.quick:
        yield Cell("tiny", 3, 48, 8, groups=2, steps=2), 4
    elif options.device == "cpu":
        yield Cell(str(options.model), 8, 256, 64, groups=1, steps=options.steps or 1), 7
        yield Cell(str(options.model), 2, 256, 64, groups=4, steps=options.steps or 1), 4
    else:
        steps = options.steps or 6
        for count, lists in ((8, 2), (4, 4), (2, 16)):
            for shape, groups, part in (("135m", 16, lists), ("1b", 8, max(1, lists // 2))):
                yield Cell(shape, count, 512, 256, groups=groups, steps=steps), part * (count - 1)
        for shape, groups in (("135m", 16), ("1b", 8)):
            yield Cell(shape, 4, 0, 512, groups=groups, steps=steps), 12


def run_contender(name: str, cell: Prepared, folder: Path, pairs: int, device: str, limit: float) -> Run:
    """Train in a process of its own."""
    contender = CONTENDERS[name]
    each = 1 if contender.one_pair else pairs
    given: dict[str, Any] = {"device": device, "pairs": each, "beta": BETA, "lr": RATE, "trl": dict(contender.trl)}
    if cell.cell.model == "1b":
        given["prefdata"] = {"pack_tokens": 8192}  # as many tokens as the others have in memory at a time
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / contender.script), str(folder / "cell.json"), json.dumps(given), str(out)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return Run(name, error=f"did not end within {limit:.0f} s")
    if ended.returncode or not out.exists():
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        return Run(name, error=last[:200])
    found = json.loads(out.read_text())
    skipped = 1 if device == "cuda" and len(found["seconds"]) > 1 else 0  # the first step compiles
    return Run(
        name,
        losses=found["losses"],
        norms=found.get("norms", []),
        groups=cell.cell.groups * (len(found["seconds"]) - skipped),
        seconds=sum(found["seconds"][skipped:]),
        reference=found["reference_seconds"] * (1 - skipped / len(found["seconds"])),
        peak=found["peak_bytes"],
    )


def matmul_flops(device: str) -> float:
    """FLOP/s of a large matrix product, in float32 on a CPU and bfloat16 on a GPU: what MFU is measured against."""
    import torch

    size, kind = (8192, torch.bfloat16) if device == "cuda" else (2048, torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    best = 0.0
    for _ in range(6):
        began = time.perf_counter()
        (left @ right).sum().item()
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def run_cells(options: argparse.Namespace, folder: Path) -> Iterator[tuple[Prepared, list[Run], list[str]]]:
    """Every cell with its runs, and what was not tried because the time was up."""
    ends = time.monotonic() + (options.minutes * 60 if options.minutes else float("inf"))
    for number, (cell, pairs) in enumerate(cells_of(options)):
        if options.only and str(cell.responses) not in options.only.split(","):
            continue
        home = folder / f"cell{number}"
        made = prepare(cell, home, options.tokenizer or options.model, options.data)
        names = [name for name, one in CONTENDERS.items() if options.device in one.devices]
        plan = [name for _ in range(options.repeats) for name in names if not CONTENDERS[name].once]
        plan += [name for name in names if CONTENDERS[name].once and not options.no_alternatives]
        runs, left = [], []
        for name in plan:
            if time.monotonic() > ends:
                left.append(name)
                continue
            runs.append(run_contender(name, made, home, pairs, options.device, options.limit))
            last = runs[-1]
            print(f"{cell.name}: {name}: {last.error or f'{last.once_through:.3f} lists/s'}", flush=True)
        yield made, runs, left


def main() -> None:
    """Run the cells and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder with weights and tokenizer: the CPU cells")
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer, for random weights")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    data = os.environ.get("PREFDATA_TEST_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None, help="holds hh_rlhf_helpful.parquet")
    parser.add_argument("--repeats", type=int, help="of each contender; 3 on a CPU, 1 on a GPU unless said")
    parser.add_argument("--steps", type=int, help="optimiser steps of each run")
    parser.add_argument("--only", help="only cells of these K, for example 8,2")
    parser.add_argument("--no-alternatives", action="store_true", help="without the variants that are tried once")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds that one run may take, the start included")
    parser.add_argument("--minutes", type=float, help="start no run after so many minutes; the page says what was left")
    parser.add_argument("--quick", action="store_true", help="one cell of a tiny random model, for tests")
    parser.add_argument("--out", type=Path, help="the page to write")
    options = parser.parse_args()
    options.repeats = options.repeats or (1 if options.device == "cuda" else 3)
    if options.device == "cuda" and options.minutes is None:
        options.minutes = 9.0
    if not options.model and not options.tokenizer:
        parser.error("name --model (a folder with weights) or --tokenizer (for random weights)")
    if options.device == "cpu" and not options.quick and not options.model:
        parser.error("the CPU cells train a real model: name --model")
    with tempfile.TemporaryDirectory() as folder:
        peak, load = matmul_flops(options.device), os.getloadavg()[0]
        if options.device == "cuda":
            options.limit = min(options.limit, 180.0)
        done = []
        for one in run_cells(options, Path(folder)):
            done.append(one)
            peak = max(peak, matmul_flops(options.device))  # the first reading may have shared its cores
    text = page(done, peak, load, options.device, sys.argv[1:])
    print(text)
    out = options.out or RESULTS / ("train_cuda.md" if options.device == "cuda" else "train.md")
    if options.out or not options.quick:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
